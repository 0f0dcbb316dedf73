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

package git

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const main = "refs/heads/main"

func TestEmptyRepositoryThenFirstCommit(t *testing.T) {
	srv := newServer(t)
	r, s := srv.remote(Options{}), NewStore()

	refs, err := r.ListRefs(t.Context())
	if err != nil || len(refs) != 0 {
		t.Fatalf("refs of an empty repository: %v, %v", refs, err)
	}
	first := commitOn(t, s, Hash{}, map[string]string{"README.md": "hello\n", "a/b/c.yaml": "c: 1\n"})
	mustPush(t, r, s, main, Hash{}, first)
	second := commitOn(t, s, first, map[string]string{"a/b/c.yaml": "c: 2\n"})
	mustPush(t, r, s, main, first, second)

	refs, err = r.ListRefs(t.Context(), "refs/heads/")
	if err != nil || !maps.Equal(refs, map[string]Hash{main: second}) {
		t.Fatalf("refs: %v, %v", refs, err)
	}
	if got := srv.git(srv.bare, "show", "main:a/b/c.yaml"); got != "c: 2" {
		t.Errorf("file: %q", got)
	}
	if got := srv.git(srv.bare, "rev-list", "--count", "main"); got != "2" {
		t.Errorf("commits: %s", got)
	}
	srv.fsck()
}

func TestRequestsPerCall(t *testing.T) {
	srv := newServer(t)
	r, s := srv.remote(Options{}), NewStore()
	tip := commitOn(t, s, Hash{}, map[string]string{"a": "1"})
	mustPush(t, r, s, main, Hash{}, tip)
	native := srv.clone()
	next := native.push("b", "2")
	other := NewStore()
	mustFetch(t, r, other, Want{Tip: tip})
	srv.asked()

	if _, err := r.ListRefs(t.Context(), main); err != nil {
		t.Fatal(err)
	}
	mustFetch(t, r, other, Want{Tip: next, Have: tip})
	mustFetch(t, r, other, Want{Tip: next, Have: tip}) // here already
	mustPush(t, r, other, main, next, commitOn(t, other, next, map[string]string{"c": "3"}))
	want := []string{"POST git-upload-pack", "POST git-upload-pack", "POST git-receive-pack"}
	if got := srv.asked(); !slices.Equal(got, want) {
		t.Errorf("requests: %q, want %q", got, want)
	}
}

func TestAuthentication(t *testing.T) {
	srv, _, _, _ := pushed(t)
	srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		user, password, _ := req.BasicAuth()
		if user == "hub" && password == "s3cr3t" || req.Header.Get("Authorization") == "Bearer t0k3n" {
			return false
		}
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return true
	})
	withUser := func(user string) string { return strings.Replace(srv.url, "://", "://"+user+"@", 1) }
	for _, tc := range []struct {
		name, url string
		auth      Auth
		ok        bool
	}{
		{"nobody", srv.url, Auth{}, false},
		{"basic", srv.url, Auth{Username: "hub", Password: "s3cr3t"}, true},
		{"bearer", srv.url, Auth{Bearer: "t0k3n"}, true},
		{"in the URL", withUser("hub:s3cr3t"), Auth{}, true},
		{"wrong in the URL", withUser("hub:s3cr3t-wrong"), Auth{}, false},
		{"wrong token", srv.url, Auth{Bearer: "s3cr3t"}, false},
	} {
		r, err := NewRemote(tc.url, Options{Auth: tc.auth})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.ListRefs(t.Context())
		r.Close()
		if tc.ok && err != nil || !tc.ok && (!errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), "who are you?")) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: the error tells the password: %v", tc.name, err)
		}
	}
}

func TestNewRemoteRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"git@example.com:repo.git":           "url: not a URL; write git@host:path as ssh://git@host/path",
		"git://example.com/repo.git":         "url: scheme git is not supported: write https, http or ssh",
		"file:///srv/repo.git":               "url: scheme file is not supported: write https, http or ssh",
		"ssh://git:s3cr3t@example.com/r":     "url: a password in it is not used for ssh: put a private key into the credentials",
		"ssh://git@example.com/":             "url: the path of the repository is missing",
		"https:///repo.git":                  "url: host is missing",
		"https://example.com/r?token=s3cr3t": "url: a query or fragment is not supported",
		"https://u:s3cr3t@exa mple.com/r":    "url: not a valid URL",
		"https://u:s3cr3t%@example.com/r":    "url: not a valid URL",
		"repo":                               "url: not a valid URL",
		"":                                   "url: not a valid URL",
	} {
		if _, err := NewRemote(url, Options{}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
	}
	if _, err := NewRemote("https://example.com/r", Options{CABundle: "none"}); err == nil {
		t.Error("a CA bundle without certificates")
	}
}

