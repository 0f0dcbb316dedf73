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
	"errors"
	"strings"
	"testing"

	"github.com/kubelb/gitops/gitsync/forge"
)

// people are what a test does to a repository beside the Forge.
type people interface {
	options() forge.Options
	// push adds a commit to a branch, which begins at base, and returns it.
	push(head, base string) string
	merge(number int64)
	reopen(number int64)
	remove(head string)
	// fork opens a pull request from the branch of that name of a fork.
	fork(head, base string)
	// others opens pull requests from other branches to main.
	others(n int)
}

func TestForgesBehaveAlike(t *testing.T) {
	for _, kind := range []forge.Kind{forge.GitHub, forge.GitLab, forge.Gitea} {
		t.Run(string(kind), func(t *testing.T) { behave(t, newFake(t, kind)) })
	}
}

// scene is the life of a repository's pull requests.
type scene struct {
	*testing.T
	forge.Forge
	people
}

const head, base = "review/acme", "main"

func behave(t *testing.T, p people) {
	f, err := forge.New(p.options())
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{T: t, Forge: f, people: p}
	if pr, ok, err := s.Newest(t.Context(), head, base); err != nil || ok {
		t.Fatalf("there is none yet, but %+v, %t, %v", pr, ok, err)
	}
	first := s.openAndRefresh()
	second := s.closeAndOpenAnother(first)
	s.reopenTheOlder(first, second)
	s.mergeIt(second)
	s.foreignAndOthers(second)
	s.longTexts()
	const none = 999999
	if _, err := s.Update(t.Context(), none, "x", "y"); !errors.Is(err, forge.ErrNotFound) {
		t.Errorf("update of one that is not: %v", err)
	}
	if err := s.Close(t.Context(), none); !errors.Is(err, forge.ErrNotFound) {
		t.Errorf("close of one that is not: %v", err)
	}
}

func (s *scene) create(title, body string) forge.PullRequest {
	s.Helper()
	pr, err := s.Create(s.Context(), forge.Proposal{Head: head, Base: base, Title: title, Body: body})
	if err != nil {
		s.Fatal(err)
	}
	return pr
}

func (s *scene) close(number int64) {
	s.Helper()
	if err := s.Close(s.Context(), number); err != nil {
		s.Fatal(err)
	}
}

// newest wants the newest to be as said; an empty commit stands for any.
func (s *scene) newest(number int64, state forge.State, commit string) forge.PullRequest {
	s.Helper()
	pr, ok, err := s.Newest(s.Context(), head, base)
	if err != nil || !ok || pr.Number != number || pr.State != state || commit != "" && pr.HeadCommit != commit {
		s.Fatalf("newest is %+v, %t, %v; want number %d, %s at %s", pr, ok, err, number, state, commit)
	}
	return pr
}

func (s *scene) openAndRefresh() int64 {
	commit := s.push(head, base)
	pr := s.create("acme: Service shop/web", "| port | before | after |\n|---|---|---|\n| http | – | 80 |\n")
	if pr.Number == 0 || pr.State != forge.Open || pr.HeadCommit != commit || !strings.HasPrefix(pr.URL, "http") ||
		pr.Title != "acme: Service shop/web" || !strings.Contains(pr.Body, "| http | – | 80 |") {
		s.Fatalf("created %+v at %s", pr, commit)
	}
	again := s.create("acme: two changes", "Two <b>changes</b> & an umlaut: ü")
	if again.Number != pr.Number || again.Title != "acme: two changes" || again.Body != "Two <b>changes</b> & an umlaut: ü" {
		s.Fatalf("creating again gave %+v", again)
	}
	updated, err := s.Update(s.Context(), pr.Number, "acme: three changes", "Three")
	if err != nil || updated.Title != "acme: three changes" || updated.Body != "Three" || updated.State != forge.Open {
		s.Fatalf("updated: %+v, %v", updated, err)
	}
	if pr := s.newest(pr.Number, forge.Open, commit); pr.Title != "acme: three changes" || pr.Body != "Three" {
		s.Fatalf("newest is %+v", pr)
	}
	return pr.Number
}

func (s *scene) closeAndOpenAnother(first int64) (second int64) {
	closed := s.push(head, base)
	s.eventuallyNewest(first, closed)
	s.close(first)
	s.newest(first, forge.Closed, closed)
	s.close(first)
	s.newest(first, forge.Closed, closed)
	after := s.push(head, base)
	s.newest(first, forge.Closed, closed) // the commit that was closed, not what came later
	pr := s.create("acme: another", "")
	if pr.Number <= first || pr.HeadCommit != after {
		s.Fatalf("after %d was closed, %+v was created", first, pr)
	}
	s.newest(pr.Number, forge.Open, after)
	return pr.Number
}

func (s *scene) reopenTheOlder(first, second int64) {
	s.close(second)
	s.newest(second, forge.Closed, "")
	s.reopen(first)
	s.newest(first, forge.Open, "")
	s.close(first)
	s.newest(second, forge.Closed, "")
	s.reopen(second)
	s.newest(second, forge.Open, "")
}

func (s *scene) mergeIt(number int64) {
	merged := s.push(head, base)
	s.eventuallyNewest(number, merged)
	s.merge(number)
	s.newest(number, forge.Merged, merged)
	s.close(number)
	s.newest(number, forge.Merged, merged)
	s.remove(head)
	s.newest(number, forge.Merged, merged)
}

func (s *scene) foreignAndOthers(number int64) {
	s.fork(head, base)
	s.newest(number, forge.Merged, "")
	s.others(35)
	s.newest(number, forge.Merged, "")
	if _, ok, err := s.Newest(s.Context(), "review/nobody", base); ok || err != nil {
		s.Errorf("a branch without pull requests has one: %v", err)
	}
	if _, ok, err := s.Newest(s.Context(), head, "release"); ok || err != nil {
		s.Errorf("another base has one: %v", err)
	}
}

func (s *scene) longTexts() {
	s.push(head, base)
	pr := s.create(strings.Repeat("long title ", 100), strings.Repeat("0123456789 – a line\n", 1<<17))
	if !strings.HasSuffix(pr.Title, "...") || len(pr.Title) > 255 {
		s.Errorf("the title is %q", pr.Title)
	}
	if !strings.Contains(pr.Body, "The rest was cut") || len(pr.Body) > 1<<20 || len(pr.Body) < 60000 {
		s.Errorf("the body has %d bytes and ends in %q", len(pr.Body), pr.Body[max(0, len(pr.Body)-200):])
	}
}

// eventuallyNewest waits until the forge has taken note of a push.
func (s *scene) eventuallyNewest(number int64, commit string) {
	s.Helper()
	for range 3000 {
		pr, _, err := s.Newest(s.Context(), head, base)
		if err != nil {
			s.Fatal(err)
		}
		if pr.Number == number && pr.HeadCommit == commit {
			return
		}
	}
	s.Fatalf("pull request %d never got to %s", number, commit)
}
