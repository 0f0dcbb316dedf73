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
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// apiTimeout bounds one request to the API.
const apiTimeout = 30 * time.Second

// giteaOwner is [Admin] on the forge, where that name is reserved. It owns the
// repositories.
const giteaOwner = "operator"

// Gitea is a real forge, served on 127.0.0.1 by a process of its own. It
// reaches nothing outside of loopback.
type Gitea struct {
	// URL is what [forge.Options] and browsers want; it stays the same across
	// Stop and Start.
	URL string

	home    *home
	own     bool // the home is the forge's own, and ends with it
	program string
	config  string
	port    int
	hooks   *http.Server // hears of pushes, for OnPush

	mu           sync.Mutex
	process      *Process
	users        map[string]GiteaUser
	repositories []*Repository
}

// GiteaUser is an account on the forge.
type GiteaUser struct {
	Name, Password string
	// Token may do what the user may, by Git (as the password) and by API.
	Token string
}

// NewGitea starts a forge without a bed around it. The context bounds the start
// only; Close ends it.
func NewGitea(ctx context.Context, name string) (*Gitea, error) {
	h, err := newHome(name)
	if err != nil {
		return nil, err
	}
	g, err := startGitea(ctx, h)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	g.own = true
	return g, nil
}

// Close ends a forge that [NewGitea] started.
func (g *Gitea) Close() error {
	g.close()
	if !g.own {
		return nil
	}
	return g.home.close()
}

func (g *Gitea) close() {
	g.Stop()
	if g.hooks != nil {
		_ = g.hooks.Close()
	}
}

func startGitea(ctx context.Context, h *home) (*Gitea, error) {
	program, err := Tool("gitea")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	g := &Gitea{
		URL: fmt.Sprintf("http://127.0.0.1:%d", port), home: h, program: program, port: port,
		config: filepath.Join(h.dir, "gitea", "app.ini"), users: map[string]GiteaUser{},
	}
	if err := g.configure(); err != nil {
		return nil, err
	}
	if err := g.listen(); err != nil {
		return nil, err
	}
	if err := g.begin(ctx); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// begin makes the database and its first user, and starts serving.
func (g *Gitea) begin(ctx context.Context) error {
	if _, err := g.run(ctx, "migrate"); err != nil {
		return err
	}
	admin := GiteaUser{Name: giteaOwner, Password: rand.Text()}
	out, err := g.run(ctx, "admin", "user", "create", "--admin", "--username", admin.Name, "--password", admin.Password,
		"--email", admin.Name+"@example.com", "--must-change-password=false", "--access-token", "--access-token-scopes", "all")
	if err != nil {
		return err
	}
	// "Access token was successfully created... <token>"
	lines := strings.Fields(out)
	if admin.Token = lines[len(lines)-1]; len(admin.Token) != 40 {
		return fmt.Errorf("gitea admin user create printed no token: %s", out)
	}
	g.users[Admin] = admin
	return g.Start(ctx)
}

// configure writes app.ini: nothing that is sent out, nothing that happens
// unasked, nothing that a forge has besides repositories and pull requests.
func (g *Gitea) configure() error {
	account, err := user.Current()
	if err != nil {
		return err
	}
	dir := filepath.Dir(g.config)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	static := ""
	if files := filepath.Join(filepath.Dir(filepath.Dir(g.program)), "share", "gitea"); isFolder(files) {
		static = "STATIC_ROOT_PATH = " + files // a release has them in it
	}
	text := fmt.Sprintf(giteaConfig, account.Username, dir, os.Getuid() == 0, g.port, g.URL, static, rand.Text()+rand.Text(), rand.Text(), rand.Text()+rand.Text()[:17])
	return os.WriteFile(g.config, []byte(text), 0o600)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

const giteaConfig = `APP_NAME = test bed
RUN_USER = %s
RUN_MODE = prod
WORK_PATH = %s
; The bed runs as whoever runs the tests; nothing but loopback reaches it.
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = %t
[server]
PROTOCOL = http
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %d
ROOT_URL = %s/
%s
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
SQLITE_JOURNAL_MODE = WAL
SQLITE_TIMEOUT = 10000
[security]
INSTALL_LOCK = true
INTERNAL_TOKEN = %s
SECRET_KEY = %s
[oauth2]
ENABLED = false
JWT_SECRET = %s
[service]
DISABLE_REGISTRATION = true
[webhook]
ALLOWED_HOST_LIST = loopback
DELIVER_TIMEOUT = 5
[migrations]
ALLOWED_DOMAINS = 127.0.0.1
[mirror]
ENABLED = false
[actions]
ENABLED = false
[packages]
ENABLED = false
[mailer]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[session]
PROVIDER = memory
[cache]
ADAPTER = memory
[queue]
TYPE = channel
[cron]
ENABLED = false
[cron.update_checker]
ENABLED = false
[log]
MODE = console
LEVEL = Info
[repository]
DEFAULT_BRANCH = main
[repository.signing]
SIGNING_KEY = none
[git.config]
core.logAllRefUpdates = false
gc.auto = 0
maintenance.auto = false
receive.autogc = false
transfer.fsckObjects = true
`

// run runs one of Gitea's own commands and returns what it prints.
func (g *Gitea) run(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, g.program, append([]string{"--config", g.config}, args...)...)
	command.Dir, command.Env = g.home.dir, g.environment()
	out, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		return "", fmt.Errorf("gitea %s: %w: %s%s", args[0], err, out, exitText(exit))
	}
	return string(out), nil
}

