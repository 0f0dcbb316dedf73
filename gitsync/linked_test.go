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
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// changeOwn changes the GitSource of the tenant's own repository.
func (a *actor) changeOwn(change func(*v1alpha1.GitSource)) {
	a.t.Helper()
	var source v1alpha1.GitSource
	must(a.t, a.client.Get(a.t.Context(), client.ObjectKey{Namespace: hubNamespace, Name: a.ownSource}, &source))
	before := source.DeepCopy()
	change(&source)
	must(a.t, a.client.Patch(a.t.Context(), &source, client.MergeFrom(before)))
	eventually(a.t, "the change is seen", func() string {
		must(a.t, a.client.Get(a.t.Context(), client.ObjectKeyFromObject(&source), &source))
		if source.Status.ObservedGeneration != source.Generation {
			return "not yet"
		}
		return ""
	})
}

// What is lost of a link's store is read anew like what is lost of the loop's own.
func TestADamagedCopyOfAnIntentSourceHeals(t *testing.T) {
	b := newBench(t)
	alice, carol := b.apart("alice"), b.tenant("carol")
	for _, a := range []*actor{alice, carol} {
		a.push(a.whole("web", 80))
		a.hasPorts("web", 80)
		a.settled()
	}
	renewed := renewals.WithLabelValues(hubNamespace + "/" + b.source)
	before, told, others := counted(t, renewed), alice.own.count("status/"+alice.name), b.git.head("status/"+carol.name)
	damaged := b.store(alice.ownSource)

	b.losesOf(alice.own, alice.ownSource, "status/"+alice.name, repo.TenantDir(alice.name))
	alice.publishAddress("web", "192.0.2.7")
	alice.told(alice.path("web"), "192.0.2.7")
	if got := counted(t, renewed); got != before+1 {
		t.Errorf("read anew %v times", got-before)
	}
	if b.store(alice.ownSource) == damaged {
		t.Error("the copy of the intent source is the damaged one")
	}
	if got := alice.own.count("status/" + alice.name); got != fmt.Sprint(atoi(told)+1) {
		t.Errorf("alice's status went from %s commits to %s", told, got)
	}
	alice.push(map[string]repo.Object{alice.path("web"): alice.balancer("web", 443)})
	alice.hasPorts("web", 443)
	alice.settled()
	if b.git.head("status/"+carol.name) != others {
		t.Error("carol was told anew")
	}
}

// What the hub holds of intent sources is part of what its metrics show.
func TestMetricsCountTheCopiesOfIntentSources(t *testing.T) {
	b := newBench(t)
	alice := b.apart("alice")
	alice.push(alice.whole("web", 80))
	alice.hasPorts("web", 80)
	alice.settled()
	eventually(t, "the number of objects", func() string {
		var m dto.Metric
		must(t, storeObjects.WithLabelValues(hubNamespace+"/"+b.source).Write(&m))
		own, linked := b.store(b.source).Stats().Objects, b.store(alice.ownSource).Stats().Objects
		if got := int(m.GetGauge().GetValue()); got != own+linked || linked == 0 {
			return fmt.Sprintf("is %d, not %d and %d", got, own, linked)
		}
		return ""
	})
}

func TestAWebhookOfAnIntentSourceBringsItsTenantsNews(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	b.changeSource(func(s *v1alpha1.GitSourceSpec) { s.Interval = metav1.Duration{Duration: time.Hour} })
	b.start()
	alice := b.apart("alice")
	alice.push(alice.whole("web", 80))
	alice.hasPorts("web", 80)
	alice.settled()
	alice.changeOwn(func(s *v1alpha1.GitSource) { telling(s, v1alpha1.WebhookGitea) })
	b.hookSecret(alice.ownSource)
	alice.push(map[string]repo.Object{alice.path("web"): alice.balancer("web", 443)})
	body, headers := giteaPush(alice.own.url, repo.IntentRef(alice.name))
	if code, said := b.tell(alice.ownSource, body, headers); code != http.StatusOK {
		t.Fatalf("%d %s", code, said)
	}
	alice.hasPorts("web", 443)
	alice.decided()
}

