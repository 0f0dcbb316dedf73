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
	return w.decide("", b, i, m, true)
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
	case w.review && (at != "sealed" || !w.resealed):
		return verdict{main: m, base: b, proposed: i}
	case equal(m, b):
		return verdict{main: i, base: i, proposed: i}
	}
	return verdict{main: m, base: i, proposed: m}
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
	for _, key := range keys(of[0], of[1], of[2]) {
		child := at
		if !list {
			child = join(at, key)
		}
		v := w.decide(child, of[0][key], of[1][key], of[2][key], list)
		set(main, key, v.main)
		set(base, key, v.base)
		set(proposed, key, v.proposed)
	}
	return verdict{main: node(main, list), base: node(base, list), proposed: node(proposed, list)}, true
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
