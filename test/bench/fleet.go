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

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// broadPool has room for the addresses of a fleet. Loopback, as all of the bed.
const broadPool = "127.128.0.0/18"

// deadNode is a node's address at which nothing listens.
const deadNode = "127.99.0.1"

// fleet lets many tenants change things at the same time, beside one with a
// real cluster, and then has native Git do the same work on one shared branch.
func (b *bench) fleet(ctx context.Context, o options) error {
	writers, err := b.enroll(ctx, "fleet", o.tenants, 0)
	if err != nil {
		return err
	}
	defer closeAll(writers)
	if err := b.settle(ctx, quiet); err != nil {
		return err
	}
	b.Trail.Reset()
	begin, total := time.Now(), o.tenants*o.changes
	var pushed time.Duration
	var refused atomic.Int64
	group, work := errgroup.WithContext(ctx)
	for _, w := range writers {
		group.Go(func() error { return b.storm(work, w, o.changes, &refused) })
	}
	storm := make(chan error, 1)
	go func() {
		err := group.Wait()
		pushed = time.Since(begin)
		storm <- err
	}()
	samples, err := b.under(ctx, storm)
	if err != nil {
		return err
	}
	onMain, err := b.wait(ctx, begin, "everything to be on main", func() error { return b.onMain(ctx, "fleet", total) })
	if err != nil {
		return err
	}
	applied, err := b.wait(ctx, begin, "every load balancer to be programmed", func() error { return b.programmed(ctx, "fleet", total) })
	if err != nil {
		return err
	}
	merges, err := b.Repository.Git(ctx, "rev-list", "--min-parents=2", "--count", "main")
	if err != nil {
		return err
	}
	if err := b.valid(ctx); err != nil {
		return err
	}
	pushes := len(slices.DeleteFunc(b.Trail.Marks(), func(m testbed.Mark) bool { return m.Stage != testbed.StageIntegrated }))
	b.printf("| **%d tenants × %d changes at once → all on main** | %d | %s | | |\n", o.tenants, o.changes, total, seconds(onMain))
	b.printf("|   · all pushed by the tenants (%d refused) | %d | %s | | |\n", refused.Load(), total, seconds(pushed))
	b.printf("|   · all programmed, address published | %d | %s | | |\n", total, seconds(applied))
	b.printf("|   · pushes of main by the hub (main is valid, %s merge commits) | %d | | | |\n", merges, pushes)
	b.printf("|   · changes on main per second | | %.1f/s | | |\n", float64(total)/onMain.Seconds())
	if len(samples) > 0 {
		b.row("**one Service → address, under that load**", samples, func(s sample) time.Duration { return s[testbed.StageAddressed] })
		b.stages(samples, stagesUnder)
	}
	return b.native(ctx, o)
}

// enroll makes tenants with n load balancers each.
func (b *bench) enroll(ctx context.Context, prefix string, tenants, n int) ([]*testbed.Writer, error) {
	writers := make([]*testbed.Writer, tenants)
	group, work := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range tenants {
		group.Go(func() error {
			w, err := b.Enroll(work, fmt.Sprintf("%s-%d", prefix, i))
			if err != nil {
				return err
			}
			writers[i] = w
			edits, err := w.Nodes(deadNode)
			if err != nil {
				return err
			}
			for j := range n {
				more, err := w.LoadBalancer(fmt.Sprintf("web-%d", j), 8080)
				if err != nil {
					return err
				}
				maps.Copy(edits, more)
			}
			return w.Push(work, edits)
		})
	}
	return writers, group.Wait()
}

func closeAll(writers []*testbed.Writer) {
	for _, w := range writers {
		w.Close()
	}
}

// storm makes one tenant's changes, one push after the other.
func (b *bench) storm(ctx context.Context, w *testbed.Writer, n int, refused *atomic.Int64) error {
	for i := range n {
		edits, err := w.LoadBalancer(fmt.Sprintf("storm-%d", i), 8080)
		if err != nil {
			return err
		}
		if err := w.Push(ctx, edits); err != nil {
			refused.Add(1)
			return err
		}
	}
	return nil
}

// stagesUnder are those that a push tells of nothing but the tenant, or that say
// which object they are about: of a push of main nothing says whose it was.
var stagesUnder = []testbed.Stage{
	testbed.StagePushed, testbed.StageApplied, testbed.StageAssigned, testbed.StageProgrammed, testbed.StageReported, testbed.StageAddressed,
}

// under measures Services of the real tenant until the storm is over.
func (b *bench) under(ctx context.Context, storm <-chan error) (samples []sample, err error) {
	for i := 0; ; i++ {
		select {
		case err := <-storm:
			return samples, err
		default:
		}
		s, err := b.addressed(ctx, fmt.Sprintf("under-%d", i))
		if err != nil {
			return nil, err
		}
		samples = append(samples, s)
	}
}

