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
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// Request asks for the addresses of an owner.
type Request struct {
	Owner Owner
	// Pools that the tenant may have addresses of, in this order; none means all.
	Pools []string
	// Requested are the addresses that the owner asks for, at most one per
	// family. Without any it keeps what it has, or gets one address of the first
	// pool's family.
	Requested []netip.Addr
	// Ports that the owner serves. They only matter on a shared address.
	Ports []Port
}

// Assign returns the addresses of an owner and, where its request cannot be
// granted in full, why. Beside a problem the addresses are those that it had
// before, possibly none. A problem of reason PortConflict beside addresses means
// that only the ports in [Allocator.Refused] must not be served.
func (a *Allocator) Assign(r Request) ([]netip.Addr, *v1alpha1.Problem) {
	a.settle()
	l := a.lease(r.Owner)
	want, problem := a.choose(r, l)
	if problem == nil {
		l.addresses, l.reserved = slices.Clone(want), Reservation{}
	}
	a.grant(r.Owner, l, r.Ports)
	if problem == nil && len(l.refused) > 0 {
		problem = a.portConflict(r.Owner, "spec.ports", l.addresses, l.refused)
	}
	out := slices.Clone(l.addresses)
	a.finish(r.Owner, l)
	return out, problem
}

// choose returns the addresses that the owner shall have.
func (a *Allocator) choose(r Request, l *lease) ([]netip.Addr, *v1alpha1.Problem) {
	if len(r.Requested) > 0 {
		for i, address := range r.Requested {
			if problem := a.check(r, l, fmt.Sprintf("spec.addresses[%d]", i), address); problem != nil {
				return nil, problem
			}
		}
		return sorted(r.Requested), nil
	}
	if len(l.addresses) > 0 {
		return l.addresses, nil
	}
	allowed, problem := a.allowed(r.Pools)
	if problem != nil {
		return nil, problem
	}
	if back := a.reservedFor(r, l, allowed); len(back) > 0 {
		return back, nil
	}
	family := allowed[0].family()
	for _, p := range allowed {
		if address, ok := p.lowest(family, a.isFree); ok {
			return []netip.Addr{address}, nil
		}
	}
	message := fmt.Sprintf("no address is free in the pools %s", names(allowed))
	for _, address := range l.reserved.Addresses {
		if taken := a.conflicts(r.Owner, address, r.Ports); len(taken) > 0 {
			message += fmt.Sprintf("; of %s, which is kept for it, %s", address, a.portConflict(r.Owner, "", []netip.Addr{address}, taken).Message)
		}
	}
	return nil, &v1alpha1.Problem{
		Field: "spec", Reason: v1alpha1.ReasonPoolExhausted, Message: message,
		Remedy: "delete a load balancer that is not needed, or have the operator of the hub enlarge a pool (Config spec.addressPools)",
	}
}

// reservedFor returns what was kept for the owner, as far as it is still in a
// pool of the tenant and its ports are free.
func (a *Allocator) reservedFor(r Request, l *lease, allowed []*pool) (out []netip.Addr) {
	for _, address := range l.reserved.Addresses {
		if contains(allowed, address) && len(a.conflicts(r.Owner, address, r.Ports)) == 0 {
			out = append(out, address)
		}
	}
	return out
}

// check returns why the owner cannot have a requested address.
func (a *Allocator) check(r Request, l *lease, field string, address netip.Addr) *v1alpha1.Problem {
	if slices.Contains(l.addresses, address) {
		return nil
	}
	allowed, problem := a.allowed(r.Pools)
	if problem != nil {
		problem.Field = field
		return problem
	}
	if !contains(allowed, address) {
		return &v1alpha1.Problem{
			Field: field, Reason: v1alpha1.ReasonAddressNotAllowed,
			Message: fmt.Sprintf("%s is in none of the pools that the tenant may use: %s", address, describe(allowed)),
			Remedy:  "ask for an address of these pools, or for none",
		}
	}
	if !a.mayShare(r.Owner, address) {
		return a.inUse(field, address)
	}
	if taken := a.conflicts(r.Owner, address, r.Ports); len(taken) > 0 {
		return a.portConflict(r.Owner, field, []netip.Addr{address}, taken)
	}
	return nil
}

