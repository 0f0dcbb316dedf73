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
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// askAll is from how many tenants on a link lists all intent and status branches
// rather than its own.
const askAll = 50

// link follows an intent source: a repository with intent and status branches of
// tenants whose main branch is in the loop's own. It runs beside the loop, so
// that a server that does not answer delays only the tenants that meet there.
// The loop never waits for it: they hand things over under mu.
type link struct {
	key    client.ObjectKey
	client client.Client
	live   client.Reader
	log    logr.Logger
	now    func() time.Time
	inbox  *inbox // of the loop
	wake   chan struct{}
	stop   context.CancelFunc
	store  *git.Store
	// barred is why the source must not be followed, whatever it says; nil if it may.
	barred *failure

	// use is held while the store is worked with: whoever sweeps it needs it.
	use sync.Mutex

	mu    sync.Mutex
	wants map[string]want
	news  bool // somebody says that there is some
	state linkState
	out   []git.RefUpdate // to be pushed; empty: nothing is

	// Of the running goroutine alone.
	source      *v1alpha1.GitSource
	remote      *git.Remote
	credentials string
	readAt      time.Time // when the credentials are read again
	askAgain    time.Time // when refused credentials are tried again as they are
	retry       retry
	apart       *apart

	// Of the loop alone.
	view   linkState
	flying []*news // what out is made of
	kept   int     // objects in the store after it was swept last
}

// want is what a link has to know of a tenant: the commit of its intents that was
// integrated last. Before that is read, only its status branch is fetched, because
// intents are of use only with the history since then.
type want struct {
	last string // empty: none was integrated
	read bool
}

// linkState is what a link tells its loop.
type linkState struct {
	looked bool
	refs   map[string]git.Hash // all fetched
	// unfetched says why the tips of branches could not be fetched.
	unfetched map[string]string
	failed    *failure
	pushed    time.Time
	least     time.Duration // between two pushes
	results   []git.RefResult
	outcome   error // of the push; the results say more, if there are any
	done      bool  // results and outcome are there
}

func newLink(ctx context.Context, l *loop, key client.ObjectKey) *link {
	ctx, stop := context.WithCancel(ctx)
	k := &link{
		key: key, client: l.client, live: l.live, log: l.log.WithValues("intentSource", key.String()), now: l.now,
		inbox: l.inbox, wake: make(chan struct{}, 1), stop: stop, store: git.NewStore(), wants: map[string]want{},
	}
	k.apart = newApart(l.now, k.called, l.helpers.Go)
	if !l.options.follows(key.Namespace) {
		k.barred = l.options.notFollowed(key.Namespace)
	}
	l.made(key, k.store)
	l.helpers.Go(func() { k.run(ctx) })
	return k
}

// called says that there is news in the repository.
func (k *link) called() {
	k.mu.Lock()
	k.news = true
	k.mu.Unlock()
	k.poke()
}

