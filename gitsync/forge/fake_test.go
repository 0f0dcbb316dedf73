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
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/kubelb/gitops/gitsync/forge"
)

const token = "glpat-secret-of-the-hub"

// fake serves the part of a forge's API that is used, from answers as the forge
// gives them (testdata), and fails the test for a request that the forge would
// not take.
type fake struct {
	*testing.T
	kind   forge.Kind
	server *httptest.Server
	answer *template.Template

	mu       sync.Mutex
	pulls    []*pull
	branches map[string]string
	requests int
}

type pull struct {
	ID, Number             int64
	Base, URL              string
	Head, Onto, SHA        string
	Title, Body, State     string
	Fork, Gone, frozenHead bool
}

func newFake(t *testing.T, kind forge.Kind) *fake {
	file := strings.ToLower(string(kind)) + ".json"
	f := &fake{T: t, kind: kind, branches: map[string]string{}}
	f.answer = template.Must(template.New(file).Funcs(template.FuncMap{"json": func(s string) (string, error) {
		text, err := json.Marshal(s)
		return string(text), err
	}}).ParseFiles("testdata/" + file))
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

func (f *fake) options() forge.Options {
	o := forge.Options{Kind: f.kind, URL: f.server.URL, Repository: "acme/fleet", Token: token}
	if f.kind == forge.GitLab {
		o.Repository = "acme/infra/fleet"
	}
	return o
}

// ServeHTTP answers as the forge does.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	prefix, auth, header := "/api/v3/repos/acme/fleet/pulls", "Bearer "+token, "Authorization"
	switch f.kind {
	case forge.GitLab:
		prefix, auth, header = "/api/v4/projects/acme%2Finfra%2Ffleet/merge_requests", token, "PRIVATE-TOKEN"
	case forge.Gitea:
		prefix, auth = "/api/v1/repos/acme/fleet/pulls", "token "+token
	}
	if r.Header.Get(header) != auth {
		f.Errorf("%s %s came with the wrong credentials", r.Method, r.URL)
	}
	if f.kind == forge.Gitea && r.URL.Path == "/api/v1/repos/acme/fleet" {
		_, _ = w.Write([]byte(`{"id": 7, "full_name": "acme/fleet"}`))
		return
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
	if !ok {
		f.Errorf("%s %s is not a request to %s", r.Method, r.URL.EscapedPath(), prefix)
	}
	rest = strings.TrimPrefix(rest, "/")
	number, err := strconv.ParseInt(rest, 10, 64)
	switch {
	case rest == "" && r.Method == http.MethodGet:
		f.list(w, r.URL.Query())
	case rest == "" && r.Method == http.MethodPost:
		f.create(w, f.fields(r))
	case err != nil && f.kind == forge.Gitea && r.Method == http.MethodGet:
		f.byBranches(w, rest)
	case err != nil:
		f.Errorf("%s %s", r.Method, r.URL)
	case r.Method == http.MethodGet, r.Method == http.MethodPatch && f.kind != forge.GitLab, r.Method == http.MethodPut && f.kind == forge.GitLab:
		f.edit(w, number, r)
	default:
		f.Errorf("%s %s", r.Method, r.URL)
	}
}

func (f *fake) fields(r *http.Request) map[string]string {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	out := map[string]string{}
	for key, value := range in {
		if text, ok := value.(string); ok {
			out[key] = text
		}
	}
	return out
}

func (f *fake) list(w http.ResponseWriter, q url.Values) {
	var found []*pull
	for _, p := range slices.Backward(f.pulls) {
		head, base := p.Head, p.Onto // Gitea has no such filters
		switch f.kind {
		case forge.GitHub:
			if q.Get("sort") != "created" || q.Get("direction") != "desc" {
				f.Errorf("the order is not asked for: %v", q)
			}
			head, base = strings.TrimPrefix(q.Get("head"), "acme:"), q.Get("base")
		case forge.GitLab:
			if q.Get("order_by") != "created_at" || q.Get("sort") != "desc" {
				f.Errorf("the order is not asked for: %v", q)
			}
			head, base = q.Get("source_branch"), q.Get("target_branch")
		}
		state := q.Get("state")
		if p.Head == head && p.Onto == base && (state == "all" || strings.HasPrefix(state, "open") && p.State == "open") {
			found = append(found, p)
		}
	}
	page := number(cmp.Or(q.Get("page"), "1"))
	size := number(cmp.Or(q.Get("per_page"), q.Get("limit"), "20"))
	from, to := min((page-1)*size, len(found)), min(page*size, len(found))
	if to < len(found) {
		q.Set("page", strconv.Itoa(page+1))
		w.Header().Set("Link", fmt.Sprintf(`<%s/?%s>; rel="next"`, f.server.URL, q.Encode()))
		w.Header().Set("X-Next-Page", strconv.Itoa(page+1))
	}
	texts := make([]string, 0, to-from)
	for _, p := range found[from:to] {
		texts = append(texts, f.text(p))
	}
	_, _ = w.Write([]byte("[" + strings.Join(texts, ",") + "]"))
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// text renders an answer. A pull request that is not open keeps its last commit.
func (f *fake) text(p *pull) string {
	if !p.frozenHead {
		p.SHA = f.branches[p.Head]
	}
	var out bytes.Buffer
	if err := f.answer.Execute(&out, p); err != nil {
		f.Error(err)
	}
	return out.String()
}

func (f *fake) create(w http.ResponseWriter, in map[string]string) {
	head, base, body := in["head"], in["base"], in["body"]
	if f.kind == forge.GitLab {
		head, base, body = in["source_branch"], in["target_branch"], in["description"]
	}
	for _, p := range f.pulls {
		if p.Head == head && p.Onto == base && p.State == "open" && !p.Fork {
			f.refuse(w, map[forge.Kind]int{forge.GitHub: 422, forge.GitLab: 409, forge.Gitea: 409}[f.kind])
			return
		}
	}
	if f.branches[head] == "" {
		f.refuse(w, 422)
		return
	}
	p := f.add(&pull{Head: head, Onto: base, Title: in["title"], Body: body, State: "open"})
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write([]byte(f.text(p)))
}

func (f *fake) refuse(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"message": "Validation Failed", "errors": [{"message": "refused by the fake"}]}`))
}

func (f *fake) add(p *pull) *pull {
	p.Number = int64(len(f.pulls) + 1)
	p.ID, p.Base = 1000+p.Number, f.server.URL
	p.URL = fmt.Sprintf("%s/acme/fleet/pulls/%d", f.server.URL, p.Number)
	f.pulls = append(f.pulls, p)
	return p
}

// byBranches is Gitea's way to ask for two branches: any that fits.
func (f *fake) byBranches(w http.ResponseWriter, path string) {
	base, head, _ := strings.Cut(path, "/")
	for _, p := range f.pulls {
		if p.Head == head && p.Onto == base {
			_, _ = w.Write([]byte(f.text(p)))
			return
		}
	}
	f.refuse(w, 404)
}

func (f *fake) edit(w http.ResponseWriter, number int64, r *http.Request) {
	if number < 1 || number > int64(len(f.pulls)) {
		f.refuse(w, 404)
		return
	}
	p := f.pulls[number-1]
	if r.Method != http.MethodGet {
		in := f.fields(r)
		p.Title = cmp.Or(in["title"], p.Title)
		p.Body = cmp.Or(in["body"], in["description"], p.Body)
		if in["state"] == "closed" || in["state_event"] == "close" {
			if p.State != "open" {
				f.Errorf("%d is closed, which is %s", number, p.State)
			}
			f.end(p, "closed")
		}
	}
	_, _ = w.Write([]byte(f.text(p)))
}

func (f *fake) end(p *pull, state string) {
	p.State, p.SHA, p.frozenHead = state, f.branches[p.Head], true
}

// What people do.

func (f *fake) push(head, _ string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.branches[head] = fmt.Sprintf("%040x", len(f.branches)*1000+f.requests+1)
	return f.branches[head]
}

func (f *fake) merge(number int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end(f.pulls[number-1], "merged")
}

func (f *fake) reopen(number int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls[number-1].State, f.pulls[number-1].frozenHead = "open", false
}

func (f *fake) remove(head string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pulls {
		p.Gone = p.Gone || p.Head == head
	}
}

func (f *fake) fork(head, base string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(&pull{Head: head, Onto: base, Title: "From a fork", State: "open", Fork: true})
}

func (f *fake) others(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range n {
		f.add(&pull{Head: fmt.Sprintf("review/other-%d", i), Onto: "main", Title: "Another", State: "open"})
	}
}
