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
	"strings"
	"unicode"
)

// What can go wrong between here and the server.
var (
	// ErrRejected: the server did not update a ref. The compare-and-swap was
	// lost, or a hook or a rule refused. See [RejectedError] for its words.
	ErrRejected = errors.New("rejected by the Git server")
	// ErrUnknownOutcome: the answer to a push is missing or cut off. Look at
	// the refs before repeating it.
	ErrUnknownOutcome = errors.New("outcome of the push is unknown")
	// ErrUnauthorized: the credentials are missing, wrong or not enough.
	ErrUnauthorized = errors.New("not authorized by the Git server")
	// ErrHostKey: the server showed another host key than the known one, or none
	// is known. See [HostKeyError].
	ErrHostKey = errors.New("the host key of the Git server is not a known one")
	// ErrNotFound: there is no such repository.
	ErrNotFound = errors.New("repository not found")
	// ErrUnavailable: the server was not reached, did not answer in time, or
	// said that it cannot serve now. Worth repeating later.
	ErrUnavailable = errors.New("the Git server is unavailable")
	// ErrProtocol: the answer is not what a Git server says.
	ErrProtocol = errors.New("not a usable Git server")
	// ErrNoAtomic: an atomic push was asked of a server that has none.
	// Nothing was sent.
	ErrNoAtomic = errors.New("the Git server does not offer atomic pushes")
)

// What can be wrong with objects.
var (
	// ErrMissing: an object is not in the store, or not at the server.
	ErrMissing = errors.New("object missing")
	// ErrMalformed: an object, a path or a name breaks Git's rules.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge: more than the store is willing to hold.
	ErrTooLarge = errors.New("too large")
)

// What can be wrong with a signature.
var (
	// ErrUnsigned: the commit carries no signature.
	ErrUnsigned = errors.New("commit is not signed")
	// ErrBadSignature: the signature does not fit the commit.
	ErrBadSignature = errors.New("signature is not valid for this commit")
	// ErrUnknownKey: the signature is by a key that was not given, or of a
	// kind that cannot be verified.
	ErrUnknownKey = errors.New("signed by an unknown key")
)

// RejectedError says why the server did not update one ref. Whether the
// compare-and-swap was lost or a rule refused shows in the ref itself: in the
// second case it still has the old value.
type RejectedError struct {
	// Ref is the full name of the ref.
	Ref string
	// Reason is the server's short reason, "pre-receive hook declined".
	Reason string
	// Messages is what hooks printed, if anything.
	Messages string
}

func (e *RejectedError) Error() string {
	s := fmt.Sprintf("%s: %v: %s", e.Ref, ErrRejected, e.Reason)
	if e.Messages != "" {
		s += " (" + strings.ReplaceAll(e.Messages, "\n", "; ") + ")"
	}
	return s
}

// NotStored reports whether the server could not store the objects, for want of
// space or because its repository is damaged: nobody's rights are to blame.
func (e *RejectedError) NotStored() bool { return strings.HasPrefix(e.Reason, "unpack") }

// Is makes errors.Is(err, ErrRejected) true.
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// callError is a failed exchange with the server.
type callError struct {
	kind  error // one of the exported errors
	cause error
	sent  bool // the server may have acted on the request
}

func (e *callError) Error() string   { return e.kind.Error() + ": " + e.cause.Error() }
func (e *callError) Unwrap() []error { return []error{e.kind, e.cause} }

// printable makes words of the server fit for a log line or a condition.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
