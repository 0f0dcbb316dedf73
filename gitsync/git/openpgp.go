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
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgp "github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const (
	pgpPublicBegin    = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	pgpPublicEnd      = "-----END PGP PUBLIC KEY BLOCK-----"
	pgpSignatureBegin = "-----BEGIN PGP SIGNATURE-----"
	// maxSignature bounds what is parsed of a commit's signature.
	maxSignature = 64 << 10
)

// Key is what a person signs commits with: an SSH public key, or the keys of an
// OpenPGP block. The zero value matches nothing.
type Key struct {
	ssh PublicKey
	pgp *keyring
}

// keyring is an OpenPGP block. The library notes in it which revocations it has
// verified.
type keyring struct {
	mu       sync.Mutex
	entities openpgp.EntityList
}

// ParseKey reads one line of an authorized_keys file (see [ParsePublicKey]) or one
// armored OpenPGP public key block, with nothing after it. The weak keys that [Commit.SignedBy] never accepts are
// refused here too.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "-----BEGIN") {
		key, err := ParsePublicKey(text)
		if err != nil {
			return Key{}, err
		}
		if err := strong(key.key); err != nil {
			return Key{}, fmt.Errorf("%w: public key: %w", ErrMalformed, err)
		}
		return Key{ssh: key}, nil
	}
	if !strings.HasPrefix(text, pgpPublicBegin) {
		return Key{}, fmt.Errorf("%w: not a public key: %.40q", ErrMalformed, text)
	}
	if !strings.HasSuffix(text, pgpPublicEnd) || strings.Count(text, "-----BEGIN") > 1 {
		return Key{}, fmt.Errorf("%w: OpenPGP key: there is more than one armored block", ErrMalformed)
	}
	entities, err := openpgp.ReadArmoredKeyRing(strings.NewReader(text))
	if err != nil {
		return Key{}, fmt.Errorf("%w: OpenPGP key: %w", ErrMalformed, err)
	}
	if len(entities) == 0 {
		return Key{}, fmt.Errorf("%w: OpenPGP key: the block is empty", ErrMalformed)
	}
	return Key{pgp: &keyring{entities: entities}}, nil
}

// Key makes an SSH public key a Key.
func (k PublicKey) Key() Key { return Key{ssh: k} }

// Fingerprint returns the key's short name: "SHA256:..." or the OpenPGP
// fingerprint in hexadecimal.
func (k Key) Fingerprint() string {
	if k.pgp == nil {
		return k.ssh.Fingerprint()
	}
	var names []string
	for _, e := range k.pgp.entities {
		names = append(names, strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint)))
	}
	return strings.Join(names, " ")
}

// SignedBy returns the index of the one of the given keys that signed the
// commit. The error is [ErrUnsigned], [ErrBadSignature] or [ErrUnknownKey].
//
// An OpenPGP key must have been valid when the signature was made: not expired,
// not yet revoked, and never revoked as compromised. A signature by a key that
// is not among the given ones cannot be told from a bad one there.
func (c Commit) SignedBy(keys ...Key) (int, error) {
	if c.Signature == OpenPGP {
		return c.signedByOpenPGP(keys)
	}
	lines := make([]PublicKey, len(keys))
	for i, k := range keys {
		lines[i] = k.ssh
	}
	key, err := c.Verify(lines...)
	if err != nil {
		return -1, err
	}
	for i, k := range lines {
		if k.Equal(key) {
			return i, nil
		}
	}
	return -1, fmt.Errorf("commit %s: %w", c.Hash, ErrUnknownKey)
}

func (c Commit) signedByOpenPGP(keys []Key) (int, error) {
	issuers, err := pgpIssuers(c.armored)
	if err != nil {
		return -1, fmt.Errorf("commit %s: %w: %w", c.Hash, ErrBadSignature, err)
	}
	var bad error
	for i, k := range keys {
		if k.pgp == nil || !k.pgp.has(issuers) {
			continue
		}
		if err := k.pgp.verify(c.signed, c.armored, c.Committer.When); err != nil {
			bad = err
			continue
		}
		return i, nil
	}
	if bad != nil {
		return -1, fmt.Errorf("commit %s: %w: %w", c.Hash, ErrBadSignature, bad)
	}
	return -1, fmt.Errorf("commit %s: %w: OpenPGP key %s", c.Hash, ErrUnknownKey, issuerNames(issuers))
}

// pgpIssuers lists the IDs of the keys that a signature says it is by.
func pgpIssuers(armored []byte) ([]uint64, error) {
	if len(armored) > maxSignature {
		return nil, errors.New("the signature is too long")
	}
	if !bytes.HasPrefix(armored, []byte(pgpSignatureBegin)) {
		return nil, errors.New("the signature is of an unknown kind")
	}
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return nil, err
	}
	var issuers []uint64
	packets := pgp.NewReader(block.Body)
	for {
		p, err := packets.Next()
		if err != nil {
			break // its end, or nothing that can be verified
		}
		if sig, ok := p.(*pgp.Signature); ok && sig.IssuerKeyId != nil {
			issuers = append(issuers, *sig.IssuerKeyId)
		}
	}
	if len(issuers) == 0 {
		return nil, errors.New("the signature names no key")
	}
	return issuers, nil
}

func issuerNames(issuers []uint64) string {
	var names []string
	for _, id := range issuers {
		names = append(names, fmt.Sprintf("%016X", id))
	}
	return strings.Join(names, " ")
}

func (k *keyring) has(issuers []uint64) bool {
	for _, id := range issuers {
		if len(k.entities.EntitiesById(id)) > 0 {
			return true
		}
	}
	return false
}

// verify checks the keys as of the time that the signature names, and the
// signature's own end as of when.
func (k *keyring) verify(message, armored []byte, when time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	config := &pgp.Config{Time: func() time.Time { return when }, MinRSABits: minRSABits}
	_, _, err := openpgp.VerifyArmoredDetachedSignature(k.entities, bytes.NewReader(message), bytes.NewReader(armored), config)
	return err
}
