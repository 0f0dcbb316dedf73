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
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/kubelb/gitops/api/repo"
)

// API makes a request to Gitea's API as one of its users: what people do with
// buttons. The path begins behind /api/v1/repos/<owner>/<name>; in and out are
// JSON and may be nil.
func (r *Repository) API(ctx context.Context, as, method, path string, in, out any) error {
	return r.gitea.api(ctx, as, method, r.api()+path, in, out)
}

// FullName is the repository's name on its forge: owner/name.
func (r *Repository) FullName() string { return giteaOwner + "/" + r.Name }

func (r *Repository) api() string { return "/repos/" + giteaOwner + "/" + url.PathEscape(r.Name) }

func (g *Gitea) api(ctx context.Context, as, method, path string, in, out any) error {
	return g.call(ctx, g.User(as), method, path, in, out)
}

func (g *Gitea) call(ctx context.Context, as GiteaUser, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, g.URL+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if as.Token != "" {
		request.Header.Set("Authorization", "token "+as.Token)
	} else {
		request.SetBasicAuth(as.Name, as.Password)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("gitea: %s %s: %s: %s", method, path, response.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// listen hears from Gitea of pushes, for [Repository.OnPush].
func (g *Gitea) listen() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{name}", g.pushed)
	g.hooks = &http.Server{Addr: listener.Addr().String(), Handler: mux, ReadHeaderTimeout: apiTimeout}
	go func() { _ = g.hooks.Serve(listener) }()
	return nil
}

// report makes Gitea tell this process of pushes to a repository.
func (g *Gitea) report(ctx context.Context, r *Repository) error {
	return g.AddWebhook(ctx, r, Webhook{URL: "http://" + g.hooks.Addr + "/" + url.PathEscape(r.Name)})
}

func (g *Gitea) pushed(w http.ResponseWriter, request *http.Request) {
	var event struct {
		Ref    string `json:"ref"`
		Before string `json:"before"`
		After  string `json:"after"`
		Pusher struct {
			Login string `json:"login"`
		} `json:"pusher"`
	}
	if err := json.NewDecoder(request.Body).Decode(&event); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if request.Header.Get("X-Gitea-Event") != "push" || event.After == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.repositories {
		if r.Name == request.PathValue("name") {
			r.tell(PushEvent{Repository: r.Name, User: event.Pusher.Login, Refs: []RefUpdate{{Name: event.Ref, Old: event.Before, New: event.After}}})
		}
	}
}

// tell calls the functions of OnPush.
func (r *Repository) tell(event PushEvent) {
	r.mu.Lock()
	watches := r.watches
	r.mu.Unlock()
	for _, watch := range watches {
		watch(event)
	}
}

// ProtectFleet makes the branch rules that docs/operating.md asks operators to
// make: the hub writes main and its own branches, reviewers merge and add to
// review branches, and nobody writes an intent branch but its CCM ([Gitea.ProtectIntent]).
func (g *Gitea) ProtectFleet(ctx context.Context, r *Repository, hub string, reviewers ...string) error {
	people := append([]string{hub}, reviewers...)
	for _, rule := range []BranchRule{
		{Branches: "main", Push: people},
		{Branches: "base/**", Push: []string{hub}},
		{Branches: "status/**", Push: []string{hub}, Force: true},
		{Branches: "archive/**", Push: []string{hub}},
		{Branches: "intent/**"},
	} {
		if err := g.Protect(ctx, r, rule); err != nil {
			return fmt.Errorf("branch rule %s: %w", rule.Branches, err)
		}
	}
	return nil
}

// ProtectIntent leaves a tenant's intent branch to its CCM.
func (g *Gitea) ProtectIntent(ctx context.Context, r *Repository, tenant, ccm string) error {
	return g.Protect(ctx, r, BranchRule{Branches: repo.IntentRef(tenant)[len(repo.RefPrefix):], Push: []string{ccm}, Priority: 1})
}
