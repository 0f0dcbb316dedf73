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

package render

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
)

// Reasons of the problems of Services.
const (
	ReasonUnsupportedProtocol = "UnsupportedProtocol"
	ReasonNoNodePort          = "NoNodePort"
	ReasonInvalidAnnotation   = "InvalidAnnotation"
	ReasonInvalidAddress      = "InvalidAddress"
	ReasonNotInternal         = "NotInternal"
)

// InScope reports whether a Service gets a load balancer: it is of type
// LoadBalancer, of our class or, unless the class is asked for, of none, and is
// not on its way out. The comment of ServiceSpec.LoadBalancerClass has every
// implementation ignore Services of another class.
func InScope(service *corev1.Service, o Options) bool {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer || service.DeletionTimestamp != nil {
		return false
	}
	if class := service.Spec.LoadBalancerClass; class != nil {
		return *class == Class
	}
	return !o.UseLoadBalancerClass
}

// ServicePaths returns the paths of what a Service is rendered to.
func ServicePaths(tenant, namespace, name string) (loadBalancer, backend repo.Path) {
	path := repo.Path{Tenant: tenant, Namespace: namespace, Name: repo.FileName(name), SourceKind: "service"}
	loadBalancer, backend = path, path
	loadBalancer.Kind, backend.Kind = v1alpha1.KindLoadBalancer, v1alpha1.KindBackend
	return loadBalancer, backend
}

// Service renders a Service: its LoadBalancer and its Backend, or nothing if it
// is out of scope or none of its ports can be served.
func Service(service *corev1.Service, o Options) ([]Document, []v1alpha1.Problem) {
	if !InScope(service, o) {
		return nil, nil
	}
	wishPath, factPath := ServicePaths(o.Tenant, service.Namespace, service.Name)
	s := &serviceRenderer{service: service, path: wishPath}
	ports := s.ports()
	wish := s.loadBalancer(ports)
	if len(ports) == 0 {
		return nil, s.problems
	}
	fact := &v1alpha1.Backend{
		ObjectMeta: meta(factPath, service, "Service"),
		Spec:       v1alpha1.BackendSpec{Ports: ports, HealthCheckNodePort: service.Spec.HealthCheckNodePort},
	}
	fact.Annotations[v1alpha1.AnnotationOriginUID] = string(service.UID)
	return []Document{document(factPath, fact), document(wishPath, wish)}, s.problems
}

type serviceRenderer struct {
	service  *corev1.Service
	path     repo.Path
	problems []v1alpha1.Problem
}

func (s *serviceRenderer) problem(field, reason, message, remedy string) {
	s.problems = append(s.problems, v1alpha1.Problem{
		Path: s.path.String(), Object: s.path.Source(), Field: field, Reason: reason, Message: message, Remedy: remedy,
	})
}

// ports returns the ports that can be served, in the Service's order.
func (s *serviceRenderer) ports() []v1alpha1.BackendPort {
	var ports []v1alpha1.BackendPort
	allocates := s.service.Spec.AllocateLoadBalancerNodePorts
	for _, p := range s.service.Spec.Ports {
		name, protocol := strings.ToLower(p.Name), p.Protocol
		if name == "" {
			name = v1alpha1.DefaultName
		}
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		field := fmt.Sprintf("spec.ports[%s]", name)
		switch {
		case protocol != corev1.ProtocolTCP && protocol != corev1.ProtocolUDP:
			s.problem(field+".protocol", ReasonUnsupportedProtocol,
				fmt.Sprintf("port %d is %s; only TCP and UDP are served, so this port is left out", p.Port, protocol),
				"use TCP or UDP, or reach the port without a load balancer")
		case p.NodePort == 0 && allocates != nil && !*allocates:
			s.problem(field+".nodePort", ReasonNoNodePort,
				fmt.Sprintf("port %d has no NodePort, so the hub cannot reach it and it is left out", p.Port),
				"set spec.allocateLoadBalancerNodePorts to true, or give the port a nodePort")
		case p.NodePort == 0:
			s.problem(field+".nodePort", ReasonNoNodePort,
				fmt.Sprintf("port %d has no NodePort yet and waits for one", p.Port),
				"none is needed; if this stays, look whether the cluster has NodePorts left")
		default:
			ports = append(ports, v1alpha1.BackendPort{Name: name, Port: p.Port, Protocol: protocol, NodePort: p.NodePort})
		}
	}
	return ports
}

func (s *serviceRenderer) loadBalancer(ports []v1alpha1.BackendPort) *v1alpha1.LoadBalancer {
	lb := &v1alpha1.LoadBalancer{ObjectMeta: meta(s.path, s.service, "Service")}
	maps.Copy(lb.Annotations, s.annotations())
	lb.Spec = v1alpha1.LoadBalancerSpec{
		Type: corev1.ServiceTypeLoadBalancer,
		Endpoints: []v1alpha1.LoadBalancerEndpoints{{
			Name:               v1alpha1.DefaultName,
			AddressesReference: &corev1.ObjectReference{Name: v1alpha1.DefaultName},
			BackendReference:   &corev1.ObjectReference{Name: s.path.ObjectName()},
		}},
		Addresses: s.addresses(),
		LBPolicy:  s.lbPolicy(),
	}
	for _, p := range ports {
		lb.Spec.Ports = append(lb.Spec.Ports, v1alpha1.LoadBalancerPort{Name: p.Name, Port: p.Port, Protocol: p.Protocol})
	}
	// Cluster is the default and is not written.
	if s.service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		lb.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if s.service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		lb.Spec.Persistence = &v1alpha1.Persistence{Type: v1alpha1.PersistenceSourceIP}
	}
	lb.Spec.LoadBalancerSourceRanges = s.sourceRanges()
	s.internal()
	return lb
}

