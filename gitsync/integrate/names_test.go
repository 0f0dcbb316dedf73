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

package integrate

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
)

type ports []v1alpha1.LoadBalancerPort

// genNamed draws ports of a few names and numbers that have nothing to do with
// each other.
func genNamed(t *rapid.T, who string) (out ports) {
	names := rapid.Permutation([]string{"a", "b", "c", "d", "e"}).Draw(t, who+"'s names")
	numbers := rapid.Permutation([]int32{80, 81, 82, 83, 84, 85}).Draw(t, who+"'s numbers")
	for n := range rapid.IntRange(1, 4).Draw(t, who+"'s ports") {
		out = append(out, v1alpha1.LoadBalancerPort{Name: names[n], Port: numbers[n], Protocol: rapid.SampledFrom([]corev1.Protocol{"", "", "UDP"}).Draw(t, "protocol")})
	}
	return out
}

// changed draws what becomes of ports: any of them goes, gets another name or
// number, others come, or all names change places.
func (p ports) changed(t *rapid.T, who string) ports {
	for {
		next := slices.Clone(p)
		for range rapid.IntRange(0, 3).Draw(t, who+"'s changes") {
			which := rapid.IntRange(0, len(next)-1).Draw(t, "which")
			other := genNamed(t, who)[0]
			switch rapid.SampledFrom([]string{"names", "name", "number", "drop", "add"}).Draw(t, who) {
			case "names":
				names := rapid.Permutation(next).Draw(t, "names")
				for n := range next {
					next[n].Name, names[n] = names[n].Name, v1alpha1.LoadBalancerPort{Name: names[n].Name}
				}
			case "name":
				next[which].Name = other.Name
			case "number":
				next[which].Port = other.Port
			case "drop":
				if len(next) > 1 {
					next = slices.Delete(next, which, which+1)
				}
			case "add":
				next = append(next, other)
			}
		}
		if len(next.ids()) == len(next) && len(next.byName()) == len(next) {
			return next
		}
	}
}

func (p ports) ids() map[v1alpha1.PortID]string {
	out := map[v1alpha1.PortID]string{}
	for _, port := range p {
		out[v1alpha1.NewPortID(port.Port, port.Protocol)] = port.Name
	}
	return out
}

func (p ports) byName() map[string]bool {
	out := map[string]bool{}
	for _, port := range p {
		out[port.Name] = true
	}
	return out
}

func (p ports) file() repo.File {
	return file(&v1alpha1.LoadBalancer{ObjectMeta: meta("one"), Spec: v1alpha1.LoadBalancerSpec{
		Type: corev1.ServiceTypeLoadBalancer, Ports: p,
		Endpoints: []v1alpha1.LoadBalancerEndpoints{{
			Name: "default", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: "shop.one"},
		}},
	}})
}

// facts are those of a Service with these ports.
func (p ports) facts() (out []v1alpha1.BackendPort) {
	for n, port := range p {
		out = append(out, v1alpha1.BackendPort{Name: port.Name, Port: port.Port, Protocol: port.Protocol, NodePort: int32(30000 + n)})
	}
	return out
}

// served says to which port of a Service the ports of a load balancer go.
func (p ports) served(service ports) map[v1alpha1.PortID]v1alpha1.PortID {
	out := map[v1alpha1.PortID]v1alpha1.PortID{}
	for n, match := range v1alpha1.MatchPorts(p, service.facts()) {
		if match >= 0 {
			out[v1alpha1.NewPortID(p[n].Port, p[n].Protocol)] = v1alpha1.NewPortID(service[match].Port, service[match].Protocol)
		}
	}
	return out
}

// TestNamesMove: however a tenant and people move the names and numbers of ports,
// also while the change waits for review, the numbers that clients connect to are
// those that people and the tenant chose, and each goes where it went.
func TestNamesMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := genNamed(t, "the tenant")
		intent, main := base.changed(t, "the tenant"), base.changed(t, "a person")
		review := rapid.Bool().Draw(t, "review")
		t.Logf("tenant %v → %v, main %v, review %v", base, intent, main, review)
		path := wishPath("one")
		in := Input{
			Tenant: tenant, Decided: 1, Review: review,
			Intent: repo.Tree{path: intent.file()}, Base: repo.Tree{path: base.file()}, Main: repo.Tree{path: main.file()},
		}
		result := Integrate(in)
		checkEdits(t, in, result)
		after := apply(in.Main, result.Main)
		object, problems := repo.Decode(path, after[path])
		if len(problems) > 0 {
			t.Fatalf("%v", problems)
		}
		got := ports(object.(*v1alpha1.LoadBalancer).Spec.Ports)
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("tenant %v → %v, main %v → %v (review %v): "+format, append([]any{base, intent, main, got, review}, args...)...)
		}

		was, wants, on, is := base.ids(), intent.ids(), main.ids(), got.ids()
		same := func(a, b map[v1alpha1.PortID]string) bool {
			for id := range a {
				if _, ok := b[id]; !ok {
					return false
				}
			}
			return len(a) == len(b)
		}
		if len(result.Problems) > 0 { // both sides are told that it does not fit
			if !same(on, is) {
				fail("refused, and changed")
			}
			return
		}
		switch {
		case same(was, wants) && !same(on, is):
			fail("names alone opened or closed a port")
		case review && !same(on, is):
			fail("a port opened or closed without review")
		}
		for id := range on {
			if _, there := is[id]; was[id] == "" && !there {
				fail("%v, which a person opened, is closed", id)
			}
		}
		for id := range was {
			if is[id] != "" && on[id] == "" && wants[id] != "" {
				fail("%v, which a person closed, is open", id)
			}
		}
		goes := got.served(intent)
		for id, to := range main.served(base) {
			at, open := goes[id]
			switch {
			case is[id] == "":
			case wants[id] != "" && at != id:
				fail("%v goes to %v, not to the Service's own", id, at)
			case wants[id] == "" && wants[to] != "" && (!open || at != to):
				fail("%v went to %v and goes to %v", id, to, at)
			}
		}
	})
}
