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
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubelb/gitops/xds/ir"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

const (
	connectTimeout = 5 * time.Second
	// dnsRefresh is how often a name without a TTL is resolved again.
	dnsRefresh = 30 * time.Second
)

// policies maps every policy to Envoy's.
var policies = map[ir.Policy]clusterv3.Cluster_LbPolicy{
	"":              clusterv3.Cluster_ROUND_ROBIN,
	ir.RoundRobin:   clusterv3.Cluster_ROUND_ROBIN,
	ir.LeastRequest: clusterv3.Cluster_LEAST_REQUEST,
	ir.Random:       clusterv3.Cluster_RANDOM,
	ir.SourceIP:     clusterv3.Cluster_MAGLEV,
}

// cluster makes the cluster c without its endpoints, unless they are found by
// DNS.
func cluster(c ir.Cluster) (*clusterv3.Cluster, error) {
	var p packer
	out := &clusterv3.Cluster{
		Name:           c.Name,
		ConnectTimeout: durationpb.New(connectTimeout),
		LbPolicy:       policies[c.Policy],
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{Value: 0},
			// Otherwise workers hear up to a second later that an endpoint is out.
			UpdateMergeWindow: durationpb.New(0),
		},
		// A removed endpoint is gone at once, not when its health check fails.
		IgnoreHealthOnHostRemoval: true,
		CircuitBreakers:           unlimited(),
	}
	if c.HealthCheck != nil {
		out.HealthChecks = []*corev3.HealthCheck{healthCheck(*c.HealthCheck)}
	}
	if c.Interchangeable {
		out.OutlierDetection = passOver()
		out.CommonLbConfig.HealthyPanicThreshold.Value = leastHealthy
	}
	if c.ByDNS() {
		out.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dns",
			TypedConfig: p.pack(&dnsv3.DnsCluster{
				DnsRefreshRate:    durationpb.New(dnsRefresh),
				RespectDnsTtl:     true,
				DnsMinRefreshRate: durationpb.New(time.Second),
				DnsLookupFamily:   commondnsv3.DnsLookupFamily_V4_PREFERRED,
			}),
		}}
		out.LoadAssignment = loadAssignment(c)
	} else {
		out.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		out.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			ResourceApiVersion:    corev3.ApiVersion_V3,
		}}
	}
	if c.ProxyProtocol {
		proxyProtocol(&p, out)
	}
	return out, p.finish(out)
}

const (
	// leastHealthy is the percentage of endpoints below which all are tried: the
	// least that there is, Envoy rounds to whole ones.
	leastHealthy = 1
	// passedOver is how long an endpoint that refused a connection is out if no
	// probe brings it back earlier.
	passedOver = 15 * time.Second
)

// passOver takes an endpoint out when a connection to it fails, but never the
// last one (100 % of one endpoint is more than 99), and brings it back at the
// first good probe. Connections that are open stay. Envoy has no other way to
// try another endpoint: the choice of one for a TCP connection does not know
// those that were tried, and a hash finds the same one for ever.
func passOver() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          wrapperspb.UInt32(1),
		EnforcingConsecutiveLocalOriginFailure: wrapperspb.UInt32(100),
		MaxEjectionPercent:                     wrapperspb.UInt32(99),
		Interval:                               durationpb.New(passedOver / 3),
		BaseEjectionTime:                       durationpb.New(passedOver),
		MaxEjectionTime:                        durationpb.New(passedOver),
		// Only refusals count: the rest needs answers that layer 4 does not see.
		EnforcingConsecutive_5Xx:           wrapperspb.UInt32(0),
		EnforcingConsecutiveGatewayFailure: wrapperspb.UInt32(0),
		EnforcingSuccessRate:               wrapperspb.UInt32(0),
		EnforcingLocalOriginSuccessRate:    wrapperspb.UInt32(0),
	}
}

// unlimited lifts the 1,024 connections per cluster that Envoy has by default:
// the limit that counts is that of the whole proxy, in its bootstrap.
func unlimited() *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(math.MaxUint32),
		MaxPendingRequests: wrapperspb.UInt32(math.MaxUint32),
		MaxRequests:        wrapperspb.UInt32(math.MaxUint32),
	}}}
}

// probeHost is the Host header of HTTP probes. Without it Envoy sends the
// cluster's name, which no HTTP server accepts as a host.
const probeHost = "health-check"

func healthCheck(h ir.HealthCheck) *corev3.HealthCheck {
	out := &corev3.HealthCheck{
		Interval:           durationpb.New(h.Interval),
		Timeout:            durationpb.New(h.Timeout),
		UnhealthyThreshold: wrapperspb.UInt32(h.UnhealthyThreshold),
		HealthyThreshold:   wrapperspb.UInt32(h.HealthyThreshold),
		// Otherwise Envoy probes a cluster without traffic once a minute, and its
		// first clients meet what was down a minute ago.
		NoTrafficInterval: durationpb.New(h.Interval),
	}
	if h.Path == "" {
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
		return out
	}
	out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
		Path: h.Path,
		Host: probeHost,
	}}
	return out
}

// proxyProtocol sends a PROXY header to the endpoints. A probe of another port
// goes without: the node's health check server does not speak it.
func proxyProtocol(p *packer, c *clusterv3.Cluster) {
	plain := &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.raw_buffer",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&rawbufferv3.RawBuffer{})},
	}
	c.TransportSocket = &corev3.TransportSocket{
		Name: "envoy.transport_sockets.upstream_proxy_protocol",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&proxyprotocolv3.ProxyProtocolUpstreamTransport{
			Config:          &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2},
			TransportSocket: plain,
		})},
	}
	for _, h := range c.HealthChecks {
		probe := &structpb.Struct{Fields: map[string]*structpb.Value{"probe": structpb.NewBoolValue(true)}}
		h.TransportSocketMatchCriteria = probe
		c.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{{
			Name:            "probe",
			Match:           probe,
			TransportSocket: plain,
		}}
	}
}

// assignment makes the endpoints of a cluster that is not found by DNS.
func assignment(c ir.Cluster) (*endpointv3.ClusterLoadAssignment, error) {
	out := loadAssignment(c)
	return out, out.ValidateAll()
}

func loadAssignment(c ir.Cluster) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: c.Name}
	if len(c.Endpoints) == 0 {
		return out
	}
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, e := range c.Endpoints {
		endpoint := &endpointv3.Endpoint{Address: socketAddress(e.Address, e.Port, ir.TCP)}
		if c.HealthCheck != nil && c.HealthCheck.Port != 0 {
			endpoint.HealthCheckConfig = &endpointv3.Endpoint_HealthCheckConfig{PortValue: uint32(c.HealthCheck.Port)}
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: endpoint},
		})
	}
	out.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	return out
}
