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
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
)

func TestTheHealthCheckPortCountsOnceAllNodesAnswer(t *testing.T) {
	nodes := []v1alpha1.EndpointAddress{{IP: "192.0.2.1"}, {IP: "2001:db8::1"}, {Hostname: "node.example"}}
	answering := map[string]bool{}
	changes := 0
	h := newHealthPort(10256, func() { changes++ })
	h.get = func(_ context.Context, address string) bool { return answering[address] }
	look := func(when string, want int32, news int, answers ...string) {
		t.Helper()
		clear(answering)
		for _, address := range answers {
			answering[address] = true
		}
		before := changes
		h.look(t.Context(), nodes)
		if got := h.fact(); got != want || changes-before != news {
			t.Errorf("%s: port %d after %d changes, want %d after %d", when, got, changes-before, want, news)
		}
	}
	all := []string{"192.0.2.1:10256", "[2001:db8::1]:10256", "node.example:10256"}
	look("nobody answers", 0, 0)
	look("some answer", 0, 0, all[:2]...)
	look("all answer", 10256, 1, all...)
	look("one is down", 10256, 0, all[1:]...)
	look("nobody answers any more", 0, 1)

	h.remember(10256)
	look("after a restart of the CCM, one is down", 10256, 0, all[1:]...)
	h.remember(9999)
	look("after a restart with another port, one is down", 0, 0, all[1:]...)
	none := newHealthPort(0, nil)
	none.remember(0)
	if none.fact() != 0 {
		t.Error("no port counts")
	}
}

func TestOnlyKubeProxyAnswersHealthz(t *testing.T) {
	const good = `{"lastUpdated": "2026-11-27T20:00:00Z", "currentTime": "2026-11-27T20:00:00Z", "nodeEligible": false}`
	for name, test := range map[string]struct {
		status int
		body   string
		want   bool
	}{
		"it is well":           {http.StatusOK, good, true},
		"its node is leaving":  {http.StatusServiceUnavailable, good, true},
		"another server is":    {http.StatusOK, "ok", false},
		"another JSON is":      {http.StatusOK, `{"status": "ok"}`, false},
		"it is not found":      {http.StatusNotFound, good, false},
		"it is large":          {http.StatusOK, strings.Repeat(" ", 100<<10) + good, false},
		"it asks for a detour": {http.StatusFound, good, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			if got := answersHealthz(t.Context(), server.Listener.Addr().String()); got != test.want {
				t.Errorf("%t, want %t", got, test.want)
			}
		})
	}
	if answersHealthz(t.Context(), "127.0.0.1:1") {
		t.Error("nobody is there")
	}
}
