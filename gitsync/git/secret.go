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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Keys of a Secret with credentials: Flux's format.
const (
	keyUsername    = "username"
	keyPassword    = "password"
	keyBearer      = "bearerToken"
	keyCA          = "ca.crt"
	keyCertificate = "tls.crt"
	keyKey         = "tls.key"
	keyIdentity    = "identity"
	keyKnownHosts  = "known_hosts"
	keyAddress     = "address"

	// Names that older versions of Flux had.
	keyLegacyCA          = "caFile"
	keyLegacyCertificate = "certFile"
	keyLegacyKey         = "keyFile"
)

// SecretError is a mistake in a Secret with credentials. It repeats nothing of
// what the Secret holds.
type SecretError struct {
	Key     string
	Message string
	Remedy  string
}

func (e *SecretError) Error() string { return fmt.Sprintf("key %s %s: %s", e.Key, e.Message, e.Remedy) }

// secretData is the data of a Secret.
type secretData map[string][]byte

// text is a value without the end of the line that an editor left there.
func (d secretData) text(keys ...string) string {
	for _, key := range keys {
		if value := strings.TrimRight(string(d[key]), "\r\n"); value != "" {
			return value
		}
	}
	return ""
}

// ReadSecret takes the credentials for a repository from a Secret in Flux's
// format: for http and https username and password, or bearerToken, or nobody,
// with ca.crt and tls.crt and tls.key where wanted; for ssh identity, known_hosts
// and password, which opens the identity. Keys for the other transport are passed
// over. What is missing, contradicts itself or cannot be read is a [SecretError].
func ReadSecret(url string, secret map[string][]byte) (Options, error) {
	u, err := parseURL(url)
	if err != nil {
		return Options{}, err
	}
	if u.Scheme == "ssh" {
		return readSSH(secret)
	}
	return readHTTP(secret, u.Scheme)
}

func readHTTP(d secretData, scheme string) (Options, error) {
	o := Options{
		Auth: Auth{
			Username: d.text(keyUsername), Password: d.text(keyPassword), Bearer: d.text(keyBearer),
			Certificate: d.text(keyCertificate, keyLegacyCertificate), CertificateKey: d.text(keyKey, keyLegacyKey),
		},
		CABundle: d.text(keyCA, keyLegacyCA),
	}
	a := o.Auth
	fail := func(key, message, remedy string) (Options, error) {
		return Options{}, &SecretError{Key: key, Message: message, Remedy: remedy}
	}
	switch {
	case a.Bearer != "" && a.Username != "":
		return fail(keyBearer, "is there beside "+keyUsername, "keep one of them")
	case a.Bearer == "" && a.Username != "" && a.Password == "":
		return fail(keyPassword, "is missing beside "+keyUsername, "add the password or the token of that user")
	case a.Username == "" && a.Password != "" && d.text(keyIdentity) == "":
		return fail(keyUsername, "is missing beside "+keyPassword, "add the name of the user; with a token most forges take any name")
	case a.Certificate != "" && a.CertificateKey == "":
		return fail(keyKey, "is missing beside "+keyCertificate, "add the private key of the client certificate")
	case a.Certificate == "" && a.CertificateKey != "":
		return fail(keyCertificate, "is missing beside "+keyKey, "add the client certificate")
	case strings.ContainsFunc(a.Bearer, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fail(keyBearer, "is not a token", "write the token alone, without spaces and line breaks")
	case o == Options{}:
		other := ""
		if d.text(keyIdentity) != "" {
			other = ", or use an ssh:// URL, for which " + keyIdentity + " is"
		}
		return fail(keyUsername, "is missing, and so is "+keyBearer, "add "+keyUsername+" and "+keyPassword+", or "+keyBearer+", for "+scheme+other)
	}
	if o.CABundle != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(o.CABundle)) {
		return fail(keyCA, "holds no certificate", "write the certificates of the authority in PEM")
	}
	if a.Certificate != "" {
		if _, err := tls.X509KeyPair([]byte(a.Certificate), []byte(a.CertificateKey)); err != nil {
			return fail(keyCertificate, "does not go with "+keyKey, "write a certificate and its private key in PEM")
		}
	}
	return o, nil
}

func readSSH(d secretData) (Options, error) {
	a := Auth{
		Username: d.text(keyUsername), Identity: string(d[keyIdentity]), Passphrase: d.text(keyPassword), KnownHosts: string(d[keyKnownHosts]),
	}
	fail := func(key, message, remedy string) (Options, error) {
		return Options{}, &SecretError{Key: key, Message: message, Remedy: remedy}
	}
	switch {
	case strings.TrimSpace(a.Identity) == "":
		return fail(keyIdentity, "is missing", "an ssh:// URL needs a private key there (ssh-keygen -t ed25519 -N '' -f identity)")
	case strings.TrimSpace(a.KnownHosts) == "":
		return fail(keyKnownHosts, "is missing", "add the server's host keys (ssh-keyscan HOST) after comparing them with what the server's operator publishes")
	}
	if _, err := parseKnownHosts(a.KnownHosts); err != nil {
		return fail(keyKnownHosts, "cannot be read ("+err.Error()+")", "write lines as ssh-keyscan prints them")
	}
	if _, err := a.signer(); err != nil {
		var missing *ssh.PassphraseMissingError
		switch {
		case errors.As(err, &missing):
			return fail(keyPassword, "is missing, and "+keyIdentity+" is encrypted", "add the passphrase of the private key")
		case errors.Is(err, x509.IncorrectPasswordError):
			return fail(keyPassword, "does not open "+keyIdentity, "correct the passphrase of the private key")
		}
		return fail(keyIdentity, "is not a private key", "write a private key as ssh-keygen makes it: ed25519, ecdsa or rsa")
	}
	return Options{Auth: a}, nil
}

// signer is the private key for ssh.
func (a Auth) signer() (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey([]byte(a.Identity))
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) && a.Passphrase != "" {
		return ssh.ParsePrivateKeyWithPassphrase([]byte(a.Identity), []byte(a.Passphrase))
	}
	return signer, err
}

// ReadProxySecret takes a proxy from a Secret in Flux's format: address, and
// username and password where the proxy asks for them.
func ReadProxySecret(secret map[string][]byte) (Proxy, error) {
	d := secretData(secret)
	p := Proxy{Address: d.text(keyAddress), Username: d.text(keyUsername), Password: d.text(keyPassword)}
	switch {
	case p.Address == "":
		return Proxy{}, &SecretError{Key: keyAddress, Message: "is missing", Remedy: "write the proxy's URL, such as http://proxy.example.com:3128"}
	case p.Username == "" && p.Password != "":
		return Proxy{}, &SecretError{Key: keyUsername, Message: "is missing beside " + keyPassword, Remedy: "add the name of the proxy's user"}
	}
	if _, err := p.url(); err != nil {
		return Proxy{}, &SecretError{Key: keyAddress, Message: "is not the URL of a proxy", Remedy: "write http, https, socks5 or socks5h, host and port, such as http://proxy.example.com:3128"}
	}
	return p, nil
}
