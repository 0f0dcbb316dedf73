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
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch

// secretCache is a cache that the manager starts with its own.
type secretCache struct{ cache.Cache }

// GetCache makes the manager start it with the caches.
func (c secretCache) GetCache() cache.Cache { return c.Cache }

// setupSecrets watches the Secrets that are labelled for the hub. Others are
// never in this process.
func (e *engine) setupSecrets(mgr ctrl.Manager) error {
	selection := labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy})
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject:         map[client.Object]cache.ByObject{&corev1.Secret{}: {Label: selection}},
	})
	if err != nil {
		return err
	}
	if err := mgr.Add(secretCache{c}); err != nil {
		return err
	}
	e.secrets = c
	r := &secretReconciler{engine: e, hearing: sync.OnceFunc(func() { close(e.hearsSecrets) }), deleted: map[types.NamespacedName]bool{}}
	return ctrl.NewControllerManagedBy(mgr).Named("secret").
		WatchesRawSource(source.Kind[client.Object](c, &corev1.Secret{}, r.events())).
		WatchesRawSource(source.Func(func(_ context.Context, q secretQueue) error {
			q.Add(reconcile.Request{})
			return nil
		})).
		Complete(measured{r, secretTotal, secretDuration})
}

// secretReconciler has changed Secrets published. They need no finalizer: what
// is gone when the CCM starts is seen by comparing with the branch.
type secretReconciler struct {
	*engine
	hearing func()

	mu      sync.Mutex
	deleted map[types.NamespacedName]bool // seen to go, not only missing from a list
}

type secretQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (r *secretReconciler) events() handler.EventHandler {
	add := func(o client.Object, q secretQueue) {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)})
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q secretQueue) { add(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q secretQueue) { add(e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q secretQueue) {
			r.mu.Lock()
			r.deleted[client.ObjectKeyFromObject(e.Object)] = !e.DeleteStateUnknown
			r.mu.Unlock()
			add(e.Object, q)
		},
	}
}

// Reconcile marks the Secret dirty. A request without a name says that events
// are heard from now on: a Secret that was gathered before and went before that
// would be missed.
func (r *secretReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if request.Name == "" {
		r.hearing()
		return ctrl.Result{}, nil
	}
	err := r.secrets.Get(ctx, request.NamespacedName, &corev1.Secret{})
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	gone := false
	if err != nil {
		if gone, err = r.gone(ctx, request.NamespacedName); err != nil {
			return ctrl.Result{}, err
		}
	}
	r.publisher.markSecret(request.NamespacedName, gone)
	return ctrl.Result{}, nil
}

// gone tells a Secret that was deleted from one whose label was taken off, and
// from one that is only missing.
func (r *secretReconciler) gone(ctx context.Context, name types.NamespacedName) (bool, error) {
	r.mu.Lock()
	seen := r.deleted[name]
	r.mu.Unlock()
	if seen {
		var there metav1.PartialObjectMetadata
		there.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		err := r.api.Get(ctx, name, &there)
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("look for Secret %s: %w", name, err)
		}
		seen = apierrors.IsNotFound(err)
	}
	r.mu.Lock()
	delete(r.deleted, name)
	r.mu.Unlock()
	return seen, nil
}

// ReasonNotFollowed is the reason of the Event about a Secret of which the hub
// does not follow what the tenant has: held, pending or wrong.
const ReasonNotFollowed = "NotFollowed"

// dirtySecrets are Secrets to render again, with whether they were deleted.
type dirtySecrets map[types.NamespacedName]bool

// markSecret has a Secret rendered again.
func (p *publisher) markSecret(name types.NamespacedName, deleted bool) {
	p.mu.Lock()
	p.dirtySecrets[name] = deleted
	p.mu.Unlock()
	p.poke()
}

// sealer is what the publisher's goroutine knows of sealing.
type sealer struct {
	gathered   bool
	recipients []string // whom everything was sealed to
}

