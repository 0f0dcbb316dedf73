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
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/integrate"
	"github.com/kubelb/gitops/gitsync/trust"
)

// truth is main as far as it counts (GitSource.spec.verify).
type truth struct {
	from judged
	// overrides are the paths whose content on main does not count.
	overrides map[string]trust.Override
	// followed is the tree that is integrated with and applied: main's, under
	// Require with what counts in place of the overrides. shadow is the other one
	// of the two, dirs are the tenants' folders in it; without overrides they are
	// the same.
	followed, shadow git.Hash
	dirs             map[string]git.Hash
	// vain are the newest approvals on main that count for nothing.
	vain []repo.VainApproval
	// unrecorded: base/main does not say so yet.
	unrecorded bool
}

// judged is what a truth was worked out from.
type judged struct {
	main, base git.Hash
	generation int64 // of the GitSource
}

// verifies reports whether the signatures on main matter.
func (l *loop) verifies() bool {
	return l.source.Spec.Verify == v1alpha1.VerifyWarn || l.source.Spec.Verify == v1alpha1.VerifyRequire
}

// readTruth works out what of main counts, and reads from that what the loop
// follows.
func (l *loop) readTruth(ctx context.Context) error {
	from := judged{main: l.main.Hash, base: l.base.commit.Hash, generation: l.source.Generation}
	if from == l.truth.from {
		return nil
	}
	now, err := l.judge(ctx)
	if err != nil {
		return err
	}
	config, err := l.readConfig(now.followed)
	if err != nil {
		return err
	}
	dirs, err := l.tenantDirs(now.followed)
	if err != nil {
		return err
	}
	now.from, now.dirs = from, dirs
	if now.shadow != now.followed {
		if now.dirs, err = l.tenantDirs(now.shadow); err != nil {
			return err
		}
	}
	before := l.truth.overrides
	for name, t := range l.tenants {
		if dirs[name] != l.mainDir[name] {
			l.want(t)
		}
	}
	l.id, l.mainDir, l.truth = config.RepositoryID, dirs, now
	l.tellUnverified(before)
	return nil
}

// judge judges main from the commit on up to which base/main has it.
func (l *loop) judge(ctx context.Context) (truth, error) {
	now := truth{followed: l.main.Tree, shadow: l.main.Tree}
	last, err := git.ParseHash(l.base.commit.Trailers.Get(repo.TrailerMain))
	if l.base.commit.Hash.IsZero() || err != nil {
		return now, nil //nolint:nilerr // the hub begins: main is taken as it is
	}
	_, recorded, err := l.store.Subtree(l.base.tree, repo.RefusedDir)
	if err != nil {
		return now, err
	}
	vain, err := l.readVain()
	if err != nil {
		return now, err
	}
	if !l.verifies() {
		now.unrecorded = recorded || len(vain) > 0
		return now, nil
	}
	v := l.verifier()
	in := trust.Input{ForgeApproves: l.source.Spec.TrustForgeApproval}
	if recorded {
		if in.Before, err = l.readOverrides(last); err != nil {
			return now, err
		}
	}
	if l.truth.from.generation != l.source.Generation {
		in.Again = v.again(in.Before)
	}
	if in.Steps, in.Approved, err = v.steps(ctx, last, vain); err != nil {
		return now, err
	}
	now.vain = v.vain
	now.overrides = trust.Judge(in)
	now.unrecorded = last != l.main.Hash || !slices.Equal(now.vain, vain) || !maps.Equal(now.overrides, in.Before)
	if len(now.overrides) == 0 {
		return now, nil
	}
	if err := l.loadTrusted(ctx, now.overrides, last, in.Steps); err != nil {
		return now, err
	}
	if now.shadow, err = l.store.Graft(l.main.Tree, entriesOf(now.overrides, "")); err != nil {
		return now, err
	}
	if l.source.Spec.Verify == v1alpha1.VerifyRequire {
		now.followed, now.shadow = now.shadow, now.followed
	}
	return now, nil
}

// readVain reads the approvals that count for nothing.
func (l *loop) readVain() ([]repo.VainApproval, error) {
	file, ok, err := l.store.File(l.base.tree, repo.VainPath)
	if err != nil || !ok {
		return nil, err
	}
	v, err := repo.DecodeVain(file.Data)
	return v.Approvals, err
}

