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
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/kubelb/gitops/api/repo"
)

// Edit returns the tree root with files written and deleted, at a cost that
// follows the number of edits. A key is a full path; its value is the new
// content, or nil to delete the file or the whole directory at that path.
// Deletions come first: a directory can be deleted and written anew in one
// call. A written file takes the place of whatever has its path, also of a
// file where its path needs a directory. Deleting what is not there is fine,
// and a directory that becomes empty disappears. Edits that change nothing
// return root.
func (s *Store) Edit(root Hash, edits map[string][]byte) (Hash, error) {
	top := &edit{}
	for path, content := range edits {
		if err := top.add(path, content); err != nil {
			return Hash{}, fmt.Errorf("edit: %w", err)
		}
	}
	h, err := s.apply(root, top)
	if err != nil {
		return Hash{}, fmt.Errorf("edit: %w", err)
	}
	if h.IsZero() {
		h = s.put(plumbing.TreeObject, nil)
	}
	return h, nil
}

// Graft returns the tree root with files set to what other trees have: a zero
// Entry removes the file. The contents need not be in the store. Of a file and
// another one below it the latter is left out.
func (s *Store) Graft(root Hash, entries map[string]Entry) (Hash, error) {
	remove, set := &edit{}, &edit{}
	for _, path := range slices.Sorted(maps.Keys(entries)) {
		e, to := entries[path], set
		if e.Hash.IsZero() {
			to = remove
		} else if set.covers(path) {
			continue
		}
		at, err := to.at(path)
		if err != nil {
			return Hash{}, fmt.Errorf("graft: %w", err)
		}
		if at.delete = e.Hash.IsZero(); !at.delete {
			at.graft = treeEntry{mode: modeOf(e.Mode), hash: e.Hash}
		}
	}
	for _, top := range []*edit{remove, set} {
		var err error
		if root, err = s.apply(root, top); err != nil {
			return Hash{}, fmt.Errorf("graft: %w", err)
		}
	}
	if root.IsZero() {
		root = s.put(plumbing.TreeObject, nil)
	}
	return root, nil
}

// covers reports whether a file is set on the way to a path.
func (e *edit) covers(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if e = e.below[name]; e == nil {
			return false
		}
		if e.graft.mode != "" {
			return true
		}
	}
	return false
}

// edit is what is to happen at one path.
type edit struct {
	delete  bool
	content []byte    // to write, if not nil
	graft   treeEntry // to set, if it has a mode
	below   map[string]*edit
}

// at returns the edit of a path.
func (e *edit) at(path string) (*edit, error) {
	names, err := splitPath(path)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if e.below == nil {
			e.below = map[string]*edit{}
		}
		if e.below[name] == nil {
			e.below[name] = &edit{}
		}
		if e.content != nil || e.graft.mode != "" {
			return nil, fmt.Errorf("%w: %s lies below another written file", ErrMalformed, path)
		}
		e = e.below[name]
	}
	return e, nil
}

func (e *edit) add(path string, content []byte) error {
	if len(content) > repo.MaxFileSize {
		return fmt.Errorf("%s: %d bytes: %w", path, len(content), ErrTooLarge)
	}
	e, err := e.at(path)
	if err != nil {
		return err
	}
	if content == nil {
		e.delete = true
		return nil
	}
	if len(e.below) > 0 {
		return fmt.Errorf("%w: other edits lie below the file %s", ErrMalformed, path)
	}
	e.content = bytes.Clone(content)
	return nil
}

// apply returns the tree with the edits below e, zero when it is empty.
func (s *Store) apply(tree Hash, e *edit) (Hash, error) {
	entries, err := s.entries(tree)
	if err != nil {
		return Hash{}, err
	}
	edited := make([]treeEntry, 0, len(entries)+len(e.below))
	found := make(map[string]treeEntry, len(e.below))
	for _, old := range entries {
		if e.below[old.name] == nil {
			edited = append(edited, old)
		} else {
			found[old.name] = old
		}
	}
	for name, below := range e.below {
		entry, err := s.applyEntry(found[name], name, below)
		if err != nil {
			return Hash{}, fmt.Errorf("%s: %w", name, err)
		}
		if entry.mode != "" {
			edited = append(edited, entry)
		}
	}
	if len(edited) == 0 {
		return Hash{}, nil
	}
	data := encodeTree(edited)
	if slices.Equal(edited, entries) {
		return tree, nil
	}
	return s.putEdited(plumbing.TreeObject, data, tree), nil
}

// applyEntry returns what takes the place of old; a zero entry is an absent
// one.
func (s *Store) applyEntry(old treeEntry, name string, e *edit) (treeEntry, error) {
	switch {
	case e.graft.mode != "":
		return treeEntry{name: name, mode: e.graft.mode, hash: e.graft.hash}, nil
	case e.content != nil:
		mode := modeRegular
		if old.mode == modeExec || old.mode == modeGroup {
			mode = old.mode
		}
		return treeEntry{name: name, mode: mode, hash: s.put(plumbing.BlobObject, e.content)}, nil
	case len(e.below) == 0:
		return treeEntry{}, nil // deleted
	}
	var tree Hash
	if old.mode == modeDir && !e.delete {
		tree = old.hash
	}
	h, err := s.apply(tree, e)
	if err != nil {
		return treeEntry{}, err
	}
	if h.IsZero() {
		if old.mode != modeDir && !e.delete {
			return old, nil // nothing was there to delete below a file
		}
		return treeEntry{}, nil
	}
	return treeEntry{name: name, mode: modeDir, hash: h}, nil
}
