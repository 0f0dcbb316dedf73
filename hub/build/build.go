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

// Package build turns a LoadBalancer and what it refers to into what proxies
// serve: gather everything into an [Input], call [LoadBalancer], publish the
// [Output].
//
// A mistake closes what it concerns and nothing else: a port that its backend
// has not is not programmed while the others are, a refused endpoint is left out
// while its neighbours serve. The one rule behind all of these: what cannot be
// done as asked is not done in another way. So source ranges that cannot be
// read close the ports instead of opening them to everybody.
//
// A port whose endpoints are known to be none stays programmed: the address
// stays, and whoever connects is disconnected, as with a Service without
// endpoints. A port whose endpoints cannot be known, because the Addresses or
// Backend that it names is missing, is not programmed.
//
// The package is pure. It never changes its input, and the order of lists in its
// input does not show in its output.
package build

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/xds/ir"

	corev1 "k8s.io/api/core/v1"
)

// Input is everything that a load balancer is built from. LoadBalancer and
// Tenant are needed, what else is absent is nil.
type Input struct {
	LoadBalancer *v1alpha1.LoadBalancer
	Tenant       *v1alpha1.Tenant
	Config       *v1alpha1.Config
	// Addresses are the tenant's nodes, if a reference asks for them.
	Addresses *v1alpha1.Addresses
	// Backends are those that the groups of endpoints name; more do no harm.
	Backends []*v1alpha1.Backend
	// Assigned are the external addresses. Without any nothing is served.
	Assigned []netip.Addr
	// Refused are ports that must not be served because another load balancer
	// has them on an address that is shared, and who that is.
	Refused map[ir.Port]string
	// HubNetworks are networks that no endpoint may be in.
	HubNetworks []netip.Prefix
	// External reports whether an address is one that the hub gives to load
	// balancers, which no endpoint may be; nil if there is none.
	External func(netip.Addr) bool
	// Freebind lets proxies bind addresses that their machine does not have.
	Freebind bool
}

// Output is what a load balancer becomes.
type Output struct {
	Part ir.Part
	// Problems, without Path and Object, which the caller knows.
	Problems []v1alpha1.Problem
	// Ports that are served, by number: "80/TCP,443/TCP".
	Ports string
	// Unusable says why connections fail on every port that is served; nil where one
	// has an endpoint that may answer. It is one of Problems.
	Unusable *v1alpha1.Problem
}

// LoadBalancer builds a load balancer. One of type ClusterIP serves nothing
// outside the hub and therefore has an empty part.
func LoadBalancer(in Input) Output {
	b := builder{Input: in, spec: &in.LoadBalancer.Spec}
	if b.spec.Type != corev1.ServiceTypeLoadBalancer {
		return Output{}
	}
	if in.Tenant.Spec.LoadBalancer.Disable || in.Config != nil && in.Config.Spec.LoadBalancer.Disable {
		b.problem("spec", v1alpha1.ReasonDisabled, "load balancers are disabled for the tenant",
			"have the operator of the hub change loadBalancer.disable in Tenant or Config")
		return Output{Problems: b.problems}
	}
	b.proxyProtocol()
	b.healthCheckPort()
	ranges, readable := b.sourceRanges()
	groups := b.groups()
	var served []ir.Port
	for _, port := range b.ports() {
		cluster, ok := b.cluster(port, groups)
		if !ok || !readable || len(in.Assigned) == 0 {
			continue
		}
		b.part.Clusters = append(b.part.Clusters, cluster)
		for _, address := range in.Assigned {
			b.part.Listeners = append(b.part.Listeners, ir.Listener{
				Address: address, Port: port.Number, Protocol: port.Protocol, Cluster: cluster.Name,
				SourceRanges: ranges, Freebind: in.Freebind,
			})
		}
		served = append(served, port.Port)
	}
	out := Output{Part: b.part.Sort(), Ports: portList(served), Unusable: b.unusable(groups)}
	if out.Unusable != nil {
		b.problems = append(b.problems, *out.Unusable)
	}
	out.Problems = b.problems
	return out
}

