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
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// silence is how long a proxy may leave a response unanswered, or not ask for
// listeners after it connected, before it no longer counts.
const silence = 10 * time.Second

// session is one connected proxy: what it has, what it was sent, what it refused
// and what it has yet to hear of. It is the cache and the callbacks of its
// stream. Everything in it belongs to the group's lock.
type session struct {
	group   *group
	clock   Clock
	log     logr.Logger
	metrics *metrics

	lanes [kinds]*lane
	// uses counts, by cluster, the listeners that the proxy has or was sent.
	uses map[string]int
	// owned counts, by owner, the clusters and listeners that the proxy has. The
	// empty owner has those that only the proxy told of.
	owned map[string]int
	// heard is when the proxy last said something.
	heard    time.Time
	watchdog func() // stops the timer for silence
	closed   bool
}

// lane is one type of resource on one stream. A name is in one unanswered
// response at most.
type lane struct {
	kind    kind
	started bool
	// greet says that the proxy waits for a first response, however empty.
	greet bool
	watch *watch
	// flights are the responses that the proxy has not answered yet, aloft the
	// names in them.
	flights []*flight
	aloft   map[string]aloft
	// known is what the proxy acknowledged, and for clusters and listeners what
	// it is not just being told to drop.
	known map[string]*resource
	// dirty are the names to look at; of the forced the proxy wants to hear
	// again though it has them.
	dirty, forced map[string]struct{}
	// suspects are names to be sent by themselves, a slice at a time.
	suspects [][]string
	refused  map[string]*refusal
	// wanted are the names that the proxy subscribed to (assignments only: it has
	// all clusters and listeners).
	wanted map[string]struct{}
	// waiting are the listeners whose cluster or assignment is on its way.
	waiting map[string]struct{}
	// held are the listeners that an owner no longer has and that stay until its
	// new ones can be sent.
	held map[string][]string
}

// watch is the latest request, and where responses go.
type watch struct {
	request   *discoveryv3.DeltaDiscoveryRequest
	responses chan cache.DeltaResponse
}

// flight is a response that the proxy has not answered yet.
type flight struct {
	// nonce is empty until the response is on the wire.
	nonce   string
	sent    time.Time
	items   []*resource
	removed []*resource
}

// aloft is a name in a response that is not answered.
type aloft struct {
	flight   *flight
	resource *resource
	removal  bool
}

func newSession(g *group, clock Clock, log logr.Logger, m *metrics) *session {
	s := &session{
		group: g, clock: clock, log: log, metrics: m,
		uses: map[string]int{}, owned: map[string]int{}, heard: clock.Now(),
	}
	for k := range kinds {
		s.lanes[k] = &lane{
			kind: k, aloft: map[string]aloft{},
			known: map[string]*resource{}, dirty: map[string]struct{}{}, forced: map[string]struct{}{},
			refused: map[string]*refusal{}, wanted: map[string]struct{}{}, waiting: map[string]struct{}{}, held: map[string][]string{},
		}
	}
	return s
}

// mark puts a name among those to look at.
func (l *lane) mark(name string) { l.dirty[name] = struct{}{} }

// force marks a name that is to be sent even if the proxy has it.
func (l *lane) force(name string) {
	l.mark(name)
	l.forced[name] = struct{}{}
}

// OnDeltaStreamOpen counts the proxy in.
func (s *session) OnDeltaStreamOpen(context.Context, int64, string) error {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s.group.sessions[s] = struct{}{}
	s.guard()
	s.log.Info("Proxy connected", "proxies", len(s.group.sessions), "held", !s.group.open)
	s.group.tellAll()
	return nil
}

// OnDeltaStreamClosed counts the proxy out.
func (s *session) OnDeltaStreamClosed(int64, *corev3.Node) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s.closed = true
	delete(s.group.sessions, s)
	if s.watchdog != nil {
		s.watchdog()
	}
	for _, l := range s.lanes {
		for _, r := range l.refused {
			r.stop()
		}
	}
	s.log.Info("Proxy disconnected", "proxies", len(s.group.sessions))
	s.group.tellAll()
}

// OnStreamDeltaRequest takes what a request says: what the proxy has, what it
// thinks of the last response, which names it wants.
func (s *session) OnStreamDeltaRequest(_ int64, request *discoveryv3.DeltaDiscoveryRequest) error {
	k, ok := kindOf(request.GetTypeUrl())
	if !ok {
		s.log.V(1).Info("Request for a type that is not served", "type", request.GetTypeUrl())
		return nil
	}
	s.metrics.requests.WithLabelValues(request.GetTypeUrl()).Inc()
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s.heard = s.clock.Now()
	l := s.lanes[k]
	first := !l.started
	if first {
		s.begin(l, request.GetInitialResourceVersions())
	}
	if f := l.land(request.GetResponseNonce()); f != nil {
		if detail := request.GetErrorDetail(); detail != nil {
			s.onNack(l, f, detail.GetMessage())
		} else {
			s.onAck(l, f)
		}
	}
	if k == assignments {
		s.subscribe(l, request, first)
	}
	return nil
}

