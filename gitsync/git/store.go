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
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/kubelb/gitops/api/repo"
)

// maxDepth bounds how deep directories may be nested, maxEntries how many
// files one call reports: a few small objects can describe a tree of billions.
const (
	maxDepth   = 64
	maxEntries = 500_000
)

// Store holds objects of one repository in memory. It is safe for concurrent
// use. What it returns shares memory with it and must not be changed.
type Store struct {
	mu      sync.RWMutex
	objects map[Hash]*object
	bytes   int64
}

// object is immutable but for its marks, which the Store's lock guards.
type object struct {
	kind plumbing.ObjectType
	size int64
	data []byte // nil for a file over repo.MaxFileSize
	// entries of a large tree that was parsed already.
	entries atomic.Pointer[[]treeEntry]

	// unsent: made here, and not known to be at the server.
	unsent bool
	// from is the tree that a tree was edited from.
	from Hash
	// partial: a commit whose files may be missing (see Remote.Deepen).
	partial bool
}

// NewStore returns an empty Store.
func NewStore() *Store { return &Store{objects: map[Hash]*object{}} }

// Stats says how much a Store holds.
type Stats struct {
	Objects int
	Bytes   int64
}

// Stats returns the present size, for metrics.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{Objects: len(s.objects), Bytes: s.bytes}
}

// Has reports whether the commit h is here with all its files.
func (s *Store) Has(h Hash) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.complete(h)
}

// complete is Has under the lock.
func (s *Store) complete(h Hash) bool {
	o := s.objects[h]
	return o != nil && o.kind == plumbing.CommitObject && !o.partial
}

func (s *Store) get(h Hash, kind plumbing.ObjectType) (*object, error) {
	s.mu.RLock()
	o := s.objects[h]
	s.mu.RUnlock()
	switch {
	case o == nil:
		return nil, fmt.Errorf("%w: %s %s", ErrMissing, kind, h)
	case o.kind != kind:
		return nil, fmt.Errorf("%w: %s is a %s, not a %s", ErrMalformed, h, o.kind, kind)
	}
	return o, nil
}

// put adds an object made here.
func (s *Store) put(kind plumbing.ObjectType, data []byte) Hash {
	return s.putEdited(kind, data, Hash{})
}

