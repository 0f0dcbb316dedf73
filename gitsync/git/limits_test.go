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
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// endless answers with refs until the reader gives up, compressed.
func endless(w http.ResponseWriter, contentType, head string, line func(i int) string) (lines int) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Encoding", "gzip")
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	_, err := io.WriteString(z, head)
	for err == nil && lines < 2_000_000 {
		text := line(lines)
		_, err = fmt.Fprintf(z, "%04x%s", len(text)+4, text)
		lines++
	}
	_, _ = io.WriteString(z, "0000")
	_ = z.Close()
	return lines
}

// Servers can answer with more than anybody wants to hold, and a little text that
// is compressed becomes a lot.
func TestAnswersWithTooManyRefsEnd(t *testing.T) {
	const advertised, result = "application/x-git-upload-pack-advertisement", "application/x-git-upload-pack-result"
	name := strings.Repeat("x", 200)
	ref := func(i int) string { return fmt.Sprintf("%040d refs/heads/intent/%s%d\n", i, name, i) }
	v2 := "000eversion 2\n000cls-refs\n0000"
	for reason, tc := range map[string]struct {
		handler http.HandlerFunc
		names   []string
	}{
		"an old server": {func(w http.ResponseWriter, _ *http.Request) {
			endless(w, advertised, fmt.Sprintf("%04x%040d HEAD\x00agent=git\n", 59, 1), ref)
		}, nil},
		"a list of which nothing counts": {func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet {
				w.Header().Set("Content-Type", advertised)
				_, _ = io.WriteString(w, v2)
				return
			}
			endless(w, result, "", ref)
		}, []string{"refs/heads/main"}},
		"capabilities": {func(w http.ResponseWriter, _ *http.Request) {
			endless(w, advertised, "000eversion 2\n", func(i int) string { return fmt.Sprintf("%s%d\n", name, i) })
		}, nil},
	} {
		t.Run(reason, func(t *testing.T) {
			web := httptest.NewServer(tc.handler)
			defer web.Close()
			r, err := NewRemote(web.URL+"/repo.git", Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if refs, err := r.ListRefs(t.Context(), tc.names...); !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrProtocol) {
				t.Errorf("%d refs, %v", len(refs), err)
			}
		})
	}
}

// A URL without .git works behind a server that knows the repository with it, as
// it does with Git. Only the first request of a service follows, and only on the
// same server: nobody else sees the credentials.
func TestARepositoryThatMovedOnItsServer(t *testing.T) {
	srv := newServer(t)
	srv.clone().push("a", "1")
	var asked, posts []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		asked = append(asked, req.URL.String()+" "+req.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		path := strings.TrimPrefix(req.URL.Path, "/repo/")
		if path == req.URL.Path {
			return false
		}
		if req.Method == http.MethodPost {
			posts = append(posts, path)
		}
		if user, _, _ := req.BasicAuth(); user != "hub" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		http.Redirect(w, req, "/repo.git/"+path+"?"+req.URL.RawQuery, http.StatusMovedPermanently)
		return true
	})
	r, err := NewRemote(strings.TrimSuffix(srv.url, ".git"), Options{Auth: Auth{Username: "hub", Password: "s3cr3t"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := NewStore()
	refs, err := r.ListRefs(t.Context(), main)
	if err != nil {
		t.Fatal(err)
	}
	tip := refs[main]
	mustFetch(t, r, s, Want{Tip: tip})
	next := commitOn(t, s, tip, map[string]string{"b": "2"})
	mustPush(t, r, s, main, tip, next)
	if got := srv.head("main"); got != next {
		t.Errorf("main is at %s", got)
	}
	if len(posts) != 0 {
		t.Errorf("asked at the old place: %q", posts)
	}
	for name, to := range map[string]string{
		"another host": elsewhere.URL + "/repo.git/info/refs?service=git-upload-pack",
		"no end":       "/again/info/refs?service=git-upload-pack",
		"another page": "/login",
	} {
		srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
			http.Redirect(w, req, to, http.StatusFound)
			return true
		})
		lost, err := NewRemote(srv.url, Options{Auth: Auth{Username: "hub", Password: "s3cr3t"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lost.ListRefs(t.Context()); !errors.Is(err, ErrNotFound) || strings.Contains(fmt.Sprint(err), "s3cr3t") {
			t.Errorf("%s: %v", name, err)
		}
		lost.Close()
	}
	if len(asked) != 0 {
		t.Errorf("asked elsewhere: %q", asked)
	}
}
