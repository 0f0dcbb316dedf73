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
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
)

// statusWorkers is how many statuses are written at a time.
const statusWorkers = 8

func (e *engine) setup(mgr ctrl.Manager) error {
	recorder := mgr.GetEventRecorder("kubelb-ccm")
	services := &serviceReconciler{engine: e, recorder: recorder, left: map[types.UID]time.Time{}}
	if err := ctrl.NewControllerManagedBy(mgr).Named("service").For(&corev1.Service{}, builder.WithPredicates(serviceChanges())).
		WatchesRawSource(e.services.source()).
		WithOptions(controller.Options{MaxConcurrentReconciles: statusWorkers}).
		Complete(measured{services, serviceTotal, serviceDuration}); err != nil {
		return fmt.Errorf("add the reconciler of Services: %w", err)
	}
	if err := ctrl.NewControllerManagedBy(mgr).Named("service-status").For(&corev1.Service{}).
		WatchesRawSource(e.statuses.source()).
		WithOptions(controller.Options{MaxConcurrentReconciles: statusWorkers}).
		Complete(&statusReconciler{engine: e, recorder: recorder}); err != nil {
		return fmt.Errorf("add the reconciler of statuses: %w", err)
	}
	if err := e.setupSecrets(mgr); err != nil {
		return fmt.Errorf("add the reconciler of Secrets: %w", err)
	}
	if err := ctrl.NewControllerManagedBy(mgr).Named("node").For(&corev1.Node{}).
		WithEventFilter(nodeChanges()).
		Complete(measuredNodes{&nodeReconciler{publisher: e.publisher}}); err != nil {
		return fmt.Errorf("add the reconciler of nodes: %w", err)
	}
	return nil
}
