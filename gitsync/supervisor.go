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
	"sync"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// supervisor keeps one loop per GitSource and tells the loops what happened.
type supervisor struct {
	client  client.Client
	live    client.Reader
	log     logr.Logger
	options Options
	tokens  tokens

	started chan struct{} // closed when the fields below are set
	ctx     context.Context
	keys    *identity
	wait    sync.WaitGroup

	mu    sync.Mutex
	loops map[client.ObjectKey]*running
}

// running is a loop with its way to be stopped.
type running struct {
	inbox *inbox
	stop  context.CancelFunc
}

// Start loads the hub's key and lets loops run until the context ends.
func (s *supervisor) Start(ctx context.Context) error {
	keys, err := loadIdentity(ctx, s.live, s.client, s.options.Namespace)
	if err != nil {
		return err
	}
	s.ctx, s.keys = ctx, keys
	close(s.started)
	s.log.Info("gitsync started", "key", keys.signer.PublicKey().String())
	<-ctx.Done()
	s.mu.Lock()   // whoever starts a loop has seen under the lock that ctx is not done
	s.mu.Unlock() //nolint:staticcheck // it is the passing that counts
	s.wait.Wait()
	return nil
}

// NeedLeaderElection makes one replica the writer.
func (s *supervisor) NeedLeaderElection() bool { return true }

// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=gitsources;tenants,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=gitsources/status;tenants/status;tenantstates/status,verbs=get;patch
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=tenantstates;configs,verbs=get;list;watch
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=loadbalancers;routes;syncsecrets;addresses;backends,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=loadbalancers/status;routes/status;syncsecrets/status;addresses/status;backends/status,verbs=get;patch
// +kubebuilder:rbac:groups="",namespace=kubelb,resources=secrets,verbs=get;create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=kubelb,resources=leases,verbs=get;list;watch;create;update;patch

// Reconcile starts and stops the loop of a GitSource, and wakes it.
func (s *supervisor) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	select {
	case <-s.started:
	case <-ctx.Done():
		return reconcile.Result{}, ctx.Err()
	}
	var source v1alpha1.GitSource
	err := s.client.Get(ctx, req.NamespacedName, &source)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("get GitSource %s: %w", req.NamespacedName, err)
	}
	if !s.options.follows(req.Namespace) {
		if err != nil {
			return reconcile.Result{}, nil //nolint:nilerr // it is gone
		}
		return reconcile.Result{}, s.ignore(ctx, &source)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return reconcile.Result{}, s.ctx.Err()
	}
	r := s.loops[req.NamespacedName]
	switch gone := apierrors.IsNotFound(err); {
	case gone && r != nil:
		r.stop()
		delete(s.loops, req.NamespacedName)
		s.wakeAll() // which tenants belong to whom may have changed
	case !gone && r == nil:
		s.loops[req.NamespacedName] = s.run(req.NamespacedName)
		s.wakeAll()
	case !gone:
		r.inbox.wakeUp()
	}
	s.heard(req.NamespacedName)
	return reconcile.Result{}, nil
}

func (s *supervisor) run(key client.ObjectKey) *running {
	ctx, cancel := context.WithCancel(s.ctx)
	r := &running{inbox: newInbox(), stop: cancel}
	s.wait.Go(func() {
		l := newLoop(key, s, r.inbox)
		for l.run(ctx) {
			l = l.anew(s)
		}
		unmeasureSource(key)
	})
	return r
}

// trigger makes a loop look at its repository.
func (s *supervisor) trigger(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.ObjectKey{Namespace: namespace, Name: name}
	if r := s.loops[key]; r != nil {
		r.inbox.called()
	}
	s.heard(key)
}

// heard tells the loops whose tenants keep their intents in a GitSource's
// repository. It needs the lock.
func (s *supervisor) heard(key client.ObjectKey) {
	for r := range maps.Values(s.loops) {
		r.inbox.heard(key)
	}
}

