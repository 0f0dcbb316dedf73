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

package build_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/build"
	"github.com/kubelb/gitops/xds/ir"

	corev1 "k8s.io/api/core/v1"
)

func TestOrderOfListsDoesNotMatter(t *testing.T) {
	cases(t, func(t *testing.T, dir string, in build.Input) {
		want := build.LoadBalancer(in)
		for seed := range uint64(5) {
			random := rand.New(rand.NewPCG(seed, 0))
			shuffled := copyOf(in)
			spec := &shuffled.LoadBalancer.Spec
			shuffle(random, spec.Ports)
			shuffle(random, spec.Endpoints)
			for i := range spec.Endpoints {
				shuffle(random, spec.Endpoints[i].Addresses)
				shuffle(random, spec.Endpoints[i].Ports)
			}
			shuffle(random, shuffled.Assigned)
			shuffle(random, shuffled.Backends)
			shuffle(random, shuffled.HubNetworks)
			if shuffled.Addresses != nil {
				shuffle(random, shuffled.Addresses.Spec.Addresses)
			}
			got := build.LoadBalancer(shuffled)
			if got.Part.Hash() != want.Part.Hash() || got.Ports != want.Ports || !reflect.DeepEqual(got.Part, want.Part) {
				t.Fatalf("shuffled it is\n%+v\nwant\n%+v", got, want)
			}
			if !reflect.DeepEqual(got.Problems, want.Problems) {
				t.Fatalf("shuffled it has the problems\n%+v\nwant\n%+v", got.Problems, want.Problems)
			}
		}
	})
}

func TestInputIsNotChanged(t *testing.T) {
	cases(t, func(t *testing.T, dir string, in build.Input) {
		before := copyOf(in)
		build.LoadBalancer(in)
		in.External, before.External = nil, nil // functions cannot be compared
		if !reflect.DeepEqual(in, before) {
			t.Errorf("the input became\n%+v\nit was\n%+v", in, before)
		}
	})
}

func copyOf(in build.Input) build.Input {
	out := in
	out.LoadBalancer, out.Tenant, out.Addresses = in.LoadBalancer.DeepCopy(), in.Tenant.DeepCopy(), in.Addresses.DeepCopy()
	out.Assigned, out.HubNetworks, out.Refused = slices.Clone(in.Assigned), slices.Clone(in.HubNetworks), maps.Clone(in.Refused)
	out.Backends = nil
	for _, b := range in.Backends {
		out.Backends = append(out.Backends, b.DeepCopy())
	}
	if in.Backends != nil && out.Backends == nil {
		out.Backends = []*v1alpha1.Backend{}
	}
	return out
}

func shuffle[T any](random *rand.Rand, list []T) {
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// nodes returns an input with one port and n nodes.
func nodes(name string, addresses []string, limit int32) build.Input {
	in := build.Input{
		LoadBalancer: &v1alpha1.LoadBalancer{Spec: v1alpha1.LoadBalancerSpec{
			Type: "LoadBalancer", Ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}},
			Endpoints: []v1alpha1.LoadBalancerEndpoints{{Ports: []v1alpha1.EndpointPort{{Name: "http", Port: 30080}}}},
		}},
		Tenant:   &v1alpha1.Tenant{Spec: v1alpha1.TenantSpec{MaxEndpointsPerPort: limit}},
		Assigned: []netip.Addr{netip.MustParseAddr("203.0.113.10")},
	}
	in.LoadBalancer.Namespace, in.LoadBalancer.Name = "tenant-acme", name
	for _, a := range addresses {
		group := &in.LoadBalancer.Spec.Endpoints[0]
		group.Addresses = append(group.Addresses, v1alpha1.EndpointAddress{IP: a})
	}
	return in
}

func endpoints(in build.Input) []ir.Endpoint {
	return build.LoadBalancer(in).Part.Clusters[0].Endpoints
}

func TestANodeThatComesOrGoesChangesAtMostOneOtherEndpoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]string, rapid.IntRange(2, 60).Draw(t, "nodes"))
		for i := range all {
			all[i] = fmt.Sprintf("192.0.2.%d", i+1)
		}
		limit := rapid.Int32Range(1, 20).Draw(t, "limit")
		gone := rapid.IntRange(0, len(all)-1).Draw(t, "gone")
		before := endpoints(nodes("shop.web", all, limit))
		after := endpoints(nodes("shop.web", slices.Delete(slices.Clone(all), gone, gone+1), limit))
		if want := min(int(limit), len(all)); len(before) != want {
			t.Fatalf("%d endpoints, want %d", len(before), want)
		}
		lost := 0
		for _, e := range before {
			if !slices.Contains(after, e) {
				lost++
				if e.Address != all[gone] {
					t.Fatalf("%s went although %s did", e.Address, all[gone])
				}
			}
		}
		if lost > 1 || len(after) != min(int(limit), len(all)-1) {
			t.Fatalf("%d lost, %d after", lost, len(after))
		}
	})
}

func TestLoadBalancersSpreadOverTheNodes(t *testing.T) {
	var all []string
	for i := range 50 {
		all = append(all, fmt.Sprintf("192.0.2.%d", i+1))
	}
	used := map[string]int{}
	for i := range 1000 {
		for _, e := range endpoints(nodes(fmt.Sprintf("shop.web-%d", i), all, 5)) {
			used[e.Address]++
		}
	}
	for _, a := range all {
		if n := used[a]; n < 60 || n > 140 { // 100 on average
			t.Errorf("%s serves %d of 1000 load balancers", a, n)
		}
	}
}

