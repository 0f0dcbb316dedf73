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

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// datagramCount is how many datagrams of each size are sent, one after another.
const datagramCount = 500

// datagrams measures UDP: a datagram to a pod and its answer, through the load
// balancer and, to compare, through a node's NodePort alone. The rest of both is
// the test bed's stand-in for kube-proxy.
func (b *bench) datagrams(ctx context.Context) error {
	app := b.app("datagrams")
	app.Ports = []corev1.ServicePort{{Name: "dns", Port: port, Protocol: corev1.ProtocolUDP}}
	address, err := b.Expose(ctx, tenant, app)
	if err != nil {
		return err
	}
	var service corev1.Service
	if err := b.TenantClient(tenant).Get(ctx, client.ObjectKey{Namespace: namespace, Name: "datagrams"}, &service); err != nil {
		return err
	}
	nodes := b.Tenant(tenant).NodeAddresses()
	nodePort := netip.AddrPortFrom(nodes[b.Tenant(tenant).Nodes()[0]], uint16(service.Spec.Ports[0].NodePort)) //nolint:gosec // validated by the API server
	for _, size := range []int{100, 1400, 9000, 60_000} {
		for _, way := range []struct{ name, address string }{
			{"through the load balancer", fmt.Sprintf("%s:%d", address, port)},
			{"through a NodePort alone", nodePort.String()},
		} {
			took, lost, err := roundTrips(ctx, way.address, strings.Repeat("x", size))
			if err != nil {
				return err
			}
			at := func(q float64) string { return micros(took[min(len(took)-1, int(q*float64(len(took))))]) }
			b.printf("| UDP, %d bytes there and back, %s, %d lost | %d | %s | %s | %s |\n", size, way.name, lost, len(took), at(0.5), at(0.99), at(1))
		}
	}
	return b.remove(ctx, "datagrams")
}

// roundTrips sends datagrams from one socket and returns how long the answers
// took, sorted, and how many did not come.
func roundTrips(ctx context.Context, address, data string) (took []time.Duration, lost int, err error) {
	if err := testbed.Eventually(ctx, "an answer over UDP", func() error {
		_, err := testbed.AskUDP(ctx, address, data)
		return err
	}); err != nil {
		return nil, 0, err
	}
	conn, err := net.Dial("udp", address)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = conn.Close() }()
	answer := make([]byte, 1<<16)
	for range datagramCount {
		begin := time.Now()
		if _, err := conn.Write([]byte(data)); err != nil {
			return nil, 0, err
		}
		if err := conn.SetReadDeadline(begin.Add(time.Second)); err != nil {
			return nil, 0, err
		}
		if _, err := conn.Read(answer); err != nil {
			lost++
			continue
		}
		took = append(took, time.Since(begin))
	}
	if len(took) == 0 {
		return nil, lost, fmt.Errorf("no answer of %s", address)
	}
	slices.Sort(took)
	return took, lost, nil
}

func micros(d time.Duration) string { return fmt.Sprintf("%.3f ms", float64(d.Microseconds())/1000) }
