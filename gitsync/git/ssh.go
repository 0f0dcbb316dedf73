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
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshTransport runs a service per call, each in a session of one connection. A
// connection that broke, did not answer in time or was idle for long is dialled
// anew.
type sshTransport struct {
	address string // host:port
	path    string // of the repository
	key     string // type and fingerprint of our own
	config  *ssh.ClientConfig
	known   knownHosts
	dial    dialer

	dialling chan struct{} // holds a token while somebody dials
	mu       sync.Mutex
	current  *sshConnection // nil: none that can be used
	closed   bool
}

func newSSHTransport(u *url.URL, o Options) (*sshTransport, error) {
	switch _, password := u.User.Password(); {
	case password:
		return nil, errors.New("url: a password in it is not used for ssh: put a private key into the credentials")
	case strings.Trim(u.Path, "/") == "":
		return nil, errors.New("url: the path of the repository is missing")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("url: a query or fragment is not supported")
	}
	signer, err := o.Auth.signer()
	if err != nil {
		return nil, fmt.Errorf("identity: not a usable private key: %w", err)
	}
	known, err := parseKnownHosts(o.Auth.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	config, err := o.tls()
	if err != nil {
		return nil, err
	}
	dial, err := o.Proxy.dialer(config)
	if err != nil {
		return nil, err
	}
	t := &sshTransport{
		address: net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), "22")),
		path:    u.Path, key: describeKey(signer.PublicKey()), known: known, dial: dial, dialling: make(chan struct{}, 1),
	}
	if strings.HasPrefix(t.path, "/~") {
		t.path = t.path[1:] // somebody's home, as Git has it
	}
	t.config = &ssh.ClientConfig{
		User: cmp.Or(u.User.Username(), o.Auth.Username, "git"), Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: known.check, HostKeyAlgorithms: known.algorithms(knownhosts.Normalize(t.address)),
		ClientVersion: "SSH-2.0-" + strings.NewReplacer(" ", "_", "-", "_").Replace(o.UserAgent),
	}
	return t, nil
}

func (t *sshTransport) advertise(ctx context.Context, service string) (io.ReadCloser, error) {
	return t.open(ctx, service)
}

func (t *sshTransport) call(ctx context.Context, service string, can *advertisement, body []byte) (io.ReadCloser, error) {
	session, err := t.open(ctx, service)
	if err != nil {
		return nil, err
	}
	// What the server can do now comes first, and nothing is sent before it.
	now, _, err := parseAdvertisement(session, service, nil)
	if err == nil && !now.canAll(can) {
		err = &callError{kind: ErrUnavailable, cause: errors.New("the server changed since it was asked what it can do")}
	}
	if err != nil {
		_ = session.Close()
		return nil, notSent(err)
	}
	session.send(body)
	return session, nil
}

// canAll reports whether what was offered before is offered still.
func (a *advertisement) canAll(before *advertisement) bool {
	for name := range before.caps {
		if !a.offers(name) && name != "agent" && name != "session-id" && name != "push-cert" {
			return false
		}
	}
	return a.version == before.version
}

// notSent is an error of an exchange in which no request was sent yet.
func notSent(err error) error {
	var call *callError
	if !errors.As(err, &call) {
		return err
	}
	return &callError{kind: call.kind, cause: call.cause}
}

func (t *sshTransport) close() {
	t.mu.Lock()
	connection := t.current
	t.current, t.closed = nil, true
	t.mu.Unlock()
	if connection != nil {
		_ = connection.conn.Close()
	}
}

// open starts a service in a new session. A connection that turns out to be
// broken is replaced once.
func (t *sshTransport) open(ctx context.Context, service string) (*sshSession, error) {
	for {
		connection, fresh, err := t.connect(ctx)
		if err != nil {
			return nil, t.explain(ctx, err)
		}
		session, err := connection.start(ctx, service, service+" "+quote(t.path))
		if err == nil {
			return session, nil
		}
		var refused *callError
		if errors.As(err, &refused) {
			return nil, err
		}
		connection.drop()
		if fresh || ctx.Err() != nil {
			return nil, t.explain(ctx, err)
		}
	}
}

