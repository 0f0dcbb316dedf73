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
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/build"
	"github.com/kubelb/gitops/xds/ir"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=loadbalancers,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=loadbalancers/status;loadbalancers/finalizers,verbs=get;patch;update
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=addresses;backends;tenants;tenantstates,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch

const (
	// retryReach is when an address that is not reached is tried again.
	retryReach = time.Second
	// retryRemoval is when a removal is looked at again should no news come.
	retryRemoval = 5 * time.Second
	// reconnectGrace is what a proxy is given to connect after the group was opened,
	// before a removal counts as done without its word.
	reconnectGrace = 10 * time.Second
	soon           = 500 * time.Millisecond
)

// loadBalancers reconciles LoadBalancers.
type loadBalancers struct {
	*hub
	events eventRecorder
}

// gathered is everything that decides about a load balancer.
type gathered struct {
	lb        *v1alpha1.LoadBalancer
	config    *v1alpha1.Config
	tenant    *v1alpha1.Tenant
	state     *v1alpha1.TenantState
	addresses *v1alpha1.Addresses
	backends  []*v1alpha1.Backend
}

// Reconcile is part of reconcile.Reconciler.
func (r *loadBalancers) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	select {
	case <-r.opening.ready:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	owner := request.NamespacedName
	lb := &v1alpha1.LoadBalancer{}
	if err := r.client.Get(ctx, owner, lb); apierrors.IsNotFound(err) {
		r.forget(owner)
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("get LoadBalancer %s: %w", owner, err)
	}
	if !lb.DeletionTimestamp.IsZero() {
		return r.cleanUp(ctx, lb)
	}
	in, err := r.gather(ctx, lb)
	if err != nil {
		return reconcile.Result{}, err
	}
	if isRestored(in.state) && r.leader.held.Load() {
		loaded, err := r.loadTenant(ctx, in.state)
		switch {
		case err != nil:
			return reconcile.Result{}, err
		case loaded:
			return reconcile.Result{RequeueAfter: cachePoll}, nil
		}
	}
	if why := admit(in); why != nil {
		r.refuse(in, observation{refusal: why, problems: v1alpha1.Validate(lb)})
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, r.serve(ctx, in)
}

// gather reads what the load balancer refers to. What is missing stays nil.
func (r *loadBalancers) gather(ctx context.Context, lb *v1alpha1.LoadBalancer) (in gathered, err error) {
	in = gathered{lb: lb, config: r.config.current()}
	var errs []error
	if name, ok := tenantOf(lb.Namespace); ok {
		in.tenant, err = get(ctx, r.client, &v1alpha1.Tenant{}, types.NamespacedName{Name: name})
		errs = append(errs, err)
	}
	in.state, err = r.tenantState(ctx, lb.Namespace)
	errs = append(errs, err)
	for _, e := range lb.Spec.Endpoints {
		if ref := e.AddressesReference; ref != nil && in.addresses == nil {
			in.addresses, err = get(ctx, r.client, &v1alpha1.Addresses{}, types.NamespacedName{Namespace: lb.Namespace, Name: ref.Name})
			errs = append(errs, err)
		}
		if ref := e.BackendReference; ref != nil {
			backend, err := get(ctx, r.client, &v1alpha1.Backend{}, types.NamespacedName{Namespace: lb.Namespace, Name: ref.Name})
			errs = append(errs, err)
			if backend != nil {
				in.backends = append(in.backends, backend)
			}
		}
	}
	return in, errors.Join(errs...)
}

// get returns nil if there is no such object.
func get[T client.Object](ctx context.Context, c client.Reader, object T, key types.NamespacedName) (T, error) {
	var none T
	err := c.Get(ctx, key, object)
	switch {
	case apierrors.IsNotFound(err):
		return none, nil
	case err != nil:
		return none, fmt.Errorf("get %T %s: %w", object, key, err)
	}
	return object, nil
}

// refuse takes a load balancer that is not accepted from the proxies, or leaves
// what they have.
func (r *loadBalancers) refuse(in gathered, o observation) {
	owner := client.ObjectKeyFromObject(in.lb)
	if !o.refusal.keep {
		r.publish(owner, nil)
	}
	r.opening.built(owner)
	o.assigned = parseAddresses(in.lb.Status.Addresses)
	if r.leader.held.Load() && isRestored(in.state) {
		o.assigned = r.book.keep(owner, o.assigned, o.refusal.keep)
	}
	r.tell(in.lb, o)
}

// tell has the status say what became of a load balancer.
func (r *loadBalancers) tell(lb *v1alpha1.LoadBalancer, o observation) {
	if !r.leader.held.Load() {
		return
	}
	r.outcomes.put(lb, o, r.now())
	r.statusQueue.add(client.ObjectKeyFromObject(lb))
}

// serve assigns, builds and publishes. The status waits for what proxies say:
// see [statuses].
func (r *loadBalancers) serve(ctx context.Context, in gathered) error {
	lb, owner := in.lb, client.ObjectKeyFromObject(in.lb)
	logger := log.FromContext(ctx)
	var o observation
	if err := r.assign(ctx, in, &o); err != nil {
		return err
	}
	if o.unassigned != nil && o.unassigned.Reason == v1alpha1.ReasonLimitExceeded {
		o.refusal = &refusal{reason: o.unassigned.Reason, message: o.unassigned.Message, stalled: true}
	}
	o.output = build.LoadBalancer(build.Input{
		LoadBalancer: lb, Tenant: in.tenant, Config: in.config, Addresses: in.addresses, Backends: in.backends,
		Assigned: o.assigned, Refused: o.taken, HubNetworks: r.networks.current(), External: r.book.isExternal,
	})
	if r.leader.held.Load() && givesUp(lb, o) {
		// Another one may be given the address from now on, so the status says first
		// that it is no longer this one's.
		if len(o.output.Part.Listeners) > 0 {
			o.hash, o.verdict.Proxies = o.output.Part.Hash(), r.Publisher.Proxies(globalGroup)
		}
		if err := r.write(ctx, lb, o); err != nil {
			return err
		}
	}
	if err := r.publishPart(logger, lb, &o); err != nil {
		return err
	}
	r.opening.built(owner)
	return nil
}

// assign fills in what addresses the load balancer has, and which ports it must
// not serve there. Replicas that do not lead take what is stored.
func (r *loadBalancers) assign(ctx context.Context, in gathered, o *observation) error {
	owner := client.ObjectKeyFromObject(in.lb)
	c := claim{
		owner: owner, stored: parseAddresses(in.lb.Status.Addresses), requested: parseAddresses(in.lb.Spec.Addresses),
		pools: in.tenant.Spec.AddressPools, ports: portsOf(in.lb), limit: in.tenant.Spec.Limits.LoadBalancers,
	}
	if in.lb.Spec.Type != corev1.ServiceTypeLoadBalancer {
		r.publish(owner, nil)
		r.book.unassign(owner)
		return nil
	}
	var got assigned
	if r.leader.held.Load() {
		// Before it is given anything that only its end gives back.
		if !controllerutil.ContainsFinalizer(in.lb, v1alpha1.Finalizer) {
			if err := r.addFinalizer(ctx, in.lb); err != nil {
				return err
			}
		}
		got = r.book.assign(c)
	} else {
		got = r.book.follow(c)
	}
	o.assigned, o.taken, o.unassigned = got.addresses, got.refused, got.problem
	return nil
}

// publishPart tells the proxies, if there is anything to serve and room for it,
// and then the status.
func (r *loadBalancers) publishPart(logger logr.Logger, lb *v1alpha1.LoadBalancer, o *observation) error {
	owner, part := client.ObjectKeyFromObject(lb), &o.output.Part
	o.hash = ""
	if len(part.Listeners) == 0 {
		r.publish(owner, nil)
		r.tell(lb, *o)
		return nil
	}
	if limit := r.Infra.MaxListeners(); !r.book.fit(owner, len(part.Listeners), limit) {
		o.problems = append(o.problems, v1alpha1.Problem{
			Field: "spec.ports", Reason: v1alpha1.ReasonTooManyListeners,
			Message: fmt.Sprintf("the hub's proxies can have %d listeners and have no room for more", limit),
			Remedy:  "have the operator of the hub raise the limit of open files",
		})
		r.tell(lb, *o)
		return nil
	}
	o.hash = part.Hash()
	r.tell(lb, *o) // before the answer can come
	if r.book.isPublished(owner, o.hash) {
		return nil
	}
	if assigned := formatAddresses(o.assigned); r.leader.held.Load() && !slices.Equal(assigned, lb.Status.Addresses) {
		logger.Info("stage", "stage", "assigned", "addresses", assigned)
	}
	if err := r.Publisher.Publish(globalGroup, map[string]*ir.Part{owner.String(): part})[owner.String()]; err != nil {
		r.outcomes.drop(owner)
		return fmt.Errorf("publish LoadBalancer %s: %w", owner, err)
	}
	r.setPublished(owner, o.hash, part)
	logger.Info("stage", "stage", "published", "part", o.hash)
	return nil
}

// publish with nil takes an owner's part from the proxies.
func (r *loadBalancers) publish(owner types.NamespacedName, part *ir.Part) {
	if !r.book.isPublished(owner, "") {
		_ = r.Publisher.Publish(globalGroup, map[string]*ir.Part{owner.String(): part}) // a removal has no error
		r.book.fit(owner, 0, 0)
		r.setPublished(owner, "", nil)
	}
}

// setPublished notes what proxies were told. Those of a replica that does not
// lead serve nobody.
func (r *loadBalancers) setPublished(owner types.NamespacedName, hash string, part *ir.Part) {
	r.book.setPublished(owner, hash, part)
	if !r.leader.held.Load() {
		r.book.setServed(owner, hash, part)
	}
}

// served notes what proxies are known to serve of an owner and nothing else, and
// returns when to look again should no news of it come.
func (r *loadBalancers) served(owner types.NamespacedName, o observation) (again time.Duration) {
	verdict, known := r.Publisher.Verdict(globalGroup, owner.String())
	switch {
	case o.programmed():
		r.book.setServed(owner, o.hash, &o.output.Part)
	case !known || verdict.Removed:
		r.book.setServed(owner, "", nil)
	}
	if r.book.servesMore(owner) {
		return retryRemoval
	}
	return 0
}

// reach connects to the listeners of addresses that are not published yet.
func (r *loadBalancers) reach(ctx context.Context, lb *v1alpha1.LoadBalancer, o observation) error {
	for _, l := range o.output.Part.Listeners {
		if l.Protocol != ir.TCP || slices.Contains(ingressOf(lb), l.Address) {
			continue
		}
		if err := r.Infra.Reach(ctx, netip.AddrPortFrom(l.Address, l.Port)); err != nil {
			return fmt.Errorf("a proxy acknowledged %s, but it cannot be reached: %w", l.Name(), err)
		}
	}
	return nil
}

// write writes the status if it changed, and tells the world what people want to
// know.
func (r *loadBalancers) write(ctx context.Context, lb *v1alpha1.LoadBalancer, o observation) error {
	if !r.leader.held.Load() {
		return nil
	}
	owner := client.ObjectKeyFromObject(lb)
	o.path, o.object = whereabouts(lb, v1alpha1.KindLoadBalancer)
	status := decide(lb, o, metav1.NewTime(r.now()))
	if current := lb.Status; sameConditions(status.Conditions, current.Conditions) {
		current.Conditions = status.Conditions
		if equality.Semantic.DeepEqual(status, current) {
			r.book.setStored(owner, &status)
			return nil
		}
	}
	if o.refusal == nil && !r.book.willStore(owner, &status) {
		return nil // it is being reconciled
	}
	before := lb.DeepCopy()
	if err := r.applyStatus(ctx, lb, owned(status)); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.book.setStored(owner, &status)
	r.announce(before, lb)
	if !slices.Equal(ingressOf(before), ingressOf(lb)) {
		log.FromContext(ctx).Info("stage", "stage", "addressed", "addresses", formatAddresses(ingressOf(lb)))
	}
	return nil
}

// whereabouts returns what problems of an object are reported against.
func whereabouts(o repo.Object, kind string) (path, object string) {
	object = kind + " " + o.GetNamespace() + "/" + o.GetName()
	path, err := repo.PathOf(o)
	if err != nil {
		return "", object // made by hand
	}
	if p, err := repo.ParsePath(path); err == nil {
		object = p.Source()
	}
	return path, object
}

// cleanUp takes a deleted load balancer from the proxies, keeps its address for
// one of its name, and lets it go.
func (r *loadBalancers) cleanUp(ctx context.Context, lb *v1alpha1.LoadBalancer) (reconcile.Result, error) {
	owner := client.ObjectKeyFromObject(lb)
	r.outcomes.drop(owner)
	r.publish(owner, nil)
	r.opening.built(owner)
	if !r.leader.held.Load() || !controllerutil.ContainsFinalizer(lb, v1alpha1.Finalizer) {
		return reconcile.Result{}, nil
	}
	if r.book.isRetired(owner, lb.UID) { // the cache has not heard of it
		return reconcile.Result{}, r.removeFinalizer(ctx, lb)
	}
	if again, gone := r.removed(owner); !gone {
		return reconcile.Result{RequeueAfter: again}, nil
	}
	reserved := r.reservation(lb)
	if reserved != nil {
		if err := r.keepReservation(ctx, lb.Namespace, *reserved); err != nil {
			return reconcile.Result{}, err
		}
	}
	if err := r.removeFinalizer(ctx, lb); err != nil {
		return reconcile.Result{}, err
	}
	// Not before: until then its status says that it has the address.
	if reserved == nil {
		reserved = &v1alpha1.Reservation{}
	}
	r.book.retire(owner, lb.UID, reservationOf(*reserved))
	log.FromContext(ctx).Info("stage", "stage", "removed", "addresses", lb.Status.Addresses)
	return reconcile.Result{}, nil
}

// removed reports whether no proxy serves the owner any more, or when to look
// again.
func (r *loadBalancers) removed(owner types.NamespacedName) (again time.Duration, gone bool) {
	if verdict, known := r.Publisher.Verdict(globalGroup, owner.String()); known {
		return retryRemoval, verdict.Removed
	}
	// Nobody has heard of it since the hub started. A proxy that did before lets go
	// of it when it connects.
	opened := r.opening.opened()
	if opened.IsZero() {
		return soon, false
	}
	return soon, r.Publisher.Proxies(globalGroup) > 0 || r.now().Sub(opened) > reconnectGrace
}

// forget is for a load balancer that is gone. What it had is free, unless it was
// cleaned up, which has decided that already.
//
// Proxies are told only if they may have something of it: each Publish wakes the
// owner, and an owner that is gone would wake itself for ever.
func (r *loadBalancers) forget(owner types.NamespacedName) {
	r.outcomes.drop(owner)
	if r.book.hasPublished(owner) {
		r.publish(owner, nil)
	}
	r.opening.built(owner)
	r.book.forget(owner)
}

func (h *hub) wake(owners []types.NamespacedName) {
	for _, owner := range owners {
		h.queue.add(owner)
	}
}
