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
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// protocols runs a test against a server of version 2 and one that only knows
// version 0.
func protocols(t *testing.T, test func(*testing.T, *server)) {
	for _, old := range []bool{false, true} {
		t.Run(map[bool]string{false: "v2", true: "v0"}[old], func(t *testing.T) {
			srv := newServer(t)
			srv.old = old
			test(t, srv)
		})
	}
}

// walk returns the first parents of tip as far as they are known, and whether
// the walk came to a commit without parents.
func walk(t *testing.T, s *Store, tip Hash) (commits []Hash, complete bool) {
	t.Helper()
	for c, err := range s.FirstParents(tip) {
		if errors.Is(err, ErrMissing) {
			return commits, false
		}
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, c.Hash)
	}
	return commits, true
}

func TestFetchTipThenIncrements(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		native.push("x/one", "1")
		b := native.push("x/two", "2")
		r, s := srv.remote(Options{}), NewStore()

		mustFetch(t, r, s, Want{Tip: b})
		if got, _ := walk(t, s, b); !slices.Equal(got, []Hash{b}) {
			t.Errorf("the first fetch brought %v", got)
		}
		c := native.push("x/three", "3")
		d := native.push("x/one", "4")
		mustFetch(t, r, s, Want{Tip: d, Have: b})
		if got, _ := walk(t, s, d); !slices.Equal(got, []Hash{d, c, b}) {
			t.Errorf("the second fetch brought %v", got)
		}
		if got := content(t, s, d, "x/one") + content(t, s, c, "x/one") + content(t, s, d, "x/two"); got != "412" {
			t.Errorf("content: %s", got)
		}
		s.Retain(d)
		e := native.push("x/two", "1") // a file that was dropped with its commit comes back
		mustFetch(t, r, s, Want{Tip: e, Have: d})
		if got := content(t, s, e, "x/two"); got != "1" {
			t.Errorf("content: %s", got)
		}
		if got, _ := walk(t, s, e); !slices.Equal(got, []Hash{e, d}) {
			t.Errorf("after dropping history: %v", got)
		}
	})
}

func TestFetchSeveralBranchesAtOnce(t *testing.T) {
	srv := newServer(t)
	native := srv.clone()
	tip := native.push("README.md", "hello")
	r, s := srv.remote(Options{}), NewStore()
	mustFetch(t, r, s, Want{Tip: tip})
	wants := []Want{{Tip: native.push("README.md", "hello again"), Have: tip}}
	for i := range 3 {
		native.git("checkout", "-q", "--orphan", fmt.Sprintf("intent/t%d", i))
		native.git("rm", "-rfq", ".")
		native.write("tenants/f", fmt.Sprint(i))
		wants = append(wants, Want{Tip: native.commit("intent")})
	}
	native.git("push", "-q", "origin", "--all")
	srv.asked()
	mustFetch(t, r, s, wants...)
	for i, w := range wants[1:] {
		if got := content(t, s, w.Tip, "tenants/f"); got != fmt.Sprint(i) {
			t.Errorf("intent %d: %q", i, got)
		}
	}
	if got := srv.asked(); len(got) != 2 {
		t.Errorf("requests: %q", got)
	}
}

// A pull request that began before the history that we know.
func TestFetchMergeOfAnOldBranch(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		native.push("a", "1")
		native.git("checkout", "-q", "-b", "feature")
		native.write("feature", "1")
		native.commit("feature")
		native.git("checkout", "-q", "-")
		known := native.push("b", "1")
		r, s := srv.remote(Options{}), NewStore()
		mustFetch(t, r, s, Want{Tip: known})

		between := native.push("b", "2")
		native.git("merge", "-q", "--no-ff", "-m", "merge", "feature")
		native.git("push", "-q", "origin", "HEAD:main")
		tip := srv.head("main")
		mustFetch(t, r, s, Want{Tip: tip, Have: known})
		if got, _ := walk(t, s, tip); len(got) < 3 || !slices.Equal(got[:3], []Hash{tip, between, known}) {
			t.Errorf("first parents: %v", got)
		}
		if got := content(t, s, tip, "feature") + content(t, s, tip, "b"); got != "12" {
			t.Errorf("content: %s", got)
		}
	})
}

