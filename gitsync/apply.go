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
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/plan"
)

// workers is how many objects are written at the same time.
const workers = 8

// task is what has to be written for one tenant.
type task struct {
	tenant   *tenant
	dir      git.Hash // the tenant's folder on main
	plan     plan.Plan
	current  map[string]repo.Object // in the hub now, by path
	differs  bool                   // there is something to write, whoever does it
	confirms bool                   // it lets removals through that people confirmed
	outcomes []outcome
}

// apply brings the hub to what main has: what differs is worked out tenant by
// tenant and written side by side, so that no tenant waits for all others. What
// fails is tried again with back-off; the other objects go on.
func (l *loop) apply(ctx context.Context) {
	tasks, failed := l.tasks(ctx)
	l.carryOut(ctx, tasks)
	if ctx.Err() != nil {
		return
	}
	for _, task := range tasks {
		if err := l.settleTask(ctx, task); err != nil {
			l.log.Error(err, "cannot apply", "tenant", task.tenant.name)
			l.suspect(err)
			failed = true
		}
	}
	for _, t := range l.todo {
		failed = failed || t.state != nil && !t.suspended() && len(t.applied.retry) > 0
	}
	switch now := l.now(); {
	case !failed:
		l.applyRetry.succeeded()
	case l.applyRetry.at.IsZero() || l.applyRetry.due(now):
		l.applyRetry.failed(now)
	}
}

// tasks plans for the tenants of which main or what is applied has changed.
func (l *loop) tasks(ctx context.Context) (tasks []*task, failed bool) {
	listed, err := l.inventories(ctx)
	for _, name := range slices.Sorted(maps.Keys(l.todo)) {
		t := l.todo[name]
		if t.suspended() {
			t.applied.known = false // read everything again after it
		}
		if t.state == nil || t.suspended() {
			continue
		}
		if err != nil && !t.applied.known {
			failed = true
			continue
		}
		task, err := l.task(ctx, t, listed)
		if err != nil {
			if ctx.Err() != nil {
				return nil, true
			}
			l.log.Error(err, "cannot apply", "tenant", name)
			l.suspect(err)
			failed = true
		}
		if task != nil {
			tasks = append(tasks, task)
		}
	}
	if err != nil && ctx.Err() == nil {
		l.log.Error(err, "cannot apply")
	}
	return tasks, failed
}

// task plans for one tenant; nil if nothing differs.
func (l *loop) task(ctx context.Context, t *tenant, listed map[string][]plan.Ref) (*task, error) {
	w := &task{tenant: t, dir: l.mainDir[t.name], current: map[string]repo.Object{}}
	a := &t.applied
	retrying := len(a.retry) > 0 && l.applyRetry.due(l.now())
	released := len(a.guarded) > 0 && l.releases(t)
	if a.known && a.dir == w.dir && !retrying && !released {
		return nil, nil
	}
	var err error
	if w.plan, err = l.planTenant(ctx, t, listed); err != nil {
		return nil, err
	}
	if w.confirms, err = l.guard(ctx, t, &w.plan); err != nil {
		return nil, err
	}
	w.differs = len(w.plan.Apply)+len(w.plan.Prune) > 0
	if l.source.Spec.Apply == v1alpha1.ApplyDisabled {
		w.plan.Apply, w.plan.Prune = nil, nil
	}
	var paths []string
	for _, item := range w.plan.Apply {
		object, err := l.cached(ctx, item.Object)
		if err != nil {
			return nil, err
		}
		w.current[item.Path] = object
		if object == nil || revisionOf(object) == "" || a.known {
			paths = append(paths, item.Path)
		}
	}
	if err := l.revisions(ctx, paths); err != nil {
		return nil, err
	}
	return w, nil
}

// settleTask takes over what became of a tenant's writes.
func (l *loop) settleTask(ctx context.Context, w *task) error {
	t, a := w.tenant, &w.tenant.applied
	for _, o := range w.outcomes {
		l.settleOutcome(t, o)
	}
	t.untold = true
	changed := !a.known || a.dir != w.dir
	a.known, a.root, a.dir = true, l.truth.followed, w.dir
	if w.confirms && len(a.retry) == 0 { // not before: a hub that dies needs it again
		if err := l.dropAnnotation(ctx, t.object, v1alpha1.AnnotationConfirm); err != nil {
			a.known = false
			return err
		}
	}
	if !changed {
		return nil
	}
	return l.noteRevision(ctx, t, w.differs)
}

// planTenant plans from what changed since main was applied last, or from all
// there is.
func (l *loop) planTenant(ctx context.Context, t *tenant, listed map[string][]plan.Ref) (plan.Plan, error) {
	a := &t.applied
	folder := repo.TenantDir(t.name)
	if !a.known {
		tree, err := l.store.Files(l.truth.followed, folder)
		if err != nil {
			return plan.Plan{}, err
		}
		p := plan.Full(t.name, tree, listed[t.name])
		a.problems, a.retry = map[string][]v1alpha1.Problem{}, map[string]bool{}
		a.note(p.Problems)
		return p, nil
	}
	paths := maps.Clone(a.retry)
	err := l.store.Diff(a.root, l.truth.followed, folder, func(c git.Change) error { paths[c.Path] = true; return nil })
	if err != nil {
		return plan.Plan{}, err
	}
	for _, ref := range a.guarded {
		paths[ref.Path] = true
	}
	var changes []plan.Change
	for path := range paths {
		change := plan.Change{Path: path}
		file, ok, err := l.store.File(l.truth.followed, path)
		if err != nil {
			return plan.Plan{}, err
		}
		if ok {
			change.File = &file
		}
		changes = append(changes, change)
		delete(a.problems, path)
	}
	p := plan.Changed(t.name, changes)
	a.note(p.Problems)
	return p, nil
}

