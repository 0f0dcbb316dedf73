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
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const (
	// MaxSealed bounds an armored age file.
	MaxSealed = 240 << 10
	// maxRecipients bounds whom a file is sealed to, and so the effort of opening.
	maxRecipients = 64
)

// GenerateIdentity makes an identity (AGE-SECRET-KEY-1...) and its recipient
// (age1...).
func GenerateIdentity() (identity, recipient string, err error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("make an identity: %w", err)
	}
	return key.String(), key.Recipient().String(), nil
}

// Seal encrypts an envelope to all recipients (age1..., of one kind: X25519 or
// hybrid). Two results for the same envelope differ.
//
// The error is [ErrNoRecipients], [ErrRecipient], [ErrNotEnvelope] or
// [ErrTooLarge].
func Seal(recipients []string, e Envelope) (armored string, err error) {
	to, err := parseRecipients(recipients)
	if err != nil {
		return "", err
	}
	text, err := e.Plaintext()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	outer := armor.NewWriter(&out)
	inner, err := age.Encrypt(outer, to...)
	if err != nil {
		return "", fmt.Errorf("%w: the recipients do not go together", ErrRecipient)
	}
	if _, err := inner.Write(text); err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	if err := errors.Join(inner.Close(), outer.Close()); err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	if out.Len() > MaxSealed {
		return "", fmt.Errorf("sealed to %d recipients it has %d bytes, at most %d are allowed: %w", len(to), out.Len(), MaxSealed, ErrTooLarge)
	}
	return out.String(), nil
}

// Open decrypts an armored age file with whichever identity fits. Whether the
// envelope is for where it was found is for [Envelope.Check] to say.
//
// The error is [ErrTooLarge], [ErrNoIdentities], [ErrIdentity], [ErrNotSealed],
// [ErrCannotOpen] or [ErrNotEnvelope].
func Open(identities []string, armored string) (Envelope, error) {
	if len(armored) > MaxSealed {
		return Envelope{}, fmt.Errorf("it has %d bytes, at most %d are opened: %w", len(armored), MaxSealed, ErrTooLarge)
	}
	with, err := parseIdentities(identities)
	if err != nil {
		return Envelope{}, err
	}
	plain, err := age.Decrypt(armor.NewReader(strings.NewReader(armored)), with)
	if err == nil {
		var text []byte
		if text, err = readBounded(plain, MaxPlaintext); err == nil {
			return ParsePlaintext(text)
		}
	}
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return Envelope{}, ErrCannotOpen
	case errors.Is(err, ErrTooLarge):
		return Envelope{}, fmt.Errorf("the content is larger than %d bytes: %w", MaxPlaintext, ErrTooLarge)
	}
	return Envelope{}, ErrNotSealed // whatever age says is about that
}

// opener tries identities on a file, unless its header is so long that this
// would be an effort.
type opener []age.Identity

// Unwrap is part of age.Identity.
func (o opener) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) > maxRecipients {
		return nil, ErrNotSealed
	}
	for _, identity := range o {
		key, err := identity.Unwrap(stanzas)
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}

func parseRecipients(recipients []string) ([]age.Recipient, error) {
	recipients = sortedUnique(recipients)
	if len(recipients) == 0 {
		return nil, ErrNoRecipients
	}
	if len(recipients) > maxRecipients {
		return nil, fmt.Errorf("there are %d recipients, at most %d are allowed: %w", len(recipients), maxRecipients, ErrTooLarge)
	}
	var out []age.Recipient
	for i, text := range recipients {
		parsed, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(parsed) != 1 {
			return nil, fmt.Errorf("recipient %d of %d: %w", i+1, len(recipients), ErrRecipient)
		}
		out = append(out, parsed[0])
	}
	return out, nil
}

func parseIdentities(identities []string) (opener, error) {
	if len(identities) == 0 {
		return nil, ErrNoIdentities
	}
	var out opener
	for i, text := range identities {
		parsed, err := age.ParseIdentities(strings.NewReader(text))
		if err != nil || len(parsed) == 0 {
			return nil, fmt.Errorf("identity %d of %d: %w", i+1, len(identities), ErrIdentity)
		}
		out = append(out, parsed...)
	}
	return out, nil
}
