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

package assign

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/xds/ir"
)

// Owner is what an address is assigned to: a LoadBalancer by its tenant's name
// (or namespace, as long as it is always the same) and its own.
type Owner struct {
	Tenant, Name string
}

func (o Owner) compare(p Owner) int {
	return cmp.Or(cmp.Compare(o.Tenant, p.Tenant), cmp.Compare(o.Name, p.Name))
}

// String returns the owner as its tenant knows it: a name of the form
// <namespace>.<name> is that of a Service.
func (o Owner) String() string {
	if namespace, name, ok := strings.Cut(o.Name, "."); ok {
		return "Service " + namespace + "/" + name
	}
	return v1alpha1.KindLoadBalancer + " " + o.Name
}

// Port is a port of an owner.
type Port = ir.Port

// Claim is a port of an address, or the address alone if Port is zero.
type Claim struct {
	Address netip.Addr
	Port    Port
}

// Reservation is what is kept for an owner that is gone: addresses, the ports on
// each of them, and until when.
type Reservation struct {
	Addresses []netip.Addr
	Ports     []Port
	Until     time.Time
}

// Allocator knows who has which address. Make one with [New].
type Allocator struct {
	pools     []pool
	addresses map[netip.Addr]*usage
	leases    map[Owner]*lease
	tenants   map[string]*counts
	pending   []pending // of Hold and Reserve, not looked at yet
	freed     Freed
}

// usage is an address that is not free.
type usage struct {
	tenant string
	owners map[Owner]int // how many claims each has
	ports  map[Port]Owner
}

// lease is what an owner has.
type lease struct {
	addresses []netip.Addr
	ports     []Port // granted, on each of the addresses
	refused   []Port
	reserved  Reservation
	shown     []Claim
	// claims are those that the above makes, as they are in Allocator.addresses.
	claims  map[Claim]bool
	counted state
}

// state is how an owner counts for its tenant.
type state int

const (
	nothing state = iota
	live          // it has an address
	kept          // it is gone and its address is kept
)

type counts struct {
	live int
	kept map[Owner]bool
}

type pending struct {
	owner     Owner
	addresses []netip.Addr
	ports     []Port
	reserve   *Reservation
}

// Freed is what owners gave back.
type Freed struct {
	// Claims that nobody has any more. An address that is free as a whole is there
	// without a port.
	Claims []Claim
	// Changed are addresses of which something else is to be told than before: they
	// are only kept from now on, or until another time, or are used again.
	Changed []netip.Addr
	// Outside are addresses of no pool that became or ceased to be somebody's.
	Outside []netip.Addr
	// Tenants that have less than before, or of which something else is to be told.
	Tenants []string
}

// New returns an allocator of the pools, nothing of which is assigned yet. The
// problems name entries of pools that cannot be used: the allocator goes
// without them.
func New(pools []v1alpha1.AddressPool) (*Allocator, []v1alpha1.Problem) {
	a := &Allocator{addresses: map[netip.Addr]*usage{}, leases: map[Owner]*lease{}, tenants: map[string]*counts{}}
	return a, a.SetPools(pools)
}

// SetPools exchanges the pools. What is assigned or kept stays.
func (a *Allocator) SetPools(pools []v1alpha1.AddressPool) (problems []v1alpha1.Problem) {
	a.pools, problems = parsePools(pools)
	return problems
}

// Hold says that a live owner has addresses and serves ports on them. Where two
// claims contradict each other, which stored objects never do unless somebody
// wrote them by hand, the owner that sorts first keeps its own and the other is
// assigned anew.
func (a *Allocator) Hold(owner Owner, addresses []netip.Addr, ports []Port) {
	a.pending = append(a.pending, pending{owner: owner, addresses: addresses, ports: ports})
}

// Reserve keeps addresses and ports for an owner that is gone. Unreserve ends
// that. A later Reserve of the same addresses replaces ports and time.
func (a *Allocator) Reserve(owner Owner, r Reservation) {
	a.pending = append(a.pending, pending{owner: owner, reserve: &r})
}

