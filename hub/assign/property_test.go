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

package assign_test

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/xds/ir"
)

// Few addresses, owners and ports, so that they meet.
var (
	smallPools = []v1alpha1.AddressPool{pool("a", "203.0.113.0/29"), pool("b", "2001:db8::1-2001:db8::3", "198.51.100.1-198.51.100.3")}
	owners     = rapid.Custom(func(t *rapid.T) assign.Owner {
		return assign.Owner{Tenant: fmt.Sprintf("t%d", rapid.IntRange(0, 2).Draw(t, "tenant")), Name: fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(t, "name"))}
	})
	portLists = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) assign.Port {
		return assign.Port{Number: uint16(rapid.IntRange(1, 4).Draw(t, "number")), Protocol: rapid.SampledFrom([]ir.Protocol{ir.TCP, ir.UDP}).Draw(t, "protocol")}
	}), 1, 3)
	requests = rapid.SampledFrom([][]netip.Addr{nil, nil, nil, addresses("203.0.113.1"), addresses("203.0.113.2"), addresses("203.0.113.6"),
		addresses("203.0.113.1", "2001:db8::1"), addresses("198.51.100.2"), addresses("192.0.2.1")})
	poolLists = rapid.SampledFrom([][]string{nil, {"a"}, {"b"}, {"b", "a"}})
)

// machine compares an allocator with what its owners were told.
type machine struct {
	allocator *assign.Allocator
	live      map[assign.Owner][]netip.Addr
	ports     map[assign.Owner][]assign.Port
	reserved  map[assign.Owner]assign.Reservation
	// shown is what the world sees, which may be behind.
	shown map[assign.Owner][]assign.Claim
}

func newMachine(t *rapid.T) *machine {
	a, problems := assign.New(smallPools)
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return &machine{allocator: a, live: map[assign.Owner][]netip.Addr{}, ports: map[assign.Owner][]assign.Port{}, reserved: map[assign.Owner]assign.Reservation{},
		shown: map[assign.Owner][]assign.Claim{}}
}

func cross(addresses []netip.Addr, ports []assign.Port) (out []assign.Claim) {
	for _, a := range addresses {
		out = append(out, assign.Claim{Address: a})
		for _, p := range ports {
			out = append(out, assign.Claim{Address: a, Port: p})
		}
	}
	return out
}

func (m *machine) assign(t *rapid.T) {
	r := assign.Request{Owner: owners.Draw(t, "owner"), Requested: requests.Draw(t, "requested"), Pools: poolLists.Draw(t, "pools"), Ports: portLists.Draw(t, "ports")}
	before := m.live[r.Owner]
	free := m.lowestFree(r)
	got, problem := m.allocator.Assign(r)
	switch {
	case problem != nil && problem.Reason != v1alpha1.ReasonPortConflict && !slices.Equal(got, before):
		t.Fatalf("a refused request (%s) changed %v to %v", problem.Reason, before, got)
	case len(r.Requested) == 0 && len(before) > 0 && !slices.Equal(got, before):
		t.Fatalf("%v had %v and got %v", r.Owner, before, got)
	case len(r.Requested) == 0 && len(before) == 0 && len(m.reserved[r.Owner].Addresses) == 0 && free.IsValid() && !slices.Equal(got, []netip.Addr{free}):
		t.Fatalf("%v got %v, the lowest free is %v", r.Owner, got, free)
	case len(r.Requested) == 0 && len(before) == 0 && !free.IsValid() && len(m.reserved[r.Owner].Addresses) == 0 && problem == nil:
		t.Fatalf("%v got %v of nothing", r.Owner, got)
	}
	if len(got) > 0 {
		m.live[r.Owner] = got
		m.ports[r.Owner] = slices.DeleteFunc(slices.Clone(r.Ports), func(p assign.Port) bool { return slices.Contains(m.allocator.Refused(r.Owner), p) })
		if len(before) == 0 {
			delete(m.reserved, r.Owner)
		}
	}
}

// lowestFree finds by looking at all what the allocator finds without.
func (m *machine) lowestFree(r assign.Request) netip.Addr {
	taken := map[netip.Addr]bool{}
	for _, list := range m.claims() {
		for _, claim := range list {
			taken[claim.Address] = true
		}
	}
	names := r.Pools
	if len(names) == 0 {
		names = []string{"a", "b"}
	}
	family := 0
	for _, name := range names {
		for _, p := range smallPools {
			for _, text := range p.CIDRs {
				s, _ := v1alpha1.ParseAddressRange(text)
				if p.Name != name || family != 0 && s.First.BitLen() != family {
					continue
				}
				family = s.First.BitLen()
				for a := s.First; s.Contains(a); a = a.Next() {
					if !taken[a] {
						return a
					}
				}
			}
		}
	}
	return netip.Addr{}
}

// claims are all claims of every owner, assigned, kept and shown.
func (m *machine) claims() map[assign.Owner][]assign.Claim {
	out := map[assign.Owner][]assign.Claim{}
	for owner, list := range m.live {
		out[owner] = append(out[owner], cross(list, m.ports[owner])...)
	}
	for owner, r := range m.reserved {
		out[owner] = append(out[owner], cross(r.Addresses, r.Ports)...)
	}
	for owner, list := range m.shown {
		out[owner] = append(out[owner], list...)
	}
	return out
}

