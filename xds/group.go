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
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kubelb/gitops/xds/ir"
)

// group is what one group of proxies is to serve, and the proxies connected.
type group struct {
	name string
	// publishing is held by a whole publication, mu only where state is touched.
	publishing sync.Mutex

	mu    sync.Mutex
	open  bool
	parts map[string]*part
	// desired has the newest version of every resource by name; good the newest
	// that a proxy acknowledged, of the same owner.
	desired  [kinds]map[string]*resource
	good     [kinds]map[string]*resource
	sessions map[*session]struct{}
	// gone are owners without a part of whose end somebody waits to hear: true for
	// those that had one here.
	gone map[string]bool
	// looks counts the resources examined to answer proxies.
	looks int
	// compile makes resources of a part.
	compile func(owner, hash string, p ir.Part) (*part, error)
	// news is called with mu held when the verdicts on owners may have changed.
	news func(group string, owners []string)
}

func newGroup(name string, news func(string, []string)) *group {
	g := &group{
		name: name, news: news, compile: newPart,
		parts: map[string]*part{}, sessions: map[*session]struct{}{}, gone: map[string]bool{},
	}
	for k := range kinds {
		g.desired[k] = map[string]*resource{}
		g.good[k] = map[string]*resource{}
	}
	return g
}

// outcome says what a publication did, for the metrics.
type outcome struct {
	hits, misses, clears int
	took                 time.Duration
}

// publish takes new parts; nil removes an owner's. It returns an error per owner
// whose part cannot be served; such an owner keeps what it had.
func (g *group) publish(parts map[string]*ir.Part) (errs map[string]error, done outcome) {
	g.publishing.Lock()
	defer g.publishing.Unlock()
	errs = map[string]error{}
	changes, done := g.translate(parts, errs)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.admit(changes, errs)
	for owner, p := range parts {
		if p == nil {
			g.gone[owner] = g.gone[owner] || g.parts[owner] != nil
		}
	}
	g.apply(changes)
	for s := range g.sessions {
		s.pump()
	}
	g.tell(slices.Collect(maps.Keys(changes))...)
	g.tellGone()
	return errs, done
}

// translate makes parts of what is new. Only publish changes g.parts, so that
// reading it needs no more than the publishing lock.
func (g *group) translate(parts map[string]*ir.Part, errs map[string]error) (changes map[string]*part, done outcome) {
	changes = map[string]*part{}
	for owner, p := range parts {
		old := g.parts[owner]
		if p == nil {
			if old != nil {
				changes[owner] = nil
				done.clears++
			}
			continue
		}
		hash := p.Hash()
		if old != nil && old.hash == hash {
			done.hits++
			continue
		}
		done.misses++
		made, err := g.compile(owner, hash, *p)
		if err != nil {
			errs[owner] = err
			continue
		}
		changes[owner] = made
	}
	return changes, done
}

// admit takes out of changes the owners that claim a name that another one
// keeps, or that one before them in the alphabet claims as well. An owner taken
// out keeps its old names, so others may have to go too.
func (g *group) admit(changes map[string]*part, errs map[string]error) {
	type claim struct {
		kind kind
		name string
	}
	for settled := false; !settled; {
		settled = true
		claims := map[claim]string{}
		for _, owner := range slices.Sorted(maps.Keys(changes)) {
			for _, r := range changes[owner].all() {
				other, taken := claims[claim{r.kind, r.name}]
				if d := g.desired[r.kind][r.name]; d != nil && d.owner != owner {
					if _, moves := changes[d.owner]; !moves {
						other, taken = d.owner, true
					}
				}
				if taken {
					errs[owner] = fmt.Errorf("%s %s is already %s's", r.kind, r.name, other)
					delete(changes, owner)
					settled = false
					break
				}
				claims[claim{r.kind, r.name}] = owner
			}
		}
	}
}

// apply makes changes the desired state and marks every name in them for every
// session. First all give up what they had: a listener may pass from one owner
// to another.
func (g *group) apply(changes map[string]*part) {
	var touched []*resource
	for owner := range changes {
		for _, r := range g.parts[owner].all() {
			delete(g.desired[r.kind], r.name)
			touched = append(touched, r)
		}
	}
	for owner, p := range changes {
		for s := range g.sessions {
			s.wake(owner)
		}
		if p == nil {
			delete(g.parts, owner)
			continue
		}
		delete(g.gone, owner)
		g.parts[owner] = p
		for _, r := range p.all() {
			g.desired[r.kind][r.name] = r
			touched = append(touched, r)
		}
	}
	for _, r := range touched {
		// What one owner had is no fallback for another.
		if d, old := g.desired[r.kind][r.name], g.good[r.kind][r.name]; old != nil && (d == nil || d.owner != old.owner) {
			delete(g.good[r.kind], r.name)
		}
		for s := range g.sessions {
			s.lanes[r.kind].mark(r.name)
		}
	}
}

// accepted notes that a proxy acknowledged r.
func (g *group) accepted(r *resource) {
	if d := g.desired[r.kind][r.name]; d != nil && d.version == r.version && d.owner == r.owner {
		g.good[r.kind][r.name] = d
	}
}

// tell says that the verdicts on these owners may have changed.
func (g *group) tell(owners ...string) {
	if len(owners) > 0 {
		g.news(g.name, owners)
	}
}

// tellAll says that every verdict may have changed.
func (g *group) tellAll() {
	g.tell(slices.Collect(maps.Keys(g.parts))...)
	g.tellGone()
}

// tellGone says that owners that are gone may have become so for every proxy.
func (g *group) tellGone() { g.tell(slices.Collect(maps.Keys(g.gone))...) }
