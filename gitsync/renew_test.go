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
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/test/harm"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// loses takes the tree of a folder on a branch out of the hub's copy.
func (b *bench) loses(branch, folder string) {
	b.t.Helper()
	b.losesOf(b.git, b.source, branch, folder)
}

// losesOf is the same for the repository of a source at a server.
func (b *bench) losesOf(at *server, source, branch, folder string) {
	b.t.Helper()
	h, err := git.ParseHash(at.native(at.bare, "rev-parse", branch+":"+folder))
	must(b.t, err)
	store := b.store(source)
	if store == nil || !harm.Lose(store, h) {
		b.t.Fatalf("the hub has no tree %s of %s, so the test shows nothing", h, folder)
	}
}

func TestADamagedCopyOfTheRepositoryHeals(t *testing.T) {
	b := newBench(t)
	acme, other := b.tenant("acme"), b.tenant("other")
	acme.push(acme.whole("web", 80))
	other.push(other.whole("web", 80))
	acme.settled()
	other.settled()
	renewed := renewals.WithLabelValues(hubNamespace + "/" + b.source)
	before := counted(t, renewed)
	commits, base := b.git.count("main"), b.git.count("base/main")

	damaged := b.store(b.source)
	b.loses("main", repo.TenantDir(acme.name))
	acme.push(acme.whole("web", 8080))
	acme.hasPorts("web", 8080)
	acme.settled()
	if got := counted(t, renewed); got != before+1 {
		t.Errorf("read anew %v times", got-before)
	}
	if b.store(b.source) == damaged {
		t.Error("the copy is the damaged one")
	}
	if got := b.git.count("main"); got != fmt.Sprint(atoi(commits)+1) {
		t.Errorf("main went from %s commits to %s", commits, got)
	}
	if got := b.git.count("base/main"); got != fmt.Sprint(atoi(base)+1) {
		t.Errorf("base/main went from %s commits to %s", base, got)
	}
	other.push(other.whole("web", 8080))
	other.hasPorts("web", 8080)
}

// A server that lost an object says so, everything stays as it is, and that ends
// when the server is repaired.
func TestCorruptObjectsAtTheServer(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	person := b.git.clone()
	person.write("NOTES.md", "a note\n")
	person.git("add", "-A")
	person.git("commit", "-q", "-m", "A note")
	blob := person.git("rev-parse", "HEAD:NOTES.md")
	person.git("push", "-q", "origin", "HEAD:refs/heads/scratch")
	object := filepath.Join(b.git.bare, "objects", blob[:2], blob[2:])
	whole, err := os.ReadFile(object)
	must(t, err)
	must(t, os.Chmod(object, 0o644))
	must(t, os.WriteFile(object, append([]byte("x\x9c"), whole[len(whole)/2:]...), 0o644))
	b.git.native(b.git.bare, "update-ref", "refs/heads/main", "refs/heads/scratch")
	b.says(v1alpha1.ReasonGitUnavailable, b.git.url, "git fsck")
	acme.hasPorts("web", 80)
	must(t, os.WriteFile(object, whole, 0o644))
	b.says("Succeeded")
}

// The hub's copy follows the size of the repository, not its age.
func TestTheHubsCopyStaysBounded(t *testing.T) {
	s := newStepper(t)
	acme := s.tenant("acme")
	l := newLoop(client.ObjectKey{Namespace: hubNamespace, Name: s.source}, s.supervisor, newInbox())
	defer l.end()
	l.kept = -450 // the first sweep comes soon
	l.refs[repo.IntentRef("moved-away")] = git.Hash{1}
	for n := range 60 {
		acme.push(acme.whole("web", int32(1000+n)))
		s.clock = s.clock.Add(time.Minute)
		l.inbox.wakeUp()
		l.turn(t.Context(), l.inbox.take())
		if l.failed != nil {
			t.Fatal(l.failed)
		}
		l.turn(t.Context(), l.inbox.take())
		if l.kept > 0 && l.store.Stats().Objects > 2*l.kept+1200 {
			t.Fatalf("after %d changes %d objects, of which %d were needed", n, l.store.Stats().Objects, l.kept)
		}
	}
	if l.kept <= 0 || l.kept > 200 {
		t.Errorf("%d objects were kept of one load balancer; less than 1: it was never swept", l.kept)
	}
	if _, ok := l.refs[repo.IntentRef("moved-away")]; ok {
		t.Error("a branch of a tenant that went elsewhere is still kept")
	}
	if got := s.git.count("main"); atoi(got) < 60 {
		t.Errorf("main has %s commits", got)
	}
}

// A hole that comes too soon after the last one is told, and heals when the copy
// may be read anew: nobody has to change anything.
func TestAHoleThatMayNotBeMendedYetIsLookedAtAgain(t *testing.T) {
	s := newStepper(t)
	acme := s.tenant("acme")
	acme.push(acme.whole("web", 80))
	s.run(0, "")
	l := newLoop(client.ObjectKey{Namespace: hubNamespace, Name: s.source}, s.supervisor, newInbox())
	defer l.end()
	look := func() {
		l.inbox.wakeUp()
		l.turn(t.Context(), l.inbox.take())
	}
	look() // a loop that starts asks for more than what moved
	acme.push(acme.whole("web", 8080))
	must(t, acme.remote.Past(t.Context(), l.store, acme.tip, 5)) // what the loop would fetch
	for _, folder := range []string{"/loadbalancers", "/loadbalancers/shop"} {
		h, err := git.ParseHash(s.git.native(s.git.bare, "rev-parse", acme.tip.String()+":"+repo.TenantDir(acme.name)+folder))
		must(t, err)
		if !harm.Lose(l.store, h) {
			t.Fatal("there is nothing to lose")
		}
	}
	l.renewal.Begin(s.clock) // just now, for something else
	look()
	if l.damaged || acme.ready() != repo.ReasonMalformed {
		t.Fatalf("damaged: %t, the tenant is %s", l.damaged, acme.ready())
	}
	look()
	if l.damaged {
		t.Error("the copy is read anew too soon")
	}
	s.clock = s.clock.Add(time.Minute)
	look()
	if !l.damaged {
		t.Error("the copy is not read anew, although it may be")
	}
	s.run(0, "")
	acme.hasPorts("web", 8080)
}
