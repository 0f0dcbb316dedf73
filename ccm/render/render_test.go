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

package render_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden renders testdata/<case>/in and compares with testdata/<case>/out:
// the files of the intent branch, and problems.yaml.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/in")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, in := range cases {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			input := read(t, in)
			before := clone(t, input)
			output := render.Render(input)
			if !reflect.DeepEqual(input, before) {
				t.Error("the input was changed")
			}
			compare(t, filepath.Join(dir, "out"), files(t, output))
			for range 5 {
				shuffle(&input)
				if again := render.Render(input); !reflect.DeepEqual(files(t, again), files(t, output)) {
					t.Error("another order of the objects gives other bytes")
				}
			}
			for _, d := range output.Documents {
				if _, problems := repo.Decode(d.Path, repo.NewFile(d.Data)); len(problems) > 0 {
					t.Errorf("%s: the hub would refuse it: %v", d.Path, problems)
				}
			}
		})
	}
}

func read(t *testing.T, dir string) render.Input {
	t.Helper()
	in := render.Input{Options: render.Options{Tenant: "acme", NodeAddressType: corev1.NodeExternalIP}}
	names, err := filepath.Glob(dir + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(data, []byte("\n---\n")) {
			var head struct{ Kind string }
			if err := yaml.Unmarshal(document, &head); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			switch head.Kind {
			case "Service":
				in.Services = append(in.Services, corev1.Service{})
				decode(t, document, &in.Services[len(in.Services)-1])
			case "Node":
				in.Nodes = append(in.Nodes, corev1.Node{})
				decode(t, document, &in.Nodes[len(in.Nodes)-1])
			default:
				decode(t, document, &in.Options)
			}
		}
	}
	return in
}

func decode(t *testing.T, document []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(document, into); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
}

func clone(t *testing.T, in render.Input) render.Input {
	t.Helper()
	out := render.Input{Options: in.Options}
	for i := range in.Services {
		out.Services = append(out.Services, *in.Services[i].DeepCopy())
	}
	for i := range in.Nodes {
		out.Nodes = append(out.Nodes, *in.Nodes[i].DeepCopy())
	}
	return out
}

func shuffle(in *render.Input) {
	rand.Shuffle(len(in.Services), func(i, j int) { in.Services[i], in.Services[j] = in.Services[j], in.Services[i] })
	rand.Shuffle(len(in.Nodes), func(i, j int) { in.Nodes[i], in.Nodes[j] = in.Nodes[j], in.Nodes[i] })
	for n := range in.Nodes {
		a := in.Nodes[n].Status.Addresses
		rand.Shuffle(len(a), func(i, j int) { a[i], a[j] = a[j], a[i] })
	}
}

func files(t *testing.T, output render.Output) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, d := range output.Documents {
		out[d.Path] = string(d.Data)
	}
	if len(output.Problems) > 0 {
		data, err := yaml.Marshal(output.Problems)
		if err != nil {
			t.Fatal(err)
		}
		out["problems.yaml"] = string(data)
	}
	return out
}

// compare compares a folder with files, or makes it that.
func compare(t *testing.T, dir string, got map[string]string) {
	t.Helper()
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		for path, data := range got {
			full := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(full, []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	want := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		want[strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(dir)+"/")] = string(data)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for path, data := range want {
		if got[path] != data {
			t.Errorf("%s: got\n%s\nwant\n%s", path, got[path], data)
		}
	}
	for path, data := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: not wanted:\n%s", path, data)
		}
	}
}
