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

// Package plan says what has to be applied to the hub and what pruned from it
// so that it has what a tenant's folder on main has. It is pure.
//
// It promises that a file which cannot be used is a problem and nothing else:
// its object is neither applied nor pruned, so the last good version stays, and
// its neighbours go on. It prunes only what a complete folder does not have.
//
// It refuses files outside the places that [repo.ParsePath] knows, everything
// that [repo.Decode] refuses, and what is not in the folder of the tenant that
// is planned for.
package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// Change is a file of main that differs from what was applied last. File is nil
// where it is absent now.
type Change struct {
	Path string
	File *repo.File
}

// Item is an object that is to be applied.
type Item struct {
	Path   string
	Object repo.Object
}

// Ref names an object that was applied from a path.
type Ref struct {
	Path, Kind, Namespace, Name string
}

// Plan is what is to be done, in the order of paths.
type Plan struct {
	Apply    []Item
	Prune    []Ref
	Problems []v1alpha1.Problem
}

// Changed plans for the files that changed in a tenant's folder:
//
//	file    what happens
//	good    applied
//	bad     a problem; what is applied stays
//	absent  pruned
//
// A file that was bad may have been good before, so its removal prunes too.
func Changed(tenant string, changes []Change) Plan {
	var p Plan
	for _, c := range changes {
		if c.File != nil {
			p.file(tenant, c.Path, *c.File)
		} else if ref, err := RefOf(tenant, c.Path); err == nil {
			p.Prune = append(p.Prune, ref)
		}
	}
	p.sort()
	return p
}

// Full plans for a whole folder against everything that was applied for the
// tenant before. Both must be complete.
func Full(tenant string, tree repo.Tree, inventory []Ref) Plan {
	var p Plan
	for file := range tree {
		p.file(tenant, file, tree[file])
	}
	for _, ref := range inventory {
		if _, ok := tree[ref.Path]; !ok {
			p.Prune = append(p.Prune, ref)
		}
	}
	p.sort()
	return p
}

// RefOf returns the object that the file at a path stands for.
func RefOf(tenant, file string) (Ref, error) {
	p, err := repo.ParsePath(file)
	if err != nil {
		return Ref{}, err
	}
	if p.Tenant != tenant {
		return Ref{}, fmt.Errorf("%q is not in the folder of tenant %s", file, tenant)
	}
	return Ref{Path: file, Kind: p.Kind, Namespace: v1alpha1.TenantNamespace(tenant), Name: p.ObjectName()}, nil
}

func (p *Plan) file(tenant, name string, file repo.File) {
	if ignored(name) {
		return
	}
	if !strings.HasPrefix(name, repo.TenantDir(tenant)+"/") {
		p.Problems = append(p.Problems, v1alpha1.Problem{
			Path: name, Reason: repo.ReasonUnknownPath,
			Message: fmt.Sprintf("the file is not in the folder of tenant %s", tenant),
			Remedy:  "remove the file",
		})
		return
	}
	object, problems := repo.Decode(name, file)
	if len(problems) > 0 {
		p.Problems = append(p.Problems, problems...)
		return
	}
	p.Apply = append(p.Apply, Item{Path: name, Object: object})
}

// ignored are the files that people keep beside documents.
func ignored(name string) bool {
	base := path.Base(name)
	return base == "README.md" || base == ".gitkeep"
}

func (p *Plan) sort() {
	slices.SortFunc(p.Apply, func(a, b Item) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(p.Prune, func(a, b Ref) int { return strings.Compare(a.Path, b.Path) })
	slices.SortStableFunc(p.Problems, func(a, b v1alpha1.Problem) int { return strings.Compare(a.Path, b.Path) })
}
