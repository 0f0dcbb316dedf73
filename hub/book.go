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
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/xds/ir"

	"k8s.io/apimachinery/pkg/types"
)

// book knows who has which address and how many listeners. It is made from
// stored objects and can be made again from them at any time.
//
// At no time do two owners claim one port of an address. A claim begins when the
// port is assigned, and ends when it is not assigned any more, no stored status
// shows it and no proxy may serve it: a book that was made anew in between comes
// to the same answer.
type book struct {
	loading   sync.Mutex // held while a tenant is loaded
	mu        sync.Mutex
	allocator *assign.Allocator
	waiting   waiters
	// wake has owners looked at again that may get now what they wait for. It is
	// called with mu held.
	wake func([]types.NamespacedName)
	// judge has load balancers looked at again whose endpoints are among these
	// addresses. It is called with mu held.
	judge func([]netip.Addr)
	// restored are the tenants whose objects are all in the allocator.
	restored map[string]bool
	// settled: tenants had their time to be restored. Nothing is assigned that was
	// not assigned before, until then.
	settled bool

	listeners map[types.NamespacedName]int
	total     int
	published map[types.NamespacedName]string // hashes, for as long as it is
	acked     map[types.NamespacedName]string
	retired   map[types.NamespacedName]types.UID      // until a cache says that they are gone
	stored    map[types.NamespacedName][]assign.Claim // by statuses
	served    map[types.NamespacedName][]assign.Claim // by proxies, as far as is known
}

func newBook() *book {
	b := &book{
		listeners: map[types.NamespacedName]int{}, published: map[types.NamespacedName]string{}, acked: map[types.NamespacedName]string{},
		retired: map[types.NamespacedName]types.UID{},
		stored:  map[types.NamespacedName][]assign.Claim{}, served: map[types.NamespacedName][]assign.Claim{},
		waiting: newWaiters(), wake: func([]types.NamespacedName) {}, judge: func([]netip.Addr) {},
	}
	b.reset(nil)
	return b
}

func (b *book) reset(pools []v1alpha1.AddressPool) {
	b.allocator, _ = assign.New(pools) // problems are the Config controller's
	b.restored = map[string]bool{}
	b.stored = map[types.NamespacedName][]assign.Claim{}
}

// setPools exchanges the pools and wakes whoever may be given an address of them.
func (b *book) setPools(pools []v1alpha1.AddressPool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allocator.SetPools(pools)
	b.wake(b.waiting.all())
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

// assigned is what a load balancer has.
type assigned struct {
	addresses []netip.Addr
	// refused are the ports that it must not serve there, and who has them.
	refused map[ir.Port]string
	// problem is why it does not get what it asks for.
	problem *v1alpha1.Problem
}

func ownerOf(key types.NamespacedName) assign.Owner {
	return assign.Owner{Tenant: key.Namespace, Name: key.Name}
}

// assign gives a load balancer its addresses and ports.
func (b *book) assign(c claim) (out assigned) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	owner := ownerOf(c.owner)
	b.waiting.removeAllBut(c.owner, causeRoom)
	has := len(b.hold(c.owner, c.stored, c.ports)) > 0 || len(b.allocator.Reserved(owner).Addresses) > 0
	switch {
	case !has && !b.settled:
		out.problem = &v1alpha1.Problem{
			Reason: v1alpha1.ReasonNotRestored, Message: "the hub has just started and waits until it knows every tenant's addresses",
		}
		return out
	case !has && c.limit > 0:
		if out.problem = b.limit(c); out.problem != nil {
			b.waiting.add(c.owner, cause{tenant: c.owner.Namespace})
			return out
		}
	}
	out.addresses, out.problem = b.allocator.Assign(assign.Request{Owner: owner, Pools: c.pools, Requested: c.requested, Ports: c.ports})
	out.refused = map[ir.Port]string{}
	for _, port := range b.allocator.Refused(owner) {
		out.refused[port] = b.allocator.Holder(owner, port)
	}
	if out.problem != nil {
		b.waiting.add(c.owner, causesOf(out.problem.Reason, slices.Concat(c.requested, out.addresses))...)
	}
	return out
}

// limit returns why a load balancer that has nothing must not get anything: its
// tenant has as many addresses as it may, those that are kept included. Else who
// deletes and creates could take the addresses of all.
func (b *book) limit(c claim) *v1alpha1.Problem {
	live, kept, next := b.allocator.Count(c.owner.Namespace)
	if live+kept < int(c.limit) {
		return nil
	}
	p := &v1alpha1.Problem{
		Field: "spec", Reason: v1alpha1.ReasonLimitExceeded, Message: fmt.Sprintf("the tenant has %d load balancers, as many as it may", c.limit),
		Remedy: "delete one that is not needed, or have the operator of the hub raise Tenant spec.limits.loadBalancers",
	}
	if kept > 0 {
		p.Message = fmt.Sprintf("the tenant may have %d load balancers: it has %d, and the addresses of %d that were deleted are kept, the first until %s",
			c.limit, live, kept, next.UTC().Format(time.RFC3339))
		p.Remedy = "wait, or have the operator of the hub release an address (kubelbctl release-address) or raise Tenant spec.limits.loadBalancers"
	}
	return p
}

