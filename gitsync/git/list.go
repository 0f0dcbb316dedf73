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

// List returns what is directly in the directory dir ("" for the root) of the
// tree root, by name. A directory that does not exist has nothing.
func (s *Store) List(root Hash, dir string) (map[string]Entry, error) {
	tree, ok, err := s.Subtree(root, dir)
	if err != nil || !ok {
		return nil, err
	}
	entries, err := s.entries(tree)
	if err != nil {
		return nil, err
	}
	list := make(map[string]Entry, len(entries))
	for _, e := range entries {
		list[e.name] = Entry{Hash: e.hash, Dir: e.mode == modeDir, Mode: e.fileMode()}
	}
	return list, nil
}
