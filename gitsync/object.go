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
	"reflect"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/plan"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// fieldManager owns what is applied from main and status.git.
	fieldManager = "kubelb-gitsync"
	// hubManager owns the rest of statuses; what is restored is written in its
	// name, so that the hub can change it.
	hubManager = "kubelb-hub"

	mergePatch = types.MergePatchType

	actionApplied = "applied"
	actionPruned  = "pruned"
)

// Reasons of problems with objects that cannot be applied.
const (
	reasonClaimed  = "ClaimedElsewhere"
	reasonRefused  = "RefusedByAPIServer"
	reasonNotYet   = "NotAppliedYet"
	remedyNotYet   = "none is needed: it is tried again; if it stays, look at the hub's API server"
	remedyRefused  = "correct the document as the message says"
	remedyClaimed  = "remove the document here or there"
	messageClaimed = "the object belongs to GitSource %s"
)

// applyItem makes an object what its document says, if it is not.
func (l *loop) applyItem(ctx context.Context, item plan.Item, current repo.Object) outcome {
	o := outcome{path: item.Path}
	_, o.balancer = item.Object.(*v1alpha1.LoadBalancer)
	if current != nil {
		o.marked = gitOf(current) != nil
		if owner := current.GetLabels()[v1alpha1.LabelSource]; owner != "" && owner != l.label() {
			o.problem = problemOf(item.Path, reasonClaimed, fmt.Sprintf(messageClaimed, owner), remedyClaimed)
			return o
		}
		if l.same(current, item.Object) && revisionOf(current) != "" {
			o.revision = revisionOf(current)
			return o
		}
	}
	o.revision = l.revision(item.Path)
	if err := l.write(ctx, item.Object, o.revision); err != nil {
		o.problem, o.retry = refusal(item.Path, err)
		return o
	}
	o.action = actionApplied
	return o
}

// revision is the newest commit that changed a path.
func (l *loop) revision(path string) string {
	if c, ok := l.history.newest[path]; ok {
		return c.commit.String()
	}
	return l.main.Hash.String()
}

// write applies an object server-side. What others added to it stays after
// that; if it is part of the document's meaning, the object is replaced.
func (l *loop) write(ctx context.Context, object repo.Object, revision string) error {
	document, err := repo.Document(object)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: plain(document).(map[string]any)}
	u.SetLabels(with(u.GetLabels(), v1alpha1.LabelSource, l.label()))
	u.SetAnnotations(with(with(u.GetAnnotations(), v1alpha1.AnnotationRevision, revision), v1alpha1.AnnotationShortRevision, v1alpha1.Short(revision)))
	if _, ok := object.(*v1alpha1.LoadBalancer); ok {
		u.SetFinalizers([]string{v1alpha1.Finalizer}) // the hub would add it first thing
	}
	err = l.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(fieldManager), client.ForceOwnership)
	if err != nil {
		return err
	}
	result := emptyLike(object)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, result); err != nil {
		return err
	}
	if l.same(result, object) {
		return nil
	}
	return l.replace(ctx, object, result)
}

// replace writes an object whole, but for what is not the document's to say.
func (l *loop) replace(ctx context.Context, object, current repo.Object) error {
	whole := object.DeepCopyObject().(repo.Object)
	whole.SetResourceVersion(current.GetResourceVersion())
	whole.SetUID(current.GetUID())
	whole.SetFinalizers(current.GetFinalizers())
	whole.SetOwnerReferences(current.GetOwnerReferences())
	whole.SetLabels(others(current.GetLabels(), object.GetLabels()))
	whole.SetAnnotations(others(current.GetAnnotations(), object.GetAnnotations()))
	return l.client.Update(ctx, whole, client.FieldOwner(fieldManager))
}

// others returns the wanted entries and those of the present ones that have no
// meaning for a document.
func others(present, wanted map[string]string) map[string]string {
	out := maps.Clone(wanted)
	if out == nil {
		out = map[string]string{}
	}
	for key, value := range present {
		if _, ok := out[key]; !ok && !meaningful(key) {
			out[key] = value
		}
	}
	return out
}

