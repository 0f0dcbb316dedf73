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
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
)

// base is the third tree of every merge.
type base struct {
	tip git.Hash // of the branch
	// main is the commit of main for which commit was found.
	main git.Hash
	// commit is the newest one of the branch whose main commit main reaches; zero
	// where there is none yet.
	commit git.Commit
	tree   git.Hash
	// generation of the branch's tip.
	generation int64
	// accepts is set while a rewritten main is being accepted.
	accepts git.Hash
}

// look lists the refs and fetches what changed, in one request each, and works
// out where main and base are.
func (l *loop) look(ctx context.Context) error {
	mainRef := l.mainRef()
	baseRef := repo.BaseRef(mainRef)
	refs, err := l.list(ctx, mainRef, baseRef)
	if err != nil {
		return err
	}
	if refs[mainRef].IsZero() {
		return &failure{
			reason: v1alpha1.ReasonBranchNotFound, stalled: true, stop: l.main.Hash.IsZero(),
			message: fmt.Sprintf("the repository %s has no branch %s: make it with `kubelbctl init`; the hub never does", redact(l.source.Spec.URL), l.source.Spec.Branch),
		}
	}
	if err := l.fetch(ctx, refs, mainRef, baseRef); err != nil {
		return err
	}
	if l.main.Hash.IsZero() {
		l.lookBack(ctx, refs[mainRef], refs[baseRef])
	}
	news := refs[mainRef] != l.main.Hash
	l.adoptStatuses()
	if news || l.main.Hash.IsZero() {
		if err := l.readMain(refs[mainRef]); err != nil {
			return err
		}
	}
	if err := l.readBase(ctx, refs[baseRef]); err != nil {
		return err
	}
	return l.readTruth(ctx)
}

// list returns what the server has of the branches that the loop follows. Others
// are not asked for where there are few tenants, and never kept.
func (l *loop) list(ctx context.Context, branches ...string) (map[string]git.Hash, error) {
	followed := map[string]bool{}
	for _, ref := range branches {
		followed[ref] = true
	}
	prefixes := append(branches, repo.IntentRef(""), repo.StatusRef(""), repo.ReviewRef(""))
	if len(l.tenants) < askAll {
		prefixes = branches
	}
	for name, t := range l.tenants {
		theirs := []string{repo.ReviewRef(name)}
		if t.link == nil {
			theirs = append(theirs, repo.IntentRef(name), repo.StatusRef(name))
		}
		for _, ref := range theirs {
			followed[ref] = true
		}
		if len(l.tenants) < askAll {
			prefixes = append(prefixes, theirs...)
		}
	}
	return l.remote.ListRefsOf(ctx, func(name string) bool { return followed[name] }, prefixes...)
}

// fetch brings what moved into the store: the branches that all need, and those
// of tenants, of which one that cannot be fetched is that tenant's problem.
func (l *loop) fetch(ctx context.Context, listed map[string]git.Hash, needed ...string) error {
	follow := slices.Clone(needed)
	for name, t := range l.tenants {
		follow = append(follow, repo.ReviewRef(name))
		if t.link == nil {
			follow = append(follow, repo.IntentRef(name), repo.StatusRef(name))
		}
	}
	var wants []git.Want
	moved, theirs := map[string]git.Want{}, map[string]git.Hash{}
	for i, ref := range follow {
		tip := listed[ref]
		want := git.Want{Tip: tip, Have: l.refs[ref]}
		switch changed := !tip.IsZero() && tip != l.refs[ref]; {
		case i >= len(needed):
			theirs[ref] = tip
			if changed {
				moved[ref] = want
			}
		case changed:
			wants = append(wants, want)
		}
	}
	if err := l.apart.fetch(ctx, l.remote, l.store, wants, moved, theirs); err != nil {
		return err
	}
	for _, ref := range follow {
		l.refs[ref] = l.apart.tip(ref, listed[ref], l.refs[ref])
	}
	l.unfetched = l.apart.failures()
	return nil
}

// firstLook is how much of history a hub that starts loads, in one request:
// enough to find the newest base, who changed what last, and what tenants did
// meanwhile. What is further back is loaded when it is needed.
const firstLook = 50

