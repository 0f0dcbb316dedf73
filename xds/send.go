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
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// pump sends what can be sent: in each lane, everything marked that nothing holds
// back. What is held back leaves the marks too; the acknowledgement that it waits
// for marks it again.
func (s *session) pump() {
	if !s.group.open || s.closed {
		return
	}
	for _, l := range s.lanes {
		if !l.ready() {
			continue
		}
		if f := s.next(l); f != nil {
			s.send(l, f)
		}
	}
}

// ready says whether a lane's next response can be made. Waiting for the answer
// to the last one gathers what comes meanwhile; but Envoy answers for clusters
// only when all of them had their first health checks, and one that waits for a
// dead endpoint should not keep the others.
func (l *lane) ready() bool {
	if l.watch == nil {
		return false
	}
	n := len(l.flights)
	return n == 0 || l.kind == clusters && l.flights[n-1].nonce != ""
}

// land takes the response with a nonce out of those under way; nil when there is
// none. Its names may be sent again.
func (l *lane) land(nonce string) *flight {
	if nonce == "" {
		return nil
	}
	i := slices.IndexFunc(l.flights, func(f *flight) bool { return f.nonce == nonce })
	if i < 0 {
		return nil
	}
	f := l.flights[i]
	l.flights = slices.Delete(l.flights, i, i+1)
	landedBefore := func(r *resource) bool { return l.aloft[r.name].flight != f }
	f.items = slices.DeleteFunc(f.items, landedBefore)
	f.removed = slices.DeleteFunc(f.removed, landedBefore)
	for _, r := range slices.Concat(f.items, f.removed) {
		delete(l.aloft, r.name)
		l.mark(r.name)
	}
	return f
}

// landOne takes a name out of the response that carries it.
func (l *lane) landOne(name string) *flight {
	sent := l.aloft[name]
	delete(l.aloft, name)
	l.mark(name)
	if sent.removal {
		return &flight{removed: []*resource{sent.resource}}
	}
	return &flight{items: []*resource{sent.resource}}
}

func (s *session) send(l *lane, f *flight) {
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURLs[l.kind]}
	for _, r := range f.items {
		response.Resources = append(response.Resources, r.wire)
		s.use(r, +1)
		l.aloft[r.name] = aloft{flight: f, resource: r}
		if l.kind == clusters && l.known[r.name] != nil && s.lanes[assignments].wants(r.name) {
			// Envoy makes a changed cluster anew, and that waits for endpoints.
			s.lanes[assignments].force(r.name)
		}
	}
	for _, r := range f.removed {
		response.RemovedResources = append(response.RemovedResources, r.name)
		delete(l.known, r.name)
		l.aloft[r.name] = aloft{flight: f, resource: r, removal: true}
	}
	f.sent = s.clock.Now()
	l.flights = append(l.flights, f)
	s.guard()
	// This cannot block: the channel holds two responses per type, and a lane has
	// one that is not on the wire yet.
	l.watch.responses <- &cache.DeltaPassthroughResponse{
		DeltaRequest:           l.watch.request,
		DeltaDiscoveryResponse: response,
		NextVersionMap:         map[string]string{}, // the session keeps its own
	}
	s.log.V(2).Info("Response", "kind", l.kind.String(), "resources", len(f.items), "removed", len(f.removed))
}

// next composes a lane's next response; nil when there is nothing to say.
func (s *session) next(l *lane) *flight {
	for len(l.suspects) > 0 {
		names := l.suspects[0]
		l.suspects = l.suspects[1:]
		if f := s.compose(l, names); f != nil {
			return f
		}
	}
	f := s.compose(l, slices.Sorted(maps.Keys(l.dirty)))
	if f == nil && l.greet && len(l.waiting) == 0 {
		f = &flight{}
	}
	if f != nil {
		l.greet = false
	}
	return f
}

func (s *session) compose(l *lane, names []string) *flight {
	f := &flight{}
	for _, name := range names {
		s.group.looks++
		delete(l.dirty, name)
		if _, under := l.aloft[name]; under {
			continue // the answer marks it again
		}
		_, again := l.forced[name]
		delete(l.forced, name)
		switch r, what := s.consider(l, name, again); what {
		case add:
			f.items = append(f.items, r)
		case drop:
			f.removed = append(f.removed, r)
		}
	}
	if len(f.items)+len(f.removed) == 0 {
		return nil
	}
	return f
}

