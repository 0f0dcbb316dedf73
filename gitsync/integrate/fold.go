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
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// A folded document is nested fields and items with leaves: equality ignores
// the order of keyed lists and what defaults, nulls and empty values say, and a
// merge is one walk. Everything else, such as an embedded resource, is a leaf.
type (
	fields map[string]any // a map or struct, by key
	items  map[string]any // a keyed list, by the value of its keys
)

// schema says what the merge has to know of a kind. Its paths are dotted; an
// element of a list has the path of its list.
type schema struct {
	keys     map[string][]string // keyed lists
	defaults map[string]string
	whole    map[string]bool // maps that are one value
}

func schemaOf(kind string) *schema {
	return &schema{keys: v1alpha1.MergeKeys(kind), defaults: v1alpha1.Defaults(kind), whole: wholes}
}

// wholes are unions, references and embedded resources: a mixture of two would
// say what nobody said.
var wholes = map[string]bool{
	"spec.endpoints.addressesReference": true,
	"spec.endpoints.backendReference":   true,
	"spec.persistence":                  true,
	"spec.source.kubernetes.resource":   true,
}

func (s *schema) fold(at string, v any) any {
	switch v := v.(type) {
	case string:
		if v == s.defaults[at] {
			return nil
		}
	case json.Number:
		if v == "0" { // a number that base has not decided: none of ours can be 0
			return nil
		}
	case map[string]any:
		if s.whole[at] {
			return v
		}
		return node(s.foldFields(at, v), false)
	case []any:
		keyed := s.keys[at]
		switch {
		case len(v) == 0:
			return nil
		case keyed == nil:
			return v
		}
		out := items{}
		for _, element := range v {
			key, folded := s.foldElement(at, keyed, element)
			out[key] = folded
		}
		return out
	}
	return v
}

func (s *schema) foldFields(at string, v map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range v {
		set(out, key, s.fold(join(at, key), value))
	}
	return out
}

// foldElement keeps the fields that are the element's key, also if they are
// defaults.
func (s *schema) foldElement(at string, keyed []string, element any) (string, fields) {
	m, _ := element.(map[string]any)
	out := s.foldFields(at, m)
	parts := make([]string, len(keyed))
	for n, key := range keyed {
		value := m[key]
		if value == nil {
			value = s.defaults[join(at, key)]
		}
		out[key], parts[n] = value, fmt.Sprint(value)
	}
	return strings.Join(parts, "/"), out
}

// unfold is fold's inverse but for the order of keyed lists, which is that of
// their keys, and the defaults, of which only a port's protocol is written.
func (s *schema) unfold(at string, v any) any {
	switch v := v.(type) {
	case fields:
		out := map[string]any{}
		for key, value := range v {
			out[key] = s.unfold(join(at, key), value)
		}
		return out
	case items:
		protocol, has := s.defaults[join(at, "protocol")]
		out := make([]any, 0, len(v))
		for _, key := range keys(v) {
			element, _ := s.unfold(at, v[key]).(map[string]any)
			if has && element["protocol"] == nil {
				element["protocol"] = protocol
			}
			out = append(out, element)
		}
		return out
	}
	return v
}

// diff lists the fields in which two folded documents differ, such as
// "spec.ports[http].port". An absent document, element or leaf is one field.
func diff(a, b any) []string { return appendDiff(nil, "", a, b, true) }

func appendDiff(out []string, at string, a, b any, whole bool) []string {
	if equal(a, b) {
		return out
	}
	fa, list := children(a)
	fb, listB := children(b)
	if fa == nil && fb == nil || whole && (fa == nil || fb == nil) {
		return append(out, at)
	}
	list = list || listB
	for _, key := range keys(fa, fb) {
		out = appendDiff(out, label(at, key, list), fa[key], fb[key], list)
	}
	return out
}

func children(v any) (of map[string]any, list bool) {
	switch v := v.(type) {
	case fields:
		return v, false
	case items:
		return v, true
	}
	return nil, false
}

func label(at, key string, element bool) string {
	if element || strings.ContainsAny(key, "./") {
		return at + "[" + key + "]"
	}
	return join(at, key)
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

func keys(ms ...map[string]any) []string {
	all := map[string]bool{}
	for _, m := range ms {
		for key := range m {
			all[key] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