// readOverrides reads what base/main says of main as of the commit last.
func (l *loop) readOverrides(last git.Hash) (map[string]trust.Override, error) {
	main, err := l.store.Commit(last)
	if err != nil {
		return nil, err
	}
	files, err := l.store.Files(l.base.tree, repo.RefusedDir)
	if err != nil {
		return nil, err
	}
	overrides := map[string]trust.Override{}
	for file, content := range files {
		path := strings.TrimPrefix(file, repo.RefusedDir+"/")
		var o trust.Override
		if o.Refused, err = repo.DecodeRefused(content.Data); err != nil {
			return nil, fmt.Errorf("%s on base/main: %w", file, err)
		}
		if o.Main, err = blobAt(l.store, main.Tree, path); err != nil {
			return nil, err
		}
		if o.Trusted, err = blobAt(l.store, l.base.tree, repo.TrustedDir+"/"+path); err != nil {
			return nil, err
		}
		overrides[path] = o
	}
	return overrides, nil
}

// loadTrusted makes sure that the contents are in the store that take the place
// of main's: commits that were only looked at came without them.
func (l *loop) loadTrusted(ctx context.Context, overrides map[string]trust.Override, last git.Hash, steps []trust.Step) error {
	missing := map[trust.Blob]bool{}
	for _, o := range overrides {
		if e := entryOf(o.Trusted); !e.Hash.IsZero() && e.Mode == repo.Regular && !l.store.HasFile(e.Hash) {
			missing[o.Trusted] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	wants := []git.Want{{Tip: last}}
	for _, s := range steps {
		if slices.ContainsFunc(s.Changes, func(c trust.Change) bool { return missing[c.New] }) {
			h, err := git.ParseHash(s.Hash)
			if err != nil {
				return err
			}
			wants = append(wants, git.Want{Tip: h})
		}
	}
	return l.remote.Fetch(ctx, l.store, wants...)
}

// blobAt names the file at a path.
func blobAt(store *git.Store, root git.Hash, path string) (trust.Blob, error) {
	e, ok, err := store.Lookup(root, path)
	if err != nil || !ok || e.Dir {
		return "", err
	}
	return blobOf(e.Hash, e.Mode), nil
}

func blobOf(h git.Hash, mode repo.FileMode) trust.Blob {
	if h.IsZero() {
		return ""
	}
	return trust.Blob(fmt.Sprintf("%s %d", h, mode))
}

func entryOf(b trust.Blob) git.Entry {
	var e git.Entry
	if hash, mode, ok := strings.Cut(string(b), " "); ok {
		e.Hash, _ = git.ParseHash(hash)
		e.Mode = repo.FileMode(mode[0] - '0')
	}
	return e
}

// entriesOf are the trusted versions, by path below a folder.
func entriesOf(overrides map[string]trust.Override, folder string) map[string]git.Entry {
	entries := map[string]git.Entry{}
	for path, o := range overrides {
		entries[folder+path] = entryOf(o.Trusted)
	}
	return entries
}

// refusedIn are the paths of a tenant whose content on main does not count.
func (t truth) refusedIn(tenant string) []string {
	var paths []string
	for path := range t.overrides {
		if tenantOf(path) == tenant {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// carry keeps main and the trusted versions apart where a tenant's change meets
// a path that people changed without being entitled to: each side gets the
// tenant's change, and neither the other's content.
func (l *loop) carry(d *decision, in integrate.Input, from *git.Store, intent git.Hash) error {
	refused := l.truth.refusedIn(d.tenant.name)
	if len(refused) == 0 {
		return nil
	}
	in.Intent, in.Base, in.Main = repo.Tree{}, repo.Tree{}, repo.Tree{}
	in.Confirmed = true // whether removals pass was decided
	for _, path := range refused {
		if err := l.gatherPath(path, in, from, intent, l.truth.shadow); err != nil {
			return err
		}
	}
	other := integrate.Integrate(in).Main
	d.carried = map[string][]byte{}
	for _, path := range refused {
		if p, err := repo.ParsePath(path); d.result.Guarded && (err != nil || !p.Fact()) {
			continue
		}
		main, onMain := d.result.Main[path]
		trusted, onTrusted := other[path]
		if l.source.Spec.Verify == v1alpha1.VerifyRequire {
			main, onMain, trusted, onTrusted = trusted, onTrusted, main, onMain
		}
		delete(d.result.Main, path)
		if onMain {
			d.result.Main[path] = main
		}
		if onTrusted {
			d.carried[path] = trusted
		}
	}
	return nil
}

// record writes into the tree of base/main what of main does not count after a
// push: newest are the commits that changed paths in it.
func (l *loop) record(tree, main git.Hash, decisions []*decision, newest map[string]git.Hash) (git.Hash, error) {
	if len(l.truth.overrides) == 0 && !l.truth.unrecorded {
		return tree, nil // nor are there approvals in vain that it does not have
	}
	edits := map[string][]byte{repo.TrustedDir: nil, repo.RefusedDir: nil, repo.VainPath: nil}
	if len(l.truth.vain) > 0 {
		content, err := repo.EncodeVain(repo.Vain{Approvals: l.truth.vain})
		if err != nil {
			return git.Hash{}, err
		}
		edits[repo.VainPath] = content
	}
	overrides := map[string]trust.Override{}
	for path, o := range l.truth.overrides {
		for _, d := range decisions {
			if d.removes && tenantOf(path) == d.tenant.name {
				o.Trusted = "" // the tenant is gone
			}
			if content, ok := d.carried[path]; ok {
				o.Trusted = ""
				if content != nil {
					o.Trusted = blobOf(l.store.PutFile(content), repo.Regular)
				}
			}
		}
		var err error
		if o.Main, err = blobAt(l.store, main, path); err != nil {
			return git.Hash{}, err
		}
		if o.Main == o.Trusted {
			continue
		}
		if h, ok := newest[path]; ok {
			o.Refused.Newest = h.String()
		}
		overrides[path] = o
	}
	dropCovered(overrides)
	for path, o := range overrides {
		content, err := repo.EncodeRefused(o.Refused)
		if err != nil {
			return git.Hash{}, err
		}
		edits[repo.RefusedDir+"/"+path] = content
	}
	tree, err := l.store.Edit(tree, edits)
	if err != nil {
		return git.Hash{}, err
	}
	return l.store.Graft(tree, entriesOf(overrides, repo.TrustedDir+"/"))
}

// dropCovered leaves one of a file and another one below it, which no tree can
// have both: somebody put a file in a folder's place, or a folder in a file's. The
// one that was trusted stays; to put it back takes the other one's place.
func dropCovered(overrides map[string]trust.Override) {
	for p, below := range overrides {
		for folder := path.Dir(p); folder != "."; folder = path.Dir(folder) {
			above, both := overrides[folder]
			switch {
			case !both:
			case above.Trusted == "" && below.Trusted != "":
				delete(overrides, folder)
			default:
				delete(overrides, p)
			}
		}
	}
}

// rolledBack refuses a base/main that is older than one that was seen: then the
// whole repository was set back.
func (l *loop) rolledBack(found *base) error {
	known := l.knownGeneration()
	if found.generation >= known {
		return nil
	}
	if l.accepted() {
		found.accepts, found.generation = l.main.Hash, known
		return nil
	}
	branch := strings.TrimPrefix(repo.BaseRef(l.mainRef()), repo.RefPrefix)
	return &failure{
		reason: v1alpha1.ReasonRolledBack, stalled: true, stop: true, accepts: l.main.Hash.String(),
		message: fmt.Sprintf("the branch %s went back from generation %d to %d: the repository was set back to an older state, or somebody rewrote the branch. Nothing is integrated or applied. To go on with main as it is, annotate this GitSource with %s=%s",
			branch, known, found.generation, v1alpha1.AnnotationAcceptRewrite, l.main.Hash),
	}
}

// knownGeneration is the highest generation of base/main that was seen.
func (l *loop) knownGeneration() int64 {
	return max(repo.Believable(l.source.Status.BaseGeneration), l.base.generation)
}

// isMissing tells what more of the history may bring from a failure.
func isMissing(err error) bool { return errors.Is(err, git.ErrMissing) }