// step is what is to be done about a name.
type step int

const (
	nothing step = iota
	add
	drop
)

// consider compares what the proxy has under a name with what it should have.
func (s *session) consider(l *lane, name string, again bool) (*resource, step) {
	desired := s.group.desired[l.kind][name]
	if desired == nil {
		l.excuse(name)
		delete(l.waiting, name)
	} else {
		s.attribute(l, desired)
	}
	want, have := s.want(l, name), l.known[name]
	switch {
	case want == nil && have == nil:
		return nil, nothing
	case want == nil:
		return have, s.considerDrop(l, have)
	case want.wire == nil:
		return nil, nothing // the proxy's own old version, which it keeps
	case have != nil && have.version == want.version && !again:
		return nil, nothing
	case l.kind == assignments && !l.wants(name):
		return nil, nothing
	case l.kind == listeners:
		return s.considerListener(l, want, have)
	}
	return want, add
}

// considerListener lets a listener through, or leaves it to wake. What another
// owner had under the name does not outlive a refusal.
func (s *session) considerListener(l *lane, want, have *resource) (*resource, step) {
	delete(l.waiting, want.name)
	switch gate := s.gate(want); {
	case gate == open:
		return want, add
	case gate == waiting:
		l.waiting[want.name] = struct{}{}
	case have != nil && have.owner != want.owner:
		return have, drop
	}
	return nil, nothing
}

// attribute gives what the proxy has under a name to the owner that has the name
// now, if nobody has it or if it is the very same.
func (s *session) attribute(l *lane, desired *resource) {
	have := l.known[desired.name]
	switch {
	case have == nil || have == desired:
		return
	case have.version == desired.version:
		l.known[desired.name] = desired
		s.group.accepted(desired)
		s.group.tell(have.owner, desired.owner)
	case have.owner == "":
		l.known[desired.name] = reported(l.kind, desired.owner, have.name, have.version)
	default:
		return
	}
	s.own(have, -1)
	s.own(l.known[desired.name], +1)
}

func (l *lane) wants(name string) bool {
	_, ok := l.wanted[name]
	return ok
}

// considerDrop says whether what the proxy has can go now.
func (s *session) considerDrop(l *lane, have *resource) step {
	switch l.kind {
	case clusters:
		if s.uses[have.name] > 0 || !s.lanes[listeners].started {
			return nothing // the last listener to go marks it again
		}
	case assignments:
		return nothing // the proxy unsubscribes when the cluster goes
	case listeners:
		for _, r := range s.group.parts[have.owner].of(listeners) {
			if known := l.known[r.name]; (known == nil || known.version != r.version) && s.gate(r) == waiting {
				l.held[have.owner] = append(l.held[have.owner], have.name)
				return nothing
			}
		}
	}
	return drop
}

// want is what the proxy should have under a name: the newest version unless it
// refused that, then the last good one, then what it has from the same owner.
func (s *session) want(l *lane, name string) *resource {
	desired := s.group.desired[l.kind][name]
	if desired == nil {
		return nil
	}
	refused := l.refused[name]
	if refused == nil || refused.version != desired.version || refused.retrying {
		return desired
	}
	if good := s.group.good[l.kind][name]; good != nil && good.version != desired.version && !refused.noFallback {
		return good
	}
	if have := l.known[name]; have != nil && have.owner == desired.owner {
		return have
	}
	return nil
}

// state says whether a listener can be sent.
type state int

const (
	open    state = iota
	waiting       // its cluster and assignment are on their way
	shut          // its cluster or assignment is refused
)

// gate lets a listener pass when the proxy has acknowledged its cluster and
// assignment.
func (s *session) gate(l *resource) state {
	for _, k := range []kind{clusters, assignments} {
		if k == assignments && s.group.desired[k][l.cluster] == nil {
			continue // found by DNS
		}
		want, have := s.want(s.lanes[k], l.cluster), s.lanes[k].known[l.cluster]
		switch {
		case want == nil:
			return shut
		case have == nil || have.version != want.version:
			return waiting
		}
	}
	return open
}

// wake marks what may have waited for an owner's cluster or assignment.
func (s *session) wake(owner string) {
	l := s.lanes[listeners]
	for _, r := range s.group.parts[owner].of(listeners) {
		l.mark(r.name)
	}
	for _, name := range l.held[owner] {
		l.mark(name)
	}
	delete(l.held, owner)
}
