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
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (v *validator) loadBalancer(lb *LoadBalancer) {
	spec := &lb.Spec
	v.count("spec.endpoints", len(spec.Endpoints), 1, maxGroups)
	v.endpoints(spec.Endpoints, lb.Namespace, true)
	v.count("spec.ports", len(spec.Ports), 1, maxPorts)
	ports := newPortSet()
	for _, p := range spec.Ports {
		v.port("spec.ports", p.Name, p.Port, p.Protocol, ports, true)
	}
	if spec.Hostname != "" {
		v.dnsName("spec.hostname", spec.Hostname)
	}
	oneOf(v, "spec.type", spec.Type, "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeLoadBalancer)
	oneOf(v, "spec.externalTrafficPolicy", spec.ExternalTrafficPolicy, "",
		corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	if spec.Persistence != nil {
		oneOf(v, "spec.persistence.type", spec.Persistence.Type, PersistenceSourceIP)
	}
	oneOf(v, "spec.lbPolicy", spec.LBPolicy, "", LBPolicyRoundRobin, LBPolicyLeastRequest, LBPolicyRandom)
	v.requestedAddresses(spec.Addresses)
	v.count("spec.loadBalancerSourceRanges", len(spec.LoadBalancerSourceRanges), 0, maxNetworks)
	for i, text := range spec.LoadBalancerSourceRanges {
		v.cidr(index("spec.loadBalancerSourceRanges", i), text)
	}
}

func (v *validator) requestedAddresses(addresses []string) {
	v.count("spec.addresses", len(addresses), 0, 2)
	families := map[int]bool{}
	for i, text := range addresses {
		field := index("spec.addresses", i)
		a, ok := v.ip(field, text)
		if !ok {
			continue
		}
		if families[a.BitLen()] {
			v.invalid(field, "there is another address of the same family", "ask for at most one IPv4 and one IPv6 address")
		}
		families[a.BitLen()] = true
	}
}

// endpoints checks groups of endpoints. Those of a route need no ports: its
// Services have them.
func (v *validator) endpoints(groups []LoadBalancerEndpoints, namespace string, needPorts bool) {
	names := map[string]bool{}
	for _, g := range groups {
		name := g.Name
		if name == "" {
			name = DefaultName
		}
		field := at("spec.endpoints", name)
		v.name(field, name, names)
		switch {
		case len(g.Addresses) > 0 && g.AddressesReference != nil:
			v.invalid(field+".addresses", "addresses and addressesReference are both set", "remove one of the two")
		case len(g.Addresses) == 0 && g.AddressesReference == nil:
			v.invalid(field+".addresses", "there are no addresses", "set addresses or addressesReference")
		}
		v.count(field+".addresses", len(g.Addresses), 0, maxAddresses)
		v.endpointAddresses(field+".addresses", g.Addresses)
		v.reference(field+".addressesReference", g.AddressesReference, KindAddresses, namespace)
		switch {
		case len(g.Ports) > 0 && g.BackendReference != nil:
			v.invalid(field+".ports", "ports and backendReference are both set", "remove one of the two")
		case len(g.Ports) == 0 && g.BackendReference == nil && needPorts:
			v.invalid(field+".ports", "there are no ports", "set ports or backendReference")
		}
		v.count(field+".ports", len(g.Ports), 0, maxPorts)
		v.reference(field+".backendReference", g.BackendReference, KindBackend, namespace)
		ports := newPortSet()
		for _, p := range g.Ports {
			v.port(field+".ports", p.Name, p.Port, p.Protocol, ports, false)
		}
	}
}

func (v *validator) endpointAddresses(list string, addresses []EndpointAddress) {
	for i, a := range addresses {
		field := index(list, i)
		switch {
		case (a.IP == "") == (a.Hostname == ""):
			v.invalid(field, "it needs either ip or hostname", "set one of the two")
		case a.IP != "":
			v.ip(field+".ip", a.IP)
		default:
			v.dnsName(field+".hostname", a.Hostname)
			if _, err := netip.ParseAddr(a.Hostname); err == nil {
				v.invalid(field+".hostname", fmt.Sprintf("%q is an IP address", a.Hostname), "set ip instead")
			}
		}
	}
}

// reference checks that a reference names an object of a kind beside the
// referring one, and nothing else: a tenant cannot reach into another namespace.
func (v *validator) reference(field string, r *corev1.ObjectReference, kind, namespace string) {
	if r == nil {
		return
	}
	if why := validation.IsDNS1123Subdomain(r.Name); len(why) > 0 {
		v.invalid(field+".name", fmt.Sprintf("%q is not the name of an object", r.Name), "name the "+kind)
	} else if kind == KindAddresses && r.Name != DefaultName {
		v.invalid(field+".name", fmt.Sprintf("%q is not the name of the tenant's Addresses", r.Name), `name "default", the only one there is`)
	}
	if r.Namespace != "" && r.Namespace != namespace {
		v.invalid(field+".namespace", fmt.Sprintf("%q is another namespace", r.Namespace), "remove the field: objects are looked for beside the referring one")
	}
	if r.Kind != "" && r.Kind != kind {
		v.invalid(field+".kind", fmt.Sprintf("%q is not %s", r.Kind, kind), "remove the field")
	}
	if r.APIVersion != "" && r.APIVersion != GroupVersion.String() {
		v.invalid(field+".apiVersion", fmt.Sprintf("%q is not %s", r.APIVersion, GroupVersion), "remove the field")
	}
	if r.UID != "" || r.ResourceVersion != "" || r.FieldPath != "" {
		v.invalid(field, "it names more than an object", "remove uid, resourceVersion and fieldPath")
	}
}

func (v *validator) backend(spec *BackendSpec) {
	v.count("spec.ports", len(spec.Ports), 1, maxPorts)
	ports := newPortSet()
	for _, p := range spec.Ports {
		v.number(v.port("spec.ports", p.Name, p.Port, p.Protocol, ports, true)+".nodePort", p.NodePort)
	}
	if spec.HealthCheckNodePort != 0 {
		v.number("spec.healthCheckNodePort", spec.HealthCheckNodePort)
	}
}

// armoredAge is what one armored age file looks like.
var armoredAge = regexp.MustCompile(`^-----BEGIN AGE ENCRYPTED FILE-----\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n-----END AGE ENCRYPTED FILE-----$`)

func (v *validator) syncSecret(s *SyncSecret) {
	if !SyncableSecretType(s.Type) {
		v.invalid("type", fmt.Sprintf("a Secret of type %s is a credential of its own cluster", s.Type), "use another type, or leave the Secret where it is")
	}
	if s.Sealed != "" {
		if !armoredAge.MatchString(strings.ReplaceAll(strings.TrimSpace(s.Sealed), "\r\n", "\n")) {
			v.invalid("sealed", "it is not one armored age file", "seal the secret (kubelbctl seal)")
		}
		if len(s.Data)+len(s.StringData) > 0 {
			v.invalid("data", "a sealed secret has plaintext as well", "remove data and stringData, and treat them as disclosed")
		}
	}
	for _, key := range slices.Concat(sortedKeys(s.Data), sortedKeys(s.StringData)) {
		if why := validation.IsConfigMapKey(key); len(why) > 0 {
			v.invalid(at("data", key), fmt.Sprintf("%q is not a key: %s", key, why[0]), "use letters, digits, -, _ and .")
		}
	}
}

// routeSources are what a Route can be made from, by the part of apiVersion
// before the slash.
var routeSources = map[string][]string{
	"networking.k8s.io":         {"Ingress"},
	"gateway.networking.k8s.io": {"Gateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"},
}

func (v *validator) route(r *Route) {
	v.count("spec.endpoints", len(r.Spec.Endpoints), 0, maxGroups)
	v.endpoints(r.Spec.Endpoints, r.Namespace, false)
	source := r.Spec.Source.Kubernetes
	if source == nil {
		return
	}
	const field = "spec.source.kubernetes"
	if h, ok := v.embedded(field+".resource", source.Route); ok {
		group, _, _ := strings.Cut(h.APIVersion, "/")
		if !slices.Contains(routeSources[group], h.Kind) {
			v.invalid(field+".resource.kind", fmt.Sprintf("a route cannot be made from %s of %s", h.Kind, h.APIVersion),
				"use an Ingress, a Gateway or a route of the Gateway API")
		}
	}
	for i, service := range source.Services {
		list := index(field+".services", i)
		if h, ok := v.embedded(list, service.RawExtension); ok && (h.APIVersion != "v1" || h.Kind != "Service") {
			v.invalid(list+".kind", fmt.Sprintf("%s of %s is not a Service", h.Kind, h.APIVersion), "list Services only")
		}
	}
}

type embeddedHead struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   *struct {
		Name string `json:"name"`
	} `json:"metadata"`
}

// embedded checks what the API server checks in embedded resources.
func (v *validator) embedded(field string, raw runtime.RawExtension) (h embeddedHead, ok bool) {
	text, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	if err != nil || h.APIVersion == "" || h.Kind == "" || h.Metadata == nil || h.Metadata.Name == "" {
		v.invalid(field, "it is not an object with apiVersion, kind and a name", "write the whole object")
		return h, false
	}
	return h, true
}
