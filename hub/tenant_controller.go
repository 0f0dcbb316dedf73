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

package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=tenants,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=tenants/status;tenants/finalizers;tenantstates/status,verbs=get;patch;update
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=tenantstates,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=loadbalancers,verbs=delete;deletecollection
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch;delete

// countDelay gathers changes of load balancers into one look at their tenant.
const countDelay = time.Second

// tenants reconciles Tenants: namespace, TenantState, reservations and status.
type tenants struct{ *hub }

func (h *hub) setupTenants(mgr manager.Manager, m *measures) error {
	managed := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetLabels()[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy
	})
	return ctrl.NewControllerManagedBy(mgr).Named("tenant").
		For(&v1alpha1.Tenant{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{UpdateFunc: gitProblemsChanged}))).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(tenantOfNamespace), builder.WithPredicates(managed)).
		Watches(&v1alpha1.TenantState{}, handler.EnqueueRequestsFromMapFunc(h.tenantOfState), builder.WithPredicates(predicate.Funcs{UpdateFunc: stateConcerns})).
		Watches(&v1alpha1.LoadBalancer{}, handler.Funcs{
			CreateFunc: func(_ context.Context, e event.CreateEvent, q requests) { countLater(e.Object, q) },
			DeleteFunc: func(_ context.Context, e event.DeleteEvent, q requests) { countLater(e.Object, q) },
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, q requests) {
				if wrongChanged(e.ObjectOld.(*v1alpha1.LoadBalancer), e.ObjectNew.(*v1alpha1.LoadBalancer)) {
					countLater(e.ObjectNew, q)
				}
			},
		}).
		WatchesRawSource(source.Func(h.tenantQueue.feed)).
		WithOptions(controllerOptions(1, nil)).
		Complete(m.tenants(&tenants{h}))
}

func tenantOfNamespace(_ context.Context, o client.Object) []reconcile.Request {
	return tenantRequest(o.GetName())
}

func (h *hub) tenantOfState(_ context.Context, o client.Object) []reconcile.Request {
	return tenantRequest(h.speaksOf(o.(*v1alpha1.TenantState)))
}

func tenantRequest(namespace string) []reconcile.Request {
	if tenant, ok := tenantOf(namespace); ok {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: tenant}}}
	}
	return nil
}

func stateConcerns(e event.UpdateEvent) bool {
	before, after := e.ObjectOld.(*v1alpha1.TenantState), e.ObjectNew.(*v1alpha1.TenantState)
	return isRestored(before) != isRestored(after) || len(before.Status.Reservations) != len(after.Status.Reservations) ||
		before.Annotations[v1alpha1.AnnotationReleaseAddress] != after.Annotations[v1alpha1.AnnotationReleaseAddress]
}

func countLater(o client.Object, q requests) {
	for _, request := range tenantRequest(o.GetNamespace()) {
		q.AddAfter(request, countDelay)
	}
}

// Reconcile is part of reconcile.Reconciler.
func (r *tenants) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	select {
	case <-r.opening.ready:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	tenant, err := get(ctx, r.client, &v1alpha1.Tenant{}, request.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	if tenant == nil {
		next, err := r.expireRemembered(ctx, request.Name)
		if err != nil {
			return reconcile.Result{}, err
		}
		return reconcile.Result{RequeueAfter: next}, nil
	}
	if !tenant.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, r.cleanUp(ctx, tenant)
	}
	if !controllerutil.ContainsFinalizer(tenant, v1alpha1.Finalizer) {
		if err := r.addFinalizer(ctx, tenant); err != nil {
			return reconcile.Result{}, err
		}
	}
	namespace, err := r.ensureNamespace(ctx, tenant)
	if err != nil {
		return reconcile.Result{}, err
	}
	var state *v1alpha1.TenantState
	var next time.Duration
	if namespace.DeletionTimestamp.IsZero() {
		if state, err = r.ensureState(ctx, namespace.Name); err != nil {
			return reconcile.Result{}, err
		}
		if next, err = r.expireReservations(ctx, state); err != nil {
			return reconcile.Result{}, err
		}
	}
	remembered, err := r.expireRemembered(ctx, tenant.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if next == 0 || remembered > 0 && remembered < next {
		next = remembered
	}
	var balancers v1alpha1.LoadBalancerList
	if err := r.client.List(ctx, &balancers, client.InNamespace(namespace.Name), client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency); err != nil {
		return reconcile.Result{}, fmt.Errorf("list LoadBalancers of %s: %w", namespace.Name, err)
	}
	status := decideTenant(tenant, namespace, state, len(balancers.Items), metav1.NewTime(r.now()))
	sumUp(tenant, &status, balancers.Items)
	if err := r.writeTenant(ctx, tenant, status); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: next}, nil
}

