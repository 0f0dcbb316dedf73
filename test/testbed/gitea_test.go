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
	"strings"
	"testing"
	"time"
)

// newForge starts a forge with a repository that ends with the test.
func newForge(t *testing.T) (*Gitea, *Repository) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	g, err := NewGitea(ctx, "forge")
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
		if left := members(g.home.dir + "/"); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
	})
	r, err := g.Create(ctx, "fleet")
	if err != nil {
		t.Fatal(err)
	}
	return g, r
}

// pushes adds a commit to a branch, in a new clone, and pushes it as a user.
func pushes(t *testing.T, r *Repository, user, branch string) error {
	t.Helper()
	clone, err := r.Clone(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	if r.at("refs/heads/"+branch) != zeroHash {
		if _, err := clone.Git(t.Context(), "checkout", "--quiet", branch); err != nil {
			t.Fatal(err)
		}
	}
	if err := clone.Write("news", rand.Text()); err != nil {
		t.Fatal(err)
	}
	if _, err := clone.Commit(t.Context(), "A change by "+user); err != nil {
		t.Fatal(err)
	}
	_, err = clone.Git(t.Context(), "push", "--quiet", "origin", "HEAD:"+branch)
	return err
}

// rewinds takes a branch back by one commit.
func rewinds(t *testing.T, r *Repository, user, branch string) error {
	t.Helper()
	clone, err := r.Clone(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	_, err = clone.Git(t.Context(), "push", "--quiet", "--force", "origin", "origin/"+branch+"~1:"+branch)
	return err
}

func TestTheForgeHoldsItsBranchRules(t *testing.T) {
	g, r := newForge(t)
	news := make(chan PushEvent, 100)
	r.OnPush(func(e PushEvent) { news <- e })
	if err := pushes(t, r, Admin, "main"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hub", "ccm-acme", "ccm-globex", "alice"} {
		if _, err := g.AddUser(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := g.Collaborate(t.Context(), r, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.ProtectFleet(t.Context(), r, "hub", "alice"); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"acme", "globex"} {
		if err := g.ProtectIntent(t.Context(), r, tenant, "ccm-"+tenant); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		push         func(*testing.T, *Repository, string, string) error
		user, branch string
		may          bool
	}{
		{pushes, "hub", "main", true},
		{pushes, "alice", "main", true},
		{pushes, "ccm-acme", "main", false},
		{pushes, "hub", "base/main", true},
		{pushes, "alice", "base/main", false},
		{pushes, "hub", "status/acme", true},
		{pushes, "ccm-acme", "status/acme", false},
		{pushes, "ccm-acme", "intent/acme", true},
		{pushes, "ccm-globex", "intent/acme", false},
		{pushes, "ccm-globex", "intent/initech", false}, // a tenant to come
		{pushes, "hub", "review/acme", true},
		{pushes, "alice", "review/acme", true},
		{rewinds, "alice", "main", false},
		{rewinds, "hub", "main", false},
		{rewinds, "ccm-acme", "intent/acme", false},
		{rewinds, "hub", "status/acme", true},
	} {
		err := c.push(t, r, c.user, c.branch)
		if (err == nil) != c.may {
			t.Errorf("%s to %s: %v", c.user, c.branch, err)
		}
		if err != nil && !strings.Contains(err.Error(), "protected") {
			t.Errorf("%s to %s failed otherwise: %v", c.user, c.branch, err)
		}
	}
	for at := r.at("refs/heads/status/acme"); ; {
		select {
		case e := <-news:
			if e.User == "hub" && e.Refs[0].Name == "refs/heads/status/acme" && e.Refs[0].New == at {
				return
			}
		case <-time.After(30 * time.Second):
			t.Fatal("OnPush was not told of the last push")
		}
	}
}

func TestTheForgeComesBackWhereItWas(t *testing.T) {
	g, r := newForge(t)
	if err := pushes(t, r, Admin, "main"); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	if _, err := r.Clone(t.Context(), Admin); err == nil {
		t.Error("a stopped forge serves")
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Clone(t.Context(), Admin); err != nil {
		t.Error(err)
	}
}
