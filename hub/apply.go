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
	"encoding/json"
	"fmt"

	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// apply writes a field of an object server-side, so that it says all that the
// hub has to say about it and nothing of what others have. The object takes the
// server's answer.
func (h *hub) apply(ctx context.Context, object client.Object, field string, value any) error {
	return h.applyAs(ctx, fieldManager, object, field, value)
}

// applyAs applies for another manager: fields of one manager that an apply does
// not mention are removed.
func (h *hub) applyAs(ctx context.Context, manager string, object client.Object, field string, value any) error {
	gvk, err := apiutil.GVKForObject(object, h.client.Scheme())
	if err != nil {
		return fmt.Errorf("apply %s: %w", field, err)
	}
	metadata := map[string]any{"name": object.GetName()}
	if object.GetNamespace() != "" {
		metadata["namespace"] = object.GetNamespace()
	}
	if object.GetUID() != "" {
		metadata["uid"] = object.GetUID() // not another object of the same name
	}
	document := map[string]any{"apiVersion": gvk.GroupVersion().String(), "kind": gvk.Kind, "metadata": metadata}
	if field == "status" {
		document["status"] = value
	} else {
		metadata[field] = value
	}
	text, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("apply %s of %s: %w", field, gvk.Kind, err)
	}
	patch := client.RawPatch(types.ApplyPatchType, text)
	if field == "status" {
		err = h.client.Status().Patch(ctx, object, patch, client.FieldOwner(manager), client.ForceOwnership)
	} else {
		err = h.client.Patch(ctx, object, patch, client.FieldOwner(manager), client.ForceOwnership)
	}
	if err != nil {
		return fmt.Errorf("apply %s of %s %s: %w", field, gvk.Kind, client.ObjectKeyFromObject(object), err)
	}
	return nil
}

func (h *hub) applyStatus(ctx context.Context, object client.Object, status any) error {
	return h.apply(ctx, object, "status", status)
}

// addFinalizer keeps an object until [hub.removeFinalizer].
func (h *hub) addFinalizer(ctx context.Context, object client.Object) error {
	return h.apply(ctx, object, "finalizers", []string{v1alpha1.Finalizer})
}

// removeFinalizer removes the finalizer whoever added it, which an apply would
// not.
func (h *hub) removeFinalizer(ctx context.Context, object client.Object) error {
	before := object.DeepCopyObject().(client.Object)
	if !controllerutil.RemoveFinalizer(object, v1alpha1.Finalizer) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := h.client.Patch(ctx, object, patch, client.FieldOwner(fieldManager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("remove the finalizer of %s: %w", client.ObjectKeyFromObject(object), err)
	}
	return nil
}
