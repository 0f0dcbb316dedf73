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
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watchPushes has the server note each push with the refs that it moved.
func (s *server) watchPushes() {
	s.t.Helper()
	s.hook("post-receive", `echo push >> pushes; while read old new ref; do echo "$ref" >> pushes; done`)
}

// pushesOf counts the pushes that moved a ref which begins like this.
func (s *server) pushesOf(ref string) (n int) {
	s.t.Helper()
	log, err := os.ReadFile(filepath.Join(s.bare, "pushes"))
	if err != nil {
		return 0 // none yet
	}
	for push := range strings.SplitSeq(string(log), "push\n") {
		if strings.Contains("\n"+push, "\n"+ref) {
			n++
		}
	}
	return n
}

func TestManyTenantsAtTheSameTime(t *testing.T) {
	const tenants, changes = 8, 5
	b := newBench(t)
	var fleet []*actor
	for i := range tenants {
		a := b.tenant("t" + strconv.Itoa(i))
		a.push(a.whole("first", 80))
		fleet = append(fleet, a)
	}
	for _, a := range fleet {
		a.hasPorts("first", 80)
		a.settled()
	}
	b.git.watchPushes()
	before := b.git.head("main")
	var group errgroup.Group
	for _, a := range fleet {
		group.Go(func() error {
			for i := range changes {
				name := fmt.Sprintf("web%d", i)
				edits, err := encodeAll(map[string]repo.Object{a.path(name): a.balancer(name, 80), a.backendPath(name): a.backend(name, int32(30000+i))})
				if err != nil {
					return err
				}
				if err := a.tryPush(edits); err != nil {
					return fmt.Errorf("%s, change %d: %w", a.name, i, err)
				}
			}
			return nil
		})
	}
	ada := b.git.clone()
	for i := range 3 { // a person's pushes in between
		ada.write("README.md", fmt.Sprintf("Load balancers of the fleet, %d.\n", i))
		ada.push(fmt.Sprintf("README %d", i))
	}
	must(t, group.Wait())
	for _, a := range fleet {
		for i := range changes {
			a.hasPorts(fmt.Sprintf("web%d", i), 80)
		}
		a.decided()
	}
	b.git.checkMain(before, 3)
	if n := b.git.pushesOf(repo.Main); n >= tenants*changes {
		t.Errorf("%d pushes of main for %d changes: they were not put together", n, tenants*changes)
	} else {
		t.Logf("%d pushes of main, of which 3 by people, for %d changes by %d tenants", n, tenants*changes, tenants)
	}
}

func encodeAll(objects map[string]repo.Object) (map[string][]byte, error) {
	edits := map[string][]byte{}
	for path, object := range objects {
		content, err := repo.Encode(object)
		if err != nil {
			return nil, err
		}
		edits[path] = content
	}
	return edits, nil
}

// checkMain checks that main is linear, that people's commits are on it, and that
// every commit since another is one that a hub could follow.
func (s *server) checkMain(since string, people int) {
	s.t.Helper()
	if merges := s.native(s.bare, "rev-list", "--min-parents=2", "main"); merges != "" {
		s.t.Errorf("main is not linear: %s", merges)
	}
	if s.native(s.bare, "merge-base", since, "main") != since {
		s.t.Error("main does not continue what it was")
	}
	if n := s.native(s.bare, "rev-list", "--count", "--author=Ada", since+"..main"); n != strconv.Itoa(people) {
		s.t.Errorf("%s commits of people are on main, want %d", n, people)
	}
	for _, commit := range strings.Fields(s.native(s.bare, "rev-list", "--reverse", since+"..main")) {
		wishes, facts := 0, 0
		for _, path := range strings.Fields(s.native(s.bare, "diff-tree", "-r", "--no-commit-id", "--name-only", commit)) {
			p, err := repo.ParsePath(path)
			if err != nil {
				continue
			}
			if p.Fact() {
				facts++
			} else {
				wishes++
			}
			content := s.native(s.bare, "show", commit+":"+path) + "\n"
			if _, problems := repo.Decode(path, repo.NewFile([]byte(content))); len(problems) > 0 {
				s.t.Errorf("%s of commit %s: %v", path, commit, problems)
			}
		}
		if wishes > 0 && facts > 0 {
			s.t.Errorf("commit %s has %d wishes and %d facts", commit, wishes, facts)
		}
	}
}

