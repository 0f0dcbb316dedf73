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

// Package check says of the files of main, before they are pushed, what the hub
// will say of them. It is pure and calls what the hub calls.
//
//	result := check.Tree(tree)           // all of it
//	result := check.Change(main, merged) // a pull request: what it changes
//
// It promises the hub's own problems: of files that cannot be used, with path,
// field and remedy. It cannot know what only the hub does: which Tenants there
// are, what they may have, what addresses are free.
package check

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/describe"
	"github.com/kubelb/gitops/gitsync/plan"
)

// Result is what there is to say.
type Result struct {
	// Problems are of files that the hub refuses.
	Problems []v1alpha1.Problem `json:"problems,omitempty"`
	// Warnings are of what is accepted and will not serve, or waits until it is
	// confirmed.
	Warnings []v1alpha1.Problem `json:"warnings,omitempty"`
	// Elsewhere counts the problems of files that the change does not touch.
	Elsewhere int `json:"elsewhere,omitempty"`
	// Documents is how many are good.
	Documents int `json:"documents"`
}

// Tree checks all files of main.
func Tree(tree repo.Tree) Result {
	r := Result{Problems: config(tree)}
	folders := map[string]repo.Tree{}
	for path, file := range tree {
		rest, ok := strings.CutPrefix(path, repo.TenantsDir+"/")
		tenant, _, inside := strings.Cut(rest, "/")
		switch {
		case ok && inside:
			if folders[tenant] == nil {
				folders[tenant] = repo.Tree{}
			}
			folders[tenant][path] = file
		case (ok || path == repo.TenantsDir) && !ignored(rest):
			r.Warnings = append(r.Warnings, v1alpha1.Problem{
				Path: path, Reason: repo.ReasonUnknownPath, Message: "the hub does not read this file: it is in no tenant's folder", Remedy: "remove the file",
			})
		}
	}
	for _, tenant := range slices.Sorted(maps.Keys(folders)) {
		p := plan.Full(tenant, folders[tenant], nil)
		r.Problems = append(r.Problems, p.Problems...)
		r.Documents += len(p.Apply)
	}
	r.Warnings = append(r.Warnings, describe.Unfit(tree)...)
	sort(r.Problems)
	sort(r.Warnings)
	return r
}

func ignored(name string) bool { return name == "README.md" || name == ".gitkeep" }

func sort(problems []v1alpha1.Problem) {
	slices.SortStableFunc(problems, func(a, b v1alpha1.Problem) int { return strings.Compare(a.Path, b.Path) })
}

// config checks kubelb.yaml, without which the hub does nothing.
func config(tree repo.Tree) []v1alpha1.Problem {
	file, ok := tree[repo.ConfigPath]
	if _, err := repo.ReadConfig(file, ok); err != nil {
		return []v1alpha1.Problem{{
			Path: repo.ConfigPath, Reason: v1alpha1.ReasonRepositoryInvalid, Message: repo.ConfigPath + " " + err.Error(),
			Remedy: "restore the file from the history of main; `kubelbctl init` makes it for a new repository",
		}}
	}
	return nil
}

// Change checks what main would be after a change, and blames the change only
// for the files that it touches.
func Change(before, after repo.Tree) Result {
	r := Tree(after)
	touched := func(p v1alpha1.Problem) bool {
		was, had := before[p.Path]
		now, has := after[p.Path]
		return had != has || was.Mode != now.Mode || was.Size != now.Size || !bytes.Equal(was.Data, now.Data) || was.Data == nil && was.Size > 0
	}
	r.Problems, r.Elsewhere = split(r.Problems, touched)
	was := map[string]bool{}
	for _, p := range describe.Unfit(before) {
		was[p.Path+" "+p.Field+" "+p.Message] = true
	}
	r.Warnings, _ = split(r.Warnings, func(p v1alpha1.Problem) bool { return touched(p) || !was[p.Path+" "+p.Field+" "+p.Message] })
	r.Problems = append(r.Problems, otherRepository(before, after)...)
	r.Warnings = append(r.Warnings, removals(before, after)...)
	sort(r.Problems)
	sort(r.Warnings)
	return r
}

func split(problems []v1alpha1.Problem, mine func(v1alpha1.Problem) bool) (out []v1alpha1.Problem, others int) {
	for _, p := range problems {
		if mine(p) {
			out = append(out, p)
		} else {
			others++
		}
	}
	return out, others
}

// otherRepository refuses another identity: the hub would stop.
func otherRepository(before, after repo.Tree) []v1alpha1.Problem {
	was, err := repo.DecodeConfig(before[repo.ConfigPath].Data)
	if err != nil || was.RepositoryID == "" {
		return nil
	}
	now, err := repo.DecodeConfig(after[repo.ConfigPath].Data)
	if err != nil || now.RepositoryID == "" || now.RepositoryID == was.RepositoryID {
		return nil
	}
	return []v1alpha1.Problem{{
		Path: repo.ConfigPath, Field: "repositoryID", Reason: v1alpha1.ReasonRepositoryInvalid,
		Message: "the repositoryID is another one: the hub would take this for another repository and stop", Remedy: "restore the file",
	}}
}

// removals warns of what the hub will not remove before it is confirmed.
func removals(before, after repo.Tree) (out []v1alpha1.Problem) {
	gone, wishes := map[string][]plan.Ref{}, map[string]int{}
	for path := range before {
		p, err := repo.ParsePath(path)
		if err != nil {
			continue
		}
		if !p.Fact() {
			wishes[p.Tenant]++
		}
		if _, stays := after[path]; !stays {
			gone[p.Tenant] = append(gone[p.Tenant], plan.Ref{Path: path})
		}
	}
	for _, tenant := range slices.Sorted(maps.Keys(gone)) {
		if _, guarded := plan.Guard(gone[tenant], plan.Removals{Wishes: wishes[tenant]}); len(guarded) > 0 {
			out = append(out, v1alpha1.Problem{
				Path: repo.TenantDir(tenant), Object: v1alpha1.KindTenant + " " + tenant, Reason: v1alpha1.ReasonApplyGuarded,
				Message: fmt.Sprintf("%d documents are removed, most of what the tenant has; the hub will not remove them before it is confirmed", len(guarded)),
				Remedy:  "after the merge: kubelbctl confirm " + tenant,
			})
		}
	}
	return out
}
