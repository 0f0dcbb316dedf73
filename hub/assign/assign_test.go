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
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/xds/ir"
)

var (
	web     = assign.Owner{Tenant: "acme", Name: "shop.web"}
	api     = assign.Owner{Tenant: "acme", Name: "shop.api"}
	foreign = assign.Owner{Tenant: "globex", Name: "shop.web"}
	http    = assign.Port{Number: 80, Protocol: ir.TCP}
	https   = assign.Port{Number: 443, Protocol: ir.TCP}
	dns     = assign.Port{Number: 53, Protocol: ir.UDP}
)

func pool(name string, cidrs ...string) v1alpha1.AddressPool {
	return v1alpha1.AddressPool{Name: name, CIDRs: cidrs}
}

func newAllocator(t *testing.T, pools ...v1alpha1.AddressPool) *assign.Allocator {
	t.Helper()
	a, problems := assign.New(pools)
	if len(problems) > 0 {
		t.Fatalf("problems of the pools: %v", problems)
	}
	return a
}

func addresses(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// expect asserts addresses and the problem's reason ("" for none).
func expect(t *testing.T, got []netip.Addr, problem *v1alpha1.Problem, reason string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, addresses(want...)) {
		t.Errorf("addresses are %v, want %v", got, want)
	}
	switch {
	case problem == nil && reason != "":
		t.Errorf("no problem, want %s", reason)
	case problem != nil && problem.Reason != reason:
		t.Errorf("problem %+v, want %q", *problem, reason)
	case problem != nil && (problem.Field == "" || problem.Message == "" || problem.Remedy == ""):
		t.Errorf("problem %+v lacks field, message or remedy", *problem)
	}
}

func TestTheLowestFreeAddressOfTheFirstPoolIsAssigned(t *testing.T) {
	for name, c := range map[string]struct {
		pools  []v1alpha1.AddressPool
		names  []string
		want   []string // one owner after the other
		reason string   // of the one after those
	}{
		"without network and broadcast": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.0/30")},
			want: []string{"203.0.113.1", "203.0.113.2"}, reason: v1alpha1.ReasonPoolExhausted},
		"of a /31 and a /32 all": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.0/31", "203.0.113.9/32")},
			want: []string{"203.0.113.0", "203.0.113.1", "203.0.113.9"}, reason: v1alpha1.ReasonPoolExhausted},
		"of a range both ends": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.255-203.0.114.0")},
			want: []string{"203.0.113.255", "203.0.114.0"}, reason: v1alpha1.ReasonPoolExhausted},
		"entries in the order of the pool": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.9/32", "203.0.113.1/32")},
			want: []string{"203.0.113.9", "203.0.113.1"}, reason: v1alpha1.ReasonPoolExhausted},
		"then of the next pool": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.9/32"), pool("b", "198.51.100.1/32")},
			want: []string{"203.0.113.9", "198.51.100.1"}, reason: v1alpha1.ReasonPoolExhausted},
		"pools in the tenant's order": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.9/32"), pool("b", "198.51.100.1/32")},
			names: []string{"b", "a"}, want: []string{"198.51.100.1", "203.0.113.9"}, reason: v1alpha1.ReasonPoolExhausted},
		"of the tenant's pools only": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.9/32"), pool("b", "198.51.100.1/32")},
			names: []string{"b"}, want: []string{"198.51.100.1"}, reason: v1alpha1.ReasonPoolExhausted},
		"IPv6": {pools: []v1alpha1.AddressPool{pool("a", "2001:db8::/64")}, want: []string{"2001:db8::", "2001:db8::1"}},
		"of the first pool's family only": {pools: []v1alpha1.AddressPool{pool("a", "2001:db8::1/128", "203.0.113.9/32")},
			want: []string{"2001:db8::1"}, reason: v1alpha1.ReasonPoolExhausted},
		"up to the last address there is": {pools: []v1alpha1.AddressPool{pool("a", "255.255.255.255/32")},
			want: []string{"255.255.255.255"}, reason: v1alpha1.ReasonPoolExhausted},
		"no pool":                  {reason: v1alpha1.ReasonPoolExhausted},
		"a pool that there is not": {pools: []v1alpha1.AddressPool{pool("a", "203.0.113.9/32")}, names: []string{"x"}, reason: v1alpha1.ReasonAddressNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t, c.pools...)
			for i, want := range c.want {
				got, problem := a.Assign(assign.Request{Owner: assign.Owner{Tenant: "acme", Name: fmt.Sprint(i)}, Pools: c.names})
				expect(t, got, problem, "", want)
			}
			if c.reason != "" {
				got, problem := a.Assign(assign.Request{Owner: assign.Owner{Tenant: "acme", Name: "last"}, Pools: c.names})
				expect(t, got, problem, c.reason)
			}
		})
	}
}

