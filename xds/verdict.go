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

package xds

import (
	"cmp"
	"slices"

	"github.com/kubelb/gitops/xds/ir"
)

// verdict is what the connected proxies say of an owner's part. Nobody waits for
// a proxy that is silent, but what it acknowledged before it has.
func (g *group) verdict(owner string) (out ir.Verdict, known bool) {
	out.Proxies = len(g.sessions)
	p := g.parts[owner]
	if p == nil {
		had := g.gone[owner]
		if !had && len(g.sessions) == 0 {
			return out, false // a proxy that comes back may have it
		}
		if out.Removed = g.removed(owner); out.Removed {
			delete(g.gone, owner)
		} else {
			g.gone[owner] = had // and is told
		}
		return out, true
	}
	out.Hash = p.hash
	acknowledged := false
	for s := range g.sessions {
		all, silent := true, s.silent()
		for _, r := range p.all() {
			l := s.lanes[r.kind]
			if refused := l.refused[r.name]; refused != nil && refused.version == r.version && !silent {
				out.Rejections = append(out.Rejections, ir.Rejection{Resource: r.name, Message: refused.message})
			}
			if have := l.known[r.name]; have == nil || have.version != r.version {
				all = false
			}
		}
		acknowledged = acknowledged || all
	}
	out.Programmed = acknowledged && len(out.Rejections) == 0
	slices.SortFunc(out.Rejections, func(a, b ir.Rejection) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Message, b.Message))
	})
	out.Rejections = slices.Compact(out.Rejections)
	return out, true
}

// removed says that no proxy has anything of an owner without a part. A proxy
// that came from another hub may have something that nobody owns: then it is not
// sure yet.
func (g *group) removed(owner string) bool {
	for s := range g.sessions {
		if s.silent() {
			continue
		}
		started := s.lanes[clusters].started && s.lanes[listeners].started
		if !started || s.owned[owner] > 0 || s.owned[""] > 0 {
			return false
		}
	}
	return true
}
