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

package describe_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/describe"
	"github.com/kubelb/gitops/hub/build"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestUnfitIsWhatTheHubSays: what does not fit the facts is known from Git alone,
// and is what the hub finds when it builds the load balancer.
func TestUnfitIsWhatTheHubSays(t *testing.T) {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "tenant-acme", Name: name} }
	ref := func(name string) *corev1.ObjectReference { return &corev1.ObjectReference{Name: name} }
	nodes := &v1alpha1.Addresses{ObjectMeta: meta("default"), Spec: v1alpha1.AddressesSpec{Addresses: []v1alpha1.EndpointAddress{{IP: "192.0.2.1"}}}}
	backend := func(name string, health int32, ports ...v1alpha1.BackendPort) *v1alpha1.Backend {
		return &v1alpha1.Backend{ObjectMeta: meta(name), Spec: v1alpha1.BackendSpec{Ports: ports, HealthCheckNodePort: health}}
	}
	http := v1alpha1.BackendPort{Name: "http", Port: 80, NodePort: 30080}
	group := func(name, backend string) v1alpha1.LoadBalancerEndpoints {
		return v1alpha1.LoadBalancerEndpoints{Name: name, AddressesReference: ref("default"), BackendReference: ref(backend)}
	}
	for _, c := range []struct {
		name      string
		endpoints []v1alpha1.LoadBalancerEndpoints
		ports     []v1alpha1.LoadBalancerPort
		local     bool
		internal  bool
		facts     []repo.Object
		want      int
	}{
		{name: "all fits", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}},
			facts: []repo.Object{nodes, backend("shop.web", 0, http)}},
		{name: "a renamed port", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "web", Port: 80}},
			facts: []repo.Object{nodes, backend("shop.web", 0, http)}},
		{name: "another protocol", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80, Protocol: "UDP"}},
			facts: []repo.Object{nodes, backend("shop.web", 0, http)}, want: 1},
		{name: "a port that is not there", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}, {Name: "x", Port: 81}},
			facts: []repo.Object{nodes, backend("shop.web", 0, http)}, want: 1},
		{name: "no backend", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}}, facts: []repo.Object{nodes}, want: 1},
		{name: "no nodes", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}},
			facts: []repo.Object{backend("shop.web", 0, http)}, want: 1},
		{name: "one of two backends", endpoints: []v1alpha1.LoadBalancerEndpoints{group("a", "shop.web"), group("b", "shop.api")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}},
			facts: []repo.Object{nodes, backend("shop.web", 0, http)}, want: 1},
		{name: "Local without a health check port", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}}, local: true,
			facts: []repo.Object{nodes, backend("shop.web", 0, http)}, want: 1},
		{name: "Local with two health check ports", endpoints: []v1alpha1.LoadBalancerEndpoints{group("a", "shop.web"), group("b", "shop.api")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}}, local: true,
			facts: []repo.Object{nodes, backend("shop.web", 31000, http), backend("shop.api", 31001, http)}, want: 1},
		{name: "Local with one", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}}, local: true,
			facts: []repo.Object{nodes, backend("shop.web", 31000, http)}},
		{name: "explicit ports by another name", ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}},
			endpoints: []v1alpha1.LoadBalancerEndpoints{{Addresses: []v1alpha1.EndpointAddress{{IP: "192.0.2.9"}}, Ports: []v1alpha1.EndpointPort{{Name: "web", Port: 80}}}}, want: 1},
		{name: "not served outside", endpoints: []v1alpha1.LoadBalancerEndpoints{group("", "shop.web")}, ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80}}, internal: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			lb := &v1alpha1.LoadBalancer{ObjectMeta: meta("shop.lb"), Spec: v1alpha1.LoadBalancerSpec{Endpoints: c.endpoints, Ports: c.ports, Type: corev1.ServiceTypeLoadBalancer}}
			if c.local {
				lb.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}
			if c.internal {
				lb.Spec.Type = corev1.ServiceTypeClusterIP
			}
			in := build.Input{LoadBalancer: lb, Tenant: &v1alpha1.Tenant{}, Assigned: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}
			tree := repo.Tree{}
			for _, object := range append([]repo.Object{lb}, c.facts...) {
				path, err := repo.PathOf(object)
				if err != nil {
					t.Fatal(err)
				}
				data, err := repo.Encode(object)
				if err != nil {
					t.Fatal(err)
				}
				tree[path] = repo.NewFile(data)
				switch o := object.(type) {
				case *v1alpha1.Addresses:
					in.Addresses = o
				case *v1alpha1.Backend:
					in.Backends = append(in.Backends, o)
				}
			}
			var hub, git []string
			for _, p := range build.LoadBalancer(in).Problems {
				hub = append(hub, p.Field+" "+p.Reason)
			}
			for _, p := range describe.Unfit(tree) {
				git = append(git, p.Field+" "+p.Reason)
				if p.Remedy == "" || p.Path == "" {
					t.Errorf("no remedy or path: %+v", p)
				}
			}
			slices.Sort(hub)
			slices.Sort(git)
			if !slices.Equal(hub, git) || len(git) != c.want {
				t.Errorf("the hub says %q, Git says %q, want %d", hub, git, c.want)
			}
		})
	}
}
