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
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"

	"github.com/kubelb/gitops/api/repo"
)

const (
	// maxDeltaBase is the largest file that may serve as the base of another
	// while a pack is read; larger ones only leave their name and size.
	maxDeltaBase = 8 << 20
	// maxDeltaRounds is how often waiting deltas are tried again; Git itself
	// makes chains of 50.
	maxDeltaRounds = 64
	// objectOverhead is what an object costs beside its content.
	objectOverhead = 128
	// largeShare is how many bytes of a large file, which is read and not kept,
	// count as one.
	largeShare = 8
)

// packReader takes a pack apart.
type packReader struct {
	scanner *packfile.Scanner
	have    func(Hash) *object // objects outside the pack
	left    int64              // bytes that may still be read

	objects map[Hash]*object
	at      map[int64]*object // by offset in the pack
	waiting []delta
}

type delta struct {
	offset     int64
	base       Hash  // or, if zero,
	baseOffset int64 // in the pack
	data       []byte
}

// readPack returns the objects of a pack of at most limit bytes, inflated.
// Files over repo.MaxFileSize leave their size only.
func readPack(r io.Reader, have func(Hash) *object, limit int64) (map[Hash]*object, error) {
	p := &packReader{
		scanner: packfile.NewScanner(r),
		have:    have,
		left:    limit,
		objects: map[Hash]*object{},
		at:      map[int64]*object{},
	}
	_, count, err := p.scanner.Header()
	if err != nil {
		return nil, malformedPack(err)
	}
	for range count {
		if err := p.next(); err != nil {
			return nil, malformedPack(err)
		}
	}
	if _, err := p.scanner.Checksum(); err != nil {
		return nil, malformedPack(err)
	}
	if err := p.resolve(); err != nil {
		return nil, malformedPack(err)
	}
	for _, o := range p.objects {
		if o.kind == plumbing.BlobObject && o.size > repo.MaxFileSize {
			o.data = nil
		}
	}
	return p.objects, nil
}

func malformedPack(err error) error {
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrMissing) {
		return err
	}
	return fmt.Errorf("%w: pack: %w", ErrMalformed, err)
}

func (p *packReader) spend(n int64) error {
	if n < 0 || n > p.left {
		return fmt.Errorf("pack: %w", ErrTooLarge)
	}
	p.left -= n
	return nil
}

// next reads one object of the pack.
func (p *packReader) next() error {
	h, err := p.scanner.NextObjectHeader()
	if err != nil {
		return err
	}
	if err := p.spend(objectOverhead); err != nil {
		return err
	}
	switch h.Type {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
	case plumbing.OFSDeltaObject, plumbing.REFDeltaObject:
		data, err := p.inflate(h.Length)
		if err != nil {
			return err
		}
		p.waiting = append(p.waiting, delta{offset: h.Offset, base: Hash(h.Reference), baseOffset: h.OffsetReference, data: data})
		return nil
	default:
		return fmt.Errorf("object of type %d", h.Type)
	}
	if h.Type == plumbing.BlobObject && h.Length > maxDeltaBase {
		return p.skipLarge(h)
	}
	data, err := p.inflate(h.Length)
	if err != nil {
		return err
	}
	p.add(h.Offset, hashOf(h.Type, data), &object{kind: h.Type, size: h.Length, data: data})
	return nil
}

func (p *packReader) add(offset int64, h Hash, o *object) {
	p.objects[h] = o
	p.at[offset] = o
}

func (p *packReader) inflate(length int64) ([]byte, error) {
	if err := p.spend(length); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(min(length, 64<<10)))
	n, _, err := p.scanner.NextObject(&b)
	if err != nil {
		return nil, err
	}
	if n != length {
		return nil, errors.New("object is shorter than it says")
	}
	return b.Bytes(), nil
}

// skipLarge reads a large file without keeping it.
func (p *packReader) skipLarge(h *packfile.ObjectHeader) error {
	if err := p.spend(h.Length / largeShare); err != nil {
		return err
	}
	hasher := plumbing.NewHasher(h.Type, h.Length)
	n, _, err := p.scanner.NextObject(hasher)
	if err != nil {
		return err
	}
	if n != h.Length {
		return errors.New("object is shorter than it says")
	}
	p.add(h.Offset, Hash(hasher.Sum()), &object{kind: h.Type, size: h.Length})
	return nil
}

// resolve applies the deltas, bases first.
func (p *packReader) resolve() error {
	for range maxDeltaRounds {
		waiting := p.waiting
		p.waiting = nil
		for _, d := range waiting {
			base := p.base(d)
			if base == nil {
				p.waiting = append(p.waiting, d)
				continue
			}
			if err := p.patch(d, base); err != nil {
				return err
			}
		}
		if len(p.waiting) == 0 {
			return nil
		}
		if len(p.waiting) == len(waiting) {
			return fmt.Errorf("%w: base %s of a delta", ErrMissing, waiting[0].base)
		}
	}
	return errors.New("chains of deltas are too long")
}

func (p *packReader) base(d delta) *object {
	if d.base.IsZero() {
		return p.at[d.baseOffset]
	}
	if o := p.objects[d.base]; o != nil {
		return o
	}
	return p.have(d.base)
}

func (p *packReader) patch(d delta, base *object) error {
	if base.size != int64(len(base.data)) {
		return fmt.Errorf("pack: difference to a file of %d bytes: %w", base.size, ErrTooLarge)
	}
	_, n := binary.Uvarint(d.data) // the size of the base
	if n <= 0 {
		return errors.New("delta without a size")
	}
	size, n := binary.Uvarint(d.data[n:])
	if n <= 0 || size > uint64(p.left) {
		return fmt.Errorf("pack: %w", ErrTooLarge)
	}
	if err := p.spend(int64(size)); err != nil {
		return err
	}
	data, err := packfile.PatchDelta(base.data, d.data)
	if err != nil {
		return err
	}
	p.add(d.offset, hashOf(base.kind, data), &object{kind: base.kind, size: int64(len(data)), data: data})
	return nil
}

// writePack encodes objects.
func writePack(objects []packed) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("PACK")
	b.Write(binary.BigEndian.AppendUint32(nil, 2))
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(objects))))
	z, err := zlib.NewWriterLevel(nil, zlib.BestSpeed)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		// Three bits of type and four of size, then seven bits of size a byte.
		size := uint64(len(o.data))
		head := byte(o.kind)<<4 | byte(size&15)
		for size >>= 4; size > 0; size >>= 7 {
			b.WriteByte(head | 0x80)
			head = byte(size & 0x7f)
		}
		b.WriteByte(head)
		if o.kind == plumbing.REFDeltaObject {
			b.Write(o.base[:])
		}
		z.Reset(&b)
		if _, err := z.Write(o.data); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
	}
	sum := sha1.Sum(b.Bytes())
	b.Write(sum[:])
	return b.Bytes(), nil
}
