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

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=syncsecrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=syncsecrets/status,verbs=get;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=list;watch;get;create;update;delete

// syncSecrets reconciles SyncSecrets: each becomes a Secret beside it, of its
// name.
type syncSecrets struct {
	*hub
	secrets client.Reader // cached: Secrets of ours
	writer  client.Client // not cached
	events  eventRecorder
}

func (h *hub) setupSyncSecrets(mgr manager.Manager, m *measures) error {
	c, err := newSecretCache(mgr, cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy})})
	if err != nil {
		return err
	}
	writer, err := newSecretWriter(mgr)
	if err != nil {
		return err
	}
	r := &syncSecrets{hub: h, secrets: c, writer: writer, events: mgr.GetEventRecorder(fieldManager)}
	owner := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, secret client.Object) []reconcile.Request {
		if _, ok := tenantOf(secret.GetNamespace()); !ok {
			return nil
		}
		return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(secret)}}
	})
	return ctrl.NewControllerManagedBy(mgr).Named("syncsecret").
		For(&v1alpha1.SyncSecret{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: moreThanStatus})).
		WatchesRawSource(source.Kind[client.Object](c, &corev1.Secret{}, owner)).
		Watches(&v1alpha1.TenantState{}, handler.Funcs{UpdateFunc: sourceWentOrCame}).
		WatchesRawSource(source.Func(r.subscribe)).
		WithOptions(controllerOptions(workers, nil)).
		Complete(m.syncSecrets(r))
}

func moreThanStatus(e event.UpdateEvent) bool {
	return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
		!equality.Semantic.DeepEqual(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) ||
		!equality.Semantic.DeepEqual(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations()) ||
		!equality.Semantic.DeepEqual(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences())
}

// sourceWentOrCame enqueues the SyncSecrets whose source went or came back.
func sourceWentOrCame(_ context.Context, e event.UpdateEvent, q requests) {
	before, after := e.ObjectOld.(*v1alpha1.TenantState), e.ObjectNew.(*v1alpha1.TenantState)
	for _, path := range slices.Concat(before.Status.SourceGone, after.Status.SourceGone) {
		if slices.Contains(before.Status.SourceGone, path) == slices.Contains(after.Status.SourceGone, path) {
			continue
		}
		if p, err := repo.ParsePath(path); err == nil && p.Kind == v1alpha1.KindSyncSecret {
			q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: after.Namespace, Name: p.ObjectName()}})
		}
	}
}

// subscribe has all SyncSecrets looked at again when the keys are others.
func (r *syncSecrets) subscribe(ctx context.Context, q requests) error {
	r.sealing.subscribe(func() {
		var list v1alpha1.SyncSecretList
		if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency); err != nil {
			log.FromContext(ctx).Error(err, "cannot list SyncSecrets") // only if the cache has stopped
			return
		}
		for i := range list.Items {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	})
	return nil
}

// Reconcile is part of reconcile.Reconciler.
func (r *syncSecrets) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	sync, err := get(ctx, r.client, &v1alpha1.SyncSecret{}, request.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	if sync == nil || !sync.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, r.remove(ctx, request.NamespacedName)
	}
	identities, known := r.sealing.identities()
	if !known {
		return reconcile.Result{RequeueAfter: soon}, nil
	}
	state, err := r.tenantState(ctx, sync.Namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	wanted, problems := openSyncSecret(sync, state, identities)
	switch {
	case len(problems) > 0 && problems[0].Reason == v1alpha1.ReasonSourceGone:
		err = r.remove(ctx, request.NamespacedName)
	case len(problems) == 0:
		problems, err = r.keep(ctx, wanted)
	}
	switch {
	case errors.Is(err, errLater):
		return reconcile.Result{RequeueAfter: cachePoll}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, apiError(err)
	}
	return reconcile.Result{}, r.write(ctx, sync, problems)
}

