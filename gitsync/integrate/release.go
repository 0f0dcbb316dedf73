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
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// Reasons of problems of a release.
const (
	// ReasonNotHeld: main and the tenant agree on the field, or it is none.
	ReasonNotHeld = "NotHeld"
	// ReasonSourceGone: the tenant does not ask for the document.
	ReasonSourceGone = v1alpha1.ReasonSourceGone
)

// Release returns a document of main with a field as the tenant wants it, or, where
// field is empty, the document as the tenant wants it. Fields are called as in
// [v1alpha1.HeldField]. A file that is not there is nil. Where the release is not
// possible it is problems that say why.
func Release(path string, main, intent *repo.File, field string) ([]byte, []v1alpha1.Problem) {
	p, err := repo.ParsePath(path)
	refuse := func(reason, message, remedy string) ([]byte, []v1alpha1.Problem) {
		return nil, []v1alpha1.Problem{{Path: path, Object: p.Source(), Field: field, Reason: reason, Message: message, Remedy: remedy}}
	}
	switch {
	case err != nil || p.Fact() || p.Kind == v1alpha1.KindTenantState:
		return refuse(repo.ReasonUnknownPath, "only wishes can be held: load balancers, routes and secrets", "name one of these")
	case intent == nil:
		return refuse(ReasonSourceGone, "the tenant does not ask for it any more", "remove the document from main")
	}
	schema := schemaOf(p.Kind)
	i := schema.read(repo.Tree{path: *intent}, path, repo.Decode)
	if i.broken() {
		return nil, i.problems
	}
	var m side
	if main != nil {
		m = schema.read(repo.Tree{path: *main}, path, repo.Decode)
	}
	if field == "" {
		if equal(m.doc, i.doc) {
			return refuse(ReasonNotHeld, "main has it as the tenant wants it", "nothing is to be done")
		}
		data, err := repo.Encode(i.object)
		if err != nil {
			return refuse(repo.ReasonMalformed, err.Error(), "release the whole document with git checkout")
		}
		return data, nil
	}
	if m.broken() || m.doc == nil {
		return refuse(ReasonNotHeld, "main has no document that can be read, so a single field cannot be released", "release the whole document: leave the field out")
	}
	docs := schema.align(m.doc, i.doc)
	doc, ok := schema.take("", "", docs[0], docs[1], field)
	if doc = schema.canonical("", doc); !ok || equal(doc, m.doc) {
		differ := schema.diff(i.doc, m.doc)
		remedy := "nothing is to be done"
		if len(differ) > 0 {
			remedy = "name one of " + strings.Join(differ, ", ")
		}
		return refuse(ReasonNotHeld, fmt.Sprintf("main and the tenant do not differ in %s", field), remedy)
	}
	if _, problems := repo.Decode(path, repo.NewFile(schema.encode(doc))); len(problems) > 0 {
		for n := range problems {
			problems[n].Message = "the document would not be valid: " + problems[n].Message
			problems[n].Remedy = "release the fields that belong together in one edit, or the whole document"
		}
		return nil, problems
	}
	return schema.encode(doc), nil
}

// take returns m with the field of i, both aligned. It is not ok if there is no
// such field in either, or if what the field is in is absent from one of them. A
// port goes by its name on main, else in the intent, or by its number: [443/TCP].
func (s *schema) take(at, label string, m, i any, field string) (any, bool) {
	of, list := children(m)
	from, listFrom := children(i)
	if of == nil && from == nil {
		return m, false
	}
	list = list || listFrom
	for _, called := range s.called(at, label, of, from, list) {
		rest, within := strings.CutPrefix(field, called.label)
		if !within || rest != "" && rest[0] != '.' && rest[0] != '[' {
			continue
		}
		key := called.key
		child, path := from[key], at
		if !list {
			path = join(at, key)
		}
		if rest != "" {
			if list && (of[key] == nil || from[key] == nil) {
				return m, false
			}
			var ok bool
			if child, ok = s.take(path, called.label, of[key], from[key], field); !ok {
				continue // such as a and a.b, which are both keys
			}
		}
		out := map[string]any{}
		for k, v := range of {
			out[k] = v
		}
		delete(out, key)
		set(out, key, child)
		return node(out, list), true
	}
	return m, false
}

// called is what the children of a node are called, names before numbers.
func (s *schema) called(at, label string, of, from map[string]any, list bool) (out []calledChild) {
	if !list {
		for _, key := range keys(of, from) {
			out = append(out, calledChild{fieldLabel(label, key), key})
		}
		return out
	}
	labels := s.labels(at, from, of)
	for _, key := range keys(of, from) {
		out = append(out, calledChild{label + "[" + labels[key] + "]", key})
	}
	if !s.isPorts(at) {
		return out
	}
	for _, elements := range []map[string]any{of, from} {
		for _, key := range keys(elements) {
			e, _ := elements[key].(fields)
			out = append(out, calledChild{label + "[" + numberOf(e) + "]", key})
		}
	}
	return out
}

type calledChild struct{ label, key string }
