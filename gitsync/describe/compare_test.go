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

package describe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/kubelb/gitops/api/repo"
)

// TestTrees compares testdata/trees/<case>/before with after.
func TestTrees(t *testing.T) {
	dirs, err := filepath.Glob("testdata/trees/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			before, after := tree(t, filepath.Join(dir, "before")), tree(t, filepath.Join(dir, "after"))
			s := Compare(before, after)
			data, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			compareFile(t, filepath.Join(dir, "summary.json"), append(data, '\n'))
			compareFile(t, filepath.Join(dir, "summary.txt"), []byte(s.Title()+"\n\n"+s.Text()))
			compareFile(t, filepath.Join(dir, "summary.md"), []byte(s.Markdown()))
			if again := Compare(maps.Clone(before), maps.Clone(after)); again.Markdown() != s.Markdown() || again.Text() != s.Text() {
				t.Error("the same trees are described otherwise the second time")
			}
			for _, same := range []repo.Tree{before, after} {
				if s := Compare(same, maps.Clone(same)); !s.Empty() || s.Title() != "no change" {
					t.Errorf("a tree differs from itself: %s", s.Text())
				}
			}
			for _, text := range []string{s.Text(), s.Markdown(), s.Title()} {
				if strings.Contains(text, "b25l") || strings.Contains(text, "dHdv") {
					t.Error("shows sealed data")
				}
				if strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) >= 0 {
					t.Errorf("has control characters: %q", text)
				}
			}
		})
	}
}

func compareFile(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s: want\n%s\ngot\n%s", file, want, got)
	}
}

func tree(t *testing.T, dir string) repo.Tree {
	t.Helper()
	out := repo.Tree{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = repo.NewFile(data)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return out
}

// TestHostileStringsStayText: what a tenant writes is no markup, mention or
// reference outside code, and does not leave its cell.
func TestHostileStringsStayText(t *testing.T) {
	after := tree(t, "testdata/trees/hostile/after")
	for _, path := range []string{
		"tenants/acme/loadbalancers/shop/@team `Fixes #1` |<b>.service.yaml", "tenants/a@b`|/x", "tenants/acme/\x1b[31m\u202e/x", "evil`|<b>.txt",
		"tenants/acme/loadbalancers/shop/Closes GH-1.service.yaml", "tenants/acme/www.evil.example https://evil.example",
	} {
		after[path] = repo.NewFile([]byte("x"))
	}
	s := Compare(tree(t, "testdata/trees/hostile/before"), after)
	for n, line := range strings.Split(s.Markdown(), "\n") {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 4 {
			t.Errorf("line %d has other cells: %s", n+1, line)
		}
		if bare := outsideCode(line); strings.ContainsAny(bare, "@<>`\\&") || strings.Contains(bare, "://") || strings.Contains(strings.TrimLeft(bare, "#"), "#") || strings.Contains(bare, "GH-") {
			t.Errorf("line %d has markup of a tenant: %s", n+1, bare)
		}
	}
	titles := []string{s.Title()}
	for _, tenant := range s.Tenants {
		for _, o := range tenant.Objects {
			titles = append(titles, Summary{Tenants: []Tenant{{tenant.Name, []Object{o}}}}.Title())
		}
	}
	titles = append(titles, Summary{Files: s.Files}.Title())
	for _, title := range titles {
		if strings.ContainsAny(title, "@#`<>|!\n\x1b\u202e") || strings.Contains(title, "GH-") || strings.Contains(title, "://") {
			t.Errorf("title %q means something to a forge", title)
		}
	}
}

// outsideCode drops code spans and code elements of a line.
func outsideCode(line string) string {
	var out strings.Builder
	for line != "" {
		switch {
		case strings.HasPrefix(line, "`"):
			_, line, _ = strings.Cut(line[1:], "`")
		case strings.HasPrefix(line, "<code>"):
			inside, rest, ok := strings.Cut(line[6:], "</code>")
			if !ok || strings.ContainsAny(inside, "<>`|@[]*\\\n") {
				return "@ open element: " + line
			}
			line = rest
		default:
			out.WriteByte(line[0])
			line = line[1:]
		}
	}
	return out.String()
}

// TestSizeIsBounded: however much changes, a forge takes the Markdown, and the
// counts are complete.
func TestSizeIsBounded(t *testing.T) {
	web := tree(t, "testdata/trees/created/after")["tenants/acme/loadbalancers/shop/web.service.yaml"].Data
	after := repo.Tree{}
	for n := range 1200 {
		name := fmt.Sprintf("web%04d", n)
		text := strings.ReplaceAll(strings.ReplaceAll(string(web), "shop.web", "shop."+name), "origin-name: web", "origin-name: "+name)
		after["tenants/acme/loadbalancers/shop/"+name+".service.yaml"] = repo.NewFile([]byte(text))
		after[fmt.Sprintf("tenants/acme/%s/%d", strings.Repeat("<", 500), n)] = repo.NewFile([]byte("x"))
		after[fmt.Sprintf("%s%d", strings.Repeat("|", 200), n)] = repo.NewFile([]byte("x"))
	}
	s := Compare(nil, after)
	md := s.Markdown()
	if len(md) > maxBytes || utf8.RuneCountInString(s.Title()) > maxSubject+20 {
		t.Errorf("%d bytes of Markdown, title %q", len(md), s.Title())
	}
	if !strings.Contains(md, "1200 created, 1200 broken") || !strings.Contains(md, "more: ") {
		t.Errorf("the counts are not complete: %.500s", md)
	}
	if text := s.Text(); strings.Count(text, "\n") > 12*maxText || !strings.Contains(text, "more: ") {
		t.Errorf("%d lines of text", strings.Count(text, "\n"))
	}
}

// TestAssignedAddressesAreShown where the caller knows them.
func TestAssignedAddressesAreShown(t *testing.T) {
	const dir = "testdata/trees/port-added/"
	s := CompareAt(tree(t, dir+"before"), tree(t, dir+"after"), map[string][]string{"tenants/acme/loadbalancers/shop/web.service.yaml": {"192.0.2.7"}})
	if !strings.Contains(s.Text(), "Service shop/web changed (192.0.2.7)") || !strings.Contains(s.Markdown(), "changed at `192.0.2.7`") {
		t.Errorf("no address:\n%s\n%s", s.Text(), s.Markdown())
	}
}
