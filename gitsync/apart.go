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
	"maps"
	"sync"
	"time"

	"github.com/kubelb/gitops/gitsync/git"
)

// probation is how long a branch that could not be fetched is fetched by itself,
// counted from its last failure.
const probation = 10 * time.Minute

// apart fetches the branches of many writers so that what one of them wrote
// keeps nobody else waiting: those whose commits made a fetch of all branches
// fail are fetched by themselves from then on, one after the other, beside
// whoever follows the repository.
type apart struct {
	now  func() time.Time
	wake func() // has the follower look again
	// run starts a goroutine that ends with the follower.
	run func(func())

	mu       sync.Mutex
	branches map[string]*lone
	running  bool
	// doubtful are tips that a fetch brought none of, which may be the server's
	// fault once.
	doubtful map[git.Hash]bool
}

// lone is a branch that is fetched by itself.
type lone struct {
	tip  git.Hash // that the server has
	have git.Hash // the last one that was fetched, if any
	// settled: the fetch of tip has an outcome, which is err.
	settled bool
	err     error
	failed  time.Time // when a fetch failed last
	retry   retry
}

func newApart(now func() time.Time, wake func(), run func(func())) *apart {
	return &apart{now: now, wake: wake, run: run, branches: map[string]*lone{}}
}

// fetch brings the needed wants into the store, and of the moved branches those
// that are not fetched by themselves. Listed is what the server has of all
// branches that are followed.
func (a *apart) fetch(ctx context.Context, remote *git.Remote, store *git.Store, needed []git.Want, moved map[string]git.Want, listed map[string]git.Hash) error {
	a.mu.Lock()
	var others []git.Want
	for ref, want := range moved {
		if b := a.branches[ref]; b == nil {
			others = append(others, want)
		} else if b.tip != want.Tip {
			b.tip, b.settled, b.retry = want.Tip, false, retry{}
			if store.Has(want.Tip) {
				b.settle(a.now(), nil)
			}
		}
	}
	for ref, b := range a.branches {
		if listed[ref].IsZero() || b.settled && b.err == nil && a.now().Sub(b.failed) > probation {
			delete(a.branches, ref)
		}
	}
	a.mu.Unlock()
	failed, err := remote.FetchEach(ctx, store, needed, others)
	if err != nil {
		if len(needed) > 0 || !a.doubt(others) || ctx.Err() != nil {
			return err
		}
		failed = map[git.Hash]error{} // the server answers, and fails again for the same commits
		for _, want := range others {
			failed[want.Tip] = err
		}
	}
	a.mu.Lock()
	if err == nil {
		a.doubtful = nil
	}
	for ref, want := range moved {
		if err := failed[want.Tip]; err != nil && a.branches[ref] == nil {
			a.branches[ref] = &lone{tip: want.Tip, have: want.Have}
			a.branches[ref].settle(a.now(), err)
		}
	}
	a.mu.Unlock()
	a.start(ctx, remote, store)
	return nil
}

// doubt notes that none of some wants was fetched. It reports whether that was so
// for each of them before.
func (a *apart) doubt(wants []git.Want) (again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	again = true
	now := map[git.Hash]bool{}
	for _, w := range wants {
		again = again && a.doubtful[w.Tip]
		now[w.Tip] = true
	}
	a.doubtful = now
	return again
}

func (b *lone) settle(now time.Time, err error) {
	b.settled, b.err = true, err
	if err == nil {
		b.have, b.retry = b.tip, retry{}
		return
	}
	b.failed = now
	b.retry.failed(now)
}

// start fetches what is due, unless that is going on already.
func (a *apart) start(ctx context.Context, remote *git.Remote, store *git.Store) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, b := a.next(); b == nil || a.running {
		return
	}
	a.running = true
	a.run(func() {
		for {
			a.mu.Lock()
			ref, b := a.next()
			if b == nil || ctx.Err() != nil {
				a.running = false
				a.mu.Unlock()
				return
			}
			want := git.Want{Tip: b.tip, Have: b.have}
			a.mu.Unlock()
			err := remote.Fetch(ctx, store, want)
			a.mu.Lock()
			if b := a.branches[ref]; b != nil && b.tip == want.Tip {
				b.settle(a.now(), err)
			}
			a.mu.Unlock()
			a.wake()
		}
	})
}

// next is a branch whose fetch is due: the one that has not failed for longest.
func (a *apart) next() (ref string, next *lone) {
	for name, b := range a.branches {
		if b.settled && !b.retry.due(a.now()) {
			continue
		}
		if next == nil || b.failed.Before(next.failed) || b.failed.Equal(next.failed) && name < ref {
			ref, next = name, b
		}
	}
	return ref, next
}

// tip is which commit of a branch counts as the one that the server has: listed,
// or as long as it is not known whether that can be fetched, the one known
// before.
func (a *apart) tip(ref string, listed, known git.Hash) git.Hash {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.branches[ref]; b != nil && b.tip == listed && !b.settled {
		return known
	}
	return listed
}

// failures say why branches could not be fetched whose tips are known.
func (a *apart) failures() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	why := map[string]string{}
	for ref, b := range a.branches {
		if b.err != nil {
			why[ref] = b.err.Error()
		}
	}
	return why
}

// tips are the commits that a fetch may count on.
func (a *apart) tips() (tips []git.Hash) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for b := range maps.Values(a.branches) {
		tips = append(tips, b.tip, b.have)
	}
	return tips
}
