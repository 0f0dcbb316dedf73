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

package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"

	"github.com/kubelb/gitops/hub/pki"
)

var birth = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestAProxyIsKnownByTheGroupInItsCertificate(t *testing.T) {
	authority := newAuthority(t)
	state, err := handshake(t, authority, clientConfig(t, authority, authority, "global", birth), birth)
	if err != nil {
		t.Fatal(err)
	}
	uris := state.PeerCertificates[0].URIs
	if len(uris) != 1 || uris[0].String() != "kubelb://proxy-group/global" {
		t.Errorf("the server sees the identities %v", uris)
	}
	if state.Version != tls.VersionTLS13 {
		t.Errorf("TLS version %x was agreed on", state.Version)
	}
}

func TestWhoIsRefused(t *testing.T) {
	authority, stranger := newAuthority(t), newAuthority(t)
	withoutCertificate := clientConfig(t, authority, authority, "global", birth)
	withoutCertificate.Certificates = nil
	old := clientConfig(t, authority, authority, "global", birth)
	old.MaxVersion = tls.VersionTLS12
	for name, client := range map[string]*tls.Config{
		"a client without a certificate":             withoutCertificate,
		"a client of another authority":              clientConfig(t, authority, stranger, "global", birth),
		"a client whose certificate has run out":     clientConfig(t, authority, authority, "global", birth.Add(-pki.LeafLifetime-time.Hour)),
		"a client that knows TLS 1.2 only":           old,
		"a server of an authority not the client's ": clientConfig(t, stranger, authority, "global", birth),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := handshake(t, authority, client, birth); err == nil {
				t.Error("the handshake succeeded")
			}
		})
	}
}

func TestTheServerRenewsItsCertificateInTime(t *testing.T) {
	authority := newAuthority(t)
	now := birth
	config := authority.ServerConfig(func() time.Time { return now })
	first := leaf(t, config)
	now = birth.Add(pki.LeafLifetime / 2)
	if second := leaf(t, config); !second.Equal(first) {
		t.Error("the certificate was renewed after half of its life")
	}
	now = birth.Add(pki.LeafLifetime * 3 / 4)
	third := leaf(t, config)
	if third.Equal(first) {
		t.Error("the certificate was not renewed after three quarters of its life")
	}
	if !third.NotAfter.After(first.NotAfter) {
		t.Errorf("the new certificate ends at %s, the old one at %s", third.NotAfter, first.NotAfter)
	}
}

func TestAnAuthoritySurvivesStorage(t *testing.T) {
	authority := newAuthority(t)
	certificate, key, err := authority.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := pki.ParseAuthority(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(t, again, clientConfig(t, authority, authority, "acme", birth), birth); err != nil {
		t.Errorf("a proxy from before meets a server from after: %v", err)
	}
	client, err := authority.Client("acme", birth)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.ParseAuthority(client.Certificate, client.Key); err == nil {
		t.Error("a client's certificate was taken for an authority")
	}
	if _, err := pki.ParseAuthority([]byte("garbage"), key); err == nil {
		t.Error("garbage was taken for an authority")
	}
	if _, err := pki.ParseAuthority(certificate, client.Key); err == nil {
		t.Error("a key that does not fit was taken")
	}
}

func TestNoLeafOutlivesItsAuthority(t *testing.T) {
	authority := newAuthority(t)
	client, err := authority.Client("global", birth.Add(pki.AuthorityLifetime-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(client.Certificate, client.Key)
	if err != nil {
		t.Fatal(err)
	}
	if end := birth.Add(pki.AuthorityLifetime); pair.Leaf.NotAfter.After(end) {
		t.Errorf("the leaf ends at %s, the authority at %s", pair.Leaf.NotAfter, end)
	}
}

func newAuthority(t *testing.T) *pki.Authority {
	t.Helper()
	authority, err := pki.NewAuthority(birth)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func clientConfig(t *testing.T, trusted, issuer *pki.Authority, group string, issued time.Time) *tls.Config {
	t.Helper()
	client, err := issuer.Client(group, issued)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(client.Certificate, client.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted.CertificatePEM())
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: pki.ServerName,
		Time: func() time.Time { return birth }, MinVersion: tls.VersionTLS12,
	}
}

// handshake returns what the server saw of the client.
func handshake(t *testing.T, authority *pki.Authority, client *tls.Config, now time.Time) (tls.ConnectionState, error) {
	t.Helper()
	clock := func() time.Time { return now }
	config := authority.ServerConfig(clock)
	config.Time = clock
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		far, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return
		}
		defer func() { _ = far.Close() }()
		conn := tls.Client(far, client)
		if conn.Handshake() == nil {
			_, _ = io.Copy(io.Discard, conn) // until the server has made up its mind
		}
	}()
	near, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	server := tls.Server(near, config)
	err = server.Handshake()
	return server.ConnectionState(), err
}

func leaf(t *testing.T, config *tls.Config) *x509.Certificate {
	t.Helper()
	certificate, err := config.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Leaf
}