// The clock of whoever pushes may be behind.
func TestFetchCommitsThatSeemOlder(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		r, s := srv.remote(Options{}), NewStore()
		tree, err := s.Edit(Hash{}, map[string][]byte{"a": []byte("1")})
		if err != nil {
			t.Fatal(err)
		}
		var chain []Hash
		for i := range 4 {
			sp := spec(tree, fmt.Sprint("commit ", i), chain[max(0, i-1):]...)
			sp.Author.When = at(-3600 * i)
			h, err := s.NewCommit(sp)
			if err != nil {
				t.Fatal(err)
			}
			chain = append(chain, h)
		}
		mustPush(t, r, s, main, Hash{}, chain[3])
		other := NewStore()
		mustFetch(t, r, other, Want{Tip: chain[1]})
		mustFetch(t, r, other, Want{Tip: chain[3], Have: chain[1]})
		slices.Reverse(chain)
		if got, _ := walk(t, other, chain[0]); len(got) < 3 || !slices.Equal(got[:3], chain[:3]) {
			t.Errorf("first parents: %v, want %v", got, chain)
		}
	})
}

func TestFetchAfterRewrites(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		var history []Hash
		for i := range 5 {
			history = append(history, native.push("f", fmt.Sprint(i)))
		}
		r, s := srv.remote(Options{}), NewStore()
		tip := history[4]
		mustFetch(t, r, s, Want{Tip: tip})

		force := func(what string) {
			native.git("push", "-q", "-f", "origin", "HEAD:main")
			next := srv.head("main")
			mustFetch(t, r, s, Want{Tip: next, Have: tip})
			if got, want := content(t, s, next, "f"), native.git("show", "HEAD:f"); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
			tip = next
			s.Retain(tip)
		}
		native.git("reset", "-q", "--hard", history[1].String())
		force("rewound behind what is known")
		native.write("f", "rewritten")
		native.commit("rewritten")
		force("forward again")
		native.git("commit", "-q", "--amend", "-m", "amended")
		force("amended")
		native.git("checkout", "-q", "--orphan", "new")
		native.write("f", "new root")
		native.commit("new root")
		force("a new root")
		native.git("reset", "-q", "--hard", history[3].String())
		native.git("push", "-q", "-f", "origin", "HEAD:main")
		srv.git(srv.bare, "reflog", "expire", "--expire=now", "--all")
		srv.git(srv.bare, "gc", "-q", "--prune=now")
		force("back, and what we know is gone from the server")
	})
}

// A store that lacks what it says it has gets a whole tip.
func TestFetchRepairsAStoreWithHoles(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		native.write("dir/kept", "kept")
		tip := native.push("dir/changed", "1")
		r, s := srv.remote(Options{}), NewStore()
		mustFetch(t, r, s, Want{Tip: tip})
		c, err := s.Commit(tip)
		if err != nil {
			t.Fatal(err)
		}
		e, _, err := s.Lookup(c.Tree, "dir/kept")
		if err != nil {
			t.Fatal(err)
		}
		delete(s.objects, e.Hash)
		next := native.push("dir/changed", "2")
		mustFetch(t, r, s, Want{Tip: next, Have: tip})
		if got := content(t, s, next, "dir/kept"); got != "kept" {
			t.Errorf("content: %q", got)
		}
	})
}

func TestFetchUnknownCommit(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		tip := native.push("a", "1")
		r, s := srv.remote(Options{}), NewStore()
		mustFetch(t, r, s, Want{Tip: tip})
		before := s.Stats()
		for _, have := range []Hash{{}, tip, {9}} {
			if err := r.Fetch(t.Context(), s, Want{Tip: Hash{1}, Have: have}); !errors.Is(err, ErrMissing) {
				t.Errorf("have %s: %v", have, err)
			}
		}
		if s.Stats() != before {
			t.Errorf("store changed: %v, %v", before, s.Stats())
		}
	})
}

// Commits of ours that were never pushed are nothing that the server knows.
func TestFetchOnTopOfUnsentCommits(t *testing.T) {
	srv := newServer(t)
	native := srv.clone()
	tip := native.push("a", "1")
	r, s := srv.remote(Options{}), NewStore()
	mustFetch(t, r, s, Want{Tip: tip})
	ours := commitOn(t, s, commitOn(t, s, tip, map[string]string{"ours": "1"}), map[string]string{"ours": "2"})
	theirs := native.push("a", "2")
	srv.asked()
	mustFetch(t, r, s, Want{Tip: theirs, Have: ours})
	if got, _ := walk(t, s, theirs); !slices.Equal(got, []Hash{theirs, tip}) {
		t.Errorf("first parents: %v", got)
	}
	if got := srv.asked(); len(got) != 1 {
		t.Errorf("requests: %q", got)
	}
}