// lookBack loads recent history of main, base/main and those intents that were not
// integrated yet. It only spares requests: without it each step loads its own.
func (l *loop) lookBack(ctx context.Context, main, base git.Hash) {
	tips := []git.Hash{main}
	if commit, err := l.store.Commit(base); err == nil {
		tips = append(tips, base)
		for name, t := range l.tenants {
			tip := l.intentOf(t)
			if t.link != nil || !l.store.Has(tip) {
				continue
			}
			last, err := l.integratedIn(commit.Tree, name)
			if err == nil && last.Commit != "" && last.Commit != tip.String() {
				tips = append(tips, tip)
			}
		}
	}
	if err := l.remote.DeepenAll(ctx, l.store, firstLook, tips...); err != nil {
		l.log.V(1).Info("history is loaded bit by bit", "because", err.Error())
	}
}

// readMain takes over a new tip of main.
func (l *loop) readMain(tip git.Hash) error {
	commit, err := l.store.Commit(tip)
	if err != nil {
		return err
	}
	if err := l.history.advance(l.store, l.main.Hash, tip, l.keys.known()...); err != nil {
		return err
	}
	if l.main.Hash != tip {
		l.log.V(1).Info("stage", "stage", "fetched", "commit", tip.String(), "branch", l.mainRef())
	}
	l.main = commit
	return nil
}

// readConfig reads kubelb.yaml.
func (l *loop) readConfig(tree git.Hash) (repo.Config, error) {
	invalid := func(message string) error {
		return &failure{
			reason: v1alpha1.ReasonRepositoryInvalid, stalled: true, stop: true,
			message: fmt.Sprintf("%s on branch %s %s: run `kubelbctl init`, or restore the file", repo.ConfigPath, l.source.Spec.Branch, message),
		}
	}
	file, ok, err := l.store.File(tree, repo.ConfigPath)
	if err != nil {
		return repo.Config{}, err
	}
	config, err := repo.ReadConfig(file, ok)
	switch {
	case err != nil:
		return config, invalid(err.Error())
	case config.RepositoryID != cmp.Or(l.id, l.source.Status.RepositoryID, config.RepositoryID):
		return config, &failure{
			reason: v1alpha1.ReasonRepositoryInvalid, stalled: true, stop: true,
			message: fmt.Sprintf("this is the repository %.60q, so far it was %q: restore %s; to follow another repository, make a GitSource of its own for it",
				config.RepositoryID, cmp.Or(l.id, l.source.Status.RepositoryID), repo.ConfigPath),
		}
	}
	return config, nil
}

// tenantDirs returns the folders in tenants/.
func (l *loop) tenantDirs(tree git.Hash) (map[string]git.Hash, error) {
	entries, err := l.store.List(tree, repo.TenantsDir)
	if err != nil {
		return nil, err
	}
	dirs := map[string]git.Hash{}
	for name, e := range entries {
		if e.Dir {
			dirs[name] = e.Hash
		}
	}
	return dirs, nil
}

// readBase finds the base for the present main: the newest first-parent commit
// of its branch whose main commit is reachable from main. That settles pushes
// of unknown outcome and a hub that was killed between two pushes.
func (l *loop) readBase(ctx context.Context, tip git.Hash) error {
	if l.base.tip == tip && l.base.main == l.main.Hash && l.baseDir != nil {
		return nil
	}
	found := base{tip: tip, main: l.main.Hash}
	var err error
	if tip.IsZero() {
		dirs, err := l.tenantDirs(l.main.Tree)
		if err != nil {
			return err
		}
		if len(dirs) > 0 && !l.accepted() {
			return l.rewritten("the branch " + repo.BaseRef(l.mainRef()) + " is missing")
		}
	} else {
		if found.commit, found.generation, err = l.findBase(ctx, tip); err != nil {
			return err
		}
		if err := l.rolledBack(&found); err != nil {
			return err
		}
		if !found.commit.Hash.IsZero() && !l.store.Has(found.commit.Hash) { // it was only looked at
			if err := l.remote.Fetch(ctx, l.store, git.Want{Tip: found.commit.Hash}); err != nil {
				return err
			}
		}
		if found.commit.Hash.IsZero() && !l.accepted() {
			return l.rewritten("its history no longer has any commit that the hub integrated")
		}
		found.tree = found.commit.Tree
	}
	if found.commit.Hash.IsZero() && l.accepted() {
		found.accepts = l.main.Hash
		if found.tree, err = l.onlyIntegrated(tip); err != nil {
			return err
		}
	}
	if err := l.readBaseTree(found.tree); err != nil {
		return err
	}
	l.base = found
	return nil
}

