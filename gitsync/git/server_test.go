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
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is a real Git server over HTTP with one bare repository, and a native
// clone to work in beside our own client.
type server struct {
	t    testing.TB
	url  string
	bare string

	mu       sync.Mutex
	requests []string                                      // "POST /repo.git/git-upload-pack"
	wrap     func(http.ResponseWriter, *http.Request) bool // true: answered
	old      bool                                          // speak protocol version 0
}

func newServer(t testing.TB) *server {
	t.Helper()
	root := t.TempDir()
	s := &server{t: t, bare: filepath.Join(root, "repo.git")}
	s.git("", "init", "-q", "--bare", "-b", "main", s.bare)
	s.git(s.bare, "config", "http.receivepack", "true")
	s.git(s.bare, "config", "gc.auto", "0")
	s.git(s.bare, "config", "receive.autogc", "false")
	backend := &cgi.Handler{
		Path: "/bin/sh",
		Args: []string{"-c", "exec git http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root,
			"GIT_CONFIG_NOSYSTEM=1", "REMOTE_USER="},
		InheritEnv: []string{"PATH"},
		Stderr:     t.Output(),
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/repo.git/"))
		wrap, old := s.wrap, s.old
		s.mu.Unlock()
		if old {
			r.Header.Del("Git-Protocol")
		}
		if wrap == nil || !wrap(w, r) {
			backend.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(web.Close)
	s.url = web.URL + "/repo.git"
	return s
}

// git runs native Git and returns what it prints.
func (s *server) git(dir string, args ...string) string {
	s.t.Helper()
	out, err := s.tryGit(dir, args...)
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *server) tryGit(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+filepath.Join(filepath.Dir(s.bare), "none"),
		"GIT_AUTHOR_NAME=Native", "GIT_AUTHOR_EMAIL=native@example.com",
		"GIT_COMMITTER_NAME=Native", "GIT_COMMITTER_EMAIL=native@example.com")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// intercept answers requests in the server's place, until it is called again.
func (s *server) intercept(wrap func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrap = wrap
}

// asked returns the requests since the last call.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

func (s *server) remote(o Options) *Remote {
	s.t.Helper()
	r, err := NewRemote(s.url, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(r.Close)
	return r
}

// clone returns a native work tree of the repository.
func (s *server) clone() *worktree {
	s.t.Helper()
	dir := s.t.TempDir()
	s.git("", "clone", "-q", s.bare, dir)
	return &worktree{server: s, dir: dir}
}

func (s *server) head(ref string) Hash {
	s.t.Helper()
	return mustHash(s.t, s.git(s.bare, "rev-parse", ref))
}

// fsck checks the repository the way a careful server does.
func (s *server) fsck() {
	s.t.Helper()
	if out := s.git(s.bare, "fsck", "--strict", "--no-dangling"); out != "" {
		s.t.Errorf("git fsck: %s", out)
	}
}

// hook installs a server-side hook.
func (s *server) hook(name, script string) {
	s.t.Helper()
	path := filepath.Join(s.bare, "hooks", name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

type worktree struct {
	server *server
	dir    string
}

func (w *worktree) write(path, content string) {
	w.server.t.Helper()
	full := filepath.Join(w.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		w.server.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		w.server.t.Fatal(err)
	}
}

func (w *worktree) git(args ...string) string {
	w.server.t.Helper()
	return w.server.git(w.dir, args...)
}

// commit commits everything in the work tree.
func (w *worktree) commit(message string) Hash {
	w.server.t.Helper()
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", message)
	return mustHash(w.server.t, w.git("rev-parse", "HEAD"))
}

// push commits one file and pushes it to main.
func (w *worktree) push(path, content string) Hash {
	w.server.t.Helper()
	w.write(path, content)
	h := w.commit("write " + path)
	w.git("push", "-q", "origin", "HEAD:main")
	return h
}

func mustHash(t testing.TB, s string) Hash {
	t.Helper()
	h, err := ParseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// at is a fixed time, n seconds into it.
func at(n int) time.Time { return time.Unix(1_700_000_000+int64(n), 0).UTC() }

func spec(tree Hash, message string, parents ...Hash) CommitSpec {
	return CommitSpec{
		Tree: tree, Parents: parents, Message: message,
		Author: Ident{Name: "CCM", Email: "ccm@example.com", When: at(0)},
	}
}

// commitOn makes a commit with edits on top of parent (zero: the first one).
func commitOn(t testing.TB, s *Store, parent Hash, edits map[string]string) Hash {
	t.Helper()
	var root Hash
	var parents []Hash
	if !parent.IsZero() {
		c, err := s.Commit(parent)
		if err != nil {
			t.Fatal(err)
		}
		root, parents = c.Tree, []Hash{parent}
	}
	raw := map[string][]byte{}
	for path, content := range edits {
		raw[path] = []byte(content)
	}
	tree, err := s.Edit(root, raw)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.NewCommit(spec(tree, fmt.Sprintf("change %d files", len(edits)), parents...))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// content reads a file of a commit; "-" if it is not there.
func content(t *testing.T, s *Store, commit Hash, path string) string {
	t.Helper()
	c, err := s.Commit(commit)
	if err != nil {
		t.Fatal(err)
	}
	f, ok, err := s.File(c.Tree, path)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return "-"
	}
	return string(f.Data)
}

func mustFetch(t testing.TB, r *Remote, s *Store, wants ...Want) {
	t.Helper()
	if err := r.Fetch(t.Context(), s, wants...); err != nil {
		t.Fatal(err)
	}
}

func mustPush(t testing.TB, r *Remote, s *Store, name string, old, tip Hash) {
	t.Helper()
	if _, err := r.Push(t.Context(), s, []RefUpdate{{Name: name, Old: old, New: tip}}, false); err != nil {
		t.Fatal(err)
	}
}
