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
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// catchUpDepth is how much history is fetched where a branch does not
// continue what is known of it.
const catchUpDepth = 100

// Want names a commit to fetch.
type Want struct {
	// Tip is the commit.
	Tip Hash
	// Have is a commit in the store that Tip probably descends from: usually
	// the last tip of the same branch. Then the commits between come too.
	// Without it comes Tip alone.
	Have Hash
}

// Fetch brings commits and all their files into the store. It is one request,
// or two where some wants have a Have and others do not.
//
// The commits between Have and Tip come as well, also through merges. Where a
// branch was rewritten, up to a hundred commits behind the new tip come. In
// the worst case only Tip comes, and [Store.FirstParents] ends at it.
func (r *Remote) Fetch(ctx context.Context, s *Store, wants ...Want) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if err := r.fetch(ctx, s, wants); err != nil {
		return fmt.Errorf("fetch: %w", serverFault(err))
	}
	return nil
}

func (r *Remote) fetch(ctx context.Context, s *Store, wants []Want) error {
	alone := fetchRequest{depth: 1}
	var onward fetchRequest
	for _, w := range wants {
		if s.sent(w.Tip) {
			continue
		}
		if haves := s.sentFrom(w.Have); len(haves) > 0 {
			onward.wants = append(onward.wants, w.Tip)
			onward.haves = append(onward.haves, haves...)
		} else {
			alone.wants = append(alone.wants, w.Tip)
		}
	}
	if len(onward.wants) > 0 {
		err := r.fetchOnward(ctx, s, onward)
		if errors.Is(err, ErrMissing) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrMalformed) {
			alone.wants = append(alone.wants, onward.wants...)
		} else if err != nil {
			return err
		}
	}
	if len(alone.wants) == 0 {
		return nil
	}
	_, err := r.fetchOnce(ctx, s, alone)
	return err
}

// fetchOnward continues from what is known. A server that does not find the
// wants to descend from it (the branch was rewritten, or clocks disagree) is
// asked again for a limited piece of history.
func (r *Remote) fetchOnward(ctx context.Context, s *Store, q fetchRequest) error {
	q.shallows = s.boundary(q.haves)
	q.negotiate = true
	done, err := r.fetchOnce(ctx, s, q)
	if err != nil || done {
		return err
	}
	q.negotiate = false
	q.depth = catchUpDepth
	_, err = r.fetchOnce(ctx, s, q)
	return err
}

// Deepen loads n commits of history behind tip, with their directories but,
// where the server can leave them out, without files: enough to see which
// commit changed a path. [Store.Has] stays false for them.
func (r *Remote) Deepen(ctx context.Context, s *Store, tip Hash, n int) error {
	return r.DeepenAll(ctx, s, n, tip)
}

// DeepenAll is Deepen for several tips in one request.
func (r *Remote) DeepenAll(ctx context.Context, s *Store, n int, tips ...Hash) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	_, err := r.fetchOnce(ctx, s, fetchRequest{wants: tips, depth: max(n, 0) + 1, treesOnly: true})
	if err != nil {
		return fmt.Errorf("deepen: %w", serverFault(err))
	}
	return nil
}

type fetchRequest struct {
	wants, haves, shallows []Hash
	depth                  int  // 0: all that is not known
	treesOnly              bool // leave files out if possible
	negotiate              bool // send nothing unless all wants descend from haves
}

// fetchOnce is one request. done is false if the server would not send a pack
// for a negotiation.
func (r *Remote) fetchOnce(ctx context.Context, s *Store, q fetchRequest) (done bool, err error) {
	can, _, err := r.advertisement(ctx, uploadPack, nil)
	if err != nil {
		return false, err
	}
	var req packetWriter
	if can.version == 2 {
		r.requestV2(&req, q, can)
	} else {
		r.requestV0(&req, q, can)
	}
	body, err := r.transport.call(ctx, uploadPack, can, req.Bytes())
	if err != nil {
		return false, r.distrust(uploadPack, err)
	}
	defer func() { _ = body.Close() }()
	packets := newPacketReader(body, maxPackAnswer)
	if can.version == 2 {
		done, err = answerV2(packets)
	} else {
		done, err = answerV0(packets)
	}
	if err != nil || !done {
		return false, r.distrust(uploadPack, err)
	}
	received, err := r.receivePackfile(s, packets)
	if err != nil {
		return false, err
	}
	if err := s.checkReceived(received, q); err != nil {
		return false, err
	}
	s.merge(received)
	return true, nil
}

// requestV2 writes the fetch command of protocol version 2.
func (r *Remote) requestV2(req *packetWriter, q fetchRequest, can *advertisement) {
	r.command(req, "fetch")
	req.linef("ofs-delta")
	req.linef("no-progress")
	for _, h := range q.wants {
		req.linef("want %s", h)
	}
	if can.offersIn("fetch", "shallow") {
		for _, h := range q.shallows {
			req.linef("shallow %s", h)
		}
		if q.depth > 0 {
			req.linef("deepen %d", q.depth)
		}
	}
	if q.treesOnly && can.offersIn("fetch", "filter") {
		req.linef("filter blob:none")
	}
	for _, h := range q.haves {
		req.linef("have %s", h)
	}
	if !q.negotiate {
		req.linef("done")
	}
	req.mark(flushPacket)
}

