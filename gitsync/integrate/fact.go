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

// fact lets the tip's document go to main and base, also over a person's edit.
// What of it is invalid is left out and told, and the rest is followed. Nodes never
// vanish: the last ones stay, as stale. An unreadable fact changes nothing, and what
// a guard or a missing source leaves programmed keeps its Backend.
func (s *step) fact(path string, p repo.Path) {
	tip, inTip := s.in.Intent[path]
	last, known := s.in.Base[path]
	empty := false
	if inTip {
		file, problems := usable(path, tip, last)
		for n := range problems {
			empty = empty || problems[n].Reason == ReasonNoNodes
		}
		s.refuse(problems)
		if file != nil {
			s.setFact(path, file)
			return
		}
	}
	switch {
	case !known && (inTip || !s.reverted(path)):
	case p.Kind == v1alpha1.KindAddresses && (empty || !inTip && !s.out.Guarded):
		if !inTip {
			s.refuse([]v1alpha1.Problem{noNodes(path, p)})
		}
		s.setFact(path, stale(path, last))
	case inTip, s.out.Guarded:
		s.setFact(path, &last)
	default:
		s.setFact(path, nil)
	}
}

// usable returns what of a fact can be followed, nil if nothing can, and what is
// wrong with the rest.
func usable(path string, tip, last repo.File) (*repo.File, []v1alpha1.Problem) {
	p, _ := repo.ParsePath(path)
	object, problems := repo.Decode(path, tip)
	if object == nil {
		read, unreadable := repo.DecodeBase(path, tip)
		if len(unreadable) > 0 {
			return nil, problems
		}
		before, _ := repo.DecodeBase(path, last)
		object, _ = v1alpha1.Usable(read, before).(repo.Object)
	}
	if nodes, ok := object.(*v1alpha1.Addresses); ok && len(nodes.Spec.Addresses) == 0 {
		return nil, []v1alpha1.Problem{noNodes(path, p)}
	}
	if len(problems) == 0 {
		return &tip, nil
	}
	data, err := repo.Encode(object)
	if err != nil {
		return nil, problems
	}
	file := repo.NewFile(data)
	if _, still := repo.Decode(path, file); len(still) > 0 {
		return nil, problems
	}
	return &file, problems
}

// stale returns the last nodes, marked as no longer ready.
func stale(path string, last repo.File) *repo.File {
	object, _ := repo.DecodeBase(path, last)
	nodes, ok := object.(*v1alpha1.Addresses)
	if !ok || nodes.Spec.Stale {
		return &last
	}
	nodes.Spec.Stale = true
	data, err := repo.Encode(nodes)
	if err != nil {
		return &last
	}
	file := repo.NewFile(data)
	return &file
}

func noNodes(path string, p repo.Path) v1alpha1.Problem {
	return v1alpha1.Problem{
		Path: path, Object: p.Source(), Field: "spec.addresses", Reason: ReasonNoNodes,
		Message: "no node is listed; those that were known last stay in use",
		Remedy:  fmt.Sprintf("check that tenant %s has nodes that are Ready and have an address of the configured type", p.Tenant),
	}
}

// reverted reports whether main has a fact of a source object that neither
// intent nor base knows. A fact that people made by hand is not one.
func (s *step) reverted(path string) bool {
	file, ok := s.in.Main[path]
	if !ok {
		return false
	}
	object, problems := repo.Decode(path, file)
	return len(problems) == 0 && hasOrigin(object)
}

func (s *step) setFact(path string, file *repo.File) {
	set := func(tree repo.Tree, edits map[string][]byte) {
		old, ok := tree[path]
		switch {
		case file == nil && ok:
			edits[path] = nil
		case file != nil && (!ok || !sameFile(old, *file)):
			edits[path] = file.Data
		}
	}
	set(s.in.Main, s.out.Main)
	set(s.in.Base, s.out.Base)
}
