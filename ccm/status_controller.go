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
	"time"

	"github.com/kubelb/gitops/ccm/project"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups="",resources=services/status,verbs=update;patch

// conflictDelay lets the cache catch up.
const conflictDelay = 10 * time.Millisecond

// statusReconciler projects the hub's answers onto Services.
type statusReconciler struct {
	*engine
	recorder events.EventRecorder
}

// Reconcile makes a Service's status what the hub says.
func (r *statusReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var service corev1.Service
	if err := r.client.Get(ctx, request.NamespacedName, &service); err != nil {
		r.waiting.set(request.NamespacedName, false)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	inScope := render.InScope(&service, r.options.render())
	if service.DeletionTimestamp != nil || !inScope && !project.Ours(&service) {
		r.waiting.set(request.NamespacedName, false)
		r.contests.forget(service.UID)
		r.looked.forget(service.UID)
		return ctrl.Result{}, nil
	}
	now := r.options.now()
	input := r.input(&service, inScope)
	contested, again := r.contests.problem(service.UID, now)
	if contested != nil {
		input.Problems = append(input.Problems, *contested)
	}
	result := project.Service(input)
	r.waiting.set(request.NamespacedName, inScope && r.expectsAddress(request.NamespacedName, result.Status))
	if pause := r.contests.pause(service.UID, service.Status.LoadBalancer, result.Status.LoadBalancer, now); pause > 0 {
		return ctrl.Result{RequeueAfter: pause}, nil
	}
	if !result.Changed {
		r.contests.agree(service.UID, service.Status.LoadBalancer)
		return ctrl.Result{RequeueAfter: soonest(again, r.remind(&service, now))}, nil
	}
	return r.write(ctx, &service, result)
}

// remind renews the Events about what lasts in a Service's status. It returns how
// long until the next one; 0 if nothing lasts. What was due while no CCM looked
// is not made up for.
func (r *statusReconciler) remind(service *corev1.Service, now time.Time) time.Duration {
	due, next := project.Reminders(service.Status, r.looked.swap(service.UID, now), now)
	for _, e := range due {
		emit(r.recorder, service, e.Type, e.Reason, e.Message)
	}
	if next == 0 {
		r.looked.forget(service.UID)
	}
	return next
}

// soonest returns the smaller of two delays of which 0 is none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// write makes a result the status of a Service and tells of it.
func (r *statusReconciler) write(ctx context.Context, service *corev1.Service, result project.Result) (ctrl.Result, error) {
	request := client.ObjectKeyFromObject(service)
	putBack, writer := r.contests.replaced(service.UID, service.Status.LoadBalancer, result.Status.LoadBalancer), ""
	if putBack {
		var present corev1.Service // the cache leaves field managers out
		if err := r.api.Get(ctx, request, &present); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		writer = writerOf(&present)
	}
	before := service.DeepCopy()
	service.Status = result.Status
	// Without a change in between: else the Events were told twice.
	err := r.client.Status().Patch(ctx, service, client.StrategicMergeFrom(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(fieldOwner))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: conflictDelay}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("write the status: %w", err)
	}
	r.contests.agree(service.UID, result.Status.LoadBalancer)
	if putBack {
		r.contests.lose(service.UID, writer, r.options.now())
	}
	r.log.Info("stage", "stage", "projected", "service", request.String(), "commit", r.answers.of(request).commit,
		"addresses", len(service.Status.LoadBalancer.Ingress))
	for _, e := range result.Events {
		if putBack && e.Reason == project.ReasonAddress {
			continue // the owner was told that address before
		}
		emit(r.recorder, service, e.Type, e.Reason, e.Message)
	}
	return ctrl.Result{}, nil
}

func (r *statusReconciler) input(service *corev1.Service, inScope bool) project.Input {
	name := client.ObjectKeyFromObject(service)
	answer := r.answers.of(name)
	record, known := r.content.lookup(serviceOrigin(name))
	known = known && record.uid == service.UID
	in := project.Input{
		Service: service, InScope: inScope, Paths: answer.paths,
		LoadBalancer: answer.loadBalancer, Backend: answer.backend, State: answer.state,
		Heard:    answer.commit != "",
		Answered: known && r.answered(record),
		Problems: r.notices.of(len(service.Status.LoadBalancer.Ingress) > 0),
		Now:      metav1.NewTime(r.options.now()),
	}
	if known {
		in.Problems = append(in.Problems, record.problems...)
	}
	return in
}

// answered reports whether the hub's answer is about what the branch has of the
// Service now.
func (r *statusReconciler) answered(record record) bool {
	return len(record.paths) == 0 || record.settled && r.answers.observed() >= record.generation
}

// expectsAddress reports whether the hub may give an address without anybody
// doing something about the Service first.
func (r *statusReconciler) expectsAddress(name types.NamespacedName, status corev1.ServiceStatus) bool {
	record, known := r.content.lookup(serviceOrigin(name))
	return len(status.LoadBalancer.Ingress) == 0 && (!known || len(record.paths) > 0) &&
		apimeta.FindStatusCondition(status.Conditions, project.ConditionHeld) == nil &&
		apimeta.FindStatusCondition(status.Conditions, project.ConditionPending) == nil
}
