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

package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// client is a gRPC client of the server.
func (b *bed) client(certificates ...tls.Certificate) discoveryv3.AggregatedDiscoveryServiceClient {
	b.t.Helper()
	conn, err := grpc.NewClient(b.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: b.ca.pool(), ServerName: "xds", Certificates: certificates, MinVersion: tls.VersionTLS13,
	})))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	return discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

// judge says what a proxy thinks of a response: "" for an ACK.
type judge func(k kind, response *discoveryv3.DeltaDiscoveryResponse) (nack string)

// proxy does over a real stream what Envoy does: it subscribes to clusters and
// listeners, and to the assignments of its clusters; what it is given it judges,
// applies and answers. It fails the test when a listener comes before its
// cluster and assignment, or a cluster goes before its listeners.
type proxy struct {
	t      testing.TB
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	cancel func()
	done   chan struct{}
	err    error

	mu    sync.Mutex
	judge judge
	mute  bool
	has   [kinds]map[string]*discoveryv3.Resource
	log   []string
}

// connect starts a proxy of a group. It reports what an earlier one had.
func (b *bed) connect(group string, j judge, before *proxy) *proxy {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := b.client(b.ca.certificate(groupURI(group))).DeltaAggregatedResources(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	p := &proxy{t: b.t, stream: stream, judge: j, done: make(chan struct{})}
	p.cancel = func() { cancel(); <-p.done }
	b.t.Cleanup(p.cancel)
	for k := range kinds {
		p.has[k] = map[string]*discoveryv3.Resource{}
	}
	if before != nil {
		p.has = before.has
	}
	for _, k := range []kind{clusters, assignments, listeners} {
		request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], InitialResourceVersions: map[string]string{}}
		for name, r := range p.has[k] {
			request.InitialResourceVersions[name] = r.GetVersion()
		}
		if k == assignments {
			request.ResourceNamesSubscribe = slices.Collect(maps.Keys(p.has[clusters]))
			if len(p.has[clusters]) == 0 {
				continue
			}
		}
		p.send(request)
	}
	go p.run()
	return p
}

func (p *proxy) send(request *discoveryv3.DeltaDiscoveryRequest) {
	_ = p.stream.Send(request) // a broken stream shows in Recv
}

func (p *proxy) run() {
	defer close(p.done)
	for {
		response, err := p.stream.Recv()
		if err != nil {
			p.err = err
			return
		}
		p.receive(response)
	}
}

func (p *proxy) receive(response *discoveryv3.DeltaDiscoveryResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, _ := kindOf(response.GetTypeUrl())
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}
	message := ""
	if p.judge != nil {
		message = p.judge(k, response)
	}
	if message != "" {
		answer.ErrorDetail = status.New(3, message).Proto()
	}
	var names []string
	var subscribe, unsubscribe []string
	for _, r := range response.GetResources() {
		names = append(names, "+"+r.GetName())
		named := strings.Contains(message, "/updating ")
		if message != "" && (!named || strings.Contains(message, r.GetName()+": ")) {
			continue
		}
		if k == assignments && p.has[clusters][r.GetName()] == nil {
			continue // not subscribed to any more
		}
		p.check(k, r)
		if k == clusters && p.has[assignments][r.GetName()] == nil {
			subscribe = append(subscribe, r.GetName())
		}
		p.has[k][r.GetName()] = r
	}
	for _, name := range response.GetRemovedResources() {
		names = append(names, "-"+name)
		if message != "" && !strings.Contains(message, "/updating ") {
			continue
		}
		p.checkRemoval(k, name)
		delete(p.has[k], name)
		if k == clusters {
			delete(p.has[assignments], name)
			unsubscribe = append(unsubscribe, name)
		}
	}
	verb := "ack"
	if message != "" {
		verb = "nack"
	}
	slices.Sort(names)
	p.log = append(p.log, fmt.Sprintf("%s %s %s", verb, k, strings.Join(names, " ")))
	if p.mute {
		return
	}
	p.send(answer)
	if len(subscribe)+len(unsubscribe) > 0 {
		p.send(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: typeURLs[assignments], ResourceNamesSubscribe: subscribe, ResourceNamesUnsubscribe: unsubscribe,
		})
	}
}

func (p *proxy) check(k kind, r *discoveryv3.Resource) {
	if k != listeners {
		return
	}
	cluster := clusterOf(p.t, r)
	if p.has[clusters][cluster] == nil || p.has[assignments][cluster] == nil {
		p.t.Errorf("listener %s came before its cluster %s", r.GetName(), cluster)
	}
}

func (p *proxy) checkRemoval(k kind, name string) {
	if k != clusters {
		return
	}
	for _, l := range p.has[listeners] {
		if clusterOf(p.t, l) == name {
			p.t.Errorf("cluster %s went before its listener %s", name, l.GetName())
		}
	}
}

// clusterOf is the cluster that a TCP listener sends to.
func clusterOf(t testing.TB, r *discoveryv3.Resource) string {
	var l listenerv3.Listener
	var filter tcpproxyv3.TcpProxy
	if err := r.GetResource().UnmarshalTo(&l); err != nil {
		t.Error(err)
		return ""
	}
	if err := l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(&filter); err != nil {
		t.Error(err)
	}
	return filter.GetCluster()
}

// version is what the proxy has of a name, "" for nothing.
func (p *proxy) version(k kind, name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has[k][name].GetVersion()
}

func (p *proxy) count(k kind) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.has[k])
}

// heard returns the log so far and starts it anew.
func (p *proxy) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.log
	p.log = nil
	return out
}

func (p *proxy) think(j judge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = j
}

// refuseNamed refuses as Envoy refuses listeners: it names the bad ones.
func refuseNamed(bad map[string]string) judge {
	return func(k kind, response *discoveryv3.DeltaDiscoveryResponse) string {
		var lines []string
		for _, r := range response.GetResources() {
			if reason, ok := bad[r.GetName()]; ok {
				lines = append(lines, r.GetName()+": "+reason)
			}
		}
		if k != listeners || len(lines) == 0 {
			return ""
		}
		return "Error adding/updating listener(s) " + strings.Join(lines, "\n")
	}
}

// refuseAnonymously refuses a whole response without a name when it carries a
// bad version.
func refuseAnonymously(k kind, bad func(*discoveryv3.Resource) bool) judge {
	return func(got kind, response *discoveryv3.DeltaDiscoveryResponse) string {
		if got == k && slices.ContainsFunc(response.GetResources(), bad) {
			return "malformed IP address: not-an-ip"
		}
		return ""
	}
}
