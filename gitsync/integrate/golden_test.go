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

package integrate

import (
	"bytes"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const tenant = "acme"

// stepFile is step.yaml of a case: what Input has beside the trees. Its comment
// says which rule the case is for.
type stepFile struct {
	Decided   int  `json:"decided"`
	Deletes   int  `json:"deletes"`
	Confirmed bool `json:"confirmed"`
	Review    bool `json:"review"`
	Closed    bool `json:"closed"`
}

// report is want/report.yaml of a case: what Result has beside the trees.
type report struct {
	Held       []v1alpha1.HeldField    `json:"held,omitempty"`
	Pending    []v1alpha1.PendingField `json:"pending,omitempty"`
	Problems   []v1alpha1.Problem      `json:"problems,omitempty"`
	SourceGone []string                `json:"sourceGone,omitempty"`
	Guarded    bool                    `json:"guarded,omitempty"`
}

// TestGolden runs testdata/<case>: the folders intent, base, main and proposed
// hold tenants/acme, want holds what main, base and the review become.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/step.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			in := readInput(t, dir)
			result := Integrate(in)
			got := want(t, in, result)
			if *update {
				writeWant(t, filepath.Join(dir, "want"), got)
			}
			compare(t, readFiles(t, filepath.Join(dir, "want")), got)
			checkEdits(t, in, result)
		})
	}
}

func readInput(t *testing.T, dir string) Input {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "step.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var step stepFile
	if err := yaml.UnmarshalStrict(data, &step); err != nil {
		t.Fatal(err)
	}
	in := Input{
		Tenant: tenant, Intent: readTree(t, dir, "intent"), Base: readTree(t, dir, "base"), Main: readTree(t, dir, "main"),
		Decided: step.Decided, Deletes: step.Deletes, Confirmed: step.Confirmed, Review: step.Review, Closed: step.Closed,
	}
	if proposed := readTree(t, dir, "proposed"); len(proposed) > 0 {
		in.Proposed = proposed
	}
	return in
}

func readTree(t *testing.T, dir, name string) repo.Tree {
	t.Helper()
	tree := repo.Tree{}
	for path, data := range readFiles(t, filepath.Join(dir, name)) {
		tree[repo.TenantDir(tenant)+"/"+path] = repo.NewFile(data)
	}
	return tree
}

func readFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = data
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return files
}

// want lays a result out as the files of a want folder.
func want(t *testing.T, in Input, result Result) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for name, tree := range map[string]repo.Tree{
		"main": apply(in.Main, result.Main), "base": apply(in.Base, result.Base), "review": apply(nil, result.Review),
	} {
		for path, file := range tree {
			files[name+"/"+strings.TrimPrefix(path, repo.TenantDir(tenant)+"/")] = file.Data
		}
	}
	data, err := yaml.Marshal(report{Held: result.Held, Pending: result.Pending, Problems: result.Problems, SourceGone: result.SourceGone, Guarded: result.Guarded})
	if err != nil {
		t.Fatal(err)
	}
	files["report.yaml"] = data
	return files
}

// apply returns a tree with edits made, and leaves the tree alone.
func apply(tree repo.Tree, edits map[string][]byte) repo.Tree {
	out := repo.Tree{}
	maps.Copy(out, tree)
	for path, data := range edits {
		delete(out, path)
		if data != nil {
			out[path] = repo.NewFile(data)
		}
	}
	return out
}

func writeWant(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func compare(t *testing.T, want, got map[string][]byte) {
	t.Helper()
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w, wanted := want[name]
		g, is := got[name]
		if wanted != is || !bytes.Equal(w, g) {
			t.Errorf("%s (wanted: %v, there: %v)\n--- want\n%s--- got\n%s", name, wanted, is, w, g)
		}
	}
}

// checkEdits tests what is true of every result: a second step changes nothing,
// no edit is void, and what was written is canonical and valid.
func checkEdits(t rapid.TB, in Input, result Result) {
	t.Helper()
	for name, side := range map[string]struct {
		tree  repo.Tree
		edits map[string][]byte
	}{"main": {in.Main, result.Main}, "base": {in.Base, result.Base}} {
		for path, data := range side.edits {
			old, ok := side.tree[path]
			if data == nil && !ok || ok && bytes.Equal(old.Data, data) {
				t.Errorf("%s: void edit of %s", name, path)
			}
		}
	}
	for name, edits := range map[string]map[string][]byte{"main": result.Main, "review": result.Review} {
		for path, data := range edits {
			if data == nil {
				continue
			}
			object, problems := repo.Decode(path, repo.NewFile(data))
			if len(problems) > 0 {
				t.Errorf("%s got an invalid %s: %v", name, path, problems)
				continue
			}
			if canonical, err := repo.Encode(object); err != nil || !bytes.Equal(canonical, data) {
				t.Errorf("%s got %s in another form than the canonical one: %v\n%s", name, path, err, data)
			}
		}
	}
	again := in
	again.Main, again.Base = apply(in.Main, result.Main), apply(in.Base, result.Base)
	again.Decided += len(decided(again.Base)) - len(decided(in.Base))
	if again.Closed {
		again.Proposed, again.Closed = nil, false
	}
	second := Integrate(again)
	if len(second.Main)+len(second.Base) > 0 {
		t.Errorf("a second step edits main %q and base %q", second.Main, second.Base)
	}
	if !maps.EqualFunc(second.Review, result.Review, bytes.Equal) {
		t.Errorf("a second step proposes %q instead of %q", second.Review, result.Review)
	}
}

func decided(tree repo.Tree) []string {
	return slices.DeleteFunc(tree.Paths(), func(path string) bool {
		p, err := repo.ParsePath(path)
		return err != nil || p.Fact()
	})
}