// answerV2 reads up to the pack. It reports false if the answer ends before.
func answerV2(packets *packetReader) (bool, error) {
	for {
		kind, data, err := packets.next()
		switch {
		case errors.Is(err, io.EOF):
			return false, cutOff(err)
		case err != nil:
			return false, err
		case kind == flushPacket:
			return false, nil
		case kind == dataPacket && string(data) == "packfile\n":
			return true, nil
		}
	}
}

// requestV0 writes the request of the older protocols.
func (r *Remote) requestV0(req *packetWriter, q fetchRequest, can *advertisement) {
	caps := "side-band-64k ofs-delta no-progress agent=" + r.agent
	shallow := can.offers("shallow")
	if shallow {
		caps += " shallow"
	}
	treesOnly := q.treesOnly && can.offers("filter")
	if treesOnly {
		caps += " filter"
	}
	for i, h := range q.wants {
		if i == 0 {
			req.linef("want %s %s", h, caps)
		} else {
			req.linef("want %s", h)
		}
	}
	if shallow {
		for _, h := range q.shallows {
			req.linef("shallow %s", h)
		}
		if q.depth > 0 {
			req.linef("deepen %d", q.depth)
		}
	}
	if treesOnly {
		req.linef("filter blob:none")
	}
	req.mark(flushPacket)
	for _, h := range q.haves {
		req.linef("have %s", h)
	}
	req.linef("done")
}

// answerV0 reads up to the pack: first, if asked for, the new boundary of
// history and a flush packet, then one line about what is known in common.
func answerV0(packets *packetReader) (bool, error) {
	for {
		text, ok, err := packets.line()
		switch {
		case err != nil:
			return false, err
		case !ok, strings.HasPrefix(text, "shallow "), strings.HasPrefix(text, "unshallow "):
		case text == "NAK", strings.HasPrefix(text, "ACK "):
			return true, nil
		default:
			return false, fmt.Errorf("%w: %.80q instead of a pack", ErrProtocol, text)
		}
	}
}

func (r *Remote) receivePackfile(s *Store, packets *packetReader) (map[Hash]*object, error) {
	band := &sideband{packets: packets}
	have := func(h Hash) *object {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.objects[h]
	}
	received, err := readPack(band, have, r.packLimit)
	if err == nil {
		_, err = io.Copy(io.Discard, band)
	}
	if cause := band.failure(); cause != nil {
		return nil, cause // rather than what a cut-off pack looks like
	}
	return received, err
}

// checkReceived makes sure that with what was received nothing is missing, so
// that no reader finds out later. A malformed object is passed over: it is an
// error of the reader who meets it, and must not keep others from theirs.
func (s *Store) checkReceived(received map[Hash]*object, q fetchRequest) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	known := func(h Hash) bool { return received[h] != nil || s.objects[h] != nil }
	for _, h := range q.wants {
		if !known(h) {
			return fmt.Errorf("%w: commit %s was not sent", ErrMissing, h)
		}
	}
	for h, o := range received {
		switch o.kind {
		case plumbing.CommitObject:
			o.partial = q.treesOnly
			c, err := parseCommit(h, o.data)
			if err == nil && !known(c.Tree) {
				return fmt.Errorf("%w: tree of commit %s", ErrMissing, h)
			}
		case plumbing.TreeObject:
			entries, _ := parseTree(o.data)
			for _, e := range entries {
				if e.mode == modeSubmodule || q.treesOnly && e.mode != modeDir || known(e.hash) {
					continue
				}
				return fmt.Errorf("%w: %q in tree %s", ErrMissing, e.name, h)
			}
		}
	}
	return nil
}

// sent reports whether the server is known to have the commit h, and marks it
// so: the caller saw it there.
func (s *Store) sent(h Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.complete(h) {
		return false
	}
	s.markSent(h)
	return true
}

// sentFrom returns the newest commits at or behind h that the server has.
func (s *Store) sentFrom(h Hash) []Hash {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []Hash
	seen := map[Hash]bool{h: true}
	for todo := []Hash{h}; len(todo) > 0; todo = todo[1:] {
		if !s.complete(todo[0]) {
			continue
		}
		if !s.objects[todo[0]].unsent {
			found = append(found, todo[0])
			continue
		}
		for _, p := range s.parents(todo[0]) {
			if !seen[p] {
				seen[p] = true
				todo = append(todo, p)
			}
		}
	}
	return found
}

// boundary returns the commits behind haves with a parent that is not here, or
// not whole. The server must not take what lies behind them for known.
func (s *Store) boundary(haves []Hash) []Hash {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []Hash
	seen := map[Hash]bool{}
	for todo := haves; len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[h] {
			continue
		}
		seen[h] = true
		whole := true
		parents := s.parents(h)
		for _, p := range parents {
			whole = whole && s.complete(p)
		}
		if whole {
			todo = append(todo, parents...)
		} else {
			found = append(found, h)
		}
	}
	return found
}

func (s *Store) parents(h Hash) []Hash {
	c, err := parseCommit(h, s.objects[h].data)
	if err != nil {
		return nil
	}
	return c.Parents
}
