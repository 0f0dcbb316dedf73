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
	"sync"
	"time"

	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// +kubebuilder:rbac:groups="",namespace=kubelb,resources=secrets,verbs=get;create
// +kubebuilder:rbac:groups="",namespace=kubelb,resources=secrets,resourceNames=kubelb-sealing-keys,verbs=list;watch;patch
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=tenantstates/status,verbs=patch

const (
	// sealingManager owns the recipients in TenantStates. It is not fieldManager,
	// which applies reservations whole.
	sealingManager = "kubelb-hub-sealing"

	defaultRotateAfter = 90 * 24 * time.Hour
	// rotateCheck bounds how long the hub sleeps over the age of its keys.
	rotateCheck = time.Hour
)

// sealing is what the hub's controllers know of its sealing keys.
type sealing struct {
	mu     sync.Mutex
	loaded bool
	keys   seal.Keyring
	wake   []func()
}

// set takes over what the Secret has, and wakes those who wait for keys.
func (s *sealing) set(keys seal.Keyring) {
	s.mu.Lock()
	same := s.loaded && slices.Equal(s.keys, keys)
	s.loaded, s.keys = true, keys
	wake := s.wake
	s.mu.Unlock()
	if !same {
		for _, f := range wake {
			f()
		}
	}
}

// identities returns what opens sealed files; false before they are known.
func (s *sealing) identities() ([]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys.Identities(), s.loaded
}

// subscribe has f called when the keys are others. f must not block.
func (s *sealing) subscribe(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake = append(s.wake, f)
}

// secretCache is a cache of Secrets and of nothing else, which the manager
// starts with its own.
type secretCache struct{ cache.Cache }

// GetCache makes the manager start it with the caches.
func (c secretCache) GetCache() cache.Cache { return c.Cache }

// newSecretCache watches the Secrets that the selection leaves, so that others
// are never in this process.
func newSecretCache(mgr manager.Manager, selection cache.ByObject) (secretCache, error) {
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject:         map[client.Object]cache.ByObject{&corev1.Secret{}: selection},
	})
	if err != nil {
		return secretCache{}, fmt.Errorf("hub: make a cache of Secrets: %w", err)
	}
	return secretCache{c}, mgr.Add(secretCache{c})
}

// keeper keeps the sealing keys: it makes the first, adds one when the newest is
// old, and tells tenants which to seal to.
type keeper struct {
	*hub
	secrets client.Reader // cached: the one Secret
	writer  client.Client // not cached
	events  eventRecorder
}

func (h *hub) keysKey() types.NamespacedName {
	return types.NamespacedName{Namespace: h.Namespace, Name: seal.KeysSecret}
}

func (h *hub) setupSealing(mgr manager.Manager, _ *measures) error {
	c, err := newSecretCache(mgr, cache.ByObject{Namespaces: map[string]cache.Config{
		h.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", seal.KeysSecret), LabelSelector: labels.Everything()},
	}})
	if err != nil {
		return err
	}
	writer, err := newSecretWriter(mgr)
	if err != nil {
		return err
	}
	k := &keeper{hub: h, secrets: c, writer: writer, events: mgr.GetEventRecorder(fieldManager)}
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: h.keysKey()}}
	})
	unpublished := predicate.NewPredicateFuncs(func(o client.Object) bool {
		state, ok := o.(*v1alpha1.TenantState)
		return !ok || !slices.Equal(state.Status.Recipients, k.known().Recipients())
	})
	return ctrl.NewControllerManagedBy(mgr).Named("sealing").
		WatchesRawSource(source.Kind[client.Object](c, &corev1.Secret{}, one)).
		WatchesRawSource(source.Func(func(_ context.Context, q requests) error {
			q.Add(reconcile.Request{NamespacedName: h.keysKey()}) // also without a Secret
			return nil
		})).
		WatchesRawSource(source.Kind[client.Object](mgr.GetCache(), &v1alpha1.TenantState{}, one, unpublished)).
		WatchesRawSource(source.Kind[client.Object](mgr.GetCache(), &v1alpha1.Config{}, one, predicate.GenerationChangedPredicate{})).
		WithOptions(controllerOptions(1, nil)).
		Complete(k)
}

// newSecretWriter makes a client that caches nothing.
func newSecretWriter(mgr manager.Manager) (client.Client, error) {
	c, err := client.New(mgr.GetConfig(), client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("hub: make a client: %w", err)
	}
	return c, nil
}

