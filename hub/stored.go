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
	"net/netip"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/xds/ir"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// How long and how often it is looked whether the cache has caught up.
const (
	cachePatience = 5 * time.Second
	cachePoll     = 5 * time.Millisecond
)

// rebuildBook makes the book anew from stored objects: when the hub starts and
// when it becomes the leader. What is known of the proxies stays.
func (h *hub) rebuildBook(ctx context.Context) error {
	config := h.config.current()
	if config == nil {
		return nil
	}
	var states v1alpha1.TenantStateList
	if err := h.client.List(ctx, &states); err != nil {
		return fmt.Errorf("list TenantStates: %w", err)
	}
	// After the states: then it has all addresses of tenants that are restored, and
	// none of them has to be listed by itself.
	list, err := h.listLive(ctx)
	if err != nil {
		return err
	}
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	h.book.reset(config.Spec.AddressPools)
	h.book.load(list)
	for i := range states.Items {
		h.book.reserve(h.speaksOf(&states.Items[i]), &states.Items[i])
		if isRestored(&states.Items[i]) {
			h.book.restored[states.Items[i].Namespace] = true
		}
	}
	for owner := range h.book.served {
		h.book.show(owner)
	}
	h.book.wakeFreed()
	return nil
}

// listLive lists load balancers from the API server, because the cache of them
// may be behind that of TenantStates, and returns when it has caught up.
func (h *hub) listLive(ctx context.Context, options ...client.ListOption) ([]v1alpha1.LoadBalancer, error) {
	var list v1alpha1.LoadBalancerList
	if err := h.live.List(ctx, &list, options...); err != nil {
		return nil, fmt.Errorf("list LoadBalancers: %w", err)
	}
	for i := range list.Items {
		if err := h.waitForCache(ctx, &list.Items[i]); err != nil {
			return nil, err
		}
	}
	return list.Items, nil
}

// loadTenant takes in what was restored of a tenant, once, whoever asks: its old
// addresses come before new ones. It returns true when the cache has what was
// restored and everything is to be read again.
func (h *hub) loadTenant(ctx context.Context, state *v1alpha1.TenantState) (loaded bool, err error) {
	if h.book.isRestored(state.Namespace) {
		return false, nil
	}
	h.book.loading.Lock()
	defer h.book.loading.Unlock()
	if h.book.isRestored(state.Namespace) {
		return true, nil
	}
	list, err := h.listLive(ctx, client.InNamespace(state.Namespace))
	if err != nil {
		return false, err
	}
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	h.book.load(list)
	h.book.reserve(state.Namespace, state)
	h.book.restored[state.Namespace] = true
	h.book.wakeFreed()
	return true, nil
}

// waitForCache returns when the cache has the addresses of a load balancer.
func (h *hub) waitForCache(ctx context.Context, live *v1alpha1.LoadBalancer) error {
	if len(live.Status.Addresses) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cachePatience)
	defer cancel()
	return poll(ctx, cachePoll, func() (bool, error) {
		cached, err := get(ctx, h.client, &v1alpha1.LoadBalancer{}, client.ObjectKeyFromObject(live))
		return cached == nil || len(cached.Status.Addresses) > 0, err
	})
}

func (b *book) isRestored(namespace string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.restored[namespace]
}

// load and reserve are called with mu held.
func (b *book) load(list []v1alpha1.LoadBalancer) {
	for i := range list {
		lb := &list[i]
		if addresses := parseAddresses(lb.Status.Addresses); len(addresses) > 0 {
			b.allocator.Hold(ownerOf(client.ObjectKeyFromObject(lb)), addresses, assign.ParsePorts(lb.Status.Ports))
		}
	}
	for i := range list {
		owner := client.ObjectKeyFromObject(&list[i])
		if claims := claimsOfStatus(&list[i].Status); len(claims) > 0 {
			b.stored[owner] = claims
			b.show(owner)
		}
	}
}

func (b *book) reserve(namespace string, state *v1alpha1.TenantState) {
	for _, r := range state.Status.Reservations {
		b.allocator.Reserve(assign.Owner{Tenant: namespace, Name: r.Name}, reservationOf(r))
	}
}

func reservationOf(r v1alpha1.Reservation) assign.Reservation {
	return assign.Reservation{Addresses: parseAddresses(r.Addresses), Ports: assign.ParsePorts(r.Ports), Until: r.ReleaseAfter.Time}
}

// parseAddresses leaves out what is not an address: the field is written by the
// hub and gitsync only.
func parseAddresses(texts []string) (out []netip.Addr) {
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			out = append(out, address.Unmap())
		}
	}
	return out
}

func formatAddresses(addresses []netip.Addr) []string {
	out := make([]string, 0, len(addresses))
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return out
}

func formatPorts(ports []ir.Port) string {
	words := make([]string, 0, len(ports))
	for _, p := range ports {
		words = append(words, p.String())
	}
	return strings.Join(words, ",")
}

func portsOf(lb *v1alpha1.LoadBalancer) (out []ir.Port) {
	for _, p := range lb.Spec.Ports {
		protocol := ir.Protocol(p.Protocol)
		if protocol == "" {
			protocol = ir.TCP
		}
		out = append(out, ir.Port{Number: uint16(p.Port), Protocol: protocol})
	}
	return out
}

// gracePeriod is how long an address is kept for a load balancer that is gone.
func gracePeriod(config *v1alpha1.Config) time.Duration {
	if config == nil || config.Spec.AddressGracePeriod == nil {
		return defaultAddressGracePeriod
	}
	return config.Spec.AddressGracePeriod.Duration
}
