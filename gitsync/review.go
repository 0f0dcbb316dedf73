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
	"maps"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/integrate"
)

// maxReview is how many commits of a review branch are looked at, maxSide how
// many of a branch that was merged into main.
const (
	maxReview = 200
	maxSide   = 50
)

// Reasons of problems with review branches.
const (
	reasonReviewEdited  = "ReviewEdited"
	reasonReviewForeign = "ReviewForeign"
	reasonReviewRefused = "ReviewRefused"
)

// reviewing is what a loop knows of a tenant's review.
type reviewing struct {
	branch branch
	// proposes: the branch holds a proposal that waits for people.
	proposes bool
	// problem is why the branch is not what it should be; lost counts pushes of it
	// that were refused one after the other.
	problem *v1alpha1.Problem
	lost    int
	// pull is the pull request as the forge had it last; unforged is why there is
	// none.
	pull     pull
	unforged *v1alpha1.Problem
	question int // asked of the forge when the branch was gone
	// fresh: this process began the branch, so of pull requests that are not open
	// only the one that it saw open since then, opened, can be the branch's.
	fresh  bool
	opened int64
}

// branch is a review branch.
type branch struct {
	tip git.Hash // zero: there is none
	// commits are its first parents, from the tip to where it left main.
	commits []proposal
	// gone: the server has it no more, and this is how it was.
	gone bool
	// generation that it had before it was deleted.
	generation int64
}

// proposal is a commit of a review branch. Those of people have no generation.
type proposal struct {
	git.Commit
	generation int64
	main       git.Hash // the commit of main that it changes
}

// newest returns the newest commit by the hub at or below the i-th, nil if there
// is none above the generation that was decided.
func (b branch) newest(i int, decided int64) *proposal {
	for ; i >= 0 && i < len(b.commits); i++ {
		if p := &b.commits[i]; p.generation > decided {
			return p
		} else if p.generation > 0 {
			return nil
		}
	}
	return nil
}

// index finds a commit, -1 if it is none of the branch.
func (b branch) index(commit string) int {
	for i, c := range b.commits {
		if c.Hash.String() == commit {
			return i
		}
	}
	return -1
}

// edited reports whether people committed on top of the hub's last commit.
func (b branch) edited() bool { return len(b.commits) > 0 && b.commits[0].generation == 0 }

// foreign reports whether there is a branch without a commit by the hub.
func (b branch) foreign() bool { return !b.tip.IsZero() && b.newest(0, 0) == nil }

// highest is the highest generation that the branch had.
func (b branch) highest() int64 {
	if p := b.newest(0, 0); p != nil {
		return max(p.generation, b.generation)
	}
	return b.generation
}

// readReview reads a tenant's review branch. Only errors of the connection are
// returned: what cannot be read is a branch without commits by the hub.
func (l *loop) readReview(ctx context.Context, t *tenant, tip git.Hash) (branch, error) {
	known := t.review.branch
	switch {
	case tip == known.tip && !known.gone && t.seen.unfetched == "":
		return known, nil
	case tip.IsZero():
		known.gone = true
		return known, nil
	}
	b := branch{tip: tip}
	if l.notFetched(t, repo.ReviewRef(t.name)) != "" {
		return b, nil
	}
	for _, depth := range []int{0, 20, maxReview} {
		if depth > 0 {
			if err := l.remote.Past(ctx, l.store, tip, depth); err != nil && !git.OfContent(err) {
				return b, err
			}
		}
		commits, err := l.walkReview(t.name, tip)
		b.commits = commits
		if !errors.Is(err, git.ErrMissing) {
			break
		}
	}
	return b, nil
}

func (l *loop) walkReview(tenant string, tip git.Hash) (commits []proposal, err error) {
	review := strings.TrimPrefix(repo.ReviewRef(tenant), repo.RefPrefix)
	main := strings.TrimPrefix(l.mainRef(), repo.RefPrefix)
	for c, err := range l.store.FirstParents(tip) {
		if err != nil {
			return commits, err
		}
		p := proposal{Commit: c}
		on := c.Trailers.Get(repo.TrailerBranch)
		if (on == review || on == main) && c.Trailers.Get(repo.TrailerRepository) == l.id && l.trusts(c) {
			if on == main {
				return commits, nil
			}
			p.generation = c.Trailers.Number(repo.TrailerGeneration)
			p.main, _ = git.ParseHash(c.Trailers.Get(repo.TrailerMain))
		}
		commits = append(commits, p)
		if len(commits) == maxReview || p.generation > 0 && len(c.Parents) > 0 && c.Parents[0] == p.main {
			return commits, nil
		}
	}
	return commits, nil
}

