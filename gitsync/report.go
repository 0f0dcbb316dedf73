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
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/report"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// reportEvery is the least time between two pushes of a tenant's ordinary
	// news. Addresses and removals do not wait.
	reportEvery = 2 * time.Second
	// answerSoon is how long other news waits for the address of a load balancer
	// that was applied just now, and answerAtMost how long in all.
	answerSoon   = 150 * time.Millisecond
	answerAtMost = 250 * time.Millisecond
	// anewEvery is after how many commits a status branch starts anew.
	anewEvery = 100
	// askAnewEvery is the same where the server has refused that.
	askAnewEvery = 1000
)

// markDirty notes objects whose files on status branches may have to change.
func (l *loop) markDirty(objects map[string]touched) {
	for path, object := range objects {
		t := l.tenants[tenantOf(path)]
		if t == nil {
			continue
		}
		t.status.dirty[path] = object.key
		if object.key.Name == v1alpha1.DefaultName && path == statePath(t.name) {
			t.stale = true
		}
		l.want(t)
	}
}

// adoptStatus takes over what the server has as a tenant's status branch.
func (l *loop) adoptStatus(t *tenant, tip git.Hash) {
	s := &t.status
	if s.tip == tip && (s.known || s.refused != "" || s.forced) {
		s.known = true
		if s.forced { // nobody else moved it: the server has a rule
			s.forced, s.grows, t.untold = false, true, true
			l.want(t)
		}
		return
	}
	l.want(t)
	t.untold = t.untold || s.refused != ""
	generation := s.generation
	told := s.hubKeys
	*s = statusBranch{known: true, tip: tip, generation: generation, dirty: s.dirty, pushed: s.pushed, grows: s.grows, forcedAt: s.forcedAt, unfit: s.unfit}
	defer func() { t.untold = t.untold || !slices.Equal(s.hubKeys, told) }()
	if tip.IsZero() || l.notFetched(t, repo.StatusRef(t.name)) != "" {
		return // nothing, or not ours: written over
	}
	commit, err := t.store.Commit(tip)
	if err != nil {
		l.suspectMissing(err)
		return // not ours: written over
	}
	if s.ours = l.trusts(commit) && commit.Trailers.Get(repo.TrailerTenant) == t.name; s.ours {
		s.tree, s.generation = commit.Tree, max(generation, commit.Trailers.Number(repo.TrailerGeneration))
		s.hubKeys, _ = announcedIn(t, s.tree) // what cannot be read announces nothing
	}
}

// news is what is to be pushed of one tenant.
type news struct {
	tenant  *tenant
	edits   map[string][]byte
	urgency report.Urgency
	commit  git.Hash
	tree    git.Hash
	// generation of the commit, and the keys that its tree announces.
	generation int64
	hubKeys    []string
	anew       bool // the commit has no parent and takes the place of others
}

// report pushes what tenants have to know and is due, all in one push.
func (l *loop) report(ctx context.Context) {
	if l.id == "" || l.remote == nil || l.failed != nil && !l.failed.stop {
		return // the next look at the repository brings it up again
	}
	due := map[*link][]*news{}
	for _, name := range slices.Sorted(maps.Keys(l.todo)) {
		t := l.todo[name]
		t.status.due = time.Time{}
		if !t.restored || t.state == nil || !t.status.known || !t.seen.known || t.link.busy() {
			continue
		}
		n, err := l.gather(ctx, t)
		if err != nil {
			l.trouble(err, "cannot report", name)
			continue
		}
		if n == nil {
			continue
		}
		if at := l.dueAt(t, n.urgency); at.After(l.now()) {
			t.status.due = at
			continue
		}
		due[t.link] = append(due[t.link], n)
	}
	for k, due := range due {
		var err error
		if k == nil {
			err = l.pushStatus(ctx, due)
		} else {
			l.launch(k, due)
		}
		if err != nil && ctx.Err() == nil {
			l.finishLook(ctx, err)
		}
	}
}

