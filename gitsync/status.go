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
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/plan"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// warn tells, before anything is applied, of documents whose source is gone, so
// that they are not programmed.
func (l *loop) warn(ctx context.Context) {
	for _, t := range l.todo {
		if t.state != nil && t.seen.known && !slices.Equal(t.outcome.SourceGone, t.state.Status.SourceGone) {
			if err := l.writeState(ctx, t); err != nil {
				t.untold = true
				l.trouble(err, "cannot warn of what has no source", t.name)
			}
		}
	}
}

// announce writes what changed of the statuses that gitsync owns, several
// tenants' at a time.
func (l *loop) announce(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(workers)
	failures := map[*tenant]*error{}
	for _, t := range l.todo {
		if t.state == nil || !t.seen.known || !t.untold || ctx.Err() != nil {
			continue
		}
		t.untold = false
		t.measure()
		failed := new(error)
		failures[t] = failed
		group.Go(func() error {
			*failed = errors.Join(l.writeState(ctx, t), l.writeTenant(ctx, t))
			return nil
		})
	}
	_ = group.Wait()
	for t, failed := range failures {
		if *failed != nil {
			t.untold = true
			l.trouble(*failed, "cannot tell what became of its changes", t.name)
		}
	}
}

// writeState writes the TenantState's status, all but the reservations.
func (l *loop) writeState(ctx context.Context, t *tenant) error {
	before := &t.state.Status
	if t.told != nil {
		before = t.told
	}
	status := l.stateOf(ctx, t, before.Conditions)
	if sameState(before, &status) {
		return nil
	}
	now := metav1.NewTime(l.now().Truncate(1e9))
	status.LastUpdated = now
	err := l.applyStatus(ctx, &v1alpha1.TenantState{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.state.Namespace, Name: t.state.Name}, Status: status,
	}, v1alpha1.KindTenantState, fieldManager)
	if err == nil {
		t.told = &status
	}
	if client.IgnoreNotFound(err) != nil { // else its namespace went; the next look sees it
		return fmt.Errorf("write the status of the TenantState: %w", err)
	}
	return nil
}

// stateOf is what a tenant is told of itself.
func (l *loop) stateOf(ctx context.Context, t *tenant, conditions []metav1.Condition) v1alpha1.TenantStateStatus {
	problems, count := t.problems()
	status := v1alpha1.TenantStateStatus{
		Version: l.options.Version, RepositoryID: l.id, AppliedRevision: t.applied.revision,
		ProblemCount: int32(count), Problems: listed(problems),
		HeldCount: int32(len(t.outcome.Held)), Held: first(t.outcome.Held),
		PendingCount: int32(len(t.outcome.Pending)), Pending: first(t.outcome.Pending),
		SourceGone:   slices.Clone(t.outcome.SourceGone),
		Review:       t.reviewStatus(),
		HubKeys:      l.keys.announced(),
		LoadBalancer: v1alpha1.LoadBalancerState{Disable: t.object.Spec.LoadBalancer.Disable || l.disabled(ctx)},
	}
	if t.decided.Commit != "" {
		status.ObservedIntent = new(t.decided)
	}
	now := metav1.NewTime(l.now().Truncate(1e9))
	kept := slices.DeleteFunc(slices.Clone(conditions), func(c metav1.Condition) bool {
		return !slices.Contains([]string{"Ready", "Stalled", "Reconciling", v1alpha1.ConditionRestored}, c.Type)
	})
	status.Conditions = setConditions(kept, t.trouble(), "integrated and applied", t.state.Generation, now)
	apimeta.SetStatusCondition(&status.Conditions, t.restoredCondition(now))
	return status
}

// trouble is what keeps the tenant's changes from being followed, if anything.
func (t *tenant) trouble() *failure {
	if t.refused != nil {
		return &failure{reason: t.refused.Reason, message: t.refused.Message + ": " + t.refused.Remedy, stalled: true}
	}
	for _, p := range slices.Concat(t.outcome.Problems, t.applied.problems[repo.TenantDir(t.name)]) {
		if p.Reason == v1alpha1.ReasonApplyGuarded {
			return &failure{reason: p.Reason, message: p.Message + ": " + p.Remedy, stalled: true}
		}
	}
	if t.suspended() {
		return &failure{reason: v1alpha1.ReasonSuspended, message: "the Tenant is suspended: nothing is applied", stalled: true}
	}
	return nil
}

