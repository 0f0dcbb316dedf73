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

package git

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// RefUpdate moves one ref from Old to New, if it still is at Old. A zero Old
// creates the ref, a zero New deletes it. New need not descend from Old.
type RefUpdate struct {
	Name     string
	Old, New Hash
	// Known says that the server has New already, so that it is not sent; it need
	// not be in the store.
	Known bool
}

// RefResult is what became of one update: nil, [ErrRejected] (as a
// [RejectedError]) or [ErrUnknownOutcome].
type RefResult struct {
	Name string
	Err  error
}

// SupportsAtomic reports whether the server can update several refs all or
// none. It asks once.
func (r *Remote) SupportsAtomic(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	can, _, err := r.advertisement(ctx, receivePack, nil)
	if err != nil {
		return false, fmt.Errorf("ask %s: %w", receivePack, err)
	}
	return can.offers("atomic"), nil
}

// Push updates refs in one request that carries the objects which were made in
// the store and not sent yet. The error is nil if every ref was updated;
// otherwise the results, if there are any, say per ref what happened, in the
// order of the updates.
//
// With atomic all refs are updated or none, and the error is [ErrNoAtomic] if
// the server cannot do that. After [ErrUnknownOutcome] look at the refs.
func (r *Remote) Push(ctx context.Context, s *Store, updates []RefUpdate, atomic bool) ([]RefResult, error) {
	if len(updates) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	results, err := r.push(ctx, s, updates, atomic, (*Store).newBelow)
	if lacksObjects(results) {
		// The server dropped objects that it once had, or never had them. Send
		// all that the commits need.
		results, err = r.push(ctx, s, updates, atomic, (*Store).allBelow)
	}
	if err != nil {
		return results, fmt.Errorf("push: %w", err)
	}
	return results, nil
}

func lacksObjects(results []RefResult) bool {
	for _, res := range results {
		var rejected *RejectedError
		if errors.As(res.Err, &rejected) &&
			(rejected.Reason == "missing necessary objects" || rejected.NotStored() && strings.Contains(strings.ToLower(rejected.Reason+rejected.Messages), "delta")) {
			return true
		}
	}
	return false
}

// collect gathers what a pack has to hold so that the server has tips. thin: the
// server takes differences to what it has.
type collect func(s *Store, tips []Hash, thin bool) ([]packed, error)

func (r *Remote) push(ctx context.Context, s *Store, updates []RefUpdate, atomic bool, objects collect) ([]RefResult, error) {
	for _, u := range updates {
		if !strings.HasPrefix(u.Name, "refs/") || strings.ContainsAny(u.Name, " \t\r\n\x00~^:?*[\\") {
			return nil, fmt.Errorf("%w: ref name %q", ErrMalformed, u.Name)
		}
	}
	can, _, err := r.advertisement(ctx, receivePack, nil)
	if err != nil {
		return nil, err
	}
	if !can.offers("report-status") {
		return nil, fmt.Errorf("%w: it does not report the outcome of pushes", ErrProtocol)
	}
	if atomic && !can.offers("atomic") {
		return nil, ErrNoAtomic
	}
	req, err := r.pushRequest(s, updates, atomic, can, objects)
	if err != nil {
		return nil, err
	}
	body, err := r.transport.call(ctx, receivePack, can, req.Bytes())
	if err != nil {
		return nil, unknownOutcome(r.distrust(receivePack, err))
	}
	defer func() { _ = body.Close() }()
	rep, err := readReport(newPacketReader(body, maxReportAnswer), can.offers("side-band-64k"))
	results := rep.results(updates, r.distrust(receivePack, err))
	for i, u := range updates {
		if results[i].Err == nil {
			s.pushed(u.New)
		}
	}
	var errs []error
	for _, res := range results {
		errs = append(errs, res.Err)
	}
	return results, errors.Join(errs...)
}

func (r *Remote) pushRequest(s *Store, updates []RefUpdate, atomic bool, can *advertisement, objects collect) (*packetWriter, error) {
	caps := "report-status agent=" + r.agent
	for _, c := range []string{"side-band-64k", "quiet"} {
		if can.offers(c) {
			caps += " " + c
		}
	}
	if atomic {
		caps += " atomic"
	}
	if can.offers("object-format") {
		caps += " object-format=sha1"
	}
	req := &packetWriter{}
	var tips []Hash
	deletes := true
	for i, u := range updates {
		line := fmt.Sprintf("%s %s %s", u.Old, u.New, u.Name)
		if i == 0 {
			line += "\x00 " + caps
		}
		req.linef("%s", line)
		deletes = deletes && u.New.IsZero()
		if !u.New.IsZero() && !u.Known {
			tips = append(tips, u.New)
		}
	}
	req.mark(flushPacket)
	if deletes {
		return req, nil // without a pack
	}
	news, err := objects(s, tips, !can.offers("no-thin"))
	if err != nil {
		return nil, err
	}
	pack, err := writePack(news)
	if err != nil {
		return nil, err
	}
	req.Write(pack)
	return req, nil
}