// inUse is the problem of an address of another tenant. Which one is not the
// asking tenant's business.
func (a *Allocator) inUse(field string, address netip.Addr) *v1alpha1.Problem {
	p := &v1alpha1.Problem{
		Field: field, Reason: v1alpha1.ReasonAddressInUse,
		Message: fmt.Sprintf("%s is in use by another tenant", address),
		Remedy:  "ask for another address, or for none",
	}
	var until time.Time
	for owner := range a.addresses[address].owners {
		l := a.leases[owner]
		if !l.keeps(address) {
			return p
		}
		if l.reserved.Until.After(until) {
			until = l.reserved.Until
		}
	}
	p.Message = fmt.Sprintf("nobody uses %s, but it is kept for a deleted load balancer of another tenant%s", address, untilText(until))
	p.Remedy = "wait, ask for another address, or have the operator of the hub release it (kubelbctl release-address)"
	return p
}

// keeps reports whether the lease has the address only as a reservation.
func (l *lease) keeps(address netip.Addr) bool {
	return slices.Contains(l.reserved.Addresses, address) && !slices.Contains(l.addresses, address) &&
		!slices.ContainsFunc(l.shown, func(c Claim) bool { return c.Address == address })
}

func untilText(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return " until " + until.UTC().Format(time.RFC3339)
}

func (a *Allocator) isFree(address netip.Addr) bool { return a.addresses[address] == nil }

// allowed returns the pools of the names, or all.
func (a *Allocator) allowed(names []string) (out []*pool, problem *v1alpha1.Problem) {
	if len(names) == 0 {
		for i := range a.pools {
			out = append(out, &a.pools[i])
		}
	}
	for _, name := range names {
		for i := range a.pools {
			if a.pools[i].name == name {
				out = append(out, &a.pools[i])
			}
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if len(names) == 0 {
		return nil, &v1alpha1.Problem{
			Field: "spec", Reason: v1alpha1.ReasonPoolExhausted, Message: "the hub has no address pool",
			Remedy: "have the operator of the hub add one to Config spec.addressPools",
		}
	}
	return nil, &v1alpha1.Problem{
		Field: "spec", Reason: v1alpha1.ReasonAddressNotAllowed,
		Message: fmt.Sprintf("the hub has none of the tenant's address pools: %s", strings.Join(names, ", ")),
		Remedy:  "have the operator of the hub correct Tenant spec.addressPools or Config spec.addressPools",
	}
}

// portConflict is the problem of ports that others of the tenant have on
// addresses.
func (a *Allocator) portConflict(owner Owner, field string, addresses []netip.Addr, ports []Port) *v1alpha1.Problem {
	var texts []string
	remedy := "use other ports, or another address"
	for _, address := range addresses {
		for _, port := range a.conflicts(owner, address, ports) {
			other := a.addresses[address].ports[port]
			text := fmt.Sprintf("%s already has %s on %s", other, port, address)
			if l := a.leases[other]; l.keeps(address) {
				text = fmt.Sprintf("%s on %s is kept for %s, which was deleted,%s", port, address, other, untilText(l.reserved.Until))
				remedy = "use other ports, or another address, wait, or have the operator of the hub release it (kubelbctl release-address)"
			}
			texts = append(texts, text)
		}
	}
	return &v1alpha1.Problem{Field: field, Reason: v1alpha1.ReasonPortConflict, Message: strings.Join(texts, "; "), Remedy: remedy}
}

// Holder returns in words who has a port that an owner was refused, empty if
// nobody has.
func (a *Allocator) Holder(owner Owner, port Port) string {
	a.settle()
	l := a.leases[owner]
	if l == nil {
		return ""
	}
	for _, address := range l.addresses {
		if len(a.conflicts(owner, address, []Port{port})) > 0 {
			other := a.addresses[address].ports[port]
			if l := a.leases[other]; l.keeps(address) {
				return fmt.Sprintf("%s, for which it is kept%s,", other, untilText(l.reserved.Until))
			}
			return other.String()
		}
	}
	return ""
}

func contains(pools []*pool, address netip.Addr) bool {
	return slices.ContainsFunc(pools, func(p *pool) bool { return p.span(address) != nil })
}

func names(pools []*pool) string {
	var out []string
	for _, p := range pools {
		out = append(out, p.name)
	}
	return strings.Join(out, ", ")
}

// describe lists pools with the beginning of what is in them.
func describe(pools []*pool) string {
	var out []string
	for _, p := range pools {
		text := p.name + " (" + p.spans[0].String()
		if len(p.spans) > 1 {
			text += fmt.Sprintf(" and %d more", len(p.spans)-1)
		}
		out = append(out, text+")")
	}
	return strings.Join(out, ", ")
}
