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
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What a deleted tenant had is reserved in a TenantState of the tenant's name in
// the hub's own namespace, because the tenant's goes. It is deleted with its last
// reservation.

// remembered is where the reservations of a deleted tenant are.
func (h *hub) remembered(tenant string) types.NamespacedName {
	return types.NamespacedName{Namespace: h.Namespace, Name: tenant}
}

// lastingState returns the TenantState of a deleted tenant, and makes it.
func (h *hub) lastingState(ctx context.Context, tenant string) (*v1alpha1.TenantState, error) {
	key := h.remembered(tenant)
	state, err := get(ctx, h.client, &v1alpha1.TenantState{}, key)
	if state != nil || err != nil {
		return state, err
	}
	state = &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	if err := h.client.Create(ctx, state); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create TenantState %s: %w", key, err)
	}
	return state, nil
}

// speaksOf is the namespace of the load balancers of which a TenantState speaks.
func (h *hub) speaksOf(state *v1alpha1.TenantState) string {
	if state.Namespace == h.Namespace {
		return v1alpha1.TenantNamespace(state.Name)
	}
	return state.Namespace
}

// remember copies the reservations of a tenant before its namespace goes. It
// reads what is stored, because the last load balancer may just have gone.
func (h *hub) remember(ctx context.Context, namespace string) error {
	tenant, ok := tenantOf(namespace)
	if !ok {
		return nil
	}
	writer := h.reservations.writer(namespace)
	writer.Lock()
	defer writer.Unlock()
	var state v1alpha1.TenantState
	err := h.live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: v1alpha1.DefaultName}, &state)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("get TenantState of %s: %w", namespace, err)
	}
	now := h.now()
	reserved := slices.DeleteFunc(state.Status.Reservations, func(r v1alpha1.Reservation) bool { return !r.ReleaseAfter.After(now) })
	if len(reserved) == 0 {
		return nil
	}
	lasting, err := h.lastingState(ctx, tenant)
	if err != nil {
		return err
	}
	return h.writeReservations(ctx, lasting, merge(lasting.Status.Reservations, reserved))
}

// merge adds reservations to others, in the place of those of the same name.
func merge(kept, more []v1alpha1.Reservation) []v1alpha1.Reservation {
	kept = slices.DeleteFunc(slices.Clone(kept), func(r v1alpha1.Reservation) bool {
		return slices.ContainsFunc(more, func(again v1alpha1.Reservation) bool { return again.Name == r.Name })
	})
	return append(kept, more...)
}

// expireRemembered is expireReservations for a tenant that was deleted, and may
// have been made again.
func (h *hub) expireRemembered(ctx context.Context, tenant string) (next time.Duration, err error) {
	state, err := get(ctx, h.client, &v1alpha1.TenantState{}, h.remembered(tenant))
	if state == nil || err != nil {
		return 0, err
	}
	return h.expireReservations(ctx, state)
}