// quote protects a path from the shell that the server may use.
func quote(path string) string { return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'" }

// connect returns a connection with one more user. fresh is true for one that
// was made just now.
func (t *sshTransport) connect(ctx context.Context) (c *sshConnection, fresh bool, err error) {
	select {
	case t.dialling <- struct{}{}:
		defer func() { <-t.dialling }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	t.mu.Lock()
	c = t.current
	t.mu.Unlock()
	if c != nil && c.use() {
		return c, false, nil
	}
	if c, err = t.connectNow(ctx); err != nil {
		return nil, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = c.conn.Close()
		return nil, false, net.ErrClosed
	}
	t.current = c
	return c, true, nil
}

func (t *sshTransport) connectNow(ctx context.Context) (*sshConnection, error) {
	conn, err := t.dial(ctx, t.address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, channels, requests, err := ssh.NewClientConn(conn, t.address, t.config)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := &sshConnection{transport: t, conn: conn, client: ssh.NewClient(client, channels, requests), ended: make(chan struct{}), users: 1}
	go func() {
		_ = c.client.Wait()
		close(c.ended)
		c.drop()
	}()
	return c, nil
}

// explain maps what can go wrong before a service runs. Nothing was sent then.
func (t *sshTransport) explain(ctx context.Context, err error) error {
	var negotiation *ssh.AlgorithmNegotiationError
	var hostKey *HostKeyError
	host := knownhosts.Normalize(t.address)
	switch {
	case errors.As(err, &hostKey):
		return hostKey
	case errors.As(err, &negotiation) && negotiation.What == "host key":
		return &HostKeyError{Host: host, Known: t.known.describe(host)}
	case errors.As(err, &negotiation):
		return &callError{kind: ErrProtocol, cause: errors.New(printable(err.Error(), 300))}
	case ctx.Err() != nil:
		return &callError{kind: ErrUnavailable, cause: ctx.Err()}
	case strings.Contains(err.Error(), "ssh: unable to authenticate"):
		return &callError{kind: ErrUnauthorized, cause: fmt.Errorf("%s does not accept the key %s for user %s", host, t.key, t.config.User)}
	}
	return &callError{kind: ErrUnavailable, cause: errors.New(printable(err.Error(), 300))}
}

// sshConnection is a connection with the sessions that use it.
type sshConnection struct {
	transport *sshTransport
	conn      net.Conn
	client    *ssh.Client
	ended     chan struct{} // closed when the connection is over

	mu    sync.Mutex
	users int
	idle  *time.Timer // closes it; nil while it is used
}

// use adds a user, unless the connection is about to close.
func (c *sshConnection) use() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle != nil {
		if !c.idle.Stop() {
			return false
		}
		c.idle = nil
	}
	c.users++
	return true
}

// release takes a user away. Without users the connection is closed soon.
func (c *sshConnection) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 {
		c.idle = time.AfterFunc(idleTimeout, c.drop)
	}
}

// drop closes the connection and has the next call dial.
func (c *sshConnection) drop() {
	t := c.transport
	t.mu.Lock()
	if t.current == c {
		t.current = nil
	}
	t.mu.Unlock()
	_ = c.conn.Close()
}

// start runs a service. An error that is no callError is one of the connection.
func (c *sshConnection) start(ctx context.Context, service, command string) (*sshSession, error) {
	// Whoever waits for a server that does not answer waits for the connection.
	stop := context.AfterFunc(ctx, c.drop)
	s := &sshSession{ctx: ctx, connection: c, stop: stop}
	err := s.start(service, command)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// errCutOff is what a connection says that ended.
var errCutOff = errors.New("the connection was cut off")

// newSession opens a session. The library never answers for a channel that is
// opened in the moment in which the connection ends, so that end counts as an
// answer, too.
func (c *sshConnection) newSession() (*ssh.Session, error) {
	type answer struct {
		session *ssh.Session
		err     error
	}
	opened := make(chan answer, 1)
	go func() {
		session, err := c.client.NewSession()
		opened <- answer{session, err}
	}()
	select {
	case a := <-opened:
		return a.session, a.err
	case <-c.ended:
		return nil, errCutOff
	}
}
