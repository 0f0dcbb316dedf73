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
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/gitsync/git"
)

// Reasons of problems with a forge.
const (
	reasonForgeUnauthorized = "ForgeUnauthorized"
	reasonForgeNotFound     = "ForgeNotFound"
	reasonForgeInvalid      = "ForgeInvalid"
	reasonForgeUnavailable  = "ForgeUnavailable"
)

// How often a forge is asked. Changes go first; what is left of the rate is for
// looking whether people closed something.
const (
	forgeEvery     = time.Second
	forgeBurst     = 10
	watchEvery     = 6 // times the interval, where nothing waits for people
	forgeFirst     = time.Second
	forgeLast      = 5 * time.Minute
	forgePatience  = time.Minute // of all calls for one tenant together
	forgeQuickLook = 100 * time.Millisecond
)

// pull is a pull request as far as a step depends on it.
type pull struct {
	number    int64
	state     forge.State
	head, url string
	asked     int // the question that this answers
}

// stance is what the hub wants of a pull request.
type stance int

const (
	shut  stance = iota // none is open
	watch               // people may open it again
	open                // one is open and says what the branch changes
)

// wish is what the hub wants of a tenant's pull request.
type wish struct {
	stance stance
	text   text
	// heads are the commits of the branch that are not decided: a pull request that
	// was closed or merged with one of them is for the loop to judge.
	heads string
	// decided is the number of the newest pull request that was judged already.
	decided int64
	// fresh and opened are those of [reviewing].
	fresh  bool
	opened int64
}

type text struct{ title, body string }

// isIn reports whether a pull request has a text already. The forge may have
// changed its bytes, so it is known by its mark.
func (t text) isIn(pr forge.PullRequest) bool { return strings.Contains(pr.Body, t.mark()) }

// mark identifies a text in its body.
func (t text) mark() string {
	return t.body[max(strings.LastIndex(t.body, markStart), 0):]
}

const markStart = "<!-- kubelb "

// waits reports whether a pull request that is not open is for the loop to judge.
func (w wish) waits(pr forge.PullRequest) bool {
	return pr.Number > w.decided && (!w.fresh || pr.Number == w.opened) && pr.HeadCommit != "" && strings.Contains(w.heads, " "+pr.HeadCommit+" ")
}

// desk keeps pull requests as the loop wants them, in a goroutine of its own: no
// forge keeps the loop waiting. It can be lost at any time, because the forge
// knows what there is.
type desk struct {
	told func(tenant string, a answer)
	log  func(err error, tenant string)

	wake  chan struct{}
	limit *rate.Limiter

	mu      sync.Mutex
	forge   forge.Forge   // nil: there is none
	base    string        // branch that is proposed to
	every   time.Duration // how often to look without reason
	files   map[string]*file
	counter int
}

// file is what the desk has of one tenant.
type file struct {
	wish
	base  string // set while it is worked on
	asked int
	dirty bool // the wish is not fulfilled yet
	next  time.Time
	delay time.Duration // after a failure
}

// answer is what the desk found out.
type answer struct {
	pull    pull
	problem *v1alpha1.Problem
}

func newDesk(told func(string, answer), log func(error, string)) *desk {
	return &desk{
		told: told, log: log, wake: make(chan struct{}, 1),
		limit: rate.NewLimiter(rate.Every(forgeEvery), forgeBurst), files: map[string]*file{},
	}
}

func (d *desk) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// use takes another forge, nil for none.
func (d *desk) use(base string, every time.Duration, f forge.Forge) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forge, d.base, d.every = f, base, every
	for _, file := range d.files {
		file.dirty, file.next, file.delay = true, time.Time{}, 0
	}
	d.signal()
}

// want notes what is wanted of a tenant's pull request.
func (d *desk) want(tenant string, w wish) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[tenant]
	if f == nil {
		f = &file{wish: w}
		d.files[tenant] = f
	} else if f.wish == w {
		return
	}
	f.wish, f.dirty, f.next, f.delay = w, true, time.Time{}, 0
	d.signal()
}

// ask has a tenant's pull request looked at, and returns the number that the
// answer will bear, or a higher one.
func (d *desk) ask(tenant string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counter++
	f := d.files[tenant]
	if f == nil {
		f = &file{wish: wish{stance: watch}}
		d.files[tenant] = f
	}
	f.asked, f.next = d.counter, time.Time{}
	d.signal()
	return d.counter
}

// look has every pull request looked at soon: there may be news.
func (d *desk) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		if f.delay == 0 {
			f.next = time.Time{}
		}
	}
	d.signal()
}

// forget drops a tenant.
func (d *desk) forget(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, tenant)
}

