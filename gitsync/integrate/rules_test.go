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
	"fmt"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/yaml"
)

// TestGuardCounts: of any documents that vanish, more than half and more than
// five stop every wish, unless the tenant's deletions account for all of them.
func TestGuardCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Input{Tenant: tenant, Intent: repo.Tree{}, Base: repo.Tree{}}
		in.Decided = rapid.IntRange(0, 16).Draw(t, "decided")
		gone := rapid.IntRange(0, in.Decided).Draw(t, "gone")
		in.Deletes = rapid.IntRange(0, 16).Draw(t, "deletes")
		for n := range in.Decided {
			name := fmt.Sprintf("s%d", n)
			in.Base[wishPath(name)] = wishFile(name, 80)
			in.Base[backendPath(name)] = backendFile(name, n)
			if n >= gone {
				in.Intent[wishPath(name)], in.Intent[backendPath(name)] = wishFile(name, 81), backendFile(name, n+100)
			}
		}
		in.Main = maps.Clone(in.Base)
		result := Integrate(narrow(in))
		if guarded := gone > 5 && 2*gone > in.Decided && in.Deletes < gone; guarded != result.Guarded {
			t.Fatalf("%d of %d gone, %d deleted: guarded %v", gone, in.Decided, in.Deletes, result.Guarded)
		}
		for path, data := range result.Main {
			p, err := repo.ParsePath(path)
			if err != nil || result.Guarded && (!p.Fact() || data == nil) {
				t.Fatalf("%s moved although the guard is on", path)
			}
		}
		if want := 2 * in.Decided; !result.Guarded && len(result.Main) != want {
			t.Fatalf("%d edits, not %d", len(result.Main), want)
		}
		checkEdits(t, in, result)
	})
}

func wishFile(name string, port int32) repo.File {
	return file(&v1alpha1.LoadBalancer{ObjectMeta: meta(name), Spec: v1alpha1.LoadBalancerSpec{
		Endpoints: []v1alpha1.LoadBalancerEndpoints{{Name: "default", Addresses: []v1alpha1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []v1alpha1.EndpointPort{{Name: "a", Port: 8080}}}},
		Ports:     []v1alpha1.LoadBalancerPort{{Name: "a", Port: port, Protocol: "TCP"}},
	}})
}

// TestInputStays: the same input gives the same result, and is left alone.
func TestInputStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.Bool().Draw(t, "reviewed"), true)
		for range 6 {
			w.tenant(t)
			w.person(t)
			if rapid.Bool().Draw(t, "hub") {
				w.hub(99, nil)
			}
		}
		in := w.input()
		before := Input{Intent: clone(in.Intent), Base: clone(in.Base), Main: clone(in.Main), Proposed: clone(in.Proposed)}
		first, second := Integrate(in), Integrate(in)
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v\n%+v", first, second)
		}
		if !equalTrees(before.Intent, in.Intent) || !equalTrees(before.Base, in.Base) || !equalTrees(before.Main, in.Main) || !equalTrees(before.Proposed, in.Proposed) {
			t.Fatal("the input was changed")
		}
	})
}

func clone(tree repo.Tree) repo.Tree {
	out := repo.Tree{}
	for path, file := range tree {
		file.Data = append([]byte(nil), file.Data...)
		out[path] = file
	}
	return out
}

// TestForeignEntries: what only Git can hold is a problem, on main and off it.
func TestForeignEntries(t *testing.T) {
	link := repo.File{Mode: repo.Symlink, Size: 9}
	decided := repo.Tree{wishPath("a"): wishFile("a", 80), backendPath("a"): backendFile("a", 1)}
	other := "tenants/globex/loadbalancers/shop/a.service.yaml"
	for name, c := range map[string]struct {
		intent, main repo.Tree
		problems     int
		edits        int
	}{
		"links in the intent change nothing":    {repo.Tree{wishPath("a"): link, backendPath("a"): link}, decided, 2, 0},
		"a link on main waits for people":       {decided, repo.Tree{wishPath("a"): link, backendPath("a"): decided[backendPath("a")]}, 1, 0},
		"a link in place of a fact is replaced": {decided, repo.Tree{wishPath("a"): decided[wishPath("a")], backendPath("a"): link}, 0, 1},
		"another tenant's file is not carried":  {repo.Tree{wishPath("a"): wishFile("a", 80), backendPath("a"): backendFile("a", 1), other: wishFile("a", 80)}, decided, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			result := Integrate(Input{Tenant: tenant, Intent: c.intent, Base: decided, Main: c.main, Decided: 1})
			if len(result.Problems) != c.problems || len(result.Main) != c.edits || len(result.Base) != 0 {
				t.Errorf("problems %v, main %q, base %q", result.Problems, result.Main, result.Base)
			}
		})
	}
}

// TestDefaults: whatever the API server fills in means the same as nothing.
func TestDefaults(t *testing.T) {
	for kind, file := range map[string]string{
		v1alpha1.KindLoadBalancer: "loadbalancers", v1alpha1.KindRoute: "routes", v1alpha1.KindSyncSecret: "syncsecrets",
	} {
		data, err := os.ReadFile("../../deploy/crds/kubelb.k8c.io_" + file + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Versions []struct {
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					} `json:"schema"`
				} `json:"versions"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal(data, &crd); err != nil || len(crd.Spec.Versions) == 0 {
			t.Fatalf("%s: %v", file, err)
		}
		eachDefault("", crd.Spec.Versions[0].Schema.OpenAPIV3Schema, func(path string, value any) {
			if got := v1alpha1.Defaults(kind)[path]; !strings.HasPrefix(path, "status.") && got != value {
				t.Errorf("%s: the CRD's default of %s is %v, Defaults has %q", kind, path, value, got)
			}
		})
	}
}

func eachDefault(at string, schema map[string]any, report func(path string, value any)) {
	if value, ok := schema["default"]; ok {
		report(at, value)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		eachDefault(at, items, report)
	}
	properties, _ := schema["properties"].(map[string]any)
	for key, property := range properties {
		if property, ok := property.(map[string]any); ok {
			eachDefault(join(at, key), property, report)
		}
	}
}
