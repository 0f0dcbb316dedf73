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

package forge_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/gitsync/forge"
)

// calls are all that can be asked of a forge.
func calls(ctx context.Context, f forge.Forge) map[string]error {
	out := map[string]error{}
	_, _, out["Newest"] = f.Newest(ctx, head, base)
	_, out["Create"] = f.Create(ctx, forge.Proposal{Head: head, Base: base, Title: "t", Body: "b"})
	_, out["Update"] = f.Update(ctx, 1, "t", "b")
	out["Close"] = f.Close(ctx, 1)
	return out
}

// each runs a test for every kind of forge behind a handler.
func each(t *testing.T, handler http.Handler, test func(t *testing.T, o forge.Options)) {
	t.Helper()
	for _, kind := range []forge.Kind{forge.GitHub, forge.GitLab, forge.Gitea} {
		t.Run(string(kind), func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			test(t, forge.Options{Kind: kind, URL: server.URL, Repository: "acme/fleet", Token: token})
		})
	}
}

func open(t *testing.T, o forge.Options) forge.Forge {
	t.Helper()
	f, err := forge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRefusalsAreOfOneKind(t *testing.T) {
	for _, c := range []struct {
		reason string
		status int
		header map[string]string
		body   string
		want   error
		says   string
	}{
		{"wrong token", 401, nil, `{"message":"Bad credentials: ` + token + `"}`, forge.ErrUnauthorized, "Bad credentials: <token>"},
		{"a token at the end of what is repeated", 401, nil, strings.Repeat("x", 295) + " " + token, forge.ErrUnauthorized, "xxx <tok"},
		{"what would do something to a terminal", 404, nil, "\x1b[2Jnot \u202ehere\u009b1m", forge.ErrNotFound, "[2Jnot here1m"},
		{"not allowed", 403, nil, `{"message":"Resource not accessible by personal access token"}`, forge.ErrUnauthorized, "not accessible"},
		{"insufficient scope", 403, nil, `{"error":"insufficient_scope","error_description":"x"}`, forge.ErrUnauthorized, "insufficient_scope"},
		{"no such repository", 404, nil, `{"message":"404 Project Not Found"}`, forge.ErrNotFound, "404 Project Not Found"},
		{"not as it is", 422, nil, `{"message":"Validation Failed","errors":[{"code":"invalid","field":"head"}]}`, forge.ErrInvalid, `"field":"head"`},
		{"a conflict", 409, nil, `{"message":["Another open merge request already exists for this source branch: !1"]}`, forge.ErrInvalid, "Another open merge request"},
		{"archived", 423, nil, ``, forge.ErrInvalid, "423"},
		{"too many", 429, map[string]string{"Retry-After": "17"}, `Retry later`, forge.ErrUnavailable, "try again after 17 s"},
		{"too many until", 429, map[string]string{"RateLimit-Reset": "1767323045"}, ``, forge.ErrUnavailable, "try again after 2026-01-02T03:04:05Z"},
		{"GitHub's limit", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1767323045"}, `{"message":"API rate limit exceeded"}`, forge.ErrUnavailable, "2026-01-02T03:04:05Z"},
		{"GitHub's second limit", 403, nil, `{"message":"You have exceeded a secondary rate limit."}`, forge.ErrUnavailable, "secondary rate limit"},
		{"an error of the forge", 500, nil, `<html>` + strings.Repeat("x", 100000), forge.ErrUnavailable, "500"},
		{"in maintenance", 503, map[string]string{"Retry-After": "120"}, ``, forge.ErrUnavailable, "try again after 120 s"},
		{"a page of a proxy", 200, map[string]string{"Content-Type": "text/html"}, `<html>Sign in, ` + token + `</html>`, forge.ErrUnavailable, "address"},
		{"JSON of something else", 200, nil, `{"number":"seven","iid":"seven","id":"seven"}`, forge.ErrUnavailable, "address"},
		{"a broken answer", 200, nil, `[{"number":`, forge.ErrUnavailable, ""},
	} {
		t.Run(c.reason, func(t *testing.T) {
			each(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range c.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}), func(t *testing.T, o forge.Options) {
				for call, err := range calls(t.Context(), open(t, o)) {
					if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%s: %v; want %v with %q", call, err, c.want, c.says)
					}
					if err != nil && (strings.Contains(err.Error(), token) || len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n")) {
						t.Errorf("%s: %v", call, err)
					}
				}
			})
		})
	}
}

