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
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Signatures have the format of OpenSSH's PROTOCOL.sshsig, in Git's namespace.
const (
	sshArmorBegin = "-----BEGIN SSH SIGNATURE-----"
	sshArmorEnd   = "-----END SSH SIGNATURE-----"
	sshMagic      = "SSHSIG"
	sshNamespace  = "git"
)

// PublicKey is an SSH public key. The zero value matches nothing.
type PublicKey struct{ key ssh.PublicKey }

// ParsePublicKey reads one line of an authorized_keys file: type, key and an
// optional comment. Whitespace around it is ignored. It refuses a second line and
// the options that authorized_keys and allowed_signers files may have before the
// type (namespaces=, valid-before=, cert-authority): they restrict what a key is
// good for, and nothing here would keep to that.
func ParsePublicKey(line string) (PublicKey, error) {
	line = strings.TrimSpace(line)
	if strings.ContainsAny(line, "\r\n") {
		return PublicKey{}, fmt.Errorf("%w: public key: more than one line", ErrMalformed)
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: public key: %w", ErrMalformed, err)
	}
	if first := strings.Fields(line)[0]; len(options) > 0 || first != key.Type() {
		return PublicKey{}, fmt.Errorf("%w: public key: it does not begin with the type %s, and options are not supported", ErrMalformed, key.Type())
	}
	return PublicKey{key}, nil
}

// String returns the key as in an authorized_keys file, without a comment.
func (k PublicKey) String() string {
	if k.key == nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.key)))
}

// Fingerprint returns the key's short name, "SHA256:...".
func (k PublicKey) Fingerprint() string {
	if k.key == nil {
		return ""
	}
	return ssh.FingerprintSHA256(k.key)
}

// Equal reports whether both are the same key.
func (k PublicKey) Equal(other PublicKey) bool {
	return k.key != nil && other.key != nil && bytes.Equal(k.key.Marshal(), other.key.Marshal())
}

// Signer is a private key that signs commits.
type Signer struct {
	private ed25519.PrivateKey
	public  ssh.PublicKey
}

// GenerateKey makes a new ed25519 key.
func GenerateKey() (*Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return newSigner(private)
}

// ParsePrivateKey reads an unencrypted ed25519 key in OpenSSH's PEM format.
func ParsePrivateKey(data []byte) (*Signer, error) {
	raw, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: private key: %w", ErrMalformed, err)
	}
	switch key := raw.(type) {
	case *ed25519.PrivateKey:
		return newSigner(*key)
	case ed25519.PrivateKey:
		return newSigner(key)
	}
	return nil, fmt.Errorf("%w: private key: only ed25519 is supported", ErrMalformed)
}

func newSigner(private ed25519.PrivateKey) (*Signer, error) {
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return &Signer{private: private, public: public}, nil
}

// PublicKey returns the public half.
func (s *Signer) PublicKey() PublicKey { return PublicKey{s.public} }

// PEM returns the private key in OpenSSH's format.
func (s *Signer) PEM() ([]byte, error) {
	block, err := ssh.MarshalPrivateKey(s.private, "")
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// String hides the private key from logs.
func (s *Signer) String() string { return "signer " + s.PublicKey().Fingerprint() }

// sshSignature is the blob inside the armor, after its magic.
type sshSignature struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	HashName  string
	Signature []byte
}

// sshSigned is what is signed, after the magic.
type sshSigned struct {
	Namespace string
	Reserved  string
	HashName  string
	Hash      []byte
}

func (s *Signer) sign(message []byte) (string, error) {
	digest := sha512.Sum512(message)
	signed := sshSigned{Namespace: sshNamespace, HashName: "sha512", Hash: digest[:]}
	blob := ed25519.Sign(s.private, append([]byte(sshMagic), ssh.Marshal(signed)...))
	return armorSSH(append([]byte(sshMagic), ssh.Marshal(sshSignature{
		Version:   1,
		PublicKey: s.public.Marshal(),
		Namespace: sshNamespace,
		HashName:  "sha512",
		Signature: ssh.Marshal(ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: blob}),
	})...)), nil
}

