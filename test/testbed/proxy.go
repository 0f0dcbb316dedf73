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

package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// proxy stands in for the kube-proxy of every node of a cluster: it listens on
// node addresses and carries bytes to pods. Unlike the real one it does not
// serve cluster IPs, sees no client address (a pod's peer is the node, also
// under the policy Local), refuses where Local without endpoints would drop,
// and knows no session affinity.
type proxy struct {
	cluster *Cluster
	dirty   chan struct{} // capacity 1: something changed
	cuts    chan cut
	ended   chan struct{} // closed when run has returned

	ports  map[nodePort]front
	health map[healthPort]*healthServer
	// nodeHealth is kube-proxy's own health check of each node.
	nodeHealth map[netip.Addr]*nodeHealth
	off        map[string]bool // nodes that are cut off
}

type cut struct {
	node string
	off  bool
	done chan struct{}
}

// front is one open NodePort.
type front interface {
	// setBackends replaces where connections and sessions go.
	setBackends([]netip.AddrPort)
	// Close stops listening; connections that are open go on, as they do in a
	// kernel that has lost the rule.
	io.Closer
	// abort is Close that also breaks what is open.
	abort()
}

func newProxy(c *Cluster) *proxy {
	return &proxy{
		cluster: c, dirty: make(chan struct{}, 1), cuts: make(chan cut), ended: make(chan struct{}),
		ports: map[nodePort]front{}, health: map[healthPort]*healthServer{}, nodeHealth: map[netip.Addr]*nodeHealth{}, off: map[string]bool{},
	}
}

func (p *proxy) watch(factory informers.SharedInformerFactory) error {
	mark := func(any) { p.mark() }
	handler := cache.ResourceEventHandlerFuncs{AddFunc: mark, UpdateFunc: func(_, obj any) { mark(obj) }, DeleteFunc: mark}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Services().Informer(),
		factory.Core().V1().Nodes().Informer(),
		factory.Discovery().V1().EndpointSlices().Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	return nil
}

func (p *proxy) mark() {
	select {
	case p.dirty <- struct{}{}:
	default: // marked already
	}
}

func (p *proxy) cutNode(node string, off bool) {
	c := cut{node, off, make(chan struct{})}
	select {
	case p.cuts <- c:
		<-c.done
	case <-p.ended:
	}
}

// minSync is the least time between two applications of the rules, each of which
// looks at everything.
const minSync = 15 * time.Millisecond

// run applies the rules until the context ends; everything open belongs to it.
func (p *proxy) run(ctx context.Context) {
	defer close(p.ended)
	var applied time.Time
	for {
		select {
		case <-ctx.Done():
			for _, open := range p.ports {
				open.abort()
			}
			for _, server := range p.health {
				_ = server.Close()
			}
			for _, server := range p.nodeHealth {
				_ = server.Close()
			}
			return
		case c := <-p.cuts:
			p.off[c.node] = c.off
			p.apply()
			close(c.done)
		case <-p.dirty:
			if early := minSync - time.Since(applied); early > 0 {
				time.AfterFunc(early, p.mark)
				continue
			}
			p.apply()
			applied = time.Now()
		}
	}
}

// apply makes what is open equal to the rules of this moment.
func (p *proxy) apply() {
	nodes := p.cluster.NodeAddresses()
	gone := map[netip.Addr]bool{}
	for name := range nodes {
		if _, err := p.cluster.nodes.Get(name); err != nil || p.off[name] {
			gone[nodes[name]] = true
			delete(nodes, name)
		}
	}
	services, _ := p.cluster.services.List(labels.Everything()) // listing a cache cannot fail
	endpointSlices, _ := p.cluster.slices.List(labels.Everything())
	rules := rulesFor(nodes, services, endpointSlices)
	for at, open := range p.ports {
		if _, wanted := rules.ports[at]; !wanted {
			if gone[at.address.Addr()] {
				open.abort()
			} else {
				_ = open.Close()
			}
			delete(p.ports, at)
		}
	}
	for at, server := range p.health {
		if _, wanted := rules.health[at]; !wanted {
			_ = server.Close()
			delete(p.health, at)
		}
	}
	if err := errors.Join(p.open(rules), p.applyHealth(nodes)); err != nil {
		fmt.Fprintf(os.Stderr, "test bed, stand-in for kube-proxy: %v; trying again\n", err)
		time.AfterFunc(500*time.Millisecond, p.mark)
	}
}

func (p *proxy) open(rules proxyRules) (failed error) {
	for at, backends := range rules.ports {
		open, isOpen := p.ports[at]
		if !isOpen {
			var err error
			if at.protocol == corev1.ProtocolUDP {
				open, err = newUDPFront(at.address)
			} else {
				open, err = newTCPFront(at.address)
			}
			if err != nil {
				failed = err
				continue
			}
			p.ports[at] = open
		}
		open.setBackends(backends)
	}
	for at, count := range rules.health {
		server, isOpen := p.health[at]
		if !isOpen {
			var err error
			if server, err = newHealthServer(at); err != nil {
				failed = err
				continue
			}
			p.health[at] = server
		}
		server.count.Store(int64(count))
	}
	return failed
}

// healthServer answers a healthCheckNodePort on one node as kube-proxy does.
type healthServer struct {
	http.Server
	at    healthPort
	count atomic.Int64
}

func newHealthServer(at healthPort) (*healthServer, error) {
	listener, err := listenTCP(at.address)
	if err != nil {
		return nil, err
	}
	h := &healthServer{at: at}
	h.Handler, h.ReadHeaderTimeout = http.HandlerFunc(h.answer), time.Minute
	go func() { _ = h.Serve(listener) }()
	return h, nil
}

func (h *healthServer) answer(w http.ResponseWriter, _ *http.Request) {
	count := h.count.Load()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", fmt.Sprint(count))
	if count == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"service":             map[string]string{"namespace": h.at.namespace, "name": h.at.service},
		"localEndpoints":      count,
		"serviceProxyHealthy": true,
	})
}
