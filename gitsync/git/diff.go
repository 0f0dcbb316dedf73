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

	"github.com/kubelb/gitops/api/repo"
)

// Change is one file that differs between two trees. A zero hash means that
// the file is not there.
type Change struct {
	Path             string
	Old, New         Hash
	OldMode, NewMode repo.FileMode
}

// Diff calls fn for every file below the directory dir ("" for all) that
// differs between the trees a and b, in Git's order, and descends only where
// they differ. A zero tree is empty. An error of fn ends it.
func (s *Store) Diff(a, b Hash, dir string, fn func(Change) error) error {
	return s.DiffWith(a, s, b, dir, fn)
}

// DiffWith is Diff where the tree b is in another Store.
func (s *Store) DiffWith(a Hash, other *Store, b Hash, dir string, fn func(Change) error) error {
	a, _, err := s.Subtree(a, dir)
	if err != nil {
		return err
	}
	if b, _, err = other.Subtree(b, dir); err != nil {
		return err
	}
	w := differ{from: s, to: other, fn: fn}
	if dir != "" {
		dir += "/"
	}
	return w.trees(a, b, dir, 0)
}

type differ struct {
	from, to *Store
	fn       func(Change) error
	seen     int
}

func (w *differ) trees(a, b Hash, prefix string, depth int) error {
	if a == b {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%.80s: directories nested too deep: %w", prefix, ErrTooLarge)
	}
	as, err := w.from.entries(a)
	if err != nil {
		return fmt.Errorf("%s: %w", prefix, err)
	}
	bs, err := w.to.entries(b)
	if err != nil {
		return fmt.Errorf("%s: %w", prefix, err)
	}
	for len(as) > 0 || len(bs) > 0 {
		var x, y treeEntry // a zero entry is an absent one
		switch order := compareHeads(as, bs); {
		case order < 0:
			x, as = as[0], as[1:]
		case order > 0:
			y, bs = bs[0], bs[1:]
		default:
			x, y, as, bs = as[0], bs[0], as[1:], bs[1:]
		}
		if err := w.entry(x, y, prefix, depth); err != nil {
			return err
		}
	}
	return nil
}

// compareHeads says which list has the next entry. An empty list comes last.
func compareHeads(as, bs []treeEntry) int {
	switch {
	case len(bs) == 0:
		return -1
	case len(as) == 0:
		return 1
	}
	return compareKeys(as[0], bs[0])
}

func (w *differ) entry(x, y treeEntry, prefix string, depth int) error {
	if x.hash == y.hash && x.mode == y.mode {
		return nil
	}
	if w.seen++; w.seen > maxEntries {
		return fmt.Errorf("%.80s: more than %d files: %w", prefix, maxEntries, ErrTooLarge)
	}
	name := x.name
	if name == "" {
		name = y.name
	}
	if x.mode == modeDir || y.mode == modeDir { // both, or the other is absent
		return w.trees(x.hash, y.hash, prefix+name+"/", depth+1)
	}
	if x.hash == y.hash && x.fileMode() == y.fileMode() {
		return nil // only whether it is executable
	}
	return w.fn(Change{
		Path: prefix + name,
		Old:  x.hash, OldMode: x.fileMode(),
		New: y.hash, NewMode: y.fileMode(),
	})
}