func (k *keeper) known() seal.Keyring {
	k.sealing.mu.Lock()
	defer k.sealing.mu.Unlock()
	return slices.Clone(k.sealing.keys)
}

// Reconcile is part of reconcile.Reconciler.
func (k *keeper) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	select {
	case <-k.opening.ready:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	var secret corev1.Secret
	err := k.secrets.Get(ctx, k.keysKey(), &secret)
	if apierrors.IsNotFound(err) {
		return k.create(ctx)
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("get Secret %s: %w", k.keysKey(), err)
	}
	keys, bad := seal.ParseKeyring(secret.Data)
	if len(bad) > 0 {
		k.events.Eventf(&secret, nil, corev1.EventTypeWarning, "BadSealingKey", "Rotate",
			"these entries are not one age identity each and open nothing: %v; restore or remove them", bad)
	}
	after, err := k.rotateAfter(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	next, old := k.due(keys, after)
	if old {
		return k.add(ctx, &secret, keys)
	}
	k.sealing.set(keys)
	if err := k.publish(ctx, keys.Recipients()); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: next}, nil
}

// rotateAfter is what the Config says, or the one before it while that is
// invalid. The Config is read, since the event of its change may be handled here
// before it is in force.
func (k *keeper) rotateAfter(ctx context.Context) (time.Duration, error) {
	config, err := k.readConfig(ctx)
	if err != nil {
		return 0, err
	}
	if len(validateConfig(config)) > 0 {
		config = k.config.current()
	}
	if config == nil || config.Spec.Sealing.RotateAfter == nil {
		return defaultRotateAfter, nil
	}
	return config.Spec.Sealing.RotateAfter.Duration, nil
}

// due reports whether a new key is needed, or when to look again.
func (k *keeper) due(keys seal.Keyring, after time.Duration) (next time.Duration, due bool) {
	newest, ok := keys.Newest()
	if !ok {
		return 0, true
	}
	left := after - k.now().Sub(newest.Created)
	if after == 0 {
		return 0, false
	}
	return min(max(left, time.Second), rotateCheck), left <= 0
}

// create stores the keys that are known, should the Secret have been deleted, or
// a first one.
func (k *keeper) create(ctx context.Context) (reconcile.Result, error) {
	keys := k.known()
	if _, ok := keys.Newest(); !ok {
		key, err := keys.NewKey(k.now())
		if err != nil {
			return reconcile.Result{}, err
		}
		keys = append(keys, key)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: k.keysKey().Namespace, Name: k.keysKey().Name}, Data: map[string][]byte{},
	}
	for _, key := range keys {
		secret.Data[key.Name] = key.File()
	}
	return k.stored(ctx, k.writer.Create(ctx, secret, client.FieldOwner(fieldManager)))
}

// add makes a key and stores it beside the others.
func (k *keeper) add(ctx context.Context, secret *corev1.Secret, keys seal.Keyring) (reconcile.Result, error) {
	key, err := keys.NewKey(k.now())
	if err != nil {
		return reconcile.Result{}, err
	}
	patch := client.MergeFromWithOptions(secret.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[key.Name] = key.File()
	return k.stored(ctx, k.writer.Patch(ctx, secret, patch, client.FieldOwner(fieldManager)))
}

// stored ends what wrote keys. The event of the Secret goes on from there, so
// that nobody seals to a key that is not stored.
func (k *keeper) stored(ctx context.Context, err error) (reconcile.Result, error) {
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return reconcile.Result{RequeueAfter: cachePoll}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("store a sealing key: %w", apiError(err))
	}
	log.FromContext(ctx).Info("sealing key made")
	return reconcile.Result{RequeueAfter: rotateCheck}, nil
}

// publish writes the recipients into every TenantState that has others.
func (k *keeper) publish(ctx context.Context, recipients []string) error {
	var states v1alpha1.TenantStateList
	if err := k.client.List(ctx, &states, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list TenantStates: %w", err)
	}
	for i := range states.Items {
		cached := &states.Items[i]
		if cached.Name != v1alpha1.DefaultName || slices.Equal(cached.Status.Recipients, recipients) {
			continue
		}
		state := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: cached.Namespace, Name: cached.Name, UID: cached.UID}}
		err := k.applyAs(ctx, sealingManager, state, "status", map[string]any{"recipients": recipients})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("publish the recipients: %w", err)
		}
		log.FromContext(ctx).Info("recipients published", "namespace", state.Namespace, "recipients", recipients)
	}
	return nil
}
