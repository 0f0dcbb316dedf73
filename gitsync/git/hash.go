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
	"encoding/hex"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// Hash names an object by the SHA-1 of its content. The zero Hash names
// nothing: no tree yet, a ref that does not exist.
type Hash [20]byte

// ParseHash reads 40 hexadecimal digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, fmt.Errorf("%w: object name %.50q does not have 40 digits", ErrMalformed, s)
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("%w: object name %q: %w", ErrMalformed, s, err)
	}
	return h, nil
}

// String returns 40 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short returns the first seven digits, for people.
func (h Hash) Short() string { return h.String()[:7] }

// IsZero reports whether h names nothing.
func (h Hash) IsZero() bool { return h == Hash{} }

func hashOf(kind plumbing.ObjectType, data []byte) Hash {
	return Hash(plumbing.ComputeHash(kind, data))
}