// Show says what the world can see of an owner: what its status publishes and
// what proxies serve. It replaces what was shown before. Nobody else gets a claim
// that is shown, also when the owner is not assigned it any more.
func (a *Allocator) Show(owner Owner, claims []Claim) {
	a.settle()
	l := a.lease(owner)
	l.shown = slices.Clone(claims)
	a.finish(owner, l)
}

// Follow makes addresses those of an owner, as far as no other tenant has them,
// because somebody else has assigned them, and gives it the ports that are free
// there.
func (a *Allocator) Follow(owner Owner, addresses []netip.Addr, ports []Port) {
	a.settle()
	l := a.lease(owner)
	l.addresses = slices.DeleteFunc(sorted(addresses), func(address netip.Addr) bool { return !a.mayShare(owner, address) })
	a.grant(owner, l, ports)
	a.finish(owner, l)
}

// Unassign ends what an owner is assigned. What is reserved for it and what it
// shows stays.
func (a *Allocator) Unassign(owner Owner) {
	a.settle()
	if l := a.leases[owner]; l != nil {
		l.addresses, l.ports, l.refused = nil, nil, nil
		a.finish(owner, l)
	}
}

// Idle takes the ports from an owner, which keeps its addresses.
func (a *Allocator) Idle(owner Owner) {
	a.settle()
	if l := a.leases[owner]; l != nil {
		l.ports, l.refused = nil, nil
		a.finish(owner, l)
	}
}

// Retire ends everything that an owner has, and keeps r for it.
func (a *Allocator) Retire(owner Owner, r Reservation) {
	a.settle()
	l := a.lease(owner)
	*l = lease{claims: l.claims, counted: l.counted, reserved: Reservation{Until: r.Until, Ports: unique(r.Ports), Addresses: sorted(r.Addresses)}}
	a.finish(owner, l)
}

// Unreserve ends what is reserved for an owner.
func (a *Allocator) Unreserve(owner Owner) {
	a.settle()
	if l := a.leases[owner]; l != nil {
		l.reserved = Reservation{}
		a.finish(owner, l)
	}
}

// Release forgets everything that an owner has: held, reserved or shown.
func (a *Allocator) Release(owner Owner) { a.Retire(owner, Reservation{}) }

// Assigned returns what an owner has, in the order IPv4, IPv6.
func (a *Allocator) Assigned(owner Owner) []netip.Addr {
	a.settle()
	if l := a.leases[owner]; l != nil {
		return slices.Clone(l.addresses)
	}
	return nil
}

// Ports returns the ports that an owner may serve on its addresses.
func (a *Allocator) Ports(owner Owner) []Port {
	a.settle()
	if l := a.leases[owner]; l != nil {
		return slices.Clone(l.ports)
	}
	return nil
}

// Refused returns the ports of an owner's last request that it must not serve
// because another owner of the same tenant has them on a shared address.
func (a *Allocator) Refused(owner Owner) []Port {
	a.settle()
	if l := a.leases[owner]; l != nil {
		return slices.Clone(l.refused)
	}
	return nil
}

// Reserved returns what is kept for an owner.
func (a *Allocator) Reserved(owner Owner) Reservation {
	a.settle()
	if l := a.leases[owner]; l != nil {
		return l.reserved
	}
	return Reservation{}
}

