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

package repo

import (
	"maps"
	"slices"
	"strings"
)

// FileMode says what an entry of a Git tree is.
type FileMode uint8

// The modes. Only regular files are ever decoded.
const (
	Regular FileMode = iota
	Symlink
	Submodule
)

// MaxFileSize is the largest file that is read, in bytes.
const MaxFileSize = 256 << 10

// File is one entry of a Tree.
type File struct {
	Mode FileMode
	// Data is the content of a regular file of at most MaxFileSize bytes, nil for
	// everything else.
	Data []byte
	// Size is the size of the content in bytes, also where Data is nil.
	Size int64
}

// NewFile returns a regular file with a content.
func NewFile(data []byte) File { return File{Data: data, Size: int64(len(data))} }

// Tree is a set of files by path ("tenants/acme/addresses/default.yaml"). It is
// plain data and may be a part of what a commit has.
type Tree map[string]File

// Paths returns the paths of the tree in byte order.
func (t Tree) Paths() []string { return slices.Sorted(maps.Keys(t)) }

// Under returns the files below a folder, by their full paths.
func (t Tree) Under(dir string) Tree {
	out := Tree{}
	for path, file := range t {
		if strings.HasPrefix(path, dir+"/") {
			out[path] = file
		}
	}
	return out
}