// gatherSecrets renders and seals the Secrets that changed: all, the first time
// and when the recipients are others. It needs to know the branch, which has the
// age files that may stay.
func (p *publisher) gatherSecrets(ctx context.Context) error {
	p.mu.Lock()
	dirty := p.dirtySecrets
	p.dirtySecrets = map[types.NamespacedName]bool{}
	p.mu.Unlock()
	recipients := p.answers.recipients()
	err := p.renderSecrets(ctx, dirty, recipients)
	if err != nil {
		p.mu.Lock()
		for name, deleted := range dirty {
			if _, again := p.dirtySecrets[name]; !again {
				p.dirtySecrets[name] = deleted
			}
		}
		p.mu.Unlock()
		return err
	}
	return nil
}

func (p *publisher) renderSecrets(ctx context.Context, dirty dirtySecrets, recipients []string) error {
	if !p.sealer.gathered || !slices.Equal(recipients, p.sealer.recipients) {
		var list corev1.SecretList
		if err := p.secrets.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list Secrets: %w", err)
		}
		for i := range list.Items {
			dirty[client.ObjectKeyFromObject(&list.Items[i])] = false
		}
		if !p.sealer.gathered {
			p.digests.retain(dirty)
		}
	}
	if len(dirty) == 0 {
		return nil
	}
	for _, name := range slices.SortedFunc(maps.Keys(dirty), compareNames) {
		var secret corev1.Secret
		err := p.secrets.Get(ctx, name, &secret)
		switch {
		case apierrors.IsNotFound(err):
			p.content.remove(secretOrigin(name), dirty[name])
			p.digests.set(name, "")
		case err != nil:
			return fmt.Errorf("get Secret %s: %w", name, err)
		default:
			if err := p.renderSecret(&secret, recipients); err != nil {
				return err
			}
		}
	}
	p.sealer = sealer{gathered: true, recipients: recipients}
	p.countSecrets(recipients)
	p.log.V(1).Info("stage", "stage", "sealed", "secrets", len(dirty))
	return nil
}

// renderSecret renders and seals one Secret, or says why that cannot be. What
// the branch has stays until it can.
func (p *publisher) renderSecret(secret *corev1.Secret, recipients []string) error {
	name := client.ObjectKeyFromObject(secret)
	r := rendered{uid: secret.UID, guarded: true, deleting: secret.DeletionTimestamp != nil}
	if render.SecretInScope(secret) {
		var sealable *render.Sealable
		if sealable, r.problems = p.renderable(secret); sealable != nil {
			document, err := p.seal(name, sealable, recipients)
			switch {
			case err == nil:
				r.documents = []render.Document{document}
			case errors.Is(err, seal.ErrNoRecipients), errors.Is(err, seal.ErrRecipient):
				r.waiting = true // all of them do: a notice says so
			case errors.Is(err, seal.ErrTooLarge), errors.Is(err, seal.ErrNotEnvelope):
				r.waiting, r.problems = true, []v1alpha1.Problem{tooLarge(sealable.Path(), err)}
			default:
				return fmt.Errorf("secret %s: %w", name, err)
			}
		}
	}
	if p.content.put(secretOrigin(name), r) {
		p.notices.tell(secret, r.problems)
	}
	return nil
}

// renderable leaves out the CCM's own keys, whatever their labels.
func (p *publisher) renderable(secret *corev1.Secret) (*render.Sealable, []v1alpha1.Problem) {
	own := []string{KeySecretName, DigestKeySecretName, p.options.GitSecret}
	if secret.Namespace == p.options.Namespace && slices.Contains(own, secret.Name) {
		return nil, []v1alpha1.Problem{{
			Object: "Secret " + secret.Namespace + "/" + secret.Name, Reason: render.ReasonSecretType,
			Message: "it has a key of the CCM and is not brought to the hub", Remedy: "take the label " + v1alpha1.LabelManagedBy + " off",
		}}
	}
	return render.Secret(secret, p.options.render())
}

func tooLarge(path string, err error) v1alpha1.Problem {
	p, _ := repo.ParsePath(path)
	problem := v1alpha1.Problem{Path: path, Object: p.Source(), Reason: render.ReasonTooLarge,
		Message: "it is not brought to the hub as it is now: " + err.Error(), Remedy: "make it smaller, or split it"}
	if errors.Is(err, seal.ErrNotEnvelope) {
		problem.Reason, problem.Remedy = v1alpha1.ReasonInvalid, "correct the Secret"
	}
	return problem
}

