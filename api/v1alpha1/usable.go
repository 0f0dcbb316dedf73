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

package v1alpha1

import (
	"cmp"

	"k8s.io/apimachinery/pkg/runtime"
)

// Usable returns a fact (Addresses, Backend) without what makes it invalid: the
// entries of its list that are, and those beyond the list's limit. Entries that the
// last good version has, told by address or by number and protocol, go before
// others, so that what is served stays and is followed. An invalid health check
// port is the last one's. What can only be wrong as a whole, such as its metadata,
// stays as it is; so does anything that is no fact. Neither object is changed. Last
// may be nil.
//
// A fact says what a tenant's cluster has decided already: to refuse all of it for
// one mistake would send clients where nobody listens any more.
func Usable(fact, last runtime.Object) runtime.Object {
	switch f := fact.(type) {
	case *Addresses:
		known := map[EndpointAddress]bool{}
		if l, ok := last.(*Addresses); ok {
			for _, a := range l.Spec.Addresses {
				known[a] = true
			}
		}
		out := f.DeepCopy()
		out.Spec.Addresses = usable(f.Spec.Addresses, maxNodes, func(a EndpointAddress) bool { return known[a] }, func(a EndpointAddress) bool {
			v := &validator{}
			v.endpointAddresses("", []EndpointAddress{a})
			return len(v.problems) == 0
		})
		if n := f.Spec.HealthCheckPort; n < 0 || n > 65535 {
			out.Spec.HealthCheckPort = 0
		}
		return out
	case *Backend:
		known, healthCheckNodePort := map[PortID]bool{}, int32(0)
		if l, ok := last.(*Backend); ok {
			for _, p := range l.Spec.Ports {
				known[NewPortID(p.Port, p.Protocol)] = true
			}
			healthCheckNodePort = l.Spec.HealthCheckNodePort
		}
		out := f.DeepCopy()
		names, ids := map[string]bool{}, map[PortID]bool{}
		out.Spec.Ports = usable(f.Spec.Ports, maxPorts, func(p BackendPort) bool { return known[NewPortID(p.Port, p.Protocol)] }, func(p BackendPort) bool {
			name, id, v := cmp.Or(p.Name, DefaultName), NewPortID(p.Port, p.Protocol), &validator{}
			v.backend(&BackendSpec{Ports: []BackendPort{p}})
			if len(v.problems) > 0 || names[name] || ids[id] {
				return false
			}
			names[name], ids[id] = true, true
			return true
		})
		if n := f.Spec.HealthCheckNodePort; n < 0 || n > 65535 {
			out.Spec.HealthCheckNodePort = healthCheckNodePort
		}
		return out
	}
	return fact
}

// usable returns at most limit valid entries, those that are known first.
func usable[T any](entries []T, limit int, known, valid func(T) bool) (out []T) {
	for _, first := range []bool{true, false} {
		for _, e := range entries {
			if known(e) == first && len(out) < limit && valid(e) {
				out = append(out, e)
			}
		}
	}
	return out
}
