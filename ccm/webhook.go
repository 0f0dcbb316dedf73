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
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/gitsync/webhook"
)

// hook hears of news of the repository on POST /hook. What it is told is only
// that there may be some on the tenant's status branch.
type hook struct {
	addr     string
	source   webhook.Source
	receiver *webhook.Receiver
	news     func()
}

func newHook(o *Options, news func()) (*hook, error) {
	token, err := os.ReadFile(o.WebhookTokenFile)
	if err != nil {
		return nil, fmt.Errorf("webhook token: %w", err)
	}
	token = bytes.TrimSpace(token)
	if len(token) == 0 {
		return nil, fmt.Errorf("webhook token: %s is empty", o.WebhookTokenFile)
	}
	kind := webhook.Type(o.WebhookType)
	if kind == "" {
		kind = webhook.Generic
	}
	if !slices.Contains(webhook.Types, kind) {
		return nil, fmt.Errorf("webhook type %q: write one of %q", kind, webhook.Types)
	}
	status := repo.StatusRef(o.Tenant)
	return &hook{
		addr: o.WebhookAddr, receiver: webhook.NewReceiver(o.now), news: news,
		source: webhook.Source{
			Type: kind, Token: token, Repositories: []string{o.GitURL}, Wants: func(ref string) bool { return ref == status },
		},
	}, nil
}

// NeedLeaderElection makes the manager start it on the leader only.
func (h *hook) NeedLeaderElection() bool { return true }

// Start serves until the context ends.
func (h *hook) Start(ctx context.Context) error {
	listener, err := net.Listen("tcp", h.addr)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return webhook.Serve(ctx, listener, h)
}

// ServeHTTP accepts POST /hook in the format of the source.
func (h *hook) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/hook" {
		http.NotFound(out, r)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(out, "use POST", http.StatusMethodNotAllowed)
		return
	}
	if !h.receiver.Admit(out) {
		hookRequests.WithLabelValues(string(webhook.Limited)).Inc()
		return
	}
	result := h.receiver.Receive(out, r, "", h.source)
	hookRequests.WithLabelValues(string(result)).Inc()
	if result == webhook.Triggered {
		h.news()
	}
}
