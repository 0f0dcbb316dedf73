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

package gitsync

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// newSource makes one more GitSource.
func (b *bench) newSource(name, url, branch string) string {
	b.t.Helper()
	name = b.source + "-" + name
	source := &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: name},
		Spec: v1alpha1.GitSourceSpec{
			URL: url, Branch: branch, Interval: metav1.Duration{Duration: 150 * time.Millisecond},
			Timeout: &metav1.Duration{Duration: 2 * time.Second},
		},
	}
	must(b.t, b.client.Create(b.t.Context(), source))
	b.t.Cleanup(func() { _ = b.client.Delete(context.Background(), source) })
	return name
}

// apart is a tenant that meets the hub in a repository of its own.
func (b *bench) apart(name string) *actor {
	b.t.Helper()
	own := newServer(b.t)
	a := b.actor(name)
	source := b.newSource(name, own.url, "")
	must(b.t, b.client.Create(b.t.Context(), &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: a.name},
		Spec: v1alpha1.TenantSpec{Git: v1alpha1.TenantGit{
			SourceRef: &v1alpha1.LocalReference{Name: b.source}, IntentSourceRef: &v1alpha1.LocalReference{Name: source},
		}},
	}))
	b.makeNamespace(a.name)
	a.meetAt(own, source)
	return a
}

// meetAt has a tenant's CCM use another server.
func (a *actor) meetAt(own *server, source string) {
	a.t.Helper()
	remote, err := git.NewRemote(own.url, git.Options{UserAgent: actorAgent})
	must(a.t, err)
	a.t.Cleanup(remote.Close)
	a.remote, a.own, a.ownSource, a.store, a.tip = remote, own, source, git.NewStore(), git.Hash{}
}

// told waits until the tenant's status branch, wherever it is, has a text.
func (a *actor) told(path, text string) {
	a.t.Helper()
	eventually(a.t, "the tenant is told "+text, func() string {
		if got := a.own.show(repo.StatusRef(a.name), path); !strings.Contains(got, text) {
			return "it is told " + got
		}
		return ""
	})
}

// problems are those that the Tenant shows.
func (a *actor) problems() []v1alpha1.Problem {
	a.t.Helper()
	if status := a.tenantObject().Status.Git; status != nil {
		return status.Problems
	}
	return nil
}

func (a *actor) statePath() string { return statePath(a.name) }

// sourceReady waits for the condition Ready of a GitSource.
func (b *bench) sourceReady(name string, status metav1.ConditionStatus, words string) {
	b.t.Helper()
	eventually(b.t, "GitSource "+name+" "+words, func() string {
		var source v1alpha1.GitSource
		must(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: hubNamespace, Name: name}, &source))
		ready := apimeta.FindStatusCondition(source.Status.Conditions, "Ready")
		if ready == nil || ready.Status != status || !strings.Contains(ready.Message+ready.Reason, words) {
			return fmt.Sprintf("Ready is %+v", ready)
		}
		return ""
	})
}

func TestTenantsThatCannotReadEachOther(t *testing.T) {
	b := newBench(t)
	alice, bob, carol := b.apart("alice"), b.apart("bob"), b.tenant("carol")
	for _, a := range []*actor{alice, bob, carol} {
		a.push(a.whole("web", 80))
	}
	for _, a := range []*actor{alice, bob, carol} {
		a.hasPorts("web", 80)
		a.decided()
		if b.git.show("main", a.path("web")) == "" {
			t.Errorf("main does not have the load balancer of %s", a.name)
		}
	}
	alice.publishAddress("web", "192.0.2.7")
	alice.told(alice.path("web"), "192.0.2.7")
	bob.told(bob.statePath(), repositoryID)
	for branch, at := range map[string]*server{"intent/" + alice.name: b.git, "status/" + alice.name: b.git, "status/" + bob.name: alice.own, "main": alice.own} {
		if at.head(branch) != "" {
			t.Errorf("%s is where it must not be", branch)
		}
	}
	b.sourceReady(alice.ownSource, metav1.ConditionTrue, "holds the intents of 1 tenants")

	ada := b.git.clone()
	ada.git("revert", "--no-edit", strings.TrimSpace(b.git.native(b.git.bare, "log", "-1", "--format=%H", "main", "--", alice.path("web"))))
	ada.publish()
	eventually(t, "the reverted load balancer is gone", func() string {
		if alice.lb("web") != nil {
			return "it is there"
		}
		return ""
	})
	alice.told(alice.statePath(), "author: Ada")
	bob.hasPorts("web", 80)
	ada.git("revert", "--no-edit", "HEAD")
	ada.publish()
	alice.hasPorts("web", 80)

	alice.push(map[string]repo.Object{alice.path("web"): alice.balancer("web", 80, 443)})
	alice.hasPorts("web", 80, 443)
}