func TestAForgeThatDoesNotAnswerIsUnavailable(t *testing.T) {
	each(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server hears that its client left only then
		<-r.Context().Done()
	}), func(t *testing.T, o forge.Options) {
		o.Timeout = 10 * time.Millisecond
		for call, err := range calls(t.Context(), open(t, o)) {
			if !errors.Is(err, forge.ErrUnavailable) || !strings.Contains(err.Error(), "no answer within 10ms") {
				t.Errorf("%s: %v", call, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for call, err := range calls(ctx, open(t, o)) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s, cancelled: %v", call, err)
			}
		}
		o.URL = "http://127.0.0.1:1"
		for call, err := range calls(t.Context(), open(t, o)) {
			if !errors.Is(err, forge.ErrUnavailable) {
				t.Errorf("%s, nobody there: %v", call, err)
			}
		}
	})
}

func TestTheTokenGoesNowhereElse(t *testing.T) {
	asked := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer elsewhere.Close()
	each(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}), func(t *testing.T, o forge.Options) {
		for call, err := range calls(t.Context(), open(t, o)) {
			if !errors.Is(err, forge.ErrInvalid) || !strings.Contains(err.Error(), "redirects to "+elsewhere.URL) {
				t.Errorf("%s: %v", call, err)
			}
		}
	})
	if asked {
		t.Error("a redirect to another host was followed")
	}
}

func TestARenamedRepositoryIsFollowed(t *testing.T) {
	f := newFake(t, forge.GitHub)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/api/v3/repos/acme/old"); ok {
			http.Redirect(w, r, "/api/v3/repos/acme/fleet"+rest+"?"+r.URL.RawQuery, http.StatusPermanentRedirect)
			return
		}
		f.ServeHTTP(w, r)
	}))
	defer front.Close()
	commit := f.push(head, base)
	o := f.options()
	o.URL, o.Repository = front.URL, "acme/old"
	pr, err := open(t, o).Create(t.Context(), forge.Proposal{Head: head, Base: base, Title: "t"})
	if err != nil || pr.HeadCommit != commit {
		t.Errorf("%+v, %v", pr, err)
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	for _, kind := range []forge.Kind{forge.GitHub, forge.GitLab, forge.Gitea} {
		server := httptest.NewTLSServer(newFake(t, kind))
		defer server.Close()
		server.Config.ErrorLog = nil
		o := newFake(t, kind).options()
		o.URL = server.URL
		if _, _, err := open(t, o).Newest(t.Context(), head, base); !errors.Is(err, forge.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s, unknown authority: %v", kind, err)
		}
		o.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if _, _, err := open(t, o).Newest(t.Context(), head, base); err != nil {
			t.Errorf("%s, with its authority: %v", kind, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := forge.Options{Kind: forge.Gitea, URL: "https://git.example.com/", Repository: "/acme/fleet.git", Token: token}
	if _, err := forge.New(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		reason string
		change func(*forge.Options)
		want   error
	}{
		{"no token", func(o *forge.Options) { o.Token = "" }, forge.ErrUnauthorized},
		{"a token with a line break", func(o *forge.Options) { o.Token += "\n" }, forge.ErrUnauthorized},
		{"no address", func(o *forge.Options) { o.URL = "" }, forge.ErrInvalid},
		{"not HTTP", func(o *forge.Options) { o.URL = "ssh://git.example.com" }, forge.ErrInvalid},
		{"credentials in the address", func(o *forge.Options) { o.URL = "https://hub:" + token + "@git.example.com" }, forge.ErrInvalid},
		{"an owner only", func(o *forge.Options) { o.Repository = "acme" }, forge.ErrInvalid},
		{"a group where there are none", func(o *forge.Options) { o.Repository = "acme/infra/fleet" }, forge.ErrInvalid},
		{"an unknown kind", func(o *forge.Options) { o.Kind = "Gerrit" }, forge.ErrInvalid},
		{"a bad bundle", func(o *forge.Options) { o.CABundle = []byte("x") }, forge.ErrInvalid},
	} {
		o := good
		c.change(&o)
		if _, err := forge.New(o); !errors.Is(err, c.want) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", c.reason, err)
		}
	}
}
