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
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/kubelb/gitops/api/repo"
)

// tree makes a tree from paths and contents.
func tree(t *testing.T, s *Store, files map[string]string) Hash {
	t.Helper()
	return editTree(t, s, Hash{}, files)
}

// editTree writes files; "-" deletes.
func editTree(t *testing.T, s *Store, root Hash, files map[string]string) Hash {
	t.Helper()
	edits := map[string][]byte{}
	for path, c := range files {
		edits[path] = []byte(c)
		if c == "-" {
			edits[path] = nil
		}
	}
	h, err := s.Edit(root, edits)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// list returns all files of a tree.
func list(t *testing.T, s *Store, root Hash) map[string]string {
	t.Helper()
	files, err := s.Files(root, "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for path, f := range files {
		out[path] = string(f.Data)
	}
	return out
}

func TestEdit(t *testing.T) {
	start := map[string]string{"a/b/c": "1", "a/b/d": "2", "a/e": "3", "f": "4"}
	for _, tc := range []struct {
		name        string
		edits, want map[string]string
	}{
		{"nothing", nil, start},
		{"the same", map[string]string{"a/e": "3"}, start},
		{"a file", map[string]string{"a/e": "x"}, map[string]string{"a/b/c": "1", "a/b/d": "2", "a/e": "x", "f": "4"}},
		{"an empty file", map[string]string{"a/e": ""}, map[string]string{"a/b/c": "1", "a/b/d": "2", "a/e": "", "f": "4"}},
		{"a new directory", map[string]string{"g/h": "5"}, map[string]string{"a/b/c": "1", "a/b/d": "2", "a/e": "3", "f": "4", "g/h": "5"}},
		{"a deletion", map[string]string{"a/b/c": "-"}, map[string]string{"a/b/d": "2", "a/e": "3", "f": "4"}},
		{"the last of a directory", map[string]string{"a/b/c": "-", "a/b/d": "-"}, map[string]string{"a/e": "3", "f": "4"}},
		{"a whole directory", map[string]string{"a/b": "-"}, map[string]string{"a/e": "3", "f": "4"}},
		{"a directory anew", map[string]string{"a": "-", "a/x": "5"}, map[string]string{"a/x": "5", "f": "4"}},
		{"what is not there", map[string]string{"z": "-", "y/z": "-", "f/g": "-"}, start},
		{"a directory in a file's place", map[string]string{"f/g": "5"}, map[string]string{"a/b/c": "1", "a/b/d": "2", "a/e": "3", "f/g": "5"}},
		{"a file in a directory's place", map[string]string{"a": "5"}, map[string]string{"a": "5", "f": "4"}},
		{"everything", map[string]string{"a": "-", "f": "-"}, map[string]string{}},
	} {
		s := NewStore()
		root := tree(t, s, start)
		after := editTree(t, s, root, tc.edits)
		if got := list(t, s, after); !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if fresh := tree(t, s, tc.want); fresh != after {
			t.Errorf("%s: the same files in another tree", tc.name)
		}
		if maps.Equal(tc.want, start) != (after == root) {
			t.Errorf("%s: tree %s became %s", tc.name, root, after)
		}
	}
}

func TestEditRefuses(t *testing.T) {
	s := NewStore()
	for _, path := range []string{"", "/", "a/", "/a", "a//b", "a/../b", ".", ".git/config", "a/.GIT/x", "a\x00b"} {
		if _, err := s.Edit(Hash{}, map[string][]byte{path: {}}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := s.Edit(Hash{}, map[string][]byte{"a": {1}, "a/b": {2}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a file and what is below it: %v", err)
	}
	for path, content := range map[string][]byte{"a": make([]byte, repo.MaxFileSize+1), strings.Repeat("a/", 100) + "a": {}} {
		if _, err := s.Edit(Hash{}, map[string][]byte{path: content}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%.10q: %v", path, err)
		}
	}
	if _, err := s.Edit(Hash{1}, map[string][]byte{"a": {}}); !errors.Is(err, ErrMissing) {
		t.Errorf("unknown tree: %v", err)
	}
}

func TestEditKeepsItsOwnCopy(t *testing.T) {
	s := NewStore()
	data := []byte("1")
	root, err := s.Edit(Hash{}, map[string][]byte{"a": data})
	if err != nil {
		t.Fatal(err)
	}
	data[0] = '2'
	if got := list(t, s, root)["a"]; got != "1" {
		t.Errorf("content: %q", got)
	}
}

// Edit and Diff against maps, and against what Git makes of the same files.
func TestEditAndDiffAgreeWithMaps(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "a.b", "a-b", "a0", "ab", "b"}
	random := func() string {
		path := names[rnd.IntN(len(names))]
		for range rnd.IntN(3) {
			path += "/" + names[rnd.IntN(len(names))]
		}
		return path
	}
	s := NewStore()
	want := map[string]string{}
	var root Hash
	for step := range 500 {
		before, old := maps.Clone(want), root
		edits := map[string]string{}
		for range 1 + rnd.IntN(4) {
			path, value := random(), fmt.Sprint(rnd.IntN(3))
			if value == "0" {
				value = "-"
			}
			if slices.ContainsFunc(slices.Collect(maps.Keys(edits)), func(other string) bool { return related(path, other) }) {
				continue
			}
			edits[path] = value
			for p := range want {
				if p == path || strings.HasPrefix(p, path+"/") || value != "-" && strings.HasPrefix(path, p+"/") {
					delete(want, p)
				}
			}
			if value != "-" {
				want[path] = value
			}
		}
		root = editTree(t, s, root, edits)
		if got := list(t, s, root); !maps.Equal(got, want) {
			t.Fatalf("step %d: %v: %v, want %v", step, edits, got, want)
		}
		if rnd.IntN(2) == 0 && !old.IsZero() {
			old, before, root, want = root, want, old, before // also backwards
			checkDiff(t, s, old, root, before, want)
			old, before, root, want = root, want, old, before
		}
		checkDiff(t, s, old, root, before, want)
	}
}

func related(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

func checkDiff(t *testing.T, s *Store, a, b Hash, before, after map[string]string) {
	t.Helper()
	patched := maps.Clone(before)
	err := s.Diff(a, b, "", func(c Change) error {
		_, had := before[c.Path]
		_, has := after[c.Path]
		if had == c.Old.IsZero() || has == c.New.IsZero() || c.Old == c.New {
			t.Errorf("change %+v", c)
		}
		delete(patched, c.Path)
		if has {
			patched[c.Path] = after[c.Path]
		}
		return nil
	})
	if err != nil || !maps.Equal(patched, after) {
		t.Errorf("difference: %v, %v, want %v", err, patched, after)
	}
}

func TestTreesAreWhatGitMakes(t *testing.T) {
	srv := newServer(t)
	native := srv.clone()
	files := map[string]string{"a/x": "1", "a.b": "2", "a-b": "3", "a0/y/z": "4", "ab": "5", "Ä": "6"}
	for path, c := range files {
		native.write(path, c)
	}
	native.commit("files")
	if got, want := tree(t, NewStore(), files).String(), native.git("rev-parse", "HEAD^{tree}"); got != want {
		t.Errorf("tree %s, want %s", got, want)
	}
}

func TestDiffDescendsOnlyWhereTreesDiffer(t *testing.T) {
	s := NewStore()
	files := map[string]string{}
	for i := range 100 {
		files[fmt.Sprintf("tenants/t%d/f", i)] = fmt.Sprint(i)
	}
	a := tree(t, s, files)
	b := editTree(t, s, a, map[string]string{"tenants/t7/f": "changed"})
	// With every other directory gone, the difference can still be told.
	for i := range 100 {
		if i != 7 {
			h, _, err := s.Subtree(a, fmt.Sprintf("tenants/t%d", i))
			if err != nil {
				t.Fatal(err)
			}
			delete(s.objects, h)
		}
	}
	for _, dir := range []string{"", "tenants", "tenants/t7"} {
		var got []string
		if err := s.Diff(a, b, dir, func(c Change) error { got = append(got, c.Path); return nil }); err != nil || !slices.Equal(got, []string{"tenants/t7/f"}) {
			t.Errorf("%q: %v, %v", dir, got, err)
		}
	}
	stop := errors.New("stop")
	if err := s.Diff(a, b, "", func(Change) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func TestFilesFromOutside(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		native.write("dir/plain", "plain")
		native.write("dir/large", strings.Repeat("x", repo.MaxFileSize+1))
		native.write("dir/limit", strings.Repeat("x", repo.MaxFileSize))
		native.write("dir/huge", strings.Repeat("x", maxDeltaBase+1))
		native.write("dir/run", "#!")
		if err := os.Chmod(filepath.Join(native.dir, "dir/run"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc/passwd", filepath.Join(native.dir, "dir/link")); err != nil {
			t.Fatal(err)
		}
		native.commit("files")
		native.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",dir/module")
		native.git("commit", "-q", "-m", "submodule")
		native.git("push", "-q", "origin", "HEAD:main")
		r, s, tip := srv.remote(Options{}), NewStore(), srv.head("main")
		mustFetch(t, r, s, Want{Tip: tip})
		c, err := s.Commit(tip)
		if err != nil {
			t.Fatal(err)
		}
		files, err := s.Files(c.Tree, "dir")
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]repo.File{
			"plain":  repo.NewFile([]byte("plain")),
			"run":    repo.NewFile([]byte("#!")),
			"large":  {Size: repo.MaxFileSize + 1},
			"huge":   {Size: maxDeltaBase + 1},
			"limit":  repo.NewFile(bytes.Repeat([]byte("x"), repo.MaxFileSize)),
			"link":   {Mode: repo.Symlink},
			"module": {Mode: repo.Submodule},
		} {
			one, ok, err := s.File(c.Tree, "dir/"+name)
			all := files["dir/"+name]
			for _, f := range []repo.File{one, all} {
				if !ok || err != nil || f.Mode != want.Mode || f.Size != want.Size || !bytes.Equal(f.Data, want.Data) {
					t.Errorf("%s: mode %d, size %d, %d bytes; %v, %v", name, f.Mode, f.Size, len(f.Data), ok, err)
				}
			}
		}
		if len(files) != 7 || s.Stats().Bytes > 2*repo.MaxFileSize {
			t.Errorf("%d files, %v", len(files), s.Stats())
		}
		for _, path := range []string{"none", "dir", "dir/link/x", "dir/plain/x", "dir/module/x"} {
			if f, ok, err := s.File(c.Tree, path); ok || err != nil {
				t.Errorf("%s: %v, %v", path, f, err)
			}
		}
		// Neighbours of what we do not hold can be edited and pushed, and modes stay.
		next := commitOn(t, s, tip, map[string]string{"dir/plain": "ours", "dir/run": "#!!"})
		mustPush(t, r, s, main, tip, next)
		if got := srv.git(srv.bare, "diff", "--raw", "--no-renames", tip.String(), "main"); strings.Count(got, "\n") != 1 || !strings.Contains(got, ":100755 100755") {
			t.Errorf("changes: %s", got)
		}
	})
}

func entry(mode, name string) string { return mode + " " + name + "\x00" + strings.Repeat("h", 20) }

var malformedTrees = map[string]string{
	"no mode":          "a",
	"no end":           "100644 a",
	"a cut-off hash":   "100644 a\x00hhh",
	"an odd mode":      entry("100600", "a"),
	"a padded mode":    entry("040000", "a"),
	"no name":          entry("100644", ""),
	"a dot":            entry("40000", "."),
	"two dots":         entry("40000", ".."),
	"a repository":     entry("40000", ".GIT"),
	"a slash":          entry("100644", "a/b"),
	"out of order":     entry("100644", "b") + entry("100644", "a"),
	"twice":            entry("100644", "a") + entry("100755", "a"),
	"file, directory":  entry("100644", "a") + entry("40000", "a"),
	"far apart":        entry("100644", "a") + entry("100644", "a.b") + entry("40000", "a"),
	"directory order":  entry("40000", "a") + entry("100644", "a.b"),
	"directory, twice": entry("40000", "a") + entry("40000", "a"),
}

func TestMalformedTrees(t *testing.T) {
	s := NewStore()
	for name, data := range malformedTrees {
		h := s.put(plumbing.TreeObject, []byte(data))
		if _, err := s.Files(h, ""); !errors.Is(err, ErrMalformed) {
			t.Errorf("files, %s: %v", name, err)
		}
		if _, err := s.Edit(h, map[string][]byte{"x": {}}); !errors.Is(err, ErrMalformed) {
			t.Errorf("edit, %s: %v", name, err)
		}
		if _, _, err := s.File(h, "x"); !errors.Is(err, ErrMalformed) {
			t.Errorf("file, %s: %v", name, err)
		}
	}
	blob := s.put(plumbing.BlobObject, []byte("x"))
	if _, err := s.Files(blob, ""); !errors.Is(err, ErrMalformed) {
		t.Errorf("a file for a tree: %v", err)
	}
	if _, err := s.Commit(blob); !errors.Is(err, ErrMalformed) {
		t.Errorf("a file for a commit: %v", err)
	}
}

// One tenant's broken directory is an error there, and nowhere else. Native Git
// does not send one; others may.
func TestFetchMalformedTree(t *testing.T) {
	srv, r, _, _ := pushed(t)
	made := NewStore()
	good := made.put(plumbing.BlobObject, []byte("good"))
	bad := made.put(plumbing.TreeObject, []byte(entry("100644", "b")+entry("100644", "a")))
	top := made.put(plumbing.TreeObject, encodeTree([]treeEntry{
		{name: "bad", mode: modeDir, hash: bad}, {name: "good", mode: modeRegular, hash: good},
	}))
	tip, err := made.NewCommit(spec(top, "broken"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := made.unsentBelow([]Hash{tip})
	if err != nil {
		t.Fatal(err)
	}
	pack, err := writePack(whole(objects))
	if err != nil {
		t.Fatal(err)
	}
	srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			_, _ = fmt.Fprintf(w, "000dpackfile\n%04x\x01%s0000", len(pack)+5, pack)
		}
		return req.Method == http.MethodPost
	})
	s := NewStore()
	mustFetch(t, r, s, Want{Tip: tip})
	if got := content(t, s, tip, "good"); got != "good" {
		t.Errorf("content: %q", got)
	}
	if _, err := s.Files(top, "bad"); !errors.Is(err, ErrMalformed) {
		t.Errorf("the broken directory: %v", err)
	}
}

func TestTreesThatExplode(t *testing.T) {
	s := NewStore()
	h := s.put(plumbing.BlobObject, []byte("x"))
	mode := modeRegular
	for range 12 { // ten to the power of twelve files
		var entries []treeEntry
		for i := range 10 {
			entries = append(entries, treeEntry{name: fmt.Sprint(i), mode: mode, hash: h})
		}
		h, mode = s.put(plumbing.TreeObject, encodeTree(entries)), modeDir
	}
	if err := s.Diff(Hash{}, h, "", func(Change) error { return nil }); !errors.Is(err, ErrTooLarge) {
		t.Errorf("wide: %v", err)
	}
	s.Retain(h)
	if n := s.Stats().Objects; n != 13 {
		t.Errorf("%d objects", n)
	}
	for range 1000 {
		h = s.put(plumbing.TreeObject, encodeTree([]treeEntry{{name: "d", mode: modeDir, hash: h}}))
	}
	if _, err := s.Files(h, ""); !errors.Is(err, ErrTooLarge) {
		t.Errorf("deep: %v", err)
	}
}

func TestRetainBoundsMemory(t *testing.T) {
	srv, r, s, tip := pushed(t)
	native := srv.clone()
	var most Stats
	for i := range 30 {
		if i%2 == 0 {
			next := commitOn(t, s, tip, map[string]string{"tenants/acme/f": fmt.Sprint(i)})
			mustPush(t, r, s, main, tip, next)
			tip = next
		} else {
			native.git("pull", "-q", "origin", "main")
			next := native.push("tenants/acme/g", fmt.Sprint(i))
			mustFetch(t, r, s, Want{Tip: next, Have: tip})
			tip = next
		}
		s.Retain(tip)
		if now := s.Stats(); i == 5 {
			most = now
		} else if i > 5 && (now.Objects > most.Objects || now.Bytes > most.Bytes+100) {
			t.Fatalf("step %d: %v, was %v", i, now, most)
		}
	}
	srv.fsck()
}

func TestRetainKeepsWhatIsNotPushed(t *testing.T) {
	srv, r, s, tip := pushed(t)
	a := commitOn(t, s, tip, map[string]string{"a": "only in the middle"})
	b := commitOn(t, s, a, map[string]string{"a": "-", "b": "1"})
	dropped := commitOn(t, s, tip, map[string]string{"c": "1"})
	s.Retain(b)
	if !s.Has(a) || !s.Has(tip) || s.Has(dropped) {
		t.Errorf("kept: %v, %v, %v", s.Has(a), s.Has(tip), s.Has(dropped))
	}
	mustPush(t, r, s, main, tip, b)
	srv.fsck()
}

func TestStoreIsSafeForConcurrentUse(t *testing.T) {
	s := NewStore()
	base := commitOn(t, s, Hash{}, map[string]string{"a": "1"})
	s.pushed(base)
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for n := range 50 {
				h := commitOn(t, s, base, map[string]string{fmt.Sprintf("f%d", i): fmt.Sprint(n)})
				if got := content(t, s, h, fmt.Sprintf("f%d", i)); got != fmt.Sprint(n) {
					t.Errorf("content: %q", got)
				}
				s.pushed(h)
				s.Stats()
			}
		})
	}
	wait.Wait()
}

