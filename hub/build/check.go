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
	// domains that the tenant's endpoints may be named in; hostnames is false for
	// nodes, which are reached by address only.
	domains   []string
	hostnames bool
}

// forbidden are the networks that no endpoint may be in, beside loopback,
// link-local (which has 169.254.169.254), multicast and the hub's networks.
var forbidden = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "not an address of a host"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("169.254.169.254/32"), "a metadata service"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a metadata service"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a metadata service"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a metadata service"},
	{netip.MustParsePrefix("::/128"), "not an address of a host"},
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
	in := func(p netip.Prefix) bool { return p.Contains(ip) }
	if slices.ContainsFunc(c.allowed, in) {
		return ip.String(), ""
	}
	if what := c.refuse(ip); what != "" {
		return "", ip.String() + " (" + what + ")"
	}
	return ip.String(), ""
}

func (c checker) refuse(ip netip.Addr) string {
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
