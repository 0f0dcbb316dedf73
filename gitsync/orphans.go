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
	"slices"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// orphans tells Tenants that no GitSource follows why: no loop has them, so that
// none would. One more GitSource is enough for that, where Tenants name none.
type orphans struct{ *supervisor }

// again is when a Tenant that was changed meanwhile is looked at anew.
const again = time.Second

// Reconcile looks at all Tenants, since one GitSource, or what one Tenant lends,
// concerns the others.
func (o *orphans) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var sources v1alpha1.GitSourceList
	if err := o.client.List(ctx, &sources, client.UnsafeDisableDeepCopy); err != nil {
		return reconcile.Result{}, fmt.Errorf("list GitSources: %w", err)
	}
	var tenants v1alpha1.TenantList
	if err := o.client.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Tenants: %w", err)
	}
	mains := v1alpha1.MainSources(tenants.Items, sources.Items, o.options.Namespace)
	var errs []error
	conflicts := false
	for i := range tenants.Items {
		err := o.tell(ctx, &tenants.Items[i], o.options.orphaned(&tenants.Items[i], mains, sources.Items))
		if apierrors.IsConflict(err) {
			conflicts = true
			continue
		}
		errs = append(errs, client.IgnoreNotFound(err))
	}
	if conflicts {
		return reconcile.Result{RequeueAfter: again}, errors.Join(errs...)
	}
	return reconcile.Result{}, errors.Join(errs...)
}

// orphaned says why no GitSource follows a Tenant; nil if one does.
func (o *Options) orphaned(t *v1alpha1.Tenant, mains []client.ObjectKey, sources []v1alpha1.GitSource) *v1alpha1.Problem {
	p := &v1alpha1.Problem{
		Path: repo.TenantDir(t.Name), Object: v1alpha1.KindTenant + " " + t.Name,
		Field: "spec.git.sourceRef", Reason: v1alpha1.ReasonSourceNotFound,
	}
	const stays = "; nothing of the tenant is integrated, what is programmed stays"
	switch ref := t.Spec.Git.SourceRef; {
	case ref != nil:
		key := ref.Key(o.Namespace)
		if !o.follows(key.Namespace) {
			p.Message = fmt.Sprintf("GitSource %s is in a namespace that the hub does not follow%s", key, stays)
			p.Remedy = fmt.Sprintf("name one in namespace %s, or add the namespace to the hub's flag --gitsource-namespaces", o.Namespace)
			return p
		}
		if slices.ContainsFunc(sources, func(s v1alpha1.GitSource) bool { return client.ObjectKeyFromObject(&s) == key }) {
			return nil
		}
		p.Message, p.Remedy = fmt.Sprintf("there is no GitSource %s%s", key, stays), "create it, or correct the reference"
	case len(mains) == 1:
		return nil
	case len(mains) == 0:
		p.Message, p.Remedy = fmt.Sprintf("there is no GitSource in namespace %s that could follow the Tenant", o.Namespace)+stays, "create one"
	default:
		var names []string
		for _, key := range mains {
			names = append(names, key.String())
		}
		p.Message, p.Remedy = fmt.Sprintf("the Tenant names none of the GitSources %s%s", strings.Join(names, ", "), stays), "name the one that it belongs to"
	}
	return p
}

// tell adds the problem to a Tenant's, or takes it away. Whoever changed the
// Tenant meanwhile wins.
func (o *orphans) tell(ctx context.Context, t *v1alpha1.Tenant, p *v1alpha1.Problem) error {
	git := &v1alpha1.TenantGitStatus{}
	if t.Status.Git != nil {
		git = t.Status.Git.DeepCopy()
	}
	before := len(git.Problems)
	git.Problems = slices.DeleteFunc(git.Problems, isOrphaned)
	git.ProblemCount -= int32(before - len(git.Problems))
	if p != nil {
		git.Problems = append([]v1alpha1.Problem{*p}, git.Problems[:min(len(git.Problems), v1alpha1.MaxListed-1)]...)
		git.ProblemCount++
	}
	if !t.DeletionTimestamp.IsZero() || p == nil && before == len(git.Problems) || equality.Semantic.DeepEqual(git, t.Status.Git) {
		return nil
	}
	o.log.Info("a Tenant's GitSource", "tenant", t.Name, "found", p == nil)
	return applyStatus(ctx, o.client, &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: t.Name, ResourceVersion: t.ResourceVersion}, Status: v1alpha1.TenantStatus{Git: git},
	}, v1alpha1.KindTenant, fieldManager)
}

func isOrphaned(p v1alpha1.Problem) bool { return p.Reason == v1alpha1.ReasonSourceNotFound }

// told reports whether a Tenant has the problem.
func told(object client.Object) bool {
	t, ok := object.(*v1alpha1.Tenant)
	return ok && t.Status.Git != nil && slices.ContainsFunc(t.Status.Git.Problems, isOrphaned)
}

// watchOrphans looks at Tenants and GitSources that come, go or change, and where
// a loop that had the Tenant wrote over what it was told.
func (s *supervisor) watchOrphans(mgr ctrl.Manager) error {
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{}}
	})
	return ctrl.NewControllerManagedBy(mgr).Named("gitsync-orphans").
		Watches(&v1alpha1.Tenant{}, one, builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(e event.UpdateEvent) bool {
				return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || told(e.ObjectOld) != told(e.ObjectNew)
			},
		})).
		Watches(&v1alpha1.GitSource{}, one, builder.WithPredicates(s.inFollowed(), predicate.Funcs{
			UpdateFunc: func(event.UpdateEvent) bool { return false },
		})).
		WithOptions(controller.Options{NeedLeaderElection: new(true)}).
		Complete(&orphans{s})
}
