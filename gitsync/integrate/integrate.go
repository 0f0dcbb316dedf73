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
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// Input is one step of one tenant. Intent, Base and Main need to hold only the
// paths whose bytes are not the same in all three; other paths never change.
// Where the tip of the intent branch is missing or was not accepted, base stands
// in for Intent, without Proposed: facts and wishes stay as they are then.
type Input struct {
	Tenant             string
	Intent, Base, Main repo.Tree
	// Decided is the number of wishes that base has in all.
	Decided int
	// Deletes is the number of removals that the tenant vouches for: the signed
	// trailers of all commits since the last integrated one.
	Deletes int
	// Commit is that of Intent, for the remedy that names what to confirm; empty if
	// it is not known.
	Commit string
	// Confirmed lets any number of removals through.
	Confirmed bool

	// Review proposes changes instead of making them.
	Review bool
	// Proposed is the intent version that the last review was made from, at the
	// paths that the review changes; nil without one.
	Proposed repo.Tree
	// Closed says that the pull request was closed: what it proposed is rejected.
	Closed bool
}

// Result is what becomes of the trees and what there is to tell.
type Result struct {
	// Main and Base are edits by path: the file's new content, nil removes it.
	Main, Base map[string][]byte
	// Review is what a review changes in the new main, as new contents by path.
	// What cannot be decided now leaves it as it was.
	Review map[string][]byte
	// Held are fields of main that people keep from following the intent. Commit
	// and Author are left to the caller.
	Held []v1alpha1.HeldField
	// Pending are fields of the intent that wait.
	Pending []v1alpha1.PendingField
	// Problems are the mistakes that made something wait or stay.
	// There are at most maxProblems; MoreProblems is how many are left out.
	Problems     []v1alpha1.Problem
	MoreProblems int
	// SourceGone are documents of main that came from a source object of which
	// neither intent nor base knows: they must not be programmed.
	SourceGone []string
	// Guarded says that too much vanished from the intent: no wish moves until it
	// is confirmed.
	Guarded bool
}

// Reasons of problems that this package reports.
const (
	// ReasonNoNodes: the intent has no Addresses, or they list no node.
	ReasonNoNodes = "NoNodes"
	// ReasonHandMade: a document without origin labels is where the document of a
	// source object belongs.
	ReasonHandMade = "HandMade"
)

// maxProblems bounds the problems of one step: more than a status lists, since
// those of main are listed with them.
const maxProblems = 2 * v1alpha1.MaxListed

// report adds problems to the result.
func (s *step) report(problems ...v1alpha1.Problem) {
	for _, p := range problems {
		if len(s.out.Problems) >= maxProblems {
			s.out.MoreProblems++
			continue
		}
		s.out.Problems = append(s.out.Problems, p.Bounded())
	}
}

// guardMinimum is the number of removals that no guard asks about.
const guardMinimum = 5

// Integrate decides one step. It does not change its input.
func Integrate(in Input) Result {
	s := step{in: in, out: Result{Main: map[string][]byte{}, Base: map[string][]byte{}, Review: map[string][]byte{}}}
	s.guard()
	for _, path := range paths(in.Intent, in.Base, in.Main) {
		p, err := repo.ParsePath(path)
		switch {
		case err != nil || p.Tenant != in.Tenant || p.Kind == v1alpha1.KindTenantState:
			s.foreign(path)
		case p.Fact():
			s.fact(path, p)
		default:
			s.wish(path, p)
		}
	}
	return s.out
}

type step struct {
	in  Input
	out Result
}

// guard stops every wish of the tenant, not only the removals: else new
// documents would outvote them later.
func (s *step) guard() {
	gone := 0
	for path := range s.in.Base {
		p, err := repo.ParsePath(path)
		if _, stays := s.in.Intent[path]; err == nil && !p.Fact() && !stays {
			gone++
		}
	}
	if gone <= guardMinimum || 2*gone <= s.in.Decided || s.in.Confirmed || gone <= s.in.Deletes {
		return
	}
	s.out.Guarded = true
	s.report(v1alpha1.Problem{
		Path:    repo.TenantDir(s.in.Tenant),
		Object:  v1alpha1.KindTenant + " " + s.in.Tenant,
		Reason:  v1alpha1.ReasonApplyGuarded,
		Message: fmt.Sprintf("%d of %d documents vanished from the intent branch, more than the tenant's signed removals account for (%d); no change is taken until this is confirmed", gone, s.in.Decided, s.in.Deletes),
		Remedy: fmt.Sprintf("if the removals are meant, annotate the Tenant with %s: %s; else repair the tenant's cluster",
			v1alpha1.AnnotationConfirm, cmp.Or(s.in.Commit, "<commit of the intent branch>")),
		Confirm: s.in.Commit,
	})
}

// foreign reports a file of the intent that is no document of the tenant. On
// main such a file is left alone.
func (s *step) foreign(path string) {
	file, ok := s.in.Intent[path]
	if !ok {
		return
	}
	_, problems := repo.Decode(path, file)
	if len(problems) == 0 {
		problems = []v1alpha1.Problem{{
			Path: path, Reason: repo.ReasonUnknownPath,
			Message: fmt.Sprintf("%q is not in the folder of tenant %s", path, s.in.Tenant),
			Remedy:  "remove the file from the intent branch",
		}}
	}
	s.refuse(problems)
}

// refuse reports problems of the intent, and that it is the intent's: main can
// have others at the same path.
func (s *step) refuse(problems []v1alpha1.Problem) {
	for _, problem := range problems {
		problem.Message = "intent/" + s.in.Tenant + ": " + problem.Message
		s.report(problem)
	}
}

// same reports whether two trees have the same file at a path, or none.
func same(a, b repo.Tree, path string) bool {
	x, inA := a[path]
	y, inB := b[path]
	return inA == inB && sameFile(x, y)
}

func sameFile(a, b repo.File) bool {
	return a.Mode == b.Mode && a.Size == b.Size && bytes.Equal(a.Data, b.Data)
}

func paths(trees ...repo.Tree) []string {
	all := map[string]bool{}
	for _, tree := range trees {
		for path := range tree {
			all[path] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