func TestARestartWritesNothingToAnyRepository(t *testing.T) {
	b := newBench(t)
	alice, carol := b.apart("alice"), b.tenant("carol")
	for _, a := range []*actor{alice, carol} {
		a.push(a.whole("web", 80))
		a.hasPorts("web", 80)
		a.settled()
	}
	mine, theirs := b.git.all(), alice.own.all()
	b.restart()
	alice.push(map[string]repo.Object{alice.path("web"): alice.balancer("web", 80, 443)})
	alice.hasPorts("web", 80, 443)
	alice.settled()
	if count := alice.own.count("status/" + alice.name); count == "" || b.git.head("status/"+carol.name) != headIn(mine, "refs/heads/status/"+carol.name) {
		t.Errorf("the restart changed what carol is told: %s", b.git.all())
	}
	if alice.own.head("status/"+alice.name) == headIn(theirs, "refs/heads/status/"+alice.name) {
		t.Error("alice was not told of her change")
	}
}

// headIn finds a ref in what [server.all] returned.
func headIn(refs, name string) string {
	for line := range strings.Lines(refs) {
		if ref, hash, _ := strings.Cut(strings.TrimSpace(line), " "); ref == name {
			return hash
		}
	}
	return ""
}

func TestAnIntentSourceThatDoesNotAnswerDelaysNobodyElse(t *testing.T) {
	b := newBench(t)
	alice, bob, carol := b.apart("alice"), b.apart("bob"), b.tenant("carol")
	for _, a := range []*actor{alice, bob, carol} {
		a.push(a.whole("web", 80))
		a.hasPorts("web", 80)
		a.settled()
	}
	hang := make(chan struct{})
	answer := sync.OnceFunc(func() { close(hang) })
	t.Cleanup(answer) // before the server is closed, which waits
	alice.own.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
		return true
	})
	for _, a := range []*actor{bob, carol} {
		for port := int32(81); port < 85; port++ {
			a.push(map[string]repo.Object{a.path("web"): a.balancer("web", port)})
			a.hasPorts("web", port)
			a.told(a.statePath(), a.tip.String())
		}
	}
	eventually(t, "alice's problem", func() string {
		for _, p := range alice.problems() {
			if p.Field == "spec.git.intentSourceRef" && p.Reason == v1alpha1.ReasonGitUnavailable && p.Remedy != "" {
				return ""
			}
		}
		return fmt.Sprintf("%+v", alice.problems())
	})
	if others := append(bob.problems(), carol.problems()...); len(others) > 0 {
		t.Errorf("bob and carol have problems: %+v", others)
	}
	alice.hasPorts("web", 80)
	before := alice.own.count("status/" + alice.name)
	answer()
	alice.own.intercept(nil)
	alice.push(map[string]repo.Object{alice.path("web"): alice.balancer("web", 443)})
	alice.hasPorts("web", 443)
	alice.settled()
	eventually(t, "the problem is gone", func() string {
		if problems := alice.problems(); len(problems) > 0 {
			return fmt.Sprintf("%+v", problems)
		}
		return ""
	})
	if log := alice.own.native(alice.own.bare, "log", "-p", "status/"+alice.name); strings.Contains(log, v1alpha1.ReasonGitUnavailable) {
		t.Errorf("%s commits, then more: the tenant was told of its own server's absence", before)
	}
}

func TestATenantMovesToARepositoryOfItsOwn(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.publishAddress("web", "192.0.2.7")
	acme.settled()
	own := newServer(t)
	source := b.newSource("own", own.url, "")
	must(t, b.client.Patch(t.Context(), acme.tenantObject(), client.RawPatch(mergePatch,
		fmt.Appendf(nil, `{"spec":{"git":{"intentSourceRef":{"name":%q}}}}`, source))))
	acme.meetAt(own, source)
	acme.told(acme.path("web"), "192.0.2.7") // before it pushed anything
	acme.hasPorts("web", 80)
	acme.push(acme.whole("web", 443), git.Trailer{Key: repo.TrailerDeletes, Value: "0"})
	acme.hasPorts("web", 443)
	acme.decided()
}