// run works until the context ends.
func (d *desk) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if _, _, client, wait := d.next(time.Now()); client == nil {
			timer.Reset(wait)
		} else if d.limit.Wait(ctx) == nil {
			if tenant, f, client, _ := d.next(time.Now()); client != nil { // it may have changed
				d.serve(ctx, client, tenant, f)
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// next returns what is most urgent, or how long nothing is due.
func (d *desk) next(now time.Time) (tenant string, f file, client forge.Forge, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait = time.Hour
	if d.forge == nil {
		return "", file{}, nil, wait
	}
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		candidate := d.files[name]
		switch at := candidate.next.Sub(now); {
		case at > 0:
			wait = min(wait, at)
		case client == nil || candidate.dirty && !f.dirty || candidate.dirty == f.dirty && candidate.next.Before(f.next):
			tenant, f, client = name, *candidate, d.forge
			f.base = d.base
		}
	}
	return tenant, f, client, wait
}

// serve does what one tenant's wish needs and says what was found.
func (d *desk) serve(ctx context.Context, client forge.Forge, tenant string, f file) {
	calls, cancel := context.WithTimeout(ctx, forgePatience)
	defer cancel()
	found, err := fulfil(calls, client, shortReview(tenant), f)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	d.mu.Lock()
	current := d.files[tenant]
	if current == nil || d.forge != client {
		d.mu.Unlock()
		return // nobody wants it any more
	}
	same := current.wish == f.wish
	switch {
	case err != nil:
		current.delay = min(max(2*current.delay, forgeFirst), forgeLast)
		current.next = now.Add(current.delay)
	case same && f.stance == shut && current.asked == f.asked:
		delete(d.files, tenant)
	case same:
		every := max(d.every, time.Duration(len(d.files))*forgeEvery)
		if f.stance == watch {
			every *= watchEvery
		}
		if found.state == forge.Open {
			current.opened = max(current.opened, found.number)
		}
		current.dirty, current.delay, current.next = false, 0, now.Add(max(every, forgeQuickLook))
		if current.asked != f.asked {
			current.next = now
		}
	}
	d.mu.Unlock()
	if err != nil {
		forgeCalls.WithLabelValues("failed").Inc()
		d.log(err, tenant)
		d.told(tenant, answer{problem: forgeProblem(tenant, err)})
		return
	}
	found.asked = f.asked
	forgeCalls.WithLabelValues("done").Inc()
	d.told(tenant, answer{pull: found})
}

// fulfil looks at the newest pull request and makes it what it should be.
func fulfil(ctx context.Context, client forge.Forge, head string, f file) (pull, error) {
	w := f.wish
	pr, ok, err := client.Newest(ctx, head, f.base)
	if err != nil {
		return pull{}, fmt.Errorf("look for the pull request of %s: %w", head, err)
	}
	if ok {
		if err := plausible(pr); err != nil {
			return pull{}, fmt.Errorf("look for the pull request of %s: %w", head, err)
		}
	}
	opened := ok && pr.State == forge.Open
	switch {
	case w.stance == shut && opened:
		if err := client.Close(ctx, pr.Number); err != nil {
			return pull{}, fmt.Errorf("close pull request %d of %s: %w", pr.Number, head, err)
		}
		pr.State = forge.Closed
	case w.stance == open && opened && !w.text.isIn(pr):
		if pr, err = client.Update(ctx, pr.Number, w.text.title, w.text.body); err != nil {
			return pull{}, fmt.Errorf("update the pull request of %s: %w", head, err)
		}
	case w.stance == open && !opened && (!ok || !w.waits(pr)):
		pr, err = client.Create(ctx, forge.Proposal{Head: head, Base: f.base, Title: w.text.title, Body: w.text.body})
		if err != nil {
			return pull{}, fmt.Errorf("open a pull request of %s: %w", head, err)
		}
		ok = true
	}
	if !ok {
		return pull{}, nil
	}
	if err := plausible(pr); err != nil {
		return pull{}, fmt.Errorf("the pull request of %s: %w", head, err)
	}
	return pull{number: pr.Number, state: pr.State, head: pr.HeadCommit, url: v1alpha1.Printable(pr.URL, maxPullURL)}, nil
}

// maxPull is the highest number of a pull request that is believed: base/main
// remembers the highest that was judged. maxPullURL bounds its address, in bytes.
const (
	maxPull    = 1 << 53
	maxPullURL = 1024
)

// plausible refuses an answer of a forge that would be recorded and cannot be.
func plausible(pr forge.PullRequest) error {
	if pr.Number < 1 || pr.Number > maxPull {
		return fmt.Errorf("%w: it answers with the number %d", forge.ErrInvalid, pr.Number)
	}
	if _, err := git.ParseHash(pr.HeadCommit); err != nil && pr.HeadCommit != "" {
		return fmt.Errorf("%w: it answers with the commit %q", forge.ErrInvalid, v1alpha1.Printable(pr.HeadCommit, 80))
	}
	return nil
}

func shortReview(tenant string) string { return repo.ReviewRef(tenant)[len(repo.RefPrefix):] }

// forgeProblem says why a tenant has no pull request. Its review branch is there.
func forgeProblem(tenant string, err error) *v1alpha1.Problem {
	reason, remedy := reasonForgeUnavailable, "none is needed: it is tried again; if it stays, look at the forge. The review branch can be merged without a pull request"
	switch {
	case errors.Is(err, forge.ErrUnauthorized):
		reason, remedy = reasonForgeUnauthorized, "put a token that may read and write pull requests into the Secret of spec.forge.secretRef"
	case errors.Is(err, forge.ErrNotFound):
		reason, remedy = reasonForgeNotFound, "correct spec.forge of the GitSource, or let the token's user see the repository"
	case errors.Is(err, forge.ErrInvalid):
		reason, remedy = reasonForgeInvalid, "see what the forge says; the review branch can be merged without a pull request"
	}
	return &v1alpha1.Problem{
		Path: repo.TenantDir(tenant), Object: v1alpha1.KindTenant + " " + tenant, Field: "spec.git.review",
		Reason: reason, Message: v1alpha1.Printable(err.Error(), v1alpha1.MaxMessage), Remedy: remedy,
	}
}

// heads are the commits of a branch that are not decided.
func heads(b branch, decided int64) string {
	out := " "
	for i, c := range b.commits {
		if b.newest(i, decided) == nil {
			break
		}
		out += c.Hash.String() + " "
	}
	return out
}
