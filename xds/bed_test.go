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

package xds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"

	"github.com/kubelb/gitops/xds/ir"
)

const patience = 30 * time.Second

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not in %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// authority signs the certificates of a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, key, nil)
	return a
}

func (a *authority) sign(template *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	parent := a.cert
	if parent == nil {
		parent, parentKey = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// certificate is a pair for a server, or for the client that has the URIs.
func (a *authority) certificate(uris ...*url.URL) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	cert := a.sign(&x509.Certificate{
		DNSNames: []string{"xds"}, URIs: uris,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// files writes what Envoy needs to connect as a proxy of the group.
func (a *authority) files(group string) (ca, cert, key string) {
	pair := a.certificate(groupURI(group))
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	return write("ca.pem", "CERTIFICATE", a.cert.Raw), write("cert.pem", "CERTIFICATE", pair.Certificate[0]),
		write("key.pem", "PRIVATE KEY", der)
}

// bed is a running server.
type bed struct {
	*Server
	t       testing.TB
	ca      *authority
	clock   *fakeClock
	address string
	stop    func()
}

// start runs a server on a port of its own, with a clock that the test moves.
func start(t testing.TB) *bed {
	return startAt(t, newAuthority(t), "127.0.0.1:0", newFakeClock())
}

func startAt(t testing.TB, ca *authority, address string, clock *fakeClock) *bed {
	t.Helper()
	b := &bed{t: t, ca: ca, clock: clock}
	log := logr.Discard()
	if testing.Verbose() {
		log = testr.NewWithInterface(t, testr.Options{Verbosity: 2})
	}
	var err error
	options := Options{Log: log, TLS: &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{ca.certificate()},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    ca.pool(),
	}}
	if clock != nil {
		options.Clock = clock
	}
	if b.Server, err = New(options); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	b.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, l) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// publish publishes parts that must all be taken.
func (b *bed) publish(group string, parts map[string]*ir.Part) {
	b.t.Helper()
	if errs := b.Publish(group, parts); len(errs) > 0 {
		b.t.Fatal(errs)
	}
}

// verdict waits until an owner's verdict is as wished.
func (b *bed) verdict(group, owner, what string, wished func(ir.Verdict) bool) ir.Verdict {
	b.t.Helper()
	var v ir.Verdict
	deadline := time.Now().Add(patience)
	for {
		var ok bool
		if v, ok = b.Verdict(group, owner); ok && wished(v) {
			return v
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s of %s is not %s: %+v", owner, group, what, v)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (b *bed) programmed(group string, owners ...string) {
	b.t.Helper()
	for _, owner := range owners {
		b.verdict(group, owner, "programmed", func(v ir.Verdict) bool { return v.Programmed })
	}
}

// answered says whether the proxies of a group have answered all that they were
// sent, and nothing else is due.
func (b *bed) answered(name string) bool {
	g := b.group(name)
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		for _, l := range s.lanes {
			if len(l.flights) > 0 || len(l.dirty) > 0 {
				return false
			}
		}
	}
	return true
}

// fakeClock stands still until the test moves it.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	next   int
	timers map[int]fakeTimer
}

type fakeTimer struct {
	due time.Time
	f   func()
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Unix(1_000_000, 0), timers: map[int]fakeTimer{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) AfterFunc(d time.Duration, f func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.next
	c.next++
	c.timers[id] = fakeTimer{c.now.Add(d), f}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, id)
	}
}

// advance moves the clock and runs what is due.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []func()
	for id, timer := range c.timers {
		if !timer.due.After(c.now) {
			due = append(due, timer.f)
			delete(c.timers, id)
		}
	}
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// lb is a part with one TCP listener, as hub/build would make it.
func lb(name, address string, port uint16, endpoints ...string) *ir.Part {
	p := &ir.Part{
		Listeners: []ir.Listener{{Address: netip.MustParseAddr(address), Port: port, Protocol: ir.TCP, Cluster: name}},
		Clusters:  []ir.Cluster{{Name: name}},
	}
	for _, e := range endpoints {
		at := netip.MustParseAddrPort(e)
		p.Clusters[0].Endpoints = append(p.Clusters[0].Endpoints, ir.Endpoint{Address: at.Addr().String(), Port: at.Port()})
	}
	return p
}

func many(n int) map[string]*ir.Part {
	out := map[string]*ir.Part{}
	for i := range n {
		name := fmt.Sprintf("lb-%05d", i)
		out[name] = lb(name, fmt.Sprintf("127.9.%d.%d", i/250, 1+i%250), 8080, "127.0.0.1:9000")
	}
	return out
}
