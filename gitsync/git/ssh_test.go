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
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/kubelb/gitops/test/forward"
	"github.com/kubelb/gitops/test/sshd"
)

// sshServer serves the repository of a server over SSH as well.
type sshServer struct {
	*server
	*sshd.Server
	identity string // a private key that is let in
	address  string
	// instead answers a call in Git's place, if it is set and says so.
	instead atomic.Pointer[func(*sshd.Call) (status int, answered bool)]
}

func newSSHServer(t *testing.T, hostKeys ...string) *sshServer {
	t.Helper()
	s := &sshServer{server: newServer(t)}
	public, identity := newIdentity(t, "ed25519", "")
	s.identity = identity
	s.Server = &sshd.Server{
		Authorize: func(key ssh.PublicKey) (string, bool) {
			return "ada", string(key.Marshal()) == string(public.Marshal())
		},
		Serve: s.serve,
	}
	for _, kind := range hostKeys {
		key, err := sshd.NewHostKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		s.HostKeys = append(s.HostKeys, key)
	}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.address = s.Address()
	return s
}

func (s *sshServer) serve(c *sshd.Call) int {
	if instead := s.instead.Load(); instead != nil {
		if status, answered := (*instead)(c); answered {
			return status
		}
	}
	if c.Path != "/repo's.git" {
		_, _ = fmt.Fprintf(c.Stderr, "fatal: '%s' does not appear to be a git repository\n", c.Path)
		return 128
	}
	return c.Run(s.bare, []string{"PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(filepath.Dir(s.bare), "none")}, c.Stdin)
}

// answers has calls answered in Git's place; nil ends it.
func (s *sshServer) answers(f func(*sshd.Call) (int, bool)) {
	if f == nil {
		s.instead.Store(nil)
		return
	}
	s.instead.Store(&f)
}

func (s *sshServer) url() string { return "ssh://git@" + s.address + "/repo's.git" }

func (s *sshServer) auth() Auth { return Auth{Identity: s.identity, KnownHosts: s.KnownHosts()} }

func (s *sshServer) sshRemote(o Options) *Remote {
	s.t.Helper()
	r, err := NewRemote(s.url(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(r.Close)
	return r
}

func newIdentity(t *testing.T, kind, passphrase string) (ssh.PublicKey, string) {
	t.Helper()
	private, err := sshd.NewKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer.PublicKey(), string(pem.EncodeToMemory(block))
}

func TestSSHCarriesEverythingInOneConnection(t *testing.T) {
	for name, old := range map[string]bool{"protocol 2": false, "a server without GIT_PROTOCOL": true} {
		t.Run(name, func(t *testing.T) {
			srv := newSSHServer(t, "ed25519")
			srv.RefuseEnvironment = old
			r, s := srv.sshRemote(Options{Auth: srv.auth()}), NewStore()
			refs, err := r.ListRefs(t.Context())
			if err != nil || len(refs) != 0 {
				t.Fatalf("refs of an empty repository: %v, %v", refs, err)
			}
			first := commitOn(t, s, Hash{}, map[string]string{"README.md": "hello\n", "a/b": "1"})
			mustPush(t, r, s, main, Hash{}, first)
			next := srv.clone().push("c", "3")
			refs, err = r.ListRefs(t.Context(), "refs/heads/")
			if err != nil || refs[main] != next {
				t.Fatalf("refs: %v, %v; want main at %s", refs, err, next)
			}
			mustFetch(t, r, s, Want{Tip: next, Have: first})
			if got := content(t, s, next, "c"); got != "3" {
				t.Errorf("c is %q", got)
			}
			other := NewStore()
			mustFetch(t, r, other, Want{Tip: next})
			if err := r.Deepen(t.Context(), other, next, 10); err != nil {
				t.Fatal(err)
			}
			if ok, err := other.Reaches(next, first); !ok || err != nil {
				t.Errorf("the first commit is not reached after deepening: %v", err)
			}
			last := commitOn(t, other, next, map[string]string{"d": "4"})
			mustPush(t, r, other, main, next, last)
			if atomic, err := r.SupportsAtomic(t.Context()); !atomic || err != nil {
				t.Errorf("atomic: %v, %v", atomic, err)
			}
			results, err := r.Push(t.Context(), other, []RefUpdate{{Name: main, Old: first, New: last}}, false)
			if !errors.Is(err, ErrRejected) || len(results) != 1 {
				t.Errorf("a lost race: %v, %v", results, err)
			}
			if n := srv.Connections(); n != 1 {
				t.Errorf("%d connections", n)
			}
			srv.fsck()
		})
	}
}

func TestSSHKeysOfAllKinds(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		for _, passphrase := range []string{"", "open sesame"} {
			srv := newSSHServer(t, kind)
			public, identity := newIdentity(t, kind, passphrase)
			srv.Authorize = func(key ssh.PublicKey) (string, bool) {
				return "ada", string(key.Marshal()) == string(public.Marshal())
			}
			secret := map[string][]byte{"identity": []byte(identity), "known_hosts": []byte(srv.KnownHosts()), "password": []byte(passphrase + "\n")}
			o, err := ReadSecret(srv.url(), secret)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := srv.sshRemote(o).ListRefs(t.Context()); err != nil {
				t.Errorf("%s, passphrase %q: %v", kind, passphrase, err)
			}
		}
	}
}

func TestSSHRefusals(t *testing.T) {
	srv := newSSHServer(t, "ed25519")
	stranger, identity := newIdentity(t, "ed25519", "")
	for name, tc := range map[string]struct {
		url, identity string
		answer        func(*sshd.Call) (int, bool)
		want          error
		text          string
	}{
		"an unknown key": {url: srv.url(), identity: identity, want: ErrUnauthorized, text: ssh.FingerprintSHA256(stranger)},
		"no such repository": {
			url: "ssh://git@" + srv.address + "/other.git", want: ErrNotFound, text: "does not appear to be a git repository",
		},
		"a read-only key": {url: srv.url(), want: ErrUnauthorized, text: "marked as read only", answer: func(c *sshd.Call) (int, bool) {
			_, _ = io.WriteString(c.Stderr, "ERROR: The key you are authenticating with has been marked as read only.\n")
			return 1, true
		}},
		"a server in trouble": {url: srv.url(), want: ErrUnavailable, text: "maintenance", answer: func(c *sshd.Call) (int, bool) {
			_, _ = io.WriteString(c.Stderr, "down for maintenance\n"+strings.Repeat("x", 4000))
			return 1, true
		}},
		"words in the place of packets": {url: srv.url(), want: ErrProtocol, answer: func(c *sshd.Call) (int, bool) {
			_, _ = io.WriteString(c.Stdout, "Welcome to the server\n")
			return 0, true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			srv.answers(tc.answer)
			defer srv.answers(nil)
			auth := srv.auth()
			if tc.identity != "" {
				auth.Identity = tc.identity
			}
			r, err := NewRemote(tc.url, Options{Auth: auth})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = r.ListRefs(t.Context())
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v, want %v with %q", err, tc.want, tc.text)
			}
			s := NewStore()
			_, err = r.Push(t.Context(), s, []RefUpdate{{Name: main, New: commitOn(t, s, Hash{}, map[string]string{"a": "1"})}}, false)
			if !errors.Is(err, tc.want) || errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("push: %v, want %v", err, tc.want)
			}
		})
	}
}

func TestHostKeys(t *testing.T) {
	srv := newSSHServer(t, "ed25519", "rsa", "ecdsa")
	host := knownhosts.Normalize(srv.address)
	line := func(kind string) string {
		for _, key := range srv.HostKeys {
			if strings.Contains(key.PublicKey().Type(), kind) {
				return string(ssh.MarshalAuthorizedKey(key.PublicKey()))
			}
		}
		t.Fatal("no key of type", kind)
		return ""
	}
	fingerprint, preferred := ssh.FingerprintSHA256(srv.HostKeys[0].PublicKey()), ssh.FingerprintSHA256(srv.HostKeys[2].PublicKey())
	other, _ := newIdentity(t, "ed25519", "")
	foreign := string(ssh.MarshalAuthorizedKey(other))
	for name, tc := range map[string]struct {
		known string
		want  []string // of the error; none: the host is believed
	}{
		"its key":                              {known: host + " " + line("ed25519")},
		"among comments and others":            {known: "# ours\n\nexample.com " + foreign + host + ",example.net " + line("ed25519")},
		"only a type that is not shown first":  {known: host + " " + line("rsa")},
		"one of several":                       {known: host + " " + foreign + host + " " + line("ed25519")},
		"hashed":                               {known: knownhosts.HashHostname(host) + " " + line("ecdsa")},
		"a wildcard":                           {known: "[127.0.0.*]:* " + line("ed25519")},
		"an excluded host":                     {known: "[127.0.0.*]:*,!" + host + " " + line("ed25519"), want: []string{"no entry for " + host, preferred}},
		"another key":                          {known: host + " " + foreign, want: []string{fingerprint, ssh.FingerprintSHA256(other), host}},
		"another host":                         {known: "example.com " + line("ed25519"), want: []string{"no entry for " + host, preferred}},
		"the host without its port":            {known: "127.0.0.1 " + line("ed25519"), want: []string{"no entry for " + host}},
		"another host, hashed":                 {known: knownhosts.HashHostname("example.com") + " " + line("ed25519"), want: []string{"no entry for " + host}},
		"revoked":                              {known: host + " " + line("ed25519") + "@revoked * " + line("ed25519") + "@revoked " + host + " " + line("ed25519"), want: []string{"revokes", fingerprint}},
		"the key of an authority as it is":     {known: "@cert-authority " + host + " " + line("ed25519"), want: []string{"certificates by"}},
		"a revoked key that another line has ": {known: host + " " + line("rsa") + "@revoked " + host + " " + line("ed25519")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := srv.sshRemote(Options{Auth: Auth{Identity: srv.identity, KnownHosts: tc.known}}).ListRefs(t.Context())
			if (len(tc.want) > 0) != errors.Is(err, ErrHostKey) || len(tc.want) == 0 && err != nil {
				t.Fatalf("%v, want %q", err, tc.want)
			}
			for _, text := range tc.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%v does not say %q", err, text)
				}
			}
		})
	}
	t.Run("no key of a known type", func(t *testing.T) {
		srv := newSSHServer(t, "rsa")
		known := knownhosts.Normalize(srv.address) + " " + foreign
		_, err := srv.sshRemote(Options{Auth: Auth{Identity: srv.identity, KnownHosts: known}}).ListRefs(t.Context())
		if !errors.Is(err, ErrHostKey) || !strings.Contains(err.Error(), ssh.FingerprintSHA256(other)) {
			t.Errorf("%v", err)
		}
	})
}

