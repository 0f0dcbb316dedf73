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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"
)

func TestReadSecret(t *testing.T) {
	_, identity := newIdentity(t, "ed25519", "")
	_, locked := newIdentity(t, "ed25519", "open sesame")
	host, _ := newIdentity(t, "ed25519", "")
	known := knownhosts.Line([]string{"git.example.com"}, host)
	certificate, key := newCertificate(t)
	const https, ssh = "https://git.example.com/fleet.git", "ssh://git@git.example.com/fleet.git"
	for name, tc := range map[string]struct {
		url    string
		secret map[string]string
		want   Options
		key    string // of the error
		text   string
	}{
		"user and password": {
			url: https, secret: map[string]string{"username": "ada", "password": "s3cr3t"},
			want: Options{Auth: Auth{Username: "ada", Password: "s3cr3t"}},
		},
		"an editor's line ends": {
			url: https, secret: map[string]string{"username": "ada\n", "password": "s3cr3t\r\n"},
			want: Options{Auth: Auth{Username: "ada", Password: "s3cr3t"}},
		},
		"a token": {url: https, secret: map[string]string{"bearerToken": "s3cr3t\n"}, want: Options{Auth: Auth{Bearer: "s3cr3t"}}},
		"an authority alone": {
			url: https, secret: map[string]string{"ca.crt": certificate}, want: Options{CABundle: strings.TrimSpace(certificate)},
		},
		"an authority as it was once called": {
			url: https, secret: map[string]string{"caFile": certificate}, want: Options{CABundle: strings.TrimSpace(certificate)},
		},
		"a client certificate": {
			url: https, secret: map[string]string{"tls.crt": certificate, "tls.key": key},
			want: Options{Auth: Auth{Certificate: strings.TrimSpace(certificate), CertificateKey: strings.TrimSpace(key)}},
		},
		"ssh": {
			url: ssh, secret: map[string]string{"identity": identity, "known_hosts": known},
			want: Options{Auth: Auth{Identity: identity, KnownHosts: known}},
		},
		"ssh with a passphrase, and things for https": {
			url: ssh, secret: map[string]string{"identity": locked, "known_hosts": known, "password": "open sesame", "ca.crt": certificate},
			want: Options{Auth: Auth{Identity: locked, KnownHosts: known, Passphrase: "open sesame"}},
		},

		"nothing":                {url: https, secret: nil, key: "username", text: "bearerToken"},
		"only things for ssh":    {url: https, secret: map[string]string{"identity": identity, "known_hosts": known}, key: "username", text: "ssh:// URL"},
		"a user alone":           {url: https, secret: map[string]string{"username": "ada"}, key: "password"},
		"a password alone":       {url: https, secret: map[string]string{"password": "s3cr3t"}, key: "username"},
		"a token and a user":     {url: https, secret: map[string]string{"username": "ada", "password": "s3cr3t", "bearerToken": "s3cr3t"}, key: "bearerToken", text: "keep one"},
		"a token of many words":  {url: https, secret: map[string]string{"bearerToken": "Bearer s3cr3t"}, key: "bearerToken"},
		"an authority of words":  {url: https, secret: map[string]string{"ca.crt": "s3cr3t"}, key: "ca.crt", text: "PEM"},
		"a certificate alone":    {url: https, secret: map[string]string{"tls.crt": certificate}, key: "tls.key"},
		"a key alone":            {url: https, secret: map[string]string{"tls.key": key}, key: "tls.crt"},
		"another one's key":      {url: https, secret: map[string]string{"tls.crt": certificate, "tls.key": identity}, key: "tls.crt"},
		"only things for https":  {url: ssh, secret: map[string]string{"username": "ada", "password": "s3cr3t"}, key: "identity", text: "ssh-keygen"},
		"no known hosts":         {url: ssh, secret: map[string]string{"identity": identity}, key: "known_hosts", text: "ssh-keyscan"},
		"known hosts of words":   {url: ssh, secret: map[string]string{"identity": identity, "known_hosts": "git.example.com ssh-ed25519 s3cr3t"}, key: "known_hosts"},
		"known hosts of remarks": {url: ssh, secret: map[string]string{"identity": identity, "known_hosts": "# none yet\n"}, key: "known_hosts", text: "no host key"},
		"a public key":           {url: ssh, secret: map[string]string{"identity": "ssh-ed25519 s3cr3t", "known_hosts": known}, key: "identity"},
		"a locked key":           {url: ssh, secret: map[string]string{"identity": locked, "known_hosts": known}, key: "password", text: "passphrase"},
		"a wrong passphrase":     {url: ssh, secret: map[string]string{"identity": locked, "known_hosts": known, "password": "s3cr3t"}, key: "password", text: "does not open"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := map[string][]byte{}
			for key, value := range tc.secret {
				secret[key] = []byte(value)
			}
			got, err := ReadSecret(tc.url, secret)
			var mistake *SecretError
			if errors.As(err, &mistake) != (tc.key != "") || tc.key == "" && (err != nil || got != tc.want) {
				t.Fatalf("%+v, %v; want %+v, error about %q", got, err, tc.want, tc.key)
			}
			if mistake == nil {
				return
			}
			if mistake.Key != tc.key || mistake.Message == "" || mistake.Remedy == "" || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v; want one about %q with %q", err, tc.key, tc.text)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error tells what the Secret holds: %v", err)
			}
		})
	}
}