// addressed is how long a Service waits for its address, and for each stage.
func (b *bench) addressed(ctx context.Context, name string) (sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("out of patience"))
	defer cancel()
	begin := time.Now()
	if err := b.TenantClient(tenant).Create(ctx, b.app(name).NewService()); err != nil {
		return nil, err
	}
	s, last := sample{}, begin
	for _, stage := range stagesUnder {
		mark, err := b.Trail.Wait(ctx, string(stage), last, func(m testbed.Mark) bool {
			return m.Stage == stage && m.Tenant == tenant && (m.Object == "" || m.Object == repo.ObjectName(namespace, name))
		})
		if err != nil {
			return nil, err
		}
		s[stage], last = mark.At.Sub(begin), mark.At
	}
	return s, nil
}

func (b *bench) wait(ctx context.Context, begin time.Time, what string, ask func() error) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("out of patience"))
	defer cancel()
	err := testbed.Eventually(ctx, what, ask)
	return time.Since(begin), err
}

// onMain checks how many load balancers of tenants main has.
func (b *bench) onMain(ctx context.Context, prefix string, want int) error {
	files, err := b.Repository.Git(ctx, "ls-tree", "-r", "--name-only", "main", "tenants/")
	if err != nil {
		return err
	}
	n := 0
	for file := range strings.Lines(files) {
		if strings.HasPrefix(file, "tenants/"+prefix+"-") && strings.Contains(file, "/loadbalancers/") {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%d of %d are", n, want)
	}
	return nil
}

func (b *bench) programmed(ctx context.Context, prefix string, want int) error {
	var list v1alpha1.LoadBalancerList
	if err := b.HubClient.List(ctx, &list); err != nil {
		return err
	}
	n := 0
	for i := range list.Items {
		if strings.HasPrefix(list.Items[i].Namespace, v1alpha1.TenantNamespace(prefix)+"-") && len(list.Items[i].Status.LoadBalancer.Ingress) > 0 {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%d of %d are", n, want)
	}
	return nil
}

// valid checks main as a pull request is checked, and what the Git server keeps.
func (b *bench) valid(ctx context.Context) error {
	if _, err := b.Repository.Git(ctx, "fsck", "--strict", "--no-dangling"); err != nil {
		return err
	}
	clone, err := b.Repository.Clone(ctx, testbed.Admin)
	if err != nil {
		return err
	}
	root, err := testbed.ModuleRoot()
	if err != nil {
		return err
	}
	programs, err := testbed.Build(ctx, filepath.Join(root, ".tools", "bin"), "./cmd/kubelbctl")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, programs[0], "validate", "-C", clone.Dir).CombinedOutput(); err != nil {
		return fmt.Errorf("kubelbctl validate: %w\n%s", err, out)
	}
	return nil
}

// answered checks that the hub has said of every load balancer whether the proxies
// serve it. To ask for all of them is work for the API server: it waits first.
func (b *bench) answered(ctx context.Context, prefix string, want int) error {
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	var list v1alpha1.LoadBalancerList
	if err := b.HubClient.List(ctx, &list); err != nil {
		return err
	}
	n := 0
	for i := range list.Items {
		c := apimeta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.ConditionProgrammed)
		if strings.HasPrefix(list.Items[i].Namespace, v1alpha1.TenantNamespace(prefix)+"-") &&
			c != nil && (c.Status == metav1.ConditionTrue || c.Reason == v1alpha1.ReasonTooManyListeners) {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%d of %d have one", n, want)
	}
	return nil
}

// native has as many clones do the same work with git itself: each commits to its
// own folder of one branch and tries again, with jitter, when it lost the race.
func (b *bench) native(ctx context.Context, o options) error {
	repository, err := b.Git.Create(ctx, "shared")
	if err != nil {
		return err
	}
	seed, err := repository.Clone(ctx, testbed.Admin)
	if err != nil {
		return err
	}
	if err := errors.Join(seed.Write("README.md", "shared\n")); err != nil {
		return err
	}
	if _, err := seed.Commit(ctx, "Begin"); err != nil {
		return err
	}
	if _, err := seed.Git(ctx, "push", "--quiet", "origin", "HEAD:main"); err != nil {
		return err
	}
	clones := make([]*testbed.Clone, o.tenants)
	for i := range clones {
		if clones[i], err = repository.Clone(ctx, testbed.Admin); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, o.native)
	defer cancel()
	begin := time.Now()
	var landed, lost atomic.Int64
	var group sync.WaitGroup
	for i, clone := range clones {
		group.Go(func() {
			for n := range o.changes {
				if !share(limited, clone, fmt.Sprintf("tenants/t%d/loadbalancers/shop/web-%d.service.yaml", i, n), &lost) {
					return
				}
				landed.Add(1)
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	b.printf("| the same with `git` on one shared branch: landed of %d within %s | %d | %s | | |\n", o.tenants*o.changes, o.native, landed.Load(), seconds(took))
	b.printf("|   · changes per second (%d pushes lost the race) | | %.1f/s | | |\n", lost.Load(), float64(landed.Load())/took.Seconds())
	return ctx.Err()
}

// share commits a file and pushes it over whatever came in between.
func share(ctx context.Context, clone *testbed.Clone, path string, lost *atomic.Int64) bool {
	if err := clone.Write(path, "kind: LoadBalancer\n"); err != nil {
		return false
	}
	if _, err := clone.Commit(ctx, path); err != nil {
		return false
	}
	for ctx.Err() == nil {
		if _, err := clone.Git(ctx, "push", "--quiet", "origin", "HEAD:main"); err == nil {
			return true
		}
		lost.Add(1)
		select {
		case <-time.After(time.Duration(rand.IntN(500)) * time.Millisecond):
		case <-ctx.Done():
			return false
		}
		if _, err := clone.Git(ctx, "pull", "--quiet", "--rebase", "origin", "main"); err != nil && ctx.Err() == nil {
			continue
		}
	}
	return false
}

// scale fills a repository with many tenants and measures what idling and a
// change in one of them cost the hub.
func (b *bench) scale(ctx context.Context, o options) error {
	begin := time.Now()
	writers, err := b.enroll(ctx, "scale", o.scaleTenants, o.scaleEach)
	if err != nil {
		return err
	}
	defer closeAll(writers)
	total := o.scaleTenants * o.scaleEach
	took, err := b.wait(ctx, begin, "everything to be on main", func() error { return b.onMain(ctx, "scale", total) })
	if err != nil {
		return err
	}
	answered, err := b.wait(ctx, begin, "an answer for every load balancer", func() error { return b.answered(ctx, "scale", total) })
	if err != nil {
		return err
	}
	if err := b.settle(ctx, longQuiet); err != nil {
		return err
	}
	b.printf("| %d tenants × %d load balancers, made at once → on main | %d | %s | | |\n", o.scaleTenants, o.scaleEach, total, seconds(took))
	b.printf("|   · every one programmed, or told that there is no room | | %s | | |\n", seconds(answered))
	b.printf("|   · until nothing more is pushed | | %s | | |\n", seconds(time.Since(begin)-longQuiet))
	memory, err := b.memory()
	if err != nil {
		return err
	}
	b.printf("|   · memory of the hub | | %s | | |\n", memory)
	before, err := b.cpu()
	if err != nil {
		return err
	}
	commits, err := b.idle(ctx, o.idle)
	if err != nil {
		return err
	}
	after, err := b.cpu()
	if err != nil {
		return err
	}
	b.printf("| commits in %s of idling, looking every %s | | %d | | |\n", o.idle, o.interval, commits)
	b.printf("|   · CPU of the hub, of one core | | %.2f %% | | |\n", 100*(after-before).Seconds()/o.idle.Seconds())
	return b.changes(ctx, writers, o)
}

// changes makes changes in one tenant of many, one after the other.
func (b *bench) changes(ctx context.Context, writers []*testbed.Writer, o options) error {
	w := writers[len(writers)/2]
	path := repo.StatusRef(w.Tenant)
	before, err := b.cpu()
	if err != nil {
		return err
	}
	var samples []sample
	for i := range o.samples {
		edits, err := w.LoadBalancer("web-0", int32(9000+i))
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := w.Push(ctx, edits); err != nil {
			return err
		}
		if _, err := b.Trail.Wait(ctx, path, begin, func(m testbed.Mark) bool {
			return m.Stage == testbed.StageReported && m.Tenant == w.Tenant
		}); err != nil {
			return err
		}
		samples = append(samples, sample{testbed.StageReported: time.Since(begin)})
	}
	if err := b.settle(ctx, quiet); err != nil {
		return err
	}
	after, err := b.cpu()
	if err != nil {
		return err
	}
	b.row("one change in one tenant → pushed answer", samples, func(s sample) time.Duration { return s[testbed.StageReported] })
	b.printf("|   · CPU of the hub per change | %d | %s | | |\n", len(samples), seconds((after-before)/time.Duration(len(samples))))
	return nil
}

// cpu is what the hub has used so far.
func (b *bench) cpu() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.HubProcess().Pid()), "stat"))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("cannot read %q", text)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err // a tick is 10 ms on Linux
}

// memory is what the hub holds now.
func (b *bench) memory() (string, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.HubProcess().Pid()), "status"))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", err
}

// wide gives a hub room for a fleet's addresses.
func wide(c *v1alpha1.Config) {
	c.Spec.AddressPools = []v1alpha1.AddressPool{{Name: "wide", CIDRs: []string{broadPool}}}
}
