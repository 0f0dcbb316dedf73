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

// Package ir is what the hub wants its proxies to serve, in plain structs: no
// Kubernetes, no Envoy. hub/build makes it, xds/translate turns it into protos,
// xds reports back what became of it as a [Verdict].
//
// The unit is a [Part]: everything that one owner (a LoadBalancer) needs. A
// change of one owner publishes one Part, so its cost does not depend on how
// many others there are. Equal Parts have equal hashes, whatever order their
// maker listed things in.
//
// The package promises to be plain data: it imports the standard library only,
// does no I/O and never changes its input. It refuses Parts that no proxy could
// serve ([Part.Validate]).
package ir

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Protocol is a transport protocol, in the words of Kubernetes.
type Protocol string

// The protocols a listener can have.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// Port is what a socket needs beside its address: a number and a protocol.
type Port struct {
	Number   uint16
	Protocol Protocol
}

// String returns the port as people write it: "443/TCP".
func (p Port) String() string { return strconv.Itoa(int(p.Number)) + "/" + string(p.Protocol) }

// Policy is how a cluster picks an endpoint.
type Policy string

// The policies; the zero value means RoundRobin.
const (
	RoundRobin   Policy = "RoundRobin"
	LeastRequest Policy = "LeastRequest"
	Random       Policy = "Random"
	// SourceIP keeps a client on an endpoint by consistent hashing (Maglev) of
	// its address.
	SourceIP Policy = "SourceIP"
)

// Part is what one owner wants served: its listeners and the clusters they use.
type Part struct {
	Listeners []Listener
	Clusters  []Cluster
}

// Listener is one socket: an address, a port and a protocol, and the cluster
// that its traffic goes to.
type Listener struct {
	Address  netip.Addr
	Port     uint16
	Protocol Protocol
	// Cluster is the Name of a cluster of the same Part.
	Cluster string
	// SourceRanges are the client networks that may connect; empty means all.
	SourceRanges []netip.Prefix
	// Freebind lets the proxy bind an address its machine does not have (yet).
	Freebind bool
	// IdleTimeout closes a silent TCP connection or UDP session. Zero means one
	// hour for TCP and one minute for UDP.
	IdleTimeout time.Duration
}

// Name is the listener's name at the proxy: address, port and protocol, so that
// a change of any of them makes another listener and everything else changes in
// place.
func (l Listener) Name() string {
	return ListenerName(l.Address, l.Port, l.Protocol)
}

// ListenerName returns the name of the listener on an address, port and
// protocol, such as "203.0.113.10:443/TCP".
func ListenerName(address netip.Addr, port uint16, protocol Protocol) string {
	return netip.AddrPortFrom(address, port).String() + "/" + string(protocol)
}

// Cluster is a set of endpoints and how to treat them.
type Cluster struct {
	// Name is unique among all owners of a group; hub/build derives it from the
	// owner's name and the port's.
	Name      string
	Endpoints []Endpoint
	Policy    Policy
	// HealthCheck probes the endpoints; nil means none.
	HealthCheck *HealthCheck
	// Interchangeable says that every endpoint reaches the same servers. Then one
	// that refuses a connection is passed over until its next good probe, and when
	// all are out, by probe or refusal, all are tried: a probe that fails
	// everywhere says more of the way to its port than of the servers.
	Interchangeable bool
	// ProxyProtocol sends a PROXY protocol v2 header to the endpoint.
	ProxyProtocol bool
}

// Endpoint is one address and port that serves.
type Endpoint struct {
	// Address is an IP address or a DNS name. One name among the endpoints makes
	// the whole cluster resolve by DNS.
	Address string
	Port    uint16
}

// HealthCheck probes the endpoints of a cluster.
type HealthCheck struct {
	// Path makes the probe an HTTP GET; empty means that a TCP connection is
	// enough.
	Path string
	// Port is probed instead of the endpoint's own; 0 means the endpoint's own.
	Port     uint16
	Interval time.Duration
	Timeout  time.Duration
	// UnhealthyThreshold failures in a row take an endpoint out,
	// HealthyThreshold successes bring it back.
	UnhealthyThreshold uint32
	HealthyThreshold   uint32
}

// Sort returns a copy of the part in canonical order: listeners and clusters by
// name, endpoints by address and port, source ranges by address and length,
// duplicates dropped.
func (p Part) Sort() Part {
	out := Part{Listeners: slices.Clone(p.Listeners), Clusters: slices.Clone(p.Clusters)}
	slices.SortFunc(out.Listeners, func(a, b Listener) int { return cmp.Compare(a.Name(), b.Name()) })
	for i := range out.Listeners {
		ranges := slices.Clone(out.Listeners[i].SourceRanges)
		slices.SortFunc(ranges, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
		out.Listeners[i].SourceRanges = slices.Compact(ranges)
	}
	slices.SortFunc(out.Clusters, func(a, b Cluster) int { return cmp.Compare(a.Name, b.Name) })
	for i := range out.Clusters {
		endpoints := slices.Clone(out.Clusters[i].Endpoints)
		slices.SortFunc(endpoints, func(a, b Endpoint) int {
			return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
		})
		out.Clusters[i].Endpoints = slices.Compact(endpoints)
	}
	return out
}

// Hash identifies the part's content: parts that differ only in the order of
// their lists have the same hash. It is 16 hex digits.
func (p Part) Hash() string {
	text, err := json.Marshal(p.Sort())
	if err != nil {
		panic(err) // plain structs always marshal
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// Verdict is what a group's proxies say of one owner's part.
type Verdict struct {
	// Hash is the part the verdict is about, as [Part.Hash] gave it.
	Hash string
	// Programmed: at least one proxy acknowledged everything in the part and no
	// connected proxy rejects any of it.
	Programmed bool
	// Removed: the part is gone from every connected proxy. Only a removed owner
	// has it.
	Removed bool
	// Rejections are the resources that a proxy refused; they are served in their
	// last good version, or not at all.
	Rejections []Rejection
	// Proxies is the number of proxies connected to the group.
	Proxies int
}

// Rejection is one resource of a part that a proxy refused, with its words.
type Rejection struct {
	// Resource is the name of a listener or cluster of the part.
	Resource string
	// Message is the proxy's own.
	Message string
}
