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
	"slices"

	"github.com/kubelb/gitops/api/v1alpha1"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// owned reports whether a tenant meets the hub in a repository that there is.
func owned(t *v1alpha1.Tenant, tenants []v1alpha1.Tenant, sources []v1alpha1.GitSource, namespace string) bool {
	ref := t.Spec.Git.SourceRef
	if ref == nil {
		return len(v1alpha1.MainSources(tenants, sources, namespace)) == 1
	}
	return slices.ContainsFunc(sources, func(s v1alpha1.GitSource) bool {
		return client.ObjectKeyFromObject(&s) == ref.Key(namespace)
	})
}

// releaser lets Tenants go that are being deleted and of which no GitSource
// takes care: there is no repository to archive anything in.
type releaser struct{ *supervisor }

// Reconcile is part of reconcile.Reconciler.
func (r *releaser) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var tenant v1alpha1.Tenant
	if err := r.client.Get(ctx, request.NamespacedName, &tenant); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if tenant.DeletionTimestamp.IsZero() || !controllerutil.ContainsFinalizer(&tenant, v1alpha1.FinalizerArchive) {
		return reconcile.Result{}, nil
	}
	var sources v1alpha1.GitSourceList
	if err := r.client.List(ctx, &sources); err != nil {
		return reconcile.Result{}, fmt.Errorf("list GitSources: %w", err)
	}
	var tenants v1alpha1.TenantList
	if err := r.client.List(ctx, &tenants); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Tenants: %w", err)
	}
	if owned(&tenant, tenants.Items, r.options.followed(sources.Items), r.options.Namespace) {
		return reconcile.Result{}, nil
	}
	wanted := tenant.DeepCopy()
	controllerutil.RemoveFinalizer(wanted, v1alpha1.FinalizerArchive)
	r.log.Info("let a deleted tenant go: no GitSource has its branches", "tenant", tenant.Name)
	patch := client.MergeFromWithOptions(&tenant, client.MergeFromWithOptimisticLock{})
	return reconcile.Result{}, client.IgnoreNotFound(r.client.Patch(ctx, wanted, patch, client.FieldOwner(fieldManager)))
}

func (s *supervisor) watchLeaving(mgr ctrl.Manager) error {
	leaving := predicate.NewPredicateFuncs(func(o client.Object) bool { return !o.GetDeletionTimestamp().IsZero() })
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) (requests []reconcile.Request) {
		var tenants v1alpha1.TenantList
		if err := s.client.List(ctx, &tenants); err != nil {
			s.log.Error(err, "list Tenants")
		}
		for i := range tenants.Items {
			if !tenants.Items[i].DeletionTimestamp.IsZero() {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&tenants.Items[i])})
			}
		}
		return requests
	})
	return ctrl.NewControllerManagedBy(mgr).Named("gitsync-tenant").
		For(&v1alpha1.Tenant{}, builder.WithPredicates(leaving)).
		Watches(&v1alpha1.GitSource{}, all, builder.WithPredicates(s.inFollowed(), predicate.Funcs{
			UpdateFunc: func(event.UpdateEvent) bool { return false },
		})).
		WithOptions(controller.Options{NeedLeaderElection: new(true)}).
		Complete(&releaser{s})
}
