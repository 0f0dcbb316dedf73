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
	"slices"
	"strings"
	"time"
)

// Waits before a refused resource is tried again: the first, doubling up to the
// last.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
)

// refusal is a version that the proxy does not take.
type refusal struct {
	version  string
	message  string
	attempts int
	// retrying is set from the end of the wait to the answer.
	retrying bool
	// noFallback: the proxy did not take the last good version either.
	noFallback bool
	stop       func()
}

// excuse forgets a refusal.
func (l *lane) excuse(name string) {
	if r := l.refused[name]; r != nil {
		r.stop()
		delete(l.refused, name)
	}
}

// onAck takes a response as applied.
func (s *session) onAck(l *lane, f *flight) {
	for _, r := range f.items {
		s.accept(l, r)
	}
	s.dropped(f)
	s.tellOf(f)
}

// accept notes that the proxy has r.
func (s *session) accept(l *lane, r *resource) {
	if l.kind == assignments && !l.wants(r.name) {
		return // unsubscribed in the meantime
	}
	old := l.known[r.name]
	l.known[r.name] = r
	s.own(r, +1)
	if old != nil {
		s.own(old, -1)
		s.use(old, -1)
	}
	if refused := l.refused[r.name]; refused != nil && refused.version == r.version {
		l.excuse(r.name)
	}
	s.group.accepted(r)
	if l.kind != listeners {
		s.wake(r.owner)
	}
}

// dropped notes that the proxy let go of what f removed. With a cluster it lets
// go of its assignment; it subscribes anew when the cluster comes back.
func (s *session) dropped(f *flight) {
	for _, r := range f.removed {
		s.own(r, -1)
		s.use(r, -1)
		if r.kind == clusters {
			s.lanes[assignments].unsubscribe(r.name)
		}
	}
}

// tellOf says that the verdicts on the owners in f may have changed.
func (s *session) tellOf(f *flight) {
	var owners []string
	for _, r := range slices.Concat(f.items, f.removed) {
		owners = append(owners, r.owner)
	}
	s.group.tell(owners...)
}

// onNack finds out whom a refusal is about. A message that names resources
// condemns those and accepts the rest. Otherwise nothing of the response counts
// as applied: it is sent again in halves until the culprit is alone.
func (s *session) onNack(l *lane, f *flight, message string) {
	s.metrics.nacks.WithLabelValues(s.group.name, typeURLs[l.kind]).Inc()
	s.log.Info("Proxy refused a response", "kind", l.kind.String(), "resources", len(f.items), "message", message)
	named, complete := blame(message, f.items)
	switch {
	case len(f.items) == 0:
		s.dropped(f)
	case len(named) > 0:
		s.condemn(l, f, named, complete)
	case len(f.items) == 1:
		s.takeBack(l, f)
		s.refuse(l, f.items[0], message)
	default:
		s.takeBack(l, f)
		names := make([]string, 0, len(f.items))
		for _, r := range f.items {
			names = append(names, r.name)
			l.forced[r.name] = struct{}{}
		}
		half := len(names) / 2
		l.suspects = append([][]string{names[:half], names[half:]}, l.suspects...)
	}
	s.tellOf(f)
}

// condemn refuses the resources that a message named. Of a message that was cut,
// the others are sent again: they may have been named too.
func (s *session) condemn(l *lane, f *flight, named map[string]string, complete bool) {
	var rest []string
	for _, r := range f.items {
		switch message, bad := named[r.name]; {
		case bad:
			s.use(r, -1)
			s.refuse(l, r, message)
		case complete:
			s.accept(l, r)
		default:
			s.use(r, -1)
			rest = append(rest, r.name)
			l.forced[r.name] = struct{}{}
		}
	}
	if len(rest) > 0 {
		l.suspects = append([][]string{rest}, l.suspects...)
	}
	s.dropped(f)
}

// takeBack undoes what send noted.
func (s *session) takeBack(l *lane, f *flight) {
	for _, r := range f.items {
		s.use(r, -1)
	}
	for _, r := range f.removed {
		l.known[r.name] = r
		l.mark(r.name)
	}
}

// refuse notes that the proxy does not take r, and when to try again.
func (s *session) refuse(l *lane, r *resource, message string) {
	l.mark(r.name)
	s.wake(r.owner)
	desired, refused := s.group.desired[l.kind][r.name], l.refused[r.name]
	switch {
	case desired == nil:
		return
	case desired.version != r.version:
		if refused != nil && refused.version == desired.version {
			refused.noFallback = true
		}
		return // a newer version is on its way
	case refused == nil || refused.version != r.version:
		l.excuse(r.name)
		refused = &refusal{version: r.version}
		l.refused[r.name] = refused
	default:
		refused.stop()
	}
	wait := min(firstRetry<<min(refused.attempts, 10), lastRetry)
	refused.attempts++
	refused.retrying = false
	refused.message = message
	refused.stop = s.clock.AfterFunc(wait, func() { s.retry(l, r.name, refused) })
}

// retry sends a refused resource again, by itself.
func (s *session) retry(l *lane, name string, refused *refusal) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	if s.closed || l.refused[name] != refused {
		return
	}
	if desired := s.group.desired[l.kind][name]; desired == nil || desired.version != refused.version {
		l.excuse(name)
		return
	}
	refused.retrying = true
	l.suspects = append(l.suspects, []string{name})
	s.pump()
}

// cut is how Envoy ends a message that was too long to send whole.
const cut = "...(truncated)"

// blame returns the words for each resource of items that a message names, and
// whether it names all that were refused. Envoy's message is one line per bad
// resource, "name: reason", after a prefix; a message of another form names none.
func blame(message string, items []*resource) (named map[string]string, complete bool) {
	text, ok := strings.CutPrefix(message, "Error adding/updating listener(s) ")
	if !ok {
		text, ok = strings.CutPrefix(message, "Error adding/updating cluster(s) ")
	}
	if !ok {
		return nil, false
	}
	text, truncated := strings.CutSuffix(strings.TrimSpace(text), cut)
	sent := make(map[string]struct{}, len(items))
	for _, r := range items {
		sent[r.name] = struct{}{}
	}
	named = map[string]string{}
	last := ""
	for line := range strings.SplitSeq(text, "\n") {
		name, reason, _ := strings.Cut(line, ": ")
		if _, ok := sent[name]; ok {
			named[name], last = reason, name
		} else if last != "" {
			named[last] += "\n" + line
		}
	}
	return named, !truncated
}
