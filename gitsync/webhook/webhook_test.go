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

package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubelb/gitops/gitsync/webhook"
)

const key = "hmac key"

// house is a handler with sources of every type, and what it triggered.
type house struct {
	*webhook.Handler
	triggered []string
	results   []webhook.Result
}

func newHouse() *house {
	h := &house{}
	h.Handler = webhook.NewHandler(webhook.Sources{
		Lookup: func(_ context.Context, namespace, name string) (webhook.Source, error) {
			s := webhook.Source{
				Type: webhook.Generic, Token: []byte(key), PullRequests: true, Repositories: []string{"https://git.example.com/acme/fleet.git"},
				Wants: func(ref string) bool { return !strings.HasPrefix(ref, "refs/heads/status/") },
			}
			switch namespace + "/" + name {
			case "kubelb/fleet":
			case "kubelb/github", "kubelb/gitlab", "kubelb/gitea":
				s.Type = webhook.Type(name)
			case "kubelb/tokenless":
				s.Token = nil
			case "kubelb/typeless":
				s.Type = "gerrit"
			case "kubelb/away":
				return s, errors.New("the API server is away")
			default:
				return s, webhook.ErrUnknown
			}
			return s, nil
		},
		Trigger: func(namespace, name string) { h.triggered = append(h.triggered, namespace+"/"+name) },
		Count:   func(_, _ string, result webhook.Result) { h.results = append(h.results, result) },
	})
	return h
}

// post sends a body with headers and returns the status and what was said.
func (h *house) post(path, body string, headers map[string]string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestHandler(t *testing.T) {
	const body = `{"ref":"refs/heads/main"}`
	good := webhook.Sign([]byte(key), []byte(body))
	large := strings.Repeat("x", webhook.MaxBody+1)
	for _, c := range []struct {
		reason, method, path, body, signature string
		want                                  int
		result                                webhook.Result
	}{
		{"a good signature", http.MethodPost, "/hook/kubelb/fleet", body, good, 200, webhook.Triggered},
		{"an empty body", http.MethodPost, "/hook/kubelb/fleet", "", webhook.Sign([]byte(key), nil), 200, webhook.Triggered},
		{"no signature", http.MethodPost, "/hook/kubelb/fleet", body, "", 401, webhook.Unverified},
		{"another key", http.MethodPost, "/hook/kubelb/fleet", body, webhook.Sign([]byte("x"), []byte(body)), 401, webhook.Unverified},
		{"another body", http.MethodPost, "/hook/kubelb/fleet", body + " ", good, 401, webhook.Unverified},
		{"another function", http.MethodPost, "/hook/kubelb/fleet", body, strings.Replace(good, "sha256", "sha1", 1), 401, webhook.Unverified},
		{"not hexadecimal", http.MethodPost, "/hook/kubelb/fleet", body, "sha256=xyz", 401, webhook.Unverified},
		{"an empty token fits nothing", http.MethodPost, "/hook/kubelb/tokenless", body, webhook.Sign(nil, []byte(body)), 401, webhook.Unverified},
		{"no such source", http.MethodPost, "/hook/kubelb/other", body, good, 404, webhook.Unknown},
		{"no such path", http.MethodPost, "/hook/kubelb", body, good, 404, ""},
		{"a path too long", http.MethodPost, "/hook/kubelb/fleet/x", body, good, 404, ""},
		{"another method", http.MethodGet, "/hook/kubelb/fleet", "", good, 405, ""},
		{"a body too large", http.MethodPost, "/hook/kubelb/fleet", large, webhook.Sign([]byte(key), []byte(large)), 413, webhook.Malformed},
		{"the token cannot be read", http.MethodPost, "/hook/kubelb/away", body, good, 503, webhook.Unavailable},
		{"a type of tomorrow", http.MethodPost, "/hook/kubelb/typeless", body, good, 503, webhook.Unavailable},
	} {
		t.Run(c.reason, func(t *testing.T) {
			h := newHouse()
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			r.Header.Set(webhook.Header, c.signature)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("got %d, want %d", w.Code, c.want)
			}
			if got := len(h.triggered) == 1 && h.triggered[0] == "kubelb/fleet"; got != (c.want == 200) || len(h.triggered) > 1 {
				t.Errorf("triggered %v", h.triggered)
			}
			if c.result != "" && !slices.Equal(h.results, []webhook.Result{c.result}) {
				t.Errorf("counted %v, want %v", h.results, c.result)
			}
			if strings.Contains(w.Body.String(), key) {
				t.Error("the answer holds the key")
			}
		})
	}
}