// follow is assign for a replica that does not lead: it takes what is stored.
func (b *book) follow(c claim) (out assigned) {
	b.mu.Lock()
	defer b.mu.Unlock()
	owner := ownerOf(c.owner)
	b.allocator.Follow(owner, c.stored, c.ports)
	out.addresses, out.refused = b.allocator.Assigned(owner), map[ir.Port]string{}
	for _, port := range b.allocator.Refused(owner) {
		out.refused[port] = b.allocator.Holder(owner, port)
	}
	b.wakeFreed()
	return out
}

// keep returns the addresses of a load balancer that is not served now. Its
// ports are free unless what proxies serve of it stays.
func (b *book) keep(owner types.NamespacedName, stored []netip.Addr, served bool) []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	b.waiting.removeAllBut(owner)
	addresses := b.hold(owner, stored, nil)
	if !served {
		b.allocator.Idle(ownerOf(owner))
	}
	return addresses
}

// hold returns what an owner is assigned, after it took in what is stored of one
// that is assigned nothing.
func (b *book) hold(owner types.NamespacedName, stored []netip.Addr, ports []ir.Port) []netip.Addr {
	if has := b.allocator.Assigned(ownerOf(owner)); len(has) > 0 || len(stored) == 0 {
		return has
	}
	b.allocator.Hold(ownerOf(owner), stored, ports)
	return b.allocator.Assigned(ownerOf(owner))
}

// unassign ends what a load balancer is assigned. What its status and the proxies
// still show is free when they do not any more.
func (b *book) unassign(owner types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	b.waiting.removeAllBut(owner)
	b.allocator.Unassign(ownerOf(owner))
}

// ports returns the ports that an owner has been granted.
func (b *book) ports(owner types.NamespacedName) []ir.Port {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allocator.Ports(ownerOf(owner))
}

// retire ends what a load balancer that is gone has, and keeps r for one of its
// name.
func (b *book) retire(owner types.NamespacedName, uid types.UID, r assign.Reservation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	b.clear(owner)
	b.retired[owner] = uid
	b.allocator.Retire(ownerOf(owner), r)
}

// isRetired reports whether a load balancer is gone, though a cache may still have
// it. To retire it again would lose which ports are kept.
func (b *book) isRetired(owner types.NamespacedName, uid types.UID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retired[owner] == uid
}

// forget ends what a load balancer has that is not there any more. What is kept
// for it stays kept.
func (b *book) forget(owner types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	delete(b.retired, owner)
	b.clear(owner)
	b.allocator.Unassign(ownerOf(owner))
	b.allocator.Show(ownerOf(owner), nil)
}

func (b *book) clear(owner types.NamespacedName) {
	b.waiting.removeAllBut(owner)
	b.setListeners(owner, 0)
	for _, m := range []map[types.NamespacedName]string{b.acked, b.published} {
		delete(m, owner)
	}
	delete(b.listeners, owner)
	delete(b.stored, owner)
	delete(b.served, owner)
}

// expire ends what is kept for owners that are gone.
func (b *book) expire(owners ...types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	for _, owner := range owners {
		b.allocator.Unreserve(ownerOf(owner))
	}
}

// keepUntil takes over until when addresses are kept.
func (b *book) keepUntil(namespace string, reservations []v1alpha1.Reservation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	for _, r := range reservations {
		owner := assign.Owner{Tenant: namespace, Name: r.Name}
		if known := b.allocator.Reserved(owner); len(known.Addresses) > 0 && !known.Until.Equal(r.ReleaseAfter.Time) {
			b.allocator.Reserve(owner, reservationOf(r))
		}
	}
}

// wakeFreed wakes whoever waits for what was given back.
func (b *book) wakeFreed() {
	freed := b.allocator.Freed()
	if len(freed.Outside) > 0 {
		b.judge(freed.Outside)
	}
	var causes []cause
	for _, c := range freed.Claims {
		causes = append(causes, cause{address: c.Address})
		if c.Port == (assign.Port{}) {
			causes = append(causes, causePools)
		}
	}
	for _, address := range freed.Changed {
		causes = append(causes, cause{address: address})
	}
	for _, tenant := range freed.Tenants {
		causes = append(causes, cause{tenant: tenant})
	}
	if owners := b.waiting.of(causes); len(owners) > 0 {
		b.wake(owners)
	}
}

