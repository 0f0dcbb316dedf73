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

// Port is a port of an owner.
type Port = ir.Port

// Allocator knows who has which address. Make one with [New].
type Allocator struct {
	pools     []pool
	addresses map[netip.Addr]*usage
	leases    map[Owner]*lease
	claims    []claim // of Hold and Reserve, not looked at yet
}

// usage is an address that is not free.
type usage struct {
	tenant string
	owners map[Owner]bool // holders and those it is reserved for
	ports  map[Port]Owner
}

// lease is what an owner has.
type lease struct {
	addresses []netip.Addr
	ports     []Port
	refused   []Port
	reserved  []netip.Addr
}

type claim struct {
	owner     Owner
	addresses []netip.Addr
	ports     []Port
	reserve   bool
}

// New returns an allocator of the pools, nothing of which is assigned yet. The
// problems name entries of pools that cannot be used: the allocator goes
// without them.
func New(pools []v1alpha1.AddressPool) (*Allocator, []v1alpha1.Problem) {
	parsed, problems := parsePools(pools)
	return &Allocator{pools: parsed, addresses: map[netip.Addr]*usage{}, leases: map[Owner]*lease{}}, problems
}

// Hold says that a live owner has addresses and serves ports on them. Where two
// claims contradict each other, which stored objects never do unless somebody
// wrote them by hand, the owner that sorts first keeps its own and the other is
// assigned anew.
func (a *Allocator) Hold(owner Owner, addresses []netip.Addr, ports []Port) {
	a.claims = append(a.claims, claim{owner: owner, addresses: addresses, ports: ports})
}

// Reserve keeps addresses for an owner that is gone. Release ends that.
func (a *Allocator) Reserve(owner Owner, addresses []netip.Addr) {
	a.claims = append(a.claims, claim{owner: owner, addresses: addresses, reserve: true})
}

// Release forgets everything that an owner has, held or reserved.
func (a *Allocator) Release(owner Owner) {
	a.settle()
	l := a.leases[owner]
	if l == nil {
		return
	}
	a.replace(owner, l, nil)
	delete(a.leases, owner)
}

// Assigned returns what an owner has, in the order IPv4, IPv6.
func (a *Allocator) Assigned(owner Owner) []netip.Addr {
	a.settle()
	if l := a.leases[owner]; l != nil {
		return slices.Clone(l.addresses)
	}
	return nil
}

// Refused returns the ports of an owner's last request that it must not serve
// because another owner of the same tenant serves them on a shared address.
func (a *Allocator) Refused(owner Owner) []Port {
	a.settle()
	if l := a.leases[owner]; l != nil {
		return slices.Clone(l.refused)
	}
	return nil
}

// settle takes the claims in: those of live owners first, then by owner, so that
// the order in which they came does not matter.
func (a *Allocator) settle() {
	if len(a.claims) == 0 {
		return
	}
	claims := a.claims
	a.claims = nil
	slices.SortStableFunc(claims, func(x, y claim) int {
		if x.reserve != y.reserve {
			if y.reserve {
				return -1
			}
			return 1
		}
		return x.owner.compare(y.owner)
	})
	for _, c := range claims {
		a.settleOne(c)
		if l := a.leases[c.owner]; len(l.addresses)+len(l.reserved) == 0 {
			delete(a.leases, c.owner)
		}
	}
}

func (a *Allocator) settleOne(c claim) {
	l := a.lease(c.owner)
	if c.reserve {
		for _, address := range sorted(c.addresses) {
			if a.mayShare(c.owner, address) && !slices.Contains(l.addresses, address) && !slices.Contains(l.reserved, address) {
				l.reserved = append(l.reserved, address)
				a.take(c.owner, address)
			}
		}
		return
	}
	if len(l.addresses) > 0 {
		return // what is assigned wins over what is stored
	}
	ports := unique(c.ports)
	var mine []netip.Addr
	for _, address := range sorted(c.addresses) {
		if a.mayShare(c.owner, address) && (len(ports) == 0 || len(a.conflicts(c.owner, address, ports)) < len(ports)) {
			mine = append(mine, address)
		}
	}
	a.replace(c.owner, l, mine)
	a.updatePorts(c.owner, l, ports)
}

func (a *Allocator) lease(owner Owner) *lease {
	l := a.leases[owner]
	if l == nil {
		l = &lease{}
		a.leases[owner] = l
	}
	return l
}

// mayShare reports whether nobody of another tenant has the address.
func (a *Allocator) mayShare(owner Owner, address netip.Addr) bool {
	u := a.addresses[address]
	return u == nil || u.tenant == owner.Tenant
}

// take notes that an owner has an address.
func (a *Allocator) take(owner Owner, address netip.Addr) {
	u := a.addresses[address]
	if u == nil {
		u = &usage{tenant: owner.Tenant, owners: map[Owner]bool{}, ports: map[Port]Owner{}}
		a.addresses[address] = u
	}
	u.owners[owner] = true
}

// drop is the opposite of take.
func (a *Allocator) drop(owner Owner, address netip.Addr) {
	u := a.addresses[address]
	if u == nil {
		return
	}
	delete(u.owners, owner)
	if l := a.leases[owner]; l != nil {
		for _, port := range l.ports {
			if u.ports[port] == owner {
				delete(u.ports, port)
			}
		}
	}
	if len(u.owners) > 0 {
		return
	}
	delete(a.addresses, address)
	for i := range a.pools {
		a.pools[i].free(address)
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

// updatePorts makes ports the ports of the owner, but for those that are taken
// on one of its addresses.
func (a *Allocator) updatePorts(owner Owner, l *lease, ports []Port) {
	ports = unique(ports)
	var refused []Port
	for _, address := range l.addresses {
		refused = append(refused, a.conflicts(owner, address, ports)...)
	}
	refused = unique(refused)
	granted := slices.DeleteFunc(ports, func(p Port) bool { return slices.Contains(refused, p) })
	for _, address := range l.addresses {
		u := a.addresses[address]
		for _, port := range l.ports {
			if u.ports[port] == owner {
				delete(u.ports, port)
			}
		}
		for _, port := range granted {
			u.ports[port] = owner
		}
	}
	l.ports, l.refused = granted, refused
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
