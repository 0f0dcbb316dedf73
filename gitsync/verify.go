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
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/trust"
)

// Bounds of what is looked at to judge one commit.
const (
	maxSideCommits = 1000
	maxApprovals   = 50
	// maxApproved is how far behind main's tip a commit is looked for that is
	// approved.
	maxApproved = 1000
)

// verifier gathers what a verdict on main depends on.
type verifier struct {
	*loop
	repository string // that the hub's commits must name
	reviewers  []reviewer
	keys       []git.Key
	offers     map[string]*offer // by tenant
	vain       []repo.VainApproval
	lacking    bool // a commit that is approved may be one of long ago
}

// reviewer is one of spec.reviewers whose key can be read.
type reviewer struct {
	name    string
	tenants []string
}

func (l *loop) verifier() *verifier {
	v := &verifier{loop: l, repository: l.base.commit.Trailers.Get(repo.TrailerRepository), offers: map[string]*offer{}}
	for _, r := range l.source.Spec.Reviewers {
		if key, err := git.ParseKey(r.PublicKey); err == nil {
			v.reviewers = append(v.reviewers, reviewer{r.Name, r.Tenants})
			v.keys = append(v.keys, key)
		}
	}
	return v
}

// signer says whose signature a commit carries.
func (v *verifier) signer(c git.Commit) trust.Signer {
	if v.trusts(c) {
		branch := c.Trailers.Get(repo.TrailerBranch)
		switch {
		case c.Trailers.Get(repo.TrailerRepository) != v.repository:
			return trust.Signer{Why: "the hub made it for another repository"}
		case repo.RefPrefix+branch == v.mainRef():
			return trust.Signer{Hub: true}
		case strings.HasPrefix(repo.RefPrefix+branch, repo.ReviewRef("")):
			return trust.Signer{Why: "it is a proposal of the hub that nobody entitled has approved"}
		}
		return trust.Signer{Why: "the hub made it for another branch"}
	}
	i, err := c.SignedBy(v.keys...)
	switch {
	case err == nil:
		return trust.Signer{Reviewer: v.reviewers[i].name, Tenants: v.reviewers[i].tenants}
	case errors.Is(err, git.ErrUnsigned):
		return trust.Signer{Why: "it is not signed"}
	case errors.Is(err, git.ErrBadSignature):
		return trust.Signer{Why: "its signature is not valid", Bad: true}
	}
	_, of, _ := strings.Cut(err.Error(), git.ErrUnknownKey.Error()+": ")
	return trust.Signer{Why: strings.TrimSpace("it is signed with a key that no listed reviewer has: " + v1alpha1.Printable(of, 200))}
}

// facts are what there is to know of a commit, as a change of before.
func (v *verifier) facts(c git.Commit, before git.Hash) (trust.Commit, error) {
	out := trust.Commit{Hash: c.Hash.String(), Author: personOf(c), Signer: v.signer(c)}
	out.Approves = approvals(c)
	old, err := blobAt(v.store, before, repo.ConfigPath)
	if err != nil {
		return out, err
	}
	now, err := blobAt(v.store, c.Tree, repo.ConfigPath)
	if err != nil {
		return out, err
	}
	if old != now {
		out.Changes = append(out.Changes, trust.Change{Path: repo.ConfigPath, Old: old, New: now})
	}
	err = v.store.Diff(before, c.Tree, repo.TenantsDir, func(d git.Change) error {
		out.Changes = append(out.Changes, trust.Change{Path: d.Path, Old: blobOf(d.Old, d.OldMode), New: blobOf(d.New, d.NewMode)})
		return nil
	})
	return out, err
}

// approvals are the commits that a commit approves, as far as they are looked at.
func approvals(c git.Commit) (names []string) {
	for _, t := range c.Trailers {
		if !strings.EqualFold(t.Key, repo.TrailerApproves) {
			continue
		}
		for _, name := range strings.FieldsFunc(t.Value, func(r rune) bool { return r == ' ' || r == ',' }) {
			if len(names) < maxApprovals {
				names = append(names, v1alpha1.Printable(name, 80))
			}
		}
	}
	return names
}