// disabled reports whether load balancers are refused for all tenants.
func (l *loop) disabled(ctx context.Context) bool {
	var config v1alpha1.Config
	err := l.client.Get(ctx, client.ObjectKey{Namespace: l.options.Namespace, Name: v1alpha1.DefaultName}, &config)
	return err == nil && config.Spec.LoadBalancer.Disable
}

// listed are the problems that a status has.
func listed(problems []v1alpha1.Problem) []v1alpha1.Problem {
	out := slices.Clone(problems)
	for i := range out {
		out[i].Confirm = "" // it is no part of what is stored
	}
	return out
}

func first[T any](all []T) []T { return slices.Clone(all[:min(len(all), v1alpha1.MaxListed)]) }

// sameState compares what gitsync owns of a TenantState's status.
func sameState(a, b *v1alpha1.TenantStateStatus) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	for _, s := range []*v1alpha1.TenantStateStatus{a, b} {
		s.LastUpdated, s.Reservations, s.Recipients, s.DisabledFeatures = metav1.Time{}, nil, nil, nil
		slices.SortFunc(s.Conditions, func(x, y metav1.Condition) int { return cmp.Compare(x.Type, y.Type) })
	}
	return equality.Semantic.DeepEqual(a, b)
}

// writeTenant writes Tenant.status.git.
func (l *loop) writeTenant(ctx context.Context, t *tenant) error {
	before := t.object.Status.Git
	if t.toldGit != nil {
		before = t.toldGit
	}
	problems, count := t.problems()
	notes := t.notes()
	problems, count = v1alpha1.FirstProblems(append(notes, problems...)), count+len(notes)
	now := &v1alpha1.TenantGitStatus{
		Intent: t.decided.Commit, Revision: t.applied.revision, Held: int32(len(t.outcome.Held)), Pending: int32(len(t.outcome.Pending)),
		ProblemCount: int32(count), Problems: listed(problems), Review: t.reviewStatus(),
		HubKeys: t.status.hubKeys, ShortRevision: v1alpha1.Short(t.applied.revision), Confirm: confirmations(problems),
	}
	now.IntentTime = intentTime(t.heard, l.now())
	if now.IntentTime == nil && before != nil && before.Intent == now.Intent {
		now.IntentTime = before.IntentTime // its commit was not seen since the hub started
	}
	conditions, changed := t.heardCondition(metav1.NewTime(l.now().Truncate(time.Second)))
	if before != nil && !changed && equality.Semantic.DeepEqual(before, now) {
		return nil
	}
	err := l.applyStatus(ctx, &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: t.name},
		Status:     v1alpha1.TenantStatus{Git: now, ObjectStatus: v1alpha1.ObjectStatus{Conditions: conditions}},
	}, v1alpha1.KindTenant, fieldManager)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the status of the Tenant: %w", err)
	}
	t.toldGit, t.toldHeard = now, conditions
	return nil
}

// intentTime is the time of a commit as a status takes it. The commit is the
// tenant's: what no clock says, or one that is ahead, is left out.
func intentTime(at, now time.Time) *metav1.Time {
	if at.Year() < 2000 || at.After(now.Add(time.Hour)) {
		return nil
	}
	return &metav1.Time{Time: at.Truncate(time.Second)}
}

// heardCondition says whether the tenant's CCM was ever heard of, and whether that
// is news.
func (t *tenant) heardCondition(now metav1.Time) (conditions []metav1.Condition, changed bool) {
	conditions = t.toldHeard
	if conditions == nil {
		if c := apimeta.FindStatusCondition(t.object.Status.Conditions, v1alpha1.ConditionHeard); c != nil {
			conditions = []metav1.Condition{*c}
		}
	}
	conditions = slices.Clone(conditions)
	c := metav1.Condition{
		Type: v1alpha1.ConditionHeard, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHeard, ObservedGeneration: t.object.Generation, LastTransitionTime: now,
		Message: "the CCM has pushed intents that were decided; git.intentTime says when the last",
	}
	if t.decided.Commit == "" {
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonNoIntentYet
		c.Message = fmt.Sprintf("no intent of branch intent/%s was decided yet: install the CCM as kubelbctl tenant add says, or look at its log and its credentials for the Git server", t.name)
	}
	changed = apimeta.SetStatusCondition(&conditions, c)
	return conditions, changed
}