func TestHostCertificates(t *testing.T) {
	srv := newSSHServer(t, "ed25519")
	host := knownhosts.Normalize(srv.address)
	authority, err := sshd.NewHostKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	plain := srv.HostKeys[0]
	certify := func(principal string) {
		cert := &ssh.Certificate{
			Key: plain.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{principal}, ValidBefore: ssh.CertTimeInfinity,
		}
		if err := cert.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewCertSigner(cert, plain)
		if err != nil {
			t.Fatal(err)
		}
		srv.SetHostKeys(signer)
	}
	line := host + " " + string(ssh.MarshalAuthorizedKey(authority.PublicKey()))
	look := func(known string) error {
		_, err := srv.sshRemote(Options{Auth: Auth{Identity: srv.identity, KnownHosts: known}}).ListRefs(t.Context())
		return err
	}
	certify("127.0.0.1")
	if err := look("@cert-authority " + line); err != nil {
		t.Errorf("certified by the authority: %v", err)
	}
	if err := look("@cert-authority " + line + "@revoked " + line); !errors.Is(err, ErrHostKey) {
		t.Errorf("certified by a revoked authority: %v", err)
	}
	if err := look(line); !errors.Is(err, ErrHostKey) {
		t.Errorf("a key that is no authority certifies: %v", err)
	}
	certify("example.com")
	if err := look("@cert-authority " + line); !errors.Is(err, ErrHostKey) {
		t.Errorf("certified for another host: %v", err)
	}
}

