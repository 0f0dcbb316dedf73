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
	items  map[string]any // a keyed list, by what tells its elements apart
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
			folded := s.foldElement(at, keyed, element)
			out[s.elementKey(at, folded)] = folded
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

// foldElement keeps the fields that are the element's name, also if they are
// defaults.
func (s *schema) foldElement(at string, keyed []string, element any) fields {
	m, _ := element.(map[string]any)
	out := s.foldFields(at, m)
	for _, key := range keyed {
		value := m[key]
		if value == nil {
			value = s.defaults[join(at, key)]
		}
		out[key] = value
	}
	return out
}

// elementKey is the element's name, and what else tells ports apart: base, which
// has what was decided field by field, can have two of one name.
func (s *schema) elementKey(at string, element fields) string {
	key := nameIn(element, s.keys[at])
	if s.isPorts(at) {
		p := portOf(element)
		key += fmt.Sprintf("\x00%05d/%s", p.Number, p.Protocol)
	}
	return key
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
func (s *schema) diff(a, b any) []string {
	docs := s.align(a, b)
	return s.appendDiff(nil, "", "", docs[0], docs[1], true)
}

// appendDiff lists what differs at a path of the schema, which is called label.
func (s *schema) appendDiff(out []string, at, label string, a, b any, whole bool) []string {
	if equal(a, b) {
		return out
	}
	fa, list := children(a)
	fb, listB := children(b)
	if fa == nil && fb == nil || whole && (fa == nil || fb == nil) {
		return append(out, label)
	}
	if list || listB {
		labels := s.labels(at, fa, fb)
		for _, key := range slices.SortedFunc(maps.Keys(labels), func(x, y string) int { return strings.Compare(labels[x], labels[y]) }) {
			out = s.appendDiff(out, at, label+"["+labels[key]+"]", fa[key], fb[key], true)
		}
		return out
	}
	for _, key := range keys(fa, fb) {
		out = s.appendDiff(out, join(at, key), fieldLabel(label, key), fa[key], fb[key], false)
	}
	return out
}

// labels are what the elements of two aligned lists are called: by their name in
// the second one, else in the first; a port that is only in the first one, whose
// name another one has by now, by its number.
func (s *schema) labels(at string, a, b map[string]any) map[string]string {
	out, used := map[string]string{}, map[string]bool{}
	for key, element := range b {
		e, _ := element.(fields)
		out[key] = nameIn(e, s.keys[at])
		used[out[key]] = true
	}
	for key, element := range a {
		if _, named := out[key]; named {
			continue
		}
		e, _ := element.(fields)
		out[key] = nameIn(e, s.keys[at])
		if used[out[key]] && s.isPorts(at) {
			out[key] = numberOf(e)
		}
	}
	return out
}

// numberOf calls a port by what it is: "443/TCP".
func numberOf(e fields) string {
	p := portOf(e)
	return fmt.Sprintf("%d/%s", p.Number, p.Protocol)
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

func fieldLabel(at, key string) string {
	if strings.ContainsAny(key, "./") {
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
