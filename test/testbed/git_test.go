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
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newGit starts a Git server with a repository that has a branch main, and a
// working copy of it as the given user, who may write what is allowed.
func newGit(t *testing.T, user string, allowed ...string) (*GitServer, *Repository, *Clone) {
	t.Helper()
	h, err := newHome("git")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	server, err := newGitServer(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.close)
	repository, err := server.Create(t.Context(), "fleet")
	if err != nil {
		t.Fatal(err)
	}
	admin := clone(t, repository, Admin)
	commit(t, admin, "README.md", "fleet\n")
	push(t, admin, "HEAD:refs/heads/main")
	server.AddUser(user, "")
	repository.Allow(user, allowed...)
	return server, repository, clone(t, repository, user)
}

func clone(t *testing.T, repository *Repository, user string) *Clone {
	t.Helper()
	c, err := repository.Clone(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func commit(t *testing.T, c *Clone, path, text string) string {
	t.Helper()
	if err := c.Write(path, text); err != nil {
		t.Fatal(err)
	}
	hash, err := c.Commit(t.Context(), "change "+path)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func push(t *testing.T, c *Clone, refs ...string) {
	t.Helper()
	if _, err := c.Git(t.Context(), append([]string{"push", "--quiet", "origin"}, refs...)...); err != nil {
		t.Fatal(err)
	}
}

func TestGitWritesOnlyWhatTheRulesAllow(t *testing.T) {
	_, repository, acme := newGit(t, "ccm-acme", "refs/heads/intent/acme", "refs/heads/scratch/*")
	hash := commit(t, acme, "a", "1")
	for _, allowed := range []string{"refs/heads/intent/acme", "refs/heads/scratch/x/y"} {
		push(t, acme, "HEAD:"+allowed)
		if repository.at(allowed) != hash {
			t.Errorf("%s is at %s, want %s", allowed, repository.at(allowed), hash)
		}
	}
	before := repository.at("refs/heads/main")
	commit(t, acme, "a", "2")
	for reason, refs := range map[string][]string{
		"the branch of another":              {"HEAD:refs/heads/intent/globex"},
		"main":                               {"HEAD:refs/heads/main"},
		"a deletion":                         {":refs/heads/main"},
		"one allowed ref among refused ones": {"HEAD:refs/heads/intent/acme", "HEAD:refs/heads/main"},
	} {
		_, err := acme.Git(t.Context(), append([]string{"push", "origin"}, refs...)...)
		if err == nil || !strings.Contains(err.Error(), "pre-receive hook declined") || !strings.Contains(err.Error(), "user ccm-acme may not write refs/heads/") {
			t.Errorf("%s: want a refusal in words, got %v", reason, err)
		}
	}
	if repository.at("refs/heads/main") != before || repository.at("refs/heads/intent/acme") != hash || repository.at("refs/heads/intent/globex") != zeroHash {
		t.Error("a refused push moved a ref")
	}
	repository.Deny("ccm-acme")
	if _, err := acme.Git(t.Context(), "push", "origin", "HEAD:refs/heads/intent/acme"); err == nil {
		t.Error("a user whose rights were taken pushed")
	}
}

func TestGitNeedsCredentials(t *testing.T) {
	server, repository, acme := newGit(t, "ccm-acme")
	if _, err := acme.Git(t.Context(), "ls-remote", repository.URL()); err == nil {
		t.Error("anonymous access was allowed")
	}
	server.AddUser("ccm-acme", "another")
	if _, err := acme.Git(t.Context(), "fetch"); err == nil {
		t.Error("the old password was accepted")
	}
	if _, err := acme.Git(t.Context(), "fetch", repository.URLFor("ccm-acme")); err != nil {
		t.Error(err)
	}
	server.RefuseCredentials(true)
	if _, err := acme.Git(t.Context(), "fetch", repository.URLFor("ccm-acme")); err == nil {
		t.Error("credentials were accepted while all are refused")
	}
}

func TestGitTellsWebhooksOfWhatMoved(t *testing.T) {
	type call struct {
		signature string
		body      []byte
	}
	calls := make(chan call, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.Header.Get("X-Signature"), body}
	}))
	defer receiver.Close()
	_, repository, acme := newGit(t, "ccm-acme", "refs/heads/*")
	repository.AddWebhook(Webhook{URL: receiver.URL, Secret: "s3cret", Refs: []string{"refs/heads/intent/*"}})
	hash := commit(t, acme, "a", "1")
	push(t, acme, "HEAD:refs/heads/other")                                             // not asked for
	push(t, acme, "HEAD:refs/heads/intent/acme", "HEAD:refs/heads/another", "-o", "x") // half of it

	got := <-calls
	mac := hmac.New(sha256.New, []byte("s3cret"))
	_, _ = mac.Write(got.body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.signature != want {
		t.Errorf("signature %s, want %s", got.signature, want)
	}
	var event PushEvent
	if err := json.Unmarshal(got.body, &event); err != nil {
		t.Fatal(err)
	}
	want := RefUpdate{Name: "refs/heads/intent/acme", Old: zeroHash, New: hash}
	if event.Repository != "fleet" || event.User != "ccm-acme" || len(event.Refs) != 1 || event.Refs[0] != want {
		t.Errorf("got %+v, want one update %+v", event, want)
	}
	if len(calls) > 0 {
		t.Errorf("another call: %s", (<-calls).body)
	}
}

func TestGitFaults(t *testing.T) {
	server, repository, acme := newGit(t, "ccm-acme", "refs/heads/*")
	ctx := t.Context()

	server.FailNext(1, http.StatusServiceUnavailable)
	if _, err := acme.Git(ctx, "fetch"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("want 503, got %v", err)
	}
	if _, err := acme.Git(ctx, "fetch"); err != nil {
		t.Errorf("after the fault: %v", err)
	}

	hash := commit(t, acme, "a", "cut")
	server.CutNextPushes(1)
	if _, err := acme.Git(ctx, "push", "origin", "HEAD:refs/heads/cut"); err == nil {
		t.Error("a push whose answer was cut was reported as done")
	}
	if repository.at("refs/heads/cut") != hash {
		t.Error("the push whose answer was cut did not take place")
	}

	address := repository.URL()
	server.Stop()
	if _, err := acme.Git(ctx, "fetch"); err == nil {
		t.Error("a stopped server answered")
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := acme.Git(ctx, "fetch"); err != nil || repository.URL() != address {
		t.Errorf("after the start, at %s for %s: %v", repository.URL(), address, err)
	}

	server.SetDelay(time.Hour)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := acme.Git(short, "fetch"); err == nil || !errors.Is(short.Err(), context.DeadlineExceeded) {
		t.Errorf("want no answer, got %v", err)
	}
	server.SetDelay(0)
	if _, err := acme.Git(ctx, "fetch"); err != nil {
		t.Errorf("after the delay: %v", err)
	}
}

func TestGitRefusesMalformedPushes(t *testing.T) {
	_, repository, _ := newGit(t, "ccm-acme", "refs/heads/*")
	for _, body := range []string{"", "00", "zzzz", "0003", "00ffshort", pkt("nonsense"), pkt(zeroHash + " short refs/heads/x\x00")} {
		response, err := http.Post(repository.URLFor(Admin)+"/git-receive-pack", "application/x-git-receive-pack-request", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", body, response.Status)
		}
	}
}

// BenchmarkGitLsRefs is one protocol-v2 ls-refs, what an idle client costs.
func BenchmarkGitLsRefs(b *testing.B) {
	h, err := newHome("git")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = h.close() }()
	server, err := newGitServer(b.Context(), h)
	if err != nil {
		b.Fatal(err)
	}
	defer server.close()
	repository, err := server.Create(b.Context(), "fleet")
	if err != nil {
		b.Fatal(err)
	}
	body := pkt("command=ls-refs\n") + "0001" + pkt("ref-prefix refs/heads/\n") + "0000"
	for b.Loop() {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, repository.URLFor(Admin)+"/git-upload-pack", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Git-Protocol", "version=2")
		request.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			b.Fatal(response.Status)
		}
	}
}
