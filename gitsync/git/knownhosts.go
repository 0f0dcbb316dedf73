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
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// HostKeyError says why a server's host key is not believed. It is an
// [ErrHostKey].
type HostKeyError struct {
	// Host is the server as known_hosts names it: "host" or "[host]:port".
	Host string
	// Shown is the type and fingerprint of the key that the server showed; empty
	// if it has none of a type that is known.
	Shown string
	// Known are those that known_hosts has for the host.
	Known []string
	// Revoked: the key is marked @revoked.
	Revoked bool
}

func (e *HostKeyError) Error() string {
	shown, known := e.Shown, strings.Join(e.Known, ", ")
	if shown == "" {
		shown = "no key of a known type"
	}
	switch {
	case e.Revoked:
		return fmt.Sprintf("%v: %s showed %s, which known_hosts revokes", ErrHostKey, e.Host, shown)
	case known == "":
		return fmt.Sprintf("%v: %s showed %s, and known_hosts has no entry for %s", ErrHostKey, e.Host, shown, e.Host)
	}
	return fmt.Sprintf("%v: %s showed %s, but known_hosts has %s for it", ErrHostKey, e.Host, shown, known)
}

// Is makes errors.Is(err, ErrHostKey) true.
func (e *HostKeyError) Is(target error) bool { return target == ErrHostKey }

// knownHosts are the lines of a known_hosts file.
type knownHosts []knownHost

type knownHost struct {
	marker   string // "", "cert-authority" or "revoked"
	patterns []string
	key      ssh.PublicKey
}

func parseKnownHosts(text string) (knownHosts, error) {
	var lines knownHosts
	for rest := []byte(text); ; {
		var line knownHost
		var err error
		line.marker, line.patterns, line.key, _, rest, err = ssh.ParseKnownHosts(rest)
		switch {
		case errors.Is(err, io.EOF) && len(lines) == 0:
			return nil, errors.New("it has no host key")
		case errors.Is(err, io.EOF):
			return lines, nil
		case err != nil:
			return nil, fmt.Errorf("line %d of the host keys: %s", len(lines)+1, strings.TrimPrefix(err.Error(), "ssh: "))
		}
		lines = append(lines, line)
	}
}

// of returns the keys of the lines with a marker that speak of a host.
func (k knownHosts) of(host, marker string) []ssh.PublicKey {
	var keys []ssh.PublicKey
	for _, line := range k {
		if line.marker == marker && speaksOf(line.patterns, host) {
			keys = append(keys, line.key)
		}
	}
	return keys
}

// speaksOf reports whether patterns match the host ("host" or "[host]:port") and
// none excludes it.
func speaksOf(patterns []string, host string) bool {
	found := false
	for _, pattern := range patterns {
		if salted, ok := strings.CutPrefix(pattern, "|1|"); ok {
			found = found || hashFits(salted, host)
			continue
		}
		plain, excluded := strings.CutPrefix(pattern, "!")
		if !matchesHost(plain, host) {
			continue
		}
		if excluded {
			return false
		}
		found = true
	}
	return found
}

func hashFits(salted, host string) bool {
	encodedSalt, encodedSum, _ := strings.Cut(salted, "|")
	salt, err := base64.StdEncoding.DecodeString(encodedSalt)
	sum, err2 := base64.StdEncoding.DecodeString(encodedSum)
	if err != nil || err2 != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	_, _ = mac.Write([]byte(host))
	return hmac.Equal(mac.Sum(nil), sum)
}

// matchesHost compares with "*" and "?" as wildcards. Brackets are themselves.
func matchesHost(pattern, host string) bool {
	escape := strings.NewReplacer(`[`, `\[`, `]`, `\]`, `\`, `\\`)
	ok, err := path.Match(escape.Replace(strings.ToLower(pattern)), strings.ToLower(host))
	return err == nil && ok
}

// algorithms are what a host may prove itself with: only those for which a key
// is known, because a server shows only one of its keys.
func (k knownHosts) algorithms(host string) []string {
	var algorithms []string
	if len(k.of(host, "cert-authority")) > 0 { // what it certifies is for it to say
		algorithms = append(algorithms, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01,
			ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, key := range k.of(host, "") {
		names := []string{key.Type()}
		if key.Type() == ssh.KeyAlgoRSA {
			names = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, name := range names {
			if !slices.Contains(algorithms, name) {
				algorithms = append(algorithms, name)
			}
		}
	}
	return algorithms
}

// check is the callback for a server that is dialled as address (host:port).
func (k knownHosts) check(address string, remote net.Addr, key ssh.PublicKey) error {
	host := knownhosts.Normalize(address)
	failure := &HostKeyError{Host: host, Shown: describeKey(key), Known: k.describe(host)}
	same := func(known ssh.PublicKey) func(ssh.PublicKey) bool {
		return func(k ssh.PublicKey) bool { return slices.Equal(k.Marshal(), known.Marshal()) }
	}
	revoked := k.of(host, "revoked")
	checker := ssh.CertChecker{
		IsHostAuthority: func(authority ssh.PublicKey, _ string) bool {
			return slices.ContainsFunc(k.of(host, "cert-authority"), same(authority)) && !slices.ContainsFunc(revoked, same(authority))
		},
		HostKeyFallback: func(string, net.Addr, ssh.PublicKey) error {
			if slices.ContainsFunc(revoked, same(key)) {
				failure.Revoked = true
				return failure
			}
			if !slices.ContainsFunc(k.of(host, ""), same(key)) {
				return failure
			}
			return nil
		},
		IsRevoked: func(c *ssh.Certificate) bool { return slices.ContainsFunc(revoked, same(c.Key)) },
	}
	if err := checker.CheckHostKey(address, remote, key); err != nil {
		if _, ok := key.(*ssh.Certificate); ok {
			failure.Shown += " (" + strings.TrimPrefix(err.Error(), "ssh: ") + ")"
		}
		return failure
	}
	return nil
}

// describe lists what is known of a host.
func (k knownHosts) describe(host string) []string {
	var known []string
	for _, key := range k.of(host, "") {
		known = append(known, describeKey(key))
	}
	for _, key := range k.of(host, "cert-authority") {
		known = append(known, "certificates by "+describeKey(key))
	}
	return known
}

func describeKey(key ssh.PublicKey) string { return key.Type() + " " + ssh.FingerprintSHA256(key) }