// openSyncSecret returns the Secret that a SyncSecret stands for, or why there is
// none. It is pure, and no problem has a word of the content.
func openSyncSecret(sync *v1alpha1.SyncSecret, state *v1alpha1.TenantState, identities []string) (*corev1.Secret, []v1alpha1.Problem) {
	tenant, ok := tenantOf(sync.Namespace)
	if !ok {
		return nil, []v1alpha1.Problem{{Reason: v1alpha1.ReasonTenantNotReady, Message: fmt.Sprintf("namespace %s is not that of a tenant", sync.Namespace), Remedy: "move it to one"}}
	}
	if path, err := repo.PathOf(sync); err == nil && state != nil && slices.Contains(state.Status.SourceGone, path) {
		return nil, []v1alpha1.Problem{{Reason: v1alpha1.ReasonSourceGone, Message: "the tenant has no such Secret any more (its deletion was reverted on main)",
			Remedy: "create it again in the tenant, or delete the file"}}
	}
	if problems := v1alpha1.Validate(sync); len(problems) > 0 {
		return nil, problems
	}
	secret := secretOf(sync, tenant)
	if sync.Sealed == "" { // as somebody wrote it in the hub
		for key, value := range sync.Data {
			secret.Data[key] = value
		}
		for key, value := range sync.StringData {
			secret.Data[key] = []byte(value)
		}
		return secret, nil
	}
	envelope, err := seal.Open(identities, sync.Sealed)
	if err == nil {
		namespace, name, _ := repo.Origin(sync)
		err = envelope.Check(tenant, namespace, name)
	}
	if err != nil {
		return nil, []v1alpha1.Problem{sealProblem(err)}
	}
	if envelope.Type != secret.Type {
		return nil, []v1alpha1.Problem{{Field: "type", Reason: v1alpha1.ReasonTypeMismatch, Message: fmt.Sprintf("it was sealed as another type than %s", secret.Type),
			Remedy: "set the type that it was sealed as, or seal it again"}}
	}
	for key, value := range envelope.Data {
		secret.Data[key] = value
	}
	return secret, nil
}

// secretOf is the Secret of a SyncSecret but for its content.
func secretOf(sync *v1alpha1.SyncSecret, tenant string) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: sync.Namespace, Name: sync.Name,
			Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelTenant: tenant},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindSyncSecret, Name: sync.Name, UID: sync.UID, Controller: ptr.To(true),
			}},
		},
		Type: sync.Type, Immutable: sync.Immutable, Data: map[string][]byte{},
	}
	for _, key := range []string{v1alpha1.LabelOriginName, v1alpha1.LabelOriginNS, v1alpha1.LabelOriginKind} {
		if value, ok := sync.Labels[key]; ok {
			secret.Labels[key] = value
		}
	}
	if secret.Type == "" {
		secret.Type = corev1.SecretTypeOpaque
	}
	return secret
}

// sealProblem puts an error of package seal into words.
func sealProblem(err error) v1alpha1.Problem {
	p := v1alpha1.Problem{Field: "sealed", Message: err.Error(), Remedy: "seal it again (kubelbctl seal), or let the tenant's CCM do so"}
	switch {
	case errors.Is(err, seal.ErrCannotOpen):
		p.Reason, p.Message = v1alpha1.ReasonCannotOpen, "it is sealed to no key that the hub has"
		p.Remedy = "restore the Secret " + seal.KeysSecret + " (kubelbctl keys restore), or seal it again to the recipients in the TenantState"
	case errors.Is(err, seal.ErrNoIdentities):
		p.Reason, p.Message = v1alpha1.ReasonCannotOpen, "the hub has no sealing key"
		p.Remedy = "restore the Secret " + seal.KeysSecret
	case errors.Is(err, seal.ErrAddress):
		p.Reason, p.Remedy = v1alpha1.ReasonAddressMismatch, "seal it for this place: a sealed file cannot be copied or moved"
	case errors.Is(err, seal.ErrTooLarge):
		p.Reason, p.Remedy = v1alpha1.ReasonTooLarge, "make the Secret smaller"
	default:
		p.Reason = v1alpha1.ReasonMalformed
	}
	return p
}

// errLater: the cache has not seen what was written last.
var errLater = errors.New("the cache is behind")

