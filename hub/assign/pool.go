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

package assign

import (
	"container/heap"
	"fmt"
	"net/netip"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// pool is a pool with a way to its lowest free address that does not look at
// those in use.
type pool struct {
	name  string
	spans []*span
}

// span is a range of addresses. Everything from next on was never looked at;
// what became free before it is in freed.
type span struct {
	v1alpha1.AddressRange
	next   netip.Addr // invalid: all were looked at
	freed  addressHeap
	queued map[netip.Addr]bool // what is in freed
}

// parsePools leaves out, with a problem, what is not a range or overlaps one
// before it, and pools in which nothing remains.
func parsePools(pools []v1alpha1.AddressPool) (out []pool, problems []v1alpha1.Problem) {
	var all []*span
	for _, spec := range pools {
		p := pool{name: spec.Name}
		for i, text := range spec.CIDRs {
			r, err := v1alpha1.ParseAddressRange(text)
			if err == nil {
				err = overlap(all, r)
			}
			if err != nil {
				problems = append(problems, v1alpha1.Problem{
					Field:  fmt.Sprintf("spec.addressPools[%s].cidrs[%d]", spec.Name, i),
					Reason: v1alpha1.ReasonInvalid, Message: err.Error(), Remedy: "correct or remove the entry",
				})
				continue
			}
			s := &span{AddressRange: r, next: r.First, queued: map[netip.Addr]bool{}}
			p.spans, all = append(p.spans, s), append(all, s)
		}
		if len(p.spans) > 0 {
			out = append(out, p)
		}
	}
	return out, problems
}

func overlap(spans []*span, r v1alpha1.AddressRange) error {
	for _, s := range spans {
		if s.Overlaps(r) {
			return fmt.Errorf("%s overlaps %s, which is in a pool already", r, s)
		}
	}
	return nil
}

// family is the length in bits of the pool's first addresses.
func (p *pool) family() int { return p.spans[0].First.BitLen() }

func (p *pool) span(address netip.Addr) *span {
	for _, s := range p.spans {
		if s.Contains(address) {
			return s
		}
	}
	return nil
}

// lowest returns the first free address of a family, spans in their order.
func (p *pool) lowest(family int, isFree func(netip.Addr) bool) (netip.Addr, bool) {
	for _, s := range p.spans {
		if s.First.BitLen() != family {
			continue
		}
		if address, ok := s.lowest(isFree); ok {
			return address, true
		}
	}
	return netip.Addr{}, false
}

func (s *span) lowest(isFree func(netip.Addr) bool) (netip.Addr, bool) {
	for len(s.freed) > 0 {
		if isFree(s.freed[0]) {
			return s.freed[0], true
		}
		delete(s.queued, heap.Pop(&s.freed).(netip.Addr))
	}
	for s.next.IsValid() {
		if isFree(s.next) {
			return s.next, true
		}
		if s.next == s.Last {
			s.next = netip.Addr{}
		} else {
			s.next = s.next.Next()
		}
	}
	return netip.Addr{}, false
}

// free notes that an address became free.
func (p *pool) free(address netip.Addr) {
	s := p.span(address)
	if s == nil || s.queued[address] || s.next.IsValid() && !address.Less(s.next) {
		return
	}
	s.queued[address] = true
	heap.Push(&s.freed, address)
}

type addressHeap []netip.Addr

func (h addressHeap) Len() int           { return len(h) }
func (h addressHeap) Less(i, j int) bool { return h[i].Less(h[j]) }
func (h addressHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is part of heap.Interface.
func (h *addressHeap) Push(x any) { *h = append(*h, x.(netip.Addr)) }

// Pop is part of heap.Interface.
func (h *addressHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
