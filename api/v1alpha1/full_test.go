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
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		panic(err)
	}
	return s
}()

// full returns the documents of testdata/full by their file's name: together
// they use every field of every kind.
func full(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/full/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		if out[filepath.Base(file)], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// typed decodes a document strictly into the type of its kind.
func typed(t *testing.T, data []byte) runtime.Object {
	t.Helper()
	var head struct {
		Kind string `json:"kind"`
	}
	if err := yaml.Unmarshal(data, &head); err != nil {
		t.Fatal(err)
	}
	object, err := scheme.New(v1alpha1.GroupVersion.WithKind(head.Kind))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, object); err != nil {
		t.Fatal(err)
	}
	return object
}

func generic(t *testing.T, data []byte) (m map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryFieldSurvivesTheType(t *testing.T) {
	for file, data := range full(t) {
		t.Run(file, func(t *testing.T) {
			text, err := json.Marshal(typed(t, data))
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			want := generic(t, data)
			if got, want := withoutEmpty(got), withoutEmpty(want); !reflect.DeepEqual(got, want) {
				t.Errorf("it became\n%v\nwant\n%v", got, want)
			}
		})
	}
}

// withoutEmpty drops what says nothing.
func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if w := withoutEmpty(value); w != nil {
				out[key] = w
			}
		}
		if len(out) > 0 {
			return out
		}
		return nil
	case []any:
		var out []any
		for _, value := range v {
			if w := withoutEmpty(value); w != nil {
				out = append(out, w)
			}
		}
		if len(out) > 0 {
			return out
		}
		return nil
	}
	return v
}

// TestTheDocumentsUseEveryField keeps the other tests honest: a new field must
// appear in testdata/full.
func TestTheDocumentsUseEveryField(t *testing.T) {
	used := map[string]bool{}
	declared := map[string]bool{}
	for _, data := range full(t) {
		object := typed(t, data)
		kind := reflect.TypeOf(object).Elem()
		declare(declared, kind.Name(), kind)
		use(used, kind.Name(), kind, generic(t, data))
	}
	if len(declared) < 150 {
		t.Errorf("only %d fields were found", len(declared))
	}
	for _, field := range slices.Sorted(maps.Keys(declared)) {
		if !used[field] && !refused(field) {
			t.Errorf("no document has %s", field)
		}
	}
}

// refused reports whether the schema has a field only to refuse it: a GitSource's
// Secrets are beside it.
func refused(field string) bool {
	return strings.HasPrefix(field, "GitSource.spec.") && strings.HasSuffix(field, "ecretRef.namespace")
}

// ours reports whether the fields of a type are ours to test.
func ours(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasSuffix(t.PkgPath(), "api/v1alpha1") && t.Name() != "UpstreamService"
}

func fields(t reflect.Type, fn func(name string, t reflect.Type)) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "metadata" || f.Name == "TypeMeta" || name == "-":
		case name == "" && strings.Contains(options, "inline"):
			if ours(f.Type) {
				fields(f.Type, fn)
			}
		default:
			fn(name, f.Type)
		}
	}
}

// element strips pointers, lists and maps.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map && ours(t.Elem()) {
		t = t.Elem()
	}
	return t
}

func declare(into map[string]bool, at string, t reflect.Type) {
	fields(t, func(name string, f reflect.Type) {
		into[at+"."+name] = true
		if f = element(f); ours(f) {
			if f.NumField() == 0 {
				delete(into, at+"."+name)
			}
			declare(into, at+"."+name, f)
		}
	})
}

func use(into map[string]bool, at string, t reflect.Type, value any) {
	m, _ := value.(map[string]any)
	fields(t, func(name string, f reflect.Type) {
		child, ok := m[name]
		if !ok {
			return
		}
		into[at+"."+name] = true
		isMap := f.Kind() == reflect.Map
		if f = element(f); !ours(f) {
			return
		}
		switch child := child.(type) {
		case []any:
			for _, e := range child {
				use(into, at+"."+name, f, e)
			}
		case map[string]any:
			if !isMap {
				use(into, at+"."+name, f, child)
				return
			}
			for _, e := range child {
				use(into, at+"."+name, f, e)
			}
		}
	})
}

func TestTheDocumentsAreValid(t *testing.T) {
	for file, data := range full(t) {
		for _, p := range v1alpha1.Validate(typed(t, data)) {
			t.Errorf("%s: %+v", file, p)
		}
	}
}
