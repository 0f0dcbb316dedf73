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
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// meet decides where a tenant's intent and status branches are: in the loop's
// repository, or in that of its intent source.
func (l *loop) meet(ctx context.Context, t *tenant) {
	var k *link
	if ref := t.object.Spec.Git.IntentSourceRef; ref != nil {
		if key := ref.Key(l.options.Namespace); key != l.key {
			if k = l.links[key]; k == nil {
				k = newLink(ctx, l, key)
				l.links[key] = k
				l.inbox.follow(key)
			}
		}
	}
	store := l.store
	if k != nil {
		store = k.store
	}
	if t.store == store {
		return
	}
	if t.store != nil { // it moved: nothing that is known of the old place counts
		t.status = newTenant(t.name).status
		t.seen = seen{}
	}
	t.link, t.store = k, store
}

// dropLinks ends links that no tenant uses.
func (l *loop) dropLinks() {
	used := map[*link]bool{}
	for _, t := range l.tenants {
		used[t.link] = true
	}
	for key, k := range l.links {
		if !used[k] {
			k.stop()
			l.inbox.unfollow(key)
			delete(l.links, key)
		}
	}
}

// collect takes over what links found and what became of their pushes.
func (l *loop) collect(w work) {
	for key, k := range l.links {
		k.mu.Lock()
		failed := k.view.failed
		k.view = k.state
		k.state.results, k.state.outcome, k.state.done = nil, nil, false
		k.mu.Unlock()
		if failed != k.view.failed {
			l.tellOf(k)
		}
		if k.view.done {
			flying := k.flying
			k.flying = nil
			l.settlePush(k, flying, k.view.results, k.view.outcome)
		}
		if w.links[key] {
			k.called()
		}
	}
}

// tellOf has a link's tenants told whether it can be followed.
func (l *loop) tellOf(k *link) {
	for _, t := range l.tenants {
		if t.link == k {
			t.untold = true
			l.want(t)
		}
	}
}

// hold tells the links which tenants are theirs.
func (l *loop) hold() {
	wants := map[*link]map[string]want{}
	for name, t := range l.tenants {
		if t.link == nil {
			continue
		}
		if wants[t.link] == nil {
			wants[t.link] = map[string]want{}
		}
		wants[t.link][name] = want{last: t.decided.Commit, read: t.read}
	}
	for k, tenants := range wants {
		k.mu.Lock()
		more := false
		for name, w := range tenants {
			before, known := k.wants[name]
			more = more || !known || w.read && !before.read
		}
		k.wants = tenants
		k.mu.Unlock()
		if more {
			k.poke()
		}
	}
}

// intentOf is the tip of a tenant's intent branch, zero where there is none or
// none is known.
func (l *loop) intentOf(t *tenant) git.Hash {
	if t.link != nil {
		return t.link.view.refs[repo.IntentRef(t.name)]
	}
	return l.refs[repo.IntentRef(t.name)]
}

// notFetched says why the tip of a tenant's branch could not be fetched; empty: it
// was, or there is none.
func (l *loop) notFetched(t *tenant, ref string) string {
	if t.link != nil && ref != repo.ReviewRef(t.name) {
		return t.link.view.unfetched[ref]
	}
	return l.unfetched[ref]
}

// unfetched is the problem of an intent branch that could not be fetched, however
// often that was tried.
func unfetched(tenant, why string) *v1alpha1.Problem {
	return &v1alpha1.Problem{
		Path: repo.TenantDir(tenant), Object: v1alpha1.KindTenant + " " + tenant, Reason: repo.ReasonMalformed,
		Message: "the newest commits of the intent branch cannot be fetched, so its last good version stays in force: " +
			v1alpha1.Printable(why, 400),
		Remedy: "delete the branch intent/" + tenant + ": the tenant's CCM writes it anew",
	}
}

// ask reads what was integrated last of tenants that the loop has not decided yet,
// and tells their links.
func (l *loop) ask() error {
	asked := false
	for _, t := range l.tenants {
		if t.link == nil || t.read {
			continue
		}
		if err := l.readDecided(t); err != nil {
			return err
		}
		asked = true
	}
	if asked {
		l.hold()
	}
	return nil
}

