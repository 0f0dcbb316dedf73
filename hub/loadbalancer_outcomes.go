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

package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/v1alpha1"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// mostPatience is how often [Options.Patience] a status says at most what was
// true before, while other load balancers' answers come in.
const mostPatience = 15

// A proxy that connected is given joinPatience times [Options.Patience], and the
// balancersPerPatience-th part of it for every load balancer that it has to take.
const (
	joinPatience         = 5
	balancersPerPatience = 200
)

// outcome is what the last reconciliation of a load balancer came to. It is kept
// until proxies have answered and the status says what they said.
type outcome struct {
	observation
	uid        types.UID
	generation int64
	// since is when proxies were first known not to serve it.
	since time.Time
	// told: the status has said before whether it is ready.
	told bool
	// news: proxies said something that was not looked at yet.
	news bool
}

// outcomes are those that statuses do not say yet.
type outcomes struct {
	mu sync.Mutex
	of map[types.NamespacedName]*outcome
	// took is when proxies last took what they were sent, joined when their number
	// last rose.
	took, joined time.Time
	proxies      int
}

func newOutcomes() *outcomes { return &outcomes{of: map[types.NamespacedName]*outcome{}} }

// put replaces an owner's outcome. What proxies owe an answer to already they
// owe since then.
func (s *outcomes) put(lb *v1alpha1.LoadBalancer, o observation, now time.Time) {
	owner := client.ObjectKeyFromObject(lb)
	next := &outcome{
		observation: o, uid: lb.UID, generation: lb.Generation, since: now,
		told: apimeta.FindStatusCondition(lb.Status.Conditions, meta.ReadyCondition) != nil,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.of[owner]; before != nil && before.hash == o.hash {
		next.since = before.since
	}
	s.of[owner] = next
}

// take returns an owner's outcome, or nil if the status says it already.
func (s *outcomes) take(owner types.NamespacedName) *outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of[owner]
	if o != nil {
		o.news = false
	}
	return o
}

// settle forgets an outcome that the status says, unless there is something newer.
func (s *outcomes) settle(owner types.NamespacedName, o *outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[owner] == o && !o.news {
		delete(s.of, owner)
	}
}

func (s *outcomes) drop(owner types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, owner)
}

// heard notes news of proxies about an owner; false if nothing is known that it
// could be compared with.
func (s *outcomes) heard(owner types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of[owner]
	if o != nil {
		o.news = true
	}
	return o != nil
}

// asked reports whether proxies owe an answer to an owner's last build.
func (s *outcomes) asked(owner types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of[owner]
	return o != nil && o.hash != ""
}

// due is when an answer that has not come is told as such: after some patience
// with a proxy that says nothing, and more with one that has just connected and
// takes everything.
func (s *outcomes) due(o *outcome, proxies int, opened, now time.Time, patience time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proxies > s.proxies {
		s.joined = now
	}
	s.proxies = proxies
	begin := latest(o.since, opened)
	due := latest(begin, s.took).Add(patience)
	if o.told {
		join := joinPatience*patience + time.Duration(len(s.of))*patience/balancersPerPatience
		due = latest(due, opened.Add(join))
		if proxies > 0 {
			due = latest(due, s.joined.Add(join))
		}
	}
	if limit := begin.Add(mostPatience * patience); due.After(limit) {
		return limit
	}
	return due
}

func latest(first time.Time, more ...time.Time) time.Time {
	for _, t := range more {
		if t.After(first) {
			first = t
		}
	}
	return first
}

// tookSomething notes that proxies answer.
func (s *outcomes) tookSomething(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = now
}

// statuses writes what became of load balancers, apart from whoever publishes
// them: one write for all that a change brings, once proxies have answered.
type statuses struct{ *loadBalancers }

// Reconcile is part of reconcile.Reconciler.
func (r statuses) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	owner := request.NamespacedName
	o := r.outcomes.take(owner)
	if !r.leader.held.Load() {
		return reconcile.Result{}, nil
	}
	if o == nil {
		return reconcile.Result{RequeueAfter: r.served(owner, observation{})}, nil
	}
	now := r.now()
	seen := o.observation // the outcome itself is others' to read
	if seen.hash != "" {
		seen.verdict, _ = r.Publisher.Verdict(globalGroup, owner.String())
	}
	answered := seen.hash == "" || seen.programmed() || len(seen.rejections()) > 0
	if !answered {
		opened := r.opening.opened()
		if opened.IsZero() && o.told {
			return reconcile.Result{}, nil // the opening brings it up again
		}
		if due := r.outcomes.due(o, r.Publisher.Proxies(globalGroup), opened, now, r.Patience); due.After(now) {
			return reconcile.Result{RequeueAfter: due.Sub(now)}, nil
		}
	}
	lb := &v1alpha1.LoadBalancer{}
	if err := r.client.Get(ctx, owner, lb); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if lb.UID != o.uid || lb.Generation != o.generation || !lb.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil // it is being reconciled
	}
	if seen.programmed() {
		r.outcomes.tookSomething(now)
		if r.book.newlyAcked(owner, seen.hash) {
			log.FromContext(ctx).Info("stage", "stage", "acked", "part", seen.hash)
		}
		seen.unreachable = r.reach(ctx, lb, seen)
	}
	if err := r.write(ctx, lb, seen); err != nil {
		return reconcile.Result{}, fmt.Errorf("LoadBalancer %s: %w", owner, err)
	}
	if seen.unreachable != nil {
		return reconcile.Result{RequeueAfter: retryReach}, nil //nolint:nilerr // the status says it
	}
	if answered {
		r.outcomes.settle(owner, o)
	}
	return reconcile.Result{RequeueAfter: r.served(owner, seen)}, nil
}

// givesUp reports whether a load balancer loses an address that its status has.
func givesUp(lb *v1alpha1.LoadBalancer, o observation) bool {
	return slices.ContainsFunc(lb.Status.Addresses, func(a string) bool { return !slices.Contains(formatAddresses(o.assigned), a) })
}