// poke makes the link look at its repository.
func (k *link) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *link) run(ctx context.Context) {
	defer func() {
		if k.remote != nil {
			k.remote.Close()
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(k.turn(ctx))
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
	}
}

// turn pushes what there is to push and looks at the refs. It returns when the
// next turn is due.
func (k *link) turn(ctx context.Context) time.Duration {
	k.use.Lock()
	defer k.use.Unlock()
	err := k.connect(ctx)
	if err == nil {
		err = k.push(ctx)
	}
	if err == nil {
		err = k.look(ctx)
	}
	if ctx.Err() != nil {
		return 0
	}
	var f *failure
	if err != nil {
		f = new(explain(err, k.sourceOrNone()))
	}
	k.mu.Lock()
	news := (f == nil) != (k.state.failed == nil) || f != nil && f.message != k.state.failed.message
	if news || f == nil {
		k.state.failed = f
	}
	if f != nil && len(k.out) > 0 { // it was not pushed, or nobody knows
		k.out, k.state.results, k.state.outcome, k.state.done, news = nil, nil, err, true, true
	}
	k.mu.Unlock()
	if news {
		if err != nil {
			k.log.Error(err, "cannot follow the intent source", "reason", f.reason)
		}
		k.inbox.wakeUp()
	}
	if f == nil || f.stalled {
		k.retry.succeeded()
		return k.pace(f)
	}
	k.retry.failed(k.now())
	return k.retry.delay
}

// pace is when the next turn is due without news. Secrets that can heal a failure
// are read again soon; with the same credentials the server is asked only after
// the interval.
func (k *link) pace(f *failure) time.Duration {
	interval := intervalOf(k.sourceOrNone())
	if f == nil || !f.secret {
		return interval
	}
	if now := k.now(); !now.Before(k.askAgain) {
		k.askAgain = now.Add(interval)
	}
	return min(interval, secretInterval)
}

func (k *link) sourceOrNone() *v1alpha1.GitSource {
	if k.source == nil {
		return &v1alpha1.GitSource{}
	}
	return k.source
}

// connect reads the GitSource and, from time to time, its credentials.
func (k *link) connect(ctx context.Context) error {
	if k.barred != nil {
		return k.barred
	}
	var source v1alpha1.GitSource
	if err := k.client.Get(ctx, k.key, &source); err != nil {
		if apierrors.IsNotFound(err) {
			return &failure{reason: v1alpha1.ReasonRepositoryInvalid, stalled: true,
				message: fmt.Sprintf("there is no GitSource %s, which spec.git.intentSourceRef names: create it, or correct the reference", k.key)}
		}
		return fmt.Errorf("get GitSource: %w", err)
	}
	if source.Spec.Suspend {
		return &failure{reason: v1alpha1.ReasonSuspended, stalled: true, message: fmt.Sprintf("GitSource %s, which holds the intents, is suspended", k.key)}
	}
	k.mu.Lock()
	failed := k.state.failed
	if k.news {
		k.news, k.askAgain = false, time.Time{}
	}
	k.state.least = 0
	if least := source.Spec.MinPushInterval; least != nil {
		k.state.least = least.Duration
	}
	k.mu.Unlock()
	if k.source != nil && k.source.Generation == source.Generation && failed == nil && k.remote != nil && k.now().Before(k.readAt) {
		return nil
	}
	k.source = &source
	if err := mistakesOf(&source).refused(); err != nil {
		return err
	}
	options, err := access(ctx, k.live, &source)
	if err != nil {
		return err
	}
	made := fingerprint(source.Spec.URL, options)
	k.readAt = k.now().Add(max(intervalOf(&source), time.Minute))
	if made == k.credentials {
		if failed != nil && failed.refused && k.now().Before(k.askAgain) {
			return failed
		}
		return nil
	}
	remote, err := git.NewRemote(source.Spec.URL, options)
	if err != nil {
		return unusable(err)
	}
	if k.remote != nil {
		k.remote.Close()
	}
	k.remote, k.credentials = remote, made
	return nil
}

// look lists the branches of its tenants and fetches those that moved.
func (k *link) look(ctx context.Context) error {
	k.mu.Lock()
	wants, before, looked, unfetchedBefore := maps.Clone(k.wants), k.state.refs, k.state.looked, k.state.unfetched
	k.mu.Unlock()
	prefixes := []string{repo.IntentRef(""), repo.StatusRef("")}
	if len(wants) < askAll {
		prefixes = nil
		for name := range wants {
			prefixes = append(prefixes, repo.IntentRef(name), repo.StatusRef(name))
		}
	}
	if len(prefixes) == 0 {
		return nil
	}
	theirs := func(ref string) bool {
		name, ok := strings.CutPrefix(ref, repo.IntentRef(""))
		if !ok {
			name, ok = strings.CutPrefix(ref, repo.StatusRef(""))
		}
		_, wanted := wants[name]
		return ok && wanted
	}
	listed, err := k.remote.ListRefsOf(ctx, theirs, prefixes...)
	if err != nil {
		return err
	}
	refs := map[string]git.Hash{}
	moved := map[string]git.Want{}
	for name, w := range wants {
		for _, ref := range []string{repo.IntentRef(name), repo.StatusRef(name)} {
			if !w.read && ref == repo.IntentRef(name) {
				continue
			}
			tip := listed[ref]
			if refs[ref] = tip; !tip.IsZero() && tip != before[ref] {
				moved[ref] = git.Want{Tip: tip, Have: before[ref]}
			}
		}
	}
	if err := k.apart.fetch(ctx, k.remote, k.store, nil, moved, refs); err != nil {
		return err
	}
	for ref, tip := range refs {
		refs[ref] = k.apart.tip(ref, tip, before[ref])
	}
	unfetched := k.apart.failures()
	for name, w := range wants {
		ref := repo.IntentRef(name)
		tip := refs[ref]
		if tip.IsZero() || tip == before[ref] || unfetched[ref] != "" {
			continue
		}
		if err := reachBack(ctx, k.remote, k.store, tip, w.last); err != nil && !git.OfContent(err) {
			return err
		}
	}
	if looked && maps.Equal(refs, before) && maps.Equal(unfetched, unfetchedBefore) {
		return nil
	}
	k.mu.Lock()
	k.state.refs, k.state.looked, k.state.unfetched = refs, true, unfetched
	k.mu.Unlock()
	k.inbox.wakeUp()
	return nil
}

// reachBack loads history behind a tip until the commit last is in it, or as far
// as is looked for it.
func reachBack(ctx context.Context, remote *git.Remote, store *git.Store, tip git.Hash, last string) error {
	for _, depth := range []int{100, maxHistory} {
		if last == "" || reaches(store, tip, last) {
			return nil
		}
		if err := remote.Deepen(ctx, store, tip, depth); err != nil {
			return err
		}
	}
	return nil
}

// reaches reports whether the commit last is among a tip's first parents, or is
// known not to be.
func reaches(store *git.Store, tip git.Hash, last string) bool {
	for c, err := range store.FirstParents(tip) {
		if err != nil {
			return !errors.Is(err, git.ErrMissing)
		}
		if c.Hash.String() == last {
			return true
		}
	}
	return true
}

// push sends what the loop handed over.
func (k *link) push(ctx context.Context) error {
	k.mu.Lock()
	out := k.out
	k.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	results, err := k.remote.Push(ctx, k.store, out, false)
	k.mu.Lock()
	k.out = nil
	k.state.results, k.state.outcome, k.state.done = results, err, true
	if len(results) == len(out) {
		k.state.pushed = k.now()
		refs := maps.Clone(k.state.refs)
		for i, update := range out {
			if results[i].Err == nil {
				refs[update.Name] = update.New
			}
		}
		k.state.refs = refs
	}
	k.mu.Unlock()
	k.inbox.wakeUp()
	if errors.Is(err, git.ErrRejected) {
		return nil // per ref; the loop says so
	}
	return err
}
