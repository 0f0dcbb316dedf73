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

// Package trust judges what changed on main by who signed it.
//
// A path's content counts if somebody entitled put it there: a listed reviewer
// whose tenants include the path, by a signature on the commit that changed it,
// on a merge that brought it, on a commit that came with a merge, or on an
// approval; or the hub, which writes what tenants ask for. A path with any
// other content keeps its last trusted version, and the paths beside it go on.
//
// It promises that the verdict depends only on the commits, in their order on
// main, and on the reviewers. It refuses to let a later commit of the hub vouch
// for what it was built on, and to take a proposal of the hub for an approval.
package trust

import (
	"maps"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
)

// Blob identifies a file's content and mode; "" is no file.
type Blob string

// Change is a path that a commit changed, against its first parent.
type Change struct {
	Path     string
	Old, New Blob
}

// Signer is who signed a commit.
type Signer struct {
	// Hub: the hub made the commit for main.
	Hub bool
	// Reviewer is the name of a listed reviewer, Tenants those whose files the
	// signature counts for; none means all files.
	Reviewer string
	Tenants  []string
	// Why it is neither, as in "it is not signed"; Bad: it pretends to be.
	Why string
	Bad bool
}

// Entitled reports whether a reviewer's signature counts for a path.
func (s Signer) Entitled(path string) bool {
	if s.Reviewer == "" || len(s.Tenants) == 0 {
		return s.Reviewer != ""
	}
	return slices.ContainsFunc(s.Tenants, func(tenant string) bool {
		return strings.HasPrefix(path, repo.TenantDir(tenant)+"/")
	})
}

// why says why a signature does not count for a path.
func (s Signer) why(path string) string {
	switch {
	case s.Reviewer != "":
		return "it is signed by " + s.Reviewer + ", whose signature does not count for this file"
	case s.Hub:
		return "the hub made it on top of a change that nobody entitled has signed"
	case s.Why == "":
		return "it is not signed"
	}
	return s.Why
}

// Commit is what there is to know of a commit.
type Commit struct {
	Hash    string
	Author  string
	Signer  Signer
	Changes []Change
	// Approves are the commits that its message approves.
	Approves []string
}

// Step is one commit of main, by first parents.
type Step struct {
	Commit
	// Side are the commits that a merge brings, in any order.
	Side []Commit
	// Reviews are proposals of the hub all of whose files main has after the step,
	// by path.
	Reviews []map[string]Blob
}

// Override is a path whose content on main does not count.
type Override struct {
	// Main is what main has, Trusted the last version that counts.
	Main, Trusted Blob
	Refused       repo.Refused
}

// Input is everything that a verdict depends on.
type Input struct {
	// Before are the overrides when main was judged last; Again are the newest
	// commits that changed their paths, to be judged once more.
	Before map[string]Override
	Again  []Step
	// Steps are the commits since, oldest first.
	Steps []Step
	// Approved are the commits that some commit among the steps approves.
	Approved map[string]Commit
	// ForgeApproves lets a commit that nobody known has signed carry out a
	// proposal of the hub as it is.
	ForgeApproves bool
}

// Judge returns the paths whose content on main does not count after the steps.
func Judge(in Input) map[string]Override {
	j := judge{in: in, now: maps.Clone(in.Before)}
	if j.now == nil {
		j.now = map[string]Override{}
	}
	for _, s := range in.Again {
		j.again(s)
	}
	for _, s := range in.Steps {
		j.step(s)
	}
	return j.now
}

type judge struct {
	in  Input
	now map[string]Override
}

// again judges the commits that put refused contents on main by today's
// reviewers.
func (j *judge) again(s Step) {
	approved := j.approvals(s)
	for _, c := range s.Changes {
		o, refused := j.now[c.Path]
		if refused && o.Refused.Newest == s.Hash && o.Main == c.New && j.vouched(s, c, true, approved) {
			delete(j.now, c.Path)
		}
	}
}

func (j *judge) step(s Step) {
	approved := j.approvals(s)
	for _, c := range s.Changes {
		o, refused := j.now[c.Path]
		if !refused {
			o.Trusted = c.Old
		}
		if c.New == o.Trusted || j.vouched(s, c, refused, approved) {
			delete(j.now, c.Path)
			continue
		}
		o.Main, o.Refused.Newest = c.New, s.Hash
		if !refused || !s.Signer.Hub { // a commit of the hub only carries the change along
			o.Refused.Commit, o.Refused.Author, o.Refused.Why = s.Hash, s.Author, s.Signer.why(c.Path)
		}
		j.now[c.Path] = o
	}
	if len(approved) == 0 && len(s.Reviews) == 0 {
		return
	}
	for path, o := range j.now { // also what earlier steps changed
		if approved[path][o.Main] || j.proposed(s, path, o.Main) {
			delete(j.now, path)
		}
	}
}

// vouched reports whether somebody entitled put a step's content at a path.
func (j *judge) vouched(s Step, c Change, refused bool, approved approvals) bool {
	if s.Signer.Entitled(c.Path) || s.Signer.Hub && !refused || approved[c.Path][c.New] || j.proposed(s, c.Path, c.New) {
		return true
	}
	byHub, tainted := false, refused
	for _, side := range s.Side {
		for _, d := range side.Changes {
			if d.Path != c.Path {
				continue
			}
			switch {
			case side.Signer.Entitled(c.Path):
				if d.New == c.New {
					return true
				}
			case side.Signer.Hub:
				byHub = byHub || d.New == c.New
			default:
				tainted = true
			}
		}
	}
	return byHub && !tainted
}

// proposed reports whether a forge carried out a proposal of the hub that has
// this content at the path.
func (j *judge) proposed(s Step, path string, content Blob) bool {
	if !j.in.ForgeApproves || s.Signer.Bad {
		return false
	}
	return slices.ContainsFunc(s.Reviews, func(files map[string]Blob) bool {
		blob, ok := files[path]
		return ok && blob == content
	})
}

// approvals are contents that count, by path.
type approvals map[string]map[Blob]bool

// approvals collects what a step approves, or what commits do that came with it:
// the changes of the commits that they name, as those have them.
func (j *judge) approvals(s Step) approvals {
	out := approvals{}
	for _, by := range append([]Commit{s.Commit}, s.Side...) {
		for _, hash := range by.Approves {
			for _, c := range j.in.Approved[hash].Changes {
				if !by.Signer.Entitled(c.Path) {
					continue
				}
				if out[c.Path] == nil {
					out[c.Path] = map[Blob]bool{}
				}
				out[c.Path][c.New] = true
			}
		}
	}
	return out
}
