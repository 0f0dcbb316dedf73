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

package v1alpha1_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/yaml"
)

// schemas returns the OpenAPI schemas of the CRDs by kind.
func schemas(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob("../../deploy/crds/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs: %v", err)
	}
	out := map[string]map[string]any{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Names struct {
					Kind string `json:"kind"`
				} `json:"names"`
				Versions []struct {
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					} `json:"schema"`
				} `json:"versions"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatal(err)
		}
		out[crd.Spec.Names.Kind] = crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	}
	return out
}

// walk calls fn for every property of a schema; elements of lists have the path
// of the list.
func walk(at string, schema map[string]any, fn func(path string, schema map[string]any)) {
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		property := p.(map[string]any)
		path := strings.TrimPrefix(at+"."+name, ".")
		fn(path, property)
		walk(path, property, fn)
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, ok := schema[key].(map[string]any); ok {
			walk(at, inner, fn)
		}
	}
}

func TestMergeKeysAreThoseOfTheCRDs(t *testing.T) {
	for kind, schema := range schemas(t) {
		switch kind {
		case v1alpha1.KindLoadBalancer, v1alpha1.KindRoute, v1alpha1.KindSyncSecret, v1alpha1.KindBackend, v1alpha1.KindAddresses:
		default:
			continue // not in Git
		}
		want := map[string][]string{}
		walk("", schema, func(path string, s map[string]any) {
			if keys, ok := s["x-kubernetes-list-map-keys"].([]any); ok && !strings.HasPrefix(path, "status") {
				for _, key := range keys {
					want[path] = append(want[path], key.(string))
				}
			}
		})
		if got := v1alpha1.MergeKeys(kind); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, the CRD has %v", kind, got, want)
		}
	}
}

func TestDefaultsAreThoseOfTheCRDs(t *testing.T) {
	// What the hub reads into absent fields without the API server's help.
	own := map[string]map[string]string{
		v1alpha1.KindLoadBalancer: {"spec.externalTrafficPolicy": "Cluster", "spec.lbPolicy": "RoundRobin"},
	}
	for kind, schema := range schemas(t) {
		got := v1alpha1.Defaults(kind)
		if got == nil {
			continue
		}
		want := maps.Clone(own[kind])
		if want == nil {
			want = map[string]string{}
		}
		walk("", schema, func(path string, s map[string]any) {
			if value, ok := s["default"]; ok && strings.HasPrefix(path, "spec") {
				want[path] = fmt.Sprint(value)
			}
		})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, the CRD has %v", kind, got, want)
		}
	}
}

func TestEveryFieldIsExplained(t *testing.T) {
	for kind, schema := range schemas(t) {
		if text, _ := schema["description"].(string); text == "" {
			t.Errorf("%s has no description", kind)
		}
		var missing []string
		walk("", schema, func(path string, s map[string]any) {
			if text, _ := s["description"].(string); text == "" && path != "metadata" {
				missing = append(missing, path)
			}
		})
		slices.Sort(missing)
		for _, path := range missing {
			t.Errorf("%s: %s has no description", kind, path)
		}
	}
}