// enqueueReservations has the tenants looked at that have any.
func (h *hub) enqueueReservations(ctx context.Context) error {
	var states v1alpha1.TenantStateList
	if err := h.client.List(ctx, &states, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list TenantStates: %w", err)
	}
	for i := range states.Items {
		if len(states.Items[i].Status.Reservations) > 0 {
			for _, request := range h.tenantOfState(ctx, &states.Items[i]) {
				h.tenantQueue.add(request.NamespacedName)
			}
		}
	}
	return nil
}

func (r *tenants) ensureNamespace(ctx context.Context, tenant *v1alpha1.Tenant) (*corev1.Namespace, error) {
	name := v1alpha1.TenantNamespace(tenant.Name)
	namespace, err := get(ctx, r.client, &corev1.Namespace{}, types.NamespacedName{Name: name})
	if err != nil {
		return nil, err
	}
	labels := map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelTenant: tenant.Name}
	if namespace != nil && (hasLabels(namespace, labels) || !namespace.DeletionTimestamp.IsZero()) {
		return namespace, nil
	}
	namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	return namespace, r.apply(ctx, namespace, "labels", labels)
}

func hasLabels(o client.Object, labels map[string]string) bool {
	for key, value := range labels {
		if o.GetLabels()[key] != value {
			return false
		}
	}
	return true
}

func (r *tenants) ensureState(ctx context.Context, namespace string) (*v1alpha1.TenantState, error) {
	state, err := r.tenantState(ctx, namespace)
	if state != nil || err != nil {
		return state, err
	}
	state = &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.DefaultName}}
	if err := r.client.Create(ctx, state); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create TenantState of %s: %w", namespace, err)
	}
	return state, nil
}

// decideTenant returns the status of a Tenant; what the hub does not own of it
// stays.
func decideTenant(tenant *v1alpha1.Tenant, namespace *corev1.Namespace, state *v1alpha1.TenantState, count int, now metav1.Time) v1alpha1.TenantStatus {
	status := *tenant.Status.DeepCopy()
	status.ObservedGeneration = tenant.Generation
	status.LoadBalancers = int32(count)
	c := conditionsOf(tenant.Status.Conditions, tenant.Generation, now)
	switch problems := v1alpha1.Validate(tenant); {
	case len(problems) > 0:
		status.Phase = v1alpha1.PhaseFailed
		c.stalled(v1alpha1.ReasonInvalid, describeProblems(problems))
	case !namespace.DeletionTimestamp.IsZero():
		status.Phase = v1alpha1.PhasePending
		c.reconciling(v1alpha1.ReasonProgressing, fmt.Sprintf("waits for an earlier namespace %s to go", namespace.Name))
	case !isRestored(state):
		status.Phase = v1alpha1.PhasePending
		message := "waits for a GitSource that follows it: spec.git.sourceRef names one, which is needed where there are several"
		if why := apimeta.FindStatusCondition(state.Status.Conditions, v1alpha1.ConditionRestored); why != nil {
			message = why.Message
		}
		c.reconciling(v1alpha1.ReasonNotRestored, message)
	case tenant.Spec.Suspend:
		status.Phase = v1alpha1.PhaseReady
		c.ready(v1alpha1.ReasonSuspended, "nothing is applied; what is programmed stays")
	default:
		status.Phase = v1alpha1.PhaseReady
		c.ready(v1alpha1.ReasonSucceeded, "load balancers are served")
	}
	status.Conditions = c.list
	return status
}