func TestDeepen(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		srv.git(srv.bare, "config", "uploadpack.allowFilter", "true")
		native := srv.clone()
		var history []Hash
		for i := range 6 {
			history = append(history, native.push("dir/f", fmt.Sprint("version ", i)))
		}
		slices.Reverse(history)
		r, s := srv.remote(Options{}), NewStore()
		tip := history[0]
		mustFetch(t, r, s, Want{Tip: tip})
		if err := r.Deepen(t.Context(), s, tip, 3); err != nil {
			t.Fatal(err)
		}
		got, complete := walk(t, s, tip)
		if !slices.Equal(got, history[:4]) || complete {
			t.Errorf("deepened: %v, %v", got, complete)
		}
		old, err := s.Commit(history[2])
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Lookup(old.Tree, "dir/f"); !ok || err != nil {
			t.Errorf("directories: %v, %v", ok, err)
		}
		if _, _, err := s.File(old.Tree, "dir/f"); !errors.Is(err, ErrMissing) || s.Has(history[2]) {
			t.Errorf("files came too: %v", err)
		}
		// Partial history is not taken for known.
		next := native.push("dir/f", "version 4")
		mustFetch(t, r, s, Want{Tip: next, Have: tip})
		if got := content(t, s, next, "dir/f"); got != "version 4" {
			t.Errorf("content: %q", got)
		}
		mustFetch(t, r, s, Want{Tip: history[2]})
		if got := content(t, s, history[2], "dir/f"); got != "version 3" || !s.Has(history[2]) {
			t.Errorf("a partial commit, fetched: %q", got)
		}
		if err := r.Deepen(t.Context(), s, next, 100); err != nil {
			t.Fatal(err)
		}
		if got, complete := walk(t, s, next); len(got) != 7 || !complete {
			t.Errorf("all of history: %v, %v", got, complete)
		}
	})
}

func TestListRefsByPrefix(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		tip := native.push("a", "1")
		var refs []string
		for i := range 3000 {
			refs = append(refs, fmt.Sprintf("%s refs/heads/intent/t%d\n", tip, i), fmt.Sprintf("%s refs/heads/status/t%d\n", tip, i))
		}
		slices.SortFunc(refs, func(a, b string) int { return strings.Compare(a[40:], b[40:]) })
		packed := "# pack-refs with: peeled fully-peeled sorted \n" + strings.Join(refs, "")
		if err := os.WriteFile(filepath.Join(srv.bare, "packed-refs"), []byte(packed), 0o644); err != nil {
			t.Fatal(err)
		}
		srv.git(srv.bare, "tag", "-a", "-m", "tag", "v1", tip.String())
		r := srv.remote(Options{})
		for _, tc := range []struct {
			prefixes []string
			want     int
		}{
			{[]string{"refs/heads/intent/"}, 3000},
			{[]string{"refs/heads/status/t77", "refs/heads/main"}, 2}, // none of t770 to t779
			{[]string{"refs/heads/none"}, 0},
			{nil, 6003}, // and HEAD and a tag
		} {
			got, err := r.ListRefs(t.Context(), tc.prefixes...)
			if err != nil || len(got) < tc.want || len(got) > tc.want+1 || tc.want == 2 && len(got) != 2 {
				t.Errorf("%q: %d refs, %v", tc.prefixes, len(got), err)
			}
		}
	})
}

func TestFetchMoreThanTheLimit(t *testing.T) {
	srv := newServer(t)
	native := srv.clone()
	tip := native.push("a", strings.Repeat("0123456789", 1000))
	r, s := srv.remote(Options{}), NewStore()
	r.packLimit = 5000
	if err := r.Fetch(t.Context(), s, Want{Tip: tip}); !errors.Is(err, ErrTooLarge) || s.Stats().Objects != 0 {
		t.Errorf("%v, %v", err, s.Stats())
	}
	// Too long a way from what is known is no reason to fail.
	r.packLimit = 20000
	mustFetch(t, r, s, Want{Tip: tip})
	for i := range 5 {
		native.push("a", strings.Repeat(fmt.Sprintf("%d-hello--", i), 1000))
	}
	last := srv.head("main")
	mustFetch(t, r, s, Want{Tip: last, Have: tip})
	if got, _ := walk(t, s, last); len(got) != 1 {
		t.Errorf("first parents: %v", got)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	srv := newServer(t)
	tip := srv.clone().push("a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := srv.remote(Options{}).Fetch(ctx, NewStore(), Want{Tip: tip})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