// waits reports whether a tenant's first decision waits for its link. If the link
// fails it does not: then the intents are missing, which moves nothing.
func (t *tenant) waits() bool {
	if t.link == nil || t.seen.known || t.link.view.failed != nil {
		return false
	}
	_, fetched := t.link.view.refs[repo.IntentRef(t.name)]
	return !fetched
}

// adoptStatuses takes over what the servers have as status branches.
func (l *loop) adoptStatuses() {
	for name, t := range l.tenants {
		if t.link == nil {
			l.adoptStatus(t, l.refs[repo.StatusRef(name)])
			continue
		}
		if tip, looked := t.link.view.refs[repo.StatusRef(name)]; looked && len(t.link.flying) == 0 {
			l.adoptStatus(t, tip)
		}
	}
}

// away says why a tenant's intent source cannot be followed, nil if it can.
func (t *tenant) away() *v1alpha1.Problem {
	if t.link == nil || t.link.view.failed == nil {
		return nil
	}
	f := t.link.view.failed
	return &v1alpha1.Problem{
		Path: repo.TenantDir(t.name), Object: v1alpha1.KindTenant + " " + t.name, Field: "spec.git.intentSourceRef", Reason: f.reason,
		Message: f.message, Remedy: fmt.Sprintf("see GitSource %s; what is programmed stays until it can be followed again", t.link.key),
	}
}

// launch hands what a link's tenants have to know over to it.
func (l *loop) launch(k *link, due []*news) {
	due, updates := l.commitStatuses(due)
	if len(due) == 0 {
		return
	}
	k.flying = due
	k.mu.Lock()
	k.out = updates
	k.mu.Unlock()
	k.poke()
}

// settlePush takes over what became of a push of status branches to a link's
// repository, or to the loop's own. Each ref counts for itself.
func (l *loop) settlePush(k *link, due []*news, results []git.RefResult, outcome error) {
	source := l.key
	if k != nil {
		source = k.key
	}
	count := func(result string) { pushes.WithLabelValues(source.String(), "status", result).Inc() }
	if len(results) != len(due) {
		count("failed")
	}
	now := l.now()
	for i, n := range due {
		t := n.tenant
		if l.tenants[t.name] != t || t.link != k {
			continue // it went elsewhere meanwhile
		}
		l.want(t)
		s := &t.status
		switch {
		case len(results) != len(due):
			s.known = s.known && !errors.Is(outcome, git.ErrUnknownOutcome)
			continue
		case results[i].Err != nil:
			count("failed")
			s.known = false // look what the branch is now
			if n.anew && refusesForce(results[i].Err) {
				s.forced, s.forcedAt = true, n.generation
				l.inbox.wakeUp()
			} else if errors.Is(results[i].Err, git.ErrRejected) {
				s.refused, t.untold = results[i].Err.Error(), true
				s.retry.failed(now)
			}
			if l.syncAt.After(now.Add(firstRetry)) {
				l.syncAt = now.Add(firstRetry)
			}
			continue
		}
		count("done")
		l.worked = now
		s.tip, s.tree, s.ours, s.pushed, s.since = n.commit, n.tree, true, now, time.Time{}
		s.generation = n.generation
		if n.anew && s.grows {
			s.grows, t.untold = false, true
		}
		if !slices.Equal(s.hubKeys, n.hubKeys) {
			s.hubKeys, t.untold = n.hubKeys, true
			l.inbox.signal() // another turn tells the Tenant
		}
		if s.refused != "" {
			s.refused, s.retry, t.untold = "", retry{}, true
		}
		if k == nil {
			l.refs[repo.StatusRef(t.name)] = n.commit
			for path := range n.edits { // of a link they may have changed meanwhile
				delete(s.dirty, path)
			}
		}
		l.log.Info("stage", "stage", "reported", "tenant", t.name, "commit", n.commit.String(), "paths", slices.Sorted(maps.Keys(n.edits)))
	}
}