func (r *tenants) writeTenant(ctx context.Context, tenant *v1alpha1.Tenant, status v1alpha1.TenantStatus) error {
	old := tenant.Status
	if sameConditions(status.Conditions, old.Conditions) && status.Phase == old.Phase &&
		status.LoadBalancers == old.LoadBalancers && status.ObservedGeneration == old.ObservedGeneration && sameSum(status, old) {
		return nil
	}
	return client.IgnoreNotFound(r.applyStatus(ctx, tenant, map[string]any{
		"observedGeneration": status.ObservedGeneration,
		"conditions":         ownConditions(status.Conditions),
		"phase":              status.Phase,
		"loadBalancers":      status.LoadBalancers,
		"notReady":           status.NotReady,
		"problemCount":       status.ProblemCount,
		"reason":             status.Reason,
	}))
}

// cleanUp ends a tenant: its load balancers drain and go, then its namespace,
// then the Tenant.
func (r *tenants) cleanUp(ctx context.Context, tenant *v1alpha1.Tenant) error {
	if !controllerutil.ContainsFinalizer(tenant, v1alpha1.Finalizer) {
		return nil
	}
	left, err := r.endNamespace(ctx, v1alpha1.TenantNamespace(tenant.Name))
	if err != nil {
		return err
	}
	gone := left == ""
	if gone && len(tenant.Finalizers) == 1 {
		return r.removeFinalizer(ctx, tenant)
	}
	if gone {
		left = "whoever keeps it: its load balancers are gone; see the other conditions"
	}
	status := *tenant.Status.DeepCopy()
	status.ObservedGeneration, status.Phase = tenant.Generation, v1alpha1.PhaseTerminating
	c := conditionsOf(tenant.Status.Conditions, tenant.Generation, metav1.NewTime(r.now()))
	c.reconciling(v1alpha1.PhaseTerminating, "waits for "+left)
	status.Conditions = c.list
	status.LoadBalancers = int32(len(r.list(ctx, client.InNamespace(v1alpha1.TenantNamespace(tenant.Name)))))
	if err := r.writeTenant(ctx, tenant, status); err != nil || !gone {
		return err
	}
	return r.removeFinalizer(ctx, tenant)
}

// endNamespace deletes the load balancers of a namespace and then the namespace,
// and says what is left of it.
func (r *tenants) endNamespace(ctx context.Context, name string) (left string, err error) {
	namespace, err := get(ctx, r.client, &corev1.Namespace{}, types.NamespacedName{Name: name})
	if namespace == nil || err != nil {
		return "", err
	}
	var list v1alpha1.LoadBalancerList
	if err := r.client.List(ctx, &list, client.InNamespace(name)); err != nil {
		return "", fmt.Errorf("list LoadBalancers of %s: %w", name, err)
	}
	var errs []error
	for i := range list.Items {
		if lb := &list.Items[i]; lb.DeletionTimestamp.IsZero() {
			errs = append(errs, client.IgnoreNotFound(r.client.Delete(ctx, lb, client.DisableReadYourWritesConsistency)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("delete LoadBalancers of %s: %w", name, err)
	}
	if n := len(list.Items); n > 0 {
		return fmt.Sprintf("%d load balancers to be drained", n), nil
	}
	if namespace.DeletionTimestamp.IsZero() && strings.HasPrefix(name, v1alpha1.TenantNamespacePrefix) {
		if err := r.remember(ctx, name); err != nil {
			return "", err
		}
		if err := r.client.Delete(ctx, namespace, client.DisableReadYourWritesConsistency); client.IgnoreNotFound(err) != nil {
			return "", fmt.Errorf("delete namespace %s: %w", name, err)
		}
	}
	return "the namespace " + name, nil
}

func isStalled(lb *v1alpha1.LoadBalancer) bool {
	return slices.ContainsFunc(lb.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == meta.StalledCondition && c.Status == metav1.ConditionTrue
	})
}