// seal returns the document of a Secret: with the age file that there is, if that
// was made from this content for these recipients, else with a new one.
func (p *publisher) seal(name types.NamespacedName, s *render.Sealable, recipients []string) (render.Document, error) {
	if len(recipients) == 0 {
		return render.Document{}, seal.ErrNoRecipients
	}
	old, err := p.sealedBefore(s.Path())
	if err != nil {
		return render.Document{}, err
	}
	if old != "" && p.digests.get(name) == s.Envelope.Digest(p.digests.key, recipients, old) {
		return s.Document(old), nil
	}
	armored, err := seal.Seal(recipients, s.Envelope)
	if err != nil {
		return render.Document{}, err
	}
	p.digests.set(name, s.Envelope.Digest(p.digests.key, recipients, armored))
	return s.Document(armored), nil
}

// sealedBefore is the age file that was made last, or that the branch has.
func (p *publisher) sealedBefore(path string) (string, error) {
	data := p.content.document(path)
	if data == nil {
		file, ok, err := p.store.File(p.tree, path)
		if err != nil {
			return "", fmt.Errorf("read the intent branch: %w", err)
		}
		if !ok || file.Mode != repo.Regular {
			return "", nil
		}
		data = file.Data
	}
	object, problems := repo.Decode(path, repo.NewFile(data))
	if sync, ok := object.(*v1alpha1.SyncSecret); ok && len(problems) == 0 {
		return sync.Sealed, nil
	}
	return "", nil
}

// countSecrets says how many Secrets there are and whether they wait.
func (p *publisher) countSecrets(recipients []string) {
	managedSecrets.Reset()
	for namespace, n := range p.content.managed(kindSecret) {
		managedSecrets.WithLabelValues(namespace).Set(float64(n))
	}
	waiting := 0
	for _, name := range p.content.of(kindSecret) {
		if r, _ := p.content.lookup(secretOrigin(name)); r.waiting && len(r.problems) == 0 {
			waiting++
		}
	}
	switch {
	case waiting == 0:
		p.notices.clear(noticeSealing)
	case len(recipients) == 0:
		p.notices.set(noticeSealing, v1alpha1.Problem{Reason: ReasonNoRecipients,
			Message: fmt.Sprintf("%d Secrets wait: the hub has not said yet whom to seal them to", waiting),
			Remedy:  "none is needed if this passes; else look at the Secret " + seal.KeysSecret + " in the hub and at its log"})
	default:
		p.notices.set(noticeSealing, v1alpha1.Problem{Reason: ReasonBadRecipients,
			Message: fmt.Sprintf("%d Secrets wait: the hub names recipients that this CCM cannot seal to", waiting), Remedy: "update the CCM"})
	}
}

func compareNames(a, b types.NamespacedName) int {
	return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
}

// tellSecrets makes Events of what is new for Secrets, which have no conditions.
func (o *observer) tellSecrets(paths []string) {
	slices.Sort(paths)
	for _, path := range paths {
		name, ok := o.content.owner(path)
		if !ok {
			continue
		}
		ready, entry := o.answers.ofSecret(path)
		reason, kind, text := v1alpha1.ReasonSynced, corev1.EventTypeNormal, entry
		if ready != nil && ready.Status == metav1.ConditionFalse {
			reason, kind, text = ready.Reason, corev1.EventTypeWarning, ready.Message
		}
		if entry != "" && kind == corev1.EventTypeNormal {
			reason = ReasonNotFollowed
		}
		before, known := o.told[path]
		o.told[path] = told{kind, reason, text}
		if before == o.told[path] || !known && reason == v1alpha1.ReasonSynced {
			continue
		}
		if reason == v1alpha1.ReasonSynced {
			text = "the hub has the Secret"
		}
		emit(o.notices.recorder, secretNamed(name.NamespacedName), kind, reason, text)
	}
}

// told is what an Event about a Secret said.
type told struct{ kind, reason, text string }

// secretNamed is a Secret that Events can be about.
func secretNamed(name types.NamespacedName) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name},
	}
}