// against is facts as a change of the commit's first parent.
func (v *verifier) against(c git.Commit) (trust.Commit, error) {
	var before git.Hash
	if len(c.Parents) > 0 {
		parent, err := v.store.Commit(c.Parents[0])
		if err != nil {
			return trust.Commit{}, err
		}
		before = parent.Tree
	}
	return v.facts(c, before)
}

// again are the commits that put refused contents on main, as far as the store
// still has them.
func (v *verifier) again(before map[string]trust.Override) (steps []trust.Step) {
	seen := map[string]bool{}
	for _, o := range before {
		if h, err := git.ParseHash(o.Refused.Newest); err == nil && !seen[o.Refused.Newest] {
			seen[o.Refused.Newest] = true
			if c, err := v.store.Commit(h); err == nil {
				if facts, err := v.against(c); err == nil {
					steps = append(steps, trust.Step{Commit: facts})
				}
			}
		}
	}
	return steps
}

// steps are the commits of main after the commit last, oldest first, and those
// that they approve. Where the store does not know them, more is loaded.
// What approves nothing is added to the approvals before, of which those of whom
// has signed anything since are dropped.
func (v *verifier) steps(ctx context.Context, last git.Hash, before []repo.VainApproval) (steps []trust.Step, approved map[string]trust.Commit, err error) {
	for _, depth := range depths {
		if depth > 0 {
			if err := v.remote.DeepenAll(ctx, v.store, depth, v.main.Hash, last); err != nil {
				return nil, nil, err
			}
		}
		v.vain, v.lacking = slices.Clone(before), false
		steps, approved, err = v.walk(last)
		if err == nil && v.lacking && depth < maxApproved {
			continue // a commit of long ago, perhaps
		}
		if !isMissing(err) {
			return steps, approved, err
		}
	}
	return nil, nil, fmt.Errorf("the history of main since commit %s cannot be loaded: %w", last.Short(), err)
}

func (v *verifier) walk(last git.Hash) ([]trust.Step, map[string]trust.Commit, error) {
	chain, err := v.chain(last)
	if err != nil {
		return nil, nil, err
	}
	approved := map[string]trust.Commit{}
	var steps []trust.Step
	before := last
	for i := len(chain) - 1; i >= 0; i-- {
		s, err := v.step(chain[i], before)
		if err != nil {
			return nil, nil, err
		}
		steps, before = append(steps, s), chain[i].Hash
		for _, c := range append([]trust.Commit{s.Commit}, s.Side...) {
			v.addApproved(approved, c)
		}
	}
	return steps, approved, nil
}

// chain are the commits from main's tip down to the one that continues last: by
// first parents, or where main came in through another parent (git pull), the
// merge that brought it.
func (v *verifier) chain(last git.Hash) ([]git.Commit, error) {
	var chain []git.Commit
	if v.main.Hash == last {
		return nil, nil
	}
	var end error
	for c, err := range v.store.FirstParents(v.main.Hash) {
		if end = err; err != nil {
			break
		}
		if c.Hash == last {
			return chain, nil
		}
		chain = append(chain, c)
	}
	for i, c := range chain {
		for _, side := range c.Parents[min(1, len(c.Parents)):] {
			reaches, err := v.store.Reaches(side, last)
			if reaches {
				return chain[:i+1], nil
			}
			if err != nil && end == nil {
				end = err
			}
		}
	}
	if end != nil {
		return nil, end
	}
	return nil, fmt.Errorf("%w: main does not reach commit %s", git.ErrMissing, last.Short())
}

// step gathers one commit of main.
func (v *verifier) step(c git.Commit, before git.Hash) (trust.Step, error) {
	parent, err := v.store.Commit(before)
	if err != nil {
		return trust.Step{}, err
	}
	facts, err := v.facts(c, parent.Tree)
	s := trust.Step{Commit: facts}
	if err != nil || facts.Signer.Reviewer != "" && len(facts.Signer.Tenants) == 0 {
		return s, err
	}
	if len(c.Parents) > 1 || len(c.Parents) == 1 && c.Parents[0] != before {
		if s.Side, err = v.side(c, before); err != nil {
			return s, err
		}
	}
	if v.source.Spec.TrustForgeApproval && facts.Signer.Why != "" {
		s.Reviews, err = v.carriedOut(c, s)
	}
	return s, err
}

