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

package build

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/xds/ir"
)

// group is a group of endpoints with its references resolved.
type group struct {
	name      string
	addresses []string
	// refused are the addresses that were left out.
	refused int
	// stale: the addresses are nodes of which none is ready.
	stale bool
	// targets are the numbers on the endpoints, by the ports of the load balancer
	// that they serve.
	targets map[ir.Port]uint16
	// backend is the Backend's name; empty where ports are listed by hand.
	backend string
	// healthCheckNodePort is the Backend's.
	healthCheckNodePort int32
	// healthCheckPort is that of the nodes, 0 where the addresses are no nodes.
	healthCheckPort int32
}

// find returns the number that serves a port of the load balancer, or why there
// is none.
func (g group) find(p port) (number uint16, why string) {
	if number, ok := g.targets[p.Port]; ok {
		return number, ""
	}
	if g.backend == "" {
		return 0, fmt.Sprintf("endpoints %q have no %s port of the name %q", g.name, p.Protocol, p.name)
	}
	return 0, fmt.Sprintf("backend %q has neither %s nor a %s port of the name %q that serves no other port", g.backend, p.Port, p.Protocol, p.name)
}

// groups resolves the groups of endpoints, without those whose references lead
// nowhere.
func (b *builder) groups() (out []group) {
	for _, e := range b.spec.Endpoints {
		g := group{name: portName(e.Name)}
		field := fmt.Sprintf("spec.endpoints[%s]", g.name)
		if b.resolvePorts(e, &g, field) && b.resolveAddresses(e, &g, field) {
			out = append(out, g)
		}
	}
	slices.SortStableFunc(out, func(x, y group) int { return strings.Compare(x.name, y.name) })
	return out
}

// resolvePorts finds what serves the ports of the load balancer: in a Backend as
// [v1alpha1.MatchPorts] says, among ports listed by hand the one of its name.
func (b *builder) resolvePorts(e v1alpha1.LoadBalancerEndpoints, g *group, field string) bool {
	ports := sortedPorts(b.spec.Ports)
	g.targets = map[ir.Port]uint16{}
	serve := func(p v1alpha1.LoadBalancerPort, target ir.Port) {
		number, ok := irPort(p.Port, p.Protocol)
		if _, twice := g.targets[number]; ok && !twice {
			g.targets[number] = target.Number
		}
	}
	if e.BackendReference == nil { // the names of listed ports say what they are for
		for _, p := range ports {
			for _, listed := range e.Ports {
				target, ok := irPort(listed.Port, listed.Protocol)
				if number, valid := irPort(p.Port, p.Protocol); ok && valid && portName(listed.Name) == portName(p.Name) && target.Protocol == number.Protocol {
					serve(p, target)
				}
			}
		}
		return true
	}
	backend := b.backend(e.BackendReference.Name)
	if backend == nil {
		b.problem(field+".backendReference", v1alpha1.ReasonBackendNotFound, fmt.Sprintf("there is no Backend %q", e.BackendReference.Name),
			"wait until the tenant's CCM has written it, or name one that is there")
		return false
	}
	g.backend, g.healthCheckNodePort = backend.Name, backend.Spec.HealthCheckNodePort
	for n, match := range v1alpha1.MatchPorts(ports, backend.Spec.Ports) {
		if match < 0 {
			continue
		}
		if target, ok := irPort(backend.Spec.Ports[match].NodePort, backend.Spec.Ports[match].Protocol); ok {
			serve(ports[n], target)
		}
	}
	return true
}

func (b *builder) backend(name string) *v1alpha1.Backend {
	for _, backend := range b.Backends {
		if backend.Name == name {
			return backend
		}
	}
	return nil
}

func (b *builder) resolveAddresses(e v1alpha1.LoadBalancerEndpoints, g *group, field string) bool {
	addresses, where := e.Addresses, field+".addresses"
	if e.AddressesReference != nil {
		where = field + ".addressesReference"
		if b.Addresses == nil || b.Addresses.Name != e.AddressesReference.Name {
			b.problem(where, v1alpha1.ReasonAddressesNotFound, fmt.Sprintf("there is no Addresses %q", e.AddressesReference.Name),
				"wait until the tenant's CCM has written it, or name one that is there")
			return false
		}
		addresses, g.stale = b.Addresses.Spec.Addresses, b.Addresses.Spec.Stale
		g.healthCheckPort = b.Addresses.Spec.HealthCheckPort
	}
	var refused []string
	c := checker{hub: b.HubNetworks, external: b.External, allowed: allowedNetworks(b.Tenant), domains: b.Tenant.Spec.AllowedEndpointDomains, hostnames: e.AddressesReference == nil}
	for _, a := range addresses {
		address, why := c.check(a)
		if why != "" {
			refused = append(refused, why)
			continue
		}
		g.addresses = append(g.addresses, address)
	}
	g.refused = len(refused)
	if len(refused) > 0 {
		b.problem(where, v1alpha1.ReasonEndpointRefused, summary(refused, len(addresses)),
			"use addresses that the hub can reach, or have the operator of the hub allow them in Tenant spec.allowedEndpointCIDRs or spec.allowedEndpointDomains")
	}
	return true
}

