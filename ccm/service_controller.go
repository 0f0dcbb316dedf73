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

package ccm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;update;patch

// departureTimeout is how long a Service that goes waits for the hub.
const departureTimeout = 60 * time.Second

// ReasonNotConfirmed is the reason of the Event about a Service that went
// without the hub's confirmation.
const ReasonNotConfirmed = "RemovalNotConfirmed"

// serviceReconciler has changed Services published and keeps our finalizer on
// those in scope.
type serviceReconciler struct {
	*engine
	recorder events.EventRecorder

	mu   sync.Mutex
	left map[types.UID]time.Time // when Services that still exist left the scope
}

// serviceChanges lets through what can change the intents or the finalizer, not
// what is written into the status.
func serviceChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Service)
		after, same := e.ObjectNew.(*corev1.Service)
		return !ok || !same || before.UID != after.UID ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
			!maps.Equal(before.Annotations, after.Annotations) ||
			!slices.Equal(before.Finalizers, after.Finalizers) ||
			!apiequality.Semantic.DeepEqual(before.Spec, after.Spec)
	}}
}

// Reconcile marks the Service dirty and sets or removes the finalizer.
func (r *serviceReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var service corev1.Service
	if err := r.client.Get(ctx, request.NamespacedName, &service); err != nil {
		if apierrors.IsNotFound(err) {
			r.departing.set(request.NamespacedName, false)
			r.publisher.markService(request.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, err
	}
	ours := controllerutil.ContainsFinalizer(&service, v1alpha1.Finalizer)
	inScope := render.InScope(&service, r.options.render())
	if !ours && !inScope {
		return ctrl.Result{}, nil
	}
	r.publisher.markService(request.NamespacedName)
	switch {
	case inScope && !ours:
		return r.setFinalizer(ctx, &service, true)
	case inScope:
		r.stay(&service)
		return ctrl.Result{}, nil
	}
	return r.depart(ctx, &service)
}

// setFinalizer adds or removes the finalizer of a Service that did not change
// meanwhile; the change would bring us back.
func (r *serviceReconciler) setFinalizer(ctx context.Context, service *corev1.Service, present bool) (ctrl.Result, error) {
	patch := client.MergeFromWithOptions(service.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if present {
		controllerutil.AddFinalizer(service, v1alpha1.Finalizer)
	} else {
		controllerutil.RemoveFinalizer(service, v1alpha1.Finalizer)
	}
	err := r.client.Patch(ctx, service, patch)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: conflictDelay}, nil
	}
	return ctrl.Result{}, err
}

// depart removes the finalizer of a Service that left the scope when the hub
// confirmed that no traffic goes there, or when that takes too long.
func (r *serviceReconciler) depart(ctx context.Context, service *corev1.Service) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(service)
	left := departureTimeout - r.options.now().Sub(r.since(service))
	if !r.confirmed(name) {
		if left > 0 {
			r.departing.set(name, true)
			return ctrl.Result{RequeueAfter: left}, nil
		}
		emit(r.recorder, service, corev1.EventTypeWarning, ReasonNotConfirmed,
			fmt.Sprintf("the hub did not confirm within %s that traffic for this Service has ended; its NodePorts may be given to others meanwhile", departureTimeout))
	}
	result, err := r.setFinalizer(ctx, service, false)
	if err == nil && result.RequeueAfter == 0 {
		r.departing.set(name, false)
		r.stay(service)
		r.log.Info("finalizer removed", "service", name.String(), "confirmed", left > 0)
	}
	return result, err
}

// confirmed reports whether the hub decided an intent without the Service and
// has nothing of it any more.
func (r *serviceReconciler) confirmed(name types.NamespacedName) bool {
	record, known := r.content.lookup(serviceOrigin(name))
	answer := r.answers.of(name)
	return known && record.settled && len(record.paths) == 0 &&
		r.answers.observed() >= record.generation &&
		answer.loadBalancer == nil
}

// since returns when a Service left the scope: when it was deleted, or else when
// that was first seen.
func (r *serviceReconciler) since(service *corev1.Service) time.Time {
	if service.DeletionTimestamp != nil {
		return service.DeletionTimestamp.Time
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.left[service.UID]; !ok {
		r.left[service.UID] = r.options.now()
	}
	return r.left[service.UID]
}

func (r *serviceReconciler) stay(service *corev1.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.left, service.UID)
}
