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
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reservations gathers what workers want to add to a TenantState at the same
// time into one write.
type reservations struct {
	mu      sync.Mutex
	pending map[string]map[string]v1alpha1.Reservation // by namespace and name
	writers map[string]*sync.Mutex
}

// keepReservation returns when the reservation is stored. A namespace that is on
// its way out has no place for it: then the hub's has.
func (h *hub) keepReservation(ctx context.Context, namespace string, reservation v1alpha1.Reservation) error {
	h.reservations.add(namespace, reservation)
	writer := h.reservations.writer(namespace)
	writer.Lock()
	defer writer.Unlock()
	pending := h.reservations.take(namespace)
	if len(pending) == 0 {
		return nil // whoever had the lock before took it along
	}
	state, err := h.tenantState(ctx, namespace)
	if tenant, ok := tenantOf(namespace); ok && state == nil && err == nil {
		state, err = h.lastingState(ctx, tenant)
	}
	if state == nil && err == nil {
		return nil
	}
	if err == nil {
		err = h.writeReservations(ctx, state, merge(state.Status.Reservations, slices.Collect(maps.Values(pending))))
	}
	if err != nil {
		for _, r := range pending {
			h.reservations.add(namespace, r)
		}
	}
	return client.IgnoreNotFound(err)
}

func (r *reservations) add(namespace string, reservation v1alpha1.Reservation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[namespace] == nil {
		r.pending[namespace] = map[string]v1alpha1.Reservation{}
	}
	r.pending[namespace][reservation.Name] = reservation
}

func (r *reservations) take(namespace string) map[string]v1alpha1.Reservation {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := r.pending[namespace]
	delete(r.pending, namespace)
	return pending
}

// writer is held by whoever writes the reservations of a namespace.
func (r *reservations) writer(namespace string) *sync.Mutex {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writers[namespace] == nil {
		r.writers[namespace] = &sync.Mutex{}
	}
	return r.writers[namespace]
}

func newReservations() *reservations {
	return &reservations{pending: map[string]map[string]v1alpha1.Reservation{}, writers: map[string]*sync.Mutex{}}
}

// reservation returns what is kept of a load balancer that goes, or nil. The ports
// are kept for one that comes back; where gitsync removed it because its file left
// main, the tenant's others may have them at once.
func (h *hub) reservation(lb *v1alpha1.LoadBalancer) *v1alpha1.Reservation {
	grace := gracePeriod(h.config.current())
	if len(lb.Status.Addresses) == 0 || grace <= 0 {
		return nil
	}
	now := metav1.NewTime(h.now().Truncate(time.Second))
	r := &v1alpha1.Reservation{Name: lb.Name, Addresses: lb.Status.Addresses, Since: &now, ReleaseAfter: metav1.NewTime(now.Add(grace))}
	if lb.Annotations[v1alpha1.AnnotationPruned] == "" {
		r.Ports = formatPorts(h.book.ports(client.ObjectKeyFromObject(lb)))
	}
	return r
}

// expireReservations drops those whose time is over, those that a person released
// and those whose load balancer is back and has an address, and returns when the
// next one is due.
func (h *hub) expireReservations(ctx context.Context, state *v1alpha1.TenantState) (next time.Duration, err error) {
	lasting := state.Namespace == h.Namespace
	if len(state.Status.Reservations) == 0 && !lasting && state.Annotations[v1alpha1.AnnotationReleaseAddress] == "" {
		return 0, nil
	}
	namespace := h.speaksOf(state)
	writer := h.reservations.writer(namespace)
	writer.Lock()
	defer writer.Unlock()
	if state, err = get(ctx, h.client, &v1alpha1.TenantState{}, client.ObjectKeyFromObject(state)); err != nil || state == nil {
		return 0, err
	}
	now, grace := h.now(), gracePeriod(h.config.current())
	var kept []v1alpha1.Reservation
	var expired []types.NamespacedName
	for _, r := range state.Status.Reservations {
		key := types.NamespacedName{Namespace: namespace, Name: r.Name}
		lb, err := get(ctx, h.client, &v1alpha1.LoadBalancer{}, key)
		if err != nil {
			return 0, err
		}
		r.ReleaseAfter = releaseAfter(r, grace, now)
		left := r.ReleaseAfter.Sub(now)
		switch {
		case lb != nil && lb.DeletionTimestamp.IsZero() && len(lb.Status.Addresses) > 0:
			// its status.addresses are the reservation again
		case left <= 0 || isReleased(state, r):
			expired = append(expired, key)
		default:
			kept = append(kept, r)
			if next == 0 || left < next {
				next = left
			}
		}
	}
	if err := h.writeReservations(ctx, state, kept); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	h.book.keepUntil(namespace, kept)
	h.book.expire(expired...)
	if lasting && len(kept) == 0 {
		return 0, client.IgnoreNotFound(h.client.Delete(ctx, state))
	}
	return next, h.releaseDone(ctx, state)
}

// releaseAfter is when others may have what is kept: a grace period that became
// shorter holds for what is kept already, one that became longer does not.
func releaseAfter(r v1alpha1.Reservation, grace time.Duration, now time.Time) metav1.Time {
	since := now // of what an older hub wrote it is not known
	if r.Since != nil {
		since = r.Since.Time
	}
	if due := metav1.NewTime(since.Add(grace).Truncate(time.Second)); due.Before(&r.ReleaseAfter) {
		return due
	}
	return r.ReleaseAfter
}

// isReleased reports whether a person released a reservation, by the load
// balancer's name or by one of its addresses.
func isReleased(state *v1alpha1.TenantState, r v1alpha1.Reservation) bool {
	for _, word := range strings.Split(state.Annotations[v1alpha1.AnnotationReleaseAddress], ",") {
		if word = strings.TrimSpace(word); word == r.Name || slices.Contains(r.Addresses, word) {
			return true
		}
	}
	return false
}

// releaseDone removes the annotation, so that it does not hold for what is kept
// later.
func (h *hub) releaseDone(ctx context.Context, state *v1alpha1.TenantState) error {
	if _, asked := state.Annotations[v1alpha1.AnnotationReleaseAddress]; !asked {
		return nil
	}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationReleaseAddress+`":null}}}`))
	if err := h.client.Patch(ctx, state, patch, client.FieldOwner(fieldManager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("remove the annotation %s of TenantState %s: %w", v1alpha1.AnnotationReleaseAddress, client.ObjectKeyFromObject(state), err)
	}
	return nil
}

func (h *hub) writeReservations(ctx context.Context, state *v1alpha1.TenantState, kept []v1alpha1.Reservation) error {
	slices.SortFunc(kept, func(a, b v1alpha1.Reservation) int { return cmp.Compare(a.Name, b.Name) })
	if equality.Semantic.DeepEqual(kept, state.Status.Reservations) {
		return nil
	}
	if kept == nil {
		kept = []v1alpha1.Reservation{}
	}
	if err := h.applyStatus(ctx, state, map[string]any{"reservations": kept}); err != nil {
		return fmt.Errorf("keep the addresses of load balancers that are gone: %w", err)
	}
	return nil
}
