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
	reserved  map[assign.Owner][]netip.Addr
}

func newMachine(t *rapid.T) *machine {
	a, problems := assign.New(smallPools)
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return &machine{allocator: a, live: map[assign.Owner][]netip.Addr{}, ports: map[assign.Owner][]assign.Port{}, reserved: map[assign.Owner][]netip.Addr{}}
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
	case len(r.Requested) == 0 && len(before) == 0 && len(m.reserved[r.Owner]) == 0 && free.IsValid() && !slices.Equal(got, []netip.Addr{free}):
		t.Fatalf("%v got %v, the lowest free is %v", r.Owner, got, free)
	case len(r.Requested) == 0 && len(before) == 0 && !free.IsValid() && len(m.reserved[r.Owner]) == 0 && problem == nil:
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
	for _, has := range []map[assign.Owner][]netip.Addr{m.live, m.reserved} {
		for _, list := range has {
			for _, a := range list {
				taken[a] = true
			}
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

func (m *machine) release(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	m.allocator.Release(owner)
	had := m.live[owner]
	delete(m.live, owner)
	delete(m.ports, owner)
	delete(m.reserved, owner)
	if len(had) > 0 && rapid.Bool().Draw(t, "reserve") {
		m.allocator.Reserve(owner, had)
		m.reserved[owner] = had
	}
}

// check is what holds after every step.
func (m *machine) check(t *rapid.T) {
	tenants, served := map[netip.Addr]string{}, map[string]assign.Owner{}
	for _, has := range []map[assign.Owner][]netip.Addr{m.live, m.reserved} {
		for owner, list := range has {
			for _, a := range list {
				if other, ok := tenants[a]; ok && other != owner.Tenant {
					t.Fatalf("%v is shared by the tenants %s and %s", a, other, owner.Tenant)
				}
				tenants[a] = owner.Tenant
			}
		}
	}
	for owner, list := range m.live {
		if got := m.allocator.Assigned(owner); !slices.Equal(got, list) {
			t.Fatalf("%v was told %v and has %v", owner, list, got)
		}
		for _, a := range list {
			for _, p := range m.ports[owner] {
				key := ir.ListenerName(a, p.Number, p.Protocol)
				if other, ok := served[key]; ok && other != owner {
					t.Fatalf("%s is served by %v and %v", key, owner, other)
				}
				served[key] = owner
			}
		}
	}
}

func TestWhateverHappensNothingIsStolen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){"assign": m.assign, "release": m.release, "": m.check})
	})
}

func TestARestartChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){"assign": m.assign, "release": m.release, "": func(*rapid.T) {}})

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
