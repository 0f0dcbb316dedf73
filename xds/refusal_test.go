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
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubelb/gitops/xds/ir"
)

// probed is the health check of hub/build.
func probed() *ir.HealthCheck {
	return &ir.HealthCheck{Interval: 5 * time.Second, Timeout: 5 * time.Second, UnhealthyThreshold: 3, HealthyThreshold: 2}
}

// A node that refuses connections costs no client a connection.
func TestEnvoyTriesAnotherEndpoint(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	parts, at, nodes := map[string]*ir.Part{}, map[string]string{}, map[string]*node{}
	policies := []ir.Policy{ir.RoundRobin, ir.LeastRequest, ir.Random, ir.SourceIP}
	for i, policy := range policies {
		name := string(policy)
		first, second, third := newNode(t), newNode(t), newNode(t)
		nodes[name] = third
		part := lb(name, "127.7.11.1", uint16(8080+i), first.address, second.address, third.address)
		part.Clusters[0].Policy, part.Clusters[0].HealthCheck, part.Clusters[0].Interchangeable = policy, probed(), true
		parts[name], at[name] = part, fmt.Sprintf("127.7.11.1:%d", 8080+i)
	}
	b.publish("edge", parts)
	b.Open("edge")
	admin := startEnvoy(t, b, "edge")
	for _, policy := range policies {
		name := string(policy)
		b.programmed("edge", name)
		eventually(t, "all nodes of "+name+" are healthy", func() bool {
			return stat(t, admin, "cluster."+name+".membership_healthy") == 3
		})
		t.Run(name, func(t *testing.T) {
			// Clients of many addresses, so that every policy picks every node.
			old := hold(t, "127.0.9.1", at[name])
			for i := 2; nodes[name].held() == 0; i++ {
				old = hold(t, fmt.Sprintf("127.0.9.%d", i), at[name])
			}
			nodes[name].refuse()
			var lost atomic.Int32
			var clients sync.WaitGroup
			for client := range 8 {
				clients.Go(func() {
					for i := range 25 {
						if from(fmt.Sprintf("127.0.%d.%d", 20+client, 1+i), "tcp", at[name]) == "" {
							lost.Add(1)
						}
					}
				})
			}
			clients.Wait()
			if n := lost.Load(); n > 0 {
				t.Errorf("%d of 200 connections were lost", n)
			}
			if !old.alive() {
				t.Error("a connection that was open has ended")
			}
		})
	}
}

// One endpoint is never passed over: nothing else could answer.
func TestEnvoyKeepsTheLastEndpoint(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	only := newNode(t)
	part := lb("web", "127.7.11.2", 8080, only.address)
	part.Clusters[0].HealthCheck, part.Clusters[0].Interchangeable = probed(), true
	b.publish("edge", map[string]*ir.Part{"web": part})
	b.Open("edge")
	startEnvoy(t, b, "edge")
	b.programmed("edge", "web")
	says(t, "127.7.11.2:8080", "node")
	only.refuse()
	for range 5 {
		if said := dial("127.7.11.2:8080"); said != "" {
			t.Fatalf("a node that refuses says %q", said)
		}
	}
	only.accept(t)
	if said := dial("127.7.11.2:8080"); said != "node" {
		t.Errorf("the first connection after it is back says %q", said)
	}
}

// A node whose kube-proxy fails its health check gets no new connection
// (KEP-3836), keeps those that it has, and comes back. When all fail, all serve.
func TestEnvoyAsksKubeProxy(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	healthPort := uint16(0)
	var failing [2]atomic.Bool
	var addresses []string
	var counts [2]atomic.Int32
	for i, host := range []string{"127.7.12.1", "127.7.12.2"} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, healthPort))
		if err != nil {
			t.Fatal(err)
		}
		healthPort = l.Addr().(*net.TCPAddr).AddrPort().Port()
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if failing[i].Load() || r.URL.Path != "/healthz" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
		at := net.JoinHostPort(host, "30080")
		echoAt(t, at, &counts[i])
		addresses = append(addresses, at)
	}
	part := lb("web", "127.7.11.3", 8080, addresses...)
	check := probed()
	check.Path, check.Port, check.Interval = "/healthz", healthPort, 100*time.Millisecond
	part.Clusters[0].HealthCheck, part.Clusters[0].Interchangeable = check, true
	b.publish("edge", map[string]*ir.Part{"web": part})
	b.Open("edge")
	admin := startEnvoy(t, b, "edge")
	b.programmed("edge", "web")
	healthy := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d nodes are healthy", n), func() bool { return stat(t, admin, "cluster.web.membership_healthy") == n })
	}
	healthy(2)
	var old []*held
	for counts[0].Load() == 0 || counts[1].Load() == 0 {
		old = append(old, hold(t, "127.0.0.1", "127.7.11.3:8080"))
	}
	failing[0].Store(true)
	healthy(1)
	before := counts[0].Load()
	for range 40 {
		hold(t, "127.0.0.1", "127.7.11.3:8080")
	}
	if n := counts[0].Load() - before; n != 0 {
		t.Errorf("%d of 40 new connections went to the node that is going", n)
	}
	if slices.ContainsFunc(old, func(c *held) bool { return !c.alive() }) {
		t.Error("a connection that was open has ended")
	}
	failing[1].Store(true)
	healthy(0)
	eventually(t, "Envoy tries all", func() bool {
		hold(t, "127.0.0.1", "127.7.11.3:8080")
		return stat(t, admin, "cluster.web.lb_healthy_panic") > 0
	})
	for range 10 {
		hold(t, "127.0.0.1", "127.7.11.3:8080")
	}
	failing[0].Store(false)
	failing[1].Store(false)
	healthy(2)
}

// node is an endpoint that says "node" and keeps connections open until they say
// something.
type node struct {
	address string
	mu      sync.Mutex
	l       net.Listener
	count   *atomic.Int32
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{address: freeAddress(t, "127.0.0.1"), count: &atomic.Int32{}}
	n.accept(t)
	t.Cleanup(n.refuse)
	return n
}

func (n *node) accept(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.l = echoAt(t, n.address, n.count)
}

func (n *node) refuse() {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.l.Close()
}

// held returns how many connections came that stayed open.
func (n *node) held() int { return int(n.count.Load()) }

// echoAt says "node" to everybody who connects and ends the connection when its
// client does, or at once if that says nothing for a moment. It counts those that
// said something, which probes do not.
func echoAt(t *testing.T, address string, count *atomic.Int32) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, "node")
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				lines := bufio.NewReader(c)
				for first := true; ; first = false {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					if first {
						count.Add(1)
						_ = c.SetReadDeadline(time.Time{})
					}
					_, _ = io.WriteString(c, line)
				}
			}()
		}
	}()
	return l
}

// held is a connection to an echoAt that stays open.
type held struct {
	net.Conn
	in *bufio.Reader
}

// hold connects and says hello, and fails the test if nobody answers.
func hold(t *testing.T, source, address string) *held {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	h := &held{c, bufio.NewReader(c)}
	if !h.alive() {
		t.Fatalf("%s does not answer", address)
	}
	return h
}

// alive says something and hears it.
func (h *held) alive() bool {
	_ = h.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(h, "hello\n"); err != nil {
		return false
	}
	line, err := h.in.ReadString('\n')
	return err == nil && len(line) >= len("hello\n")
}
