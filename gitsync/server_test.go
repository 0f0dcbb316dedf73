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

package gitsync

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// server is a real Git server over HTTP with one bare repository. Native Git
// works on it as people do.
type server struct {
	t    *testing.T
	url  string
	bare string

	backend http.Handler

	mu   sync.Mutex
	wrap func(http.ResponseWriter, *http.Request) bool // true: answered
}

func newServer(t *testing.T) *server {
	t.Helper()
	root := t.TempDir()
	s := &server{t: t, bare: filepath.Join(root, "repo.git")}
	s.native("", "init", "-q", "--bare", "-b", "main", s.bare)
	for _, option := range [][2]string{{"http.receivepack", "true"}, {"gc.auto", "0"}, {"receive.autogc", "false"}} {
		s.native(s.bare, "config", option[0], option[1])
	}
	s.backend = &cgi.Handler{
		Path: "/bin/sh", Args: []string{"-c", "exec git http-backend"},
		Env:        []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root, "GIT_CONFIG_NOSYSTEM=1", "REMOTE_USER=test"},
		InheritEnv: []string{"PATH"},
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		wrap := s.wrap
		s.mu.Unlock()
		if wrap == nil || !wrap(w, r) {
			s.backend.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(web.Close)
	s.url = web.URL + "/repo.git"
	return s
}

// intercept answers requests in the server's place; nil ends it.
func (s *server) intercept(wrap func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrap = wrap
}

// away makes the server fail every request, or serve again.
func (s *server) away(away bool) {
	if !away {
		s.intercept(nil)
		return
	}
	s.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return true
	})
}

// native runs native Git and returns what it prints.
func (s *server) native(dir string, args ...string) string {
	s.t.Helper()
	out, err := s.try(dir, args...)
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *server) try(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+filepath.Join(filepath.Dir(s.bare), "none"),
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// hook installs a server-side hook.
func (s *server) hook(name, script string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.bare, "hooks", name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// head returns the commit of a branch, "" if there is none.
func (s *server) head(branch string) string {
	s.t.Helper()
	out, err := s.try(s.bare, "rev-parse", "--verify", "-q", "refs/heads/"+branch)
	if err != nil {
		return ""
	}
	return out
}

// show returns a file of a branch, "" if there is none.
func (s *server) show(branch, path string) string {
	s.t.Helper()
	out, err := s.try(s.bare, "show", branch+":"+path)
	if err != nil {
		return ""
	}
	return out + "\n"
}

// count returns the number of commits of a branch.
func (s *server) count(branch string) string {
	s.t.Helper()
	return s.native(s.bare, "rev-list", "--count", branch)
}

// all lists the refs with their commits.
func (s *server) all() string {
	s.t.Helper()
	return s.native(s.bare, "for-each-ref", "--format=%(refname) %(objectname)")
}

// clone is somebody's work tree of main.
type clone struct {
	server *server
	dir    string
}

func (s *server) clone() *clone {
	s.t.Helper()
	for range 5 {
		dir := s.t.TempDir()
		if out, err := s.try("", "clone", "-q", "--no-local", s.bare, dir); err == nil {
			return &clone{server: s, dir: dir}
		} else if !strings.Contains(out, "fatal") {
			s.t.Fatal(out)
		}
		s.t.Log("a branch went away during a clone")
	}
	s.t.Fatal("no clone succeeds")
	return nil
}

func (c *clone) git(args ...string) string {
	c.server.t.Helper()
	return c.server.native(c.dir, args...)
}

func (c *clone) write(path, content string) {
	c.server.t.Helper()
	full := filepath.Join(c.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		c.server.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		c.server.t.Fatal(err)
	}
}

func (c *clone) read(path string) string {
	c.server.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, path))
	if err != nil {
		c.server.t.Fatal(err)
	}
	return string(data)
}

// push commits everything and pushes it to main, over whatever came in between.
func (c *clone) push(message string) string {
	c.server.t.Helper()
	c.git("add", "-A")
	c.git("commit", "-q", "-m", message)
	c.publish()
	return c.git("rev-parse", "HEAD")
}

func (c *clone) publish() {
	c.server.t.Helper()
	for range 20 {
		if _, err := c.server.try(c.dir, "push", "-q", "origin", "HEAD:main"); err == nil {
			return
		}
		c.git("pull", "-q", "--rebase", "origin", "main")
	}
	c.server.t.Fatal("push of main lost every race")
}

func (c *clone) pull() {
	c.server.t.Helper()
	c.git("pull", "-q", "--rebase", "origin", "main")
}
