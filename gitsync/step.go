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
	"path"
	"slices"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/integrate"
)

// maxAttempts bounds how often a pass is run again because somebody else pushed
// in between.
const maxAttempts = 6

// sync looks at the repository, integrates what tenants propose and pushes it.
// When somebody else pushed in between it starts again.
func (l *loop) sync(ctx context.Context) error {
	started := l.now()
	if l.lending() {
		return l.lender(ctx)
	}
	for attempt := 0; ; attempt++ {
		if err := l.look(ctx); err != nil {
			return err
		}
		l.findStrays()
		if l.deferred = l.mayPush(); !l.deferred.IsZero() {
			return nil
		}
		decisions, err := l.decideAll(ctx)
		if err != nil {
			return err
		}
		err = l.push(ctx, append(decisions, l.archive(ctx)...))
		if err == nil {
			l.bidFarewell(ctx)
			passes.WithLabelValues(l.key.String(), "done").Inc()
			passSeconds.WithLabelValues(l.key.String()).Observe(l.now().Sub(started).Seconds())
			return l.dropAnnotations(ctx, decisions)
		}
		lost := errors.Is(err, git.ErrRejected) || errors.Is(err, git.ErrUnknownOutcome)
		if !lost || attempt == maxAttempts-1 {
			return err
		}
		l.log.V(1).Info("push again", "because", err.Error())
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// decision is the outcome of one tenant's step.
type decision struct {
	tenant *tenant
	result integrate.Result
	refuse *v1alpha1.Problem
	seen   seen
	// tip of the intent branch; integrated is what base/main says of it, nil where
	// it is not to change.
	tip        git.Commit
	integrated *repo.Integrated
	confirms   bool

	// review is the tenant's review branch, and outcome what became of it: the
	// commit decides was decided. frozen: the branch stays as it is for now.
	review  branch
	outcome repo.ReviewOutcome
	decides string
	frozen  bool
	begun   bool // the branch begins anew
	problem *v1alpha1.Problem
	// record is what base/main will say of the tenant; rebase is what base becomes
	// before the step's own edits, because a review was opened again.
	record repo.Integrated
	rebase map[string][]byte

	// removes: the tenant is gone, and its folder goes in one commit.
	removes bool
	// carried is what the tenant changed of paths whose content on main does not
	// count: what counts of them from now on.
	carried map[string][]byte
}

// decideAll takes the step of every tenant of which anything changed.
func (l *loop) decideAll(ctx context.Context) ([]*decision, error) {
	if err := l.ask(); err != nil {
		return nil, err
	}
	var decisions []*decision
	for _, name := range slices.Sorted(maps.Keys(l.tenants)) {
		t := l.tenants[name]
		now := l.see(t)
		if now == t.seen || t.waits() {
			continue
		}
		l.want(t)
		d, err := l.decide(ctx, t, now)
		if git.OfContent(err) {
			d, err = l.stay(t, now, err)
		}
		if err == nil && l.damaged {
			err = errDamaged
		}
		if err == nil {
			err = l.explainHeld(ctx, &d.result)
		}
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", name, err)
		}
		decisions = append(decisions, d)
	}
	return decisions, nil
}

// see gathers what a tenant's outcome depends on.
func (l *loop) see(t *tenant) seen {
	return seen{
		review: l.refs[repo.ReviewRef(t.name)], reject: t.object.Annotations[v1alpha1.AnnotationReject], pull: t.review.pull,
		intent: l.intentOf(t), base: l.baseDir[t.name], main: l.mainDir[t.name], shadow: l.truth.dirs[t.name], verify: l.source.Spec.Verify,
		integrated: l.integrated[path.Base(repo.IntegratedPath(t.name))].Hash,
		confirm:    t.object.Annotations[v1alpha1.AnnotationConfirm], generation: t.object.Generation, known: true,
		unfetched: l.notFetched(t, repo.IntentRef(t.name)) + l.notFetched(t, repo.ReviewRef(t.name)),
	}
}

// stay is the decision that moves nothing, because of what somebody wrote into a
// branch that this tenant's step needs. It is that tenant's problem alone.
func (l *loop) stay(t *tenant, now seen, cause error) (*decision, error) {
	d := &decision{tenant: t, seen: now}
	d.seen.lacking = l.suspectMissing(cause)
	last, err := l.lastIntegrated(t.name)
	d.give(last, v1alpha1.Problem{
		Path: repo.TenantDir(t.name), Object: v1alpha1.KindTenant + " " + t.name, Reason: repo.ReasonMalformed,
		Message: "nothing of this tenant is integrated, because a tree or a commit cannot be read: " + cause.Error(),
		Remedy:  "find in the message which one, and write over it: what is programmed stays until then",
	})
	return d, err
}

// give makes a decision one that moves nothing and tells why.
func (d *decision) give(last repo.Integrated, p v1alpha1.Problem) {
	p = p.Bounded()
	problems := d.result.Problems
	*d = decision{tenant: d.tenant, seen: d.seen, tip: d.tip, record: last, refuse: &p, review: d.tenant.review.branch, frozen: true}
	d.result.Problems = problems
}

// decide takes one tenant's step. Trees that cannot be read are that tenant's
// problem and nobody else's.
func (l *loop) decide(ctx context.Context, t *tenant, now seen) (*decision, error) {
	d := &decision{tenant: t, seen: now}
	last, err := l.lastIntegrated(t.name)
	if err != nil {
		return nil, err
	}
	intent := l.base.tree // a missing or refused branch moves nothing
	var news since
	if !now.intent.IsZero() {
		if news, err = l.accept(ctx, d, last); err != nil {
			return nil, err
		}
		if d.refuse == nil {
			intent = d.tip.Tree
		}
	}
	from := l.store
	if intent != l.base.tree {
		from = t.store
	}
	in, err := l.narrow(t.name, from, intent)
	if err != nil && intent != l.base.tree {
		d.seen.lacking = l.suspectMissing(err)
		d.refuse = unreadable(t.name, err)
		in, err = l.narrow(t.name, l.store, l.base.tree)
	}
	if err != nil {
		return nil, err
	}
	in.Deletes, in.Commit = news.deletes, now.intent.String()
	in.Confirmed = d.refuse == nil && now.confirmed()
	if err := l.reviewed(ctx, d, last, &in); err != nil {
		return nil, err
	}
	d.result = integrate.Integrate(in)
	if err := l.carry(d, in, from, intent); err != nil {
		return nil, err
	}
	d.confirms = in.Confirmed
	d.result.Problems = append(d.result.Problems, l.unguarded(t.object)...)
	d.withdraw()
	if d.refuse == nil && !now.intent.IsZero() && !d.result.Guarded {
		d.record.Commit, d.record.Generation = d.tip.Hash.String(), d.tip.Trailers.Number(repo.TrailerGeneration)
		d.record.Epoch, d.record.Cluster = d.tip.Trailers.Number(repo.TrailerEpoch), clusterIn(d.tip)
	}
	if d.record != last {
		d.integrated = &d.record
	}
	return d, nil
}

// accept reads the tip of the intent branch and checks it. Only an error of
// the connection is returned; all else is the tenant's problem.
func (l *loop) accept(ctx context.Context, d *decision, last repo.Integrated) (since, error) {
	name := d.tenant.name
	if why := l.notFetched(d.tenant, repo.IntentRef(name)); why != "" {
		d.refuse = unfetched(name, why)
		return since{}, nil
	}
	var err error
	if d.tip, err = d.tenant.store.Commit(d.seen.intent); err != nil {
		d.seen.lacking = l.suspectMissing(err)
		d.refuse = unreadable(name, err)
		return since{}, nil
	}
	keys := signers(d.tenant.object)
	news, err := l.sinceIntegrated(ctx, d.tenant, d.tip.Hash, last.Commit)
	if git.OfContent(err) {
		d.refuse = unreadable(name, err)
		return since{}, nil
	}
	if err != nil {
		return since{}, err
	}
	d.refuse = checkIntent(d.tip, expected{
		repository: l.id, tenant: name, last: last, continues: news.continues, confirmed: d.seen.confirmed(), signers: keys,
	})
	return news, nil
}

// confirmed reports whether the tip of the intent branch was confirmed.
func (s seen) confirmed() bool { return !s.intent.IsZero() && s.confirm == s.intent.String() }

func unreadable(tenant string, err error) *v1alpha1.Problem {
	return &v1alpha1.Problem{
		Path: repo.TenantDir(tenant), Object: v1alpha1.KindTenant + " " + tenant, Reason: repo.ReasonMalformed,
		Message: v1alpha1.Printable("the intent branch cannot be read: "+err.Error(), v1alpha1.MaxMessage), Remedy: "let the tenant's CCM write the branch anew",
	}
}

func (l *loop) lastIntegrated(tenant string) (repo.Integrated, error) {
	return l.integratedIn(l.base.tree, tenant)
}

// integratedIn reads what a tree of base/main says was integrated of a tenant.
func (l *loop) integratedIn(tree git.Hash, tenant string) (repo.Integrated, error) {
	file, ok, err := l.store.File(tree, repo.IntegratedPath(tenant))
	if err != nil || !ok {
		return repo.Integrated{}, err
	}
	last, err := repo.DecodeIntegrated(file.Data)
	if err != nil {
		return last, fmt.Errorf("%s on base/main: %w", repo.IntegratedPath(tenant), err)
	}
	return last, nil
}

// narrow collects the paths whose bytes are not the same in all three trees. That
// of the intents is in the store from.
func (l *loop) narrow(tenant string, from *git.Store, intent git.Hash) (integrate.Input, error) {
	in := integrate.Input{Tenant: tenant, Intent: repo.Tree{}, Base: repo.Tree{}, Main: repo.Tree{}}
	dir := repo.TenantDir(tenant)
	paths := map[string]bool{}
	note := func(c git.Change) error { paths[c.Path] = true; return nil }
	if err := l.store.Diff(l.base.tree, l.truth.followed, dir, note); err != nil {
		return in, err
	}
	if err := l.store.DiffWith(l.base.tree, from, intent, dir, note); err != nil {
		return in, err
	}
	gone := false
	for path := range paths {
		if err := l.gatherPath(path, in, from, intent, l.truth.followed); err != nil {
			return in, err
		}
		_, had := in.Base[path]
		_, has := in.Intent[path]
		gone = gone || had && !has
	}
	if !gone {
		return in, nil
	}
	var err error
	in.Decided, err = l.wishes(l.base.tree, tenant)
	return in, err
}

// gatherPath adds a path's file in each of the three trees to the input.
func (l *loop) gatherPath(path string, in integrate.Input, from *git.Store, intent, main git.Hash) error {
	for _, side := range []struct {
		store *git.Store
		root  git.Hash
		tree  repo.Tree
	}{{from, intent, in.Intent}, {l.store, l.base.tree, in.Base}, {l.store, main, in.Main}} {
		file, ok, err := side.store.File(side.root, path)
		if err != nil {
			return err
		}
		if ok {
			side.tree[path] = file
		}
	}
	return nil
}

// wishes counts the wishes in a tenant's folder.
func (l *loop) wishes(root git.Hash, tenant string) (int, error) {
	n := 0
	err := l.store.Diff(git.Hash{}, root, repo.TenantDir(tenant), func(c git.Change) error {
		if p, err := repo.ParsePath(c.Path); err == nil && !p.Fact() {
			n++
		}
		return nil
	})
	return n, err
}

// explainHeld says since which commit and by whom fields are held.
func (l *loop) explainHeld(ctx context.Context, result *integrate.Result) error {
	var paths []string
	for _, h := range result.Held {
		paths = append(paths, h.Path)
	}
	if err := l.people(ctx, paths); err != nil {
		return err
	}
	for i, h := range result.Held {
		result.Held[i].Commit, result.Held[i].Author = unknown, unknown
		if c, ok := l.history.person[h.Path]; ok {
			result.Held[i].Commit, result.Held[i].Author = c.commit.String(), c.author
		}
	}
	return nil
}

// settle takes over what was decided, after it was pushed.
func (d *decision) settle() {
	t := d.tenant
	before := t.outcome
	t.untold = true
	t.outcome, t.refused, t.seen = d.result, d.refuse, d.seen
	t.review.problem = d.problem
	t.outcome.Main, t.outcome.Base, t.outcome.Review = nil, nil, nil
	for _, result := range []integrate.Result{before, t.outcome} {
		for _, h := range result.Held {
			t.touch(h.Path)
		}
		for _, p := range result.Pending {
			t.touch(p.Path)
		}
	}
	if d.refuse == nil && !d.tip.Hash.IsZero() {
		t.heard = d.tip.Committer.When
	}
	if d.integrated != nil {
		t.decided = v1alpha1.ObservedIntent{Commit: d.integrated.Commit, Generation: d.integrated.Generation}
	}
}

// touch has an object's status.git looked at again.
func (t *tenant) touch(path string) { t.regit[path] = true }
