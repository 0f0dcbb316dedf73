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
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// DefaultTimeout bounds each call of a Remote that has no Timeout of its own.
const DefaultTimeout = 20 * time.Second

// Auth is how a Remote introduces itself, and to whom. The zero value is nobody.
type Auth struct {
	Username, Password string
	// Bearer is a token that goes before user name and password.
	Bearer string
	// Certificate and CertificateKey are a client certificate in PEM.
	Certificate, CertificateKey string

	// Identity is the private key for ssh, in PEM or OpenSSH's format; Passphrase
	// opens it, if it is encrypted.
	Identity, Passphrase string
	// KnownHosts are the keys of ssh servers, as a known_hosts file has them. A
	// server that is not among them is not spoken to.
	KnownHosts string
}

// Options of a Remote. The zero value is usable, but for ssh.
type Options struct {
	Auth Auth
	// CABundle holds PEM certificates that replace the system's roots.
	CABundle string
	// Proxy leads to the server. Without it http and https go by the environment
	// (HTTPS_PROXY, NO_PROXY), ssh goes directly.
	Proxy Proxy
	// Timeout bounds each call. Zero means [DefaultTimeout].
	Timeout time.Duration
	// UserAgent is sent to the server.
	UserAgent string
}

// Remote is a Git repository on a server. It is safe for concurrent use.
type Remote struct {
	transport transport
	timeout   time.Duration
	agent     string
	packLimit int64 // bytes that one fetch may bring

	mu      sync.Mutex
	upload  *advertisement // nil: not asked yet
	receive *advertisement
}

// NewRemote prepares a Remote without contacting it. User and password in the
// URL are used when o has none. For ssh o must have an identity and the known
// hosts.
func NewRemote(url string, o Options) (*Remote, error) {
	if o.UserAgent == "" {
		o.UserAgent = "git/kubelb-gitops"
	}
	t, err := newTransport(url, o)
	if err != nil {
		return nil, err
	}
	r := &Remote{transport: t, timeout: o.Timeout, agent: strings.ReplaceAll(o.UserAgent, " ", "-"), packLimit: 512 << 20}
	if r.timeout <= 0 {
		r.timeout = DefaultTimeout
	}
	return r, nil
}

// Close gives idle connections back.
func (r *Remote) Close() { r.transport.close() }

// What is taken of refs: how many there may be in an answer, and how long the
// name of one that counts. A server may have any number of others.
const (
	maxRefs    = 200_000
	maxRefName = 1024
)

// maxCaps is how many capabilities a service may have.
const maxCaps = 1000

// keep chooses refs by their full names.
type keep func(name string) bool

// ListRefs returns the refs of the given full names ("refs/heads/main"), and
// those whose names begin with a name that ends in "/" ("refs/heads/intent/");
// without a name all refs. An empty repository has none.
func (r *Remote) ListRefs(ctx context.Context, names ...string) (map[string]Hash, error) {
	return r.ListRefsOf(ctx, func(name string) bool {
		for _, n := range names {
			if name == n || strings.HasSuffix(n, "/") && strings.HasPrefix(name, n) {
				return true
			}
		}
		return len(names) == 0
	}, names...)
}

// ListRefsOf returns the refs that keep chooses, of those whose full names begin
// with one of the prefixes. Others cost no memory.
func (r *Remote) ListRefsOf(ctx context.Context, keep func(name string) bool, prefixes ...string) (map[string]Hash, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	refs, err := r.listRefs(ctx, keep, prefixes)
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	return refs, nil
}

func (r *Remote) listRefs(ctx context.Context, keep keep, prefixes []string) (map[string]Hash, error) {
	can, refs, err := r.advertisement(ctx, uploadPack, keep)
	if err != nil {
		return nil, err
	}
	if can.version != 2 && refs == nil {
		// Older servers tell all their refs whenever they are asked anything.
		r.forget(uploadPack)
		if can, refs, err = r.advertisement(ctx, uploadPack, keep); err != nil {
			return nil, err
		}
	}
	if can.version != 2 {
		return refs, nil
	}
	var req packetWriter
	r.command(&req, "ls-refs")
	for _, p := range prefixes {
		req.linef("ref-prefix %s", p)
	}
	req.mark(flushPacket)
	body, err := r.transport.call(ctx, uploadPack, can, req.Bytes())
	if err != nil {
		return nil, r.distrust(uploadPack, err)
	}
	defer func() { _ = body.Close() }()
	refs, err = parseRefs(body, keep)
	return refs, r.distrust(uploadPack, err)
}

func parseRefs(body io.Reader, keep keep) (map[string]Hash, error) {
	refs := map[string]Hash{}
	for packets := newPacketReader(body, maxRefsAnswer); ; {
		kind, data, err := packets.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, cutOff(io.ErrUnexpectedEOF)
		case err != nil:
			return nil, err
		case kind == flushPacket:
			return refs, nil
		case kind != dataPacket:
			return nil, fmt.Errorf("%w: mark %d among refs", ErrProtocol, kind)
		}
		digits, name, _ := strings.Cut(strings.TrimSuffix(string(data), "\n"), " ")
		name, _, _ = strings.Cut(name, " ") // attributes follow
		if err := addRef(refs, digits, name, keep); err != nil {
			return nil, err
		}
	}
}

