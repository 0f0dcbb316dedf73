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
	"encoding/binary"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	// deltaFrom is the size from which a tree is sent as a difference.
	deltaFrom = 512
	// maxCopy is the most that one instruction of a delta copies.
	maxCopy = 0x10000
	// maxInsert is the most that one instruction inserts.
	maxInsert = 0x7f
	// maxBase is how many versions of a tree are passed over to find one that the
	// server has.
	maxBase = 1000
)

// packed is an object as it stands in a pack: whole, or as a difference to one
// that the server has.
type packed struct {
	kind plumbing.ObjectType
	data []byte
	base Hash // of a difference
}

// whole packs objects as they are.
func whole(objects []*object) []packed {
	list := make([]packed, len(objects))
	for i, o := range objects {
		list[i] = packed{kind: o.kind, data: o.data}
	}
	return list
}

// thin packs trees that were edited as differences to the version that the server
// has, where that is less than half. The list of a thousand tenants is 35 KiB, and
// each change of one of them makes a new one.
func (s *Store) thin(objects []*object) []packed {
	list := whole(objects)
	for i, o := range objects {
		if o.kind != plumbing.TreeObject || len(o.data) < deltaFrom {
			continue
		}
		base, ok := s.sentVersion(o)
		if !ok {
			continue
		}
		before, err := s.entries(base)
		if err != nil {
			continue
		}
		after, err := parseTree(o.data)
		if err != nil {
			continue
		}
		if delta := treeDelta(before, after); len(delta) < len(o.data)/2 {
			list[i] = packed{kind: plumbing.REFDeltaObject, data: delta, base: base}
		}
	}
	return list
}

// sentVersion finds the newest version of a tree, at or before what it was edited
// from, that the server has.
func (s *Store) sentVersion(o *object) (Hash, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for range maxBase {
		h := o.from
		if o = s.objects[h]; h.IsZero() || o == nil || o.kind != plumbing.TreeObject {
			return Hash{}, false
		}
		if !o.unsent {
			return h, true
		}
	}
	return Hash{}, false
}

// treeDelta is the difference between two trees in the format of packs
// (gitformat-pack, "Deltified representation"): entries that both have are copied,
// the others are inserted.
func treeDelta(before, after []treeEntry) []byte {
	d := deltaWriter{}
	d.out = binary.AppendUvarint(binary.AppendUvarint(nil, treeSize(before)), treeSize(after))
	at, i := uint64(0), 0 // the place in before, in bytes and in entries
	for _, e := range after {
		for i < len(before) && compareKeys(before[i], e) < 0 {
			at += before[i].size()
			i++
		}
		if i < len(before) && before[i] == e {
			d.copy(at, e.size())
		} else {
			d.insert(e.encode(nil))
		}
	}
	d.flush()
	return d.out
}

func treeSize(entries []treeEntry) (n uint64) {
	for _, e := range entries {
		n += e.size()
	}
	return n
}

// deltaWriter collects instructions; neighbours become one.
type deltaWriter struct {
	out      []byte
	from, to uint64 // to be copied
	inserted []byte // to be inserted, after what is to be copied
}

func (d *deltaWriter) copy(at, size uint64) {
	if len(d.inserted) > 0 || at != d.to {
		d.flush()
		d.from = at
	}
	d.to = at + size
}

func (d *deltaWriter) insert(data []byte) { d.inserted = append(d.inserted, data...) }

func (d *deltaWriter) flush() {
	for d.from < d.to {
		n := min(d.to-d.from, maxCopy)
		d.copyOne(d.from, n)
		d.from += n
	}
	for len(d.inserted) > 0 {
		n := min(len(d.inserted), maxInsert)
		d.out = append(append(d.out, byte(n)), d.inserted[:n]...)
		d.inserted = d.inserted[n:]
	}
	d.from, d.to, d.inserted = 0, 0, nil
}

// copyOne writes one instruction: a bit for each byte of offset and size that
// follows, lowest first; zero bytes are left out, and size 0 means maxCopy.
func (d *deltaWriter) copyOne(offset, size uint64) {
	at := len(d.out)
	op := byte(0x80)
	d.out = append(d.out, 0)
	for i := range 4 {
		if b := byte(offset >> (8 * i)); b != 0 {
			op |= 1 << i
			d.out = append(d.out, b)
		}
	}
	for i := range 2 {
		if b := byte(size >> (8 * i)); b != 0 && size != maxCopy {
			op |= 0x10 << i
			d.out = append(d.out, b)
		}
	}
	d.out[at] = op
}
