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
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// What a delta of two trees makes of the first one is the second one.
func TestTreeDeltas(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tree := func(n int) []treeEntry {
		seen := map[string]bool{}
		var entries []treeEntry
		for range n {
			e := treeEntry{name: fmt.Sprintf("%d-%0*d", random.IntN(40*n+40), random.IntN(60)+1, 0), mode: modeDir, hash: Hash{byte(random.IntN(3))}}
			if random.IntN(3) == 0 {
				e.mode = modeRegular
			}
			if !seen[e.name] {
				seen[e.name] = true
				entries = append(entries, e)
			}
		}
		encodeTree(entries) // sorts them
		return entries
	}
	for n := range 400 {
		before := tree(n * random.IntN(8))
		var after []treeEntry
		for _, e := range before {
			switch random.IntN(12) {
			case 0:
				continue
			case 1:
				e.hash[5]++
			}
			after = append(after, e)
		}
		after = append(after, treeEntry{name: "new", mode: modeDir}, treeEntry{name: "~", mode: modeRegular})
		if n%10 == 0 {
			after = tree(n)
		}
		want, old := encodeTree(after), encodeTree(before)
		got, err := packfile.PatchDelta(old, treeDelta(before, after))
		if len(old) == 0 { // go-git patches nothing with nothing
			continue
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d: %v", n, err)
		}
	}
}

// fleet is a repository with many tenants on main, and what the last push of it
// took.
func fleet(t *testing.T, tenants int) (*server, *Remote, *Store, Hash, *int64) {
	t.Helper()
	srv := newServer(t)
	size := new(int64)
	srv.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPost {
			body, _ := io.ReadAll(req.Body)
			*size, req.Body = int64(len(body)), io.NopCloser(bytes.NewReader(body))
		}
		return false
	})
	r, s := srv.remote(Options{}), NewStore()
	files := map[string]string{}
	for i := range tenants {
		files[fmt.Sprintf("tenants/tenant-%04d/loadbalancers/shop/web.service.yaml", i)] = fmt.Sprintf("spec: %d\n", i)
	}
	tip := commitOn(t, s, Hash{}, files)
	mustPush(t, r, s, main, Hash{}, tip)
	return srv, r, s, tip, size
}

// A change of one tenant among a thousand sends what changed, not the list of all.
func TestAPushAmongManyTenantsIsSmall(t *testing.T) {
	srv, r, s, tip, size := fleet(t, 1000)
	file := func(i int) string { return fmt.Sprintf("tenants/tenant-%04d/loadbalancers/shop/web.service.yaml", i) }
	next := commitOn(t, s, tip, map[string]string{file(500): "spec: new\n"})
	mustPush(t, r, s, main, tip, next)
	if *size > 2500 {
		t.Errorf("one change takes %d bytes", *size)
	}
	t.Logf("one change takes %d bytes", *size)
	// Many commits in one push, as of many tenants at once.
	last := next
	for i := range 40 {
		last = commitOn(t, s, last, map[string]string{file(25 * i): fmt.Sprintf("spec: %d\n", i), fmt.Sprintf("tenants/new%d/x", i): "y"})
	}
	mustPush(t, r, s, main, next, last)
	if *size > 40*4000 {
		t.Errorf("40 changes take %d bytes", *size)
	}
	t.Logf("40 changes take %d bytes", *size)
	srv.fsck()
	fresh := NewStore()
	mustFetch(t, srv.remote(Options{}), fresh, Want{Tip: last})
	if got := content(t, fresh, last, file(25*39)); got != "spec: 39\n" {
		t.Errorf("content: %q", got)
	}
}

// A server that dropped what a difference is to gets everything.
func TestAPushToAServerThatDroppedATree(t *testing.T) {
	srv, r, s, tip, _ := fleet(t, 100)
	next := commitOn(t, s, tip, map[string]string{"tenants/tenant-0001/a": "1"})
	mustPush(t, r, s, main, tip, next)
	srv.git(srv.bare, "update-ref", main, tip.String())
	srv.git(srv.bare, "prune", "--expire=now")
	c, err := s.Commit(next)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := s.Edit(c.Tree, map[string][]byte{"tenants/tenant-0002/b": []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.NewCommit(spec(tree, "again", tip))
	if err != nil {
		t.Fatal(err)
	}
	mustPush(t, r, s, main, tip, again)
	srv.fsck()
}
