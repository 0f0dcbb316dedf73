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

	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch

// nodeReconciler has the nodes published when one changed.
type nodeReconciler struct{ publisher *publisher }

// Reconcile marks the nodes dirty.
func (r *nodeReconciler) Reconcile(context.Context, ctrl.Request) (ctrl.Result, error) {
	r.publisher.markNodes()
	return ctrl.Result{}, nil
}

// nodeChanges lets through what can change the addresses, not the heartbeats.
func nodeChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Node)
		after, same := e.ObjectNew.(*corev1.Node)
		if !ok || !same {
			return true
		}
		_, wasOut := before.Labels[corev1.LabelNodeExcludeBalancers]
		_, isOut := after.Labels[corev1.LabelNodeExcludeBalancers]
		return wasOut != isOut || render.IsReady(before) != render.IsReady(after) ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
			!apiequality.Semantic.DeepEqual(before.Status.Addresses, after.Status.Addresses)
	}}
}
