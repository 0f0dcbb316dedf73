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

package plan_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/plan"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

const tenant = "acme"

// golden is what want.yaml holds.
type golden struct {
	Apply    []string           `json:"apply,omitempty"`
	Prune    []string           `json:"prune,omitempty"`
	Problems []v1alpha1.Problem `json:"problems,omitempty"`
}

// TestGolden plans each folder of testdata, as a change and in full: main is what
// is there now, before is what was applied.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			main, before := read(t, filepath.Join(dir, "main")), read(t, filepath.Join(dir, "before"))
			var changes []plan.Change
			for path, file := range main {
				if old, ok := before[path]; !ok || !bytes.Equal(old.Data, file.Data) {
					changes = append(changes, plan.Change{Path: path, File: &file})
				}
			}
			var inventory []plan.Ref
			for path := range before {
				if _, ok := main[path]; !ok {
					changes = append(changes, plan.Change{Path: path})
				}
				if ref, err := plan.RefOf(tenant, path); err == nil {
					inventory = append(inventory, ref)
				}
			}
			changed := plan.Changed(tenant, changes)
			compare(t, filepath.Join(dir, "changed.yaml"), changed)
			slices.Reverse(changes)
			if again := plan.Changed(tenant, changes); encode(t, again) != encode(t, changed) {
				t.Error("another order of changes gives another plan")
			}
			compare(t, filepath.Join(dir, "full.yaml"), plan.Full(tenant, main, inventory))
		})
	}
}

func read(t *testing.T, dir string) repo.Tree {
	t.Helper()
	tree := repo.Tree{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		tree[filepath.ToSlash(strings.TrimPrefix(path, dir+string(filepath.Separator)))] = repo.NewFile(data)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return tree
}

func encode(t *testing.T, p plan.Plan) string {
	t.Helper()
	var g golden
	for _, item := range p.Apply {
		g.Apply = append(g.Apply, fmt.Sprintf("%s → %T %s/%s", item.Path, item.Object, item.Object.GetNamespace(), item.Object.GetName()))
	}
	for _, ref := range p.Prune {
		g.Prune = append(g.Prune, fmt.Sprintf("%s → %s %s/%s", ref.Path, ref.Kind, ref.Namespace, ref.Name))
	}
	g.Problems = p.Problems
	text, err := yaml.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func compare(t *testing.T, file string, p plan.Plan) {
	t.Helper()
	got := encode(t, p)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s\ngot:\n%s", file, want, got)
	}
}

const path = "tenants/acme/loadbalancers/shop/web.service.yaml"

func TestHostileFilesKeepWhatIsApplied(t *testing.T) {
	for name, file := range map[string]repo.File{
		"symbolic link": {Mode: repo.Symlink},
		"submodule":     {Mode: repo.Submodule},
		"too large":     {Size: repo.MaxFileSize + 1},
		"not UTF-8":     repo.NewFile([]byte{0xff, 0xfe}),
		"alias bomb":    repo.NewFile([]byte("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")),
		"empty":         repo.NewFile(nil),
	} {
		t.Run(name, func(t *testing.T) {
			ref, err := plan.RefOf(tenant, path)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []plan.Plan{
				plan.Changed(tenant, []plan.Change{{Path: path, File: &file}}),
				plan.Full(tenant, repo.Tree{path: file}, []plan.Ref{ref}),
			} {
				if len(p.Apply)+len(p.Prune) > 0 || len(p.Problems) != 1 || p.Problems[0].Remedy == "" {
					t.Errorf("planned %+v", p)
				}
			}
		})
	}
}

func TestRefOfRefusesOtherTenants(t *testing.T) {
	for _, path := range []string{"tenants/globex/loadbalancers/shop/web.service.yaml", "README.md", "tenants/acme/x/y/z.yaml", "../etc/passwd"} {
		if ref, err := plan.RefOf(tenant, path); err == nil {
			t.Errorf("%s is %+v", path, ref)
		}
	}
}

func TestGuard(t *testing.T) {
	refs := func(n int) (refs []plan.Ref) {
		for i := range n {
			refs = append(refs, plan.Ref{Path: fmt.Sprintf("tenants/acme/loadbalancers/shop/web%d.service.yaml", i)})
		}
		return refs
	}
	hub := func(n int) map[string]bool {
		m := map[string]bool{}
		for _, ref := range refs(n) {
			m[ref.Path] = true
		}
		return m
	}
	fact := plan.Ref{Path: "tenants/acme/backends/shop/web0.service.yaml"}
	for _, c := range []struct {
		reason        string
		prune         []plan.Ref
		removals      plan.Removals
		allowed, kept int
	}{
		{"five are never too many", refs(5), plan.Removals{Wishes: 5}, 5, 0},
		{"half is not more than half", refs(6), plan.Removals{Wishes: 12}, 6, 0},
		{"six of eleven are too many", refs(6), plan.Removals{Wishes: 11}, 0, 6},
		{"confirmed", refs(6), plan.Removals{Wishes: 6, Confirmed: true}, 6, 0},
		{"the hub's own removals were guarded before", refs(6), plan.Removals{Wishes: 6, ByHub: hub(6)}, 6, 0},
		{"the hub's own removals pass beside guarded ones", refs(12), plan.Removals{Wishes: 12, ByHub: hub(5)}, 5, 7},
		{"facts do not count, and wait with the wishes", append(refs(6), fact), plan.Removals{Wishes: 6}, 0, 7},
		{"facts alone are never guarded", []plan.Ref{fact, fact, fact, fact, fact, fact}, plan.Removals{Wishes: 0}, 6, 0},
		{"nothing", nil, plan.Removals{}, 0, 0},
	} {
		t.Run(c.reason, func(t *testing.T) {
			allowed, guarded := plan.Guard(c.prune, c.removals)
			if len(allowed) != c.allowed || len(guarded) != c.kept {
				t.Errorf("allowed %d, guarded %d, want %d and %d", len(allowed), len(guarded), c.allowed, c.kept)
			}
		})
	}
}
