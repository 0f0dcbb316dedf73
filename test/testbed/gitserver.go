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
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/kubelb/gitops/test/sshd"
)

// Admin is the Git user that may write every ref of every repository.
const Admin = "admin"

// GitServer serves Git over HTTP on 127.0.0.1 through git http-backend, and over
// SSH. Every
// request needs a user's name and password; every user reads everything and
// writes what [Repository.Allow] says.
type GitServer struct {
	home    *home
	root    string // of the repositories
	backend string // path of git-http-backend
	address string // stays the same across Stop and Start
	log     *os.File
	alive   context.Context    // ends with the bed, and with it what webhooks still wait for
	end     context.CancelFunc // ends alive

	// workers are the requests that git works on, at most so many as the machine
	// can do at a time, as servers of many repositories have it. The others wait.
	workers chan struct{}

	mu           sync.Mutex
	server       *http.Server // nil while stopped
	users        map[string]string
	repositories map[string]*Repository
	requests     map[string]int
	faults       faults

	ssh        *sshd.Server
	sshAddress string
	keys       map[string]string // user → public key
}

func newGitServer(ctx context.Context, h *home) (*GitServer, error) {
	folder, err := exec.CommandContext(ctx, "git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("the test bed needs git: install it with your system's package manager: %w", err)
	}
	g := &GitServer{
		home: h, root: filepath.Join(h.dir, "git"), backend: filepath.Join(strings.TrimSpace(string(folder)), "git-http-backend"),
		users: map[string]string{}, repositories: map[string]*Repository{}, requests: map[string]int{}, keys: map[string]string{},
		workers: make(chan struct{}, runtime.NumCPU()),
	}
	if _, err := os.Stat(g.backend); err != nil {
		return nil, fmt.Errorf("the test bed needs git with git-http-backend: install the full package of git: %w", err)
	}
	if err := os.MkdirAll(g.root, 0o700); err != nil {
		return nil, err
	}
	if g.log, err = os.OpenFile(h.logFile("git"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	g.alive, g.end = context.WithCancel(context.Background())
	g.AddUser(Admin, "")
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	g.address = fmt.Sprintf("127.0.0.1:%d", port)
	if err := g.Start(); err != nil {
		return nil, err
	}
	if err := g.startSSH(); err != nil {
		return nil, err
	}
	return g, nil
}

// Start serves again after Stop, on the same address.
func (g *GitServer) Start() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", g.address)
	if err != nil {
		return fmt.Errorf("Git server: %w", err)
	}
	g.server = &http.Server{Handler: http.HandlerFunc(g.serve), ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(listener) }(g.server)
	if g.ssh != nil {
		return g.ssh.Start(g.sshAddress)
	}
	return nil
}

// Stop refuses connections and breaks those that are open. Start ends that.
func (g *GitServer) Stop() {
	g.mu.Lock()
	server := g.server
	g.server = nil
	g.mu.Unlock()
	if server != nil {
		_ = server.Close()
		g.ssh.Stop()
	}
}

// close stops the server for good.
func (g *GitServer) close() {
	g.Stop()
	g.end()
}

// AddUser makes a user, or changes the password of one; an empty password
// stands for a random one. It returns the password.
func (g *GitServer) AddUser(name, password string) string {
	if password == "" {
		password = rand.Text()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users[name] = password
	return password
}

// Password is the password of a user.
func (g *GitServer) Password(name string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.users[name]
}

// Create makes a repository without branches; its HEAD is main.
func (g *GitServer) Create(ctx context.Context, name string) (*Repository, error) {
	r := &Repository{Name: name, Dir: filepath.Join(g.root, name+".git"), home: g.home, server: g, writers: map[string][]string{Admin: {"*"}}}
	if _, err := g.home.git(ctx, g.root, "init", "--quiet", "--bare", "--initial-branch=main", r.Dir); err != nil {
		return nil, err
	}
	// Objects are checked, anything may be fetched, and nothing happens unasked.
	config := "[core]\n\tlogAllRefUpdates = false\n\tfsync = none\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[transfer]\n\tfsckObjects = true\n" +
		"[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n" +
		"[receive]\n\tadvertisePushOptions = true\n\tadvertiseAtomic = true\n\tautogc = false\n[http]\n\treceivepack = true\n"
	file, err := os.OpenFile(filepath.Join(r.Dir, "config"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = file.WriteString(config)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.repositories[name] = r
	return r, nil
}

// Requests counts the requests since the start: "advertise-fetch" and
// "advertise-push" (info/refs), "ls-refs", "fetch", "push", "denied"; over SSH
// "ssh-fetch" (also for refs), "ssh-push", "ssh-denied".
func (g *GitServer) Requests() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.requests)
}

// serve is the life of one request: faults, credentials, rules, git, webhooks.
func (g *GitServer) serve(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	status := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	user, password, _ := r.BasicAuth()
	kind := "denied"
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.requests[kind]++
		_, _ = fmt.Fprintf(g.log, "%s %6.1fms %d %s %s %s\n", begin.Format(time.RFC3339Nano),
			float64(time.Since(begin).Microseconds())/1000, status.status, kind, user, r.URL.RequestURI())
	}()
	fault := g.takeFault(r.Context())
	if fault.status != 0 {
		http.Error(status, "the Git server fails as it was told to", fault.status)
		return
	}
	if fault.refuse || !g.knows(user, password) {
		status.Header().Set("WWW-Authenticate", `Basic realm="test bed"`)
		http.Error(status, "user or password is wrong", http.StatusUnauthorized)
		return
	}
	name, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	repository := g.Repository(name)
	if repository == nil {
		http.Error(status, "there is no repository "+name, http.StatusNotFound)
		return
	}
	if code := repository.fails(); code != 0 {
		http.Error(status, "the repository "+name+" fails as it was told to", code)
		return
	}
	body, err := readBody(r)
	if err != nil {
		http.Error(status, err.Error(), http.StatusBadRequest)
		return
	}
	kind = kindOf(action, r, body)
	if kind == "fetch" && g.takeFetchCut() {
		answer := httptest.NewRecorder()
		g.run(answer, r, user, body)
		halfAnswer(status, answer)
		return
	}
	if kind != "push" {
		g.run(status, r, user, body)
		return
	}
	kind = g.push(status, r, repository, user, body)
}

func (g *GitServer) knows(user, password string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	want, ok := g.users[user]
	return ok && subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1
}

// Repository returns a repository by name; nil when there is none.
func (g *GitServer) Repository(name string) *Repository {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.repositories[name]
}

// readBody reads a request whole, since CGI wants to know its length.
func readBody(r *http.Request) ([]byte, error) {
	var reader io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		reader = unzipped
		r.Header.Del("Content-Encoding")
	}
	return io.ReadAll(reader)
}