// keep makes the Secret what it shall be. What the API server takes the user to
// task for is a problem.
func (r *syncSecrets) keep(ctx context.Context, wanted *corev1.Secret) ([]v1alpha1.Problem, error) {
	current, err := get(ctx, r.secrets, &corev1.Secret{}, client.ObjectKeyFromObject(wanted))
	if err != nil {
		return nil, err
	}
	switch {
	case current == nil:
		err = r.create(ctx, wanted)
	case !current.DeletionTimestamp.IsZero():
		return nil, nil // its end is an event, and then it is made anew
	default:
		err = r.update(ctx, current, wanted)
	}
	switch {
	case errors.Is(err, errTaken):
		return []v1alpha1.Problem{{Reason: v1alpha1.ReasonNameTaken, Message: fmt.Sprintf("there is a Secret %s that is not the hub's", wanted.Name),
			Remedy: "remove or rename that Secret"}}, nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil, errLater
	case apierrors.IsInvalid(err), apierrors.IsRequestEntityTooLargeError(err):
		return []v1alpha1.Problem{{Reason: v1alpha1.ReasonSecretRefused, Message: fmt.Sprintf("the API server does not take it as a Secret of type %s: %s", wanted.Type, apiError(err)),
			Remedy: "give the Secret in the tenant what its type demands"}}, nil
	}
	return nil, err
}

// errTaken: somebody else has a Secret of the name.
var errTaken = errors.New("the name is taken")

func (r *syncSecrets) create(ctx context.Context, wanted *corev1.Secret) error {
	err := r.writer.Create(ctx, wanted.DeepCopy(), client.FieldOwner(fieldManager))
	if err == nil {
		log.FromContext(ctx).Info("Secret created", "type", wanted.Type)
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// Either the cache is behind, or it is somebody else's, which is not cached.
	var there metav1.PartialObjectMetadata
	there.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	if err := r.writer.Get(ctx, client.ObjectKeyFromObject(wanted), &there); err != nil {
		return client.IgnoreNotFound(err)
	}
	switch {
	case there.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy:
		return errLater
	case isOf(&there, wanted): // somebody took the label off
		return r.replace(ctx, there.UID, wanted)
	}
	return errTaken
}

// isOf reports whether a Secret is the one of the wanted one's SyncSecret.
func isOf(secret metav1.Object, wanted *corev1.Secret) bool {
	owner := metav1.GetControllerOf(secret)
	if owner == nil { // the reference may have been taken off, the labels still say it
		return secret.GetLabels()[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy &&
			secret.GetLabels()[v1alpha1.LabelTenant] == wanted.Labels[v1alpha1.LabelTenant]
	}
	return owner.Kind == v1alpha1.KindSyncSecret && owner.Name == wanted.Name
}

// update makes a Secret of ours what it shall be: all of it, so that what was
// added by hand goes. Labels and annotations of others stay.
func (r *syncSecrets) update(ctx context.Context, current, wanted *corev1.Secret) error {
	if !isOf(current, wanted) {
		return errTaken
	}
	next := current.DeepCopy()
	for key, value := range wanted.Labels {
		next.Labels[key] = value
	}
	next.OwnerReferences, next.Data, next.Immutable, next.Type = wanted.OwnerReferences, wanted.Data, wanted.Immutable, wanted.Type
	if equality.Semantic.DeepEqual(current, next) {
		return nil
	}
	immutable := ptr.Deref(current.Immutable, false) &&
		(!ptr.Deref(wanted.Immutable, false) || !equality.Semantic.DeepEqual(current.Data, wanted.Data))
	if current.Type != wanted.Type || immutable {
		return r.replace(ctx, current.UID, wanted)
	}
	err := r.writer.Update(ctx, next, client.FieldOwner(fieldManager))
	if err == nil {
		log.FromContext(ctx).Info("Secret updated", "type", wanted.Type)
	}
	return err
}

// replace is for what cannot be changed in a Secret. If the new one cannot be
// made either, a dry run says so before the old one goes.
func (r *syncSecrets) replace(ctx context.Context, uid types.UID, wanted *corev1.Secret) error {
	trial := wanted.DeepCopy()
	trial.Name, trial.GenerateName = "", strings.ToLower(v1alpha1.KindSyncSecret)+"-"
	if err := r.writer.Create(ctx, trial, client.DryRunAll); err != nil {
		return err
	}
	err := r.writer.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: wanted.Namespace, Name: wanted.Name}}, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	err = r.writer.Create(ctx, wanted.DeepCopy(), client.FieldOwner(fieldManager))
	if apierrors.IsAlreadyExists(err) {
		return errLater
	}
	if err == nil {
		log.FromContext(ctx).Info("Secret replaced", "type", wanted.Type)
	}
	return err
}

