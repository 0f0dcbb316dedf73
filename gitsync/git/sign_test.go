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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/crypto/ssh"
)

func mustKey(t *testing.T) *Signer {
	t.Helper()
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func needSSHKeygen(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("git verifies SSH signatures with ssh-keygen, which is not installed")
	}
}

// signedCommit is a commit with everything that can stand in one.
func signedCommit(t *testing.T, s *Store, key *Signer) Hash {
	t.Helper()
	parent := commitOn(t, s, Hash{}, map[string]string{"a": "1"})
	c, err := s.Commit(parent)
	if err != nil {
		t.Fatal(err)
	}
	sp := spec(c.Tree, "acme: Service shop/web: port 443 added\n\nBecause\n\tof that.", parent)
	sp.Committer = Ident{Name: "Hub", Email: "hub@example.com", When: at(5)}
	sp.Trailers = Trailers{{"Kubelb-Tenant", "acme"}, {"Kubelb-Generation", "7"}}
	sp.Signer = key
	h, err := s.NewCommit(sp)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNativeGitVerifiesOurSignatures(t *testing.T) {
	needSSHKeygen(t)
	srv := newServer(t)
	r, s, key := srv.remote(Options{}), NewStore(), mustKey(t)
	tip := signedCommit(t, s, key)
	mustPush(t, r, s, main, Hash{}, tip)
	srv.fsck()

	verify := func(k *Signer) (string, error) {
		allowed := filepath.Join(t.TempDir(), "allowed")
		line := "hub@example.com namespaces=\"git\" " + k.PublicKey().String() + "\n"
		if err := os.WriteFile(allowed, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		return srv.tryGit(srv.bare, "-c", "gpg.format=ssh", "-c", "gpg.ssh.allowedSignersFile="+allowed, "verify-commit", tip.String())
	}
	if out, err := verify(key); err != nil || !strings.Contains(out, `Good "git" signature for hub@example.com`) {
		t.Errorf("git verify-commit: %v: %s", err, out)
	}
	if out, err := verify(mustKey(t)); err == nil {
		t.Errorf("git verify-commit with another key: %s", out)
	}
}

func TestWeVerifyNativeSignatures(t *testing.T) {
	needSSHKeygen(t)
	srv := newServer(t)
	for _, kind := range [][]string{{"ed25519"}, {"rsa", "-b", "2048"}, {"ecdsa", "-b", "256"}, {"ecdsa", "-b", "521"}} {
		t.Run(strings.Join(kind, ""), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if out, err := exec.Command("ssh-keygen", append([]string{"-q", "-N", "", "-f", path, "-t"}, kind...)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			native := srv.clone()
			native.write("f", strings.Join(kind, " "))
			native.git("add", "-A")
			native.git("-c", "gpg.format=ssh", "-c", "user.signingkey="+path, "commit", "-q", "-S", "-m", "signed")
			native.git("push", "-q", "origin", "HEAD:refs/heads/"+strings.Join(kind, ""))
			tip := mustHash(t, native.git("rev-parse", "HEAD"))

			s := NewStore()
			mustFetch(t, srv.remote(Options{}), s, Want{Tip: tip})
			c, err := s.Commit(tip)
			if err != nil {
				t.Fatal(err)
			}
			line, err := os.ReadFile(path + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			key, err := ParsePublicKey(string(line))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Verify(mustKey(t).PublicKey(), key); err != nil || !got.Equal(key) {
				t.Errorf("verify: %v, %v", got, err)
			}
			if _, err := c.Verify(mustKey(t).PublicKey()); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("verify with another key: %v", err)
			}
		})
	}
}

func TestVerifyOutcomes(t *testing.T) {
	s, key := NewStore(), mustKey(t)
	good := signedCommit(t, s, key)
	raw := s.objects[good].data
	// replace makes a commit from the good one's bytes.
	replace := func(old, new string) []byte {
		out := bytes.Replace(raw, []byte(old), []byte(new), 1)
		if bytes.Equal(out, raw) {
			t.Fatalf("%q is not in the commit", old)
		}
		return out
	}
	armored := string(raw[bytes.Index(raw, []byte("gpgsig ")):bytes.Index(raw, []byte("\n\nacme"))])

	for _, tc := range []struct {
		name string
		data []byte
		want error
	}{
		{"as signed", raw, nil},
		{"another subject", replace("port 443", "port 444"), ErrBadSignature},
		{"another trailer", replace("Generation: 7", "Generation: 8"), ErrBadSignature},
		{"another author", replace("author CCM", "author CCN"), ErrBadSignature},
		{"an added parent", replace("\nauthor", "\nparent "+good.String()+"\nauthor"), ErrBadSignature},
		{"an added header", replace("\ngpgsig", "\nencoding latin1\ngpgsig"), ErrBadSignature},
		{"an added end", append(bytes.Clone(raw), '\n'), ErrBadSignature},
		{"without its signature", replace(armored+"\n", ""), ErrUnsigned},
		{"broken armor", replace("-----END SSH SIGNATURE-----", "-----END-----"), ErrBadSignature},
		{"broken base64", replace("U1NIU0lH", "!!!!!!!!"), ErrBadSignature},
		{"OpenPGP", replace(armored, "gpgsig -----BEGIN PGP SIGNATURE-----\n -----END PGP SIGNATURE-----"), ErrUnknownKey},
	} {
		h := s.put(plumbing.CommitObject, tc.data)
		c, err := s.Commit(h)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if _, err := c.Verify(key.PublicKey()); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	c, _ := s.Commit(good)
	if _, err := c.Verify(); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("no keys: %v", err)
	}
	if _, err := c.Verify(PublicKey{}); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("zero key: %v", err)
	}
	twice := s.put(plumbing.CommitObject, replace(armored, armored+"\n"+armored))
	if _, err := s.Commit(twice); !errors.Is(err, ErrMalformed) {
		t.Errorf("two signatures: %v", err)
	}
}

// A signature must be for Git, not for a file or a login.
func TestVerifyRefusesOtherNamespaces(t *testing.T) {
	_, private, err := generateRaw(t)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("tree\n")
	for _, tc := range []struct {
		name, namespace, hash string
		version               uint32
		format                string
		ok                    bool
	}{
		{"git", "git", "sha512", 1, "rsa-sha2-512", true},
		{"sha256", "git", "sha256", 1, "rsa-sha2-256", true},
		{"file", "file", "sha512", 1, "rsa-sha2-512", false},
		{"version 2", "git", "sha512", 2, "rsa-sha2-512", false},
		{"md5", "git", "md5", 1, "rsa-sha2-512", false},
		{"SHA-1", "git", "sha512", 1, "ssh-rsa", false},
	} {
		_, err := verifySSH(message, craft(t, private, message, tc.namespace, tc.hash, tc.version, tc.format))
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func generateRaw(t *testing.T) (ssh.PublicKey, ssh.AlgorithmSigner, error) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, nil, err
	}
	return signer.PublicKey(), signer.(ssh.AlgorithmSigner), nil
}

func craft(t *testing.T, key ssh.AlgorithmSigner, message []byte, namespace, hash string, version uint32, format string) []byte {
	t.Helper()
	h := crypto.SHA512.New()
	if hash == "sha256" {
		h = crypto.SHA256.New()
	}
	h.Write(message)
	signed := append([]byte(sshMagic), ssh.Marshal(sshSigned{Namespace: namespace, HashName: hash, Hash: h.Sum(nil)})...)
	sig, err := key.SignWithAlgorithm(rand.Reader, signed, format)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(armorSSH(append([]byte(sshMagic), ssh.Marshal(sshSignature{
		Version: version, PublicKey: key.PublicKey().Marshal(), Namespace: namespace, HashName: hash, Signature: ssh.Marshal(sig),
	})...)))
}

// A hub or a CCM never believes a key to which somebody gave a bound that is not
// kept to.
func TestParsePublicKeyRefusesWhatItWouldNotKeepTo(t *testing.T) {
	line := mustKey(t).PublicKey().String()
	for _, text := range []string{
		`namespaces="file" ` + line, `valid-before="20200101" ` + line, "cert-authority " + line, "no-pty " + line, "ada@example.com " + line,
		line + "\n" + line, "# ada\n" + line, "", line[:20],
	} {
		if key, err := ParsePublicKey(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q is %v, %v", text, key, err)
		}
	}
	if key, err := ParsePublicKey("\t" + line + " the ccm of acme\r\n"); err != nil || key.String() != line {
		t.Errorf("%v, %v", key, err)
	}
}

func TestKeysRoundTrip(t *testing.T) {
	key := mustKey(t)
	data, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	if !again.PublicKey().Equal(key.PublicKey()) {
		t.Error("another key came back")
	}
	public, err := ParsePublicKey(key.PublicKey().String() + " hub@example.com\n")
	if err != nil || !public.Equal(key.PublicKey()) {
		t.Errorf("public key: %v, %v", public, err)
	}
	if strings.Contains(key.String(), "PRIVATE") || !strings.HasPrefix(public.Fingerprint(), "SHA256:") {
		t.Errorf("%s, %s", key, public.Fingerprint())
	}
	for _, bad := range []string{"", "ssh-ed25519", "ssh-ed25519 AAAA"} {
		if _, err := ParsePublicKey(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("public key %q: %v", bad, err)
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(other, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("key"), pem.EncodeToMemory(block)} {
		if _, err := ParsePrivateKey(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("private key %.20q: %v", bad, err)
		}
	}
}
