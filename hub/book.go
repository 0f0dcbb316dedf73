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
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/xds/ir"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// How long and how often it is looked whether the cache has caught up.
const (
	cachePatience = 5 * time.Second
	cachePoll     = 5 * time.Millisecond
)

// book knows who has which address and how many listeners. It is made from
// stored objects and can be made again from them at any time.
type book struct {
	loading   sync.Mutex // held while a tenant is loaded
	mu        sync.Mutex
	allocator *assign.Allocator
	// owners with an address, by tenant namespace; limits count them.
	owners map[string]map[string]bool
	// waiting are owners that were refused something that others may give back.
	waiting map[types.NamespacedName]bool
	// restored are the tenants whose objects are all in the allocator.
	restored map[string]bool
	// unstored are owners whose addresses their statuses do not have yet, with the
	// ports that they asked for.
	unstored map[types.NamespacedName][]ir.Port
	// settled: tenants had their time to be restored. Nothing is assigned that was
	// not assigned before, until then.
	settled bool

	listeners map[types.NamespacedName]int
	total     int
	published map[types.NamespacedName]string // hashes, for as long as it is
	acked     map[types.NamespacedName]string
}

func newBook() *book {
	b := &book{listeners: map[types.NamespacedName]int{}, published: map[types.NamespacedName]string{}, acked: map[types.NamespacedName]string{}}
	allocator, _ := assign.New(nil)
	b.reset(allocator)
	return b
}

func (b *book) reset(allocator *assign.Allocator) {
	b.allocator = allocator
	b.owners = map[string]map[string]bool{}
	b.restored = map[string]bool{}
	if b.waiting == nil {
		b.waiting = map[types.NamespacedName]bool{}
		b.unstored = map[types.NamespacedName][]ir.Port{}
	}
}

// stored says that an owner's status has these addresses now.
func (b *book) stored(owner types.NamespacedName, addresses []netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(addresses, b.allocator.Assigned(assign.Owner{Tenant: owner.Namespace, Name: owner.Name})) {
		delete(b.unstored, owner)
	}
}

// claim asks for the addresses of a load balancer.
type claim struct {
	owner     types.NamespacedName
	stored    []netip.Addr // status.addresses
	requested []netip.Addr
	pools     []string
	ports     []ir.Port
	limit     int32 // of the tenant's load balancers; 0 means none
}

// assign returns the addresses of a load balancer, the ports that it must not
// serve on them, and why it does not get what it asks for.
func (b *book) assign(c claim) (addresses []netip.Addr, refused []ir.Port, problem *v1alpha1.Problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	owner := assign.Owner{Tenant: c.owner.Namespace, Name: c.owner.Name}
	has := b.allocator.Assigned(owner)
	if len(has) == 0 && len(c.stored) > 0 {
		b.allocator.Hold(owner, c.stored, c.ports)
		has = b.allocator.Assigned(owner)
	}
	switch {
	case len(has) > 0:
	case !b.settled:
		return nil, nil, &v1alpha1.Problem{
			Reason: v1alpha1.ReasonNotRestored, Message: "the hub has just started and waits until it knows every tenant's addresses",
		}
	case c.limit > 0 && len(b.owners[c.owner.Namespace]) >= int(c.limit):
		b.waiting[c.owner] = true
		return nil, nil, &v1alpha1.Problem{
			Field: "spec", Reason: v1alpha1.ReasonLimitExceeded, Message: fmt.Sprintf("the tenant has %d load balancers, as many as it may", c.limit),
			Remedy: "delete one that is not needed, or have the operator of the hub raise Tenant spec.limits.loadBalancers",
		}
	}
	addresses, problem = b.allocator.Assign(assign.Request{Owner: owner, Pools: c.pools, Requested: c.requested, Ports: c.ports})
	b.count(c.owner, len(addresses) > 0)
	delete(b.waiting, c.owner)
	delete(b.unstored, c.owner)
	if problem != nil {
		b.waiting[c.owner] = true
	}
	if len(addresses) > 0 && !slices.Equal(addresses, c.stored) {
		b.unstored[c.owner] = c.ports
	}
	return addresses, b.allocator.Refused(owner), problem
}