// isExternal reports whether an address is in a pool or assigned, kept or shown.
func (b *book) isExternal(address netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allocator.IsExternal(address)
}

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
		b.waiting.remove(owner, causeRoom)
		b.setListeners(owner, listeners)
		return true
	}
	b.waiting.add(owner, causeRoom)
	return false
}

// setListeners wakes whoever waits for room when there is more.
func (b *book) setListeners(owner types.NamespacedName, listeners int) {
	before := b.listeners[owner]
	b.total += listeners - before
	b.listeners[owner] = listeners
	if listeners < before {
		b.wake(b.waiting.of([]cause{causeRoom}))
	}
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

// setPublished notes what proxies are told to serve. They may serve what they
// were told before until they acknowledge it.
func (b *book) setPublished(owner types.NamespacedName, hash string, part *ir.Part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published[owner] = hash
	b.served[owner] = union(b.served[owner], claimsOfPart(part))
	b.show(owner)
}

// setServed notes that proxies serve what was published with this hash, and
// nothing else of the owner.
func (b *book) setServed(owner types.NamespacedName, hash string, part *ir.Part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	if published, ok := b.published[owner]; !ok || published != hash {
		return // they were told something newer
	}
	b.served[owner] = claimsOfPart(part)
	b.show(owner)
}

// servesMore reports whether proxies may serve more of an owner than it is
// assigned.
func (b *book) servesMore(owner types.NamespacedName) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	addresses, ports := b.allocator.Assigned(ownerOf(owner)), b.allocator.Ports(ownerOf(owner))
	return slices.ContainsFunc(b.served[owner], func(c assign.Claim) bool {
		return !slices.Contains(addresses, c.Address) || !slices.Contains(ports, c.Port)
	})
}

// willStore notes what an owner's status is about to claim, beside what it
// claims, and reports whether the owner has all of that. Else it was assigned
// something else meanwhile, and another one may have it already.
func (b *book) willStore(owner types.NamespacedName, status *v1alpha1.LoadBalancerStatus) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	claims := claimsOfStatus(status)
	if len(b.itsOwn(owner, slices.Clone(claims))) < len(claims) {
		return false
	}
	b.stored[owner] = union(b.stored[owner], claims)
	b.show(owner)
	return true
}

// setStored notes what an owner's stored status claims.
func (b *book) setStored(owner types.NamespacedName, status *v1alpha1.LoadBalancerStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wakeFreed()
	if b.stored[owner] = b.itsOwn(owner, claimsOfStatus(status)); len(b.stored[owner]) == 0 {
		delete(b.stored, owner)
	}
	b.show(owner)
}

// itsOwn returns the claims that an owner is assigned or that its status has
// already. One that has gone meanwhile has none, whatever comes late.
func (b *book) itsOwn(owner types.NamespacedName, claims []assign.Claim) []assign.Claim {
	addresses, ports := b.allocator.Assigned(ownerOf(owner)), b.allocator.Ports(ownerOf(owner))
	return slices.DeleteFunc(claims, func(c assign.Claim) bool {
		assigned := slices.Contains(addresses, c.Address) && (c.Port == (ir.Port{}) || slices.Contains(ports, c.Port))
		return !assigned && !slices.Contains(b.stored[owner], c)
	})
}

func union(claims, more []assign.Claim) []assign.Claim {
	return slices.Concat(claims, slices.DeleteFunc(more, func(c assign.Claim) bool { return slices.Contains(claims, c) }))
}

func (b *book) show(owner types.NamespacedName) {
	b.allocator.Show(ownerOf(owner), slices.Concat(b.stored[owner], b.served[owner]))
}

// claimsOfStatus are the addresses that a status assigns, and the ports of those
// that it publishes.
func claimsOfStatus(status *v1alpha1.LoadBalancerStatus) (out []assign.Claim) {
	for _, address := range parseAddresses(status.Addresses) {
		out = append(out, assign.Claim{Address: address})
	}
	for _, ingress := range status.LoadBalancer.Ingress {
		address, err := netip.ParseAddr(ingress.IP)
		if err != nil {
			continue
		}
		out = append(out, assign.Claim{Address: address.Unmap()})
		for _, port := range assign.ParsePorts(status.Ports) {
			out = append(out, assign.Claim{Address: address.Unmap(), Port: port})
		}
	}
	return out
}

func claimsOfPart(part *ir.Part) (out []assign.Claim) {
	if part == nil {
		return nil
	}
	for _, l := range part.Listeners {
		out = append(out, assign.Claim{Address: l.Address, Port: ir.Port{Number: l.Port, Protocol: l.Protocol}})
	}
	return out
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