// OnStreamDeltaResponse learns the nonce that a response got, and that the next
// one can be made.
func (s *session) OnStreamDeltaResponse(_ int64, _ *discoveryv3.DeltaDiscoveryRequest, response *discoveryv3.DeltaDiscoveryResponse) {
	s.metrics.responses.WithLabelValues(response.GetTypeUrl()).Inc()
	k, _ := kindOf(response.GetTypeUrl())
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	flights := s.lanes[k].flights
	flights[len(flights)-1].nonce = response.GetNonce()
	s.pump()
}

// CreateDeltaWatch answers a request as soon as there is something to say.
func (s *session) CreateDeltaWatch(request *discoveryv3.DeltaDiscoveryRequest, _ cache.Subscription, responses chan cache.DeltaResponse) (func(), error) {
	k, ok := kindOf(request.GetTypeUrl())
	if !ok {
		return nil, nil
	}
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	l, w := s.lanes[k], &watch{request: request, responses: responses}
	l.watch = w
	s.pump()
	return func() {
		s.group.mu.Lock()
		defer s.group.mu.Unlock()
		if l.watch == w {
			l.watch = nil
		}
	}, nil
}

// CreateWatch refuses state of the world.
func (s *session) CreateWatch(*discoveryv3.DiscoveryRequest, cache.Subscription, chan cache.Response) (func(), error) {
	return nil, errors.New("state of the world is not served")
}

// begin takes what a proxy has when it connects.
func (s *session) begin(l *lane, versions map[string]string) {
	l.started = true
	l.greet = l.kind != assignments && len(versions) == 0
	for name, version := range versions {
		r := reported(l.kind, "", name, version)
		l.known[name] = r
		s.own(r, +1)
		s.use(r, +1)
	}
	s.reconsider(l)
	if l.kind == listeners {
		s.reconsider(s.lanes[clusters]) // now it is known which are in use
	}
	s.group.tellGone()
}

// reconsider marks all that the proxy has or should have.
func (s *session) reconsider(l *lane) {
	for name := range l.known {
		l.mark(name)
	}
	for name := range s.group.desired[l.kind] {
		l.mark(name)
	}
}

// subscribe takes the names that a proxy wants or no longer wants. A name that
// it subscribes to again, it wants to hear again; so does a cluster that was
// changed before the subscription came. And whoever asks for the endpoints of a
// new cluster has taken the cluster, and whoever no longer wants those of a
// removed one has removed it: the ACK may be long in coming, because Envoy sends
// none while any cluster still waits for its first health checks.
func (s *session) subscribe(l *lane, request *discoveryv3.DeltaDiscoveryRequest, first bool) {
	for _, name := range request.GetResourceNamesSubscribe() {
		l.wanted[name] = struct{}{}
		l.mark(name)
		c := s.lanes[clusters]
		sent, under := c.aloft[name]
		if !first || under {
			l.forced[name] = struct{}{}
		}
		if under && !sent.removal && c.known[name] == nil {
			s.onAck(c, c.landOne(name))
		}
	}
	for _, name := range request.GetResourceNamesUnsubscribe() {
		l.unsubscribe(name)
		c := s.lanes[clusters]
		if c.aloft[name].removal {
			s.onAck(c, c.landOne(name))
		}
	}
}

func (l *lane) unsubscribe(name string) {
	delete(l.wanted, name)
	delete(l.known, name)
}

// own counts what the proxy has by owner.
func (s *session) own(r *resource, n int) {
	if r.kind == assignments {
		return // they go with their cluster
	}
	if s.owned[r.owner] += n; s.owned[r.owner] > 0 {
		return
	}
	delete(s.owned, r.owner)
	if r.owner == "" {
		s.group.tellGone()
	}
}

// use counts the listeners of a cluster; when the last goes, so may the cluster.
func (s *session) use(r *resource, n int) {
	if r.kind != listeners {
		return
	}
	if s.uses[r.cluster] += n; s.uses[r.cluster] == 0 {
		delete(s.uses, r.cluster)
		s.lanes[clusters].mark(r.cluster)
	}
}

// silent says that the proxy owes an answer, or its first requests, and said
// nothing for too long.
func (s *session) silent() bool {
	now := s.clock.Now()
	if now.Sub(s.heard) < silence {
		return false
	}
	for _, l := range s.lanes {
		if len(l.flights) > 0 && now.Sub(l.flights[0].sent) >= silence || !l.started && l.kind != assignments {
			return true
		}
	}
	return false
}

// onSilence tells that verdicts may change because the proxy no longer counts,
// and looks again as long as an answer is due.
func (s *session) onSilence() {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s.watchdog = nil
	if s.closed {
		return
	}
	if s.silent() {
		s.group.tellAll()
	}
	for _, l := range s.lanes {
		if len(l.flights) > 0 || !l.started {
			s.guard()
		}
	}
}

// guard sees to it that somebody looks when an answer does not come.
func (s *session) guard() {
	if s.watchdog == nil {
		s.watchdog = s.clock.AfterFunc(silence, s.onSilence)
	}
}