func (b *book) count(owner types.NamespacedName, has bool) {
	owners := b.owners[owner.Namespace]
	switch {
	case has && owners == nil:
		b.owners[owner.Namespace] = map[string]bool{owner.Name: true}
	case has:
		owners[owner.Name] = true
	default:
		delete(owners, owner.Name)
	}
}

// release ends what a load balancer has, keeps the addresses for one of its name
// if it is to, and returns the owners that may have been waiting for it. Without
// anything held it changes nothing.
func (b *book) release(owner types.NamespacedName, keep bool) []types.NamespacedName {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiting, owner)
	delete(b.unstored, owner)
	delete(b.acked, owner)
	delete(b.published, owner)
	b.total -= b.listeners[owner]
	delete(b.listeners, owner)
	key := assign.Owner{Tenant: owner.Namespace, Name: owner.Name}
	addresses := b.allocator.Assigned(key)
	if len(addresses) == 0 {
		return nil
	}
	b.allocator.Release(key)
	b.count(owner, false)
	if keep {
		b.allocator.Reserve(key, addresses)
	}
	return b.freed()
}

// expire ends a reservation and returns who may have been waiting for it.
func (b *book) expire(owner types.NamespacedName) []types.NamespacedName {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := assign.Owner{Tenant: owner.Namespace, Name: owner.Name}
	if len(b.allocator.Assigned(key)) > 0 {
		return nil
	}
	b.allocator.Release(key)
	return b.freed()
}

func (b *book) freed() []types.NamespacedName { return slices.Collect(maps.Keys(b.waiting)) }

// settleAll lets new addresses be assigned.
func (b *book) settleAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
}

// fit reserves room for an owner's listeners, at most limit for all.
func (b *book) fit(owner types.NamespacedName, listeners, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if total := b.total - b.listeners[owner] + listeners; total <= limit || listeners <= b.listeners[owner] {
		b.total, b.listeners[owner] = total, listeners
		return true
	}
	b.waiting[owner] = true
	return false
}

// isPublished reports whether what an owner has at the proxies has this hash;
// empty means nothing.
func (b *book) isPublished(owner types.NamespacedName, hash string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.published[owner]
	return ok && known == hash
}

// hasPublished reports whether proxies were given anything of an owner.
func (b *book) hasPublished(owner types.NamespacedName) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.published[owner] != ""
}

func (b *book) setPublished(owner types.NamespacedName, hash string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published[owner] = hash
}

// newlyAcked reports whether it is the first time that this hash is.
func (b *book) newlyAcked(owner types.NamespacedName, hash string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.acked[owner] == hash {
		return false
	}
	b.acked[owner] = hash
	return true
}

// rebuildBook makes the book anew from stored objects: when the hub starts, when
// it becomes the leader and when the pools change. What is not stored yet stays.
func (h *hub) rebuildBook(ctx context.Context) error {
	config := h.config.current()
	if config == nil {
		return nil
	}
	var states v1alpha1.TenantStateList
	if err := h.client.List(ctx, &states); err != nil {
		return fmt.Errorf("list TenantStates: %w", err)
	}
	// After the states: then it has all addresses of tenants that are restored, and
	// none of them has to be listed by itself.
	list, err := h.listLive(ctx)
	if err != nil {
		return err
	}
	allocator, _ := assign.New(config.Spec.AddressPools) // problems are the Config controller's
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	before := h.book.allocator
	h.book.reset(allocator)
	h.book.hold(list)
	for i := range states.Items {
		h.book.reserve(h.speaksOf(&states.Items[i]), &states.Items[i])
		if isRestored(&states.Items[i]) {
			h.book.restored[states.Items[i].Namespace] = true
		}
	}
	h.book.holdUnstored(before)
	return nil
}

