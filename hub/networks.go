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
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/build"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// machineInterval is how often the hub looks whether its machine has other
// addresses than before.
const machineInterval = 30 * time.Second

// networks are those that no tenant's endpoint may be in: the flag's, the
// Config's and the addresses of this machine.
type networks struct {
	mu      sync.Mutex
	fixed   []netip.Prefix
	config  []netip.Prefix
	machine []netip.Prefix
	// due are addresses of which it is to be judged anew whether they are external.
	due  []netip.Addr
	news chan struct{}
}

func newNetworks(fixed []netip.Prefix) *networks {
	return &networks{fixed: fixed, news: make(chan struct{}, 1)}
}

func (n *networks) current() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Concat(n.fixed, n.config, n.machine)
}

// change replaces the networks of one origin and returns which addresses are
// judged otherwise than before.
func (n *networks) change(origin *[]netip.Prefix, to []netip.Prefix) (changed func(netip.Addr) bool) {
	before := n.current()
	n.mu.Lock()
	*origin = to
	n.mu.Unlock()
	after := n.current()
	if slices.Equal(before, after) {
		return nil
	}
	return func(a netip.Addr) bool { return within(before, a) != within(after, a) }
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// judge has these addresses judged anew. It does not block.
func (n *networks) judge(addresses []netip.Addr) {
	n.mu.Lock()
	n.due = append(n.due, addresses...)
	n.mu.Unlock()
	select {
	case n.news <- struct{}{}:
	default:
	}
}

func (n *networks) takeDue() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	due := n.due
	n.due = nil
	return due
}

// rangesOf returns the addresses of pools.
func rangesOf(pools []v1alpha1.AddressPool) (out []v1alpha1.AddressRange) {
	for _, pool := range pools {
		for _, text := range pool.CIDRs {
			if r, err := v1alpha1.ParseAddressRange(text); err == nil {
				out = append(out, r)
			}
		}
	}
	return out
}

func inRanges(ranges []v1alpha1.AddressRange, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r v1alpha1.AddressRange) bool { return r.Contains(a) })
}

func parseNetworks(texts []string) (out []netip.Prefix) {
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil { // else it is a problem of the Config
			out = append(out, prefix.Masked())
		}
	}
	return out
}

// rejudge has those load balancers reconciled of which an endpoint is judged
// otherwise than before. It looks at all endpoints in memory and builds only those.
func (h *hub) rejudge(ctx context.Context, changed func(netip.Addr) bool) error {
	if changed == nil {
		return nil
	}
	isChanged := func(a v1alpha1.EndpointAddress) bool { return slices.ContainsFunc(build.Reaches(a), changed) }
	var nodes v1alpha1.AddressesList
	if err := h.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list Addresses: %w", err)
	}
	touched := map[types.NamespacedName]bool{}
	for i := range nodes.Items {
		if slices.ContainsFunc(nodes.Items[i].Spec.Addresses, isChanged) {
			touched[client.ObjectKeyFromObject(&nodes.Items[i])] = true
		}
	}
	var list v1alpha1.LoadBalancerList
	if err := h.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list LoadBalancers: %w", err)
	}
	for i := range list.Items {
		lb := &list.Items[i]
		if slices.ContainsFunc(lb.Spec.Endpoints, func(e v1alpha1.LoadBalancerEndpoints) bool {
			ref := e.AddressesReference
			return slices.ContainsFunc(e.Addresses, isChanged) || ref != nil && touched[types.NamespacedName{Namespace: lb.Namespace, Name: ref.Name}]
		}) {
			h.queue.add(client.ObjectKeyFromObject(lb))
		}
	}
	return nil
}

// judging follows what endpoints must not be. It runs on every replica.
type judging struct{ *hub }

// NeedLeaderElection is part of manager.LeaderElectionRunnable.
func (j judging) NeedLeaderElection() bool { return false }

// Start is part of manager.Runnable.
func (j judging) Start(ctx context.Context) error {
	ticker := time.NewTicker(machineInterval)
	defer ticker.Stop()
	for {
		var changed func(netip.Addr) bool
		select {
		case <-ctx.Done():
			return nil
		case <-j.networks.news:
			due := j.networks.takeDue()
			changed = func(a netip.Addr) bool { return slices.Contains(due, a) }
		case <-ticker.C:
			machine, err := machineNetworks()
			if err != nil {
				log.FromContext(ctx).Error(err, "the addresses of this machine are those from before")
				continue
			}
			changed = j.networks.change(&j.networks.machine, machine)
		}
		if err := j.rejudge(ctx, changed); err != nil {
			return err
		}
	}
}

// machineNetworks returns the addresses of this machine but for loopback, which
// is refused anyway.
func machineNetworks() (out []netip.Prefix, err error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("hub: list this machine's addresses: %w", err)
	}
	for _, a := range addresses {
		network, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(network.IP); ok && !ip.IsLoopback() {
			out = append(out, netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
		}
	}
	return out, nil
}