// unknownOutcome tells failures after which the server may have updated refs
// from those after which it has not.
func unknownOutcome(err error) error {
	var call *callError
	switch {
	case errors.As(err, &call) && call.sent:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, call.cause)
	case errors.Is(err, ErrProtocol):
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return err
}

// report is the server's answer to a push.
type report struct {
	unpack   string            // "ok", or why no object was taken
	refs     map[string]string // "" if updated, else the reason
	messages string
}

// readReport reads what there is; the report is usable also with an error.
func readReport(packets *packetReader, multiplexed bool) (*report, error) {
	rep := &report{refs: map[string]string{}}
	var band *sideband
	inner := packets
	if multiplexed {
		band = &sideband{packets: packets}
		inner = newPacketReader(band, maxReportAnswer)
	}
	err := rep.read(inner)
	if band != nil {
		if cause := band.failure(); cause != nil {
			err = cause
		}
		rep.messages = printable(band.messages.String(), 1000)
	}
	return rep, err
}

func (rep *report) read(packets *packetReader) error {
	for {
		text, ok, err := packets.line()
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		verb, rest, _ := strings.Cut(text, " ")
		switch verb {
		case "unpack":
			rep.unpack = rest
		case "ok":
			rep.refs[rest] = ""
		case "ng":
			ref, reason, _ := strings.Cut(rest, " ")
			rep.refs[ref] = printable(reason, 300)
		default:
			return fmt.Errorf("%w: %.80q in a report", ErrProtocol, text)
		}
	}
}

func (rep *report) results(updates []RefUpdate, cause error) []RefResult {
	if cause == nil {
		cause = errors.New("the server did not report it")
	}
	var call *callError
	if errors.As(cause, &call) {
		cause = call.cause
	}
	results := make([]RefResult, len(updates))
	for i, u := range updates {
		results[i].Name = u.Name
		reason, told := rep.refs[u.Name]
		switch {
		case rep.unpack != "" && rep.unpack != "ok":
			results[i].Err = &RejectedError{Ref: u.Name, Reason: "unpack: " + printable(rep.unpack, 300), Messages: rep.messages}
		case !told:
			results[i].Err = fmt.Errorf("%s: %w: %w", u.Name, ErrUnknownOutcome, cause)
		case reason != "":
			results[i].Err = &RejectedError{Ref: u.Name, Reason: reason, Messages: rep.messages}
		}
	}
	return results
}

// newBelow packs what was made here and not sent.
func (s *Store) newBelow(tips []Hash, thin bool) ([]packed, error) {
	objects, err := s.unsentBelow(tips)
	if err != nil || !thin {
		return whole(objects), err
	}
	return s.thin(objects), nil
}

// unsentBelow returns the objects at and below tips that were made here and
// not sent.
func (s *Store) unsentBelow(tips []Hash) ([]*object, error) {
	return s.collect(tips, func(o *object) bool { return o.unsent })
}

// allBelow packs all objects that the tips need, but for older commits that were
// sent and for files that are not held.
func (s *Store) allBelow(tips []Hash, _ bool) ([]packed, error) {
	objects, err := s.collect(tips, func(o *object) bool { return int64(len(o.data)) == o.size })
	return whole(objects), err
}

func (s *Store) collect(tips []Hash, take func(*object) bool) ([]*object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var objects []*object
	seen := map[Hash]bool{}
	for _, tip := range tips {
		if s.objects[tip] == nil {
			return nil, fmt.Errorf("%w: commit %s", ErrMissing, tip)
		}
		s.walk(tip, seen, func(_ Hash, o *object) bool {
			if take(o) {
				objects = append(objects, o)
				return true
			}
			return false
		})
	}
	return objects, nil
}

// pushed notes that the server has h and all below it.
func (s *Store) pushed(h Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markSent(h)
}

// markSent is pushed under the lock. An unsent commit's objects are unsent or
// were received, so it is enough to follow the unsent ones.
func (s *Store) markSent(h Hash) {
	var fresh []*object
	s.walk(h, map[Hash]bool{}, func(_ Hash, o *object) bool {
		if o.unsent {
			fresh = append(fresh, o)
		}
		return o.unsent
	})
	for _, o := range fresh {
		o.unsent = false
	}
}