// sourceRanges are the client networks that may connect: those of the field, and
// those of the annotation where the field is empty, as k8s.io/cloud-provider's
// GetLoadBalancerSourceRanges has it. The API server refuses other texts than
// networks in either; the hub would, too.
func (s *serviceRenderer) sourceRanges() []string {
	words := s.service.Spec.LoadBalancerSourceRanges
	if len(words) == 0 {
		words = strings.Split(s.service.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey], ",")
	}
	var ranges []string
	for _, word := range words {
		if word = strings.TrimSpace(word); word != "" {
			ranges = append(ranges, word)
		}
	}
	return ranges
}

// internalOnly are the annotations, and the value in lower case, by which other
// implementations keep a load balancer from the internet. To take no notice of
// them would expose a Service whose owner believes that it is not.
var internalOnly = map[string]string{
	"cloud.google.com/load-balancer-type":                                "internal",
	"load-balancer.hetzner.cloud/disable-public-network":                 "true",
	"networking.gke.io/load-balancer-type":                               "internal",
	"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type": "intranet",
	"service.beta.kubernetes.io/aws-load-balancer-internal":              "true",
	"service.beta.kubernetes.io/aws-load-balancer-scheme":                "internal",
	"service.beta.kubernetes.io/azure-load-balancer-internal":            "true",
	"service.beta.kubernetes.io/oci-load-balancer-internal":              "true",
	"service.beta.kubernetes.io/openstack-internal-load-balancer":        "true",
	"service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type":     "private",
}

// internal says which annotations ask in vain for an internal load balancer.
func (s *serviceRenderer) internal() {
	for _, key := range slices.Sorted(maps.Keys(internalOnly)) {
		if strings.ToLower(strings.TrimSpace(s.service.Annotations[key])) == internalOnly[key] {
			s.problem(annotationField(key), ReasonNotInternal,
				"this annotation of another implementation asks for an internal load balancer and has no effect here: whoever reaches the address may connect",
				"name the clients in spec.loadBalancerSourceRanges, or ask for an address that only they reach with "+
					v1alpha1.AnnotationAddresses+"; then remove the annotation")
		}
	}
}

func (s *serviceRenderer) annotations() map[string]string {
	out := travelling(s.service.Annotations)
	if version, ok := out[v1alpha1.AnnotationProxyProtocol]; ok && version != "v2" {
		s.problem(annotationField(v1alpha1.AnnotationProxyProtocol), ReasonInvalidAnnotation,
			fmt.Sprintf("%q is not a version of the PROXY protocol that is sent, so none is", version),
			`write "v2", or remove the annotation`)
		delete(out, v1alpha1.AnnotationProxyProtocol)
	}
	if text, ok := out[v1alpha1.AnnotationHealthCheckPort]; ok {
		if _, ok := v1alpha1.ParseHealthCheckPort(text); !ok {
			s.problem(annotationField(v1alpha1.AnnotationHealthCheckPort), ReasonInvalidAnnotation,
				fmt.Sprintf("%q is not a port, so nodes are probed as without the annotation", v1alpha1.Printable(text, 64)),
				`write a number from 1 to 65535, "0" for no HTTP probe, or remove the annotation`)
			delete(out, v1alpha1.AnnotationHealthCheckPort)
		}
	}
	return out
}

// addresses are those that the Service asks for: by annotation, else by
// spec.loadBalancerIP.
func (s *serviceRenderer) addresses() []string {
	field, text := "spec.loadBalancerIP", s.service.Spec.LoadBalancerIP
	if list, ok := s.service.Annotations[v1alpha1.AnnotationAddresses]; ok {
		field, text = annotationField(v1alpha1.AnnotationAddresses), list
	}
	var addresses []string
	var families [2]bool
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		address, err := netip.ParseAddr(word)
		if err != nil || address.Zone() != "" {
			s.problem(field, ReasonInvalidAddress, fmt.Sprintf("%q is not an IP address and is not asked for", word),
				"write an IPv4 or IPv6 address, at most one of each, separated by a comma")
			continue
		}
		address = address.Unmap()
		family := 0
		if address.Is6() {
			family = 1
		}
		if families[family] {
			s.problem(field, ReasonInvalidAddress, fmt.Sprintf("%q is the second address of its family and is not asked for", word),
				"write an IPv4 or IPv6 address, at most one of each, separated by a comma")
			continue
		}
		families[family] = true
		addresses = append(addresses, address.String())
	}
	return addresses
}

func (s *serviceRenderer) lbPolicy() v1alpha1.LBPolicy {
	text, ok := s.service.Annotations[v1alpha1.AnnotationLBPolicy]
	policy := v1alpha1.LBPolicy(text)
	switch policy {
	case v1alpha1.LBPolicyRoundRobin, v1alpha1.LBPolicyLeastRequest, v1alpha1.LBPolicyRandom:
		return policy
	}
	if ok {
		s.problem(annotationField(v1alpha1.AnnotationLBPolicy), ReasonInvalidAnnotation,
			fmt.Sprintf("%q is not a policy, so the default is used", text),
			"write RoundRobin, LeastRequest or Random")
	}
	return ""
}

func annotationField(key string) string { return "metadata.annotations[" + key + "]" }
