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

package ccm

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/api/v1alpha1"
)

const (
	// healthzEvery is how often nodes are asked that stay the same.
	healthzEvery = time.Minute
	// healthzTimeout bounds one question.
	healthzTimeout = 2 * time.Second
	// healthzNodes is how many nodes are asked at a time: those of a cluster are
	// alike.
	healthzNodes = 16
)

// healthPort decides whether the nodes' health check port becomes a fact. The
// port counts once all nodes that are asked answer at it, and until none does: so
// a node that dies, or a kube-proxy that is restarted, changes nothing.
type healthPort struct {
	port    int32
	counts  atomic.Bool
	nodes   atomic.Pointer[[]v1alpha1.EndpointAddress] // that are published
	news    chan struct{}                              // capacity 1: of nodes
	get     func(ctx context.Context, address string) bool
	changed func()
}

func newHealthPort(port int32, changed func()) *healthPort {
	return &healthPort{port: port, news: make(chan struct{}, 1), get: answersHealthz, changed: changed}
}

// tell makes known which nodes there are.
func (h *healthPort) tell(nodes []v1alpha1.EndpointAddress) {
	h.nodes.Store(&nodes)
	signal(h.news)
}

// remember begins with what is published, so that a restart changes nothing.
func (h *healthPort) remember(published int32) { h.counts.Store(h.port != 0 && published == h.port) }

// fact returns the port if the nodes answer at it, else 0.
func (h *healthPort) fact() int32 {
	if h.counts.Load() {
		return h.port
	}
	return 0
}

// run asks when nodes come or go, and now and then, until the context ends.
func (h *healthPort) run(ctx context.Context) {
	if h.port == 0 {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.news:
		case <-time.After(healthzEvery):
		}
		if nodes := h.nodes.Load(); nodes != nil {
			h.look(ctx, *nodes)
		}
	}
}

// look asks the first of the nodes, and makes known what changed.
func (h *healthPort) look(ctx context.Context, nodes []v1alpha1.EndpointAddress) {
	if len(nodes) == 0 {
		return
	}
	nodes = nodes[:min(healthzNodes, len(nodes))]
	answered := make([]bool, len(nodes))
	var group errgroup.Group
	for i, node := range nodes {
		group.Go(func() error {
			host := node.IP
			if host == "" {
				host = node.Hostname
			}
			answered[i] = h.get(ctx, net.JoinHostPort(host, strconv.Itoa(int(h.port))))
			return nil
		})
	}
	_ = group.Wait() // none fails
	if ctx.Err() != nil {
		return
	}
	before := h.counts.Load()
	now := !slices.Contains(answered, false) || before && slices.Contains(answered, true)
	if now != before {
		h.counts.Store(now)
		h.changed()
	}
}

// answersHealthz reports whether kube-proxy, or what stands in its place, answers
// GET /healthz: 200 or 503 with a JSON object that has lastUpdated
// (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/,
// --healthz-bind-address). Another server at that port would answer for itself.
func answersHealthz(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, healthzTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return false
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	var body struct {
		LastUpdated string `json:"lastUpdated"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&body); err != nil || body.LastUpdated == "" {
		return false
	}
	return response.StatusCode == http.StatusOK || response.StatusCode == http.StatusServiceUnavailable
}
