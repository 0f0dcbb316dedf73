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

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/integrate"
	"github.com/kubelb/gitops/gitsync/report"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// leaver is a tenant of ours whose Tenant is being deleted. When the hub has let
// go of it, its branches are copied under archive/, its folder leaves main in
// one commit, the tenant is told so on its status branch, and its intent and
// review branches go. Every step finds out what was done before, so a hub that
// dies in between goes on where it was.
type leaver struct {
	object   *v1alpha1.Tenant
	refs     map[string]git.Hash // its branches; nil until they are archived
	farewell bool                // the tenant has been told
	trouble  string              // why it is not gone yet
}

// keep has a Tenant stay, when it is deleted, until its branches are archived.
func (l *loop) keep(ctx context.Context, tenant *v1alpha1.Tenant) {
	if controllerutil.ContainsFinalizer(tenant, v1alpha1.FinalizerArchive) {
		return
	}
	wanted := tenant.DeepCopy()
	controllerutil.AddFinalizer(wanted, v1alpha1.FinalizerArchive)
	if err := l.patchFinalizers(ctx, tenant, wanted); err != nil {
		l.trouble(err, "cannot add the finalizer", tenant.Name)
	}
}

// patchFinalizers does nothing if the Tenant changed: its event comes back.
func (l *loop) patchFinalizers(ctx context.Context, before, wanted *v1alpha1.Tenant) error {
	patch := client.MergeFromWithOptions(before.DeepCopy(), client.MergeFromWithOptimisticLock{})
	err := l.client.Patch(ctx, wanted, patch, client.FieldOwner(fieldManager))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// leave notes a Tenant that is being deleted.
func (l *loop) leave(tenant *v1alpha1.Tenant) {
	if controllerutil.ContainsFinalizer(tenant, v1alpha1.FinalizerArchive) {
		l.leaving[tenant.Name] = &leaver{object: tenant}
	}
}

// drained reports whether the hub has nothing of the tenant any more.
func (v *leaver) drained() bool {
	return !controllerutil.ContainsFinalizer(v.object, v1alpha1.Finalizer)
}

// archive copies the branches of tenants that are going and decides that their
// folders leave main. One that cannot be archived now delays no other.
func (l *loop) archive(ctx context.Context) (removals []*decision) {
	for _, name := range slices.Sorted(maps.Keys(l.leaving)) {
		v := l.leaving[name]
		if !v.drained() {
			continue
		}
		if err := l.archiveBranches(ctx, v); err != nil {
			l.leaveLater(v, err)
			continue
		}
		folder, integrated := repo.TenantDir(name), repo.IntegratedPath(name)
		_, known, err := l.store.Lookup(l.base.tree, integrated)
		if err != nil {
			l.leaveLater(v, err)
			continue
		}
		if known || !l.mainDir[name].IsZero() || !l.baseDir[name].IsZero() {
			removals = append(removals, &decision{tenant: newTenant(name), removes: true, result: integrate.Result{
				Main: map[string][]byte{folder: nil}, Base: map[string][]byte{folder: nil, integrated: nil},
			}})
		}
	}
	return removals
}

func (l *loop) leaveLater(v *leaver, err error) {
	v.refs, v.trouble = nil, err.Error()
	l.log.Error(err, "cannot archive a deleted tenant yet", "tenant", v.object.Name)
}

// branches of a tenant that are archived.
func branchesOf(tenant string) []string {
	return []string{repo.IntentRef(tenant), repo.ReviewRef(tenant), repo.StatusRef(tenant)}
}

// archiveBranches copies what the tenant's branches are at to archive/.
func (l *loop) archiveBranches(ctx context.Context, v *leaver) error {
	name := v.object.Name
	deletion := v.object.DeletionTimestamp.UTC().Format("20060102T150405Z") + "-" + string(v.object.UID[:8])
	branches := branchesOf(name)
	refs, err := l.remote.ListRefs(ctx, append(branches, repo.ArchivePrefix+name+"/")...)
	if err != nil {
		return err
	}
	// What the branches hold is only copied at the server.
	if tip := refs[repo.StatusRef(name)]; !tip.IsZero() {
		if err := l.remote.Fetch(ctx, l.store, git.Want{Tip: tip}); err != nil && !git.OfContent(err) {
			return err
		}
	}
	if v.farewell, err = l.toldFarewell(refs[repo.StatusRef(name)]); err != nil {
		return err
	}
	var updates []git.RefUpdate
	for _, branch := range branches {
		copied, tip := repo.ArchiveRef(name, deletion, branch), refs[branch]
		if tip.IsZero() || refs[copied] == tip || branch == repo.StatusRef(name) && v.farewell {
			continue
		}
		updates = append(updates, git.RefUpdate{Name: copied, Old: refs[copied], New: tip, Known: true})
	}
	if _, err := l.remote.Push(ctx, l.store, updates, false); err != nil {
		return fmt.Errorf("archive the branches of %s: %w", name, err)
	}
	v.refs = refs
	return nil
}

// toldFarewell reports whether the tip of a status branch is the last word.
func (l *loop) toldFarewell(tip git.Hash) (bool, error) {
	if tip.IsZero() {
		return false, nil
	}
	commit, err := l.store.Commit(tip)
	if git.OfContent(err) {
		return false, nil // not ours
	}
	if err != nil {
		return false, err
	}
	state, err := l.stateIn(commit)
	if err != nil || state == nil {
		return false, err
	}
	ready := apimeta.FindStatusCondition(state.Status.Conditions, meta.ReadyCondition)
	return ready != nil && ready.Reason == v1alpha1.ReasonTenantDeleted, nil
}

// stateIn reads the TenantState of a status commit, nil where there is none that
// the hub wrote.
func (l *loop) stateIn(commit git.Commit) (*v1alpha1.TenantState, error) {
	path := repo.Path{Tenant: commit.Trailers.Get(repo.TrailerTenant), Kind: v1alpha1.KindTenantState}.String()
	if !l.trusts(commit) {
		return nil, nil
	}
	file, ok, err := l.store.File(commit.Tree, path)
	if err != nil || !ok {
		return nil, err
	}
	object, _ := repo.DecodeStatus(path, file)
	state, _ := object.(*v1alpha1.TenantState)
	return state, nil
}

// bidFarewell ends tenants whose branches are archived and whose folder is gone
// from main.
func (l *loop) bidFarewell(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(l.leaving)) {
		v := l.leaving[name]
		if v.refs == nil {
			continue
		}
		if err := l.endBranches(ctx, v); err != nil {
			l.leaveLater(v, err)
			continue
		}
		wanted := v.object.DeepCopy()
		controllerutil.RemoveFinalizer(wanted, v1alpha1.FinalizerArchive)
		if err := l.patchFinalizers(ctx, v.object, wanted); err != nil {
			l.leaveLater(v, err)
			continue
		}
		for _, branch := range branchesOf(name) {
			delete(l.refs, branch)
		}
		delete(l.leaving, name)
		l.log.Info("stage", "stage", "archived", "tenant", name)
	}
}