func addRef(refs map[string]Hash, digits, name string, keep keep) error {
	h, err := ParseHash(digits)
	if err != nil || name == "" {
		return fmt.Errorf("%w: ref line %.50q %.80q", ErrProtocol, digits, name)
	}
	if keep == nil || len(name) > maxRefName || !keep(name) {
		return nil
	}
	if refs[strings.Clone(name)] = h; len(refs) > maxRefs {
		return &callError{kind: ErrUnavailable, cause: fmt.Errorf("more than %d refs: the list is %w", maxRefs, ErrTooLarge), sent: true}
	}
	return nil
}

// command opens a request of protocol version 2.
func (r *Remote) command(w *packetWriter, name string) {
	w.linef("command=%s", name)
	w.linef("agent=%s", r.agent)
	w.linef("object-format=sha1")
	w.mark(delimPacket)
}

// advertisement asks once what a service can do, and remembers. Where it was
// asked just now and speaks an older protocol, its refs that keep chooses come
// too; else they are nil.
func (r *Remote) advertisement(ctx context.Context, service string, keep keep) (a *advertisement, refs map[string]Hash, err error) {
	r.mu.Lock()
	slot := r.slot(service)
	a = *slot
	r.mu.Unlock()
	if a != nil {
		return a, nil, nil
	}
	body, err := r.transport.advertise(ctx, service)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = body.Close() }()
	a, refs, err = parseAdvertisement(body, service, keep)
	if err != nil {
		return nil, nil, err
	}
	if format, ok := a.caps["object-format"]; ok && format != "sha1" {
		return nil, nil, fmt.Errorf("%w: object format %.20q is not supported", ErrProtocol, format)
	}
	r.mu.Lock()
	*slot = a
	r.mu.Unlock()
	return a, refs, nil
}

func (r *Remote) slot(service string) **advertisement {
	if service == receivePack {
		return &r.receive
	}
	return &r.upload
}

// distrust forgets what the server said about itself when a call fails: it may
// have been replaced by another version.
func (r *Remote) distrust(service string, err error) error {
	if err != nil {
		r.forget(service)
	}
	return err
}

func (r *Remote) forget(service string) {
	r.mu.Lock()
	*r.slot(service) = nil
	r.mu.Unlock()
}

// advertisement is what a service says about itself.
type advertisement struct {
	version int
	caps    map[string]string
}

func (a *advertisement) offers(name string) bool {
	_, ok := a.caps[name]
	return ok
}

// offersIn reports whether a capability of version 2 lists a feature.
func (a *advertisement) offersIn(name, feature string) bool {
	for _, f := range strings.Fields(a.caps[name]) {
		if f == feature {
			return true
		}
	}
	return false
}

func parseAdvertisement(body io.Reader, service string, keep keep) (*advertisement, map[string]Hash, error) {
	packets := newPacketReader(body, maxRefsAnswer)
	a, refs := &advertisement{caps: map[string]string{}}, map[string]Hash{}
	text, ok, err := packets.line()
	if err != nil {
		return nil, nil, err
	}
	if _, overSSH := body.(*sshSession); overSSH && !ok && service == uploadPack {
		return a, refs, nil // an empty repository, in the old protocol
	}
	if ok && text == "# service="+service {
		if _, _, err = packets.line(); err == nil { // the flush packet after it
			text, ok, err = packets.line()
		}
	}
	for first := true; ok && err == nil; text, ok, err = packets.line() {
		switch {
		case first && text == "version 2":
			a.version = 2
			continue
		case first && text == "version 1":
			a.version = 1
			continue
		case a.version == 2:
			if err := a.addCaps(text); err != nil {
				return nil, nil, err
			}
			continue
		}
		line, caps, _ := strings.Cut(text, "\x00")
		if first {
			if err := a.addCaps(strings.Fields(caps)...); err != nil {
				return nil, nil, err
			}
			first = false
		}
		if err := addAdvertised(refs, line, keep); err != nil {
			return nil, nil, err
		}
	}
	if err == nil && len(a.caps) == 0 {
		err = fmt.Errorf("%w: %s does not say what it can do", ErrProtocol, service)
	}
	return a, refs, err
}

func (a *advertisement) addCaps(words ...string) error {
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		a.caps[name] = value
	}
	if len(a.caps) > maxCaps {
		return fmt.Errorf("%w: it lists more than %d capabilities", ErrProtocol, maxCaps)
	}
	return nil
}

func addAdvertised(refs map[string]Hash, line string, keep keep) error {
	digits, name, _ := strings.Cut(line, " ")
	if digits == "shallow" || strings.HasSuffix(name, "^{}") || name == ".have" {
		return nil
	}
	return addRef(refs, digits, name, keep)
}
