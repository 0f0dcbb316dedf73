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
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Times of a loop. Nothing waits while nothing else is in flight: the first
// change after a quiet spell is handled at once, what follows closely is
// collected until it settles.
const (
	quietSpell   = 200 * time.Millisecond
	settleFor    = 10 * time.Millisecond
	settleAtMost = 250 * time.Millisecond

	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// loop follows one GitSource. Only its goroutine touches it, but for inbox.
type loop struct {
	key     client.ObjectKey
	client  client.Client
	live    client.Reader // past the cache
	log     logr.Logger
	now     func() time.Time
	signer  *git.Signer
	keys    *identity
	keysAt  time.Time // when they are read again
	started time.Time
	options Options
	inbox   *inbox

	// source as it was read last, and the connection made from it.
	source      *v1alpha1.GitSource
	mistakes    mistakes // in it
	credentials string   // what remote was made from
	connected   int64    // generation of the source that it was made for
	connectAt   time.Time
	askAgain    time.Time // when refused credentials are tried again as they are
	remote      *git.Remote
	store       *git.Store

	// What is known of the repository.
	refs       map[string]git.Hash
	id         string // repositoryID
	main       git.Commit
	base       base
	history    history
	truth      truth
	unverified []v1alpha1.Problem  // of spec.verify that concern no tenant
	mainDir    map[string]git.Hash // folders of tenants on main
	baseDir    map[string]git.Hash
	integrated map[string]git.Entry // files on base/main that say what was integrated
	kept       int                  // objects in the store after it was cleaned last
	apart      *apart
	unfetched  map[string]string // why the tips of branches could not be fetched

	// Pull requests.
	desk         *desk
	forgeMade    string // what the desk's forge was made from
	forgeAt      time.Time
	forgeFailure *v1alpha1.Problem
	hook         metav1.Condition // of the webhook; zero: there is none
	hookAt       time.Time        // when it is looked at again

	tenants map[string]*tenant
	// todo are the tenants that a turn has to look at: those of which anything
	// changed or is not done. All others cost nothing.
	todo    map[string]*tenant
	links   map[client.ObjectKey]*link // by intent source
	helpers sync.WaitGroup             // goroutines beside the loop's
	lends   int                        // tenants of other sources whose intents are here
	config  string                     // version of the hub's Config that was read last
	leaving map[string]*leaver         // tenants that are being deleted
	strays  []v1alpha1.Problem         // folders on main that belong to no tenant of ours

	// What has to be done again, and when.
	failed     *failure // of the last look at the repository
	syncAt     time.Time
	syncRetry  retry
	applyRetry retry
	pushed     time.Time // last push, for minPushInterval
	deferred   time.Time // a push waits for minPushInterval; zero: none does
	worked     time.Time // when a turn did something last
	gitSince   time.Time // since when status.git of some objects has to be written
	gitAt      time.Time // when it will be; zero: nothing has to be
	gitRetry   retry

	renewal *git.Renewal // outlives a loop that begins anew
	damaged bool         // the store lacks objects, and the loop is to begin anew
}

func newLoop(key client.ObjectKey, s *supervisor, in *inbox) *loop {
	l := &loop{
		key: key, client: s.client, live: s.live, log: s.log.WithValues("gitsource", key.String()), now: s.options.Clock,
		signer: s.keys.signer, keys: s.keys, started: s.options.Clock(), options: s.options, inbox: in, renewal: &git.Renewal{},
		store: git.NewStore(), refs: map[string]git.Hash{}, tenants: map[string]*tenant{}, history: newHistory(),
		todo: map[string]*tenant{}, links: map[client.ObjectKey]*link{}, leaving: map[string]*leaver{},
	}
	l.desk = newDesk(
		func(tenant string, a answer) { in.answered(tenant, a) },
		func(err error, tenant string) { l.log.Error(err, "the forge fails", "tenant", tenant) })
	l.apart = newApart(l.now, in.wakeUp, l.helpers.Go)
	l.made(key, l.store)
	return l
}

func (l *loop) made(source client.ObjectKey, store *git.Store) {
	if l.options.made != nil {
		l.options.made(l.key, source, store)
	}
}

// retry is a time for another attempt, further away after each failure.
type retry struct {
	at    time.Time // zero: none is needed
	delay time.Duration
}

func (r *retry) failed(now time.Time) {
	r.delay = min(max(2*r.delay, firstRetry), lastRetry)
	r.at = now.Add(r.delay)
}

func (r *retry) succeeded() { *r = retry{} }

func (r *retry) due(now time.Time) bool { return !r.at.IsZero() && !now.Before(r.at) }

// run takes turns until the context ends. It reports whether the loop is to
// begin anew: then nothing that it knew counts any more.
func (l *loop) run(ctx context.Context) (again bool) {
	defer l.end()
	ctx, cancel := context.WithCancel(ctx)
	defer l.helpers.Wait()
	defer cancel()
	defer l.openDesk(ctx)()
	l.inbox.wakeUp()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(l.wait())
		select {
		case <-ctx.Done():
			return false
		case <-l.inbox.wake:
			l.settle(ctx)
		case <-timer.C:
		}
		l.turn(ctx, l.inbox.take())
		l.measureStore()
		if l.damaged {
			return true
		}
	}
}