func statePath(tenant string) string {
	return repo.Path{Tenant: tenant, Kind: v1alpha1.KindTenantState}.String()
}

// gather renders the files of a tenant's dirty objects. It returns nil when the
// branch has all of them.
func (l *loop) gather(ctx context.Context, t *tenant) (*news, error) {
	s := &t.status
	if !s.full {
		if err := l.markAll(ctx, t); err != nil {
			return nil, err
		}
		s.full = true
	}
	n := &news{tenant: t, edits: map[string][]byte{}}
	for path, key := range s.dirty {
		content, object, err := l.render(ctx, path, key)
		if err != nil {
			return nil, err
		}
		old, _, err := t.store.File(s.tree, path)
		if err != nil {
			return nil, err
		}
		fits := len(content) <= repo.MaxFileSize
		t.untold = t.untold || fits != (s.unfit[path] == "")
		if !fits {
			s.unfit[path] = fmt.Sprintf("it has %d bytes, at most %d are read", len(content), repo.MaxFileSize)
			delete(s.dirty, path) // until it changes
			continue
		}
		delete(s.unfit, path)
		if urgency := report.UrgencyOf(path, old.Data, content, object); urgency != report.None {
			n.edits[path] = content
			n.urgency = max(n.urgency, urgency)
			continue
		}
		delete(s.dirty, path)
	}
	if len(n.edits) == 0 {
		s.since = time.Time{}
		return nil, nil
	}
	if s.since.IsZero() {
		s.since = l.now()
	}
	return n, nil
}

// markAll makes everything dirty that the tenant has, or that its branch says
// it has.
func (l *loop) markAll(ctx context.Context, t *tenant) error {
	namespace := v1alpha1.TenantNamespace(t.name)
	for _, list := range lists() {
		if err := l.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return err
		}
		for _, object := range objectsOf(list) {
			if path, err := repo.PathOf(object); err == nil {
				t.status.dirty[path] = client.ObjectKeyFromObject(object)
			}
		}
	}
	files, err := t.store.Files(t.status.tree, "")
	if err != nil {
		return err
	}
	for path := range files {
		if _, ok := t.status.dirty[path]; ok {
			continue
		}
		key := client.ObjectKey{Namespace: namespace}
		if p, err := repo.ParsePath(path); err == nil && p.Tenant == t.name {
			key.Name = p.ObjectName()
		}
		t.status.dirty[path] = key
	}
	t.status.dirty[statePath(t.name)] = client.ObjectKeyFromObject(t.state)
	return nil
}

// render returns the file of an object and the object, nil where there is none.
func (l *loop) render(ctx context.Context, path string, key client.ObjectKey) ([]byte, repo.Object, error) {
	if key.Name == "" {
		return nil, nil, nil // no path of ours
	}
	p, err := repo.ParsePath(path)
	if err != nil {
		return nil, nil, err
	}
	object := ofKind(p.Kind)
	if err := l.client.Get(ctx, key, object); err != nil {
		return nil, nil, client.IgnoreNotFound(err)
	}
	if at, err := repo.PathOf(object); err != nil || at != path {
		return nil, nil, nil //nolint:nilerr // its labels were edited: it is no longer the file's object
	}
	_, content, err := report.File(object)
	return content, object, err
}

// dueAt says when news may be pushed.
func (l *loop) dueAt(t *tenant, urgency report.Urgency) time.Time {
	s := &t.status
	at := s.since
	if urgency == report.Later {
		at = s.pushed.Add(reportEvery)
	}
	if soon := t.applied.recently.Add(answerSoon); urgency != report.Now && soon.After(at) {
		at = soon
		if limit := s.since.Add(answerAtMost); at.After(limit) && urgency == report.Decided {
			at = limit
		}
	}
	if s.tip.IsZero() {
		at = s.since // a CCM waits for the first answer
	}
	for _, earliest := range []time.Time{l.mayPushTo(t), s.retry.at} {
		if earliest.After(at) {
			at = earliest
		}
	}
	return at
}