func exitText(exit *exec.ExitError) string {
	if exit == nil {
		return ""
	}
	return string(exit.Stderr)
}

// environment keeps Gitea and its gits away from the user's configuration. They
// write to the file that GIT_CONFIG_GLOBAL names, so it is one of their own.
func (g *Gitea) environment() []string {
	return append(g.home.gitEnvironment("gitea"), "GIT_CONFIG_GLOBAL="+filepath.Join(filepath.Dir(g.config), "gitconfig"))
}

// Start serves again after Stop, on the same address.
func (g *Gitea) Start(ctx context.Context) error {
	process, err := g.serve()
	if err != nil {
		return err
	}
	return Eventually(ctx, "Gitea to serve", func() error {
		if err := process.Err(); err != nil {
			return Final(err)
		}
		return g.api(ctx, Admin, http.MethodGet, "/version", nil, nil)
	})
}

// serve starts the process, unless it runs.
func (g *Gitea) serve() (*Process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.process != nil {
		return g.process, nil
	}
	process, err := g.home.start(Command{Name: "gitea", Path: g.program, Args: []string{"--config", g.config, "web"}, Env: g.environment()})
	if err == nil {
		g.process = process
	}
	return process, err
}

// Stop ends Gitea at once: connections are refused until Start.
func (g *Gitea) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.process != nil {
		g.process.Kill()
	}
	g.process = nil
}

// User returns an account of the forge; [Admin] is one that may do everything.
func (g *Gitea) User(name string) GiteaUser {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.users[name]
}

