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
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/gitsync/describe"
	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/gitsync/git"
)

// move is a change of a review branch.
type move struct {
	decision *decision
	old, new git.Hash
}

// propose brings review branches to what was decided, after main and base were
// pushed. They go in a push of their own, where each ref counts for itself: a
// review that is lost is made again from main, base and the intent, and one
// tenant's branch that the server refuses keeps nobody else waiting.
func (l *loop) propose(ctx context.Context, decisions []*decision) error {
	var moves, after []move
	for _, d := range decisions {
		now, then, err := l.planReview(ctx, d)
		if git.OfContent(err) {
			d.problem = l.reviewProblem(d.tenant.name, reasonReviewForeign, "cannot be read: "+err.Error(), "delete the branch: the hub makes it anew")
			continue
		}
		if err != nil {
			return fmt.Errorf("tenant %s: review: %w", d.tenant.name, err)
		}
		moves, after = append(moves, now...), append(after, then...)
	}
	if err := l.pushReviews(ctx, moves); err != nil {
		return err
	}
	after = slices.DeleteFunc(after, func(m move) bool { return m.decision.seen.unpushed })
	if err := l.pushReviews(ctx, after); err != nil {
		return err
	}
	for _, d := range decisions {
		if d.removes {
			continue
		}
		if err := l.settleReview(ctx, d); err != nil {
			return err
		}
	}
	l.countReviews()
	return nil
}

// planReview says how a review branch has to change: at once, and after that.
func (l *loop) planReview(ctx context.Context, d *decision) (now, after []move, err error) {
	edits := d.result.Review
	if d.frozen {
		return nil, nil, nil
	}
	if d.review.gone {
		d.review = branch{generation: d.review.highest()}
	}
	b := d.review
	remove := []move{{d, b.tip, git.Hash{}}}
	p := b.newest(0, d.record.ReviewGeneration)
	switch {
	case len(edits) == 0:
		if b.tip.IsZero() || b.foreign() || p != nil || l.stays(d) {
			return nil, nil, nil
		}
		return remove, nil, nil
	case b.tip.IsZero():
		now, err = l.begin(d, git.Hash{}, b.tip)
		return now, nil, err
	case p != nil:
		now, err = l.refresh(d, *p)
		return now, nil, err
	}
	return l.again(ctx, d)
}

// stays reports whether the branch of a decided review is left as it is: so that
// a closed pull request can be opened again, and because of people's commits.
func (l *loop) stays(d *decision) bool {
	switch d.record.ReviewOutcome {
	case repo.ReviewMerged:
		return false
	case repo.ReviewClosed:
		return true
	}
	return d.review.edited()
}

// again makes a new proposal where the last one is decided and its branch is
// still there.
func (l *loop) again(ctx context.Context, d *decision) (now, after []move, err error) {
	b := d.review
	var merged bool
	if last := b.newest(0, 0); last != nil {
		merged, err = l.mergedIn(ctx, b.tip, last.main)
	} else {
		merged, _, err = l.searchMerge(b.tip, git.Hash{})
	}
	switch {
	case err != nil:
		return nil, nil, err
	case merged: // main's next commits continue it
		now, err = l.begin(d, git.Hash{}, b.tip)
		return now, nil, err
	case b.foreign():
		d.problem = l.reviewProblem(d.tenant.name, reasonReviewForeign, "was not made by the hub, so the tenant's changes cannot be proposed",
			"rename or delete the branch: the hub makes its own")
		return nil, nil, nil
	case b.edited(): // nobody's commits are lost
		now, err = l.begin(d, b.tip, b.tip)
		return now, nil, err
	}
	if after, err = l.begin(d, git.Hash{}, git.Hash{}); err != nil {
		return nil, nil, err
	}
	return []move{{d, b.tip, git.Hash{}}}, after, nil
}

// begin proposes what is to change of main as it is now: as main's child, or as
// a child of another commit into which main is merged.
func (l *loop) begin(d *decision, on, old git.Hash) ([]move, error) {
	d.begun = true
	parents := []git.Hash{l.main.Hash}
	if !on.IsZero() {
		parents = []git.Hash{on, l.main.Hash}
	}
	commit, err := l.commitReview(d, l.main, parents)
	return []move{{d, old, commit}}, err
}

// refresh brings an open proposal up to date, if what it proposes changed or if
// main changed a document that it changes too.
func (l *loop) refresh(d *decision, p proposal) ([]move, error) {
	made, err := l.store.Commit(p.main)
	if err != nil {
		return nil, err
	}
	before, after, err := l.between(d.tenant.name, made.Tree, p.Tree)
	if err != nil {
		return nil, err
	}
	conflict := false
	for path := range merged(before, after, placeholders(d.result.Review)) {
		then, had, err := l.store.Lookup(made.Tree, path)
		if err != nil {
			return nil, err
		}
		now, has, err := l.store.Lookup(l.main.Tree, path)
		if err != nil {
			return nil, err
		}
		conflict = conflict || had != has || then != now
	}
	parents := []git.Hash{d.review.tip}
	if conflict {
		made = l.main
		parents = append(parents, l.main.Hash)
	}
	tree, err := l.store.Edit(made.Tree, d.result.Review)
	if err != nil || !conflict && tree == p.Tree {
		return nil, err
	}
	if d.review.edited() {
		d.problem = l.reviewProblem(d.tenant.name, reasonReviewEdited,
			fmt.Sprintf("has commits of people on top of the hub's, so the hub leaves it alone: what the tenant or main changed since commit %s is not in it", p.Hash.Short()),
			"merge or close the review; what is left is proposed anew")
		return nil, nil
	}
	commit, err := l.commitReview(d, made, parents)
	return []move{{d, d.review.tip, commit}}, err
}

