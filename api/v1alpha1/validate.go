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
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Validate returns every mistake in an object that its schema alone cannot
// find, and those that it could, for objects that never met an API server. Path
// and Object of the problems are left to the caller. The object is not changed.
//
// What an object alone cannot tell is not looked at: whether a backend has a
// port, an address is free, a tenant may have an endpoint. Status is not looked
// at either, as only the hub writes it.
func Validate(object runtime.Object) []Problem {
	v := &validator{}
	switch o := object.(type) {
	case *LoadBalancer:
		v.meta(o.ObjectMeta)
		v.loadBalancer(o)
	case *Route:
		v.meta(o.ObjectMeta)
		v.route(o)
	case *Addresses:
		v.meta(o.ObjectMeta)
		v.count("spec.addresses", len(o.Spec.Addresses), 1, maxNodes)
		v.endpointAddresses("spec.addresses", o.Spec.Addresses)
	case *Backend:
		v.meta(o.ObjectMeta)
		v.backend(&o.Spec)
	case *SyncSecret:
		v.meta(o.ObjectMeta)
		v.syncSecret(o)
	case *Tenant:
		v.meta(o.ObjectMeta)
		v.tenant(o)
	case *Config:
		v.meta(o.ObjectMeta)
		v.config(&o.Spec)
	case *GitSource:
		v.meta(o.ObjectMeta)
		v.gitSource(o)
	case *TenantState:
		v.meta(o.ObjectMeta)
	default:
		v.invalid("kind", fmt.Sprintf("%T is not a kind of this API", object), "use one of its kinds")
	}
	return v.found()
}

// The limits of lists, as in the CRDs.
const (
	maxNodes      = 5000
	maxAddresses  = 1000
	maxPorts      = 100
	maxGroups     = 16
	maxPools      = 64
	maxNetworks   = 100
	maxListLength = 16
)

// validator collects the mistakes of one object, the first of them in words.
type validator struct {
	problems []Problem
	more     int // that are only counted
}

func (v *validator) invalid(field, message, remedy string) {
	if len(v.problems) >= MaxFileProblems {
		v.more++
		return
	}
	v.problems = append(v.problems, Problem{Field: field, Reason: ReasonInvalid, Message: message, Remedy: remedy}.Bounded())
}

func (v *validator) found() []Problem { return FileProblems(v.problems, v.more) }

func (v *validator) meta(m metav1.ObjectMeta) {
	if why := validation.IsDNS1123Subdomain(m.Name); len(why) > 0 {
		v.invalid("metadata.name", fmt.Sprintf("%q is not a name: %s", m.Name, why[0]), "use lower case letters, digits, - and .")
	}
	for _, key := range sortedKeys(m.Labels) {
		v.qualifiedKey("metadata.labels", key)
		if why := validation.IsValidLabelValue(m.Labels[key]); len(why) > 0 {
			v.invalid(at("metadata.labels", key), fmt.Sprintf("%q is not the value of a label: %s", m.Labels[key], why[0]),
				"use at most 63 letters, digits, -, _ and .")
		}
	}
	size := 0
	for _, key := range sortedKeys(m.Annotations) {
		v.qualifiedKey("metadata.annotations", strings.ToLower(key))
		size += len(key) + len(m.Annotations[key])
	}
	if size > 256<<10 {
		v.invalid("metadata.annotations", fmt.Sprintf("the annotations have %d bytes, at most %d are allowed", size, 256<<10), "remove some")
	}
}

func (v *validator) qualifiedKey(field, key string) {
	if why := validation.IsQualifiedName(key); len(why) > 0 {
		v.invalid(at(field, key), fmt.Sprintf("%q is not a key: %s", key, why[0]), "use <domain>/<name>")
	}
}

func (v *validator) count(field string, n, least, most int) {
	switch {
	case n < least:
		v.invalid(field, fmt.Sprintf("it has %d entries, at least %d needed", n, least), "add one")
	case n > most:
		v.invalid(field, fmt.Sprintf("it has %d entries, at most %d are allowed", n, most), "remove some")
	}
}