// reportDue is when the next news is due; zero if there is none.
func (l *loop) reportDue(time.Time) (next time.Time) {
	if l.failed != nil {
		return next
	}
	for _, t := range l.todo {
		if at := t.status.due; !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// pushStatus makes one commit per tenant and pushes them together; each ref
// counts for itself.
func (l *loop) pushStatus(ctx context.Context, due []*news) error {
	due, updates := l.commitStatuses(due)
	if len(due) == 0 {
		return nil
	}
	results, err := l.remote.Push(ctx, l.store, updates, false)
	if len(results) == len(due) {
		l.pushed = l.now()
	}
	l.settlePush(nil, due, results, err)
	if errors.Is(err, git.ErrRejected) && !errors.Is(err, git.ErrUnknownOutcome) {
		return nil // what was refused says so itself
	}
	return err
}

// commitStatuses makes the commits that can be made, and the updates of their
// branches. One that cannot is its tenant's problem.
func (l *loop) commitStatuses(due []*news) (made []*news, updates []git.RefUpdate) {
	for _, n := range due {
		s := &n.tenant.status
		if err := l.commitStatus(n); err != nil {
			l.trouble(err, "cannot write a status", n.tenant.name)
			s.unfit[""], n.tenant.untold = err.Error(), true
			s.retry.failed(l.now())
			continue
		}
		if s.unfit[""] != "" {
			delete(s.unfit, "")
			s.retry, n.tenant.untold = retry{}, true
		}
		made = append(made, n)
		updates = append(updates, git.RefUpdate{Name: repo.StatusRef(n.tenant.name), Old: s.tip, New: n.commit})
	}
	return made, updates
}

// commitStatus makes the next commit of a tenant's status branch. On a tip that
// the hub did not write nothing is built but the commit's parent.
func (l *loop) commitStatus(n *news) (err error) {
	s := &n.tenant.status
	store := n.tenant.store
	if n.tree, err = store.Edit(s.tree, n.edits); err != nil {
		return err
	}
	if s.pushed.IsZero() && !s.tip.IsZero() {
		// What this hub wrote before it was started may have been taken off the
		// branch; the tenant knows its generation all the same. No hub writes a
		// thousand of them in a second.
		s.generation = max(s.generation, l.started.UnixMilli())
	}
	if n.hubKeys, err = announcedIn(n.tenant, n.tree); err != nil {
		return err
	}
	n.generation = s.generation + 1
	if len(s.hubKeys) > 0 && !slices.Equal(n.hubKeys, s.hubKeys) {
		// A CCM that was away finds the change of the keys behind the next commits,
		// so the branch does not begin anew now or soon.
		n.generation = s.generation - s.generation%anewEvery + anewEvery + 1
	}
	every := int64(anewEvery)
	if s.grows {
		every = askAnewEvery
	}
	var parents []git.Hash
	if n.anew = !s.tip.IsZero() && n.generation%every == 0 && n.generation != s.forcedAt; !n.anew && !s.tip.IsZero() {
		parents = []git.Hash{s.tip}
	}
	ref := repo.StatusRef(n.tenant.name)
	n.commit, err = store.NewCommit(git.CommitSpec{
		Tree: n.tree, Parents: parents, Author: l.committer(), Message: "status of " + n.tenant.name,
		Trailers: l.trailers(ref, n.tenant.name, n.generation), Signer: l.signer,
	})
	return err
}

// announcedIn are the hub's keys that a tree of a status branch tells the tenant
// of.
func announcedIn(t *tenant, tree git.Hash) ([]string, error) {
	file, ok, err := t.store.File(tree, statePath(t.name))
	if err != nil || !ok {
		return nil, err
	}
	object, _ := repo.DecodeStatus(statePath(t.name), file)
	if state, ok := object.(*v1alpha1.TenantState); ok {
		return state.Status.HubKeys, nil
	}
	return nil, nil
}