func TestReadProxySecret(t *testing.T) {
	for name, tc := range map[string]struct {
		secret map[string]string
		key    string // of the error
	}{
		"an address":       {secret: map[string]string{"address": "http://proxy.example.com:3128\n"}},
		"SOCKS":            {secret: map[string]string{"address": "socks5://proxy.example.com:1080", "username": "ada", "password": "s3cr3t"}},
		"nothing":          {key: "address"},
		"host and port":    {secret: map[string]string{"address": "proxy.example.com:3128"}, key: "address"},
		"another scheme":   {secret: map[string]string{"address": "ftp://proxy.example.com"}, key: "address"},
		"a password alone": {secret: map[string]string{"address": "http://proxy.example.com", "password": "s3cr3t"}, key: "username"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := map[string][]byte{}
			for key, value := range tc.secret {
				secret[key] = []byte(value)
			}
			p, err := ReadProxySecret(secret)
			var mistake *SecretError
			if errors.As(err, &mistake) != (tc.key != "") || mistake != nil && mistake.Key != tc.key || tc.key == "" && err != nil {
				t.Fatalf("%+v, %v; want an error about %q", p, err, tc.key)
			}
			if tc.key == "" && (p.Address != strings.TrimSpace(tc.secret["address"]) || p.Username != tc.secret["username"] || p.Password != tc.secret["password"]) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// A server with a certificate of its own authority, which asks for a token and
// for a client certificate.
func TestHTTPSWithPrivateAuthorityTokenAndClientCertificate(t *testing.T) {
	srv, _, _, tip := pushed(t)
	certificate, key := newCertificate(t)
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(certificate))
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		r.Header.Del("Authorization")
		srv.proxy(t).ServeHTTP(w, r)
	}))
	web.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	web.StartTLS()
	defer web.Close()
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
	for name, tc := range map[string]struct {
		drop string
		want error
	}{
		"all of them": {}, "no authority": {drop: "ca.crt", want: ErrUnavailable},
		"no token": {drop: "bearerToken", want: ErrUnauthorized}, "no client certificate": {drop: "tls", want: ErrUnavailable},
	} {
		secret := map[string][]byte{
			"ca.crt": []byte(authority), "bearerToken": []byte("t0ken"), "tls.crt": []byte(certificate), "tls.key": []byte(key),
		}
		for k := range secret {
			if tc.drop != "" && strings.HasPrefix(k, tc.drop) {
				delete(secret, k)
			}
		}
		o, err := ReadSecret(web.URL, secret)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewRemote(web.URL+"/repo.git", o)
		if err != nil {
			t.Fatal(err)
		}
		refs, err := r.ListRefs(t.Context(), main)
		r.Close()
		if !errors.Is(err, tc.want) || tc.want == nil && refs[main] != tip {
			t.Errorf("%s: %v, %v; want %v", name, refs, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: the error tells the token: %v", name, err)
		}
	}
}

// newCertificate makes a certificate that signs itself, and its key, in PEM.
func newCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}
