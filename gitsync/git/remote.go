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

// ListRefs returns the refs whose full names begin with one of the prefixes
// ("refs/heads/intent/"), or all refs. An empty repository has none.
func (r *Remote) ListRefs(ctx context.Context, prefixes ...string) (map[string]Hash, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	refs, err := r.listRefs(ctx, prefixes)
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	for name := range refs {
		if !hasAnyPrefix(name, prefixes) {
			delete(refs, name)
		}
	}
	return refs, nil
}

func (r *Remote) listRefs(ctx context.Context, prefixes []string) (map[string]Hash, error) {
	can, fresh, err := r.advertisement(ctx, uploadPack)
	if err != nil {
		return nil, err
	}
	if can.version != 2 {
		// Older servers tell all their refs whenever they are asked anything.
		if !fresh {
			r.forget(uploadPack)
			if can, _, err = r.advertisement(ctx, uploadPack); err != nil {
				return nil, err
			}
		}
		refs := make(map[string]Hash, len(can.refs))
		for name, h := range can.refs {
			refs[name] = h
		}
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
	refs, err := parseRefs(body)
	return refs, r.distrust(uploadPack, err)
}

func parseRefs(body io.Reader) (map[string]Hash, error) {
	refs := map[string]Hash{}
	for packets := newPacketReader(body); ; {
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
		fields := strings.Fields(string(data))
		if len(fields) < 2 {
			return nil, fmt.Errorf("%w: ref line %.80q", ErrProtocol, data)
		}
		h, err := ParseHash(fields[0])
		if err != nil {
			return nil, fmt.Errorf("%w: ref line %.80q", ErrProtocol, data)
		}
		refs[fields[1]] = h
	}
}

// command opens a request of protocol version 2.
func (r *Remote) command(w *packetWriter, name string) {
	w.linef("command=%s", name)
	w.linef("agent=%s", r.agent)
	w.linef("object-format=sha1")
	w.mark(delimPacket)
}

// advertisement asks once what a service can do, and remembers. fresh is true
// when it was asked just now.
func (r *Remote) advertisement(ctx context.Context, service string) (a *advertisement, fresh bool, err error) {
	r.mu.Lock()
	slot := r.slot(service)
	a = *slot
	r.mu.Unlock()
	if a != nil {
		return a, false, nil
	}
	body, err := r.transport.advertise(ctx, service)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = body.Close() }()
	a, err = parseAdvertisement(body, service)
	if err != nil {
		return nil, false, err
	}
	if format, ok := a.caps["object-format"]; ok && format != "sha1" {
		return nil, false, fmt.Errorf("%w: object format %.20q is not supported", ErrProtocol, format)
	}
	r.mu.Lock()
	*slot = a
	r.mu.Unlock()
	return a, true, nil
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

func hasAnyPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return len(prefixes) == 0
}

// advertisement is what a service says about itself.
type advertisement struct {
	version int
	caps    map[string]string
	refs    map[string]Hash // versions 0 and 1 only
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

func parseAdvertisement(body io.Reader, service string) (*advertisement, error) {
	packets := newPacketReader(body)
	a := &advertisement{caps: map[string]string{}, refs: map[string]Hash{}}
	text, ok, err := packets.line()
	if err != nil {
		return nil, err
	}
	if _, overSSH := body.(*sshSession); overSSH && !ok && service == uploadPack {
		return a, nil // an empty repository, in the old protocol
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
			a.addCaps(text)
			continue
		}
		line, caps, _ := strings.Cut(text, "\x00")
		if first {
			a.addCaps(strings.Fields(caps)...)
			first = false
		}
		if err := a.addRef(line); err != nil {
			return nil, err
		}
	}
	if err == nil && len(a.caps) == 0 {
		err = fmt.Errorf("%w: %s does not say what it can do", ErrProtocol, service)
	}
	return a, err
}

func (a *advertisement) addCaps(words ...string) {
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		a.caps[name] = value
	}
}

func (a *advertisement) addRef(line string) error {
	digits, name, ok := strings.Cut(line, " ")
	if digits == "shallow" || strings.HasSuffix(name, "^{}") || name == ".have" {
		return nil
	}
	h, err := ParseHash(digits)
	if err != nil || !ok {
		return fmt.Errorf("%w: ref line %.80q", ErrProtocol, line)
	}
	a.refs[name] = h
	return nil
}