// listLive lists load balancers from the API server, because the cache of them
// may be behind that of TenantStates, and returns when it has caught up.
func (h *hub) listLive(ctx context.Context, options ...client.ListOption) ([]v1alpha1.LoadBalancer, error) {
	var list v1alpha1.LoadBalancerList
	if err := h.live.List(ctx, &list, options...); err != nil {
		return nil, fmt.Errorf("list LoadBalancers: %w", err)
	}
	for i := range list.Items {
		if err := h.waitForCache(ctx, &list.Items[i]); err != nil {
			return nil, err
		}
	}
	return list.Items, nil
}

// loadTenant takes in what was restored of a tenant, once, whoever asks: its old
// addresses come before new ones. It returns true when the cache has what was
// restored and everything is to be read again.
func (h *hub) loadTenant(ctx context.Context, state *v1alpha1.TenantState) (loaded bool, err error) {
	if h.book.isRestored(state.Namespace) {
		return false, nil
	}
	h.book.loading.Lock()
	defer h.book.loading.Unlock()
	if h.book.isRestored(state.Namespace) {
		return true, nil
	}
	list, err := h.listLive(ctx, client.InNamespace(state.Namespace))
	if err != nil {
		return false, err
	}
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	h.book.hold(list)
	h.book.reserve(state.Namespace, state)
	h.book.restored[state.Namespace] = true
	return true, nil
}

// waitForCache returns when the cache has the addresses of a load balancer.
func (h *hub) waitForCache(ctx context.Context, live *v1alpha1.LoadBalancer) error {
	if len(live.Status.Addresses) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cachePatience)
	defer cancel()
	return poll(ctx, cachePoll, func() (bool, error) {
		cached, err := get(ctx, h.client, &v1alpha1.LoadBalancer{}, client.ObjectKeyFromObject(live))
		return cached == nil || len(cached.Status.Addresses) > 0, err
	})
}

func (b *book) isRestored(namespace string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.restored[namespace]
}

// hold, holdUnstored and reserve are called with mu held.
func (b *book) hold(list []v1alpha1.LoadBalancer) {
	for i := range list {
		lb := &list[i]
		if addresses := parseAddresses(lb.Status.Addresses); len(addresses) > 0 {
			b.allocator.Hold(assign.Owner{Tenant: lb.Namespace, Name: lb.Name}, addresses, assign.ParsePorts(lb.Status.Ports))
			b.count(client.ObjectKeyFromObject(lb), true)
		}
	}
}

// holdUnstored keeps what the book before had assigned and statuses do not have.
func (b *book) holdUnstored(before *assign.Allocator) {
	for owner, ports := range b.unstored {
		key := assign.Owner{Tenant: owner.Namespace, Name: owner.Name}
		if addresses := before.Assigned(key); len(addresses) > 0 && len(b.allocator.Assigned(key)) == 0 {
			b.allocator.Hold(key, addresses, ports)
			b.count(owner, true)
		}
	}
}

func (b *book) reserve(namespace string, state *v1alpha1.TenantState) {
	for _, r := range state.Status.Reservations {
		b.allocator.Reserve(assign.Owner{Tenant: namespace, Name: r.Name}, parseAddresses(r.Addresses))
	}
}

// parseAddresses leaves out what is not an address: the field is written by the
// hub and gitsync only.
func parseAddresses(texts []string) (out []netip.Addr) {
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			out = append(out, address.Unmap())
		}
	}
	return out
}

func formatAddresses(addresses []netip.Addr) []string {
	out := make([]string, 0, len(addresses))
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return out
}

func portsOf(lb *v1alpha1.LoadBalancer) (out []ir.Port) {
	for _, p := range lb.Spec.Ports {
		protocol := ir.Protocol(p.Protocol)
		if protocol == "" {
			protocol = ir.TCP
		}
		out = append(out, ir.Port{Number: uint16(p.Port), Protocol: protocol})
	}
	return out
}

// gracePeriod is how long an address is kept for a load balancer that is gone.
func gracePeriod(config *v1alpha1.Config) time.Duration {
	if config == nil || config.Spec.AddressGracePeriod == nil {
		return defaultAddressGracePeriod
	}
	return config.Spec.AddressGracePeriod.Duration
}