// show lets the world see what an owner is assigned, perhaps beside what it saw
// before, as proxies do until they acknowledged.
func (m *machine) show(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	now := cross(m.live[owner], m.ports[owner])
	if rapid.Bool().Draw(t, "beside") {
		now = append(now, m.shown[owner]...)
	}
	m.allocator.Show(owner, now)
	if m.shown[owner] = now; len(now) == 0 {
		delete(m.shown, owner)
	}
}

func (m *machine) release(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	r := assign.Reservation{Addresses: m.live[owner], Ports: m.ports[owner]}
	if !rapid.Bool().Draw(t, "reserve") || len(r.Addresses) == 0 {
		r = assign.Reservation{}
	}
	m.allocator.Retire(owner, r)
	delete(m.live, owner)
	delete(m.ports, owner)
	delete(m.shown, owner)
	if m.reserved[owner] = r; len(r.Addresses) == 0 {
		delete(m.reserved, owner)
	}
}

func (m *machine) unassign(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	m.allocator.Unassign(owner)
	delete(m.live, owner)
	delete(m.ports, owner)
}

func (m *machine) unreserve(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	m.allocator.Unreserve(owner)
	delete(m.reserved, owner)
}

func (m *machine) steps() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"assign": m.assign, "release": m.release, "show": m.show, "unassign": m.unassign, "unreserve": m.unreserve, "": m.check,
	}
}

// check is what holds after every step.
func (m *machine) check(t *rapid.T) {
	tenants, has := map[netip.Addr]string{}, map[assign.Claim]assign.Owner{}
	having, kept := map[string]int{}, map[string]int{}
	for owner, list := range m.claims() {
		for _, claim := range list {
			if other, ok := tenants[claim.Address]; ok && other != owner.Tenant {
				t.Fatalf("%v is shared by the tenants %s and %s", claim.Address, other, owner.Tenant)
			}
			tenants[claim.Address] = owner.Tenant
			if claim.Port == (assign.Port{}) {
				continue
			}
			if other, ok := has[claim]; ok && other != owner {
				t.Fatalf("%v is claimed by %v and %v", claim, owner, other)
			}
			has[claim] = owner
		}
	}
	for owner, list := range m.live {
		having[owner.Tenant]++
		if got := m.allocator.Assigned(owner); !slices.Equal(got, list) {
			t.Fatalf("%v was told %v and has %v", owner, list, got)
		}
	}
	for owner := range m.reserved {
		if len(m.live[owner]) == 0 {
			kept[owner.Tenant]++
		}
	}
	for _, tenant := range []string{"t0", "t1", "t2"} {
		if live, reserved, _ := m.allocator.Count(tenant); live != having[tenant] || reserved != kept[tenant] {
			t.Fatalf("%s has %d and %d kept, counted are %d and %d", tenant, having[tenant], kept[tenant], live, reserved)
		}
	}
	m.checkFreed(t, has, tenants)
}

// checkFreed: what is told to be free is.
func (m *machine) checkFreed(t *rapid.T, has map[assign.Claim]assign.Owner, tenants map[netip.Addr]string) {
	for _, claim := range m.allocator.Freed().Claims {
		_, taken := tenants[claim.Address]
		if claim.Port != (assign.Port{}) {
			_, taken = has[claim]
		}
		if taken {
			t.Fatalf("%v is told to be free and is not", claim)
		}
	}
}

func TestWhateverHappensNothingIsStolen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(m.steps())
	})
}

func TestARestartChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(m.steps())

		again := newMachine(t).allocator
		type step struct {
			owner   assign.Owner
			reserve bool
		}
		var steps []step
		for owner := range m.live {
			steps = append(steps, step{owner, false})
		}
		for owner := range m.reserved {
			steps = append(steps, step{owner, true})
		}
		slices.SortFunc(steps, func(x, y step) int {
			return cmp.Compare(fmt.Sprint(x), fmt.Sprint(y))
		})
		for _, s := range rapid.Permutation(steps).Draw(t, "order") {
			if s.reserve {
				again.Reserve(s.owner, m.reserved[s.owner])
			} else {
				again.Hold(s.owner, m.live[s.owner], m.ports[s.owner])
			}
		}
		for owner, claims := range m.shown {
			again.Show(owner, claims)
		}
		order := slices.SortedFunc(maps.Keys(m.live), func(x, y assign.Owner) int { return cmp.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
		for _, owner := range order {
			got, problem := again.Assign(assign.Request{Owner: owner, Ports: m.ports[owner]})
			if problem != nil || !reflect.DeepEqual(got, m.live[owner]) {
				t.Fatalf("%v had %v and has %v after a restart (%v)", owner, m.live[owner], got, problem)
			}
		}
		next := assign.Request{Owner: assign.Owner{Tenant: "new", Name: "new"}}
		x, _ := m.allocator.Assign(next)
		if y, _ := again.Assign(next); !slices.Equal(x, y) {
			t.Fatalf("a newcomer gets %v, after a restart %v", x, y)
		}
	})
}

func BenchmarkAssignDoesNotSlowDownWithAssignments(b *testing.B) {
	for _, held := range []int{0, 60000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			a, _ := assign.New([]v1alpha1.AddressPool{pool("a", "10.0.0.0/8")})
			for i := range held {
				a.Assign(assign.Request{Owner: assign.Owner{Tenant: "t", Name: fmt.Sprint(i)}})
			}
			owner := assign.Owner{Tenant: "t", Name: "x"}
			for b.Loop() {
				a.Assign(assign.Request{Owner: owner})
				a.Release(owner)
			}
		})
	}
}