// summary names the first of what was refused.
func summary(refused []string, of int) string {
	const named = 3
	slices.Sort(refused)
	text := strings.Join(refused[:min(named, len(refused))], ", ")
	if more := len(refused) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%d of %d endpoints are left out: %s", len(refused), of, text)
}

// Health checks are the same everywhere, as in KubeLB.
const (
	probeInterval      = 5 * time.Second
	probeTimeout       = 5 * time.Second
	unhealthyThreshold = 3
	healthyThreshold   = 2
	// probePath answers on the health check node port of a Service with
	// externalTrafficPolicy Local, and on kube-proxy's own port.
	probePath = "/healthz"
)

// healthCheck sets the health check of a port's cluster: of the Service's health
// check node port where traffic stays on the node, else of the nodes' own, else a
// TCP connection, which UDP cannot have. It is not ok if traffic shall stay on the
// node and nothing tells which nodes have a pod.
func (b *builder) healthCheck(p port, groups []group, out *ir.Cluster) bool {
	check := &ir.HealthCheck{Interval: probeInterval, Timeout: probeTimeout, UnhealthyThreshold: unhealthyThreshold, HealthyThreshold: healthyThreshold}
	if !b.local() {
		out.Interchangeable = true
		if port := b.nodeHealthCheckPort(p, groups); port != 0 {
			check.Path, check.Port = probePath, port
		}
		if p.Protocol == ir.TCP || check.Port != 0 {
			out.HealthCheck = check
		}
		return true
	}
	for _, g := range groups {
		if _, why := g.find(p); why != "" {
			continue
		}
		number, ok := irPort(g.healthCheckNodePort, "")
		if !ok || check.Port != 0 && check.Port != number.Number {
			b.problem(p.field, v1alpha1.ReasonNoHealthCheckPort,
				"externalTrafficPolicy is Local and the endpoints have no health check node port, or several",
				"let the Service have one healthCheckNodePort, or use externalTrafficPolicy Cluster; until then the port is closed")
			return false
		}
		check.Path, check.Port = probePath, number.Number
	}
	out.HealthCheck = check
	return true
}

// nodeHealthCheckPort returns the port whose /healthz says of each endpoint
// whether it takes new connections: the one that the annotation names, else the
// one that all groups with the port have. 0 means that there is none.
func (b *builder) nodeHealthCheckPort(p port, groups []group) (number uint16) {
	if text, ok := b.LoadBalancer.Annotations[v1alpha1.AnnotationHealthCheckPort]; ok {
		if number, ok := v1alpha1.ParseHealthCheckPort(text); ok {
			return uint16(number)
		}
	}
	for _, g := range groups {
		if _, why := g.find(p); why != "" {
			continue
		}
		own, ok := irPort(g.healthCheckPort, "")
		if !ok || number != 0 && own.Number != number {
			return 0
		}
		number = own.Number
	}
	return number
}

// healthCheckPort reports an annotation that names no port.
func (b *builder) healthCheckPort() {
	text, ok := b.LoadBalancer.Annotations[v1alpha1.AnnotationHealthCheckPort]
	if !ok {
		return
	}
	if _, ok := v1alpha1.ParseHealthCheckPort(text); !ok {
		b.problem(fmt.Sprintf("metadata.annotations[%s]", v1alpha1.AnnotationHealthCheckPort), v1alpha1.ReasonUnsupportedAnnotation,
			fmt.Sprintf("%q is not a port; nodes are probed as without the annotation", v1alpha1.Printable(text, 64)),
			`write a number from 1 to 65535, "0" for no HTTP probe, or remove the annotation`)
	}
}

func allowedNetworks(tenant *v1alpha1.Tenant) (out []netip.Prefix) {
	for _, text := range tenant.Spec.AllowedEndpointCIDRs {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			out = append(out, prefix)
		}
	}
	return out
}
