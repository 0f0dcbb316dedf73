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

package translate

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kubelb/gitops/xds/ir"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite testdata/*/out.yaml")

// TestGolden translates testdata/<case>/in.yaml, an ir.Part, and compares with
// out.yaml beside it.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no cases", err)
	}
	for _, in := range inputs {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got := render(t, read(t, in))
			out := filepath.Join(dir, "out.yaml")
			if *update {
				if err := os.WriteFile(out, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (go test -update writes it anew):\n%s", out, got)
			}
		})
	}
	removeStale(t)
}

// removeStale drops outputs without an input when updating, else reports them.
func removeStale(t *testing.T) {
	outputs, err := filepath.Glob("testdata/*/out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range outputs {
		dir := filepath.Dir(out)
		if _, err := os.Stat(filepath.Join(dir, "in.yaml")); err == nil {
			continue
		}
		if !*update {
			t.Errorf("%s has no in.yaml", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

func read(t *testing.T, path string) (p ir.Part) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// render is the result of a translation as YAML, or its error.
func render(t *testing.T, p ir.Part) []byte {
	t.Helper()
	config, err := Part(p)
	result := map[string]any{}
	if err != nil {
		result["error"] = strings.Split(err.Error(), "\n")
	} else {
		result["clusters"] = plain(t, config.Clusters)
		result["assignments"] = plain(t, config.Assignments)
		result["listeners"] = plain(t, config.Listeners)
	}
	text, err := yaml.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// plain resolves every Any, so a type that is not linked in fails here.
func plain[M proto.Message](t *testing.T, messages []M) []json.RawMessage {
	t.Helper()
	out := []json.RawMessage{}
	for _, m := range messages {
		text, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	return out
}

func encodeAll(t *testing.T, p ir.Part) (versions []string) {
	t.Helper()
	config, err := Part(p)
	if err != nil {
		t.Fatal(err)
	}
	add := func(m proto.Message) {
		_, version, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, version)
	}
	for _, m := range config.Clusters {
		add(m)
	}
	for _, m := range config.Assignments {
		add(m)
	}
	for _, m := range config.Listeners {
		add(m)
	}
	return versions
}

func TestShuffledPartsGiveEqualBytes(t *testing.T) {
	p := read(t, "testdata/several-ports/in.yaml")
	want := encodeAll(t, p)
	slices.Reverse(p.Listeners)
	slices.Reverse(p.Clusters)
	for i := range p.Clusters {
		slices.Reverse(p.Clusters[i].Endpoints)
	}
	for i := range p.Listeners {
		slices.Reverse(p.Listeners[i].SourceRanges)
	}
	if got := encodeAll(t, p); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestEndpointsAreInTheAssignmentOnly(t *testing.T) {
	p := read(t, "testdata/tcp/in.yaml")
	before, err := Part(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Clusters[0].Endpoints = append(p.Clusters[0].Endpoints, ir.Endpoint{Address: "192.0.2.99", Port: 1})
	after, err := Part(p)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before.Clusters[0], after.Clusters[0]) || !proto.Equal(before.Listeners[0], after.Listeners[0]) {
		t.Error("a change of endpoints changed the cluster or the listener")
	}
	if proto.Equal(before.Assignments[0], after.Assignments[0]) {
		t.Error("a change of endpoints did not change the assignment")
	}
}

func TestNamesThatCannotBeEncodedAreRefused(t *testing.T) {
	p := read(t, "testdata/tcp/in.yaml")
	p.Clusters[0].Name, p.Listeners[0].Cluster = "\xff", "\xff"
	config, err := Part(p)
	if err == nil {
		_, _, err = Encode(config.Clusters[0])
	}
	if err == nil {
		t.Error("accepted")
	}
}
