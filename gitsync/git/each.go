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
	"errors"
	"fmt"
	"slices"
)

// OfContent reports whether an error says that objects are not usable: they are
// malformed, missing or too large. Who wrote them is to blame, not the
// connection.
func OfContent(err error) bool {
	return errors.Is(err, ErrMissing) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLarge)
}

// FetchEach is [Remote.Fetch] for wants of different writers: what one of them
// wrote keeps nobody else from being fetched. In the usual case it is the same
// request. When that fails, first come the needed wants, then the others in
// halves, and halves of halves, for as long as one call may take.
//
// It returns why each of the others was not fetched, by its tip. The error says
// that the needed ones were not, or that nothing at all was: then it tells
// nothing of any single one.
func (r *Remote) FetchEach(ctx context.Context, s *Store, needed, others []Want) (map[Hash]error, error) {
	err := r.Fetch(ctx, s, slices.Concat(needed, others)...)
	if err == nil || len(others) == 0 || ctx.Err() != nil || refusesAll(err) {
		return nil, err
	}
	if len(needed) > 0 {
		if err := r.Fetch(ctx, s, needed...); err != nil {
			return nil, err
		}
	}
	failed := map[Hash]error{}
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	switch half := len(others) / 2; {
	case half > 0:
		r.fetchHalves(limited, s, others[:half], failed)
		r.fetchHalves(limited, s, others[half:], failed)
	case len(needed) > 0:
		r.fetchHalves(limited, s, others, failed)
	default:
		failed[others[0].Tip] = err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(needed) == 0 && len(failed) == len(others) && !anyOfContent(failed) {
		return nil, err
	}
	return failed, nil
}

func anyOfContent(failed map[Hash]error) bool {
	for _, err := range failed {
		if OfContent(err) {
			return true
		}
	}
	return false
}

func (r *Remote) fetchHalves(ctx context.Context, s *Store, wants []Want, failed map[Hash]error) {
	err := ctx.Err()
	if err == nil {
		if err = r.Fetch(ctx, s, wants...); err == nil {
			return
		}
	}
	if len(wants) == 1 {
		failed[wants[0].Tip] = err
		return
	}
	if ctx.Err() != nil {
		for _, w := range wants {
			failed[w.Tip] = fmt.Errorf("%w: not fetched in time", ErrUnavailable)
		}
		return
	}
	r.fetchHalves(ctx, s, wants[:len(wants)/2], failed)
	r.fetchHalves(ctx, s, wants[len(wants)/2:], failed)
}

// refusesAll reports whether an error is the same whatever is fetched.
func refusesAll(err error) bool {
	if OfContent(err) {
		return false
	}
	var call *callError
	return errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrHostKey) || errors.Is(err, ErrNotFound) ||
		errors.As(err, &call) && errors.Is(call.kind, ErrUnavailable) && !call.sent
}
