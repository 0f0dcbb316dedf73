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
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// oracle is what structured-merge-diff knows of the parts of a LoadBalancer that
// the model changes.
var oracle = func() typed.ParseableType {
	parser, err := typed.NewParser(`types:
- name: document
  map:
    fields:
    - {name: apiVersion, type: {scalar: string}}
    - {name: kind, type: {scalar: string}}
    - {name: metadata, type: {namedType: metadata}}
    - {name: spec, type: {namedType: spec}}
- name: metadata
  map:
    fields:
    - {name: name, type: {scalar: string}}
    - {name: namespace, type: {scalar: string}}
    - {name: labels, type: {map: {elementType: {scalar: string}}}}
- name: spec
  map:
    fields:
    - {name: type, type: {scalar: string}}
    - {name: endpoints, type: {list: {elementType: {namedType: __untyped_atomic_}, elementRelationship: atomic}}}
    - {name: externalTrafficPolicy, type: {scalar: string}}
    - {name: loadBalancerSourceRanges, type: {list: {elementType: {scalar: string}, elementRelationship: atomic}}}
    - {name: ports, type: {list: {elementType: {namedType: port}, elementRelationship: associative, keys: [name]}}}
- name: port
  map:
    fields:
    - {name: name, type: {scalar: string}}
    - {name: number, type: {scalar: string}}
- name: __untyped_atomic_
  scalar: untyped
  list: {elementType: {namedType: __untyped_atomic_}, elementRelationship: atomic}
  map: {elementType: {namedType: __untyped_atomic_}, elementRelationship: atomic}
`)
	if err != nil {
		panic(err)
	}
	return parser.Type("document")
}()

// TestMergeLikeStructuredMergeDiff merges any three versions of a document also
// by that library's sets of paths: main plus what the tenant changed and no
// person did, where a person's element is that person's whole.
func TestMergeLikeStructuredMergeDiff(t *testing.T) {
	schema := schemaOf(v1alpha1.KindLoadBalancer)
	rapid.Check(t, func(t *rapid.T) {
		path := wishPath("one")
		b := file(genWish(t, "one"))
		i, m := b, b
		for range rapid.IntRange(0, 3).Draw(t, "tenant") {
			i = mutate(t, path, i)
		}
		for range rapid.IntRange(0, 3).Draw(t, "person") {
			m = mutate(t, path, m)
		}
		read := func(f repo.File) any { return schema.read(repo.Tree{path: f}, path, repo.Decode).doc }
		own := plain(merge{schema: schema}.document(read(b), read(i), read(m)).main)
		theirs := byOracle(t, plain(read(b)), plain(read(i)), plain(read(m)))
		if !equal(own, theirs) {
			t.Fatalf("base %s\nintent %s\nmain %s\nown    %v\noracle %v", b.Data, i.Data, m.Data, own, theirs)
		}
	})
}

func byOracle(t *rapid.T, b, i, m any) any {
	parse := func(v any) *typed.TypedValue {
		out, err := oracle.FromUnstructured(v)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	compare := func(a, b *typed.TypedValue) *typed.Comparison {
		out, err := a.Compare(b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	base, intent, main := parse(b), parse(i), parse(m)
	tenant, people := compare(base, intent), compare(base, main)
	touched := people.Added.Union(people.Modified).Union(people.Removed)
	existence := people.Added.Union(people.Removed)

	add := fieldpath.NewSet()
	for p := range tenant.Added.Union(tenant.Modified).Leaves().All() {
		if !touched.Has(p) && !inElementOf(p, existence) {
			add.Insert(p.Copy())
		}
	}
	remove := fieldpath.NewSet()
	for p := range tenant.Removed.All() {
		kept := beneath(touched, p)
		for n := 1; n <= len(p) && !kept; n++ {
			kept = p[n-1].Key != nil && tenant.Removed.Has(p[:n]) && beneath(touched, p[:n])
		}
		if !kept {
			remove.Insert(p.Copy())
		}
	}
	out := main
	if !remove.Empty() {
		out = out.RemoveItems(remove)
	}
	if !add.Empty() {
		merged, err := out.Merge(intent.ExtractItems(add, typed.WithAppendKeyFields()))
		if err != nil {
			t.Fatal(err)
		}
		out = merged
	}
	return prune(out.AsValue().Unstructured())
}

func inElementOf(p fieldpath.Path, s *fieldpath.Set) bool {
	for n := range p {
		if p[n].Key != nil && s.Has(p[:n+1]) {
			return true
		}
	}
	return false
}

func beneath(s *fieldpath.Set, p fieldpath.Path) bool {
	for _, step := range p[:len(p)-1] {
		s = s.WithPrefix(step)
	}
	last := p[len(p)-1]
	return s.Members.Has(last) || !s.WithPrefix(last).Empty()
}

// plain turns a folded document into what the library reads, without defaults. A
// port's number and protocol are one value.
func plain(v any) any {
	switch v := v.(type) {
	case fields:
		if v["port"] != nil {
			return map[string]any{"name": v["name"], "number": numberOf(v)}
		}
		out := map[string]any{}
		for key, value := range v {
			out[key] = plain(value)
		}
		return out
	case items:
		out := []any{}
		for _, key := range keys(v) {
			out = append(out, plain(v[key]))
		}
		return out
	}
	return v
}

// prune drops the nulls and empty maps that RemoveItems leaves, and sorts ports by
// name.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			set(out, key, prune(value))
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		for n := range v {
			v[n] = prune(v[n])
		}
		slices.SortStableFunc(v, func(x, y any) int { return strings.Compare(nameOf(x), nameOf(y)) })
	}
	return v
}

func nameOf(element any) string {
	m, _ := element.(map[string]any)
	name, _ := m["name"].(string)
	return name
}