// side are the commits that a merge brings: those behind its parents that were
// not behind before. A history too long to tell brings none.
func (v *verifier) side(c git.Commit, before git.Hash) ([]trust.Commit, error) {
	mainline := map[git.Hash]int{} // the first parents of before
	for m, err := range v.store.FirstParents(before) {
		if err != nil || len(mainline) > maxHistory {
			break
		}
		mainline[m.Hash] = len(mainline)
	}
	found, oldest, err := v.behind(c.Parents, mainline, before)
	if err != nil || found == nil {
		return nil, err
	}
	// What an earlier merge brought is not brought again.
	var sides []git.Hash
	for m, err := range v.store.FirstParents(before) {
		if err != nil {
			return nil, err
		}
		if mainline[m.Hash] >= oldest {
			break
		}
		sides = append(sides, m.Parents[min(1, len(m.Parents)):]...)
	}
	known, _, err := v.behind(sides, mainline, before)
	if err != nil || known == nil && len(sides) > 0 {
		return nil, err
	}
	var out []trust.Commit
	for h, commit := range found {
		if _, ok := known[h]; ok {
			continue
		}
		facts, err := v.against(commit)
		if err != nil {
			return nil, err
		}
		out = append(out, facts)
	}
	return out, nil
}

// behind walks from tips over all parents down to the mainline; oldest is how
// far back it was met. It returns nil where that is too far.
func (v *verifier) behind(tips []git.Hash, mainline map[git.Hash]int, before git.Hash) (found map[git.Hash]git.Commit, oldest int, err error) {
	found = map[git.Hash]git.Commit{}
	for todo := append([]git.Hash{}, tips...); len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at, ok := mainline[h]; ok {
			oldest = max(oldest, at)
			continue
		}
		if _, ok := found[h]; ok || h == before {
			continue
		}
		c, err := v.store.Commit(h)
		if err != nil {
			return nil, 0, err
		}
		if len(c.Parents) == 0 || len(found) >= maxSideCommits {
			return nil, 0, nil
		}
		found[h] = c
		todo = append(todo, c.Parents...)
	}
	return found, oldest, nil
}

// addApproved adds the commits that a commit approves. One that the repository
// does not have, or that cannot be read, approves nothing: the approver may have
// mistyped it, and nobody else is to blame.
func (v *verifier) addApproved(approved map[string]trust.Commit, by trust.Commit) {
	reviewer := by.Signer.Reviewer
	if reviewer == "" {
		return
	}
	v.vain = slices.DeleteFunc(v.vain, func(a repo.VainApproval) bool { return a.Reviewer == reviewer && a.Commit != by.Hash })
	for _, name := range by.Approves {
		h, err := git.ParseHash(name)
		if err == nil {
			var c git.Commit
			if c, err = v.store.Commit(h); err == nil {
				var facts trust.Commit
				if facts, err = v.against(c); err == nil {
					approved[name] = facts
				}
			}
			v.lacking = v.lacking || isMissing(err)
		}
		if err != nil && len(v.vain) < maxVain {
			v.vain = append(v.vain, repo.VainApproval{Commit: by.Hash, Reviewer: v1alpha1.Printable(reviewer, v1alpha1.MaxName), Names: name})
		}
	}
}

// maxVain is how many approvals that count for nothing are told.
const maxVain = 16

func vainProblem(a repo.VainApproval, source string) v1alpha1.Problem {
	return v1alpha1.Problem{
		Object: v1alpha1.KindGitSource + " " + source, Field: "spec.verify", Reason: v1alpha1.ReasonUnverified,
		Message: fmt.Sprintf("commit %.12s on main, signed by %s, approves %q, which is no commit that the repository has and that can be read: this approval counts for nothing", a.Commit, a.Reviewer, a.Names),
		Remedy:  fmt.Sprintf("let %s run `kubelbctl approve` with a commit of main or of a review branch; this is told until then", a.Reviewer),
	}
}