func TestGraft(t *testing.T) {
	s := NewStore()
	tree := func(files map[string]string) Hash {
		edits := map[string][]byte{}
		for path, text := range files {
			edits[path] = []byte(text)
		}
		h, err := s.Edit(Hash{}, edits)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	from := tree(map[string]string{"a": "1", "d/e": "2", "d/f": "3"})
	entry := func(path string) Entry {
		e, ok, err := s.Lookup(from, path)
		if err != nil || !ok {
			t.Fatal(path, err)
		}
		return e
	}
	for _, tc := range []struct {
		name    string
		root    Hash
		entries map[string]Entry
		want    Hash
	}{
		{"nothing", from, nil, from},
		{"set and remove", tree(map[string]string{"a": "x", "g": "4"}), map[string]Entry{"a": entry("a"), "d/e": entry("d/e"), "g": {}}, tree(map[string]string{"a": "1", "d/e": "2"})},
		{"a file for a directory", tree(map[string]string{"a/b": "x", "c": "y"}), map[string]Entry{"a": entry("a"), "a/b": {}}, tree(map[string]string{"a": "1", "c": "y"})},
		{"a directory for a file", tree(map[string]string{"d": "x"}), map[string]Entry{"d": {}, "d/e": entry("d/e")}, tree(map[string]string{"d/e": "2"})},
		{"one below the other", tree(nil), map[string]Entry{"a": entry("a"), "a/b": entry("d/e")}, tree(map[string]string{"a": "1"})},
		{"to nothing", tree(map[string]string{"a": "x"}), map[string]Entry{"a": {}}, tree(nil)},
	} {
		got, err := s.Graft(tc.root, tc.entries)
		if err != nil || got != tc.want {
			t.Errorf("%s: %s, %v; want %s", tc.name, got, err, tc.want)
		}
	}
	if _, err := s.Graft(from, map[string]Entry{"../x": entry("a")}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a path that leads out: %v", err)
	}
}