// AddUser makes an account. Its token has the given scopes; write:repository,
// which is all that hub, CCMs and reviewers need, when there are none.
func (g *Gitea) AddUser(ctx context.Context, name string, scopes ...string) (GiteaUser, error) {
	if len(scopes) == 0 {
		scopes = []string{"write:repository"}
	}
	u := GiteaUser{Name: name, Password: rand.Text()}
	err := g.api(ctx, Admin, http.MethodPost, "/admin/users", map[string]any{
		"username": name, "password": u.Password, "email": name + "@example.com", "must_change_password": false,
	}, nil)
	if err != nil {
		return u, err
	}
	g.mu.Lock()
	g.users[name] = u
	g.mu.Unlock()
	u.Token, err = g.NewToken(ctx, name, scopes...)
	if err != nil {
		return u, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users[name] = u
	return u, nil
}

// NewToken makes one more token of an account.
func (g *Gitea) NewToken(ctx context.Context, name string, scopes ...string) (string, error) {
	var made struct {
		Token string `json:"sha1"`
	}
	u := g.User(name)
	u.Token = "" // tokens are made with the password only
	path := "/users/" + url.PathEscape(u.Name) + "/tokens"
	err := g.call(ctx, u, http.MethodPost, path, map[string]any{"name": "t-" + rand.Text()[:8], "scopes": scopes}, &made)
	return made.Token, err
}

// Create makes a repository without branches that every account may read.
func (g *Gitea) Create(ctx context.Context, name string) (*Repository, error) {
	err := g.api(ctx, Admin, http.MethodPost, "/user/repos", map[string]any{"name": name, "default_branch": "main", "auto_init": false}, nil)
	if err != nil {
		return nil, err
	}
	r := &Repository{
		Name: name, Dir: filepath.Join(filepath.Dir(g.config), "data", "gitea-repositories", giteaOwner, name+".git"),
		home: g.home, gitea: g,
	}
	g.mu.Lock()
	g.repositories = append(g.repositories, r)
	g.mu.Unlock()
	return r, g.report(ctx, r)
}

// Protect makes a branch rule: only the given accounts (and [Admin]) may push
// to the branches that the pattern names, such as main or status/**.
func (g *Gitea) Protect(ctx context.Context, r *Repository, rule BranchRule) error {
	var names []string
	for _, name := range append([]string{Admin}, rule.Push...) {
		names = append(names, g.User(name).Name)
	}
	slices.Sort(names)
	return g.api(ctx, Admin, http.MethodPost, r.api()+"/branch_protections", map[string]any{
		"rule_name": rule.Branches, "enable_push": true, "enable_push_whitelist": true, "push_whitelist_usernames": names,
		"enable_force_push": rule.Force, "enable_force_push_allowlist": rule.Force, "force_push_allowlist_usernames": names,
		"required_approvals": rule.Approvals, "priority": rule.Priority,
	}, nil)
}

// BranchRule is a branch protection.
type BranchRule struct {
	Branches string   // a name or a pattern
	Push     []string // accounts
	Force    bool     // they may also push by force
	// Approvals that a pull request needs before it can be merged.
	Approvals int
	// Priority among rules that fit a branch: the lowest counts, 0 comes last.
	Priority int
}

// Collaborate lets an account write to a repository, as far as its branch rules
// allow.
func (g *Gitea) Collaborate(ctx context.Context, r *Repository, name string) error {
	path := r.api() + "/collaborators/" + url.PathEscape(g.User(name).Name)
	return g.api(ctx, Admin, http.MethodPut, path, map[string]any{"permission": "write"}, nil)
}

// AddWebhook tells a URL of pushes to the given refs (patterns as in
// [Repository.Allow]; all when there are none) and of pull requests, in Gitea's
// own format.
func (g *Gitea) AddWebhook(ctx context.Context, r *Repository, hook Webhook) error {
	patterns := make([]string, len(hook.Refs))
	for i, ref := range hook.Refs {
		patterns[i] = strings.ReplaceAll(strings.TrimPrefix(ref, "refs/heads/"), "*", "**")
	}
	filter := "*"
	if len(patterns) > 0 {
		filter = "{" + strings.Join(patterns, ",") + "}"
	}
	return g.api(ctx, Admin, http.MethodPost, r.api()+"/hooks", map[string]any{
		"type": "gitea", "active": true, "branch_filter": filter, "events": []string{"push", "pull_request"},
		"config": map[string]string{"url": hook.URL, "secret": hook.Secret, "content_type": "json"},
	}, nil)
}

// Tail is the end of Gitea's log, to be added to an error.
func (g *Gitea) Tail() string { return tail(g.home.logFile("gitea")) }
