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
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// startPoll is how often a starting hub looks whether it may go on.
	startPoll = 50 * time.Millisecond
	// startRetry is when it tries again what failed.
	startRetry = time.Second
)

// starter brings a hub from nothing to an open proxy group, once. It runs on
// every replica, when caches are synced.
type starter struct{ *hub }

// NeedLeaderElection is part of manager.LeaderElectionRunnable.
func (s starter) NeedLeaderElection() bool { return false }

// Start is part of manager.Runnable.
func (s starter) Start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.load, s.waitForTenants, s.waitForParts} {
		if !untilDone(ctx, step) {
			return nil
		}
	}
	s.Publisher.Open(globalGroup)
	s.opening.done(s.now())
	log.FromContext(ctx).Info("proxy group opened", "proxyGroup", globalGroup)
	return s.enqueueOpened(ctx)
}

// untilDone repeats a step until it succeeds, and returns false if the context
// ends before.
func untilDone(ctx context.Context, step func(context.Context) error) bool {
	for {
		err := step(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "the hub cannot start yet", "retryAfter", startRetry.String())
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(startRetry):
		}
	}
}

// load reads the Config and who has which address. Nothing is reconciled before.
func (s starter) load(ctx context.Context) error {
	config, err := s.readConfig(ctx)
	if err != nil {
		return err
	}
	if problems := s.config.take(config); len(problems) == 0 {
		s.networks.change(&s.networks.config, parseNetworks(config.Spec.HubNetworks))
		if err := s.rebuildBook(ctx); err != nil {
			return err
		}
	}
	s.opening.loaded()
	return nil
}

// waitForTenants returns when all tenants are restored, or at least one is and
// the others had their time: one tenant's broken source must not stop the rest.
func (s starter) waitForTenants(ctx context.Context) error {
	deadline := s.now().Add(s.RestoreGrace)
	err := poll(ctx, startPoll, func() (bool, error) {
		var tenants v1alpha1.TenantList
		if err := s.client.List(ctx, &tenants); err != nil {
			return false, fmt.Errorf("list Tenants: %w", err)
		}
		var all, restored int
		for i := range tenants.Items {
			if !tenants.Items[i].DeletionTimestamp.IsZero() {
				continue
			}
			all++
			state, err := s.tenantState(ctx, v1alpha1.TenantNamespace(tenants.Items[i].Name))
			if err != nil {
				return false, err
			}
			if isRestored(state) {
				restored++
			}
		}
		return restored == all || restored > 0 && s.now().After(deadline), nil
	})
	if err == nil {
		s.book.settleAll()
	}
	return err
}

// waitForParts has everything built that proxies may be serving, and returns
// when that is done.
func (s starter) waitForParts(ctx context.Context) error {
	var list v1alpha1.LoadBalancerList
	if err := s.live.List(ctx, &list); err != nil { // the cache may not have the restored addresses yet
		return fmt.Errorf("list LoadBalancers: %w", err)
	}
	owners := map[types.NamespacedName]bool{}
	for i := range list.Items {
		if lb := &list.Items[i]; len(lb.Status.Addresses) > 0 && lb.DeletionTimestamp.IsZero() {
			owners[client.ObjectKeyFromObject(lb)] = true
		}
	}
	all := slices.Collect(maps.Keys(owners))
	s.opening.await(owners)
	s.wake(all)
	return poll(ctx, startPoll, func() (bool, error) { return s.opening.nothingAwaited(), nil })
}

// poll asks until the answer is yes, an error, or the context ends, which is one.
func poll(ctx context.Context, interval time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// opening knows how far a starting hub is.
type opening struct {
	ready chan struct{} // closed when the Config and the book are loaded

	mu       sync.Mutex
	awaited  map[types.NamespacedName]bool
	openedAt time.Time
}

func newOpening() *opening { return &opening{ready: make(chan struct{})} }

func (o *opening) loaded() { close(o.ready) }

func (o *opening) await(owners map[types.NamespacedName]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.awaited = owners
}

// built says that an owner's part was published, or that it has none.
func (o *opening) built(owner types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.awaited, owner)
}

func (o *opening) nothingAwaited() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.awaited) == 0
}

func (o *opening) done(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.openedAt = now
}

// opened returns when the group was opened; zero means not yet.
func (o *opening) opened() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.openedAt
}

// leadership says whether this replica writes.
type leadership struct{ held atomic.Bool }

// queue feeds a controller from everywhere. What comes before the controller has
// started waits.
type queue struct {
	mu    sync.Mutex
	inner requests
	early []reconcile.Request
}

func (q *queue) add(owner types.NamespacedName) {
	request := reconcile.Request{NamespacedName: owner}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inner == nil {
		q.early = append(q.early, request)
		return
	}
	q.inner.Add(request)
}

// feed is a source.Func.
func (q *queue) feed(_ context.Context, inner requests) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, request := range q.early {
		inner.Add(request)
	}
	q.inner, q.early = inner, nil
	return nil
}

// enqueueAll has every load balancer reconciled.
func (h *hub) enqueueAll(ctx context.Context) error {
	return h.forEach(ctx, h.queue.add)
}

// enqueueOpened has those reconciled that waited for the hub to open. What proxies
// only have to answer is not built again.
func (h *hub) enqueueOpened(ctx context.Context) error {
	return h.forEach(ctx, func(owner types.NamespacedName) {
		if h.outcomes.asked(owner) {
			h.statusQueue.add(owner)
			return
		}
		h.queue.add(owner)
	})
}

func (h *hub) forEach(ctx context.Context, do func(types.NamespacedName)) error {
	var list v1alpha1.LoadBalancerList
	if err := h.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list LoadBalancers: %w", err)
	}
	for i := range list.Items {
		do(client.ObjectKeyFromObject(&list.Items[i]))
	}
	return nil
}

func isRestored(state *v1alpha1.TenantState) bool {
	return state != nil && apimeta.IsStatusConditionTrue(state.Status.Conditions, v1alpha1.ConditionRestored)
}

// tenantState returns the TenantState of a namespace, or nil.
func (h *hub) tenantState(ctx context.Context, namespace string) (*v1alpha1.TenantState, error) {
	return get(ctx, h.client, &v1alpha1.TenantState{}, types.NamespacedName{Namespace: namespace, Name: v1alpha1.DefaultName})
}

// proxies runs on the leader: it makes this replica the one that writes, and
// runs Envoy.
type proxies struct{ *hub }

// NeedLeaderElection is part of manager.LeaderElectionRunnable.
func (p proxies) NeedLeaderElection() bool { return true }

// Start is part of manager.Runnable.
func (p proxies) Start(ctx context.Context) error {
	select {
	case <-p.opening.ready:
	case <-ctx.Done():
		return nil
	}
	// What another leader has assigned since this replica started counts.
	if err := p.rebuildBook(ctx); err != nil {
		return err
	}
	p.leader.held.Store(true)
	if err := p.enqueueAll(ctx); err != nil {
		return err
	}
	if !p.config.waitValid(ctx) {
		return nil
	}
	return p.Infra.Run(ctx, globalGroup)
}

var (
	_ manager.LeaderElectionRunnable = starter{}
	_ manager.LeaderElectionRunnable = proxies{}
)