// changes returns what a commit of a review branch changes of main's documents.
func (l *loop) changes(ctx context.Context, tenant string, tip git.Hash, p proposal, after git.Hash) (before, now repo.Tree, err error) {
	for _, depth := range []int{20, maxReview} {
		if l.store.Has(p.main) {
			break
		}
		if err := l.remote.Past(ctx, l.store, tip, depth); err != nil {
			return nil, nil, err
		}
	}
	made, err := l.store.Commit(p.main)
	if err != nil {
		return nil, nil, err
	}
	return l.between(tenant, made.Tree, after)
}

// meant is changes where it matters what the tenant asked for: the hub proposes a
// change of what counts, although main has something else at paths that nobody
// entitled has signed. Base says what counted so far; a merge of the proposal
// ends that.
func (l *loop) meant(ctx context.Context, tenant string, tip git.Hash, p proposal, after git.Hash) (before, now repo.Tree, err error) {
	if before, now, err = l.changes(ctx, tenant, tip, p, after); err != nil || l.source.Spec.Verify != v1alpha1.VerifyRequire {
		return before, now, err
	}
	for path := range merged(before, now) {
		_, refused, err := l.store.Lookup(l.base.tree, repo.RefusedDir+"/"+path)
		if err != nil {
			return nil, nil, err
		}
		if !refused {
			continue
		}
		file, ok, err := l.store.File(l.base.tree, repo.TrustedDir+"/"+path)
		if err != nil {
			return nil, nil, err
		}
		if delete(before, path); ok {
			before[path] = file
		}
	}
	return before, now, nil
}

// between returns the files of a tenant's wishes in which two trees differ.
func (l *loop) between(tenant string, a, b git.Hash) (before, after repo.Tree, err error) {
	before, after = repo.Tree{}, repo.Tree{}
	err = l.store.Diff(a, b, repo.TenantDir(tenant), func(c git.Change) error {
		if p, bad := repo.ParsePath(c.Path); bad != nil || p.Fact() {
			return nil //nolint:nilerr // no wish
		}
		for _, side := range []struct {
			root git.Hash
			tree repo.Tree
		}{{a, before}, {b, after}} {
			file, ok, err := l.store.File(side.root, c.Path)
			if err != nil {
				return err
			}
			if ok {
				side.tree[c.Path] = file
			}
		}
		return nil
	})
	return before, after, err
}

// reviewed adds to a step what is known of the tenant's review: the intent
// version that it was made from, and whether it is decided as a whole.
func (l *loop) reviewed(ctx context.Context, d *decision, last repo.Integrated, in *integrate.Input) error {
	in.Review = d.tenant.object.Spec.Git.Review == v1alpha1.ReviewRequired
	d.record = last
	var err error
	if d.review, err = l.readReview(ctx, d.tenant, d.seen.review); err != nil {
		return err
	}
	if d.frozen = d.refuse != nil || d.seen.intent.IsZero(); d.frozen {
		return nil
	}
	p, outcome, err := l.verdict(ctx, d, last)
	if err == nil && p != nil && outcome != repo.ReviewReopened {
		err = l.recall(ctx, d, p, outcome, in)
	} else if err == nil && p != nil {
		err = l.reopen(ctx, d, p, in)
	}
	if err == nil && p == nil && d.review.gone && d.review.newest(0, last.ReviewGeneration) != nil {
		d.frozen = l.askForge(d)
	}
	if waits := d.review.newest(0, last.ReviewGeneration) != nil; !waits && outcomes[d.seen.pull.state] != "" {
		d.record.ReviewPull = max(d.record.ReviewPull, d.seen.pull.number) // none of a later review
	}
	if git.OfContent(err) {
		d.frozen, d.problem = true, l.reviewProblem(d.tenant.name, reasonReviewForeign,
			"cannot be read: "+err.Error(), "delete the branch: the hub makes it anew")
		return nil
	}
	return err
}