// offer is the hub's newest review commit of a tenant.
type offer struct {
	commit git.Commit
	files  map[string]trust.Blob
}

// carriedOut are the proposals of the hub that main has after a commit, each as
// a whole and as it is: those that came with a merge, and the tips of review
// branches.
func (v *verifier) carriedOut(c git.Commit, s trust.Step) (reviews []map[string]trust.Blob, err error) {
	tips := append([]git.Hash{c.Hash}, c.Parents[min(1, len(c.Parents)):]...)
	tenants := map[string]bool{}
	for _, change := range s.Changes {
		tenants[tenantOf(change.Path)] = true
	}
	for tenant := range tenants {
		t := v.tenants[tenant]
		if t == nil {
			continue
		}
		newest := v.newestOffer(tenant, append(tips, v.refs[repo.ReviewRef(tenant)], t.review.branch.tip))
		if newest == nil {
			continue
		}
		decided, err := v.lastIntegrated(tenant)
		if err != nil {
			return nil, err
		}
		if newest.commit.Trailers.Number(repo.TrailerGeneration) <= decided.ReviewGeneration && decided.ReviewOutcome != repo.ReviewReopened {
			continue // it was closed or rejected: nobody can carry it out any more
		}
		whole := len(newest.files) > 0
		for path, blob := range newest.files {
			has, err := blobAt(v.store, c.Tree, path)
			if err != nil {
				return nil, err
			}
			whole = whole && has == blob
		}
		if whole {
			reviews = append(reviews, newest.files)
		}
	}
	return reviews, nil
}

// newestOffer finds the hub's newest proposal at or behind some tips, by
// first parents.
func (v *verifier) newestOffer(tenant string, tips []git.Hash) *offer {
	best := v.offers[tenant]
	for _, tip := range tips {
		n := 0
		for c, err := range v.store.FirstParents(tip) {
			if n++; err != nil || n > maxReview {
				break
			}
			if !v.trusts(c) || c.Trailers.Get(repo.TrailerRepository) != v.repository || repo.RefPrefix+c.Trailers.Get(repo.TrailerBranch) != repo.ReviewRef(tenant) {
				continue
			}
			if best == nil || c.Trailers.Number(repo.TrailerGeneration) > best.commit.Trailers.Number(repo.TrailerGeneration) {
				if files, err := v.proposed(tenant, c); err == nil {
					best = &offer{c, files}
				}
			}
			break
		}
	}
	v.offers[tenant] = best
	return best
}

// proposed are the files that a review commit changes of the main commit that
// it was made for.
func (v *verifier) proposed(tenant string, c git.Commit) (map[string]trust.Blob, error) {
	made, err := git.ParseHash(c.Trailers.Get(repo.TrailerMain))
	if err != nil {
		return nil, err
	}
	main, err := v.store.Commit(made)
	if err != nil {
		return nil, err
	}
	files := map[string]trust.Blob{}
	err = v.store.Diff(main.Tree, c.Tree, repo.TenantDir(tenant), func(d git.Change) error {
		files[d.Path] = blobOf(d.New, d.NewMode)
		return nil
	})
	return files, err
}

// tellUnverified turns what does not count into problems of the tenants and of
// the GitSource.
func (l *loop) tellUnverified(before map[string]trust.Override) {
	l.unverified = nil
	l.unverified = append(l.unverified, l.reviewerProblems()...)
	for _, a := range l.truth.vain {
		l.unverified = append(l.unverified, vainProblem(a, l.key.Name))
	}
	mine := map[string][]v1alpha1.Problem{}
	for path, o := range l.truth.overrides {
		p := l.unverifiedProblem(path, o)
		if name := tenantOf(path); l.tenants[name] != nil {
			mine[name] = append(mine[name], p)
		} else {
			l.unverified = append(l.unverified, p)
		}
	}
	for name, t := range l.tenants {
		if len(mine[name])+len(t.unverified) > 0 {
			t.unverified, t.untold = mine[name], true
			l.want(t)
		}
	}
	for path, o := range l.truth.overrides {
		if before[path] != o {
			l.log.Info("a change on main does not count", "path", path, "commit", o.Refused.Commit, "author", o.Refused.Author,
				"why", o.Refused.Why, "verify", l.source.Spec.Verify)
		}
	}
	unverifiedPaths.WithLabelValues(l.key.String()).Set(float64(len(l.truth.overrides)))
}

