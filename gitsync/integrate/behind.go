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
	"github.com/kubelb/gitops/api/repo"
)

// Behind returns the intent version that a review was made from, at the paths of
// wishes that the review changed: base, with what the review changed between
// before (main when it was made) and after (its own tree). The review branch
// alone says it that way, whatever became of the intent branch.
//
// With before and after exchanged it returns the base of a review that is not
// decided: reopening one takes back that it was rejected.
func Behind(tenant string, before, after, base repo.Tree) repo.Tree {
	out := repo.Tree{}
	for _, path := range paths(before, after) {
		p, err := repo.ParsePath(path)
		if err != nil || p.Tenant != tenant || p.Fact() || same(before, after, path) {
			continue
		}
		schema := schemaOf(p.Kind)
		from, to := schema.read(before, path, repo.DecodeBase), schema.read(after, path, repo.DecodeBase)
		b := schema.read(base, path, repo.DecodeBase)
		if from.broken() || to.broken() || b.broken() {
			continue
		}
		docs := schema.align(b.doc, to.doc, from.doc) // as base, intent and main were
		switch doc := schema.canonical("", schema.behind("", docs[2], docs[1], docs[0], true)); {
		case doc == nil:
		case equal(doc, b.doc):
			out[path] = base[path]
		case equal(doc, to.doc):
			out[path] = after[path]
		default:
			out[path] = repo.NewFile(schema.encode(doc))
		}
	}
	return out
}

// behind is base where nothing changed, else what it changed to. The documents are
// aligned. Whole says that an absent value is not an empty one.
func (s *schema) behind(at string, from, to, base any, whole bool) any {
	switch {
	case equal(from, to):
		return base
	case equal(base, to) || whole && (from == nil || to == nil):
		return to
	}
	a, list := children(from)
	b, isList := children(to)
	c, _ := children(base)
	if a == nil && b == nil || from != nil && a == nil || to != nil && b == nil {
		return to
	}
	list = list || isList
	number := s.isPorts(at) && !list
	if number {
		a, b, c = joinNumber(a), joinNumber(b), joinNumber(c)
	}
	out := map[string]any{}
	for _, key := range keys(a, b, c) {
		child := at
		if !list {
			child = join(at, key)
		}
		set(out, key, s.behind(child, a[key], b[key], c[key], list))
	}
	if number {
		out = splitNumber(out)
	}
	return node(out, list)
}
