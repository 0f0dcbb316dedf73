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

package translate

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	xdscore "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubelb/gitops/xds/ir"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// Idle timeouts of a listener that names none.
const (
	idleTCP = time.Hour
	idleUDP = time.Minute
)

const (
	// connectAttempts is how many endpoints a TCP connection may try.
	connectAttempts = 4
	// connectPause is at most between the first two; it doubles.
	connectPause = 25 * time.Millisecond
)

// listener makes the listener l, whose cluster picks endpoints by policy.
func listener(l ir.Listener, policy ir.Policy) (*listenerv3.Listener, error) {
	var p packer
	out := &listenerv3.Listener{
		Name:            l.Name(),
		Address:         socketAddress(l.Address.String(), l.Port, l.Protocol),
		EnableReusePort: wrapperspb.Bool(true),
	}
	if l.Freebind {
		out.Freebind = wrapperspb.Bool(true)
	}
	if l.Protocol == ir.UDP {
		out.UdpListenerConfig = &listenerv3.UdpListenerConfig{DownstreamSocketConfig: datagrams()}
		out.SocketOptions = []*corev3.SocketOption{fragments(l.Address)}
		out.ListenerFilters = []*listenerv3.ListenerFilter{{
			Name:       "envoy.filters.udp_listener.udp_proxy",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: p.pack(udpProxy(&p, l, policy))},
		}}
	} else {
		out.FilterChains = []*listenerv3.FilterChain{{
			FilterChainMatch: sourceMatch(l.SourceRanges),
			Filters: []*listenerv3.Filter{{
				Name:       "envoy.filters.network.tcp_proxy",
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: p.pack(tcpProxy(l, policy))},
			}},
		}}
	}
	return out, p.finish(out)
}

func tcpProxy(l ir.Listener, policy ir.Policy) *tcpproxyv3.TcpProxy {
	out := &tcpproxyv3.TcpProxy{
		StatPrefix:       l.Name(),
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: l.Cluster},
		IdleTimeout:      idle(l.IdleTimeout, idleTCP),
		// The pause lets the news of a refusal reach the choice of the next endpoint.
		MaxConnectAttempts: wrapperspb.UInt32(connectAttempts),
		BackoffOptions:     &corev3.BackoffStrategy{BaseInterval: durationpb.New(connectPause), MaxInterval: durationpb.New(4 * connectPause)},
	}
	if policy == ir.SourceIP {
		out.HashPolicy = []*typev3.HashPolicy{{
			PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}},
		}}
	}
	return out
}

func udpProxy(p *packer, l ir.Listener, policy ir.Policy) *udpproxyv3.UdpProxyConfig {
	out := &udpproxyv3.UdpProxyConfig{
		StatPrefix:     l.Name(),
		RouteSpecifier: &udpproxyv3.UdpProxyConfig_Matcher{Matcher: udpRoute(p, l)},
		IdleTimeout:    idle(l.IdleTimeout, idleUDP),

		UpstreamSocketConfig: datagrams(),
	}
	if policy == ir.SourceIP {
		out.HashPolicies = []*udpproxyv3.UdpProxyConfig_HashPolicy{{
			PolicySpecifier: &udpproxyv3.UdpProxyConfig_HashPolicy_SourceIp{SourceIp: true},
		}}
	}
	return out
}

// maxDatagram is the largest size that Envoy allows to be set. No UDP datagram is
// larger: its length field has 16 bits (RFC 768). Envoy's default of 1,500 bytes
// drops what is larger without an error to either side.
const maxDatagram = 1<<16 - 1

// datagrams configures a UDP socket for datagrams of every size. GRO is no choice
// at listeners: Envoy sets UDP_GRO on all of them, and only the reader that it
// takes with PreferGro cuts what the kernel joined.
func datagrams() *corev3.UdpSocketConfig {
	return &corev3.UdpSocketConfig{
		MaxRxDatagramSize: wrapperspb.UInt64(maxDatagram),
		PreferGro:         wrapperspb.Bool(true),
	}
}