func (l *loop) unverifiedProblem(path string, o trust.Override) v1alpha1.Problem {
	commit := o.Refused.Commit
	what := fmt.Sprintf("commit %s of %s changed this file on main, but %s", commit[:min(len(commit), 12)], o.Refused.Author, o.Refused.Why)
	switch {
	case l.source.Spec.Verify == v1alpha1.VerifyWarn:
		what += "; it is taken all the same, because the GitSource's spec.verify is Warn"
	case o.Trusted == "":
		what += "; the file is left out until somebody entitled approves it"
	case o.Main == "":
		what += "; the file stays in force as it was before it was removed"
	default:
		what += "; its last version that counts stays in force"
	}
	p := problemOf(path, v1alpha1.ReasonUnverified, what,
		fmt.Sprintf("let %s run `kubelbctl approve %s` or push a signed commit of the file, or revert the change", l.mayApprove(path), o.Refused.Newest))
	return *p
}

// mayApprove names those whose signatures count for a path.
func (l *loop) mayApprove(path string) string {
	var names []string
	for _, r := range l.source.Spec.Reviewers {
		if (trust.Signer{Reviewer: r.Name, Tenants: r.Tenants}).Entitled(path) {
			names = append(names, r.Name)
		}
	}
	switch n := len(names); {
	case n == 0:
		return "somebody whom you add to the GitSource's spec.reviewers for this file"
	case n > 5:
		return strings.Join(names[:5], ", ") + " or another reviewer of this file"
	}
	return strings.Join(names, " or ")
}

// reviewerProblems are mistakes in spec.reviewers, and what weakens spec.verify.
func (l *loop) reviewerProblems() (problems []v1alpha1.Problem) {
	if !l.verifies() {
		return nil
	}
	object := v1alpha1.KindGitSource + " " + l.key.Name
	for _, r := range l.source.Spec.Reviewers {
		if _, err := git.ParseKey(r.PublicKey); err != nil {
			problems = append(problems, v1alpha1.Problem{
				Object: object, Field: "spec.reviewers", Reason: v1alpha1.ReasonUnverified,
				Message: fmt.Sprintf("the public key of %s cannot be used, so no signature of theirs counts: %v", r.Name, err),
				Remedy:  "write one line of an authorized_keys file, or an armored OpenPGP public key",
			})
		}
	}
	if l.source.Spec.Apply == v1alpha1.ApplyDisabled && l.source.Spec.Verify == v1alpha1.VerifyRequire {
		problems = append(problems, v1alpha1.Problem{
			Object: object, Field: "spec.verify", Reason: v1alpha1.ReasonUnverified,
			Message: "spec.apply is Disabled: whoever applies main instead of the hub also applies what does not count",
			Remedy:  "let the branch rules of the Git server require signed commits, or set spec.apply to Enabled",
		})
	}
	return problems
}

// unguarded warns of a tenant whose intents anybody may write although main is
// verified.
func (l *loop) unguarded(t *v1alpha1.Tenant) []v1alpha1.Problem {
	if !l.verifies() || len(t.Spec.Git.AllowedSigners) > 0 {
		return nil
	}
	return []v1alpha1.Problem{{
		Path: repo.TenantDir(t.Name), Object: v1alpha1.KindTenant + " " + t.Name, Field: "spec.git.allowedSigners", Reason: v1alpha1.ReasonNoAllowedSigners,
		Message: "main is verified, but whoever can push the tenant's intent branch decides what the hub integrates",
		Remedy:  "set the field to the public key in the CCM's Secret kubelb-ccm-key",
	}}
}