// endBranches tells the tenant that it is none any more and removes its other
// branches. A server that lets nobody else remove them keeps them: they are
// archived, and a Tenant of that name made later finds them as any intent.
func (l *loop) endBranches(ctx context.Context, v *leaver) error {
	name := v.object.Name
	var updates []git.RefUpdate
	for _, branch := range []string{repo.IntentRef(name), repo.ReviewRef(name)} {
		if tip := v.refs[branch]; !tip.IsZero() {
			updates = append(updates, git.RefUpdate{Name: branch, Old: tip})
		}
	}
	removed := len(updates)
	if tip := v.refs[repo.StatusRef(name)]; !tip.IsZero() && !v.farewell {
		commit, err := l.commitFarewell(name, tip)
		if err != nil {
			return err
		}
		if !commit.IsZero() {
			updates = append(updates, git.RefUpdate{Name: repo.StatusRef(name), Old: tip, New: commit})
		}
	}
	results, err := l.remote.Push(ctx, l.store, updates, false)
	if len(results) != len(updates) {
		return err
	}
	if len(results) > removed && results[removed].Err != nil {
		return fmt.Errorf("tell the tenant: %w", results[removed].Err)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, git.ErrRejected) {
		return err
	}
	now, err := l.remote.ListRefs(ctx, repo.IntentRef(name), repo.ReviewRef(name))
	if err != nil {
		return err
	}
	for i, update := range updates[:removed] {
		if results[i].Err == nil {
			continue
		}
		if at := now[update.Name]; at != update.Old {
			return fmt.Errorf("%s moved to %s meanwhile", update.Name, at.Short())
		}
		l.log.Info("the server keeps a branch of a deleted tenant", "branch", update.Name, "why", results[i].Err.Error())
	}
	return nil
}