func TestServersThatAreNoUse(t *testing.T) {
	answer := func(code int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	const advert = "application/x-git-upload-pack-advertisement"
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    error
		text    string
	}{
		"not found":         {answer(404, "text/plain", "no such\x1b[31m repository"), ErrNotFound, "no such[31m repository"},
		"a web page":        {answer(200, "text/html", "<html>"), ErrProtocol, "text/html"},
		"a dumb server":     {answer(200, "text/plain", "abc\trefs/heads/main\n"), ErrProtocol, "text/plain"},
		"overloaded":        {answer(503, "text/html", "<html>"), ErrUnavailable, "503"},
		"limited":           {answer(429, "text/plain", "slow down"), ErrUnavailable, "slow down"},
		"nothing":           {answer(200, advert, ""), ErrUnavailable, "cut off"},
		"garbage":           {answer(200, advert, "hello world"), ErrProtocol, "packet length"},
		"cut off refs":      {answer(200, advert, "0036"+strings.Repeat("1", 40)+" refs/a\x00a\n"), ErrUnavailable, "cut off"},
		"an error packet":   {answer(200, advert, "0018ERR closed for today"), ErrUnavailable, "closed for today"},
		"SHA-256":           {answer(200, advert, "000eversion 2\n0019object-format=sha256\n0000"), ErrProtocol, "sha256"},
		"no capabilities":   {answer(200, advert, "0000"), ErrProtocol, "what it can do"},
		"an odd ref":        {answer(200, advert, "000chello\x00a\n0000"), ErrProtocol, "hello"},
		"moved":             {redirect("https://u:s3cr3t@example.com/new?token=s3cr3t"), ErrNotFound, "https://example.com/new"},
		"a lost connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrUnavailable, ""},
	} {
		web := httptest.NewServer(tc.handler)
		r, err := NewRemote(web.URL+"/repo.git", Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.ListRefs(t.Context())
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		r.Close()
		web.Close()
	}
	r, err := NewRemote("http://127.0.0.1:1/repo.git", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ListRefs(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, to, http.StatusMovedPermanently) }
}

// A list that ends early must not look like a list with fewer refs.
func TestListRefsCutOff(t *testing.T) {
	srv, r, _, tip := pushed(t)
	line := fmt.Sprintf("003d%s refs/heads/main\n", tip)
	if _, err := r.ListRefs(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", line, line + "00", line + "003d" + tip.String()} {
		srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodPost {
				return false
			}
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			_, _ = io.WriteString(w, body)
			return true
		})
		if refs, err := r.ListRefs(t.Context()); !errors.Is(err, ErrUnavailable) || refs != nil {
			t.Errorf("%q: %v, %v", body, refs, err)
		}
	}
}

// The server accepts the connection and never says a word, or stops half way.
func TestServerThatNeverAnswers(t *testing.T) {
	srv, _, s, tip := pushed(t)
	for _, half := range []bool{false, true} {
		r := srv.remote(Options{Timeout: 300 * time.Millisecond})
		srv.intercept(nil)
		if _, err := r.ListRefs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.SupportsAtomic(t.Context()); err != nil {
			t.Fatal(err)
		}
		srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodPost {
				return false
			}
			if half {
				w.Header().Set("Content-Type", "application/x-"+strings.TrimPrefix(req.URL.Path, "/repo.git/")+"-result")
				_, _ = io.WriteString(w, "00")
				_ = http.NewResponseController(w).Flush()
			}
			_, _ = io.Copy(io.Discard, req.Body)
			<-req.Context().Done()
			return true
		})
		if _, err := r.ListRefs(t.Context()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("list refs: %v", err)
		}
		if err := r.Fetch(t.Context(), NewStore(), Want{Tip: tip}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("fetch: %v", err)
		}
		next := commitOn(t, s, tip, map[string]string{"a": "1"})
		_, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: tip, New: next}}, false)
		if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("push: %v", err)
		}
	}
}

// A server that was replaced by an older one is asked again what it can do.
func TestServerChangesItsProtocol(t *testing.T) {
	srv, r, _, tip := pushed(t)
	if _, err := r.ListRefs(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.mu.Lock()
	srv.old = true
	srv.mu.Unlock()
	for try := 0; ; try++ {
		refs, err := r.ListRefs(t.Context())
		if err == nil && refs[main] == tip {
			break
		}
		if try == 2 {
			t.Fatalf("%v, %v", refs, err)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	srv, r, s, tip := pushed(t)
	seen := map[string]bool{}
	srv.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		seen[req.RemoteAddr] = true
		return false
	})
	for i := range 3 {
		if _, err := r.ListRefs(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustFetch(t, r, NewStore(), Want{Tip: tip})
		next := commitOn(t, s, tip, map[string]string{"a": fmt.Sprint(i)})
		mustPush(t, r, s, main, tip, next)
		tip = next
	}
	if len(seen) != 1 {
		t.Errorf("%d connections", len(seen))
	}
}

// proxy hands requests on to the server.
func (s *server) proxy(t *testing.T) http.Handler {
	t.Helper()
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	return httputil.NewSingleHostReverseProxy(target)
}

func TestCABundle(t *testing.T) {
	srv, _, _, tip := pushed(t)
	web := httptest.NewTLSServer(srv.proxy(t))
	defer web.Close()
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	for _, tc := range []struct {
		bundle []byte
		ok     bool
	}{{bundle, true}, {nil, false}} {
		r, err := NewRemote(web.URL+"/repo.git", Options{CABundle: string(tc.bundle)})
		if err != nil {
			t.Fatal(err)
		}
		refs, err := r.ListRefs(t.Context(), main)
		r.Close()
		if tc.ok && (err != nil || refs[main] != tip) || !tc.ok && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v, %v", refs, err)
		}
	}
}
