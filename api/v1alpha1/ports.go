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

	corev1 "k8s.io/api/core/v1"
)

// PortID is what tells a port from the others of its list: Kubernetes' Service
// has no two ports of one number and protocol, and a rename changes neither.
//
// +kubebuilder:object:generate=false
type PortID struct {
	Number   int32
	Protocol corev1.Protocol
}

// NewPortID returns the identity of a port. No protocol is TCP.
func NewPortID(number int32, protocol corev1.Protocol) PortID {
	return PortID{number, cmp.Or(protocol, corev1.ProtocolTCP)}
}

// Port is a port of a list by what tells it apart and by its name.
//
// +kubebuilder:object:generate=false
type Port struct {
	PortID
	Name string
}

// PairPorts returns, for every port of one version of a list, which port of
// another version it is, as an index into to, or -1: the one of its number and
// protocol, of several the one of its name as well, else, of what is left on both
// sides, the one of its name. So a rename is no removal, and a port whose number
// changed is still it. The number 0 is not known.
func PairPorts(from, to []Port) []int {
	return pair(from, to, func(p Port) string { return cmp.Or(p.Name, DefaultName) })
}

// MatchPorts returns, for every port of a load balancer, which port of a Backend
// serves it, as an index into backend, or -1.
//
// A port is served by the one of its number and protocol. Where the backend has
// none, because people or the tenant changed the number on one side, it is served
// by the one of its name and protocol, unless that one serves another port by
// number. So a name that moves to another number takes no traffic along.
func MatchPorts(ports []LoadBalancerPort, backend []BackendPort) []int {
	from, to := make([]Port, 0, len(ports)), make([]Port, 0, len(backend))
	for _, p := range ports {
		from = append(from, Port{NewPortID(p.Port, p.Protocol), p.Name})
	}
	for _, p := range backend {
		to = append(to, Port{NewPortID(p.Port, p.Protocol), p.Name})
	}
	return pair(from, to, func(p Port) string { return string(p.Protocol) + "/" + cmp.Or(p.Name, DefaultName) })
}

// pair matches by identity, then what is left on both sides by name. Of two of a
// kind, which are a mistake, the first counts.
func pair(from, to []Port, name func(Port) string) []int {
	out, taken := make([]int, len(from)), make([]bool, len(to))
	for n := range out {
		out[n] = -1
	}
	match := func(key func(Port) Port) {
		left := map[Port]int{}
		for n := len(to) - 1; n >= 0; n-- {
			if !taken[n] {
				left[key(to[n])] = n
			}
		}
		for n, p := range from {
			k := key(p)
			if at, ok := left[k]; ok && k != (Port{}) && out[n] < 0 && !taken[at] {
				out[n], taken[at] = at, true
			}
		}
	}
	known := func(p Port, name string) Port {
		if p.Number == 0 {
			return Port{}
		}
		return Port{p.PortID, name}
	}
	match(func(p Port) Port { return known(p, name(p)) })
	match(func(p Port) Port { return known(p, "") })
	match(func(p Port) Port { return Port{Name: name(p)} })
	return out
}
