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
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Indexes of LoadBalancers.
const (
	byBackend   = "backend"
	byAddresses = "addresses"
)

func (h *hub) setupLoadBalancers(mgr manager.Manager, m *measures) error {
	for index, names := range map[string]client.IndexerFunc{
		byBackend:   references(func(e v1alpha1.LoadBalancerEndpoints) *corev1.ObjectReference { return e.BackendReference }),
		byAddresses: references(func(e v1alpha1.LoadBalancerEndpoints) *corev1.ObjectReference { return e.AddressesReference }),
	} {
		if err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.LoadBalancer{}, index, names); err != nil {
			return fmt.Errorf("index LoadBalancers by %s: %w", index, err)
		}
	}
	r := &loadBalancers{hub: h, events: mgr.GetEventRecorder(fieldManager)}
	everyReplica := false
	err := ctrl.NewControllerManagedBy(mgr).Named("loadbalancer").
		For(&v1alpha1.LoadBalancer{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: h.concerns})).
		Watches(&v1alpha1.Backend{}, h.users(byBackend), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Addresses{}, h.users(byAddresses), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Tenant{}, handler.EnqueueRequestsFromMapFunc(h.loadBalancersOfTenant), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.TenantState{}, handler.Funcs{CreateFunc: h.stateCreated, UpdateFunc: h.stateUpdated}).
		WatchesRawSource(source.Func(h.subscribe)).
		WithOptions(controllerOptions(workers, &everyReplica)).
		Complete(m.loadBalancers(r))
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("loadbalancer-status").
		WatchesRawSource(source.Func(h.statusQueue.feed)).
		WithOptions(controllerOptions(workers, &everyReplica)).
		Complete(unlessOver(statuses{r}))
}

// references lists what load balancers refer to. Names are unique per namespace,
// in which objects are indexed anyway.
func references(of func(v1alpha1.LoadBalancerEndpoints) *corev1.ObjectReference) client.IndexerFunc {
	return func(o client.Object) (names []string) {
		for _, e := range o.(*v1alpha1.LoadBalancer).Spec.Endpoints {
			if ref := of(e); ref != nil && !slices.Contains(names, ref.Name) {
				names = append(names, ref.Name)
			}
		}
		return names
	}
}

// concerns leaves out what the hub and gitsync write into the status. A replica
// that does not lead learns addresses and ports from there.
func (h *hub) concerns(e event.UpdateEvent) bool {
	before, after := e.ObjectOld.(*v1alpha1.LoadBalancer), e.ObjectNew.(*v1alpha1.LoadBalancer)
	return before.Generation != after.Generation || before.UID != after.UID ||
		before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
		!equality.Semantic.DeepEqual(before.Annotations, after.Annotations) ||
		!equality.Semantic.DeepEqual(before.Labels, after.Labels) ||
		!h.leader.held.Load() && (!slices.Equal(before.Status.Addresses, after.Status.Addresses) || before.Status.Ports != after.Status.Ports)
}

// users enqueues the load balancers that refer to an object.
func (h *hub) users(index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return h.list(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{index: o.GetName()})
	})
}

func (h *hub) loadBalancersOfTenant(ctx context.Context, o client.Object) []reconcile.Request {
	return h.list(ctx, client.InNamespace(v1alpha1.TenantNamespace(o.GetName())))
}

func (h *hub) list(ctx context.Context, options ...client.ListOption) (out []reconcile.Request) {
	var list v1alpha1.LoadBalancerList
	options = append(options, client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency) // names are all that is read
	if err := h.client.List(ctx, &list, options...); err != nil {
		log.FromContext(ctx).Error(err, "cannot list LoadBalancers") // only if the cache has stopped
		return nil
	}
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

type requests = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (h *hub) stateCreated(ctx context.Context, e event.CreateEvent, q requests) {
	if state := e.Object.(*v1alpha1.TenantState); isRestored(state) {
		for _, request := range h.list(ctx, client.InNamespace(state.Namespace)) {
			q.Add(request)
		}
	}
}

// stateUpdated enqueues all load balancers of a tenant that has been restored,
// else those whose source went or came back.
func (h *hub) stateUpdated(ctx context.Context, e event.UpdateEvent, q requests) {
	before, after := e.ObjectOld.(*v1alpha1.TenantState), e.ObjectNew.(*v1alpha1.TenantState)
	if isRestored(before) != isRestored(after) {
		for _, request := range h.list(ctx, client.InNamespace(after.Namespace)) {
			q.Add(request)
		}
		return
	}
	for _, path := range slices.Concat(before.Status.SourceGone, after.Status.SourceGone) {
		if slices.Contains(before.Status.SourceGone, path) == slices.Contains(after.Status.SourceGone, path) {
			continue
		}
		if p, err := repo.ParsePath(path); err == nil && p.Kind == v1alpha1.KindLoadBalancer {
			q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: after.Namespace, Name: p.ObjectName()}})
		}
	}
}

// subscribe has load balancers looked at when proxies say something new of them:
// only their status if what was published is known, else all. It lends the queue to
// whoever else knows of a reason.
func (h *hub) subscribe(ctx context.Context, q requests) error {
	h.Publisher.Subscribe(func(_ string, owners []string) {
		for _, text := range owners {
			namespace, name, ok := strings.Cut(text, "/")
			owner := types.NamespacedName{Namespace: namespace, Name: name}
			switch {
			case !ok:
			case h.outcomes.heard(owner):
				h.statusQueue.add(owner)
			default:
				h.queue.add(owner)
			}
		}
	})
	return h.queue.feed(ctx, q)
}

// eventRecorder is the part of Kubernetes' recorder that is used.
type eventRecorder interface {
	Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any)
}

// announce makes an Event of what people should hear of.
func (r *loadBalancers) announce(before, after *v1alpha1.LoadBalancer) {
	old, now := summary(before.Status.Conditions), summary(after.Status.Conditions)
	if old.Status == now.Status && old.Reason == now.Reason && old.Message == now.Message {
		return
	}
	const limit = 1000 // of an Event's note
	note := now.Message[:min(limit, len(now.Message))]
	switch {
	case now.Status == "True" && isStalled(before):
		r.events.Eventf(after, nil, corev1.EventTypeNormal, now.Reason, "Program", "%s", note)
	case isStalled(after):
		r.events.Eventf(after, nil, corev1.EventTypeWarning, now.Reason, "Program", "%s", note)
	}
}
