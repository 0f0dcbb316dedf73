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

package plan

import "github.com/kubelb/gitops/api/repo"

// guardLeast is how many removals are never guarded.
const guardLeast = 5

// Removals describe what people removed from a tenant's folder on main.
type Removals struct {
	// Wishes is how many wishes of the tenant were applied before.
	Wishes int
	// ByHub are the paths that the hub itself removed when it integrated: they
	// were guarded there.
	ByHub map[string]bool
	// Confirmed lets everything pass.
	Confirmed bool
}

// Guard splits what is to be pruned. When people removed more than half of a
// tenant's wishes, and more than five, then nothing that they removed is pruned
// and all of it is returned as guarded.
func Guard(prune []Ref, r Removals) (allowed, guarded []Ref) {
	wishes := 0
	for _, ref := range prune {
		if !r.ByHub[ref.Path] && isWish(ref.Path) {
			wishes++
		}
	}
	if r.Confirmed || wishes <= guardLeast || 2*wishes <= r.Wishes {
		return prune, nil
	}
	for _, ref := range prune {
		if r.ByHub[ref.Path] {
			allowed = append(allowed, ref)
		} else {
			guarded = append(guarded, ref)
		}
	}
	return allowed, guarded
}

func isWish(path string) bool {
	p, err := repo.ParsePath(path)
	return err == nil && !p.Fact()
}