// recall hands in the intent version behind a review.
func (l *loop) recall(ctx context.Context, d *decision, p *proposal, outcome repo.ReviewOutcome, in *integrate.Input) error {
	before, after, err := l.meant(ctx, d.tenant.name, d.review.tip, *p, p.Tree)
	if err != nil {
		return err
	}
	base, err := l.at(l.base.tree, before, after)
	if err != nil {
		return err
	}
	in.Proposed = integrate.Behind(d.tenant.name, before, after, base)
	if outcome == "" {
		return nil
	}
	in.Closed = true
	d.outcome = outcome
	d.note(d.decides, p.generation, outcome, max(d.seen.pull.number, d.record.ReviewPull))
	return nil
}

// withdraw notes that nothing is left of a proposal that was not decided.
func (d *decision) withdraw() {
	if p := d.review.newest(0, d.record.ReviewGeneration); p != nil && !d.review.gone && !d.frozen && len(d.result.Review) == 0 {
		d.note(d.review.tip.String(), p.generation, repo.ReviewWithdrawn, max(d.seen.pull.number, d.record.ReviewPull))
	}
}

// note has base/main say what became of a review.
func (d *decision) note(commit string, generation int64, outcome repo.ReviewOutcome, pull int64) {
	d.record.Review, d.record.ReviewGeneration, d.record.ReviewOutcome, d.record.ReviewPull = commit, generation, outcome, pull
}

// reopen takes back that a review was rejected: base becomes what it was.
func (l *loop) reopen(ctx context.Context, d *decision, p *proposal, in *integrate.Input) error {
	before, after, err := l.meant(ctx, d.tenant.name, d.review.tip, *p, p.Tree)
	if err != nil {
		return err
	}
	base, err := l.at(l.base.tree, before, after)
	if err != nil {
		return err
	}
	again := integrate.Behind(d.tenant.name, after, before, base)
	d.rebase = map[string][]byte{}
	for path := range merged(before, after) {
		file, ok := again[path]
		if _, differs := merged(in.Intent, in.Base, in.Main)[path]; !differs {
			continue // all agree by now
		}
		delete(in.Base, path)
		if d.rebase[path] = nil; ok {
			in.Base[path], d.rebase[path] = file, file.Data
		}
	}
	d.outcome = repo.ReviewReopened
	d.note(d.decides, p.generation-1, repo.ReviewReopened, d.seen.pull.number-1)
	return nil
}

// at returns the files of a root at the paths of some trees.
func (l *loop) at(root git.Hash, trees ...repo.Tree) (repo.Tree, error) {
	out := repo.Tree{}
	for path := range merged(trees...) {
		file, ok, err := l.store.File(root, path)
		if err != nil {
			return nil, err
		}
		if ok {
			out[path] = file
		}
	}
	return out, nil
}

func merged(trees ...repo.Tree) repo.Tree {
	all := repo.Tree{}
	for _, tree := range trees {
		maps.Copy(all, tree)
	}
	return all
}

// verdict finds the proposal that is open or was decided as a whole, and how. A
// proposal whose outcome is empty is open.
func (l *loop) verdict(ctx context.Context, d *decision, last repo.Integrated) (*proposal, repo.ReviewOutcome, error) {
	b, pull, decided := d.review, d.seen.pull, last.ReviewGeneration
	said := outcomes[pull.state]
	if r := d.tenant.review; pull.number <= last.ReviewPull || r.fresh && pull.number != r.opened {
		said = ""
	}
	// What was said of a commit is said of the proposal that it contains.
	for _, by := range []struct {
		commit  string
		outcome repo.ReviewOutcome
	}{{d.seen.reject, repo.ReviewRejected}, {pull.head, said}} {
		if by.commit == "" || by.outcome == "" {
			continue
		}
		if p := b.newest(b.index(by.commit), decided); p != nil {
			d.decides = by.commit
			return p, by.outcome, nil
		}
	}
	p := b.newest(0, decided)
	if p == nil {
		if again := b.newest(0, 0); again != nil && !b.gone && last.ReviewOutcome == repo.ReviewClosed &&
			again.generation == decided && pull.state == forge.Open && b.index(pull.head) >= 0 {
			d.decides = b.tip.String()
			return again, repo.ReviewReopened, nil
		}
		return nil, "", nil
	}
	switch taken, err := l.taken(ctx, d, *p); {
	case err != nil:
		return nil, "", err
	case taken:
		d.decides = b.tip.String()
		return p, repo.ReviewMerged, nil
	case b.gone: // deleting the branch decides nothing
		return nil, "", nil
	}
	return p, "", nil
}

