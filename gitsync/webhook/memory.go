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

package webhook

import (
	"crypto/sha256"
	"time"
)

// How much is remembered, and for how long.
const (
	maxSeen = 4096
	seenFor = 10 * time.Minute
)

type digest = [sha256.Size]byte

// memory is a set of digests that forgets the oldest.
type memory struct {
	at    map[digest]time.Time
	order []digest // oldest first
}

// add reports whether a digest is in the set, and adds it.
func (m *memory) add(d digest, now time.Time) bool {
	if m.at == nil {
		m.at = map[digest]time.Time{}
	}
	for len(m.order) > 0 && (len(m.order) >= maxSeen || now.Sub(m.at[m.order[0]]) >= seenFor) {
		delete(m.at, m.order[0])
		m.order = m.order[1:]
	}
	if _, ok := m.at[d]; ok {
		return true
	}
	m.at[d] = now
	m.order = append(m.order, d)
	return false
}
