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

package gitsync

import (
	"cmp"
	"slices"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/integrate"
	"github.com/kubelb/gitops/gitsync/plan"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// tenant is what a loop knows of one tenant.
type tenant struct {
	name     string
	object   *v1alpha1.Tenant
	mistakes []v1alpha1.Problem // in object
	// state is nil until the hub's Tenant controller made it.
	state *v1alpha1.TenantState
	stale bool // state has changed since it was read
	// store holds the intent and status branches: the loop's, or that of link, which
	// is nil where the tenant has no intent source.
	store *git.Store
	link  *link

	// Integrated.
	seen    seen             // what the outcome below was decided from
	outcome integrate.Result // without its edits
	refused *v1alpha1.Problem
	// unverified are files on main that nobody entitled has signed.
	unverified []v1alpha1.Problem
	decided    v1alpha1.ObservedIntent // zero: none yet
	read       bool                    // decided is what base/main says
	heard      time.Time               // when the CCM made what was decided last, as its commit says; zero: unknown

	review  reviewing
	applied applied
	status  statusBranch

	// told is the TenantState's status that was written last.
	told    *v1alpha1.TenantStateStatus
	toldGit *v1alpha1.TenantGitStatus
	// toldHeard is the condition Heard that was written with it.
	toldHeard []metav1.Condition
	untold    bool // something of the above may differ
	restored  bool
	// regit are the paths of objects whose status.git may have to change.
	regit map[string]bool
}

// seen identifies what a tenant's outcome depends on.
type seen struct {
	intent, base, main git.Hash
	shadow             git.Hash // see truth
	verify             v1alpha1.VerifyMode
	integrated         git.Hash // blob
	confirm            string
	generation         int64
	known              bool

	review   git.Hash
	reject   string
	pull     pull
	unpushed bool // its review branch could not be pushed
	// unfetched is why the tips of its intent and review branches could not be
	// fetched; empty: they were.
	unfetched string
	lacking   bool // some of its intents is missing in the store
}

// applied is what the hub has of the tenant's folder.
type applied struct {
	known bool     // a complete read came before
	root  git.Hash // tree of main
	dir   git.Hash // the tenant's folder in it
	// revision is the newest commit of main that changed the folder.
	revision string
	problems map[string][]v1alpha1.Problem // by path
	retry    map[string]bool               // paths whose objects could not be applied
	guarded  []plan.Ref                    // not pruned until people confirm it
	recently time.Time                     // when a load balancer was applied
}

// statusBranch is what the tenant has been told.
type statusBranch struct {
	known      bool // tip is what the server has
	tip        git.Hash
	tree       git.Hash
	generation int64
	ours       bool                        // tip is signed by the hub
	hubKeys    []string                    // that it announces
	full       bool                        // everything was rendered once
	dirty      map[string]client.ObjectKey // by path
	since      time.Time                   // when there was first something to push
	due        time.Time                   // when it is to be pushed; zero: nothing is
	pushed     time.Time
	refused    string // why the server did not take the last push; empty: it did
	retry      retry  // of what was refused
	// forced: the last push was to begin the branch anew, as this generation, and
	// was refused. grows: the server has a rule against that, so the branch is
	// continued instead.
	forced, grows bool
	forcedAt      int64
	// unfit says why files cannot be told as they are, by path, or by "" of all: the
	// branch keeps their last version.
	unfit map[string]string
}

func newTenant(name string) *tenant {
	return &tenant{
		name:    name,
		applied: applied{problems: map[string][]v1alpha1.Problem{}, retry: map[string]bool{}},
		status:  statusBranch{dirty: map[string]client.ObjectKey{}, unfit: map[string]string{}},
		regit:   map[string]bool{},
	}
}

func (t *tenant) suspended() bool { return t.object.Spec.Suspend }

// problems are the mistakes in the tenant's files, in the order of their paths,
// each once: the first of them, as many as a status lists, and how many there are.
func (t *tenant) problems() (listed []v1alpha1.Problem, count int) {
	all := slices.Concat(t.mistakes, t.outcome.Problems)
	for _, p := range []*v1alpha1.Problem{t.refused, t.away(), t.review.problem, t.review.unforged} {
		if p != nil {
			all = append(all, *p)
		}
	}
	if t.status.refused != "" {
		all = append(all, *t.refusal())
	}
	all = append(all, t.unsaid()...)
	all = append(all, t.unverified...)
	for _, problems := range t.applied.problems {
		all = append(all, problems...)
	}
	slices.SortFunc(all, func(a, b v1alpha1.Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	all = slices.Compact(all)
	return v1alpha1.FirstProblems(all), len(all) + t.outcome.MoreProblems
}

// unsaid are the problems of what the tenant cannot be told.
func (t *tenant) unsaid() (problems []v1alpha1.Problem) {
	for path, why := range t.status.unfit {
		problems = append(problems, v1alpha1.Problem{
			Path: cmp.Or(path, repo.TenantDir(t.name)), Object: v1alpha1.KindTenant + " " + t.name, Reason: v1alpha1.ReasonPushFailed,
			Message: "the tenant is told what was so far, because this cannot be written to its status branch: " + why,
			Remedy:  "make the tenant's documents fewer or smaller; if it stays, look at the hub's log",
		})
	}
	return v1alpha1.FileProblems(problems, 0)
}

// gitStatus is what the object at a path shows of Git; empty if it is as the
// tenant asks for.
func (t *tenant) gitStatus(path string) (status v1alpha1.GitStatus) {
	for _, h := range t.outcome.Held {
		if h.Path == path {
			h.Path = ""
			status.Held = append(status.Held, h)
		}
	}
	status.HeldSummary = v1alpha1.SummaryOf(status.Held)
	for _, p := range t.outcome.Pending {
		if p.Path == path {
			p.Path = ""
			status.Pending = append(status.Pending, p)
		}
	}
	return status
}