// commitFarewell makes the last commit of a status branch: no load balancers,
// and the reason. It returns zero where the branch is not the hub's.
func (l *loop) commitFarewell(tenant string, tip git.Hash) (git.Hash, error) {
	commit, err := l.store.Commit(tip)
	if git.OfContent(err) {
		return git.Hash{}, nil
	}
	if err != nil {
		return git.Hash{}, err
	}
	last, err := l.stateIn(commit)
	if err != nil || last == nil || commit.Trailers.Get(repo.TrailerTenant) != tenant {
		return git.Hash{}, err
	}
	state := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.TenantNamespace(tenant), Name: v1alpha1.DefaultName}}
	state.Status = v1alpha1.TenantStateStatus{
		Version: l.options.Version, RepositoryID: l.id, ObservedIntent: last.Status.ObservedIntent,
		Recipients: last.Status.Recipients, HubKeys: last.Status.HubKeys,
	}
	f := &failure{reason: v1alpha1.ReasonTenantDeleted, stalled: true,
		message: fmt.Sprintf("the Tenant %s was deleted in the hub; its load balancers are gone and its branches are under archive/%s", tenant, tenant)}
	state.Status.Conditions = setConditions(nil, f, "", 0, metav1.NewTime(l.now().Truncate(time.Second)))
	path, content, err := report.File(state)
	if err != nil {
		return git.Hash{}, err
	}
	tree, err := l.store.Edit(git.Hash{}, map[string][]byte{path: content})
	if err != nil {
		return git.Hash{}, err
	}
	return l.store.NewCommit(git.CommitSpec{
		Tree: tree, Parents: []git.Hash{tip}, Author: l.committer(), Message: tenant + " is no tenant any more",
		Trailers: l.trailers(repo.StatusRef(tenant), tenant, commit.Trailers.Number(repo.TrailerGeneration)+1), Signer: l.signer,
	})
}

// explainLeaving says on Tenants that are being deleted what they wait for.
func (l *loop) explainLeaving(ctx context.Context) {
	for _, v := range l.leaving {
		c := metav1.Condition{Type: v1alpha1.ConditionArchived, Status: metav1.ConditionFalse, ObservedGeneration: v.object.Generation,
			Reason: v1alpha1.ReasonDraining, Message: "its branches are archived when its load balancers have drained"}
		switch {
		case l.source.Spec.Suspend:
			c.Reason, c.Message = v1alpha1.ReasonSuspended, "its branches are archived when the GitSource is not suspended any more"
		case l.failed != nil:
			c.Reason, c.Message = l.failed.reason, "its branches are not archived yet: "+l.failed.message
		case v.trouble != "":
			c.Reason, c.Message = v1alpha1.ReasonArchiveFailed, "its branches are not archived yet: "+v.trouble+
				"; allow the hub to write archive/* and to remove intent/*"
		}
		conditions := slices.Clone(v.object.Status.Conditions)
		c.LastTransitionTime = metav1.NewTime(l.now().Truncate(time.Second))
		if !apimeta.SetStatusCondition(&conditions, c) {
			continue
		}
		c = *apimeta.FindStatusCondition(conditions, c.Type)
		err := l.applyStatus(ctx, &v1alpha1.Tenant{
			ObjectMeta: metav1.ObjectMeta{Name: v.object.Name},
			Status:     v1alpha1.TenantStatus{Git: v.object.Status.Git, ObjectStatus: v1alpha1.ObjectStatus{Conditions: []metav1.Condition{c}}},
		}, v1alpha1.KindTenant, fieldManager)
		if client.IgnoreNotFound(err) != nil {
			l.trouble(err, "cannot write the status of a Tenant", v.object.Name)
			continue
		}
		v.object = v.object.DeepCopy()
		v.object.Status.Conditions = conditions
	}
}
