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

package build

import (
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/kubelb/gitops/xds/ir"
)

const defaultMaxEndpoints = 16

func (b *builder) maxEndpoints() int {
	if limit := b.Tenant.Spec.MaxEndpointsPerPort; limit > 0 {
		return int(limit)
	}
	return defaultMaxEndpoints
}

// thin keeps limit of the endpoints, picked by rendezvous hash: each load
// balancer gets a stable choice of its own, and an endpoint that comes or goes
// changes at most one other.
func thin(owner string, endpoints []ir.Endpoint, limit int) []ir.Endpoint {
	if len(endpoints) <= limit {
		return endpoints
	}
	type scored struct {
		ir.Endpoint
		score uint64
	}
	all := make([]scored, 0, len(endpoints))
	for _, e := range endpoints {
		all = append(all, scored{e, score(owner, e.Address)})
	}
	slices.SortFunc(all, func(x, y scored) int {
		return cmp.Or(cmp.Compare(x.score, y.score), compareEndpoints(x.Endpoint, y.Endpoint))
	})
	out := make([]ir.Endpoint, 0, limit)
	for _, e := range all[:limit] {
		out = append(out, e.Endpoint)
	}
	return out
}

func compareEndpoints(x, y ir.Endpoint) int {
	return cmp.Or(cmp.Compare(x.Address, y.Address), cmp.Compare(x.Port, y.Port))
}

func score(owner, address string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(owner))
	h.Write([]byte{0})
	h.Write([]byte(address))
	// FNV alone orders similar addresses alike for every owner: mix its bits.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