// sender makes the headers of a forge's event.
type sender struct {
	kind              webhook.Type
	push, pull, other string
	headers           func(event, delivery, body string) map[string]string
}

func senders() []sender {
	hmac := func(body string) string { return webhook.Sign([]byte(key), []byte(body)) }
	return []sender{
		{webhook.GitHub, "push", "pull_request", "ping", func(event, delivery, body string) map[string]string {
			return map[string]string{"X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": hmac(body), "Content-Type": "application/json"}
		}},
		{webhook.GitLab, "Push Hook", "Merge Request Hook", "Tag Push Hook", func(event, delivery, _ string) map[string]string {
			return map[string]string{
				"X-Gitlab-Event": event, "Idempotency-Key": delivery, "X-Gitlab-Webhook-UUID": "the same every time", "X-Gitlab-Token": key,
				"Content-Type": "application/json",
			}
		}},
		{webhook.Gitea, "push", "pull_request", "issue_comment", func(event, delivery, body string) map[string]string {
			return map[string]string{
				"X-Gitea-Event": event, "X-Gitea-Delivery": delivery, "X-Gitea-Signature": strings.TrimPrefix(hmac(body), "sha256="),
				"Content-Type": "application/json; charset=utf-8",
			}
		}},
	}
}

func file(t *testing.T, kind webhook.Type, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("testdata/%s-%s.json", kind, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEventsOfForges(t *testing.T) {
	for _, s := range senders() {
		pushed, pulled := file(t, s.kind, "push"), file(t, s.kind, "pull")
		for _, c := range []struct {
			reason, event, body string
			change              func(map[string]string)
			want                int
			result              webhook.Result
			says                string
		}{
			{"a push", s.push, pushed, nil, 200, webhook.Triggered, "ok"},
			{"a pull request", s.pull, pulled, nil, 200, webhook.Triggered, "ok"},
			{"another event", s.other, file(t, s.kind, "other"), nil, 200, webhook.Ignored, "change nothing"},
			{"a push of what the hub writes itself", s.push, strings.ReplaceAll(pushed, "intent/acme", "status/acme"), nil, 200, webhook.Ignored, "nobody waits"},
			{"a tag", s.push, strings.ReplaceAll(pushed, "refs/heads/intent/acme", "refs/tags/v1"), nil, 200, webhook.Ignored, "nobody waits"},
			{"another repository", s.push, renamed(pushed, "acme/other"), nil, 403, webhook.Foreign, `"acme/other"`},
			{"another owner", s.pull, renamed(pulled, "globex/fleet"), nil, 403, webhook.Foreign, `"globex/fleet"`},
			{"a group around it", s.push, renamed(pushed, "evil/acme/fleet"), nil, 403, webhook.Foreign, `"evil/acme/fleet"`},
			{"its name as an ending", s.push, renamed(pushed, "acme/fleet-2"), nil, 403, webhook.Foreign, `"acme/fleet-2"`},
			{"no repository", s.push, `{"ref": "refs/heads/main"}`, nil, 400, webhook.Malformed, "which repository"},
			{"not JSON", s.push, `{"ref": `, nil, 400, webhook.Malformed, "not the JSON"},
			{"JSON of another shape", s.push, `["push"]`, nil, 400, webhook.Malformed, "not the JSON"},
			{"an empty body", s.push, ``, nil, 400, webhook.Malformed, "not the JSON"},
			{"a form", s.push, `payload=%7B%7D`, func(h map[string]string) { h["Content-Type"] = "application/x-www-form-urlencoded" }, 415, webhook.Malformed, "application/json"},
			{"no event", "", pushed, nil, 400, webhook.Malformed, "is missing"},
			{"no secret", s.push, pushed, func(h map[string]string) { drop(h, "X-Hub-Signature-256", "X-Gitlab-Token", "X-Gitea-Signature") }, 401, webhook.Unverified, "does not fit"},
			{"a wrong secret", s.push, pushed, func(h map[string]string) {
				for _, name := range []string{"X-Hub-Signature-256", "X-Gitlab-Token", "X-Gitea-Signature"} {
					if h[name] != "" {
						h[name] = h[name][:len(h[name])-1] + "!"
					}
				}
			}, 401, webhook.Unverified, "does not fit"},
			{"the generic format", s.push, pushed, func(h map[string]string) {
				drop(h, "X-Hub-Signature-256", "X-Gitlab-Token", "X-Gitea-Signature")
				h[webhook.Header] = webhook.Sign([]byte(key), []byte(pushed))
			}, 401, webhook.Unverified, "does not fit"},
		} {
			t.Run(string(s.kind)+"/"+c.reason, func(t *testing.T) {
				h := newHouse()
				headers := s.headers(c.event, "d-1", c.body)
				if c.change != nil {
					c.change(headers)
				}
				code, said := h.post("/hook/kubelb/"+string(s.kind), c.body, headers)
				if code != c.want || !slices.Equal(h.results, []webhook.Result{c.result}) || !strings.Contains(said, c.says) {
					t.Errorf("%d, %v, %q; want %d, %v, %q", code, h.results, said, c.want, c.result, c.says)
				}
				var want []string
				if c.result == webhook.Triggered {
					want = []string{"kubelb/" + string(s.kind)}
				}
				if !slices.Equal(h.triggered, want) {
					t.Errorf("triggered %v, want %v", h.triggered, want)
				}
				if strings.Contains(said, key) {
					t.Error("the answer holds the key")
				}
			})
		}
	}
}

// renamed gives the repository of an event another name.
func renamed(body, name string) string {
	for _, old := range []string{"acme/fleet", "Acme/fleet"} {
		body = strings.ReplaceAll(body, old, name)
	}
	return body
}

func drop(h map[string]string, names ...string) {
	for _, name := range names {
		delete(h, name)
	}
}

func TestReplaysAreAnsweredAndIgnored(t *testing.T) {
	for _, s := range senders() {
		t.Run(string(s.kind), func(t *testing.T) {
			h := newHouse()
			path, body := "/hook/kubelb/"+string(s.kind), file(t, s.kind, "push")
			later := strings.ReplaceAll(body, "refs/heads/intent/acme", "refs/heads/intent/globex")
			for i, c := range []struct {
				delivery, body string
				want           webhook.Result
			}{
				{"d-1", body, webhook.Triggered},
				{"d-1", body, webhook.Replayed},
				{"d-1", later, webhook.Replayed},
				{"d-2", later, map[bool]webhook.Result{true: webhook.Triggered, false: webhook.Replayed}[s.kind == webhook.GitLab]}, // heard with d-1, as a body where that is signed
				{"d-3", strings.ReplaceAll(body, "intent/acme", "main"), webhook.Triggered},
			} {
				code, said := h.post(path, c.body, s.headers(s.push, c.delivery, c.body))
				if code != http.StatusOK || h.results[i] != c.want {
					t.Errorf("step %d: %d %s, %v; want %v", i, code, said, h.results[i], c.want)
				}
			}
			if s.kind == webhook.GitLab {
				return // its bodies are not signed: who has the token can send what he likes
			}
			if h.post(path, body, s.headers(s.push, "d-4", body)); h.results[len(h.results)-1] != webhook.Replayed {
				t.Error("a body with another identifier is no replay")
			}
		})
	}
}

func TestARefusedEventIsNotRemembered(t *testing.T) {
	h := newHouse()
	s := senders()[0]
	body := file(t, s.kind, "push")
	headers := s.headers(s.push, "d-1", body)
	headers["Content-Type"] = "text/plain"
	h.post("/hook/kubelb/github", body, headers)
	h.post("/hook/kubelb/github", body, s.headers(s.push, "d-1", body)) // redelivered, once corrected
	if !slices.Equal(h.results, []webhook.Result{webhook.Malformed, webhook.Triggered}) {
		t.Errorf("%v", h.results)
	}
}

func TestReplaysAreForgottenInTime(t *testing.T) {
	now := time.Unix(1767323045, 0)
	receiver := webhook.NewReceiver(func() time.Time { return now })
	source := webhook.Source{Type: webhook.Generic, Token: []byte(key)}
	post := func(name, body string) webhook.Result {
		r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
		r.Header.Set(webhook.Header, webhook.Sign([]byte(key), []byte(body)))
		return receiver.Receive(httptest.NewRecorder(), r, name, source)
	}
	wants := func(what string, got, want webhook.Result) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	wants("the first", post("a", "x"), webhook.Triggered)
	wants("the same", post("a", "x"), webhook.Replayed)
	wants("the same for another source", post("b", "x"), webhook.Triggered)
	now = now.Add(10*time.Minute - time.Second)
	wants("nearly ten minutes later", post("a", "x"), webhook.Replayed)
	now = now.Add(time.Second)
	wants("ten minutes later", post("a", "x"), webhook.Triggered)
	// What is remembered is bounded: of very many in ten minutes the oldest go.
	for i := range 4100 {
		now = now.Add(time.Second / 25)
		wants("one of many", post("a", fmt.Sprint(i)), webhook.Triggered)
	}
	wants("the newest of many", post("a", "4099"), webhook.Replayed)
	wants("the oldest of many", post("a", "0"), webhook.Triggered)
}

func TestAFloodIsRefused(t *testing.T) {
	h := newHouse()
	refused := false
	for range 3000 {
		code, _ := h.post("/hook/kubelb/other", "", nil)
		refused = refused || code == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("3000 requests at once were all looked at")
	}
}

// Strangers who send much and slowly take no more memory than a few bodies do.
func TestFewBodiesAreReadAtATime(t *testing.T) {
	receiver := webhook.NewReceiver(nil)
	source := webhook.Source{Type: webhook.Generic, Token: []byte(key)}
	post := func(body io.Reader) webhook.Result {
		r := httptest.NewRequest(http.MethodPost, "/hook", body)
		r.Header.Set(webhook.Header, webhook.Sign([]byte(key), []byte("news")))
		return receiver.Receive(httptest.NewRecorder(), r, "a", source)
	}
	var group sync.WaitGroup
	var slow []*io.PipeWriter
	for range 64 {
		in, out := io.Pipe()
		slow = append(slow, out)
		group.Go(func() {
			if got := post(in); got != webhook.Unverified {
				t.Errorf("a slow stranger: %v", got)
			}
		})
		if _, err := out.Write([]byte("x")); err != nil { // it is being read
			t.Fatal(err)
		}
	}
	if got := post(strings.NewReader("news")); got != webhook.Limited {
		t.Errorf("one more: %v", got)
	}
	for _, out := range slow {
		_ = out.Close()
	}
	group.Wait()
	if got := post(strings.NewReader("news")); got != webhook.Triggered {
		t.Errorf("after them: %v", got)
	}
}

func TestAFloodOfOneSourceLeavesTheOthersAlone(t *testing.T) {
	now := time.Unix(1767323045, 0)
	receiver := webhook.NewReceiver(func() time.Time { return now })
	source := webhook.Source{Type: webhook.Generic, Token: []byte(key)}
	n := 0
	post := func(name, with string) webhook.Result {
		n++
		body := fmt.Sprint(n)
		r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
		r.Header.Set(webhook.Header, webhook.Sign([]byte(with), []byte(body)))
		return receiver.Receive(httptest.NewRecorder(), r, name, source)
	}
	for range 2000 { // a stranger uses up nothing of the source's
		if got := post("a", "no key"); got != webhook.Unverified {
			t.Fatal(got)
		}
	}
	passed := 0
	for post("a", key) == webhook.Triggered {
		passed++
	}
	if passed < 100 || passed > 1000 {
		t.Errorf("%d events of one source at once", passed)
	}
	if got := post("b", key); got != webhook.Triggered {
		t.Errorf("another source: %v", got)
	}
	now = now.Add(time.Second)
	if got := post("a", key); got != webhook.Triggered {
		t.Errorf("a second later: %v", got)
	}
}

func TestRepositoriesAreComparedByPath(t *testing.T) {
	for _, c := range []struct {
		configured, clone, name string
		same                    bool
	}{
		{"https://git.example.com/acme/fleet.git", "https://git.example.com/acme/fleet.git", "acme/fleet", true},
		{"https://git.example.com/acme/fleet", "https://git.example.com/Acme/Fleet.git", "Acme/Fleet", true},
		{"ssh://git@git.example.com:2222/acme/fleet.git", "git@git.example.com:acme/fleet.git", "acme/fleet", true},
		{"http://gitea.git.svc:3000/acme/fleet.git", "https://git.example.com/acme/fleet.git", "acme/fleet", true},
		{"https://example.com/git/acme/fleet.git", "https://example.com/git/acme/fleet.git", "acme/fleet", true},
		{"acme/fleet", "https://git.example.com/acme/fleet.git", "acme/fleet", true},
		{"https://git.example.com/acme/infra/fleet.git", "https://git.example.com/infra/fleet.git", "infra/fleet", false},
		{"https://git.example.com/acme/fleet.git", "https://git.example.com/acme/fleet2.git", "acme/fleet2", false},
		{"", "https://git.example.com/acme/fleet.git", "acme/fleet", false},
	} {
		body := fmt.Sprintf(`{"ref": "refs/heads/main", "repository": {"full_name": %q, "clone_url": %q}}`, c.name, c.clone)
		r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
		for name, value := range senders()[0].headers("push", "d", body) {
			r.Header.Set(name, value)
		}
		got := webhook.NewReceiver(nil).Receive(httptest.NewRecorder(), r, "a", webhook.Source{
			Type: webhook.GitHub, Token: []byte(key), Repositories: []string{c.configured},
		})
		if (got == webhook.Triggered) != c.same {
			t.Errorf("%s and %s: %v", c.configured, c.clone, got)
		}
	}
}
