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
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/test/testbed"
)

// real is a repository on a real Gitea.
type real struct {
	*testing.T
	gitea *testbed.Gitea
	repo  *testbed.Repository
	user  testbed.GiteaUser
}

func TestGiteaBehavesAlike(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	g, err := testbed.NewGitea(ctx, "forge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(g.Tail())
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &real{T: t, gitea: g}
	r.repo, err = g.Create(ctx, "fleet")
	r.must(err)
	r.push(base, "")
	r.user, err = g.AddUser(ctx, "hub")
	r.must(err)
	r.must(g.Collaborate(ctx, r.repo, "hub"))
	r.must(g.ProtectFleet(ctx, r.repo, "hub"))
	behave(t, r)
	r.refuses()
}

func (r *real) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *real) options() forge.Options {
	return forge.Options{Kind: forge.Gitea, URL: r.gitea.URL, Repository: r.repo.FullName(), Token: r.user.Token}
}

// refuses looks at real refusals.
func (r *real) refuses() {
	wrong := r.options()
	wrong.Token = "0123456789012345678901234567890123456789"
	missing := r.options()
	missing.Repository = "operator/missing"
	reader := r.options()
	_, err := r.gitea.AddUser(r.Context(), "reader", "read:repository")
	r.must(err)
	reader.Token = r.gitea.User("reader").Token
	for call, err := range calls(r.Context(), open(r.T, wrong)) {
		r.wants(call+" with a wrong token", err, forge.ErrUnauthorized)
	}
	for call, err := range calls(r.Context(), open(r.T, missing)) {
		r.wants(call+" in no repository", err, forge.ErrNotFound)
	}
	_, err = open(r.T, reader).Update(r.Context(), 1, "x", "y")
	r.wants("Update by a reader", err, forge.ErrUnauthorized)
	_, err = open(r.T, r.options()).Create(r.Context(), forge.Proposal{Head: "nothing", Base: base, Title: "t"})
	if err == nil {
		r.Error("a branch that is not can be proposed")
	}
}

func (r *real) push(branch, from string) string {
	clone, err := r.repo.Clone(r.Context(), testbed.Admin)
	r.must(err)
	if from != "" {
		start := "origin/" + branch
		if _, err := clone.Git(r.Context(), "rev-parse", "--verify", "--quiet", start); err != nil {
			start = "origin/" + from
		}
		_, err = clone.Git(r.Context(), "checkout", "--quiet", "--detach", start)
		r.must(err)
	}
	r.must(clone.Write("news/"+rand.Text(), "x"))
	commit, err := clone.Commit(r.Context(), "News")
	r.must(err)
	_, err = clone.Git(r.Context(), "push", "--quiet", "origin", "HEAD:refs/heads/"+branch)
	r.must(err)
	return commit
}

func (r *real) pull(number int64) string { return "/pulls/" + strconv.FormatInt(number, 10) }

// merge merges as soon as Gitea has found out that it can.
func (r *real) merge(number int64) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	r.must(testbed.Eventually(ctx, "the merge", func() error {
		return r.repo.API(ctx, testbed.Admin, http.MethodPost, r.pull(number)+"/merge", map[string]string{"Do": "squash"}, nil)
	}))
}

func (r *real) reopen(number int64) {
	r.must(r.repo.API(r.Context(), testbed.Admin, http.MethodPatch, r.pull(number), map[string]string{"state": "open"}, nil))
}

func (r *real) remove(branch string) {
	clone, err := r.repo.Clone(r.Context(), testbed.Admin)
	r.must(err)
	_, err = clone.Git(r.Context(), "push", "--quiet", "origin", "--delete", branch)
	r.must(err)
}

func (r *real) fork(head, base string) {
	mallory, err := r.gitea.AddUser(r.Context(), "mallory", "write:repository")
	r.must(err)
	r.must(r.repo.API(r.Context(), mallory.Name, http.MethodPost, "/forks", map[string]string{}, nil))
	clone, err := r.repo.Clone(r.Context(), mallory.Name)
	r.must(err)
	r.must(clone.Write("evil", "x"))
	_, err = clone.Commit(r.Context(), "From a fork")
	r.must(err)
	address := fmt.Sprintf("http://%s:%s@%s/mallory/fleet.git", mallory.Name, mallory.Token, r.gitea.URL[len("http://"):])
	_, err = clone.Git(r.Context(), "push", "--quiet", address, "HEAD:refs/heads/"+head)
	r.must(err)
	r.must(r.repo.API(r.Context(), mallory.Name, http.MethodPost, "/pulls",
		map[string]string{"head": "mallory:" + head, "base": base, "title": "From a fork"}, nil))
}

func (r *real) others(n int) {
	clone, err := r.repo.Clone(r.Context(), testbed.Admin)
	r.must(err)
	r.must(clone.Write("other", "x"))
	_, err = clone.Commit(r.Context(), "Another")
	r.must(err)
	args := []string{"push", "--quiet", "origin"}
	for i := range n {
		args = append(args, fmt.Sprintf("HEAD:refs/heads/review/other-%d", i))
	}
	_, err = clone.Git(r.Context(), args...)
	r.must(err)
	for i := range n {
		r.must(r.repo.API(r.Context(), testbed.Admin, http.MethodPost, "/pulls",
			map[string]string{"head": fmt.Sprintf("review/other-%d", i), "base": base, "title": "Another"}, nil))
	}
}

func (r *real) wants(what string, err, kind error) {
	r.Helper()
	if !errors.Is(err, kind) {
		r.Errorf("%s: %v; want %v", what, err, kind)
	}
}
