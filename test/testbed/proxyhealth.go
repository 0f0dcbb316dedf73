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
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// healthzPort is kube-proxy's own, --healthz-bind-address.
const healthzPort = 10256

// deletionTaint is what the cluster autoscaler puts on a node that it is going
// to delete; kube-proxy counts it (KEP-3836).
const deletionTaint = "ToBeDeletedByClusterAutoscaler"

// nodeHealth answers /healthz of one node as kube-proxy does.
type nodeHealth struct {
	http.Server
	eligible atomic.Bool
}

func newNodeHealth(node netip.Addr) (*nodeHealth, error) {
	listener, err := listenTCP(netip.AddrPortFrom(node, healthzPort))
	if err != nil {
		return nil, err
	}
	h := &nodeHealth{}
	h.ReadHeaderTimeout = time.Minute
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			http.NotFound(w, r)
			return
		}
		eligible, now := h.eligible.Load(), time.Now().UTC().Format(time.RFC3339)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !eligible {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"lastUpdated": now, "currentTime": now, "nodeEligible": eligible})
	})
	go func() { _ = h.Serve(listener) }()
	return h, nil
}

// eligible reports whether a node takes new connections of load balancers.
func eligible(node *corev1.Node) bool {
	return node.DeletionTimestamp == nil && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == deletionTaint })
}

// applyHealth makes the health servers of the nodes equal to the nodes.
func (p *proxy) applyHealth(nodes map[string]netip.Addr) (failed error) {
	for address, server := range p.nodeHealth {
		if !slices.Contains(values(nodes), address) {
			_ = server.Close()
			delete(p.nodeHealth, address)
		}
	}
	for name, address := range nodes {
		node, err := p.cluster.nodes.Get(name)
		if err != nil {
			continue // it went a moment ago
		}
		server, isOpen := p.nodeHealth[address]
		if !isOpen {
			if server, err = newNodeHealth(address); err != nil {
				failed = err
				continue
			}
			p.nodeHealth[address] = server
		}
		server.eligible.Store(eligible(node))
	}
	return failed
}

func values(nodes map[string]netip.Addr) (out []netip.Addr) {
	for _, address := range nodes {
		out = append(out, address)
	}
	return out
}

// TaintForDeletion marks a node as the cluster autoscaler does before it deletes
// it, or takes the mark back.
func (c *Cluster) TaintForDeletion(ctx context.Context, name string, going bool) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := c.clients.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == deletionTaint })
		if going {
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: deletionTaint, Value: "1", Effect: corev1.TaintEffectNoSchedule})
		}
		_, err = c.clients.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
}
