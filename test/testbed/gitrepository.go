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
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Repository is a bare repository of the Git server, or of a [Gitea].
type Repository struct {
	Name string
	Dir  string // on disk

	home    *home
	server  *GitServer // nil on Gitea, which has rules and webhooks of its own
	gitea   *Gitea     // nil elsewhere
	mu      sync.Mutex
	writers map[string][]string // user → patterns of refs
	away    int                 // the HTTP status of every answer; 0: none but git's
	hooks   []Webhook
	watches []func(PushEvent)
}

// Webhook is told of every push that moved a ref it is interested in. The
// request is a POST of JSON, [PushEvent], with the signature header of Flux's
// generic-hmac receivers: X-Signature: sha256=<hex HMAC of the body>.
type Webhook struct {
	URL    string
	Secret string
	Refs   []string // patterns as in Allow; every ref when empty
}

// PushEvent is the body of a webhook.
type PushEvent struct {
	Repository string      `json:"repository"`
	User       string      `json:"user"`
	Refs       []RefUpdate `json:"refs"`
	// At is when, so that no two bodies are the same: receivers ignore what they
	// heard before.
	At time.Time `json:"at"`
}

// URL is the repository's address without credentials.
func (r *Repository) URL() string {
	if r.gitea != nil {
		return r.gitea.URL + "/" + r.FullName() + ".git"
	}
	return "http://" + r.server.address + "/" + r.Name + ".git"
}

// URLFor is the repository's address with a user's credentials in it.
func (r *Repository) URLFor(user string) string {
	address, _ := url.Parse(r.URL())
	if r.gitea != nil {
		u := r.gitea.User(user)
		address.User = url.UserPassword(u.Name, u.Token)
		return address.String()
	}
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	address.User = url.UserPassword(user, r.server.users[user])
	return address.String()
}

// Allow lets a user write refs: full names, such as refs/heads/intent/acme, or
// beginnings that end in "*"; "-" before it allows removal alone. A push with
// any other ref is refused whole.
func (r *Repository) Allow(user string, refs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writers[user] = append(r.writers[user], refs...)
}

// Deny takes all that Allow gave a user.
func (r *Repository) Deny(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.writers, user)
}

// FailWith answers every request for this repository over HTTP with a status;
// 0 ends that. The server's other repositories go on.
func (r *Repository) FailWith(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = status
}

func (r *Repository) fails() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

// AddWebhook tells a URL of pushes from now on.
func (r *Repository) AddWebhook(hook Webhook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks = append(r.hooks, hook)
}

// RemoveWebhooks ends the telling, for all or for the given URLs.
func (r *Repository) RemoveWebhooks(urls ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks = slices.DeleteFunc(r.hooks, func(h Webhook) bool { return len(urls) == 0 || slices.Contains(urls, h.URL) })
}

// OnPush calls a function of this process after every push that moved a ref,
// before any webhook.
func (r *Repository) OnPush(watch func(PushEvent)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watches = append(r.watches, watch)
}

func matches(patterns []string, ref string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return ref == pattern || (open && strings.HasPrefix(ref, prefix))
	})
}

// refused are the refs that a user may not write.
func (r *Repository) refused(user string, updates []RefUpdate) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var refs []string
	for _, update := range updates {
		if !matches(r.writers[user], update.Name) && (update.New != zeroHash || !matches(r.writers[user], "-"+update.Name)) {
			refs = append(refs, update.Name)
		}
	}
	return refs
}

// notify calls the webhooks for those updates that took place.
func (r *Repository) notify(user string, updates []RefUpdate) {
	var moved []RefUpdate
	for _, update := range updates {
		if update.Old != update.New && r.at(update.Name) == update.New {
			moved = append(moved, update)
		}
	}
	r.mu.Lock()
	hooks, watches := slices.Clone(r.hooks), slices.Clone(r.watches)
	r.mu.Unlock()
	for _, watch := range watches {
		if len(moved) > 0 {
			watch(PushEvent{Repository: r.Name, User: user, Refs: moved})
		}
	}
	for _, hook := range hooks {
		event := PushEvent{Repository: r.Name, User: user, At: time.Now()}
		for _, update := range moved {
			if len(hook.Refs) == 0 || matches(hook.Refs, update.Name) {
				event.Refs = append(event.Refs, update)
			}
		}
		if len(event.Refs) > 0 {
			go r.call(hook, event)
		}
	}
}

// at is the hash of a ref, zeros when there is none. The bed never packs refs.
func (r *Repository) at(ref string) string {
	text, err := os.ReadFile(filepath.Join(r.Dir, filepath.FromSlash(ref)))
	if err != nil {
		return zeroHash
	}
	return strings.TrimSpace(string(text))
}

func (r *Repository) call(hook Webhook, event PushEvent) {
	body, err := json.Marshal(event)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.server.alive, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return
	}
	mac := hmac.New(sha256.New, []byte(hook.Secret))
	_, _ = mac.Write(body)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	response, err := http.DefaultClient.Do(request)
	outcome := fmt.Sprint(err)
	if err == nil {
		outcome = response.Status
		_ = response.Body.Close()
	}
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	_, _ = fmt.Fprintf(r.server.log, "%s webhook %s: %s\n", time.Now().Format(time.RFC3339Nano), hook.URL, outcome)
}

// Git runs a git command in the bare repository and returns what it prints.
func (r *Repository) Git(ctx context.Context, args ...string) (string, error) {
	return r.home.git(ctx, r.Dir, args...)
}

// Clone is a person's working copy of a repository.
type Clone struct {
	Dir  string
	home *home
}

// Clone makes a working copy in a new folder of the bed, as a user.
func (r *Repository) Clone(ctx context.Context, user string) (*Clone, error) {
	folder := filepath.Join(r.home.dir, "clones")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(folder, r.Name+"-"+user+"-")
	if err != nil {
		return nil, err
	}
	c := &Clone{Dir: dir, home: r.home}
	for _, args := range [][]string{
		{"clone", "--quiet", r.URLFor(user), "."},
		{"config", "user.name", user},
		{"config", "user.email", user + "@example.com"},
		{"config", "commit.gpgSign", "false"},
	} {
		if _, err := c.Git(ctx, args...); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Git runs a git command in the working copy and returns what it prints.
func (c *Clone) Git(ctx context.Context, args ...string) (string, error) {
	return c.home.git(ctx, c.Dir, args...)
}

// Write writes a file of the working copy, with its folders.
func (c *Clone) Write(path, text string) error {
	file := filepath.Join(c.Dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o600)
}

// Commit commits everything in the working copy and returns the commit's hash.
func (c *Clone) Commit(ctx context.Context, message string) (string, error) {
	if _, err := c.Git(ctx, "add", "--all"); err != nil {
		return "", err
	}
	if _, err := c.Git(ctx, "commit", "--quiet", "--message", message); err != nil {
		return "", err
	}
	return c.Git(ctx, "rev-parse", "HEAD")
}