// wakeAll needs the lock.
func (s *supervisor) wakeAll() {
	for r := range maps.Values(s.loops) {
		r.inbox.wakeUp()
	}
}

// tell hands an object's change to every loop: each knows its own tenants.
func (s *supervisor) tell(object repo.Object, heal bool) {
	path, err := repo.PathOf(object)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range maps.Values(s.loops) {
		r.inbox.changed(path, client.ObjectKeyFromObject(object), heal)
	}
}

// watch subscribes to what loops want to know.
func (s *supervisor) watch(mgr ctrl.Manager) error {
	b := ctrl.NewControllerManagedBy(mgr).Named("gitsource").
		For(&v1alpha1.GitSource{}, builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(e event.UpdateEvent) bool { return specChanged(e.ObjectOld, e.ObjectNew) },
		})).
		Watches(&v1alpha1.Tenant{}, s.wakeOn(func(before, after client.Object) bool {
			return specChanged(before, after) || !slices.Equal(before.GetFinalizers(), after.GetFinalizers())
		})).
		Watches(&v1alpha1.Config{}, s.wakeOn(specChanged)).
		Watches(&v1alpha1.TenantState{}, s.onState()).
		WithOptions(controller.Options{NeedLeaderElection: new(true)})
	for _, object := range appliedKinds() {
		b = b.Watches(object, s.onObject())
	}
	if err := b.Complete(s); err != nil {
		return err
	}
	if err := s.watchLeaving(mgr); err != nil {
		return err
	}
	return s.watchOrphans(mgr)
}

// appliedKinds are the kinds that a tenant's folder can hold.
func appliedKinds() []repo.Object {
	return []repo.Object{
		&v1alpha1.LoadBalancer{}, &v1alpha1.Route{}, &v1alpha1.SyncSecret{}, &v1alpha1.Addresses{}, &v1alpha1.Backend{},
	}
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// wakeOn wakes all loops for every creation and deletion, and for those updates
// that changed accepts.
func (s *supervisor) wakeOn(changed func(before, after client.Object) bool) handler.Funcs {
	wake := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wakeAll()
	}
	return handler.Funcs{
		CreateFunc: func(context.Context, event.CreateEvent, queue) { wake() },
		DeleteFunc: func(context.Context, event.DeleteEvent, queue) { wake() },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) {
			if changed(e.ObjectOld, e.ObjectNew) {
				wake()
			}
		},
	}
}

// onState wakes loops when a TenantState comes or goes, because a tenant is
// ready then, and else only reports it.
func (s *supervisor) onState() handler.Funcs {
	wake := s.wakeOn(func(_, _ client.Object) bool { return false })
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			s.tell(e.Object.(repo.Object), false)
			wake.CreateFunc(ctx, e, q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			s.tell(e.Object.(repo.Object), false)
			wake.DeleteFunc(ctx, e, q)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) { s.tell(e.ObjectNew.(repo.Object), false) },
	}
}

// onObject marks an object dirty: to be reported, and to be put back where
// more than its status changed.
func (s *supervisor) onObject() handler.Funcs {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, _ queue) { s.tell(e.Object.(repo.Object), true) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { s.tell(e.Object.(repo.Object), true) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) {
			heal := specChanged(e.ObjectOld, e.ObjectNew)
			s.tell(e.ObjectNew.(repo.Object), heal)
			if heal { // its labels may no longer lead to its file
				s.tell(e.ObjectOld.(repo.Object), heal)
			}
		},
	}
}

// specChanged reports whether more than the status changed.
func specChanged(before, after client.Object) bool {
	return before.GetGeneration() != after.GetGeneration() ||
		before.GetDeletionTimestamp().IsZero() != after.GetDeletionTimestamp().IsZero() ||
		!equality.Semantic.DeepEqual(before.GetAnnotations(), after.GetAnnotations()) ||
		!equality.Semantic.DeepEqual(before.GetLabels(), after.GetLabels())
}