// handClock is a clock that only the test moves.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestMinPushIntervalIsHonoured(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	source := b.gitSource()
	source.Spec.MinPushInterval = &metav1.Duration{Duration: time.Hour}
	must(t, b.client.Update(t.Context(), source))
	clock := &handClock{now: time.Now()}
	b.clock = clock.time
	b.git.watchPushes()
	b.start()
	b.reason("Succeeded") // base/main was pushed
	one, two := b.tenant("one"), b.tenant("two")
	for _, a := range []*actor{one, two} {
		a.push(a.whole("web", 80))
	}
	counts := func(when string, main, status int) {
		t.Helper()
		if m, s := b.git.pushesOf(repo.RefPrefix+"base/"), b.git.pushesOf(repo.StatusRef("")); m != main || s != status {
			t.Errorf("%s: %d pushes of main and base and %d of status, want %d and %d", when, m, s, main, status)
		}
	}
	b.look()
	b.look()
	counts("at first", 1, 0)
	clock.advance(time.Hour)
	b.look()
	one.hasPorts("web", 80) // both came with one push
	two.hasPorts("web", 80)
	b.look()
	counts("an hour later", 2, 0)
	clock.advance(time.Hour)
	b.look()
	for _, a := range []*actor{one, two} {
		a.told(a.statePath(), a.tip.String())
	}
	one.push(map[string]repo.Object{one.path("web"): one.balancer("web", 81)})
	b.look()
	counts("two hours later", 2, 1)
	clock.advance(time.Hour)
	b.look()
	one.hasPorts("web", 81)
	counts("three hours later", 3, 1)
}

func TestAStatusBranchThatTheServerRefusesDelaysNobodyElse(t *testing.T) {
	b := newBench(t)
	poor, rich := b.tenant("poor"), b.tenant("rich")
	for _, a := range []*actor{poor, rich} {
		a.push(a.whole("web", 80))
		a.hasPorts("web", 80)
		a.settled()
	}
	b.git.hook("update", fmt.Sprintf(`case "$1" in %s) echo "no room for you" >&2; exit 1;; esac`, repo.StatusRef(poor.name)))
	poor.push(map[string]repo.Object{poor.path("web"): poor.balancer("web", 81)})
	eventually(t, "the problem", func() string {
		for _, p := range poor.problems() {
			if p.Reason == v1alpha1.ReasonPushFailed && p.Remedy != "" {
				return ""
			}
		}
		return fmt.Sprintf("%+v", poor.problems())
	})
	b.sourceReady(b.source, metav1.ConditionFalse, v1alpha1.ReasonPushFailed)
	for port := int32(81); port < 86; port++ {
		rich.push(map[string]repo.Object{rich.path("web"): rich.balancer("web", port)})
		rich.hasPorts("web", port)
		rich.told(rich.statePath(), rich.tip.String())
	}
	if problems := rich.problems(); len(problems) > 0 {
		t.Errorf("rich has problems: %+v", problems)
	}
	b.git.hook("update", "exit 0")
	poor.told(poor.statePath(), poor.tip.String())
	b.sourceReady(b.source, metav1.ConditionTrue, "Succeeded")
}

func TestAStatusBranchStartsAnew(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	b.halt()
	// A long history, as far as the branch says: the next commit but one starts
	// anew. Generations begin at the millisecond in which a hub was started; this
	// one is above the next hub's.
	anew := int(time.Now().Add(time.Hour).UnixMilli()) / anewEvery * anewEvery
	var keys corev1.Secret
	must(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: hubNamespace, Name: KeysSecret}, &keys))
	signer, err := git.ParsePrivateKey(keys.Data[v1alpha1.HubKeyIdentity])
	must(t, err)
	store, ref := git.NewStore(), repo.StatusRef(acme.name)
	refs, err := acme.remote.ListRefs(t.Context(), ref)
	must(t, err)
	must(t, acme.remote.Fetch(t.Context(), store, git.Want{Tip: refs[ref]}))
	last, err := store.Commit(refs[ref])
	must(t, err)
	tip, err := store.NewCommit(git.CommitSpec{
		Tree: last.Tree, Parents: []git.Hash{last.Hash}, Message: "status", Signer: signer, Author: git.Ident{Name: "kubelb-hub", Email: "hub@kubelb.local", When: time.Now()},
		Trailers: git.Trailers{
			{Key: repo.TrailerRepository, Value: repositoryID}, {Key: repo.TrailerBranch, Value: "status/" + acme.name},
			{Key: repo.TrailerTenant, Value: acme.name}, {Key: repo.TrailerGeneration, Value: strconv.Itoa(anew - 2)},
		},
	})
	must(t, err)
	_, err = acme.remote.Push(t.Context(), store, []git.RefUpdate{{Name: ref, Old: last.Hash, New: tip}}, false)
	must(t, err)
	b.start()
	count := func(ip, want string) {
		t.Helper()
		acme.publishAddress("web", ip)
		acme.told(acme.path("web"), ip)
		if want != "" && b.git.count("status/"+acme.name) != want {
			t.Errorf("after %s the branch has %s commits, want %s", ip, b.git.count("status/"+acme.name), want)
		}
	}
	before := atoi(b.git.count("status/" + acme.name))
	count("192.0.2.1", strconv.Itoa(before+1))
	count("192.0.2.2", "1")
	count("192.0.2.3", "2")
	if generation := b.git.native(b.git.bare, "log", "-1", "--format=%(trailers:key=Kubelb-Generation,valueonly)", "status/"+acme.name); atoi(strings.TrimSpace(generation)) != anew+1 {
		t.Errorf("the generation is %s, want %d: it never goes backwards", generation, anew+1)
	}
}