func TestAMissingIntentSourceIsTheTenantsProblem(t *testing.T) {
	b := newBench(t)
	acme, other := b.tenant("acme"), b.tenant("other")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	must(t, b.client.Patch(t.Context(), acme.tenantObject(), client.RawPatch(mergePatch, []byte(`{"spec":{"git":{"intentSourceRef":{"name":"nowhere"}}}}`))))
	eventually(t, "the problem", func() string {
		for _, p := range acme.problems() {
			if strings.Contains(p.Message, "there is no GitSource kubelb/nowhere") {
				return ""
			}
		}
		return fmt.Sprintf("%+v", acme.problems())
	})
	other.push(other.whole("web", 81))
	other.hasPorts("web", 81)
	acme.hasPorts("web", 80)
}

func TestATenantThatNoGitSourceFollowsSaysWhy(t *testing.T) {
	b := newBench(t)
	acme, other := b.tenant("acme"), b.tenant("other")
	refer := func(patch string) {
		t.Helper()
		must(t, b.client.Patch(t.Context(), acme.tenantObject(), client.RawPatch(mergePatch, []byte(patch))))
	}
	says := func(words ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("the problem to say %q", words), func() string {
			var told []v1alpha1.Problem
			for _, p := range acme.problems() {
				if p.Reason == v1alpha1.ReasonSourceNotFound {
					told = append(told, p)
				}
			}
			if len(words) == 0 && len(told) == 0 {
				return ""
			}
			if len(told) != 1 || len(words) == 0 || told[0].Remedy == "" || int(acme.tenantObject().Status.Git.ProblemCount) != len(acme.problems()) {
				return fmt.Sprintf("%+v", acme.tenantObject().Status.Git)
			}
			for _, word := range words {
				if !strings.Contains(told[0].Message, word) {
					return told[0].Message
				}
			}
			return ""
		})
	}
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	refer(`{"spec":{"git":{"sourceRef":null}}}`) // the only one
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 81)})
	acme.hasPorts("web", 81)

	second := b.newSource("second", b.git.url, "env/none")
	says(b.source, second, "what is programmed stays")
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 82)})
	other.push(other.whole("web", 90))
	other.hasPorts("web", 90)
	acme.hasPorts("web", 81)
	b.restart()
	says(b.source, second)

	refer(`{"spec":{"git":{"sourceRef":{"name":"nowhere"}}}}`)
	says("no GitSource " + hubNamespace + "/nowhere")
	refer(fmt.Sprintf(`{"spec":{"git":{"sourceRef":{"name":%q}}}}`, b.source))
	acme.hasPorts("web", 82)
	says()
	refer(`{"spec":{"git":{"sourceRef":null}}}`)
	says(second)
	must(t, b.client.Delete(t.Context(), &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: second}}))
	says()
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 83)})
	acme.hasPorts("web", 83)
	for _, p := range other.problems() {
		if p.Reason == v1alpha1.ReasonSourceNotFound {
			t.Errorf("another tenant has the problem: %+v", p)
		}
	}
}

func TestAFleetOverRepositoriesAndBranches(t *testing.T) {
	b := newBench(t)
	first := b.tenant("first") // main of the first repository
	b.git.native(b.git.bare, "branch", "env/prod", "main")
	second := b.tenantOf("second", b.newSource("prod", b.git.url, "env/prod"), b.git, repositoryID)
	away := newServer(t)
	b.initMainOf(away, "another")
	third := b.tenantOf("third", b.newSource("another", away.url, ""), away, "another")
	tenants := []*actor{first, second, third}
	for _, a := range tenants {
		a.push(a.whole("web", 80))
	}
	for _, a := range tenants {
		a.hasPorts("web", 80)
		a.told(a.statePath(), "repositoryID: "+a.repository)
	}
	has := func(at *server, branch string, a *actor, want bool) {
		t.Helper()
		if got := at.show(branch, a.path("web")) != ""; got != want {
			t.Errorf("%s has the load balancer of %s: %v", branch, a.name, got)
		}
	}
	for _, branch := range []string{"main", "base/main"} {
		has(b.git, branch, first, true)
		has(b.git, branch, second, false)
		has(away, branch, third, true)
	}
	for _, branch := range []string{"env/prod", "base/env/prod"} {
		has(b.git, branch, second, true)
		has(b.git, branch, first, false)
	}

	// People on one branch, and a rewrite of it, concern its tenants alone.
	b.git.native(b.git.bare, "update-ref", "refs/heads/env/prod", b.git.native(b.git.bare, "commit-tree", "-m", "anew", "env/prod^{tree}"))
	b.sourceReady(b.source+"-prod", metav1.ConditionFalse, v1alpha1.ReasonMainRewritten)
	second.push(map[string]repo.Object{second.path("web"): second.balancer("web", 443)})
	for _, a := range []*actor{first, third} {
		a.push(map[string]repo.Object{a.path("web"): a.balancer("web", 443)})
		a.hasPorts("web", 443)
	}
	second.hasPorts("web", 80)
}