// unusable returns why no port that is served has an endpoint that may answer.
func (b *builder) unusable(groups []group) *v1alpha1.Problem {
	fresh, refused := false, 0
	for _, g := range groups {
		fresh = fresh || len(g.addresses) > 0 && !g.stale
		refused += g.refused
	}
	if len(b.part.Clusters) == 0 || fresh && slices.ContainsFunc(b.part.Clusters, func(c ir.Cluster) bool { return len(c.Endpoints) > 0 }) {
		return nil
	}
	p := &v1alpha1.Problem{
		Field: "spec.endpoints", Reason: v1alpha1.ReasonNoEndpoints, Message: "there is no endpoint; connections are closed at once",
		Remedy: "see to it that the tenant has a node that is ready, or list an endpoint",
	}
	switch {
	case slices.ContainsFunc(groups, func(g group) bool { return g.stale }):
		p.Message = "the tenant has no ready node; connections go to those that were ready last"
	case refused > 0:
		p.Reason, p.Message = v1alpha1.ReasonEndpointsRefused, fmt.Sprintf("the hub accepts none of %d endpoints; connections are closed at once", refused)
		p.Remedy = "use addresses that the hub can reach, or have the operator of the hub allow them in Tenant spec.allowedEndpointCIDRs or spec.allowedEndpointDomains"
	}
	return p
}

// builder collects the output of one load balancer.
type builder struct {
	Input
	spec     *v1alpha1.LoadBalancerSpec
	part     ir.Part
	problems []v1alpha1.Problem
	useProxy bool
}

func (b *builder) problem(field, reason, message, remedy string) {
	b.problems = append(b.problems, v1alpha1.Problem{Field: field, Reason: reason, Message: message, Remedy: remedy})
}

// port is a port of the load balancer that may be served.
type port struct {
	ir.Port
	name, field string
}

// ports returns the ports by number, without those that cannot be served at all.
func (b *builder) ports() (out []port) {
	names, numbers := map[string]bool{}, map[ir.Port]bool{}
	for _, p := range sortedPorts(b.spec.Ports) {
		name := portName(p.Name)
		field := fmt.Sprintf("spec.ports[%s]", name)
		number, ok := irPort(p.Port, p.Protocol)
		switch {
		case !ok:
			b.problem(field, v1alpha1.ReasonInvalid, fmt.Sprintf("%d/%s is not a port", p.Port, cmp.Or(p.Protocol, corev1.ProtocolTCP)), "use 1 to 65535 and TCP or UDP")
		case names[name] || numbers[number]:
			b.problem(field, v1alpha1.ReasonInvalid, fmt.Sprintf("the name or %s is there twice", number), "remove one of the two")
		case b.refused(number):
			b.problem(field, v1alpha1.ReasonPortConflict,
				fmt.Sprintf("%s already has %s on the shared address", cmp.Or(b.Refused[number], "another load balancer"), number), "use another port or another address")
		default:
			names[name], numbers[number] = true, true
			out = append(out, port{Port: number, name: name, field: field})
		}
	}
	return out
}