func TestSSHPushThatIsCutOff(t *testing.T) {
	srv := newSSHServer(t, "ed25519")
	r, s := srv.sshRemote(Options{Auth: srv.auth()}), NewStore()
	first := commitOn(t, s, Hash{}, map[string]string{"a": "1"})
	mustPush(t, r, s, main, Hash{}, first)

	second := commitOn(t, s, first, map[string]string{"a": "2"})
	srv.answers(func(c *sshd.Call) (int, bool) { // Git receives, nobody hears of it
		c.Stdout = &holdBack{w: c.Stdout}
		status := c.Run(srv.bare, os.Environ(), c.Stdin)
		c.Abort()
		return status, true
	})
	results, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: first, New: second}}, false)
	if !errors.Is(err, ErrUnknownOutcome) || len(results) != 1 || !errors.Is(results[0].Err, ErrUnknownOutcome) {
		t.Errorf("%v, %v", results, err)
	}
	if srv.head("main") != second {
		t.Error("the push did not arrive, so the test shows nothing")
	}

	srv.answers(func(c *sshd.Call) (int, bool) { c.Abort(); return 1, true })
	third := commitOn(t, s, second, map[string]string{"a": "3"})
	_, err = r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: second, New: third}}, false)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("cut off before anything was sent: %v", err)
	}
	srv.answers(nil)
	mustPush(t, r, s, main, second, third)
}

// holdBack lets through what a service says before it was asked, up to the first
// flush packet.
type holdBack struct {
	w    io.Writer
	done bool
}

func (h *holdBack) Write(p []byte) (int, error) {
	if h.done {
		return len(p), nil
	}
	h.done = strings.HasSuffix(string(p), "0000")
	return h.w.Write(p)
}