// refusesForce reports whether a server may have refused a push because it takes
// the place of commits. Whether it did shows in the branch, which nobody moved.
func refusesForce(err error) bool {
	var rejected *git.RejectedError
	return errors.As(err, &rejected) && !rejected.NotStored()
}

// notes are problems of a tenant that only operators can do something about and
// that nobody suffers from.
func (t *tenant) notes() []v1alpha1.Problem {
	if !t.status.grows {
		return nil
	}
	branch := strings.TrimPrefix(repo.StatusRef(t.name), repo.RefPrefix)
	return []v1alpha1.Problem{{
		Path: repo.TenantDir(t.name), Object: v1alpha1.KindTenant + " " + t.name, Reason: v1alpha1.ReasonStatusBranchGrows,
		Message: fmt.Sprintf("the Git server refuses forced pushes of %s, so the branch keeps all its commits instead of the last %d; the tenant is told everything", branch, anewEvery),
		Remedy:  "nothing has to be done; to keep the repository small, allow the hub to force-push " + branch,
	}}
}

// grew reports whether a Tenant says so already, as of an earlier run of the hub.
func grew(t *v1alpha1.Tenant) bool {
	return t.Status.Git != nil && slices.ContainsFunc(t.Status.Git.Problems, func(p v1alpha1.Problem) bool {
		return p.Reason == v1alpha1.ReasonStatusBranchGrows
	})
}

// refusal is the problem of a status branch that the server does not take.
func (t *tenant) refusal() *v1alpha1.Problem {
	branch := strings.TrimPrefix(repo.StatusRef(t.name), repo.RefPrefix)
	return &v1alpha1.Problem{
		Path: repo.TenantDir(t.name), Object: v1alpha1.KindTenant + " " + t.name, Reason: v1alpha1.ReasonPushFailed,
		Message: "the tenant is not told anything, because the Git server refuses the hub's push: " + t.status.refused,
		Remedy:  "allow the hub to write and to force-push " + branch,
	}
}

// sweep forgets objects of links' stores that nothing refers to any more.
func (l *loop) sweep() {
	for _, k := range l.links {
		if k.store.Stats().Objects < 2*k.kept+1000 || len(k.flying) > 0 || !k.use.TryLock() {
			continue
		}
		k.mu.Lock()
		tips := slices.Concat(slices.Collect(maps.Values(k.view.refs)), slices.Collect(maps.Values(k.state.refs)), k.apart.tips())
		k.mu.Unlock()
		for _, t := range l.tenants {
			if t.link == k {
				tips = append(tips, t.status.tip)
			}
		}
		k.store.Retain(tips...)
		k.kept = k.store.Stats().Objects
		k.use.Unlock()
	}
}

// lender looks only whether the repository can be reached: it has no tenant of
// its own, and others keep their intents in it.
func (l *loop) lender(ctx context.Context) error {
	_, err := l.remote.ListRefs(ctx, repo.IntentRef(""))
	return err
}

// lendsTo counts the tenants that name a source as intentSourceRef.
func lendsTo(tenants []v1alpha1.Tenant, source client.ObjectKey, namespace string) (n int) {
	for i := range tenants {
		if ref := tenants[i].Spec.Git.IntentSourceRef; ref != nil && ref.Key(namespace) == source {
			n++
		}
	}
	return n
}

// lending reports whether the source only holds intents of tenants whose main
// branch is elsewhere.
func (l *loop) lending() bool { return l.lends > 0 && len(l.tenants) == 0 }

// busy reports whether nothing more can be handed over for now.
func (k *link) busy() bool { return k != nil && (len(k.flying) > 0 || k.view.failed != nil) }

// mayPushTo is when a tenant's status branch may be pushed; zero is now.
func (l *loop) mayPushTo(t *tenant) time.Time {
	if t.link == nil {
		return l.mayPush()
	}
	if v := &t.link.view; v.least > 0 && !v.pushed.IsZero() {
		return v.pushed.Add(v.least)
	}
	return time.Time{}
}