// meaningful reports whether a label or annotation is a document's to say.
func meaningful(key string) bool {
	switch key {
	case v1alpha1.LabelSource, v1alpha1.AnnotationRevision, v1alpha1.AnnotationShortRevision, v1alpha1.LabelManagedBy, v1alpha1.LabelTenant:
		return false
	}
	return strings.HasPrefix(key, v1alpha1.AnnotationPrefix)
}

// same reports whether an object in the hub means what a document says and is
// in the inventory.
func (l *loop) same(current, wanted repo.Object) bool {
	return current.GetLabels()[v1alpha1.LabelSource] == l.label() &&
		reflect.DeepEqual(meaning(current, wanted), meaning(wanted, wanted))
}

// meaning is an object without defaults and without labels and annotations that
// are neither the document's nor could be.
func meaning(object, document repo.Object) map[string]any {
	object = object.DeepCopyObject().(repo.Object)
	object.SetLabels(relevant(object.GetLabels(), document.GetLabels()))
	object.SetAnnotations(relevant(object.GetAnnotations(), document.GetAnnotations()))
	m, err := repo.Document(object)
	if err != nil {
		return nil
	}
	kind, _ := m["kind"].(string)
	defaults := v1alpha1.Defaults(kind)
	if kind == v1alpha1.KindBackend {
		defaults = map[string]string{"spec.ports.name": v1alpha1.DefaultName, "spec.ports.protocol": "TCP"}
	}
	dropDefaults(m, "", defaults)
	return m
}

func relevant(present, wanted map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range present {
		if _, ok := wanted[key]; ok || meaningful(key) {
			out[key] = value
		}
	}
	return out
}

func dropDefaults(value any, path string, defaults map[string]string) {
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			at := key
			if path != "" {
				at = path + "." + key
			}
			if text, ok := below.(string); ok && defaults[at] != "" && defaults[at] == text {
				delete(value, key)
				continue
			}
			dropDefaults(below, at, defaults)
		}
	case []any:
		for _, below := range value {
			dropDefaults(below, path, defaults)
		}
	}
}

// plain turns the numbers of a document into those that unstructured objects
// may hold.
func plain(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			value[key] = plain(below)
		}
	case []any:
		for i, below := range value {
			value[i] = plain(below)
		}
	case interface{ Int64() (int64, error) }:
		if n, err := value.Int64(); err == nil {
			return n
		}
		if f, ok := value.(interface{ Float64() (float64, error) }); ok {
			n, _ := f.Float64()
			return n
		}
	}
	return value
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// prune deletes an object that main no longer has, if it is ours.
func (l *loop) prune(ctx context.Context, ref plan.Ref) outcome {
	o := outcome{path: ref.Path}
	object := ofKind(ref.Kind)
	err := l.live.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, object)
	if err == nil && object.GetLabels()[v1alpha1.LabelSource] != l.label() {
		return o
	}
	if err == nil && object.GetDeletionTimestamp().IsZero() {
		uid := object.GetUID()
		if err = l.markPruned(ctx, object); err != nil {
			o.problem, o.retry = refusal(ref.Path, err)
			return o
		}
		err = l.client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		o.action = actionPruned
	}
	if err != nil && !apierrors.IsNotFound(err) {
		o.problem, o.retry = refusal(ref.Path, err)
	}
	return o
}

// markPruned tells the hub that a load balancer goes for good, unlike one that
// somebody deletes by hand.
func (l *loop) markPruned(ctx context.Context, object client.Object) error {
	if _, ok := object.(*v1alpha1.LoadBalancer); !ok {
		return nil
	}
	patch := client.RawPatch(mergePatch, []byte(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationPruned+`":"true"}}}`))
	return client.IgnoreNotFound(l.client.Patch(ctx, object, patch))
}

// refusal tells a document that the API server will never take from a moment's
// trouble.
func refusal(path string, err error) (*v1alpha1.Problem, bool) {
	if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err) {
		return problemOf(path, reasonRefused, err.Error(), remedyRefused), false
	}
	return problemOf(path, reasonNotYet, err.Error(), remedyNotYet), true
}

func problemOf(path, reason, message, remedy string) *v1alpha1.Problem {
	p := &v1alpha1.Problem{Path: path, Reason: reason, Message: message, Remedy: remedy}
	if parsed, err := repo.ParsePath(path); err == nil {
		p.Object = parsed.Source()
	}
	return p
}
