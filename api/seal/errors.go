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

package seal

import (
	"errors"
	"fmt"
)

// What can be wrong. Compare with [errors.Is]; the text says what to do about
// it and never has a word of the plaintext.
var (
	// ErrNoRecipients: there is nobody to seal to.
	ErrNoRecipients = errors.New("there is no recipient to seal to")
	// ErrRecipient: a recipient is not one of age (age1...).
	ErrRecipient = errors.New("not a recipient of age")
	// ErrNoIdentities: there is nothing to open with.
	ErrNoIdentities = errors.New("there is no identity to open with")
	// ErrIdentity: an identity is not one of age (AGE-SECRET-KEY-...).
	ErrIdentity = errors.New("not an identity of age")
	// ErrNotSealed: it is not one armored age file, or a damaged one.
	ErrNotSealed = errors.New("not one whole armored age file")
	// ErrCannotOpen: it is sealed to none of the identities.
	ErrCannotOpen = errors.New("sealed to none of the identities")
	// ErrNotEnvelope: the plaintext is not an envelope, or an incomplete one.
	ErrNotEnvelope = errors.New("the plaintext is not an envelope")
	// ErrAddress: the envelope is for another Secret; see [AddressError].
	ErrAddress = errors.New("sealed for another Secret")
	// ErrTooLarge: the content is larger than [MaxPlaintext], or the file than
	// [MaxSealed].
	ErrTooLarge = errors.New("too large")
)

// AddressError says in what an envelope's address differs: tenant, namespace or
// name. It does not say what the address is, which may be somebody else's.
type AddressError struct {
	Part string
}

// Error is part of error.
func (e *AddressError) Error() string { return fmt.Sprintf("it is sealed for another %s", e.Part) }

// Is makes it an [ErrAddress].
func (e *AddressError) Is(target error) bool { return target == ErrAddress }
