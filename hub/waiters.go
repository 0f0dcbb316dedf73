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
	"maps"
	"net/netip"
	"slices"

	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/types"
)

// cause is what an owner waits for. One field is set.
type cause struct {
	address netip.Addr // this address, or a port of it
	tenant  string     // one load balancer less in this namespace
	pools   bool       // any address
	room    bool       // listeners
}

var (
	causePools = cause{pools: true}
	causeRoom  = cause{room: true}
)

// causesOf returns what may end a problem with these addresses.
func causesOf(reason string, addresses []netip.Addr) (out []cause) {
	switch reason {
	case v1alpha1.ReasonAddressInUse, v1alpha1.ReasonPortConflict:
		for _, address := range addresses {
			out = append(out, cause{address: address})
		}
		return out
	}
	return []cause{causePools}
}

// waiters are the owners that were refused something that others may give back,
// by what it is.
type waiters struct {
	owners map[cause]map[types.NamespacedName]bool
	causes map[types.NamespacedName]map[cause]bool
}

func newWaiters() waiters {
	return waiters{owners: map[cause]map[types.NamespacedName]bool{}, causes: map[types.NamespacedName]map[cause]bool{}}
}

func (w waiters) add(owner types.NamespacedName, causes ...cause) {
	for _, c := range causes {
		if w.owners[c] == nil {
			w.owners[c] = map[types.NamespacedName]bool{}
		}
		if w.causes[owner] == nil {
			w.causes[owner] = map[cause]bool{}
		}
		w.owners[c][owner], w.causes[owner][c] = true, true
	}
}

// remove ends that an owner waits for this.
func (w waiters) remove(owner types.NamespacedName, causes ...cause) {
	for _, c := range causes {
		if delete(w.owners[c], owner); len(w.owners[c]) == 0 {
			delete(w.owners, c)
		}
		if delete(w.causes[owner], c); len(w.causes[owner]) == 0 {
			delete(w.causes, owner)
		}
	}
}

// removeAllBut ends that an owner waits for anything else.
func (w waiters) removeAllBut(owner types.NamespacedName, but ...cause) {
	for c := range maps.Clone(w.causes[owner]) {
		if !slices.Contains(but, c) {
			w.remove(owner, c)
		}
	}
}

// of returns who waits for any of these.
func (w waiters) of(causes []cause) []types.NamespacedName {
	owners := map[types.NamespacedName]bool{}
	for _, c := range causes {
		maps.Copy(owners, w.owners[c])
	}
	return slices.Collect(maps.Keys(owners))
}

func (w waiters) all() []types.NamespacedName { return slices.Collect(maps.Keys(w.causes)) }
