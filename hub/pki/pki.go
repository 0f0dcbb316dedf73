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

// Package pki makes the certificates that the hub's xDS server and its proxies
// show each other: one authority, one server name, and per proxy group a client
// certificate whose URI is the group's identity ([GroupURI]). The server trusts
// that URI and nothing else a proxy says of itself.
//
// An [Authority] is plain key material: where it is kept (a Secret) is the
// caller's business. Leaf certificates are short-lived and never stored by the
// hub; [Authority.ServerConfig] renews its own on the fly.
//
// It refuses anything but TLS 1.3 and clients without a certificate.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"time"
)

// ServerName is the name in the xDS server's certificate, whatever address it
// is reached at.
const ServerName = "xds.kubelb"

// Lifetimes of certificates. A leaf is renewed when two thirds of its life are
// over.
const (
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	LeafLifetime      = 90 * 24 * time.Hour
)

// skew is how far behind a clock may be that sees a new certificate.
const skew = 5 * time.Minute

// GroupURI is the identity of a proxy group: kubelb://proxy-group/<group>.
func GroupURI(group string) string {
	return (&url.URL{Scheme: "kubelb", Host: "proxy-group", Path: "/" + group}).String()
}

// Authority signs the certificates of one hub.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes an authority that is valid for [AuthorityLifetime].
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the xDS authority: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kubelb-xds-ca"},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(AuthorityLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	certificate, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// ParseAuthority reads what [Authority.PEM] gave.
func ParseAuthority(certificate, key []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("read the xDS authority: %w", err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("read the xDS authority: the certificate is not one that may sign others")
	}
	return &Authority{certificate: pair.Leaf, key: signer}, nil
}

// PEM returns the authority's certificate and private key.
func (a *Authority) PEM() (certificate, key []byte, err error) {
	key, err = keyPEM(a.key)
	return a.CertificatePEM(), key, err
}

// CertificatePEM returns what those need who verify the authority's signatures.
func (a *Authority) CertificatePEM() []byte { return certificatePEM(a.certificate.Raw) }

// Leaf is a certificate with its key, as PEM.
type Leaf struct {
	Certificate, Key []byte
	// RenewAt is when it should be replaced.
	RenewAt time.Time
}

// Client makes a certificate for the proxies of a group.
func (a *Authority) Client(group string, now time.Time) (Leaf, error) {
	identity, err := url.Parse(GroupURI(group))
	if err != nil {
		return Leaf{}, fmt.Errorf("proxy group %q: %w", group, err)
	}
	template := leafTemplate(now, x509.ExtKeyUsageClientAuth)
	template.URIs = []*url.URL{identity}
	certificate, key, err := a.leaf(template)
	if err != nil {
		return Leaf{}, err
	}
	text, err := keyPEM(key)
	if err != nil {
		return Leaf{}, err
	}
	return Leaf{Certificate: certificatePEM(certificate.Raw), Key: text, RenewAt: renewAt(certificate)}, nil
}

// ServerConfig returns the TLS configuration of the xDS server. Its certificate
// is renewed before it expires, as now says.
func (a *Authority) ServerConfig(now func() time.Time) *tls.Config {
	clients := x509.NewCertPool()
	clients.AddCert(a.certificate)
	server := &server{authority: a, now: now}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      clients,
		GetCertificate: server.certificate,
		NextProtos:     []string{"h2"},
	}
}

// server holds the xDS server's certificate.
type server struct {
	authority *Authority
	now       func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
}

func (s *server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && s.now().Before(renewAt(s.current.Leaf)) {
		return s.current, nil
	}
	template := leafTemplate(s.now(), x509.ExtKeyUsageServerAuth)
	template.DNSNames = []string{ServerName}
	certificate, key, err := s.authority.leaf(template)
	if err != nil {
		return nil, err
	}
	s.current = &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
	return s.current, nil
}

func leafTemplate(now time.Time, usage x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(LeafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}

func renewAt(c *x509.Certificate) time.Time { return c.NotAfter.Add(-LeafLifetime / 3) }

func (a *Authority) leaf(template *x509.Certificate) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the key of an xDS certificate: %w", err)
	}
	if template.NotAfter.After(a.certificate.NotAfter) {
		template.NotAfter = a.certificate.NotAfter
	}
	certificate, err := sign(template, a.certificate, key.Public(), a.key)
	return certificate, key, err
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign an xDS certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
