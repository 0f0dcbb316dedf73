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
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgp "github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/crypto/ssh"
)

// pgpPerson is somebody with an OpenPGP key.
type pgpPerson struct {
	t      *testing.T
	entity *openpgp.Entity
}

func newPGPPerson(t *testing.T, config *pgp.Config) *pgpPerson {
	t.Helper()
	if config.Time == nil {
		config.Time = clock(at(-1000))
	}
	entity, err := openpgp.NewEntity("Ada", "", "ada@example.com", config)
	if err != nil {
		t.Fatal(err)
	}
	return &pgpPerson{t, entity}
}

func clock(now time.Time) func() time.Time { return func() time.Time { return now } }

// public is the person's key as they hand it out.
func (p *pgpPerson) public() Key {
	p.t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(p.entity.Serialize(w), w.Close()); err != nil {
		p.t.Fatal(err)
	}
	key, err := ParseKey(b.String() + "\n")
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

// commit signs a commit as Git does it.
func (p *pgpPerson) commit(s *Store, when time.Time, hash crypto.Hash) Commit {
	p.t.Helper()
	plain := commitOn(p.t, s, Hash{}, map[string]string{"a": "1"})
	message := s.objects[plain].data
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.SignatureType, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	config := &pgp.Config{Time: clock(when), MinRSABits: 1024, NonDeterministicSignaturesViaNotation: new(bool)}
	key, ok := p.entity.SigningKey(when, config)
	if !ok {
		p.t.Fatal("no signing key")
	}
	sig := &pgp.Signature{
		Version: key.PublicKey.Version, SigType: pgp.SigTypeBinary, PubKeyAlgo: key.PublicKey.PubKeyAlgo, Hash: hash,
		CreationTime: when, IssuerKeyId: &key.PublicKey.KeyId, IssuerFingerprint: key.PublicKey.Fingerprint,
	}
	h, err := sig.PrepareSign(config)
	if err != nil {
		p.t.Fatal(err)
	}
	h.Write(message)
	if err := errors.Join(sig.Sign(h, key.PrivateKey, config), sig.Serialize(w), w.Close()); err != nil {
		p.t.Fatal(err)
	}
	return withSignature(p.t, s, message, b.String())
}

// withSignature puts a signature into a commit.
func withSignature(t *testing.T, s *Store, message []byte, armored string) Commit {
	t.Helper()
	head, tail, ok := bytes.Cut(message, []byte("\n\n"))
	if !ok {
		t.Fatal("not a commit")
	}
	signature := "gpgsig " + strings.ReplaceAll(strings.TrimSpace(armored), "\n", "\n ")
	c, err := s.Commit(s.put(plumbing.CommitObject, fmt.Appendf(nil, "%s\n%s\n\n%s", head, signature, tail)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOpenPGPSignaturesCount(t *testing.T) {
	for name, config := range map[string]*pgp.Config{
		"rsa":     {Algorithm: pgp.PubKeyAlgoRSA, RSABits: 2048},
		"eddsa":   {Algorithm: pgp.PubKeyAlgoEdDSA},
		"ecdsa":   {Algorithm: pgp.PubKeyAlgoECDSA, Curve: pgp.CurveNistP256},
		"ed25519": {Algorithm: pgp.PubKeyAlgoEd25519, V6Keys: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, ada, bob := NewStore(), newPGPPerson(t, config), newPGPPerson(t, &pgp.Config{})
			c := ada.commit(s, at(0), crypto.SHA256)
			if i, err := c.SignedBy(mustKey(t).PublicKey().Key(), bob.public(), ada.public()); err != nil || i != 2 {
				t.Errorf("signed by %d, %v", i, err)
			}
			if _, err := c.SignedBy(bob.public(), Key{}); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("with another key: %v", err)
			}
			if _, err := c.Verify(mustKey(t).PublicKey()); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("with SSH keys only: %v", err)
			}
			changed := bytes.Replace(s.objects[c.Hash].data, []byte("change 1 files"), []byte("change 2 files"), 1)
			forged, err := s.Commit(s.put(plumbing.CommitObject, changed))
			if err != nil || forged.Hash == c.Hash {
				t.Fatal(err)
			}
			if _, err := forged.SignedBy(ada.public()); !errors.Is(err, ErrBadSignature) {
				t.Errorf("another message: %v", err)
			}
		})
	}
}

func TestOpenPGPKeysCountAsOfTheSignature(t *testing.T) {
	s := NewStore()
	revoke := func(p *pgpPerson, reason pgp.ReasonForRevocation) {
		if err := p.entity.Revoke(reason, "", &pgp.Config{Time: clock(at(500))}); err != nil {
			t.Fatal(err)
		}
	}
	superseded, compromised := newPGPPerson(t, &pgp.Config{}), newPGPPerson(t, &pgp.Config{})
	early, late, stolen := superseded.commit(s, at(0), crypto.SHA256), superseded.commit(s, at(1000), crypto.SHA256), compromised.commit(s, at(0), crypto.SHA256)
	revoke(superseded, pgp.KeySuperseded)
	revoke(compromised, pgp.KeyCompromised)

	short := newPGPPerson(t, &pgp.Config{KeyLifetimeSecs: 1500}) // until at(500)
	inTime := short.commit(s, at(0), crypto.SHA256)
	expired := newPGPPerson(t, &pgp.Config{})
	tooLate := expired.commit(s, at(1000), crypto.SHA256)
	for _, identity := range expired.entity.Identities { // the signature was possible, the key says that it ended before
		for _, sig := range identity.SelfCertifications {
			secs := uint32(1500)
			sig.Packet.KeyLifetimeSecs = &secs
			if err := sig.Packet.SignUserId(identity.UserId.Id, expired.entity.PrimaryKey, expired.entity.PrivateKey, &pgp.Config{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	subkey := newPGPPerson(t, &pgp.Config{})
	if err := subkey.entity.AddSigningSubkey(&pgp.Config{Time: clock(at(-900))}); err != nil {
		t.Fatal(err)
	}
	bySubkey := subkey.commit(s, at(0), crypto.SHA256)

	for _, tc := range []struct {
		name   string
		commit Commit
		key    Key
		want   error
	}{
		{"before it was superseded", early, superseded.public(), nil},
		{"after it was superseded", late, superseded.public(), ErrBadSignature},
		{"before it was stolen", stolen, compromised.public(), ErrBadSignature},
		{"before its end", inTime, short.public(), nil},
		{"after its end", tooLate, expired.public(), ErrBadSignature},
		{"by a subkey", bySubkey, subkey.public(), nil},
	} {
		if _, err := tc.commit.SignedBy(tc.key); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestWeakOpenPGPIsRefused(t *testing.T) {
	s, ada := NewStore(), newPGPPerson(t, &pgp.Config{Algorithm: pgp.PubKeyAlgoRSA, RSABits: 2048})
	short := newPGPPerson(t, &pgp.Config{Algorithm: pgp.PubKeyAlgoRSA, RSABits: 1024, MinRSABits: 1024})
	for name, got := range map[string]struct {
		commit Commit
		key    Key
	}{
		"SHA-1":    {ada.commit(s, at(0), crypto.SHA1), ada.public()},
		"1024 bit": {short.commit(s, at(0), crypto.SHA256), short.public()},
	} {
		if _, err := got.commit.SignedBy(got.key); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ada.commit(s, at(0), crypto.SHA256).SignedBy(ada.public()); err != nil {
		t.Errorf("SHA-256: %v", err)
	}
}

func TestBrokenOpenPGPSignatures(t *testing.T) {
	s, ada := NewStore(), newPGPPerson(t, &pgp.Config{})
	message := s.objects[commitOn(t, s, Hash{}, map[string]string{"a": "1"})].data
	for name, armored := range map[string]string{
		"empty":   pgpSignatureBegin + "\n\n-----END PGP SIGNATURE-----",
		"garbage": pgpSignatureBegin + "\n\nAAAA\n-----END PGP SIGNATURE-----",
		"no end":  pgpSignatureBegin + "\n\nAAAA",
		"unknown": "-----BEGIN SOMETHING-----\n-----END SOMETHING-----",
		"long":    pgpSignatureBegin + "\n\n" + strings.Repeat("AAAA\n", maxSignature/4) + "-----END PGP SIGNATURE-----",
	} {
		if _, err := withSignature(t, s, message, armored).SignedBy(ada.public()); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What gpg itself wrote, also where it is not installed.
func TestRecordedSignatureOfGPG(t *testing.T) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", "openpgp", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	key, err := ParseKey(string(read("gpg.pub")))
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore()
	c, err := s.Commit(s.put(plumbing.CommitObject, read("gpg.commit")))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := c.SignedBy(key); err != nil || i != 0 {
		t.Errorf("signed by %d, %v", i, err)
	}
	forged, err := s.Commit(s.put(plumbing.CommitObject, bytes.Replace(read("gpg.commit"), []byte("443"), []byte("444"), 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := forged.SignedBy(key); !errors.Is(err, ErrBadSignature) {
		t.Errorf("forged: %v", err)
	}
}

func TestNativeGPGSignatures(t *testing.T) {
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("gpg is not installed; TestRecordedSignatureOfGPG has what it wrote")
	}
	home, err := os.MkdirTemp("", "gpg") // the path of its socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--kill", "gpg-agent").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) string {
		out, err := exec.Command("gpg", append([]string{"--batch", "--quiet", "--passphrase", ""}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("gpg %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	gpg("--quick-generate-key", "Ada <ada@example.com>", "ed25519", "sign", "never")
	srv := newServer(t)
	native := srv.clone()
	native.write("f", "x")
	native.git("add", "-A")
	native.git("-c", "user.signingkey=ada@example.com", "commit", "-q", "-S", "-m", "signed")
	native.git("push", "-q", "origin", "HEAD:refs/heads/main")
	s := NewStore()
	tip := srv.head("main")
	mustFetch(t, srv.remote(Options{}), s, Want{Tip: tip})
	c, err := s.Commit(tip)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(gpg("--armor", "--export", "ada@example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SignedBy(key); err != nil {
		t.Error(err)
	}
	if key.Fingerprint() == "" || strings.Contains(key.Fingerprint(), " ") {
		t.Errorf("fingerprint %q", key.Fingerprint())
	}
}

// A key on a security key signs in a form of its own.
func TestSecurityKeySignatures(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Name        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, public, "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(string(ssh.MarshalAuthorizedKey(line)))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(message []byte, flags byte) string {
		h := sha512.Sum512(message)
		signed := append([]byte(sshMagic), ssh.Marshal(sshSigned{Namespace: sshNamespace, HashName: "sha512", Hash: h[:]})...)
		application, digest := sha256.Sum256([]byte("ssh:")), sha256.Sum256(signed)
		blob := append(append(append(application[:], flags), 0, 0, 0, 9), digest[:]...)
		sig := ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(private, blob), Rest: []byte{flags, 0, 0, 0, 9}}
		return armorSSH(append([]byte(sshMagic), ssh.Marshal(sshSignature{
			Version: 1, PublicKey: line.Marshal(), Namespace: sshNamespace, HashName: "sha512", Signature: ssh.Marshal(sig),
		})...))
	}
	s := NewStore()
	message := s.objects[commitOn(t, s, Hash{}, map[string]string{"a": "1"})].data
	if i, err := withSignature(t, s, message, sign(message, 1)).SignedBy(key); err != nil || i != 0 {
		t.Errorf("touched: %d, %v", i, err)
	}
	if _, err := withSignature(t, s, message, sign(message, 0)).SignedBy(key); !errors.Is(err, ErrBadSignature) {
		t.Errorf("not touched: %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	pem, err := mustKey(t).PEM()
	if err != nil {
		t.Fatal(err)
	}
	line := mustKey(t).PublicKey().String()
	gpg, err := os.ReadFile("testdata/openpgp/gpg.pub")
	if err != nil {
		t.Fatal(err)
	}
	block := strings.TrimSpace(string(gpg))
	for name, text := range map[string]string{
		"nothing": "", "a private key": string(pem), "two lines": line + "\n" + line, "a certificate": strings.Replace(line, "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", 1),
		"a broken block": pgpPublicBegin + "\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----", "a weak key": weakRSA(t),
		"an option": `namespaces="git" ` + line, "an expiry": `valid-before="20200101" ` + line, "an authority": "cert-authority " + line,
		"a principal": "ada@example.com " + line, "a comment": "# ada\n" + line, "two blocks": block + "\n" + block, "a line after a block": block + "\n" + line,
		"a block after a line": line + "\n" + block,
	} {
		if _, err := ParseKey(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if key, err := ParseKey(" " + line + " ada@example.com\n"); err != nil || !strings.HasPrefix(key.Fingerprint(), "SHA256:") {
		t.Errorf("%v, %v", key.Fingerprint(), err)
	}
}

// weakRSA is a public key of 1024 bits.
func weakRSA(t *testing.T) string {
	t.Helper()
	const line = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ"
	key := make([]byte, 128)
	key[0], key[127] = 0xff, 1
	blob := ssh.Marshal(struct {
		Name string
		E    []byte
		N    []byte
	}{ssh.KeyAlgoRSA, []byte{1, 0, 1}, append([]byte{0}, key...)})
	public, err := ssh.ParsePublicKey(blob)
	if err != nil {
		t.Fatal(err)
	}
	text := string(ssh.MarshalAuthorizedKey(public))
	if !strings.HasPrefix(text, line) {
		t.Fatalf("%.60s", text)
	}
	return text
}

func BenchmarkVerifyCommits(b *testing.B) {
	const n = 1000
	signer, err := GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]Key, 20) // those of the other reviewers
	for i := range keys {
		other, err := GenerateKey()
		if err != nil {
			b.Fatal(err)
		}
		keys[i] = other.PublicKey().Key()
	}
	keys = append(keys, signer.PublicKey().Key())
	s := NewStore()
	tree, err := s.Edit(Hash{}, map[string][]byte{"a": []byte("1")})
	if err != nil {
		b.Fatal(err)
	}
	commits := make([]Hash, n)
	for i := range commits {
		sp := spec(tree, fmt.Sprintf("commit %d", i))
		sp.Signer = signer
		if commits[i], err = s.NewCommit(sp); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		for _, h := range commits {
			c, err := s.Commit(h)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.SignedBy(keys...); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/signature")
}