var outcomes = map[forge.State]repo.ReviewOutcome{forge.Closed: repo.ReviewClosed, forge.Merged: repo.ReviewMerged}

// taken reports whether main has the tip of the review branch: as an ancestor,
// or in content, however it came there.
func (l *loop) taken(ctx context.Context, d *decision, p proposal) (bool, error) {
	tip := d.review.commits[0]
	before, after, err := l.meant(ctx, d.tenant.name, d.review.tip, p, tip.Tree)
	if err != nil {
		return false, err
	}
	main, err := l.at(l.truth.followed, before, after)
	if err != nil {
		return false, err
	}
	same := len(before)+len(after) > 0
	for path := range merged(before, after) {
		a, inReview := after[path]
		m, onMain := main[path]
		same = same && inReview == onMain && a.Mode == m.Mode && string(a.Data) == string(m.Data)
	}
	if same {
		return true, nil
	}
	return l.mergedIn(ctx, tip.Hash, p.main)
}

// mergedIn reports whether main has merged a commit since it was at another one.
func (l *loop) mergedIn(ctx context.Context, tip, since git.Hash) (bool, error) {
	for _, depth := range []int{0, 50, maxHistory} {
		if depth > 0 {
			if err := l.remote.Deepen(ctx, l.store, l.main.Hash, depth); err != nil {
				return false, err
			}
		}
		found, sure, err := l.searchMerge(tip, since)
		if err != nil || found || sure {
			return found, err
		}
	}
	return false, nil
}

func (l *loop) searchMerge(tip, since git.Hash) (found, sure bool, err error) {
	n := 0
	for c, err := range l.store.FirstParents(l.main.Hash) {
		switch {
		case errors.Is(err, git.ErrMissing):
			return false, false, nil
		case err != nil:
			return false, false, err
		case c.Hash == tip:
			return true, true, nil
		case c.Hash == since || n > maxHistory:
			return false, true, nil
		}
		n++
		for _, side := range c.Parents[min(1, len(c.Parents)):] {
			if l.onSide(side, tip, since) {
				return true, true, nil
			}
		}
	}
	return false, true, nil
}

// onSide looks for a commit on a branch that was merged, which people may have
// worked on before they did.
func (l *loop) onSide(side, tip, since git.Hash) bool {
	n := 0
	for c, err := range l.store.FirstParents(side) {
		if err != nil || c.Hash == since || n > maxSide {
			return false
		}
		if c.Hash == tip {
			return true
		}
		n++
	}
	return false
}

func (l *loop) reviewProblem(tenant, reason, message, remedy string) *v1alpha1.Problem {
	return &v1alpha1.Problem{
		Path: repo.TenantDir(tenant), Object: v1alpha1.KindTenant + " " + tenant, Reason: reason,
		Message: fmt.Sprintf("the branch review/%s %s", tenant, message), Remedy: remedy,
	}
}

// reviewStatus is what people are told of a proposal that waits for them.
func (t *tenant) reviewStatus() *v1alpha1.ReviewStatus {
	r := t.review
	if !r.proposes || r.branch.tip.IsZero() || r.branch.gone {
		return nil
	}
	status := &v1alpha1.ReviewStatus{Commit: r.branch.tip.String()}
	if p := r.branch.newest(0, 0); p != nil {
		status.Intent = p.Trailers.Get(repo.TrailerIntent)
	}
	if r.pull.state == forge.Open {
		status.URL = r.pull.url
	}
	return status
}

// tips are the commits that a review needs.
func (r reviewing) tips() []git.Hash {
	tips := []git.Hash{r.branch.tip}
	for _, p := range r.branch.commits {
		if p.generation > 0 {
			tips = append(tips, p.Hash, p.main)
		}
	}
	return tips
}

// countReviews shows how many reviews wait for people.
func (l *loop) countReviews() {
	n := 0
	for _, t := range l.tenants {
		if t.review.proposes {
			n++
		}
	}
	reviewsOpen.WithLabelValues(l.key.String()).Set(float64(n))
}