// readBaseTree lists what base/main has of tenants.
func (l *loop) readBaseTree(tree git.Hash) (err error) {
	if l.baseDir, err = l.tenantDirs(tree); err != nil {
		l.baseDir = nil
		return err
	}
	if l.integrated, err = l.store.List(tree, repo.IntegratedDir); err != nil {
		l.baseDir = nil
	}
	return err
}

// accepted reports whether the present main was accepted after a rewrite.
func (l *loop) accepted() bool {
	return l.source.Annotations[v1alpha1.AnnotationAcceptRewrite] == l.main.Hash.String()
}

func (l *loop) rewritten(what string) error {
	return &failure{
		reason: v1alpha1.ReasonMainRewritten, stalled: true, stop: true, accepts: l.main.Hash.String(),
		message: fmt.Sprintf("the history of %s was rewritten: %s. Nothing is integrated or applied. To go on with main as it is, annotate this GitSource with %s=%s",
			l.mainRef(), what, v1alpha1.AnnotationAcceptRewrite, l.main.Hash),
	}
}

// onlyIntegrated returns a tree without documents that still knows which
// intents were integrated, so that no generation goes backwards.
func (l *loop) onlyIntegrated(tip git.Hash) (git.Hash, error) {
	edits := map[string][]byte{}
	if !tip.IsZero() {
		commit, err := l.store.Commit(tip)
		if err != nil {
			return git.Hash{}, err
		}
		files, err := l.store.Files(commit.Tree, repo.IntegratedDir)
		if err != nil {
			return git.Hash{}, err
		}
		for path, file := range files {
			if file.Data != nil {
				edits[path] = file.Data
			}
		}
	}
	return l.store.Edit(git.Hash{}, edits)
}

// How much history is loaded to find something in it. The depths grow because
// each load starts at the tip.
var depths = []int{0, 50, 1000, 20_000}

// findBase walks the branch of bases. The zero Commit means that none fits. The
// generation is that of the newest commit by the hub: what others put on top of
// it says nothing.
func (l *loop) findBase(ctx context.Context, tip git.Hash) (found git.Commit, generation int64, err error) {
	for _, depth := range depths {
		if depth > 0 {
			for _, h := range []git.Hash{l.main.Hash, tip} {
				if err := l.remote.Deepen(ctx, l.store, h, depth); err != nil {
					return git.Commit{}, 0, err
				}
			}
		}
		var sure bool
		found, generation, sure, err = l.searchBase(tip)
		if err != nil || sure || !found.Hash.IsZero() {
			return found, generation, err
		}
		if generation > 0 && generation < l.knownGeneration() {
			break // it was rolled back, which is refused anyway
		}
	}
	return git.Commit{}, generation, nil
}

// searchBase looks through what is in the store. sure is false when more
// history might give another answer.
func (l *loop) searchBase(tip git.Hash) (found git.Commit, generation int64, sure bool, err error) {
	sure = true
	for c, err := range l.store.FirstParents(tip) {
		if errors.Is(err, git.ErrMissing) {
			return git.Commit{}, generation, false, nil
		}
		if err != nil {
			return git.Commit{}, 0, false, err
		}
		target, err := git.ParseHash(c.Trailers.Get(repo.TrailerMain))
		if err != nil || !l.trusts(c) {
			continue
		}
		generation = max(generation, c.Trailers.Number(repo.TrailerGeneration))
		reaches, err := l.store.Reaches(l.main.Hash, target)
		switch {
		case reaches:
			return c, generation, sure, nil
		case errors.Is(err, git.ErrMissing):
			sure = false
		case err != nil:
			return git.Commit{}, 0, false, err
		}
	}
	return git.Commit{}, generation, sure, nil
}

// trusts reports whether the hub signed a commit.
func (l *loop) trusts(c git.Commit) bool {
	_, err := c.Verify(l.keys.known()...)
	return err == nil
}

// findStrays lists folders on main that no tenant of ours claims.
func (l *loop) findStrays() {
	l.strays = slices.Clone(l.unverified)
	for _, name := range slices.Sorted(maps.Keys(l.mainDir)) {
		if l.tenants[name] != nil || l.leaving[name] != nil {
			continue
		}
		l.strays = append(l.strays, v1alpha1.Problem{
			Path: repo.TenantDir(name), Object: v1alpha1.KindTenant + " " + name, Reason: v1alpha1.ReasonTenantMissing,
			Message: "no Tenant of that name belongs to this GitSource; nothing in the folder is applied",
			Remedy:  "create the Tenant, or remove the folder",
		})
	}
}