// Count returns how many owners of a tenant have an address, for how many that
// are gone one is kept, and when the first of those is released.
func (a *Allocator) Count(tenant string) (having, reserved int, next time.Time) {
	a.settle()
	c := a.tenants[tenant]
	if c == nil {
		return 0, 0, time.Time{}
	}
	for owner := range c.kept {
		if until := a.leases[owner].reserved.Until; next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return c.live, len(c.kept), next
}

// IsExternal reports whether an address is in a pool, or is somebody's.
func (a *Allocator) IsExternal(address netip.Addr) bool {
	a.settle()
	return a.addresses[address] != nil || a.inPool(address)
}

func (a *Allocator) inPool(address netip.Addr) bool {
	return slices.ContainsFunc(a.pools, func(p pool) bool { return p.span(address) != nil })
}

func (a *Allocator) noteOutside(address netip.Addr) {
	if !a.inPool(address) {
		a.freed.Outside = append(a.freed.Outside, address)
	}
}

// Freed returns what was given back since the last call.
func (a *Allocator) Freed() Freed {
	a.settle()
	freed := a.freed
	a.freed = Freed{}
	return freed
}

// settle takes in what was held and reserved: what live owners have first, then
// by owner, so that the order in which it came does not matter.
func (a *Allocator) settle() {
	if len(a.pending) == 0 {
		return
	}
	all := a.pending
	a.pending = nil
	slices.SortStableFunc(all, func(x, y pending) int {
		if (x.reserve != nil) != (y.reserve != nil) {
			if y.reserve != nil {
				return -1
			}
			return 1
		}
		return x.owner.compare(y.owner)
	})
	for _, p := range all {
		l := a.lease(p.owner)
		if p.reserve != nil {
			a.settleReservation(p.owner, l, *p.reserve)
		} else {
			a.settleHeld(p.owner, l, p)
		}
		a.finish(p.owner, l)
	}
}

func (a *Allocator) settleReservation(owner Owner, l *lease, r Reservation) {
	var mine []netip.Addr
	for _, address := range sorted(r.Addresses) {
		if a.mayShare(owner, address) && !slices.Contains(l.addresses, address) {
			mine = append(mine, address)
		}
	}
	if len(mine) > 0 {
		a.freed.Changed = append(a.freed.Changed, mine...)
		l.reserved = Reservation{Addresses: mine, Ports: unique(r.Ports), Until: r.Until}
	}
}

func (a *Allocator) settleHeld(owner Owner, l *lease, p pending) {
	if len(l.addresses) > 0 {
		return // what is assigned wins over what is stored
	}
	ports := unique(p.ports)
	for _, address := range sorted(p.addresses) {
		if a.mayShare(owner, address) && (len(ports) == 0 || len(a.conflicts(owner, address, ports)) < len(ports)) {
			l.addresses = append(l.addresses, address)
		}
	}
	a.grant(owner, l, ports)
}

func (a *Allocator) lease(owner Owner) *lease {
	l := a.leases[owner]
	if l == nil {
		l = &lease{}
		a.leases[owner] = l
	}
	return l
}

// finish enters what changed of a lease wherever it is looked for: the claims on
// addresses and the numbers of the tenant. Its cost is that of the lease.
func (a *Allocator) finish(owner Owner, l *lease) {
	now := map[Claim]bool{}
	for _, claim := range slices.Concat(cross(l.addresses, l.ports), cross(l.reserved.Addresses, l.reserved.Ports), l.shown) {
		if l.claims[claim] || a.take(owner, claim) {
			now[claim] = true
		}
	}
	for claim := range l.claims {
		if !now[claim] {
			a.drop(owner, claim)
		}
	}
	l.claims = now
	a.count(owner, l)
	if len(l.addresses)+len(l.reserved.Addresses)+len(l.shown) == 0 {
		delete(a.leases, owner)
	}
}

// cross returns the claims of ports on addresses, and of the addresses alone.
func cross(addresses []netip.Addr, ports []Port) (out []Claim) {
	for _, address := range addresses {
		out = append(out, Claim{Address: address})
		for _, port := range ports {
			out = append(out, Claim{Address: address, Port: port})
		}
	}
	return out
}

func (a *Allocator) count(owner Owner, l *lease) {
	now := nothing
	switch {
	case len(l.addresses) > 0:
		now = live
	case len(l.reserved.Addresses) > 0:
		now = kept
	}
	if now == l.counted {
		return
	}
	c := a.tenants[owner.Tenant]
	if c == nil {
		c = &counts{kept: map[Owner]bool{}}
		a.tenants[owner.Tenant] = c
	}
	if l.counted == live {
		c.live--
	}
	if now == live {
		c.live++
	}
	if delete(c.kept, owner); now == kept {
		c.kept[owner] = true
	}
	if now == kept || l.counted == kept {
		a.freed.Changed = slices.Concat(a.freed.Changed, l.addresses, l.reserved.Addresses)
	}
	if l.counted != nothing {
		a.freed.Tenants = append(a.freed.Tenants, owner.Tenant)
	}
	if l.counted = now; c.live+len(c.kept) == 0 {
		delete(a.tenants, owner.Tenant)
	}
}

// mayShare reports whether nobody of another tenant has the address.
func (a *Allocator) mayShare(owner Owner, address netip.Addr) bool {
	u := a.addresses[address]
	return u == nil || u.tenant == owner.Tenant
}

// take notes a claim, unless somebody else has it.
func (a *Allocator) take(owner Owner, claim Claim) bool {
	u := a.addresses[claim.Address]
	if u != nil && u.tenant != owner.Tenant {
		return false
	}
	if u == nil {
		u = &usage{tenant: owner.Tenant, owners: map[Owner]int{}, ports: map[Port]Owner{}}
		a.addresses[claim.Address] = u
		a.noteOutside(claim.Address)
	}
	if claim.Port != (Port{}) {
		if other, taken := u.ports[claim.Port]; taken && other != owner {
			return false
		}
		u.ports[claim.Port] = owner
	}
	if u.owners[owner]++; u.owners[owner] == 1 && len(u.owners) > 1 {
		a.freed.Changed = append(a.freed.Changed, claim.Address)
	}
	return true
}

// drop is the opposite of take.
func (a *Allocator) drop(owner Owner, claim Claim) {
	u := a.addresses[claim.Address]
	if claim.Port != (Port{}) {
		delete(u.ports, claim.Port)
		a.freed.Claims = append(a.freed.Claims, claim)
	}
	if u.owners[owner]--; u.owners[owner] == 0 {
		delete(u.owners, owner)
	}
	if len(u.owners) > 0 {
		return
	}
	delete(a.addresses, claim.Address)
	a.noteOutside(claim.Address)
	a.freed.Claims = append(a.freed.Claims, Claim{Address: claim.Address})
	for i := range a.pools {
		a.pools[i].free(claim.Address)
	}
}

// conflicts returns the ports that somebody else has on an address.
func (a *Allocator) conflicts(owner Owner, address netip.Addr, ports []Port) (out []Port) {
	u := a.addresses[address]
	if u == nil {
		return nil
	}
	for _, port := range ports {
		if other, taken := u.ports[port]; taken && other != owner {
			out = append(out, port)
		}
	}
	return out
}

// grant makes ports the ports of the owner, but for those that somebody else has
// on one of its addresses.
func (a *Allocator) grant(owner Owner, l *lease, ports []Port) {
	ports = unique(ports)
	var refused []Port
	for _, address := range l.addresses {
		refused = append(refused, a.conflicts(owner, address, ports)...)
	}
	l.refused = unique(refused)
	l.ports = slices.DeleteFunc(ports, func(p Port) bool { return slices.Contains(l.refused, p) })
	if len(l.addresses) == 0 {
		l.ports = nil
	}
}

// ParsePorts reads ports as LoadBalancer.status.ports lists them:
// "80/TCP,443/TCP". What is not a port is left out.
func ParsePorts(text string) (ports []Port) {
	for _, item := range strings.Split(text, ",") {
		number, protocol, _ := strings.Cut(strings.TrimSpace(item), "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err == nil && n > 0 && (protocol == string(ir.TCP) || protocol == string(ir.UDP)) {
			ports = append(ports, Port{Number: uint16(n), Protocol: ir.Protocol(protocol)})
		}
	}
	return ports
}

func comparePorts(p, q Port) int {
	return cmp.Or(cmp.Compare(p.Number, q.Number), cmp.Compare(p.Protocol, q.Protocol))
}

func unique(ports []Port) []Port {
	out := slices.Clone(ports)
	slices.SortFunc(out, comparePorts)
	return slices.Compact(out)
}

func sorted(addresses []netip.Addr) []netip.Addr {
	out := slices.Clone(addresses)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
