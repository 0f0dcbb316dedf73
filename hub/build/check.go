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
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// checker decides which endpoints a tenant may have. A proxy of the hub can
// reach what the tenant's users cannot: the hub itself, its machines, the cloud
// provider's metadata service. No endpoint may lead there.
type checker struct {
	hub, allowed []netip.Prefix
	// external reports whether the hub gives an address to load balancers. No
	// network that is allowed has any of these: a proxy that connects to itself
	// makes thousands of connections of one.
	external func(netip.Addr) bool
	// domains that the tenant's endpoints may be named in; hostnames is false for
	// nodes, which are reached by address only.
	domains   []string
	hostnames bool
}

const metadata = "a metadata service"

// forbidden are the networks that no endpoint may be in, beside loopback,
// link-local (which has 169.254.169.254 and most other metadata services),
// multicast and the hub's networks.
var forbidden = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "not an address of a host"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("169.254.169.254/32"), metadata},
	{netip.MustParsePrefix("100.100.100.200/32"), metadata},                        // Alibaba Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), metadata},                          // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), metadata},                            // Oracle Cloud Classic
	{netip.MustParsePrefix("192.0.0.0/24"), "not an address of a host"},            // RFC 6890
	{netip.MustParsePrefix("192.88.99.0/24"), "a relay of a transition mechanism"}, // RFC 7526
	{netip.MustParsePrefix("fd00:ec2::/32"), metadata},                             // AWS: instances, pod identities, DNS, time
	{netip.MustParsePrefix("fd20:ce::254/128"), metadata},                          // Google Cloud
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), metadata},                    // Oracle Cloud
	{netip.MustParsePrefix("fd00:42::42/128"), metadata},                           // Scaleway
	{netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"), metadata},                     // Akamai
	{netip.MustParsePrefix("fd00:100::100:200/128"), metadata},                     // Alibaba Cloud
	{netip.MustParsePrefix("::/128"), "not an address of a host"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a network of a transition mechanism"}, // RFC 8215
	{netip.MustParsePrefix("100::/64"), "not an address of a host"},                  // RFC 6666
	{netip.MustParsePrefix("2001::/32"), "a network of a transition mechanism"},      // Teredo, RFC 4380
}

// embedding are the IPv6 networks whose addresses lead to the IPv4 address that
// begins at this byte of them.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},           // RFC 4291, 2.5.5.1
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // RFC 2765
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},        // RFC 3056
}

// embedded returns the IPv4 address that an IPv6 address leads to, if it leads to
// one.
func embedded(ip netip.Addr) (netip.Addr, bool) {
	bytes := ip.As16()
	for _, e := range embedding {
		if e.prefix.Contains(ip) {
			return netip.AddrFrom4([4]byte(bytes[e.at : e.at+4])), true
		}
	}
	// ISATAP, RFC 5214: the interface identifier is 0:5efe or 200:5efe and the address.
	if id := [4]byte(bytes[8:12]); ip.Is6() && (id == [4]byte{0, 0, 0x5e, 0xfe} || id == [4]byte{2, 0, 0x5e, 0xfe}) {
		return netip.AddrFrom4([4]byte(bytes[12:])), true
	}
	return netip.Addr{}, false
}

// Reaches returns the addresses that an endpoint leads to: its own, and the IPv4
// address inside of it if there is one. None if it is a DNS name.
func Reaches(a v1alpha1.EndpointAddress) []netip.Addr {
	ip, err := netip.ParseAddr(a.IP)
	if err != nil {
		return nil
	}
	ip = ip.Unmap()
	if inner, ok := embedded(ip); ok {
		return []netip.Addr{ip, inner}
	}
	return []netip.Addr{ip}
}

// check returns the endpoint as proxies take it, or which it is and why it is
// refused.
func (c checker) check(a v1alpha1.EndpointAddress) (address, why string) {
	text := a.IP
	if text == "" {
		text = a.Hostname
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return c.checkHostname(text)
	}
	if ip.Zone() != "" {
		return "", text + " (it has a zone)"
	}
	ip = ip.Unmap()
	if what := c.refuse(ip); what != "" {
		return "", ip.String() + " (" + what + ")"
	}
	return ip.String(), ""
}

// refuse returns why the tenant may not have an endpoint. An address that leads
// to another one is judged as that, too.
func (c checker) refuse(ip netip.Addr) string {
	inner, leads := embedded(ip)
	if c.external != nil && (c.external(ip) || leads && c.external(inner)) {
		return "an address that the hub gives to load balancers"
	}
	if slices.ContainsFunc(c.allowed, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return ""
	}
	if what := c.forbidden(ip); what != "" || !leads {
		return what
	}
	if what := c.forbidden(inner); what != "" {
		return "it leads to " + inner.String() + ": " + what
	}
	return ""
}

func (c checker) forbidden(ip netip.Addr) string {
	for _, f := range forbidden {
		if f.prefix.Contains(ip) {
			return f.what
		}
	}
	switch {
	case ip.IsLoopback():
		return "loopback"
	case ip.IsLinkLocalUnicast():
		return "link-local"
	case ip.IsMulticast():
		return "multicast"
	case slices.ContainsFunc(c.hub, func(p netip.Prefix) bool { return p.Contains(ip) }):
		return "a network of the hub"
	}
	return ""
}

var (
	hostname = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	// numeric is a last label that resolvers read as the end of an IPv4 address
	// in one of its old spellings, such as 127.1 or 0x7f.0x1.
	numeric = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)
	// internal are domains that mean something else at the hub than they do
	// outside.
	internal = []string{".svc", ".cluster.local", ".local", ".localhost", ".internal", ".localdomain", ".home.arpa"}
)

func (c checker) checkHostname(text string) (address, why string) {
	name := strings.TrimSuffix(strings.ToLower(text), ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case !c.hostnames:
		return "", text + " (nodes are reached by IP address only)"
	case len(name) > 253 || !hostname.MatchString(name) || numeric.MatchString(last):
		return "", text + " (neither an IP address nor a DNS name with a domain)"
	case slices.ContainsFunc(internal, func(s string) bool { return strings.HasSuffix(name, s) }):
		return "", text + " (a name inside a cluster or network)"
	case !slices.ContainsFunc(c.domains, func(d string) bool { return inDomain(name, strings.ToLower(d)) }):
		return "", text + " (in no domain of the tenant's allowedEndpointDomains)"
	}
	return name, ""
}

// inDomain reports whether a name is the domain, or below it if that begins
// with "*.".
func inDomain(name, domain string) bool {
	if parent, ok := strings.CutPrefix(domain, "*"); ok {
		return strings.HasSuffix(name, parent)
	}
	return name == domain
}
