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
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/kubelb/gitops/api/repo"
)

// The modes that Git knows. An old Git wrote 100664 as well.
const (
	modeDir       = "40000"
	modeRegular   = "100644"
	modeGroup     = "100664"
	modeExec      = "100755"
	modeSymlink   = "120000"
	modeSubmodule = "160000"
)

var knownModes = []string{modeRegular, modeDir, modeExec, modeGroup, modeSymlink, modeSubmodule}

// treeEntry is one line of a tree object.
type treeEntry struct {
	name string
	mode string
	hash Hash
}

func (e treeEntry) fileMode() repo.FileMode {
	switch e.mode {
	case modeSymlink:
		return repo.Symlink
	case modeSubmodule:
		return repo.Submodule
	}
	return repo.Regular
}

func modeOf(mode repo.FileMode) string {
	switch mode {
	case repo.Symlink:
		return modeSymlink
	case repo.Submodule:
		return modeSubmodule
	}
	return modeRegular
}

func (s *Store) entries(tree Hash) ([]treeEntry, error) {
	if tree.IsZero() {
		return nil, nil
	}
	o, err := s.get(tree, plumbing.TreeObject)
	if err != nil {
		return nil, err
	}
	if known := o.entries.Load(); known != nil {
		return *known, nil
	}
	entries, err := parseTree(o.data)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", tree, err)
	}
	if len(o.data) >= largeTree {
		o.entries.Store(&entries)
	}
	return entries, nil
}

// largeTree is the size from which a tree is kept as it was parsed: the folder
// of a thousand tenants is on the way to every file.
const largeTree = 2 << 10

// parseTree decodes a tree object strictly: known modes, plain names, each
// once, in Git's order.
func parseTree(data []byte) ([]treeEntry, error) {
	entries := make([]treeEntry, 0, len(data)/36+1)
	for rest := string(data); rest != ""; { // all names share one string
		mode, tail, ok := strings.Cut(rest, " ")
		if !ok || !slices.Contains(knownModes, mode) {
			return nil, fmt.Errorf("%w: entry with mode %.10q", ErrMalformed, mode)
		}
		name, tail, ok := strings.Cut(tail, "\x00")
		e := treeEntry{name: name, mode: mode}
		if !ok || len(tail) < len(e.hash) {
			return nil, fmt.Errorf("%w: entry is cut off", ErrMalformed)
		}
		copy(e.hash[:], tail)
		rest = tail[len(e.hash):]
		if err := checkName(name); err != nil {
			return nil, err
		}
		if n := len(entries); n > 0 && compareKeys(entries[n-1], e) >= 0 {
			return nil, fmt.Errorf("%w: %q is out of order", ErrMalformed, name)
		}
		if mode == modeDir {
			// A file of that name sorts before, but not always directly before.
			if _, twice := slices.BinarySearchFunc(entries, treeEntry{name: name}, compareKeys); twice {
				return nil, fmt.Errorf("%w: %q is there twice", ErrMalformed, name)
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// checkName refuses names that could mean another place than they say.
func checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..", strings.EqualFold(name, ".git"), strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%w: name %q", ErrMalformed, name)
	}
	return nil
}

func splitPath(path string) ([]string, error) {
	names := strings.Split(path, "/")
	if len(names) > maxDepth {
		return nil, fmt.Errorf("path %.80q: %w", path, ErrTooLarge)
	}
	for _, n := range names {
		if err := checkName(n); err != nil {
			return nil, fmt.Errorf("path %q: %w", path, err)
		}
	}
	return names, nil
}

func find(entries []treeEntry, name string) (treeEntry, bool) {
	for _, e := range entries {
		if e.name == name {
			return e, true
		}
	}
	return treeEntry{}, false
}

// compareKeys is Git's order: by name, that of a directory as if it ended in
// "/".
func compareKeys(a, b treeEntry) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return cmp.Compare(a.at(n), b.at(n))
}

// at is byte i of what an entry is ordered by; its end counts as zero.
func (e treeEntry) at(i int) byte {
	switch {
	case i < len(e.name):
		return e.name[i]
	case e.mode == modeDir:
		return '/'
	}
	return 0
}

func encodeTree(entries []treeEntry) []byte {
	slices.SortFunc(entries, compareKeys)
	var b bytes.Buffer
	for _, e := range entries {
		b.Write(e.encode(b.AvailableBuffer()))
	}
	return b.Bytes()
}

// encode appends the entry as it stands in a tree object.
func (e treeEntry) encode(b []byte) []byte {
	b = append(append(append(b, e.mode...), ' '), e.name...)
	return append(append(b, 0), e.hash[:]...)
}

// size is the length of that.
func (e treeEntry) size() uint64 { return uint64(len(e.mode) + 1 + len(e.name) + 1 + len(e.hash)) }
