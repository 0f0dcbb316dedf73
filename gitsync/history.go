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
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/gitsync/git"
)

// change is the newest commit that changed a path on main.
type change struct {
	commit git.Hash
	author string
	hub    bool
}

// unknown stands for a commit that is too far back.
const unknown = "unknown"

// history knows for the paths of tenants which commit of main (first parents)
// changed them last, and which one that the hub did not make. It grows with
// main; what happened before is searched when it is asked for.
type history struct {
	newest map[string]change
	person map[string]change
	folder map[string]git.Hash // newest commit that changed a tenant's folder
	// start is where growing began; behind it was searched for these paths.
	start                          git.Hash
	searchedNewest, searchedPerson map[string]bool
}

func newHistory() history {
	return history{
		newest: map[string]change{}, person: map[string]change{}, folder: map[string]git.Hash{},
		searchedNewest: map[string]bool{}, searchedPerson: map[string]bool{},
	}
}

// maxHistory is how many commits are looked at to find one.
const maxHistory = 1000

// advance learns the commits between the old tip and the new one.
func (h *history) advance(store *git.Store, old, tip git.Hash, hub ...git.PublicKey) error {
	if old.IsZero() {
		h.start = tip
		return nil
	}
	if old == tip {
		return nil
	}
	fresh := newHistory()
	if err := fresh.walk(store, tip, old, hub, nil); err != nil {
		return err
	}
	for path, c := range fresh.newest {
		h.newest[path] = c
	}
	for path, c := range fresh.person {
		h.person[path] = c
	}
	for tenant, c := range fresh.folder {
		h.folder[tenant] = c
	}
	return nil
}

// walk goes from tip along first parents to the commit stop, or as far as the
// store and maxHistory allow, and notes the first change that it meets of each
// path. It ends early when done says so.
func (h *history) walk(store *git.Store, tip, stop git.Hash, hub []git.PublicKey, done func() bool) error {
	n := 0
	for c, err := range store.FirstParents(tip) {
		if errors.Is(err, git.ErrMissing) || c.Hash == stop || n >= maxHistory {
			return nil
		}
		if err != nil {
			return err
		}
		n++
		var before git.Hash
		if len(c.Parents) > 0 {
			parent, err := store.Commit(c.Parents[0])
			if errors.Is(err, git.ErrMissing) {
				return nil
			}
			if err != nil {
				return err
			}
			before = parent.Tree
		}
		if err := h.note(store, c, before, hub); err != nil {
			return err
		}
		if done != nil && done() {
			return nil
		}
	}
	return nil
}

func (h *history) note(store *git.Store, c git.Commit, before git.Hash, hub []git.PublicKey) error {
	_, err := c.Verify(hub...)
	// A review's own commit that became main's tip is people's decision.
	proposal := strings.HasPrefix(repo.RefPrefix+c.Trailers.Get(repo.TrailerBranch), repo.ReviewRef(""))
	now := change{commit: c.Hash, author: personOf(c), hub: err == nil && !proposal}
	return store.Diff(before, c.Tree, repo.TenantsDir, func(d git.Change) error {
		if _, ok := h.newest[d.Path]; !ok {
			h.newest[d.Path] = now
		}
		if _, ok := h.person[d.Path]; !ok && !now.hub {
			h.person[d.Path] = now
		}
		if tenant := tenantOf(d.Path); tenant != "" {
			if _, ok := h.folder[tenant]; !ok {
				h.folder[tenant] = c.Hash
			}
		}
		return nil
	})
}

// tenantOf returns the tenant in whose folder a path is.
func tenantOf(path string) string {
	rest, ok := strings.CutPrefix(path, repo.TenantsDir+"/")
	if !ok {
		return ""
	}
	tenant, _, _ := strings.Cut(rest, "/")
	return tenant
}

// revisions makes sure that the newest change of each path is known.
func (l *loop) revisions(ctx context.Context, paths []string) error {
	return l.search(ctx, l.history.newest, l.history.searchedNewest, paths)
}

// people makes sure that the newest change of each path by a person is known.
func (l *loop) people(ctx context.Context, paths []string) error {
	return l.search(ctx, l.history.person, l.history.searchedPerson, paths)
}

// search looks through the history before the loop began, as far back as it
// goes, for paths that are neither found nor searched.
func (l *loop) search(ctx context.Context, found map[string]change, searched map[string]bool, paths []string) error {
	missing := map[string]bool{}
	for _, path := range paths {
		if _, ok := found[path]; !ok && !searched[path] {
			missing[path] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	done := func() bool {
		for path := range missing {
			if _, ok := found[path]; !ok {
				return false
			}
		}
		return true
	}
	if err := l.searchUntil(ctx, done); err != nil {
		return err
	}
	for path := range missing {
		searched[path] = true
	}
	return nil
}

// folderRevision searches for the newest commit that changed a tenant's folder.
func (l *loop) folderRevision(ctx context.Context, tenant string) error {
	h := &l.history
	done := func() bool { _, ok := h.folder[tenant]; return ok }
	return l.searchUntil(ctx, done)
}

// searchUntil walks back from where the loop began until it is done, or as far
// as it goes.
func (l *loop) searchUntil(ctx context.Context, done func() bool) error {
	h := &l.history
	for _, depth := range []int{0, 50, maxHistory} {
		if done() || h.start.IsZero() {
			return nil
		}
		if depth > 0 {
			if err := l.remote.Deepen(ctx, l.store, h.start, depth); err != nil {
				return err
			}
		}
		if err := h.walk(l.store, h.start, git.Hash{}, l.keys.known(), done); err != nil {
			return err
		}
	}
	return nil
}
