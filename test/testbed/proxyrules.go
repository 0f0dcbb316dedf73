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

package testbed

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// nodePort is one socket of the stand-in for kube-proxy.
type nodePort struct {
	address  netip.AddrPort // a node's address and the NodePort
	protocol corev1.Protocol
}

// healthPort is one healthCheckNodePort on one node.
type healthPort struct {
	address            netip.AddrPort
	namespace, service string
}

// proxyRules are what the stand-in for kube-proxy serves. A NodePort without
// endpoints to send to is not there: it refuses connections.
type proxyRules struct {
	ports  map[nodePort][]netip.AddrPort // where pods listen, sorted
	health map[healthPort]int            // how many ready endpoints the node has
}

// rulesFor computes the rules from what kube-proxy watches: nodes by name with
// their addresses, Services, EndpointSlices.
func rulesFor(nodes map[string]netip.Addr, services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) proxyRules {
	rules := proxyRules{ports: map[nodePort][]netip.AddrPort{}, health: map[healthPort]int{}}
	type key struct{ namespace, name string }
	byService := map[key][]*discoveryv1.EndpointSlice{}
	for _, slice := range endpointSlices {
		if slice.AddressType == discoveryv1.AddressTypeIPv4 {
			service := key{slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]}
			byService[service] = append(byService[service], slice)
		}
	}
	for _, service := range services {
		local := service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		own := byService[key{service.Namespace, service.Name}]
		for name, address := range nodes {
			from := ""
			if local {
				from = name
			}
			for _, port := range service.Spec.Ports {
				backends := endpoints(own, port, from)
				if port.NodePort != 0 && len(backends) > 0 {
					at := netip.AddrPortFrom(address, uint16(port.NodePort)) //nolint:gosec // validated by the API server
					rules.ports[nodePort{at, port.Protocol}] = backends
				}
			}
			if local && service.Spec.HealthCheckNodePort != 0 {
				at := netip.AddrPortFrom(address, uint16(service.Spec.HealthCheckNodePort)) //nolint:gosec // as above
				rules.health[healthPort{at, service.Namespace, service.Name}] = readyOn(own, name)
			}
		}
	}
	return rules
}

// endpoints are where the ready endpoints of one port of a Service listen, of
// one node or, when node is empty, of all.
func endpoints(endpointSlices []*discoveryv1.EndpointSlice, port corev1.ServicePort, node string) []netip.AddrPort {
	var found []netip.AddrPort
	for _, slice := range endpointSlices {
		for _, target := range slice.Ports {
			if target.Port == nil || (target.Name != nil && *target.Name != port.Name) || (target.Protocol != nil && *target.Protocol != port.Protocol) {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				if !endpointReady(endpoint) || (node != "" && (endpoint.NodeName == nil || *endpoint.NodeName != node)) {
					continue
				}
				for _, text := range endpoint.Addresses {
					if ip, err := netip.ParseAddr(text); err == nil {
						found = append(found, netip.AddrPortFrom(loopback(ip), uint16(*target.Port))) //nolint:gosec // as above
					}
				}
			}
		}
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	return slices.Compact(found)
}

// readyOn counts the ready endpoints on a node, whatever their ports.
func readyOn(endpointSlices []*discoveryv1.EndpointSlice, node string) int {
	addresses := map[string]bool{}
	for _, slice := range endpointSlices {
		for _, endpoint := range slice.Endpoints {
			if endpointReady(endpoint) && endpoint.NodeName != nil && *endpoint.NodeName == node {
				for _, address := range endpoint.Addresses {
					addresses[address] = true
				}
			}
		}
	}
	return len(addresses)
}

func endpointReady(endpoint discoveryv1.Endpoint) bool {
	return endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
}