func (a *applied) note(problems []v1alpha1.Problem) {
	for _, p := range problems {
		a.problems[p.Path] = append(a.problems[p.Path], p)
	}
}

// label is the value of the label that makes an object part of the inventory.
func (l *loop) label() string { return repo.LabelValue(l.key.Namespace + "." + l.key.Name) }

// releases reports whether an operator confirmed people's removals on main.
func (l *loop) releases(t *tenant) bool {
	return t.object.Annotations[v1alpha1.AnnotationConfirm] == l.main.Hash.String()
}

// guard keeps back removals by people when they are too many, until the main
// commit is confirmed. It reports whether it is, and all may go.
func (l *loop) guard(ctx context.Context, t *tenant, p *plan.Plan) (confirmed bool, err error) {
	var paths []string
	for _, ref := range p.Prune {
		paths = append(paths, ref.Path)
	}
	removals := plan.Removals{Confirmed: l.releases(t), ByHub: map[string]bool{}}
	if len(paths) > 0 {
		if err := l.revisions(ctx, paths); err != nil {
			return false, err
		}
		for _, path := range paths {
			removals.ByHub[path] = l.history.newest[path].hub
		}
		if removals.Wishes, err = l.wishesBefore(t, p); err != nil {
			return false, err
		}
	}
	var guarded []plan.Ref
	p.Prune, guarded = plan.Guard(p.Prune, removals)
	t.applied.guarded = guarded
	folder := repo.TenantDir(t.name)
	delete(t.applied.problems, folder)
	if len(guarded) > 0 {
		t.applied.problems[folder] = []v1alpha1.Problem{{
			Path: folder, Object: v1alpha1.KindTenant + " " + t.name, Reason: v1alpha1.ReasonApplyGuarded,
			Message: fmt.Sprintf("people removed %d of %d documents on main; nothing of it is removed from the hub until this is confirmed", len(guarded), removals.Wishes),
			Remedy:  fmt.Sprintf("if the removals are meant, annotate the Tenant with %s: %s; else revert them", v1alpha1.AnnotationConfirm, l.main.Hash),
			Confirm: l.main.Hash.String(),
		}}
	}
	return removals.Confirmed && len(guarded) == 0, nil
}

// wishesBefore counts the wishes that the hub has of a tenant before a plan is
// carried out.
func (l *loop) wishesBefore(t *tenant, p *plan.Plan) (int, error) {
	if t.applied.known {
		n, err := l.wishes(t.applied.root, t.name)
		return max(n, len(t.applied.guarded)), err
	}
	n, err := l.wishes(l.truth.followed, t.name)
	for _, ref := range p.Prune {
		if path, err := repo.ParsePath(ref.Path); err == nil && !path.Fact() {
			n++
		}
	}
	return n, err
}

// carryOut applies and prunes, several objects at a time.
func (l *loop) carryOut(ctx context.Context, tasks []*task) {
	var group errgroup.Group
	group.SetLimit(workers)
	for _, w := range tasks {
		w.outcomes = make([]outcome, len(w.plan.Apply)+len(w.plan.Prune))
		for i, item := range w.plan.Apply {
			group.Go(func() error {
				w.outcomes[i] = l.applyItem(ctx, item, w.current[item.Path])
				return nil
			})
		}
		for i, ref := range w.plan.Prune {
			group.Go(func() error {
				w.outcomes[len(w.plan.Apply)+i] = l.prune(ctx, ref)
				return nil
			})
		}
	}
	_ = group.Wait()
}

// outcome is what became of one object.
type outcome struct {
	path     string
	action   string // applied, pruned; empty if nothing had to be done
	revision string // annotation that the object has now
	marked   bool   // it had a status.git
	balancer bool
	problem  *v1alpha1.Problem
	retry    bool
}

func (l *loop) settleOutcome(t *tenant, o outcome) {
	a := &t.applied
	t.untold = true
	delete(a.retry, o.path)
	if o.retry {
		a.retry[o.path] = true
	}
	if o.problem != nil {
		a.problems[o.path] = []v1alpha1.Problem{*o.problem}
		applies.WithLabelValues(l.key.String(), "apply", "failed").Inc()
		return
	}
	delete(a.problems, o.path)
	if status := t.gitStatus(o.path); o.marked || len(status.Held)+len(status.Pending) > 0 {
		t.touch(o.path)
	}
	if o.action == "" {
		return
	}
	l.worked = l.now()
	if o.balancer && o.action == actionApplied {
		a.recently = l.worked
	}
	applies.WithLabelValues(l.key.String(), o.action, "done").Inc()
	l.log.Info("stage", "stage", o.action, "tenant", t.name, "path", o.path, "commit", o.revision)
}

// noteRevision works out the newest commit that changed a tenant's folder.
func (l *loop) noteRevision(ctx context.Context, t *tenant, worked bool) error {
	if c, ok := l.history.folder[t.name]; ok {
		t.applied.revision = c.String()
		return nil
	}
	if !worked && t.state.Status.AppliedRevision != "" {
		t.applied.revision = t.state.Status.AppliedRevision
		return nil
	}
	if t.applied.dir.IsZero() {
		return nil
	}
	// Searching for any file of the folder finds the folder's commit on the way.
	if err := l.folderRevision(ctx, t.name); err != nil {
		return err
	}
	if c, ok := l.history.folder[t.name]; ok {
		t.applied.revision = c.String()
	} else {
		t.applied.revision = l.main.Hash.String()
	}
	return nil
}

func revisionOf(object repo.Object) string {
	return object.GetAnnotations()[v1alpha1.AnnotationRevision]
}
