/*
Copyright 2026 The KubeLB GitOps Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

// Package shards runs a fleet that is spread over two branches of one repository
// and a second repository, in one hub. It has a system of its own because one
// more GitSource concerns every Tenant that names none.
package shards

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

const (
	namespace = "shop"
	patience  = 90 * time.Second
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// shard is a part of the fleet with the tenant that was there first.
type shard struct {
	testbed.Shard
	tenant string
}

// fleet is a system with three shards.
type fleet struct {
	*testing.T
	*testbed.System
	ctx                 context.Context
	main, prod, another shard
}

func (f *fleet) shards() []shard { return []shard{f.main, f.prod, f.another} }

func TestAFleetOverRepositoriesAndBranches(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	system, err := testbed.NewSystem(ctx, testbed.SystemOptions{
		Options: testbed.Options{Name: "shards", Tenants: []string{"acme"}}, Interval: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(system.Tails())
		}
		if err := system.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fleet{T: t, System: system, ctx: ctx}
	f.main = shard{testbed.Shard{Source: testbed.SourceName, Repository: system.Repository, Branch: "main"}, "acme"}
	for _, part := range []struct {
		name string
		test func(f *fleet)
	}{
		{"a fleet is spread", (*fleet).spread},
		{"a revert concerns one shard", (*fleet).revert},
		{"one repository is away", (*fleet).away},
		{"a tenant is added to a shard", (*fleet).add},
		{"addresses never collide", (*fleet).addresses},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			g := *f
			g.T = t
			part.test(&g)
			f.prod, f.another = g.prod, g.another
		}) {
			break // each begins where the last one ended
		}
	}
}

// spread makes one GitSource three, as docs/operating.md says.
func (f *fleet) spread() {
	address := f.up("acme", "web")
	f.answers(address, 8080, "web")

	operator, err := f.Repository.Clone(f.ctx, testbed.Admin)
	if err != nil {
		f.Fatal(err)
	}
	first, err := operator.Git(f.ctx, "rev-list", "--max-parents=0", "main")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := operator.Git(f.ctx, "push", "--quiet", "origin", first+":refs/heads/env/prod"); err != nil {
		f.Fatal(err)
	}
	f.prod = shard{testbed.Shard{Source: "prod", Repository: f.Repository, Branch: "env/prod"}, "globex"}
	second, err := f.Git.Create(f.ctx, "another")
	if err != nil {
		f.Fatal(err)
	}
	f.kubelbctl("init", second.URLFor(testbed.Admin), "--push")
	f.another = shard{testbed.Shard{Source: "another", Repository: second, Branch: "main"}, "initech"}

	// As soon as there are two, the Tenant has to name its own.
	if err := f.AddShard(f.ctx, f.prod.Shard); err != nil {
		f.Fatal(err)
	}
	f.eventually("acme to say that nobody follows it", func() error {
		text := f.kubectl("get", "tenant", "acme", "--output", "jsonpath={.status.git.problems[*].reason}: {.status.git.problems[*].message}")
		if !containsAll(text, []string{v1alpha1.ReasonSourceNotFound, "kubelb/fleet, kubelb/prod"}) {
			return fmt.Errorf("its problems are %q", text)
		}
		return nil
	})
	f.answers(address, 8080, "web")
	f.kubectl("patch", "tenant", "acme", "--type=merge", "--patch", `{"spec":{"git":{"sourceRef":{"name":"fleet"}}}}`)
	f.setPort("acme", "web", 8081)
	f.answers(address, 8081, "web")
	f.setPort("acme", "web", 8080)
	f.eventually("acme to have no problem", func() error {
		if text := f.kubectl("get", "tenant", "acme", "--output", "jsonpath={.status.git.problems}"); text != "" {
			return errors.New(text)
		}
		return nil
	})

	if err := f.AddShard(f.ctx, f.another.Shard); err != nil {
		f.Fatal(err)
	}
	for _, s := range []shard{f.prod, f.another} {
		if err := f.AddTenantTo(f.ctx, s.tenant, s.Shard); err != nil {
			f.Fatal(err)
		}
	}
	seen := map[string]string{address: "acme"}
	for _, s := range []shard{f.prod, f.another} {
		address := f.up(s.tenant, "web")
		f.answers(address, 8080, "web")
		if other := seen[address]; other != "" {
			f.Errorf("%s and %s both have %s", other, s.tenant, address)
		}
		seen[address] = s.tenant
	}
	f.answers(address, 8080, "web")
	for _, s := range f.shards() {
		f.sourceReady(s.Source)
		f.settled(s)
		for _, other := range f.shards() {
			if has := f.has(other, s.tenant, "web"); has != (other == s) {
				f.Errorf("%s of %s has the load balancer of %s: %v", other.Branch, other.Repository.Name, s.tenant, has)
			}
		}
	}
	if refs := f.refs(f.another); strings.Contains(refs, "acme") || strings.Contains(refs, "globex") {
		f.Errorf("the second repository has branches of other shards' tenants:\n%s", refs)
	}
	if refs := f.refs(f.main); strings.Contains(refs, "initech") {
		f.Errorf("the first repository has branches of the second one's tenants:\n%s", refs)
	}
	list := f.kubectl("get", "gitsources", "--namespace", testbed.HubNamespace)
	for _, s := range f.shards() {
		if !strings.Contains(list, s.Source) || !strings.Contains(list, s.Repository.URL()) {
			f.Errorf("kubectl get gitsources shows nothing of %s:\n%s", s.Source, list)
		}
	}
}

// revert takes back one tenant's change on env/prod.
func (f *fleet) revert() {
	address := f.address("globex", "web")
	f.setPort("globex", "web", 9090)
	f.answers(address, 9090, "web")
	for _, s := range f.shards() {
		f.settled(s)
	}
	mains := []string{f.at(f.main, f.main.Ref()), f.at(f.another, f.another.Ref())}
	before := f.others()
	f.Git.AddUser("ada", "")
	f.Repository.Allow("ada", f.prod.Ref())
	clone, err := f.Repository.Clone(f.ctx, "ada")
	if err != nil {
		f.Fatal(err)
	}
	git := func(args ...string) string {
		f.Helper()
		out, err := clone.Git(f.ctx, args...)
		if err != nil {
			f.Fatal(err)
		}
		return out
	}
	git("switch", "--quiet", "env/prod")
	git("revert", "--no-edit", git("log", "-1", "--format=%H", "--", path("globex", "web")))
	f.eventually("ada's push", func() error {
		if _, err := clone.Git(f.ctx, "pull", "--quiet", "--rebase"); err != nil {
			return err
		}
		_, err := clone.Git(f.ctx, "push", "--quiet", "origin", "env/prod")
		return err
	})
	f.answers(address, 8080, "web")
	f.closed(address, 9090)
	f.serviceCondition("globex", "web", "Held", metav1.ConditionTrue, "spec.ports[http].port", "ada")
	f.settled(f.prod)
	for _, s := range []shard{f.main, f.another} {
		f.answers(f.address(s.tenant, "web"), 8080, "web")
		f.serviceCondition(s.tenant, "web", "Held", metav1.ConditionFalse)
	}
	if now := []string{f.at(f.main, f.main.Ref()), f.at(f.another, f.another.Ref())}; now[0] != mains[0] || now[1] != mains[1] {
		f.Errorf("the truths of the others were %s, they are %s", mains, now)
	}
	if now := f.others(); now != before {
		f.Errorf("the others' branches were\n%s\nthey are\n%s", before, now)
	}
}

// others are the branches of the tenants that are not on env/prod.
func (f *fleet) others() string {
	return strings.Join([]string{
		f.at(f.main, repo.IntentRef("acme")), f.at(f.main, repo.StatusRef("acme")), f.at(f.main, repo.BaseRef(f.main.Ref())),
		f.at(f.another, repo.IntentRef("initech")), f.at(f.another, repo.StatusRef("initech")), f.at(f.another, repo.BaseRef(f.another.Ref())),
	}, "\n")
}

// away has the Git server refuse the second repository for a while.
func (f *fleet) away() {
	f.another.Repository.FailWith(503)
	defer f.another.Repository.FailWith(0)
	f.setPort("initech", "web", 9090)
	f.sourceSays("another", v1alpha1.ReasonGitUnavailable, f.another.Repository.URL())
	if err := f.TenantClient("initech").Create(f.ctx, app("late").NewService()); err != nil {
		f.Fatal(err)
	}
	for port := int32(7001); port < 7005; port++ {
		for _, s := range []shard{f.main, f.prod} {
			f.setPort(s.tenant, "second", port)
			f.answers(f.address(s.tenant, "second"), int(port), "second")
		}
	}
	f.answers(f.address("initech", "web"), 8080, "web")
	f.serviceCondition("initech", "late", "Problem", metav1.ConditionTrue, "cannot be reached")
	f.sourceSays("another", v1alpha1.ReasonGitUnavailable)
	for _, s := range []shard{f.main, f.prod} {
		f.sourceReady(s.Source)
		f.serviceCondition(s.tenant, "second", "Problem", metav1.ConditionFalse)
	}
	f.another.Repository.FailWith(0)
	f.answers(f.address("initech", "web"), 9090, "web")
	f.sourceReady("another")
	if err := f.Deploy(f.ctx, "initech", app("late")); err != nil {
		f.Fatal(err)
	}
	f.answers(f.address("initech", "late"), 8080, "late")
	f.serviceCondition("initech", "late", "Problem", metav1.ConditionFalse)
}

// add has a fourth tenant begin on env/prod, with kubelbctl.
func (f *fleet) add() {
	const hooli = "hooli"
	for _, s := range f.shards() {
		f.settled(s)
	}
	mains := f.at(f.main, f.main.Ref()) + f.at(f.another, f.another.Ref())
	f.install(hooli, f.prod)
	f.answers(f.up(hooli, "web"), 8080, "web")
	if !f.has(f.prod, hooli, "web") || f.has(f.main, hooli, "web") || f.has(f.another, hooli, "web") {
		f.Error("the load balancer of the new tenant is not on env/prod alone")
	}
	if now := f.at(f.main, f.main.Ref()) + f.at(f.another, f.another.Ref()); now != mains {
		f.Error("the truths of the other shards moved")
	}
}

// addresses asks for another shard's address, makes load balancers everywhere at
// the same time, and restarts the hub.
func (f *fleet) addresses() {
	taken := f.address("acme", "web")
	thief := app("thief")
	thief.Service = func(s *corev1.Service) { s.Spec.LoadBalancerIP = taken }
	if err := f.TenantClient("initech").Create(f.ctx, thief.NewService()); err != nil {
		f.Fatal(err)
	}
	f.serviceCondition("initech", "thief", "Problem", metav1.ConditionTrue, taken)

	const each = 5
	tenants := []string{"acme", "globex", "initech", "hooli"}
	var failed []chan error
	for _, tenant := range tenants {
		made := make(chan error, 1)
		failed = append(failed, made)
		go func() {
			var errs []error
			for i := range each {
				many := app(fmt.Sprintf("many-%d", i))
				many.Service = func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} }
				errs = append(errs, f.TenantClient(tenant).Create(f.ctx, many.NewService()))
			}
			made <- errors.Join(errs...)
		}()
	}
	for _, made := range failed {
		if err := <-made; err != nil {
			f.Fatal(err)
		}
	}
	owners := map[string]string{}
	for _, tenant := range tenants {
		for i := range each {
			name := fmt.Sprintf("many-%d", i)
			address := f.address(tenant, name)
			f.answers(address, 8080, "web")
			if other := owners[address]; other != "" {
				f.Errorf("%s and %s/%s have %s", other, tenant, name, address)
			}
			owners[address] = tenant + "/" + name
		}
	}
	f.KillHub()
	if err := f.StartHub(); err != nil {
		f.Fatal(err)
	}
	for _, s := range f.shards() {
		f.setPort(s.tenant, "many-0", 6060) // seen by the hub that was started
	}
	for address, owner := range owners {
		tenant, name, _ := strings.Cut(owner, "/")
		if now := f.address(tenant, name); now != address {
			f.Errorf("%s had %s before the restart, then %s", owner, address, now)
		}
	}
	for _, s := range f.shards() {
		f.answers(f.address(s.tenant, "many-0"), 6060, "web")
	}
	f.serviceCondition("initech", "thief", "Problem", metav1.ConditionTrue, taken)
	f.answers(taken, 8080, "web")
}