func TestAnExistingAssignmentWins(t *testing.T) {
	a := newAllocator(t, pool("a", "203.0.113.0/24"), pool("b", "198.51.100.0/24"))
	a.Hold(web, addresses("203.0.113.77"), []assign.Port{http})
	got, problem := a.Assign(assign.Request{Owner: web, Ports: []assign.Port{http}})
	expect(t, got, problem, "", "203.0.113.77")
	got, problem = a.Assign(assign.Request{Owner: web, Pools: []string{"b"}})
	expect(t, got, problem, "", "203.0.113.77")

	a = newAllocator(t, pool("b", "198.51.100.0/24"))
	a.Hold(web, addresses("203.0.113.77"), nil)
	got, problem = a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "203.0.113.77")
	a.Release(web)
	got, problem = a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "198.51.100.1")
}

func TestARequestedAddress(t *testing.T) {
	request := func(owner assign.Owner, port assign.Port, texts ...string) assign.Request {
		return assign.Request{Owner: owner, Pools: []string{"a"}, Requested: addresses(texts...), Ports: []assign.Port{port}}
	}
	for name, c := range map[string]struct {
		request assign.Request
		want    []string
		reason  string
	}{
		"is granted if it is free":                     {request: request(api, http, "203.0.113.9"), want: []string{"203.0.113.9"}},
		"one of each family":                           {request: request(api, http, "2001:db8::9", "203.0.113.9"), want: []string{"203.0.113.9", "2001:db8::9"}},
		"is shared within the tenant":                  {request: request(api, https, "203.0.113.1"), want: []string{"203.0.113.1"}},
		"is not shared where the ports overlap":        {request: request(api, http, "203.0.113.1"), reason: v1alpha1.ReasonPortConflict},
		"is not shared with another tenant":            {request: request(foreign, https, "203.0.113.1"), reason: v1alpha1.ReasonAddressInUse},
		"is not given to another tenant when reserved": {request: request(foreign, https, "203.0.113.2"), reason: v1alpha1.ReasonAddressInUse},
		"of the own tenant's reservation is granted":   {request: request(api, https, "203.0.113.2"), want: []string{"203.0.113.2"}},
		"outside the tenant's pools":                   {request: request(api, http, "198.51.100.1"), reason: v1alpha1.ReasonAddressNotAllowed},
		"outside all pools":                            {request: request(api, http, "192.0.2.1"), reason: v1alpha1.ReasonAddressNotAllowed},
		"a network address":                            {request: request(api, http, "203.0.113.0"), reason: v1alpha1.ReasonAddressNotAllowed},
		"all or nothing":                               {request: request(foreign, https, "2001:db8::9", "203.0.113.1"), reason: v1alpha1.ReasonAddressInUse},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t, pool("a", "203.0.113.0/24", "2001:db8::/64"), pool("b", "198.51.100.0/24"))
			a.Hold(web, addresses("203.0.113.1"), []assign.Port{http})
			a.Reserve(assign.Owner{Tenant: "acme", Name: "shop.gone"}, assign.Reservation{Addresses: addresses("203.0.113.2")})
			got, problem := a.Assign(c.request)
			expect(t, got, problem, c.reason, c.want...)
			if c.reason == v1alpha1.ReasonAddressInUse && strings.Contains(problem.Message, "acme") {
				t.Errorf("the message tells a tenant of another: %s", problem.Message)
			}
		})
	}
}

func TestARefusedRequestChangesNothing(t *testing.T) {
	a := newAllocator(t, pool("a", "203.0.113.0/24"))
	a.Hold(foreign, addresses("203.0.113.9"), nil)
	got, problem := a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "203.0.113.1")
	got, problem = a.Assign(assign.Request{Owner: web, Requested: addresses("203.0.113.9")})
	expect(t, got, problem, v1alpha1.ReasonAddressInUse, "203.0.113.1")
	got, problem = a.Assign(assign.Request{Owner: api})
	expect(t, got, problem, "", "203.0.113.2")
}

func TestAChangedRequestFreesTheOldAddress(t *testing.T) {
	a := newAllocator(t, pool("a", "203.0.113.0/24"))
	got, problem := a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "203.0.113.1")
	got, problem = a.Assign(assign.Request{Owner: web, Requested: addresses("203.0.113.9")})
	expect(t, got, problem, "", "203.0.113.9")
	got, problem = a.Assign(assign.Request{Owner: foreign})
	expect(t, got, problem, "", "203.0.113.1")
	got, problem = a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "203.0.113.9")
}