// confirmations are what an operator is asked to confirm, each commit once.
func confirmations(problems []v1alpha1.Problem) (out []v1alpha1.Confirmation) {
	const most = 16
	for _, p := range problems {
		if p.Confirm == "" || len(out) == most || slices.ContainsFunc(out, func(c v1alpha1.Confirmation) bool { return c.Commit == p.Confirm }) {
			continue
		}
		out = append(out, v1alpha1.Confirmation{Commit: p.Confirm, Reason: p.Reason})
	}
	return out
}

// chunk is how many objects' status.git are written before the loop looks
// whether there is something more urgent. They wait until nothing else has been
// done for gitAfter, but not longer than gitAtMost.
const (
	chunk     = 64
	gitAfter  = 300 * time.Millisecond
	gitAtMost = 3 * time.Second
)

// writeObjects writes status.git of objects of which it may have changed, wishes
// first. It comes after what tenants wait for, and not all at once.
func (l *loop) writeObjects(ctx context.Context) {
	if !l.gitDue() {
		return
	}
	type place struct {
		tenant *tenant
		path   string
	}
	var places []place
	for _, t := range l.todo {
		if t.state == nil || !t.seen.known {
			continue
		}
		for path := range t.regit {
			places = append(places, place{t, path})
		}
		if len(places) >= 4*chunk { // enough to choose from
			break
		}
	}
	slices.SortFunc(places, func(a, b place) int { return wishesFirst(a.path, b.path) })
	places = places[:min(len(places), chunk)]
	errs := make([]error, len(places))
	var group errgroup.Group
	group.SetLimit(workers)
	for i, p := range places {
		group.Go(func() error {
			if ref, err := plan.RefOf(p.tenant.name, p.path); err == nil {
				errs[i] = l.writeGit(ctx, p.tenant, ref)
			}
			return nil
		})
	}
	_ = group.Wait()
	failed := false
	for i, p := range places {
		if errs[i] != nil {
			l.trouble(errs[i], "cannot write status.git", p.tenant.name)
			failed = true
			continue
		}
		delete(p.tenant.regit, p.path)
	}
	if failed {
		l.gitRetry.failed(l.now())
		return
	}
	l.gitRetry.succeeded()
}

// gitDue reports whether status.git can be written now; if there is anything to
// write and it cannot, the loop takes another turn when it can.
func (l *loop) gitDue() bool {
	now, waits := l.now(), false
	for _, t := range l.todo {
		waits = waits || t.state != nil && t.seen.known && len(t.regit) > 0
	}
	if !waits {
		l.gitSince, l.gitAt = time.Time{}, time.Time{}
		return false
	}
	if l.gitSince.IsZero() {
		l.gitSince = now
	}
	l.gitAt = l.worked.Add(gitAfter)
	if limit := l.gitSince.Add(gitAtMost); limit.Before(l.gitAt) {
		l.gitAt = limit
	}
	if l.gitRetry.at.After(l.gitAt) {
		l.gitAt = l.gitRetry.at
	}
	return !now.Before(l.gitAt)
}

func wishesFirst(a, b string) int {
	x, _ := repo.ParsePath(a)
	y, _ := repo.ParsePath(b)
	if x.Fact() != y.Fact() {
		if x.Fact() {
			return 1
		}
		return -1
	}
	return cmp.Compare(a, b)
}

// writeGit makes an object's status.git say what is held and pending. An object that
// is as its tenant asks for has none, so that most objects cost no such write.
func (l *loop) writeGit(ctx context.Context, t *tenant, ref plan.Ref) error {
	object := ofKind(ref.Kind)
	err := l.client.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, object)
	if err != nil || object.GetLabels()[v1alpha1.LabelSource] != l.label() {
		return client.IgnoreNotFound(err)
	}
	now, wanted := gitOf(object), t.gitStatus(ref.Path)
	if len(wanted.Held)+len(wanted.Pending) == 0 {
		if now == nil {
			return nil
		}
		none := client.RawPatch(mergePatch, []byte(`{"status":{"git":null}}`))
		return client.IgnoreNotFound(l.client.Status().Patch(ctx, object, none, client.FieldOwner(fieldManager)))
	}
	if now != nil && equality.Semantic.DeepEqual(*now, wanted) {
		return nil
	}
	git, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&wanted)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"git": git}}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(ref.Kind))
	u.SetNamespace(ref.Namespace)
	u.SetName(ref.Name)
	err = l.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(fieldManager), client.ForceOwnership)
	return client.IgnoreNotFound(err)
}