func (l *loop) close() {
	if l.remote != nil {
		l.remote.Close()
	}
}

// end is for a loop that takes no more turns.
func (l *loop) end() {
	l.close()
	for key := range l.links {
		l.inbox.unfollow(key)
	}
	for _, t := range l.tenants {
		t.unmeasure()
	}
}

// wait is how long nothing is due.
func (l *loop) wait() time.Duration {
	now := l.now()
	next := now.Add(time.Hour)
	due := []time.Time{l.syncAt, l.deferred, l.applyRetry.at, l.gitAt, l.reportDue(now)}
	for _, at := range due {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return max(next.Sub(now), 0)
}

// settle waits until no change has come for a moment, if the loop was busy
// just now.
func (l *loop) settle(ctx context.Context) {
	if l.now().Sub(l.worked) > quietSpell {
		return
	}
	limit := time.NewTimer(settleAtMost)
	defer limit.Stop()
	for {
		quiet := time.NewTimer(settleFor)
		select {
		case <-l.inbox.wake:
			quiet.Stop()
		case <-quiet.C:
			return
		case <-limit.C:
			quiet.Stop()
			return
		case <-ctx.Done():
			quiet.Stop()
			return
		}
	}
}

// turn does what is due: first the repository, then the hub, then the answers.
// Each part works with what is known when another one fails.
func (l *loop) turn(ctx context.Context, w work) {
	now := l.now()
	l.collect(w)
	l.markDirty(w.objects)
	look := l.hear(w) || w.news || !now.Before(l.syncAt) || !l.deferred.IsZero() && !now.Before(l.deferred)
	if w.news {
		l.askAgain = time.Time{}
	}
	if look {
		exists, err := l.load(ctx)
		if !exists || ctx.Err() != nil {
			return
		}
		if err == nil && !l.source.Spec.Suspend {
			err = l.sync(ctx)
		}
		l.finishLook(ctx, err)
	}
	if l.source == nil || ctx.Err() != nil || l.damaged {
		return
	}
	l.explainLeaving(ctx)
	if l.source.Spec.Suspend {
		l.forgetApplied() // read everything again after it
		l.writeSource(ctx)
		return
	}
	l.freshen(ctx)
	if !l.stopped() {
		l.warn(ctx)
		l.apply(ctx)
	}
	l.heal(ctx, w.objects)
	l.restore(ctx)
	l.announce(ctx)
	l.report(ctx)
	l.writeObjects(ctx)
	l.writeSource(ctx)
	l.rest()
	l.clean()
	l.sweep()
}

// stopped: main must not be followed.
func (l *loop) stopped() bool {
	return l.main.Hash.IsZero() || l.failed != nil && l.failed.stop
}

// finishLook notes how a look at the repository went and when the next is due.
func (l *loop) finishLook(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	now := l.now()
	l.syncAt = now.Add(l.interval())
	if err == nil {
		l.failed = nil
		l.syncRetry.succeeded()
		return
	}
	passes.WithLabelValues(l.key.String(), "failed").Inc()
	l.suspect(err)
	f := explain(err, l.source)
	if l.failed == nil || l.failed.message != f.message {
		l.log.Error(err, "cannot follow the repository", "reason", f.reason)
	}
	l.failed = &f
	if f.stalled {
		l.syncRetry.succeeded() // people must act: the interval is often enough
		if f.secret {
			l.healSecret(now)
		}
		return
	}
	l.syncRetry.failed(now)
	l.syncAt = l.syncRetry.at
}

// mayPush is when the next push is allowed; zero is now.
func (l *loop) mayPush() time.Time {
	least := l.source.Spec.MinPushInterval
	if least == nil || l.pushed.IsZero() {
		return time.Time{}
	}
	if at := l.pushed.Add(least.Duration); l.now().Before(at) {
		return at
	}
	return time.Time{}
}

// pause waits a little before a lost race is run again.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(time.Duration(1+rand.IntN(20*(attempt+1))) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// strange reports whether a branch is that of a tenant that is not the loop's any
// more.
func (l *loop) strange(ref string) bool {
	for _, prefix := range []string{repo.IntentRef(""), repo.StatusRef(""), repo.ReviewRef("")} {
		if name, ok := strings.CutPrefix(ref, prefix); ok {
			return l.tenants[name] == nil
		}
	}
	return false
}

// clean forgets objects of the repository that nothing refers to any more, when
// the store has doubled.
func (l *loop) clean() {
	if l.store.Stats().Objects < 2*l.kept+1000 {
		return
	}
	tips := append(l.apart.tips(), l.main.Hash, l.base.commit.Hash, l.truth.followed, l.truth.shadow)
	for ref, h := range l.refs {
		if l.strange(ref) {
			delete(l.refs, ref)
			continue
		}
		tips = append(tips, h)
	}
	for _, t := range l.tenants {
		tips = append(tips, t.applied.root)
		if t.link == nil {
			tips = append(tips, t.status.tip)
		}
		tips = append(tips, t.review.tips()...)
	}
	l.store.Retain(tips...)
	l.kept = l.store.Stats().Objects
}