// placeholders are the paths of edits.
func placeholders(edits map[string][]byte) repo.Tree {
	tree := repo.Tree{}
	for path := range edits {
		tree[path] = repo.File{}
	}
	return tree
}

// commitReview makes a commit whose tree is that of a commit of main with the
// proposal in it.
func (l *loop) commitReview(d *decision, made git.Commit, parents []git.Hash) (git.Hash, error) {
	tree, err := l.store.Edit(made.Tree, d.result.Review)
	if err != nil {
		return git.Hash{}, err
	}
	before, after, err := l.between(d.tenant.name, made.Tree, tree)
	if err != nil {
		return git.Hash{}, err
	}
	name := d.tenant.name
	generation := max(d.review.highest(), d.record.ReviewGeneration) + 1
	trailers := append(l.trailers(repo.ReviewRef(name), name, generation),
		git.Trailer{Key: repo.TrailerIntent, Value: d.tip.Hash.String()}, git.Trailer{Key: repo.TrailerMain, Value: made.Hash.String()})
	message := describe.Compare(before, after).Title()
	if len(d.result.Review) > 1 {
		message += "\n"
		for _, path := range slices.Sorted(maps.Keys(d.result.Review)) {
			message += "\n- " + strings.TrimPrefix(subjectOf(name, path, before, after), name+": ")
		}
	}
	return l.store.NewCommit(git.CommitSpec{
		Tree: tree, Parents: parents, Author: authorOf(d.tip, name, l.committer()), Committer: l.committer(),
		Message: message, Trailers: trailers, Signer: l.signer,
	})
}

func subjectOf(tenant, path string, before, after repo.Tree) string {
	was, _ := repo.Decode(path, before[path])
	is, _ := repo.Decode(path, after[path])
	return describe.Subject(tenant, path, was, is)
}

// pushReviews pushes review branches; each counts for itself.
func (l *loop) pushReviews(ctx context.Context, moves []move) error {
	if len(moves) == 0 {
		return nil
	}
	var updates []git.RefUpdate
	for _, m := range moves {
		updates = append(updates, git.RefUpdate{Name: repo.ReviewRef(m.decision.tenant.name), Old: m.old, New: m.new})
		m.decision.seen.unpushed = true
	}
	results, err := l.remote.Push(ctx, l.store, updates, false)
	if len(results) != len(moves) {
		pushes.WithLabelValues(l.key.String(), "review", "failed").Inc()
		return err
	}
	l.pushed, l.worked = l.now(), l.now()
	for i, m := range moves {
		r, name := &m.decision.tenant.review, m.decision.tenant.name
		if err := results[i].Err; err != nil {
			pushes.WithLabelValues(l.key.String(), "review", "failed").Inc()
			if r.lost++; r.lost == 1 { // most likely somebody else pushed
				l.inbox.wakeUp()
				continue
			}
			m.decision.problem = l.reviewProblem(name, reasonReviewRefused, "cannot be pushed: "+err.Error(),
				"allow the hub to push to, make and delete review/*")
			continue
		}
		pushes.WithLabelValues(l.key.String(), "review", "done").Inc()
		r.lost = 0
		m.decision.seen.unpushed = false
		m.decision.seen.review, l.refs[updates[i].Name] = m.new, m.new
		l.log.Info("stage", "stage", "proposed", "tenant", name, "commit", m.new.String())
	}
	if errors.Is(err, git.ErrUnknownOutcome) {
		return err
	}
	return nil
}

// leaveReview ends the pull request of a tenant that is no longer the loop's:
// that of a deleted tenant is nobody's to decide.
func (l *loop) leaveReview(t *tenant, gone bool) {
	if gone && t.review.proposes && t.review.pull.state == forge.Open {
		l.desk.want(t.name, wish{stance: shut})
	} else {
		l.desk.forget(t.name)
	}
}

// settleReview takes over what became of a tenant's review.
func (l *loop) settleReview(ctx context.Context, d *decision) error {
	r := &d.tenant.review
	if d.begun && !d.seen.unpushed {
		r.fresh, r.opened = true, 0
	}
	if !d.frozen {
		tip := l.refs[repo.ReviewRef(d.tenant.name)]
		if tip.IsZero() {
			r.branch = branch{generation: d.review.highest()}
		} else if b, err := l.readReview(ctx, d.tenant, tip); err == nil {
			r.branch = b
		} else {
			return err
		}
	} else {
		r.branch = d.review
	}
	r.proposes = r.branch.newest(0, d.record.ReviewGeneration) != nil && !r.branch.gone
	err := l.wantPull(ctx, d)
	if git.OfContent(err) {
		l.log.Error(err, "cannot describe a review", "tenant", d.tenant.name)
		return nil
	}
	return err
}
