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
	"errors"
	"fmt"
	"time"
)

// Damaged reports whether err says that a [Store] lacks objects which it should
// have, or has some that cannot be read. A new Store, filled by the server, heals
// that. What the server itself cannot hand out is not of this kind, but an
// [ErrUnavailable].
func Damaged(err error) bool {
	return (errors.Is(err, ErrMissing) || errors.Is(err, ErrMalformed)) && !errors.Is(err, ErrUnavailable)
}

// serverFault makes an error about objects that the server sent, or did not
// send, one that is worth repeating later.
func serverFault(err error) error {
	if Damaged(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// How long after one renewal another one may follow.
const (
	firstRenewal = time.Minute
	lastRenewal  = time.Hour
)

// Renewal limits how often a damaged [Store] is made anew, which costs a whole
// fetch: at once, and then less and less often, should it not help.
type Renewal struct {
	last  time.Time
	delay time.Duration
}

// Begin reports whether a store may be made anew now, and notes that it is.
func (r *Renewal) Begin(now time.Time) bool {
	since := now.Sub(r.last)
	switch {
	case r.last.IsZero() || since > 4*lastRenewal:
		r.delay = firstRenewal
	case since < r.delay:
		return false
	default:
		r.delay = min(2*r.delay, lastRenewal)
	}
	r.last = now
	return true
}