// putEdited adds an object that was made from another one.
func (s *Store) putEdited(kind plumbing.ObjectType, data []byte, from Hash) Hash {
	h := hashOf(kind, data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[h] == nil {
		s.objects[h] = &object{kind: kind, size: int64(len(data)), data: data, unsent: true, from: from}
		s.bytes += int64(len(data))
	}
	return h
}

// merge adds objects that the server sent.
func (s *Store) merge(received map[Hash]*object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h, o := range received {
		if old := s.objects[h]; old != nil {
			old.unsent = false
			old.partial = old.partial && o.partial
			continue
		}
		s.objects[h] = o
		s.bytes += int64(len(o.data))
	}
}

// Retain drops every object but the given commits (or trees), their files,
// and what was written on top of them and not pushed yet. Older commits go:
// load them again with [Remote.Deepen]. Whatever is still being worked with,
// in any goroutine, must be among the tips.
func (s *Store) Retain(tips ...Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make(map[Hash]*object, len(s.objects))
	seen := make(map[Hash]bool, len(s.objects))
	for _, tip := range tips {
		s.walk(tip, seen, func(h Hash, o *object) bool {
			kept[h] = o
			return true
		})
	}
	s.objects, s.bytes = kept, 0
	for _, o := range kept {
		s.bytes += int64(len(o.data))
	}
}

// walk visits h and what is below it, once each, where visit says to go on.
// What is missing or malformed is passed over: the reader who needs it gets
// the error.
func (s *Store) walk(h Hash, seen map[Hash]bool, visit func(Hash, *object) bool) {
	for todo := []Hash{h}; len(todo) > 0; {
		h, todo = todo[len(todo)-1], todo[:len(todo)-1]
		o := s.objects[h]
		if o == nil || seen[h] {
			continue
		}
		seen[h] = true
		if visit(h, o) {
			todo = append(todo, s.below(o)...)
		}
	}
}

// below lists what an object needs: a commit its tree, and its parents while
// it is unsent; a tree its entries.
func (s *Store) below(o *object) []Hash {
	var below []Hash
	switch o.kind {
	case plumbing.CommitObject:
		if c, err := parseCommit(Hash{}, o.data); err == nil {
			below = append(below, c.Tree)
			if o.unsent {
				below = append(below, c.Parents...)
			}
		}
	case plumbing.TreeObject:
		entries, _ := parseTree(o.data)
		for _, e := range entries {
			if e.mode != modeSubmodule {
				below = append(below, e.hash)
			}
		}
	}
	return below
}

// Entry is a file or a directory in a tree.
type Entry struct {
	Hash Hash
	// Dir is true for a directory; Mode is that of a file.
	Dir  bool
	Mode repo.FileMode
}

// Lookup finds the file or directory at path below the tree root. The empty
// path is root itself.
func (s *Store) Lookup(root Hash, path string) (Entry, bool, error) {
	at := Entry{Hash: root, Dir: true}
	if root.IsZero() {
		return at, path == "", nil
	}
	if path == "" {
		return at, true, nil
	}
	names, err := splitPath(path)
	if err != nil {
		return Entry{}, false, err
	}
	for _, name := range names {
		if !at.Dir {
			return Entry{}, false, nil
		}
		entries, err := s.entries(at.Hash)
		if err != nil {
			return Entry{}, false, fmt.Errorf("%s: %w", path, err)
		}
		e, ok := find(entries, name)
		if !ok {
			return Entry{}, false, nil
		}
		at = Entry{Hash: e.hash, Dir: e.mode == modeDir, Mode: e.fileMode()}
	}
	return at, true, nil
}

// Subtree returns the tree of the directory dir, if there is one.
func (s *Store) Subtree(root Hash, dir string) (Hash, bool, error) {
	e, ok, err := s.Lookup(root, dir)
	if err != nil || !ok || !e.Dir {
		return Hash{}, false, err
	}
	return e.Hash, true, nil
}

// File returns the file at path, if there is one. A file over
// [repo.MaxFileSize] has a Size and no Data; a symbolic link or a submodule
// has neither.
func (s *Store) File(root Hash, path string) (repo.File, bool, error) {
	e, ok, err := s.Lookup(root, path)
	if err != nil || !ok || e.Dir {
		return repo.File{}, false, err
	}
	f, err := s.read(e.Hash, e.Mode)
	if err != nil {
		return repo.File{}, false, fmt.Errorf("%s: %w", path, err)
	}
	return f, true, nil
}

// HasFile reports whether a file's content is here.
func (s *Store) HasFile(h Hash) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.objects[h] != nil
}

// PutFile makes a file's content known, before a tree has it.
func (s *Store) PutFile(content []byte) Hash { return s.put(plumbing.BlobObject, content) }

func (s *Store) read(h Hash, mode repo.FileMode) (repo.File, error) {
	f := repo.File{Mode: mode}
	if mode != repo.Regular {
		return f, nil
	}
	o, err := s.get(h, plumbing.BlobObject)
	if err != nil {
		return f, err
	}
	f.Size = o.size
	if o.size <= repo.MaxFileSize {
		f.Data = o.data
	}
	return f, nil
}

// Files returns all files below the directory dir ("" for all), under their
// full paths. A directory that does not exist has none.
func (s *Store) Files(root Hash, dir string) (repo.Tree, error) {
	files := repo.Tree{}
	err := s.Diff(Hash{}, root, dir, func(c Change) error {
		f, err := s.read(c.New, c.NewMode)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
		files[c.Path] = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	return files, nil
}
