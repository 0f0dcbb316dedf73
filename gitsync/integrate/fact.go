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
// Nodes never vanish, an unreadable fact changes nothing, and what a guard or a
// missing source leaves programmed keeps its Backend.
func (s *step) fact(path string, p repo.Path) {
	tip, inTip := s.in.Intent[path]
	last, known := s.in.Base[path]
	if inTip {
		problems := checkFact(path, p, tip)
		if len(problems) == 0 {
			s.setFact(path, &tip)
			return
		}
		s.refuse(problems)
	}
	switch {
	case !known && (inTip || !s.reverted(path)):
	case inTip, s.out.Guarded:
		s.setFact(path, &last)
	case p.Kind == v1alpha1.KindAddresses:
		s.refuse([]v1alpha1.Problem{noNodes(path, p)})
		s.setFact(path, &last)
	default:
		s.setFact(path, nil)
	}
}

func checkFact(path string, p repo.Path, file repo.File) []v1alpha1.Problem {
	object, problems := repo.Decode(path, file)
	if nodes, ok := object.(*v1alpha1.Addresses); ok && len(nodes.Spec.Addresses) == 0 {
		problems = append(problems, noNodes(path, p))
	}
	return problems
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
