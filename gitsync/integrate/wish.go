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

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// side is a wish as one of the trees has it.
type side struct {
	object   repo.Object // nil if absent or unreadable
	doc      any         // folded; nil if absent
	problems []v1alpha1.Problem
}

// unreadable stands for a document that is there but says nothing: it is equal
// to no other and cannot be merged.
type unreadable struct{}

func (s side) broken() bool { return s.doc == unreadable{} }

type decoder func(string, repo.File) (repo.Object, []v1alpha1.Problem)

func (s *schema) read(tree repo.Tree, path string, decode decoder) side {
	file, ok := tree[path]
	if !ok {
		return side{}
	}
	object, problems := decode(path, file)
	if len(problems) > 0 {
		return side{doc: unreadable{}, problems: problems}
	}
	doc, err := repo.Document(object)
	if err != nil { // no kind of ours: decode refuses it
		return side{doc: unreadable{}}
	}
	return side{object: object, doc: s.fold("", doc)}
}

func hasOrigin(object repo.Object) bool {
	return object != nil && object.GetLabels()[v1alpha1.LabelOriginName] != ""
}

// wish decides one wish.
func (s *step) wish(path string, p repo.Path) {
	schema := schemaOf(p.Kind)
	b := schema.read(s.in.Base, path, repo.DecodeBase)
	m := schema.read(s.in.Main, path, repo.Decode)
	i := b
	if !same(s.in.Intent, s.in.Base, path) {
		i = schema.read(s.in.Intent, path, repo.Decode)
	}
	r := schema.read(s.in.Proposed, path, repo.Decode)
	base := s.reviewed(schema, b.doc, r, m)

	v, reason := s.decide(schema, path, p, i, base, m)
	if reason != v1alpha1.PendingReview {
		v.proposed = s.stillProposed(schema, path, base, r, m)
	}
	s.edit(s.out.Main, schema, path, m.doc, v.main, i)
	s.edit(s.out.Base, schema, path, b.doc, v.base, i)
	s.edit(s.out.Review, schema, path, v.main, v.proposed, i)

	known := i.doc != nil || v.base != nil
	gone := !known && v.main != nil && hasOrigin(m.object)
	if gone {
		s.out.SourceGone = append(s.out.SourceGone, path)
	}
	if known || gone { // else people made it by hand, and there is nothing to hold it against
		for _, field := range schema.diff(v.base, v.main) {
			s.out.Held = append(s.out.Held, v1alpha1.HeldField{Path: path, Field: v1alpha1.Printable(field, v1alpha1.MaxObject)})
		}
	}
	for _, field := range schema.diff(v.base, i.doc) {
		s.out.Pending = append(s.out.Pending, v1alpha1.PendingField{Path: path, Field: v1alpha1.Printable(field, v1alpha1.MaxObject), Reason: reason})
	}
}

// reviewed returns base after the review's own intent version was decided: all
// of it if it was rejected, else what main has of it by now.
func (s *step) reviewed(schema *schema, base any, r, m side) any {
	switch {
	case r.object == nil:
		return base
	case s.in.Closed:
		return r.doc
	case m.broken():
		return base
	}
	return merge{schema: schema, review: true}.document(base, r.doc, m.doc).base
}

// stillProposed returns what an open review goes on to propose while the tip
// itself cannot be decided.
func (s *step) stillProposed(schema *schema, path string, base any, r, m side) any {
	if !s.in.Review || s.in.Closed || r.object == nil || m.broken() || handMade(r, m) {
		return m.doc
	}
	proposed := merge{schema: schema, review: true}.document(base, r.doc, m.doc).proposed
	if len(schema.check(path, proposed)) > 0 {
		return m.doc
	}
	return proposed
}

// decide returns what becomes of a wish, and why what is pending waits. Every
// reason to wait leaves main and base as they are.
func (s *step) decide(schema *schema, path string, p repo.Path, i side, base any, m side) (verdict, string) {
	stay := verdict{main: m.doc, base: base, proposed: m.doc}
	tenants := i.doc != nil || base != nil
	if tenants {
		s.report(m.problems...)
	}
	switch {
	case i.broken():
		s.refuse(i.problems)
		return stay, v1alpha1.PendingInvalid
	case s.out.Guarded:
		return stay, v1alpha1.PendingGuard
	case m.broken() && i.doc != nil:
		return stay, v1alpha1.PendingInvalid
	case handMade(i, m):
		s.report(handMadeProblem(path, p))
		return stay, v1alpha1.PendingInvalid
	}
	tip := merge{schema: schema, review: s.in.Review, resealed: resealed(i, base, m)}
	v := tip.document(base, i.doc, m.doc)
	for _, doc := range []any{v.main, v.proposed} {
		if doc == nil || equal(doc, m.doc) || equal(doc, i.doc) {
			continue
		}
		if problems := schema.check(path, doc); len(problems) > 0 {
			s.report(problems...)
			return stay, v1alpha1.PendingInvalid
		}
	}
	return v, v1alpha1.PendingReview
}

// resealed reports whether a secret may have changed in its ciphertext alone.
func resealed(i side, base any, m side) bool {
	if _, secret := i.object.(*v1alpha1.SyncSecret); !secret {
		return false
	}
	is, _ := i.doc.(fields)
	was, decided := base.(fields)
	has, readable := m.doc.(fields)
	return decided && readable && is["type"] == was["type"] && is["type"] == has["type"]
}

// check validates what was merged: two valid documents can make an invalid one.
func (s *schema) check(path string, doc any) []v1alpha1.Problem {
	_, problems := repo.Decode(path, repo.NewFile(s.encode(doc)))
	for n := range problems {
		problems[n].Message = "the source's change does not fit what people changed on main: " + problems[n].Message
		problems[n].Remedy = "change the source object, or the document on main, so that both fit together"
	}
	return problems
}

// handMade reports whether main has a document of its own where that of a source
// object belongs.
func handMade(i, m side) bool {
	return m.object != nil && !hasOrigin(m.object) && hasOrigin(i.object)
}

func handMadeProblem(path string, p repo.Path) v1alpha1.Problem {
	return v1alpha1.Problem{
		Path: path, Object: p.Source(), Field: "metadata.labels", Reason: ReasonHandMade,
		Message: fmt.Sprintf("main has a document without origin labels where that of %s belongs; it stays, and the source is ignored", p.Source()),
		Remedy:  "remove or rename the document on main, or give it the labels that the intent branch has",
	}
}

// edit notes that a document becomes another one. What is not changed keeps its
// bytes, comments included, and what comes from the intent alone has its bytes.
func (s *step) edit(edits map[string][]byte, schema *schema, path string, from, to any, i side) {
	switch {
	case equal(from, to):
	case to == nil:
		edits[path] = nil
	case i.object != nil && equal(to, i.doc):
		data, err := repo.Encode(i.object)
		if err == nil { // always: it was decoded
			edits[path] = data
		}
	default:
		edits[path] = schema.encode(to)
	}
}

// encode writes a folded document as [repo.Encode] writes its object.
func (s *schema) encode(doc any) []byte {
	document, _ := s.unfold("", doc).(map[string]any)
	data, err := repo.Marshal(document)
	if err != nil {
		panic(fmt.Sprintf("a document of maps, lists and scalars cannot be written: %v", err))
	}
	return data
}
