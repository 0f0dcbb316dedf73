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

package repo_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// words are strings that YAML has its own ideas about, and any others.
var words = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
	"", "y", "on", "No", "null", "~", "0x1F", "0o7", "010", "1e3", ".inf", "1_000", "1:20", "2001-01-01", "=", "<<", "- a", "a: b", "a #b", "#", "'", `"`, "\\", "|", ">",
	"a\n", "\na", "a\n\n", " a", "a ", "\ta", "a\r\nb", "\r", "\u0085", "\u2028", "\ufeff", "\x00", "\x7f", "---\n", "...", "!!str", "&a", "*a", "{", "[", "%", "@", "`", "?", ": ",
}))

func TestAnyTextComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lb := everything()[1].(*v1alpha1.LoadBalancer)
		lb.Annotations = map[string]string{"text": words.Draw(t, "annotation"), "more": words.Draw(t, "annotation")}
		data, err := repo.Encode(lb)
		if err != nil {
			t.Fatal(err)
		}
		back, problems := repo.Decode(webPath, repo.NewFile(data))
		if len(problems) > 0 {
			t.Fatalf("%+v\n%s", problems, data)
		}
		if got := back.GetAnnotations(); !reflect.DeepEqual(got, lb.Annotations) {
			t.Fatalf("%q became %q in\n%s", lb.Annotations, got, data)
		}
	})
}

// value draws something that JSON can hold.
func value(t *rapid.T, depth int) any {
	kinds := 4
	if depth > 0 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return json.Number(rapid.SampledFrom([]string{"0", "-1", "80", "1.5", "9007199254740993", "-9223372036854775808", "18446744073709551615"}).Draw(t, "number"))
	case 3:
		return words.Draw(t, "string")
	case 4:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			list = append(list, value(t, depth-1))
		}
		return list
	}
	m := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "fields") {
		// The YAML library writes the key << without quotes, and no reader takes
		// that for a string. No Kubernetes object has such a key.
		key := words.Filter(func(s string) bool { return s != "<<" }).Draw(t, "key")
		m[key] = value(t, depth-1)
	}
	return m
}

func TestAnyEmbeddedResourceComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		route := everything()[4].(*v1alpha1.Route)
		resource := map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"name": "web"}, "spec": value(t, 3)}
		raw, err := json.Marshal(resource)
		if err != nil {
			t.Fatal(err)
		}
		route.Spec.Source.Kubernetes.Route.Raw = raw
		path, err := repo.PathOf(route)
		if err != nil {
			t.Fatal(err)
		}
		data, err := repo.Encode(route)
		if err != nil {
			t.Fatal(err)
		}
		back, problems := repo.Decode(path, repo.NewFile(data))
		if len(problems) > 0 {
			t.Fatalf("%+v\n%s", problems, data)
		}
		got := numbers(t, back.(*v1alpha1.Route).Spec.Source.Kubernetes.Route.Raw)
		if want := numbers(t, raw); !reflect.DeepEqual(got, want) {
			t.Fatalf("%v became %v in\n%s", want, got, data)
		}
		if again, err := repo.Encode(back); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("written twice it is\n%s\nand\n%s(%v)", data, again, err)
		}
	})
}

// numbers reads JSON without rounding its numbers.
func numbers(t *rapid.T, text []byte) (v any) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