func gitOf(object repo.Object) *v1alpha1.GitStatus {
	switch object := object.(type) {
	case *v1alpha1.LoadBalancer:
		return object.Status.Git
	case *v1alpha1.Route:
		return object.Status.Git
	case *v1alpha1.SyncSecret:
		return object.Status.Git
	case *v1alpha1.Addresses:
		return object.Status.Git
	case *v1alpha1.Backend:
		return object.Status.Git
	}
	return nil
}

// writeSource writes the GitSource's status.
func (l *loop) writeSource(ctx context.Context) {
	f := l.failed
	if f == nil && l.source.Spec.Suspend {
		f = &failure{reason: v1alpha1.ReasonSuspended, message: "the GitSource is suspended", stalled: true}
	}
	if n := l.unapplied(); f == nil && n > 0 {
		f = &failure{reason: v1alpha1.ReasonApplyFailed, message: "some objects could not be applied yet; their tenants' problems say which"}
	}
	problems := slices.Concat(l.forgeProblems(), l.mistakes.webhook, l.strays)
	if !l.verifies() {
		problems = append(problems, l.mistakes.others...)
	}
	ready := 0.0
	if f == nil {
		ready = 1
	}
	sourceReady.WithLabelValues(l.key.String()).Set(ready)
	status := v1alpha1.GitSourceStatus{
		RepositoryID: l.id, LastHandledReconcileAt: l.source.Annotations[v1alpha1.AnnotationReconcile],
		ProblemCount: int32(len(problems)), Problems: listed(v1alpha1.FirstProblems(problems)), Revision: l.source.Status.Revision,
	}
	if f != nil {
		status.AcceptRewrite = f.accepts
	}
	if n := l.refusals(); f == nil && n > 0 {
		f = &failure{reason: v1alpha1.ReasonPushFailed, message: fmt.Sprintf("the Git server refuses the status branches of %d tenants; their problems say why", n)}
	}
	success := "follows " + l.mainRef()
	if l.lending() {
		success = fmt.Sprintf("holds the intents of %d tenants; their main branch is elsewhere", l.lends)
	}
	if !l.main.Hash.IsZero() && !l.stopped() {
		status.Revision = l.main.Hash.String()
	}
	status.ShortRevision = v1alpha1.Short(status.Revision)
	status.BaseGeneration = l.knownGeneration()
	status.ObservedGeneration = l.source.Generation
	now := metav1.NewTime(l.now().Truncate(1e9))
	status.Conditions = l.webhookCondition(setConditions(l.source.Status.Conditions, f, success, l.source.Generation, now), now)
	if equality.Semantic.DeepEqual(&status, &l.source.Status) {
		return
	}
	err := l.applyStatus(ctx, &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.key.Namespace, Name: l.key.Name}, Status: status,
	}, v1alpha1.KindGitSource, fieldManager)
	if client.IgnoreNotFound(err) != nil {
		l.trouble(err, "cannot write the status of the GitSource", "")
		return
	}
	l.source.Status = status
}

func (l *loop) unapplied() (n int) {
	for _, t := range l.todo {
		n += len(t.applied.retry)
	}
	return n
}

// applyStatus applies an object's status server-side.
func (l *loop) applyStatus(ctx context.Context, object runtime.Object, kind, manager string) error {
	return applyStatus(ctx, l.client, object, kind, manager)
}

func applyStatus(ctx context.Context, c client.Client, object runtime.Object, kind, manager string) error {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err
	}
	delete(m, "spec")
	u := &unstructured.Unstructured{Object: m}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	return c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(manager), client.ForceOwnership)
}

// trouble logs a failed write and has it tried again.
func (l *loop) trouble(err error, what, tenant string) {
	if errors.Is(err, context.Canceled) {
		return
	}
	l.log.Error(err, what, "tenant", tenant)
	l.suspect(err)
	if l.applyRetry.at.IsZero() {
		l.applyRetry.failed(l.now())
	}
}
