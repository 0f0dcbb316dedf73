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

package describe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
)

// facts are what a tree says of a tenant's nodes and Services. They are read
// when something refers to them.
type facts struct {
	side      *side
	tenant    string
	paths     map[string]string // of Backends, by object name
	backends  map[string]*v1alpha1.Backend
	addresses *v1alpha1.Addresses
	read      bool
}

func (f *facts) nodes(name string) *v1alpha1.Addresses {
	if !f.read {
		f.read = true
		p := repo.Path{Tenant: f.tenant, Kind: v1alpha1.KindAddresses}
		object, _ := f.side.decode(p.String())
		f.addresses, _ = object.(*v1alpha1.Addresses)
	}
	if f.addresses == nil || f.addresses.Name != name {
		return nil
	}
	return f.addresses
}

func (f *facts) backend(name string) *v1alpha1.Backend {
	if backend, ok := f.backends[name]; ok {
		return backend
	}
	if f.paths == nil {
		f.paths, f.backends = map[string]string{}, map[string]*v1alpha1.Backend{}
		for path := range f.side.tree {
			if p, err := repo.ParsePath(path); err == nil && p.Kind == v1alpha1.KindBackend && p.Tenant == f.tenant {
				f.paths[p.ObjectName()] = path
			}
		}
	}
	object, _ := f.side.decode(f.paths[name])
	backend, _ := object.(*v1alpha1.Backend)
	f.backends[name] = backend
	return backend
}

// targets returns the numbers on a group's endpoints that serve ports of the load
// balancer, as the hub finds them: in a Backend as [v1alpha1.MatchPorts] says,
// among ports listed by hand the one of the name. A port that is not there is 0.
func (f *facts) targets(g v1alpha1.LoadBalancerEndpoints, ports []v1alpha1.LoadBalancerPort) (numbers []int32, known bool) {
	numbers = make([]int32, len(ports))
	if g.BackendReference == nil {
		for n, p := range ports {
			for _, listed := range g.Ports {
				if numbers[n] == 0 && portName(listed.Name) == portName(p.Name) && v1alpha1.NewPortID(0, listed.Protocol) == v1alpha1.NewPortID(0, p.Protocol) {
					numbers[n] = listed.Port
				}
			}
		}
		return numbers, true
	}
	backend := f.backend(g.BackendReference.Name)
	if backend == nil {
		return nil, false
	}
	for n, match := range v1alpha1.MatchPorts(ports, backend.Spec.Ports) {
		if match >= 0 {
			numbers[n] = backend.Spec.Ports[match].NodePort
		}
	}
	return numbers, true
}

func portName(name string) string { return cmp.Or(name, v1alpha1.DefaultName) }

// endpoints lists where connections to the n-th port go: every address of every
// group with its port. What is not known is named.
func (f *facts) endpoints(spec v1alpha1.LoadBalancerSpec, n int) (out []string) {
	for _, g := range spec.Endpoints {
		numbers, known := f.targets(g, spec.Ports)
		var port string
		switch {
		case !known:
			port = "port of Backend " + g.BackendReference.Name
		case numbers[n] == 0:
			continue
		default:
			port = fmt.Sprint(numbers[n])
		}
		addresses := g.Addresses
		if ref := g.AddressesReference; ref != nil {
			nodes := f.nodes(ref.Name)
			if nodes == nil {
				out = append(out, "nodes:"+port)
				continue
			}
			addresses = nodes.Spec.Addresses
		}
		for _, a := range addresses {
			out = append(out, hostPort(a, port))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func hostPort(a v1alpha1.EndpointAddress, port string) string {
	if strings.Contains(a.IP, ":") {
		return "[" + a.IP + "]:" + port
	}
	return cmp.Or(a.IP, a.Hostname) + ":" + port
}

// unfit lists the ports of a load balancer that its facts do not fit, as the hub
// would.
func (f *facts) unfit(path string, object repo.Object) (out []v1alpha1.Problem) {
	lb, ok := object.(*v1alpha1.LoadBalancer)
	if !ok || lb.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	tell := func(field, reason, message, remedy string) {
		out = append(out, v1alpha1.Problem{Path: path, Object: source(path), Field: field, Reason: reason, Message: message, Remedy: remedy})
	}
	var known []v1alpha1.LoadBalancerEndpoints
	for _, g := range lb.Spec.Endpoints {
		field := fmt.Sprintf("spec.endpoints[%s]", cmp.Or(g.Name, v1alpha1.DefaultName))
		if ref := g.BackendReference; ref != nil && f.backend(ref.Name) == nil {
			tell(field+".backendReference", v1alpha1.ReasonBackendNotFound, fmt.Sprintf("there is no Backend %q", ref.Name),
				"wait until the tenant's CCM has written it, or name one that is there")
			continue
		}
		if ref := g.AddressesReference; ref != nil && f.nodes(ref.Name) == nil {
			tell(field+".addressesReference", v1alpha1.ReasonAddressesNotFound, fmt.Sprintf("there is no Addresses %q", ref.Name),
				"wait until the tenant's CCM has written it, or name one that is there")
			continue
		}
		known = append(known, g)
	}
	for n, p := range lb.Spec.Ports {
		field := fmt.Sprintf("spec.ports[%s]", portName(p.Name))
		health, found := map[int32]bool{}, false
		for _, g := range known {
			if numbers, _ := f.targets(g, lb.Spec.Ports); numbers[n] == 0 {
				continue
			}
			found = true
			if g.BackendReference == nil {
				health[0] = true
			} else {
				health[f.backend(g.BackendReference.Name).Spec.HealthCheckNodePort] = true
			}
		}
		switch local := lb.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal; {
		case !found && len(known) > 0:
			tell(field, v1alpha1.ReasonPortNotInBackend, fmt.Sprintf("no endpoints have the port %s or one of the name %q", listener(p), portName(p.Name)),
				"give the port the name or the number of one that is there; until then it is closed")
		case found && local && (len(health) > 1 || health[0]):
			tell(field, v1alpha1.ReasonNoHealthCheckPort, "externalTrafficPolicy is Local and the endpoints have no health check node port, or several",
				"let the Service have one healthCheckNodePort, or use externalTrafficPolicy Cluster; until then the port is closed")
		}
	}
	return out
}

// Unfit lists what of a tree's load balancers will not serve because it does not
// fit the facts of its tenants: ports that a backend has not, references that lead
// nowhere. These are never a reason to refuse a document.
func Unfit(tree repo.Tree) (out []v1alpha1.Problem) {
	s := newSide(tree, repo.Decode)
	for _, path := range tree.Paths() {
		p, err := repo.ParsePath(path)
		if err != nil || p.Kind != v1alpha1.KindLoadBalancer {
			continue
		}
		if object, _ := s.decode(path); object != nil {
			out = append(out, s.facts(p.Tenant).unfit(path, object)...)
		}
	}
	return out
}