// TestWhateverIsAskedForCanBeServed feeds objects that no API server checked.
func TestWhateverIsAskedForCanBeServed(t *testing.T) {
	word := rapid.SampledFrom([]string{"", "default", "http", "x", "shop.web"})
	number := rapid.SampledFrom([]int32{-1, 0, 1, 80, 443, 65535, 65536, 1 << 30})
	rapid.Check(t, func(t *rapid.T) {
		in := nodes("shop.web", rapid.SliceOfN(rapid.SampledFrom([]string{"", "x", "192.0.2.1", "::", "2001:db8::1", "fe80::1%x"}), 0, 4).Draw(t, "addresses"), rapid.Int32Range(-1, 2).Draw(t, "limit"))
		spec := &in.LoadBalancer.Spec
		protocol := rapid.SampledFrom([]string{"", "TCP", "UDP", "SCTP"})
		for range rapid.IntRange(0, 4).Draw(t, "ports") {
			p := v1alpha1.LoadBalancerPort{Name: word.Draw(t, "name"), Port: number.Draw(t, "number")}
			setProtocol(&p.Protocol, protocol.Draw(t, "protocol"))
			spec.Ports = append(spec.Ports, p)
			e := v1alpha1.EndpointPort{Name: word.Draw(t, "name"), Port: number.Draw(t, "number")}
			setProtocol(&e.Protocol, protocol.Draw(t, "protocol"))
			spec.Endpoints[0].Ports = append(spec.Endpoints[0].Ports, e)
		}
		setProtocol(&spec.ExternalTrafficPolicy, rapid.SampledFrom([]string{"", "Local", "x"}).Draw(t, "policy"))
		spec.LoadBalancerSourceRanges = rapid.SliceOfN(rapid.SampledFrom([]string{"", "x", "10.0.0.0/8", "::/0"}), 0, 2).Draw(t, "ranges")
		out := build.LoadBalancer(in)
		if err := out.Part.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

func setProtocol[T ~string](field *T, value string) { *field = T(value) }

// TestNoPortServesAnothersTraffic: whatever names and numbers a wish and its facts
// have while one of them waits, a port whose number the backend has goes there and
// nowhere else, a port goes to another number only by its name, and no two ports
// go to one.
func TestNoPortServesAnothersTraffic(t *testing.T) {
	name := rapid.SampledFrom([]string{"", "a", "b", "c"})
	number := rapid.Int32Range(80, 83)
	protocol := rapid.SampledFrom([]string{"", "TCP", "UDP"})
	rapid.Check(t, func(t *rapid.T) {
		in := nodes("shop.web", []string{"192.0.2.1"}, 0)
		group := &in.LoadBalancer.Spec.Endpoints[0]
		group.Ports, group.BackendReference = nil, &corev1.ObjectReference{Name: "shop.web"}
		in.LoadBalancer.Spec.Ports = nil
		backend := &v1alpha1.Backend{}
		backend.Name = "shop.web"
		in.Backends = []*v1alpha1.Backend{backend}
		names, ids := map[string]bool{}, map[v1alpha1.PortID]bool{}
		for range rapid.IntRange(1, 4).Draw(t, "wished") {
			p := v1alpha1.LoadBalancerPort{Name: name.Draw(t, "name"), Port: number.Draw(t, "number")}
			setProtocol(&p.Protocol, protocol.Draw(t, "protocol"))
			if id := v1alpha1.NewPortID(p.Port, p.Protocol); !names[p.Name] && !ids[id] {
				names[p.Name], ids[id] = true, true
				in.LoadBalancer.Spec.Ports = append(in.LoadBalancer.Spec.Ports, p)
			}
		}
		names, facts := map[string]bool{}, map[v1alpha1.PortID]v1alpha1.BackendPort{}
		for n := range rapid.IntRange(0, 4).Draw(t, "facts") {
			p := v1alpha1.BackendPort{Name: name.Draw(t, "name"), Port: number.Draw(t, "number"), NodePort: int32(30000 + n)}
			setProtocol(&p.Protocol, protocol.Draw(t, "protocol"))
			id := v1alpha1.NewPortID(p.Port, p.Protocol)
			if _, there := facts[id]; !there && !names[p.Name] {
				names[p.Name], facts[id] = true, p
				backend.Spec.Ports = append(backend.Spec.Ports, p)
			}
		}
		goesTo := map[ir.Port]uint16{}
		out := build.LoadBalancer(in)
		for _, l := range out.Part.Listeners {
			for _, c := range out.Part.Clusters {
				if c.Name == l.Cluster {
					goesTo[ir.Port{Number: l.Port, Protocol: l.Protocol}] = c.Endpoints[0].Port
				}
			}
		}
		served := map[uint16]bool{}
		for _, p := range in.LoadBalancer.Spec.Ports {
			id := v1alpha1.NewPortID(p.Port, p.Protocol)
			at, open := goesTo[ir.Port{Number: uint16(p.Port), Protocol: ir.Protocol(id.Protocol)}]
			fact, has := facts[id]
			switch {
			case has && (!open || at != uint16(fact.NodePort)):
				t.Fatalf("%v goes to %d (%v), the backend has it at %d", id, at, open, fact.NodePort)
			case open && served[at]:
				t.Fatalf("%d serves two ports", at)
			case open && !has:
				named := slices.ContainsFunc(backend.Spec.Ports, func(b v1alpha1.BackendPort) bool {
					return uint16(b.NodePort) == at && cmp.Or(b.Name, v1alpha1.DefaultName) == cmp.Or(p.Name, v1alpha1.DefaultName) && v1alpha1.NewPortID(0, b.Protocol) == v1alpha1.NewPortID(0, p.Protocol)
				})
				if !named {
					t.Fatalf("%v %q goes to %d, which has neither its number nor its name", id, p.Name, at)
				}
			}
			if open {
				served[at] = true
			}
		}
	})
}