// remove deletes the Secret of a SyncSecret that is gone. Garbage collection
// would do so as well, later.
func (r *syncSecrets) remove(ctx context.Context, key types.NamespacedName) error {
	secret, err := get(ctx, r.secrets, &corev1.Secret{}, key)
	if err != nil || secret == nil || !secret.DeletionTimestamp.IsZero() {
		return err
	}
	if owner := metav1.GetControllerOf(secret); owner == nil || owner.Kind != v1alpha1.KindSyncSecret || owner.Name != key.Name {
		return nil
	}
	err = r.writer.Delete(ctx, secret, client.Preconditions{UID: &secret.UID})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Secret %s: %w", key, apiError(err))
	}
	log.FromContext(ctx).Info("Secret deleted")
	return nil
}

// write writes the status if it changed.
func (r *syncSecrets) write(ctx context.Context, sync *v1alpha1.SyncSecret, problems []v1alpha1.Problem) error {
	secret, err := get(ctx, r.secrets, &corev1.Secret{}, client.ObjectKeyFromObject(sync))
	if err != nil {
		return err
	}
	status := decideSyncSecret(sync, problems, secret != nil, metav1.NewTime(r.now()))
	old := sync.Status
	if sameConditions(status.Conditions, old.Conditions) && status.Phase == old.Phase &&
		status.ObservedGeneration == old.ObservedGeneration && equality.Semantic.DeepEqual(status.Problems, old.Problems) {
		return nil
	}
	was := summary(old.Conditions)
	err = r.applyStatus(ctx, sync, map[string]any{
		"observedGeneration": status.ObservedGeneration, "conditions": ownConditions(status.Conditions),
		"phase": status.Phase, "problems": status.Problems,
	})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if is := summary(sync.Status.Conditions); len(problems) > 0 && (was.Reason != is.Reason || was.Message != is.Message) {
		r.events.Eventf(sync, nil, corev1.EventTypeWarning, is.Reason, "Sync", "%s", is.Message)
	}
	return nil
}

// decideSyncSecret returns the status of a SyncSecret.
func decideSyncSecret(sync *v1alpha1.SyncSecret, problems []v1alpha1.Problem, exists bool, now metav1.Time) v1alpha1.SyncSecretStatus {
	status := *sync.Status.DeepCopy()
	status.ObservedGeneration, status.Problems = sync.Generation, []v1alpha1.Problem{}
	c := conditionsOf(sync.Status.Conditions, sync.Generation, now)
	if len(problems) == 0 {
		status.Phase = v1alpha1.SyncSynced
		c.ready(v1alpha1.ReasonSynced, "the hub has the Secret")
		status.Conditions = c.list
		return status
	}
	path, object := whereabouts(sync, v1alpha1.KindSyncSecret)
	for _, p := range problems {
		p.Path, p.Object = path, object
		status.Problems = append(status.Problems, p)
	}
	message := describeProblems(problems)
	if exists && problems[0].Reason != v1alpha1.ReasonSourceGone && problems[0].Reason != v1alpha1.ReasonNameTaken {
		message += "; the Secret stays as it was"
	}
	status.Phase = v1alpha1.SyncFailed
	c.stalled(problems[0].Reason, message)
	status.Conditions = c.list
	return status
}

// apiError leaves of an API server's answer what cannot quote a Secret.
func apiError(err error) error {
	var status apierrors.APIStatus
	if err == nil || !errors.As(err, &status) {
		return err
	}
	words := []string{string(status.Status().Reason)}
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			words = append(words, fmt.Sprintf("%s %s", cause.Type, cause.Field))
		}
	}
	return errors.New(strings.Join(words, ", "))
}
