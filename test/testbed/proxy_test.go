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
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var twoNodes = map[string]netip.Addr{"node-1": netip.MustParseAddr("127.10.0.1"), "node-2": netip.MustParseAddr("127.10.0.2")}

func nodePortService(change func(*corev1.ServiceSpec)) *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080},
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, NodePort: 30053},
		}},
	}
	change(&service.Spec)
	return service
}

func slice(namespace string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))},
			{Name: new("dns"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(5300))},
		},
		Endpoints: endpoints,
	}
}

func endpoint(address, node string, ready bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{address}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
}

func TestProxyRules(t *testing.T) {
	none := func(*corev1.ServiceSpec) {}
	local := func(spec *corev1.ServiceSpec) {
		spec.ExternalTrafficPolicy, spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 30999
	}
	one, two := endpoint("10.100.0.1", "node-1", true), endpoint("10.100.0.2", "node-1", true)
	unready := endpoint("10.100.0.3", "node-2", false)
	for name, test := range map[string]struct {
		service func(*corev1.ServiceSpec)
		slices  []*discoveryv1.EndpointSlice
		ports   map[string][]string // protocol and address → backends
		health  map[string]int
	}{
		"Cluster: every node to every ready endpoint, on its own face": {
			service: none, slices: []*discoveryv1.EndpointSlice{slice("shop", two, unready), slice("shop", one, one)},
			ports: map[string][]string{
				"TCP 127.10.0.1:30080": {"127.100.0.1:8080", "127.100.0.2:8080"}, "UDP 127.10.0.1:30053": {"127.100.0.1:5300", "127.100.0.2:5300"},
				"TCP 127.10.0.2:30080": {"127.100.0.1:8080", "127.100.0.2:8080"}, "UDP 127.10.0.2:30053": {"127.100.0.1:5300", "127.100.0.2:5300"},
			},
		},
		"Local: only the node's own ready endpoints, and a health check on each node": {
			service: local, slices: []*discoveryv1.EndpointSlice{slice("shop", one, two, unready)},
			ports: map[string][]string{
				"TCP 127.10.0.1:30080": {"127.100.0.1:8080", "127.100.0.2:8080"}, "UDP 127.10.0.1:30053": {"127.100.0.1:5300", "127.100.0.2:5300"},
			},
			health: map[string]int{"127.10.0.1:30999": 2, "127.10.0.2:30999": 0},
		},
		"no endpoint, no listener":   {service: none, slices: []*discoveryv1.EndpointSlice{slice("shop", unready)}},
		"the namespace of another":   {service: none, slices: []*discoveryv1.EndpointSlice{slice("other", one)}},
		"a Service without NodePort": {service: func(spec *corev1.ServiceSpec) { spec.Ports[0].NodePort, spec.Ports[1].NodePort = 0, 0 }, slices: []*discoveryv1.EndpointSlice{slice("shop", one)}},
		"an address outside the bed's pods is dialled as it is": {
			service: func(spec *corev1.ServiceSpec) { spec.Ports = spec.Ports[:1] }, slices: []*discoveryv1.EndpointSlice{slice("shop", endpoint("10.96.0.1", "node-1", true))},
			ports: map[string][]string{"TCP 127.10.0.1:30080": {"10.96.0.1:8080"}, "TCP 127.10.0.2:30080": {"10.96.0.1:8080"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rules := rulesFor(twoNodes, []*corev1.Service{nodePortService(test.service)}, test.slices)
			ports := map[string][]string{}
			for at, backends := range rules.ports {
				for _, backend := range backends {
					key := string(at.protocol) + " " + at.address.String()
					ports[key] = append(ports[key], backend.String())
				}
			}
			if !maps.EqualFunc(ports, test.ports, slices.Equal) {
				t.Errorf("ports %v, want %v", ports, test.ports)
			}
			health := map[string]int{}
			for at, count := range rules.health {
				health[at.address.String()] = count
			}
			if !maps.Equal(health, test.health) {
				t.Errorf("health %v, want %v", health, test.health)
			}
		})
	}
}
