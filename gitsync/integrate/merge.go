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
	"maps"
	"strings"
)

// verdict is what becomes of a document, an element or a field: on main, in
// base and on the review branch. nil means absent.
type verdict struct{ main, base, proposed any }

// merge walks one document.
type merge struct {
	schema *schema
	// review proposes what would be taken.
	review bool
	// resealed lets the ciphertext of a secret skip review.
	resealed bool
}

// document decides a whole document, where the tenant's deletion always wins.
func (w merge) document(b, i, m any) verdict {
	if i == nil && b != nil {
		return verdict{}
	}
	docs := w.schema.align(b, i, m)
	v := w.decide("", docs[0], docs[1], docs[2], true)
	canonical := func(doc any) any { return w.schema.canonical("", doc) }
	return verdict{main: canonical(v.main), base: canonical(v.base), proposed: canonical(v.proposed)}
}

// decide is the table of the package comment. Whole says that an absent value is
// not an empty one: that of documents and of elements of lists.
func (w merge) decide(at string, b, i, m any, whole bool) verdict {
	switch {
	case equal(i, b):
		return verdict{main: m, base: b, proposed: m}
	case equal(m, i):
		return verdict{main: m, base: i, proposed: m}
	}
	if !whole || i != nil && m != nil && (b != nil || w.review) {
		if v, ok := w.children(at, b, i, m); ok {
			return v
		}
	}
	switch {
	case w.review && !w.unreviewed(at):
		return verdict{main: m, base: b, proposed: i}
	case equal(m, b):
		return verdict{main: i, base: i, proposed: i}
	}
	return verdict{main: m, base: i, proposed: m}
}

// unreviewed reports whether a field changes without review: the ciphertext of a
// secret that stays what it is, and the name of a port, which the tenant's cluster
// gave it as it gave it its NodePort. Were it to wait, the facts, which do not,
// would know the port by another name than main.
func (w merge) unreviewed(at string) bool {
	list, isName := strings.CutSuffix(at, ".name")
	return at == "sealed" && w.resealed || isName && w.schema.isPorts(list)
}

// children decides maps and keyed lists key by key, and declines anything else.
// What is at a path has one type: the documents were decoded into structs.
func (w merge) children(at string, b, i, m any) (verdict, bool) {
	var of [3]map[string]any
	list := false
	for n, v := range []any{b, i, m} {
		switch v := v.(type) {
		case nil:
		case fields:
			of[n] = v
		case items:
			of[n], list = v, true
		default:
			return verdict{}, false
		}
	}
	main, base, proposed := map[string]any{}, map[string]any{}, map[string]any{}
	number := w.schema.isPorts(at) && !list
	if number {
		for n := range of {
			of[n] = joinNumber(of[n])
		}
	}
	for _, key := range keys(of[0], of[1], of[2]) {
		child := at
		if !list {
			child = join(at, key)
		}
		was := of[0][key]
		if i, renamed := of[1][key].(fields); list && renamed && was != nil && of[2][key] == nil && w.schema.isPorts(at) {
			was = with(was.(fields), "name", i["name"]) // a rename alone opens no port that people closed
		}
		v := w.decide(child, was, of[1][key], of[2][key], list)
		set(main, key, v.main)
		set(base, key, v.base)
		set(proposed, key, v.proposed)
	}
	if list && w.schema.isPorts(at) {
		keepNames(of[0], of[1], main, base, proposed)
	}
	if number {
		main, base, proposed = splitNumber(main), splitNumber(base), splitNumber(proposed)
	}
	return verdict{main: node(main, list), base: node(base, list), proposed: node(proposed, list)}, true
}

// portNumber is a port's number and protocol, which are one value: that of one and
// the protocol of another is what nobody said.
type portNumber struct{ number, protocol any }

func joinNumber(port map[string]any) map[string]any {
	if port == nil {
		return nil
	}
	out := maps.Clone(port)
	delete(out, "port")
	delete(out, "protocol")
	if port["port"] != nil {
		out["port"] = portNumber{port["port"], port["protocol"]}
	}
	return out
}

func splitNumber(port map[string]any) map[string]any {
	out := maps.Clone(port)
	if number, decided := port["port"].(portNumber); decided {
		out["port"] = number.number
		set(out, "protocol", number.protocol)
	}
	return out
}

// keepNames keeps the names of ports apart: one that the tenant has no more goes by
// its number where its name is another port's by now. The facts know the name for
// that one alone.
func keepNames(b, i, main, base, proposed map[string]any) {
	given := func(name any, in map[string]any) bool {
		for _, element := range in {
			if element.(fields)["name"] == name {
				return true
			}
		}
		return false
	}
	rename := func(in map[string]any, key string, from, to any) {
		if element, there := in[key].(fields); there && element["name"] == from {
			in[key] = with(element, "name", to)
		}
	}
	for _, key := range keys(b) {
		was := b[key].(fields)["name"]
		if i[key] != nil || !given(was, i) {
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(numberOf(b[key].(fields)), "/", "-"))
		for given(name, b) || given(name, i) || given(name, main) {
			name += "-0"
		}
		for _, side := range []map[string]any{main, base, proposed} {
			rename(side, key, was, name)
		}
	}
}

// with returns a copy with a field set, or without it for nil.
func with(element fields, key string, value any) fields {
	out := maps.Clone(element)
	delete(out, key)
	set(out, key, value)
	return out
}

func set(m map[string]any, key string, v any) {
	if v != nil {
		m[key] = v
	}
}

// node is what folding makes of children; none are absent.
func node(children map[string]any, list bool) any {
	switch {
	case len(children) == 0:
		return nil
	case list:
		return items(children)
	}
	return fields(children)
}
