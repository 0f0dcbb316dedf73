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
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kubelb/gitops/api/repo"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden describes the change of testdata/documents/<case>/before.yaml to after.yaml.
// The first line of want.txt is the subject, the others are the changes.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob("testdata/documents/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			before, path := read(t, dir, "before")
			after, now := read(t, dir, "after")
			if now != "" {
				path = now
			}
			var got bytes.Buffer
			subject := Subject("acme", path, before, after)
			fmt.Fprintln(&got, subject)
			for _, c := range Changes(before, after) {
				fmt.Fprintf(&got, "\nfield:  %s\nbefore: %s\nafter:  %s\ntext:   %s\n", c.Field, c.Before, c.After, c.Text)
			}
			file := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, got.Bytes()) {
				t.Errorf("want\n%sgot\n%s", want, got.Bytes())
			}
			if n := utf8.RuneCountInString(subject); n > maxSubject+20 {
				t.Errorf("the subject has %d characters", n)
			}
		})
	}
}

// read returns a document of a case, nil if there is none, and its path.
func read(t *testing.T, dir, name string) (repo.Object, string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name+".yaml"))
	if os.IsNotExist(err) {
		return nil, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"loadbalancers/shop/web.service.yaml", "routes/shop/web.httproute.yaml",
		"syncsecrets/shop/cert.secret.yaml", "addresses/default.yaml", "backends/shop/web.service.yaml",
	} {
		path = repo.TenantDir("acme") + "/" + path
		if object, problems := repo.Decode(path, repo.NewFile(data)); len(problems) == 0 {
			return object, path
		}
	}
	t.Fatalf("%s/%s.yaml is no document of the tests", dir, name)
	return nil, ""
}

// TestLongSubject: no name makes a subject longer than tools show, and no cut
// breaks a character.
func TestLongSubject(t *testing.T) {
	before, _ := read(t, "testdata/documents/policy-set", "before")
	after, _ := read(t, "testdata/documents/policy-set", "after")
	path := "tenants/acme/loadbalancers/shop/" + strings.Repeat("a", 150) + ".service.yaml"
	for _, subject := range []string{Subject("acme", path, before, after), Subject("acme", path, nil, after), Subject("acme", path, before, nil), Subject("acme", "über/"+path, before, nil)} {
		if n := utf8.RuneCountInString(subject); n > maxSubject+20 || !utf8.ValidString(subject) || !strings.HasSuffix(subject, "…") {
			t.Errorf("%d characters: %s", n, subject)
		}
	}
}

func TestFacts(t *testing.T) {
	for _, c := range []struct {
		nodes, backends int
		want            string
	}{
		{2, 1, "acme: 2 nodes, 1 backend changed"},
		{1, 0, "acme: 1 node changed"},
		{0, 3, "acme: 3 backends changed"},
		{0, 0, "acme: facts rewritten without a change"},
	} {
		if got := Facts("acme", c.nodes, c.backends); got != c.want {
			t.Errorf("Facts(%d, %d) = %q, want %q", c.nodes, c.backends, got, c.want)
		}
	}
}

func TestNodes(t *testing.T) {
	before, _ := read(t, "testdata/documents/nodes-changed", "before")
	after, _ := read(t, "testdata/documents/nodes-changed", "after")
	for _, c := range []struct {
		name          string
		before, after repo.Object
		want          int
	}{
		{"one went, one came", before, after, 2},
		{"the first ones", nil, after, 2},
		{"all went", before, nil, 2},
		{"no change", before, before, 0},
	} {
		if got := Nodes(c.before, c.after); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