// A hub that starts knows nothing of the commits that an intent branch has had:
// what they say counts all the same.
func TestWhatATenantWithARepositoryOfItsOwnDidWhileTheHubWasAway(t *testing.T) {
	b := newBench(t)
	alice := b.apart("alice")
	alice.push(alice.many(10))
	alice.hasPorts("web9", 89)
	alice.settled()
	b.halt()
	gone := func(from, to int) {
		edits := map[string]repo.Object{}
		for i := from; i < to; i++ {
			edits[alice.path(fmt.Sprintf("web%d", i))] = nil
		}
		alice.push(edits, git.Trailer{Key: repo.TrailerDeletes, Value: fmt.Sprint(to - from)})
	}
	gone(1, 6)
	gone(6, 10)
	alice.cluster = clusterOf("rebuilt-" + alice.name) // with --adopt
	alice.push(map[string]repo.Object{alice.path("web0"): alice.balancer("web0", 443)})
	b.start()
	alice.hasPorts("web0", 443)
	for i := 1; i < 10; i++ {
		eventually(t, "what was deleted is gone", func() string {
			if name := fmt.Sprintf("web%d", i); alice.lb(name) != nil {
				return name + " is there"
			}
			return ""
		})
	}
	if problems := alice.problems(); len(problems) > 0 {
		t.Errorf("problems: %+v", problems)
	}
}

// guarded has a server let in only who knows a password, and counts the others.
// Tenants need none.
func (s *server) guarded() (open func(password string), refused *atomic.Int64) {
	var want atomic.Pointer[string]
	refused = &atomic.Int64{}
	open = func(password string) { want.Store(&password) }
	open("one")
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		_, password, _ := r.BasicAuth()
		if r.UserAgent() == actorAgent || password == *want.Load() {
			return false
		}
		refused.Add(1)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return true
	})
	return open, refused
}

func TestCredentialsOfAnIntentSourceHeal(t *testing.T) {
	b := newBench(t)
	alice := b.apart("alice")
	open, _ := alice.own.guarded()
	b.secret("own", map[string]string{"username": "hub", "password": "one"})
	alice.changeOwn(func(s *v1alpha1.GitSource) { s.Spec.SecretRef = &v1alpha1.LocalReference{Name: "own" + b.prefix} })
	alice.push(alice.whole("web", 80))
	alice.hasPorts("web", 80)
	alice.settled()
	open("two")
	eventually(t, "alice's problem", func() string {
		for _, p := range alice.problems() {
			if p.Field == "spec.git.intentSourceRef" && p.Reason == v1alpha1.ReasonAuthFailed {
				return ""
			}
		}
		return fmt.Sprintf("%+v", alice.problems())
	})
	alice.changeOwn(func(s *v1alpha1.GitSource) { s.Spec.Interval = metav1.Duration{Duration: time.Hour} })
	b.secret("own", map[string]string{"username": "hub", "password": "two"})
	alice.push(map[string]repo.Object{alice.path("web"): alice.balancer("web", 443)})
	alice.hasPorts("web", 443)
	alice.settled()
}

// A server is not asked again with credentials that it refused before the interval
// is over, so that it does not lock the account.
func TestALinkDoesNotInsistOnRefusedCredentials(t *testing.T) {
	b := newIdleBench(t)
	open, refused := b.git.guarded()
	open("two")
	b.secret("git", map[string]string{"username": "hub", "password": "one"})
	b.changeSource(func(s *v1alpha1.GitSourceSpec) {
		s.SecretRef, s.Interval = &v1alpha1.LocalReference{Name: "git" + b.prefix}, metav1.Duration{Duration: time.Hour}
	})
	clock := &handClock{now: time.Now()}
	k := &link{
		key: client.ObjectKey{Namespace: hubNamespace, Name: b.source}, client: b.client, live: b.client, log: logr.Discard(), now: clock.time,
		inbox: newInbox(), wake: make(chan struct{}, 1), store: git.NewStore(), wants: map[string]want{"acme": {}},
	}
	k.apart = newApart(k.now, k.called, func(fetch func()) { fetch() })
	for _, step := range []struct {
		what  string
		do    func()
		asked int64
	}{
		{"at first", func() {}, 1},
		{"soon after", func() { clock.advance(secretInterval) }, 1},
		{"an hour later", func() { clock.advance(time.Hour) }, 2},
		{"and again", func() { clock.advance(secretInterval) }, 2},
		{"with a webhook", k.called, 3},
		{"with another password", func() { b.secret("git", map[string]string{"username": "hub", "password": "three"}) }, 4},
	} {
		step.do()
		if due := k.turn(t.Context()); due != secretInterval {
			t.Errorf("%s: the Secret is read again in %s", step.what, due)
		}
		if got := refused.Load(); got != step.asked {
			t.Errorf("%s: the server was asked %d times, want %d", step.what, got, step.asked)
		}
		if f := k.state.failed; f == nil || f.reason != v1alpha1.ReasonAuthFailed {
			t.Fatalf("%s: %+v", step.what, f)
		}
	}
	b.secret("git", map[string]string{"username": "hub", "password": "two"})
	if due := k.turn(t.Context()); due != time.Hour || k.state.failed != nil {
		t.Errorf("with the right password: %s, %+v", due, k.state.failed)
	}
}