// cluster builds the cluster of a port. It is not ok if no group of endpoints
// has the port.
func (b *builder) cluster(p port, groups []group) (ir.Cluster, bool) {
	owner := b.LoadBalancer.Namespace + "/" + b.LoadBalancer.Name
	out := ir.Cluster{
		Name:          owner + "/" + p.String(), // a listener keeps its cluster when a name moves
		Policy:        b.policy(),
		ProxyProtocol: b.useProxy && p.Protocol == ir.TCP,
	}
	var missing []string
	found := false
	for _, g := range groups {
		number, why := g.find(p)
		if why != "" {
			missing = append(missing, why)
			continue
		}
		found = true
		for _, address := range g.addresses {
			out.Endpoints = append(out.Endpoints, ir.Endpoint{Address: address, Port: number})
		}
	}
	if !found {
		if len(missing) > 0 {
			b.problem(p.field, v1alpha1.ReasonPortNotInBackend, strings.Join(missing, "; "),
				"give the port the name or the number of one that is there; until then it is closed")
		}
		return ir.Cluster{}, false
	}
	if !b.healthCheck(p, groups, &out) {
		return ir.Cluster{}, false
	}
	if len(out.Endpoints) == 0 {
		b.problem(p.field, v1alpha1.ReasonNoEndpoints, "the port has no endpoint; connections are closed at once",
			"see to it that the tenant has a node or the endpoint an address that the hub accepts")
	}
	slices.SortFunc(out.Endpoints, compareEndpoints)
	out.Endpoints = slices.Compact(out.Endpoints)
	if !b.local() {
		out.Endpoints = thin(owner, out.Endpoints, b.maxEndpoints())
	}
	return out, true
}

func (b *builder) policy() ir.Policy {
	if b.spec.Persistence != nil && b.spec.Persistence.Type == v1alpha1.PersistenceSourceIP {
		return ir.SourceIP
	}
	switch b.spec.LBPolicy {
	case v1alpha1.LBPolicyLeastRequest:
		return ir.LeastRequest
	case v1alpha1.LBPolicyRandom:
		return ir.Random
	}
	return ir.RoundRobin
}

func (b *builder) local() bool {
	return b.spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func (b *builder) proxyProtocol() {
	value, ok := b.LoadBalancer.Annotations[v1alpha1.AnnotationProxyProtocol]
	switch {
	case !ok:
	case value == "v2":
		b.useProxy = true
	default:
		b.problem(fmt.Sprintf("metadata.annotations[%s]", v1alpha1.AnnotationProxyProtocol), v1alpha1.ReasonUnsupportedAnnotation,
			fmt.Sprintf("%q is not a version of the PROXY protocol that the hub speaks; no header is sent", value), `use "v2" or remove the annotation`)
	}
}

// sourceRanges returns the client networks. They are not readable if one of
// them is not a network: then nobody may connect, lest everybody could.
func (b *builder) sourceRanges() (out []netip.Prefix, readable bool) {
	readable = true
	for i, text := range b.spec.LoadBalancerSourceRanges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			b.problem(fmt.Sprintf("spec.loadBalancerSourceRanges[%d]", i), v1alpha1.ReasonSourceRangesUnreadable,
				fmt.Sprintf("%q is not a network; all ports are closed until it is", text), "write a CIDR such as 198.51.100.0/24")
			readable = false
			continue
		}
		out = append(out, prefix.Masked())
	}
	return out, readable
}

// sortedPorts returns the ports by number, protocol and name.
func sortedPorts(ports []v1alpha1.LoadBalancerPort) []v1alpha1.LoadBalancerPort {
	ports = slices.Clone(ports)
	slices.SortStableFunc(ports, func(x, y v1alpha1.LoadBalancerPort) int {
		return cmp.Or(cmp.Compare(x.Port, y.Port), cmp.Compare(x.Protocol, y.Protocol), cmp.Compare(x.Name, y.Name))
	})
	return ports
}

func (b *builder) refused(port ir.Port) bool {
	_, refused := b.Refused[port]
	return refused
}

func portName(name string) string { return cmp.Or(name, v1alpha1.DefaultName) }

func irPort(number int32, protocol corev1.Protocol) (ir.Port, bool) {
	p := ir.Protocol(cmp.Or(protocol, corev1.ProtocolTCP))
	if number < 1 || number > 65535 || p != ir.TCP && p != ir.UDP {
		return ir.Port{}, false
	}
	return ir.Port{Number: uint16(number), Protocol: p}, true
}

func portList(ports []ir.Port) string {
	words := make([]string, 0, len(ports))
	for _, p := range ports {
		words = append(words, p.String())
	}
	return strings.Join(words, ",")
}