// Linux' names of the socket options of fragments, see ip(7) and ipv6(7).
const (
	solIP, ipMTUDiscover     = 0, 10
	solIPv6, ipv6MTUDiscover = 41, 23
	pmtudiscWant             = 1
)

// fragments lets the kernel fragment answers that are larger than the path's
// MTU, as it does for every program that asks for nothing else. Envoy forbids it
// before it binds a UDP listener (for QUIC's sake), and drops what is too large.
func fragments(address netip.Addr) *corev3.SocketOption {
	out := &corev3.SocketOption{
		Description: "IP_MTU_DISCOVER",
		Level:       solIP,
		Name:        ipMTUDiscover,
		Value:       &corev3.SocketOption_IntValue{IntValue: pmtudiscWant},
		State:       corev3.SocketOption_STATE_BOUND,
	}
	if address.Is6() {
		out.Description, out.Level, out.Name = "IPV6_MTU_DISCOVER", solIPv6, ipv6MTUDiscover
	}
	return out
}

// udpRoute sends datagrams to the listener's cluster: all of them, or those of
// the source ranges. A datagram that no range matches is dropped.
func udpRoute(p *packer, l ir.Listener) *xdsmatcher.Matcher {
	route := &xdsmatcher.Matcher_OnMatch{OnMatch: &xdsmatcher.Matcher_OnMatch_Action{
		Action: &xdscore.TypedExtensionConfig{
			Name:        "route",
			TypedConfig: p.pack(&udpproxyv3.Route{Cluster: l.Cluster}),
		},
	}}
	if len(l.SourceRanges) == 0 {
		return &xdsmatcher.Matcher{OnNoMatch: route}
	}
	ranges := make([]*xdscore.CidrRange, 0, len(l.SourceRanges))
	for _, r := range networks(l.SourceRanges) {
		ranges = append(ranges, &xdscore.CidrRange{
			AddressPrefix: r.Addr().String(),
			PrefixLen:     wrapperspb.UInt32(uint32(r.Bits())),
		})
	}
	tree := &xdsmatcher.Matcher_MatcherTree{
		Input: &xdscore.TypedExtensionConfig{
			Name:        "envoy.matching.inputs.source_ip",
			TypedConfig: p.pack(&networkinputsv3.SourceIPInput{}),
		},
		TreeType: &xdsmatcher.Matcher_MatcherTree_CustomMatch{CustomMatch: &xdscore.TypedExtensionConfig{
			Name: "envoy.matching.custom_matchers.ip",
			TypedConfig: p.pack(&xdsmatcher.IPMatcher{RangeMatchers: []*xdsmatcher.IPMatcher_IPRangeMatcher{{
				Ranges:  ranges,
				OnMatch: route,
			}}}),
		}},
	}
	return &xdsmatcher.Matcher{MatcherType: &xdsmatcher.Matcher_MatcherTree_{MatcherTree: tree}}
}

// sourceMatch lets only clients of these networks find the filter chain; Envoy
// closes the connection of any other.
func sourceMatch(ranges []netip.Prefix) *listenerv3.FilterChainMatch {
	if len(ranges) == 0 {
		return nil
	}
	out := &listenerv3.FilterChainMatch{}
	for _, r := range networks(ranges) {
		out.SourcePrefixRanges = append(out.SourcePrefixRanges, &corev3.CidrRange{
			AddressPrefix: r.Addr().String(),
			PrefixLen:     wrapperspb.UInt32(uint32(r.Bits())),
		})
	}
	return out
}

// networks drops host bits, and with them what they made look different: Envoy
// refuses a range that is listed twice.
func networks(ranges []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(ranges))
	for _, r := range ranges {
		out = append(out, r.Masked())
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(out)
}

func socketAddress(address string, port uint16, protocol ir.Protocol) *corev3.Address {
	out := &corev3.SocketAddress{
		Address:       address,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}
	if protocol == ir.UDP {
		out.Protocol = corev3.SocketAddress_UDP
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: out}}
}

func idle(timeout, otherwise time.Duration) *durationpb.Duration {
	if timeout == 0 {
		timeout = otherwise
	}
	return durationpb.New(timeout)
}