func armorSSH(blob []byte) string {
	text := base64.StdEncoding.EncodeToString(blob)
	var b strings.Builder
	b.WriteString(sshArmorBegin + "\n")
	for ; len(text) > 70; text = text[70:] {
		b.WriteString(text[:70] + "\n")
	}
	b.WriteString(text + "\n" + sshArmorEnd + "\n")
	return b.String()
}

func unarmorSSH(text []byte) ([]byte, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(string(text)), sshArmorBegin)
	if ok {
		body, ok = strings.CutSuffix(body, sshArmorEnd)
	}
	if !ok {
		return nil, errors.New("armor is broken")
	}
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
}

// minRSABits is the least length of an RSA key whose signatures count.
const minRSABits = 2048

// strong says why signatures of a key never count, whoever it belongs to.
func strong(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if public, ok := key.(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey); ok && public.N.BitLen() < minRSABits {
			return fmt.Errorf("an RSA key of %d bits is too short", public.N.BitLen())
		}
		return nil
	}
	return fmt.Errorf("keys of type %.40s are not supported", key.Type())
}

// Verify returns the one of the given keys that signed the commit. The error
// is [ErrUnsigned], [ErrBadSignature] or [ErrUnknownKey]; a signature by an
// unknown key is checked all the same, so that the error tells the two apart.
// It knows SSH keys only, as hub and CCM have them; see [Commit.SignedBy].
func (c Commit) Verify(keys ...PublicKey) (PublicKey, error) {
	switch c.Signature {
	case Unsigned:
		return PublicKey{}, fmt.Errorf("commit %s: %w", c.Hash, ErrUnsigned)
	case SSH:
	default:
		return PublicKey{}, fmt.Errorf("commit %s: %w: a key of kind %s", c.Hash, ErrUnknownKey, c.Signature)
	}
	signer, err := verifySSH(c.signed, c.armored)
	if err != nil {
		return PublicKey{}, fmt.Errorf("commit %s: %w: %w", c.Hash, ErrBadSignature, err)
	}
	for _, k := range keys {
		if k.Equal(signer) {
			return k, nil
		}
	}
	return PublicKey{}, fmt.Errorf("commit %s: %w: %s", c.Hash, ErrUnknownKey, signer.Fingerprint())
}

// verifySSH returns the key that signed message.
func verifySSH(message, armored []byte) (PublicKey, error) {
	blob, err := unarmorSSH(armored)
	if err != nil {
		return PublicKey{}, err
	}
	blob, ok := bytes.CutPrefix(blob, []byte(sshMagic))
	if !ok {
		return PublicKey{}, errors.New("not an SSH signature")
	}
	var sig sshSignature
	if err := ssh.Unmarshal(blob, &sig); err != nil {
		return PublicKey{}, err
	}
	if sig.Version != 1 || sig.Namespace != sshNamespace {
		return PublicKey{}, fmt.Errorf("version %d, namespace %.20q", sig.Version, sig.Namespace)
	}
	signed := sshSigned{Namespace: sig.Namespace, Reserved: sig.Reserved, HashName: sig.HashName}
	switch sig.HashName {
	case "sha512":
		h := sha512.Sum512(message)
		signed.Hash = h[:]
	case "sha256":
		h := sha256.Sum256(message)
		signed.Hash = h[:]
	default:
		return PublicKey{}, fmt.Errorf("hash algorithm %.20q", sig.HashName)
	}
	key, err := ssh.ParsePublicKey(sig.PublicKey)
	if err != nil {
		return PublicKey{}, err
	}
	if err := strong(key); err != nil {
		return PublicKey{}, err
	}
	var inner ssh.Signature
	if err := ssh.Unmarshal(sig.Signature, &inner); err != nil {
		return PublicKey{}, err
	}
	if inner.Format == ssh.KeyAlgoRSA {
		return PublicKey{}, errors.New("RSA with SHA-1")
	}
	if err := key.Verify(append([]byte(sshMagic), ssh.Marshal(signed)...), &inner); err != nil {
		return PublicKey{}, err
	}
	return PublicKey{key}, nil
}
