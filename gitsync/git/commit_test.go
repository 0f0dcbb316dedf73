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
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestCommitTakesApartWhatNewCommitMade(t *testing.T) {
	s := NewStore()
	h := signedCommit(t, s, mustKey(t))
	c, err := s.Commit(h)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject != "acme: Service shop/web: port 443 added" || c.Body != "Because\n\tof that." {
		t.Errorf("message: %q, %q", c.Subject, c.Body)
	}
	if c.Trailers.Get("kubelb-generation") != "7" || c.Trailers.Get("Kubelb-Tenant") != "acme" || c.Trailers.Get("none") != "" {
		t.Errorf("trailers: %v", c.Trailers)
	}
	if c.Author.Name != "CCM" || c.Committer.Email != "hub@example.com" || !c.Committer.When.Equal(at(5)) {
		t.Errorf("people: %v, %v", c.Author, c.Committer)
	}
	if c.Hash != h || len(c.Parents) != 1 || c.Signature != SSH {
		t.Errorf("commit: %+v", c)
	}
}

func TestCommitsAreDeterministic(t *testing.T) {
	key := mustKey(t)
	if a, b := signedCommit(t, NewStore(), key), signedCommit(t, NewStore(), key); a != b {
		t.Errorf("the same commit twice: %s, %s", a, b)
	}
}

func TestNewCommitRefuses(t *testing.T) {
	s := NewStore()
	tree, err := s.Edit(Hash{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*CommitSpec){
		"no message":             func(c *CommitSpec) { c.Message = " \n" },
		"no author":              func(c *CommitSpec) { c.Author = Ident{} },
		"no time":                func(c *CommitSpec) { c.Author.When = time.Time{} },
		"a name with a bracket":  func(c *CommitSpec) { c.Author.Name = "a <b>" },
		"a name with a line":     func(c *CommitSpec) { c.Author.Name = "a\nparent x" },
		"a trailer with a line":  func(c *CommitSpec) { c.Trailers = Trailers{{"Kubelb-Tenant", "a\nKubelb-Epoch: 9"}} },
		"a trailer without key":  func(c *CommitSpec) { c.Trailers = Trailers{{"", "a"}} },
		"a trailer with a space": func(c *CommitSpec) { c.Trailers = Trailers{{"a b", "a"}} },
	} {
		sp := spec(tree, "subject")
		change(&sp)
		if _, err := s.NewCommit(sp); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.NewCommit(spec(Hash{1}, "subject")); !errors.Is(err, ErrMissing) {
		t.Errorf("unknown tree: %v", err)
	}
}

func TestMalformedCommits(t *testing.T) {
	s := NewStore()
	digits := strings.Repeat("1", 40)
	for _, data := range []string{
		"", "\n", "tree", "tree " + digits, "tree 12\n\n", "author A <a> 1 +0000\n\nm",
		"tree " + digits + "\nparent 12\n\n",
		"author A <a> 1 +0000\ntree " + digits + "\n\n",
		"tree " + digits + "\ntree " + digits + "\n\n",
		"tree " + digits + "\nauthor A <a> 1 +0000\nparent " + digits + "\n\n",
	} {
		if c, err := s.Commit(s.put(plumbing.CommitObject, []byte(data))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v, %v", data, c, err)
		}
	}
	// People's names and dates are what they are.
	c, err := s.Commit(s.put(plumbing.CommitObject, []byte("tree "+digits+"\nauthor A\ncommitter B <b> x y\nHG:extra a\n b\n\n\xff")))
	if err != nil || c.Committer.Email != "b" || !c.Committer.When.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
}

// What we call trailers is what Git calls trailers.
func TestTrailersAgreeWithGit(t *testing.T) {
	srv := newServer(t)
	for _, message := range []string{
		"subject\n\nKey: value\nOther-Key: more words\n",
		"Key: value\n",
		"subject\n\nbody\n\nKey: value\n",
		"subject\n\nbody: text\n\nno trailer here\nKey: value\n",
		"subject\n\nKey: value\n continued\n  twice\n",
		"subject\n\nbody\nSigned-off-by: A <a@b>\n",
		"subject\n\none\ntwo\nthree\nfour\nSigned-off-by: A <a@b>\n",
		"subject\n\n(cherry picked from commit abc)\nKey: value\n",
		"subject\n\nKey: value\n\n\n",
		"subject\n\nKey: value\n \nLast: one\n",
		"subject\n\nKey : spaced\n",
		"subject\n\nhttps://example.com is a link\nKey: value\n",
		"subject\nsecond line\n\nKey:\n",
		"subject\n\n continued: nothing\nKey: value\n",
	} {
		w := &worktree{server: srv, dir: t.TempDir()}
		w.write("message", message)
		var want []string
		if out := w.git("interpret-trailers", "--parse", "message"); out != "" {
			want = strings.Split(out, "\n")
		}
		var got []string
		_, _, trailers := splitMessage(message)
		for _, tr := range trailers {
			got = append(got, strings.TrimSpace(tr.Key+": "+tr.Value))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", message, got, want)
		}
	}
}

func TestFirstParentsAndReaches(t *testing.T) {
	s := NewStore()
	a := commitOn(t, s, Hash{}, map[string]string{"a": "1"})
	b := commitOn(t, s, a, map[string]string{"a": "2"})
	side := commitOn(t, s, a, map[string]string{"b": "1"})
	c, err := s.Commit(b)
	if err != nil {
		t.Fatal(err)
	}
	merge, err := s.NewCommit(spec(c.Tree, "merge", b, side))
	if err != nil {
		t.Fatal(err)
	}
	var walked []Hash
	for c, err := range s.FirstParents(merge) {
		if err != nil {
			t.Fatal(err)
		}
		walked = append(walked, c.Hash)
	}
	if !slices.Equal(walked, []Hash{merge, b, a}) {
		t.Errorf("first parents: %v", walked)
	}
	for _, tc := range []struct {
		tip, target Hash
		want        bool
	}{{merge, a, true}, {merge, side, true}, {merge, merge, true}, {b, side, false}, {a, merge, false}} {
		if got, err := s.Reaches(tc.tip, tc.target); got != tc.want || err != nil {
			t.Errorf("%s reaches %s: %v, %v", tc.tip.Short(), tc.target.Short(), got, err)
		}
	}
	s.pushed(merge)
	s.Retain(merge)
	if got, err := s.Reaches(merge, a); got || !errors.Is(err, ErrMissing) {
		t.Errorf("beyond what is known: %v, %v", got, err)
	}
	var last error
	for _, last = range s.FirstParents(merge) {
	}
	if !errors.Is(last, ErrMissing) {
		t.Errorf("end of the walk: %v", last)
	}
}
