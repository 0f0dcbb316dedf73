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

package gitsync

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/check"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestCheckSaysWhatTheHubSays: of the same files, what `kubelbctl validate` says
// before a push is what the hub says after it, and nobody says more.
func TestCheckSaysWhatTheHubSays(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)

	ada := b.git.clone()
	other := ada.read(acme.path("web"))
	ada.write(acme.path("unknown-field"), strings.ReplaceAll(other, ".web", ".unknown-field")+"  turbo: true\n")
	ada.write(acme.path("two"), other+"---\n"+other)
	ada.write(acme.path("name"), other)
	ada.write(acme.path("text"), "not: [yaml\n")
	ada.write(acme.path("large"), strings.Repeat("#", repo.MaxFileSize+1))
	ada.write(acme.path("empty"), "")
	ada.write(repo.TenantDir(acme.name)+"/notes.txt", "hello\n")
	ada.write(repo.TenantDir(acme.name)+"/README.md", "people may\n")
	ada.write(repo.TenantDir(acme.name)+"/kustomization.yaml", "resources: []\n")
	ada.write(repo.TenantDir(acme.name)+"/loadbalancers/Shop/web.service.yaml", other)
	if err := os.Symlink("web.service.yaml", filepath.Join(ada.dir, acme.path("link"))); err != nil {
		t.Fatal(err)
	}
	said := texts(check.Tree(files(t, ada.dir)).Problems)
	if len(said) < 8 {
		t.Fatalf("only %d problems: %q", len(said), said)
	}
	ada.push("Many mistakes")
	eventually(t, "the hub says the same", func() string {
		var state v1alpha1.TenantState
		if err := b.client.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.TenantNamespace(acme.name), Name: v1alpha1.DefaultName}, &state); err != nil {
			return err.Error()
		}
		if hub := texts(state.Status.Problems); !slices.Equal(hub, said) {
			return fmt.Sprintf("the hub says\n%s\ncheck says\n%s", strings.Join(hub, "\n"), strings.Join(said, "\n"))
		}
		return ""
	})
	acme.hasPorts("web", 80)
}

func texts(problems []v1alpha1.Problem) (out []string) {
	for _, p := range problems {
		out = append(out, fmt.Sprintf("%s|%s|%s|%s|%s|%s", p.Path, p.Object, p.Field, p.Reason, p.Message, p.Remedy))
	}
	slices.Sort(out)
	return out
}

// files reads a working tree.
func files(t *testing.T, dir string) repo.Tree {
	t.Helper()
	tree := repo.Tree{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, _ := filepath.Rel(dir, name)
		switch {
		case d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case d.IsDir():
			return nil
		case d.Type()&os.ModeSymlink != 0:
			tree[path] = repo.File{Mode: repo.Symlink}
			return nil
		}
		data, err := os.ReadFile(name)
		file := repo.NewFile(data)
		if file.Size > repo.MaxFileSize {
			file.Data = nil
		}
		tree[path] = file
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