func (v *validator) number(field string, n int32) {
	if n < 1 || n > 65535 {
		v.invalid(field, fmt.Sprintf("%d is not a port number", n), "use 1 to 65535")
	}
}

func (v *validator) protocol(field string, p corev1.Protocol) {
	oneOf(v, field, p, "", corev1.ProtocolTCP, corev1.ProtocolUDP)
}

// oneOf checks a value of an enum. The empty string, where it is allowed, means
// the default.
func oneOf[T ~string](v *validator, field string, value T, allowed ...T) {
	if slices.Contains(allowed, value) {
		return
	}
	var words []string
	for _, a := range allowed {
		if a != "" {
			words = append(words, string(a))
		}
	}
	v.invalid(field, fmt.Sprintf("%q is not one of its values", value), "use "+strings.Join(words, " or "))
}

var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// name checks the name of a list element and that it is not there twice.
func (v *validator) name(field, name string, seen map[string]bool) {
	if len(name) > 63 || !label.MatchString(name) {
		v.invalid(field+".name", fmt.Sprintf("%q is not a name", name), "use at most 63 lower case letters, digits and -")
	}
	if seen[name] {
		v.invalid(field+".name", fmt.Sprintf("the name %q is there twice", name), "give each its own name")
	}
	seen[name] = true
}

// portSet checks the ports of one list.
type portSet struct {
	names   map[string]bool
	numbers map[string]string
}

func newPortSet() portSet { return portSet{names: map[string]bool{}, numbers: map[string]string{}} }

// port checks one port and returns its path. Where numbers are unique they are
// checked to be.
func (v *validator) port(list, name string, number int32, protocol corev1.Protocol, seen portSet, unique bool) string {
	name = cmp.Or(name, DefaultName)
	field := at(list, name)
	v.name(field, name, seen.names)
	v.number(field+".port", number)
	v.protocol(field+".protocol", protocol)
	text := fmt.Sprintf("%d/%s", number, cmp.Or(protocol, corev1.ProtocolTCP))
	if other, taken := seen.numbers[text]; taken && unique {
		v.invalid(field+".port", fmt.Sprintf("%s is the port %q already", text, other), "remove one of the two")
	}
	seen.numbers[text] = name
	return field
}

// cidr checks a network and returns it if it is one.
func (v *validator) cidr(field, text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		v.invalid(field, fmt.Sprintf("%q is not a network", text), "write a CIDR such as 198.51.100.0/24")
		return netip.Prefix{}, false
	}
	return p, true
}

// ip checks an address and returns it if it is one.
func (v *validator) ip(field, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		v.invalid(field, fmt.Sprintf("%q is not an IP address", text), "write an address such as 198.51.100.7 or 2001:db8::7")
		return netip.Addr{}, false
	}
	return a, true
}

func (v *validator) dnsName(field, text string) {
	if why := validation.IsDNS1123Subdomain(strings.TrimSuffix(strings.ToLower(text), ".")); len(why) > 0 || len(text) > 253 {
		v.invalid(field, fmt.Sprintf("%q is not a DNS name", text), "write a name such as app.example.com")
	}
}

// domain checks a DNS name that may begin with "*.".
func (v *validator) domain(field, text string) {
	v.dnsName(field, strings.TrimPrefix(text, "*."))
}

// unique checks the entries of a set.
func (v *validator) unique(field string, entries []string) {
	seen := map[string]bool{}
	for i, entry := range entries {
		if seen[entry] {
			v.invalid(index(field, i), fmt.Sprintf("%q is there twice", entry), "remove one of the two")
		}
		seen[entry] = true
	}
}

// at returns the path of an element of a map or keyed list.
// A key that is no name is cut: a path is made for each mistake.
func at(field, key string) string { return field + "[" + Printable(key, 128) + "]" }

// index returns the path of an element of a list without keys.
func index(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

func sortedKeys[K ~string, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for key := range m {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}