func kindOf(action string, r *http.Request, body []byte) string {
	switch {
	case action == "info/refs" && r.URL.Query().Get("service") == "git-receive-pack":
		return "advertise-push"
	case action == "info/refs":
		return "advertise-fetch"
	case action == "git-receive-pack":
		return "push"
	case bytes.Contains(body[:min(len(body), 64)], []byte("command=ls-refs")):
		return "ls-refs"
	default:
		return "fetch"
	}
}

// run hands a request to git http-backend.
func (g *GitServer) run(w http.ResponseWriter, r *http.Request, user string, body []byte) {
	select {
	case g.workers <- struct{}{}:
		defer func() { <-g.workers }()
	case <-r.Context().Done():
		return
	}
	r = r.Clone(r.Context())
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	path, args := g.backend, []string(nil)
	if g.diskFull() {
		path, args = "/bin/sh", []string{"-c", "trap '' XFSZ; ulimit -f 0; exec " + quote(g.backend)}
	}
	handler := cgi.Handler{
		Path: path, Args: args, Root: "/", Dir: g.root, Stderr: g.log, Logger: log.New(g.log, "", 0),
		Env: append(g.home.gitEnvironment("git"), "GIT_PROJECT_ROOT="+g.root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER="+user,
			"GIT_PROTOCOL="+r.Header.Get("Git-Protocol")),
	}
	handler.ServeHTTP(w, r)
}

// push checks the rules, lets git receive, and tells the webhooks.
func (g *GitServer) push(w http.ResponseWriter, r *http.Request, repository *Repository, user string, body []byte) string {
	request, err := parsePush(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return "denied"
	}
	if refused := repository.refused(user, request.updates); len(refused) > 0 {
		refuse(w, request, user, refused)
		return "denied"
	}
	answer := httptest.NewRecorder()
	g.run(answer, r, user, body)
	repository.notify(user, request.updates)
	if g.takeCut() {
		cutAnswer(w, answer)
		return "push"
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
	return "push"
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