func TestSSHServersThatDoNotAnswer(t *testing.T) {
	t.Run("after the connection", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		_, identity := newIdentity(t, "ed25519", "")
		host, _ := newIdentity(t, "ed25519", "")
		address := listener.Addr().String()
		r, err := NewRemote("ssh://"+address+"/repo.git", Options{
			Timeout: 300 * time.Millisecond,
			Auth:    Auth{Identity: identity, KnownHosts: knownhosts.Line([]string{address}, host)},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.ListRefs(t.Context()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	t.Run("in a session, and only the next call dials again", func(t *testing.T) {
		srv := newSSHServer(t, "ed25519")
		r, s := srv.sshRemote(Options{Auth: srv.auth(), Timeout: 2 * time.Second}), NewStore()
		first := commitOn(t, s, Hash{}, map[string]string{"a": "1"})
		mustPush(t, r, s, main, Hash{}, first)
		srv.answers(func(c *sshd.Call) (int, bool) { <-c.Done(); return 1, true })
		if _, err := r.ListRefs(t.Context()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("list: %v", err)
		}
		srv.answers(func(c *sshd.Call) (int, bool) {
			c.Stdout = &holdBack{w: c.Stdout}
			status := c.Run(srv.bare, os.Environ(), c.Stdin)
			<-c.Done()
			return status, true
		})
		second := commitOn(t, s, first, map[string]string{"a": "2"})
		_, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: first, New: second}}, false)
		if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("push: %v", err)
		}
		srv.answers(nil)
		if refs, err := r.ListRefs(t.Context(), main); err != nil || refs[main] != second {
			t.Errorf("afterwards: %v, %v", refs, err)
		}
	})
}

func TestSSHConnectionsThatBreakAreDialledAgain(t *testing.T) {
	srv := newSSHServer(t, "ed25519")
	r := srv.sshRemote(Options{Auth: srv.auth()})
	for n := 1; n <= 3; n++ {
		if _, err := r.ListRefs(t.Context()); err != nil {
			t.Fatalf("look %d: %v", n, err)
		}
		if got := srv.Connections(); got != n {
			t.Errorf("look %d: %d connections", n, got)
		}
		srv.Break()
	}
	srv.Stop()
	if _, err := r.ListRefs(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a server that is away: %v", err)
	}
	if err := srv.Start(srv.address); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ListRefs(t.Context()); err != nil {
		t.Errorf("a server that is back: %v", err)
	}
}

func TestThroughProxies(t *testing.T) {
	srv := newSSHServer(t, "ed25519")
	through, err := forward.Start("ada", "s3cr3t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.Close)
	for _, tc := range []struct{ url, scheme, kind string }{
		{srv.server.url, "http", "GET"}, {srv.server.url, "socks5", "SOCKS5"},
		{srv.url(), "http", "CONNECT"}, {srv.url(), "socks5", "SOCKS5"},
	} {
		look := func(password string) error {
			p, err := ReadProxySecret(map[string][]byte{
				"address": []byte(through.URL(tc.scheme) + "\n"), "username": []byte("ada"), "password": []byte(password),
			})
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Proxy: p}
			if strings.HasPrefix(tc.url, "ssh:") {
				o.Auth = srv.auth()
			}
			r, err := NewRemote(tc.url, o)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = r.ListRefs(t.Context())
			return err
		}
		before := through.Passed(tc.kind)
		if err := look("s3cr3t"); err != nil {
			t.Errorf("%s through %s: %v", tc.url, tc.scheme, err)
		}
		if through.Passed(tc.kind) == before {
			t.Errorf("%s went past the %s proxy", tc.url, tc.scheme)
		}
		if err := look("wr0ng"); err == nil || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s through %s with a wrong password: %v", tc.url, tc.scheme, err)
		}
	}
}

func TestKnownHostsAsSSHKeyscanPrintsThem(t *testing.T) {
	if _, err := exec.LookPath("ssh-keyscan"); err != nil {
		t.Skip("there is no ssh-keyscan")
	}
	srv := newSSHServer(t, "ed25519", "rsa")
	host, port, err := net.SplitHostPort(srv.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, hashed := range [][]string{nil, {"-H"}} {
		out, err := exec.CommandContext(t.Context(), "ssh-keyscan", append(hashed, "-p", port, host)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		o, err := ReadSecret(srv.url(), map[string][]byte{"identity": []byte(srv.identity), "known_hosts": out})
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if _, err := srv.sshRemote(o).ListRefs(t.Context()); err != nil {
			t.Errorf("%v with\n%s", err, out)
		}
	}
}