func TestPortsOfASharedAddress(t *testing.T) {
	a := newAllocator(t, pool("a", "203.0.113.0/24"))
	shared := addresses("203.0.113.5")
	ask := func(owner assign.Owner, ports ...assign.Port) ([]netip.Addr, *v1alpha1.Problem) {
		return a.Assign(assign.Request{Owner: owner, Requested: shared, Ports: ports})
	}
	got, problem := ask(web, http)
	expect(t, got, problem, "", "203.0.113.5")
	got, problem = ask(api, https, dns)
	expect(t, got, problem, "", "203.0.113.5")

	got, problem = ask(api, https, http, dns)
	expect(t, got, problem, v1alpha1.ReasonPortConflict, "203.0.113.5")
	if refused := a.Refused(api); !reflect.DeepEqual(refused, []assign.Port{http}) {
		t.Errorf("refused are %v, want %v", refused, http)
	}

	got, problem = ask(web, assign.Port{Number: 8080, Protocol: ir.TCP})
	expect(t, got, problem, "", "203.0.113.5")
	got, problem = ask(api, https, http, dns)
	expect(t, got, problem, "", "203.0.113.5")

	a.Release(api)
	got, problem = ask(web, http, https, dns)
	expect(t, got, problem, "", "203.0.113.5")
}

func TestAReservationIsForItsOwnerOnly(t *testing.T) {
	a := newAllocator(t, pool("a", "203.0.113.0/30"))
	a.Reserve(web, assign.Reservation{Addresses: addresses("203.0.113.1")})
	got, problem := a.Assign(assign.Request{Owner: foreign})
	expect(t, got, problem, "", "203.0.113.2")
	got, problem = a.Assign(assign.Request{Owner: api})
	expect(t, got, problem, v1alpha1.ReasonPoolExhausted)
	got, problem = a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "203.0.113.1")

	a.Release(web)
	a.Reserve(web, assign.Reservation{Addresses: addresses("203.0.113.1")})
	a.Release(web) // the grace period is over
	got, problem = a.Assign(assign.Request{Owner: api})
	expect(t, got, problem, "", "203.0.113.1")
}

func TestAReservationOutsideThePoolsIsNotGivenBack(t *testing.T) {
	a := newAllocator(t, pool("a", "203.0.113.0/24"))
	a.Reserve(web, assign.Reservation{Addresses: addresses("192.0.2.1")})
	got, problem := a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "203.0.113.1")
}

func TestContradictingClaimsAreSettledAlikeInAnyOrder(t *testing.T) {
	for _, order := range [][]assign.Owner{{web, api, foreign}, {foreign, api, web}, {api, web, foreign}} {
		a := newAllocator(t, pool("a", "203.0.113.0/24"))
		for _, owner := range order {
			a.Hold(owner, addresses("203.0.113.1"), []assign.Port{http})
		}
		for owner, want := range map[assign.Owner][]netip.Addr{api: addresses("203.0.113.1"), web: nil, foreign: nil} {
			if got := a.Assigned(owner); !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
				t.Errorf("order %v: %v has %v, want %v", order, owner, got, want)
			}
		}
		got, problem := a.Assign(assign.Request{Owner: web, Ports: []assign.Port{http}})
		expect(t, got, problem, "", "203.0.113.2")
	}
}

func TestALiveOwnerGoesBeforeAReservation(t *testing.T) {
	a := newAllocator(t, pool("a", "203.0.113.0/24"))
	a.Reserve(assign.Owner{Tenant: "a", Name: "a"}, assign.Reservation{Addresses: addresses("203.0.113.1")})
	a.Hold(foreign, addresses("203.0.113.1"), nil)
	got, problem := a.Assign(assign.Request{Owner: foreign})
	expect(t, got, problem, "", "203.0.113.1")
}

func TestPoolsThatCannotBeUsedAreProblemsAndTheRestIsUsed(t *testing.T) {
	a, problems := assign.New([]v1alpha1.AddressPool{
		pool("a", "nonsense", "203.0.113.5/24", "203.0.113.0/30", "203.0.113.2-203.0.113.9", "10.0.0.9-10.0.0.1", "10.0.0.1-::1", "::ffff:10.0.0.0/120"),
		pool("b", "203.0.113.1/32"),
	})
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Field)
		if p.Reason != v1alpha1.ReasonInvalid || p.Message == "" || p.Remedy == "" {
			t.Errorf("problem %+v", p)
		}
	}
	want := []string{"spec.addressPools[a].cidrs[0]", "spec.addressPools[a].cidrs[1]", "spec.addressPools[a].cidrs[3]",
		"spec.addressPools[a].cidrs[4]", "spec.addressPools[a].cidrs[5]", "spec.addressPools[a].cidrs[6]", "spec.addressPools[b].cidrs[0]"}
	if !reflect.DeepEqual(fields, want) {
		t.Errorf("problems of %v, want %v", fields, want)
	}
	got, problem := a.Assign(assign.Request{Owner: web})
	expect(t, got, problem, "", "203.0.113.1")
}

func TestParsePorts(t *testing.T) {
	got := assign.ParsePorts("80/TCP,443/TCP, 53/UDP,,x,0/TCP,70000/TCP,1/SCTP")
	if want := []assign.Port{http, https, dns}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
