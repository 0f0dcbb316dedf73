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
	"fmt"
)

// Past loads n commits of history behind tip with all their files, over all
// parents: what a branch was made from. What the store has is not sent again.
func (r *Remote) Past(ctx context.Context, s *Store, tip Hash, n int) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	q := fetchRequest{wants: []Hash{tip}, haves: s.sentFrom(tip), depth: max(n, 0) + 1}
	q.shallows = s.boundary(q.haves)
	if _, err := r.fetchOnce(ctx, s, q); err != nil {
		return fmt.Errorf("load the past of a branch: %w", serverFault(err))
	}
	return nil
}
