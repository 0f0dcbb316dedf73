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
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// maxRedirects is how often the question what a service can do is repeated
// elsewhere.
const maxRedirects = 5

// maxHeader is how long the header of an answer may be, in bytes.
const maxHeader = 256 << 10

// httpTransport speaks Git's smart HTTP: a GET for what a service can do, a POST
// per request.
type httpTransport struct {
	base      string // without user information
	auth      Auth
	userAgent string
	client    *http.Client

	mu sync.Mutex
	// moved is where a service was found to be when it was asked last, if not at
	// base.
	moved map[string]string
}

func newHTTPTransport(u *url.URL, o Options) (*httpTransport, error) {
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("url: a query or fragment is not supported")
	}
	auth := o.Auth
	if u.User != nil && auth.Username == "" && auth.Password == "" && auth.Bearer == "" {
		auth.Username = u.User.Username()
		auth.Password, _ = u.User.Password()
	}
	base := *u
	base.User = nil
	config, err := o.tls()
	if err != nil {
		return nil, err
	}
	proxy := http.ProxyFromEnvironment
	if o.Proxy != (Proxy{}) {
		through, err := o.Proxy.url()
		if err != nil {
			return nil, err
		}
		proxy = http.ProxyURL(through)
	}
	return &httpTransport{
		base:      strings.TrimRight(base.String(), "/"),
		auth:      auth,
		userAgent: o.UserAgent,
		moved:     map[string]string{},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               proxy,
				TLSClientConfig:     config,
				ForceAttemptHTTP2:   true,
				MaxIdleConnsPerHost: 16,
				IdleConnTimeout:     idleTimeout,

				MaxResponseHeaderBytes: maxHeader,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// tls is how the server is known and, with a client certificate, ourselves.
func (o Options) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CABundle != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(o.CABundle)) {
			return nil, errors.New("caBundle: holds no certificate in PEM")
		}
	}
	if o.Auth.Certificate != "" || o.Auth.CertificateKey != "" {
		pair, err := tls.X509KeyPair([]byte(o.Auth.Certificate), []byte(o.Auth.CertificateKey))
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// advertise follows redirects to another path of the same server, as Git does
// (http.followRedirects=initial): what is asked later goes where the answer came
// from. No other server is asked, so none sees the credentials.
func (t *httpTransport) advertise(ctx context.Context, service string) (io.ReadCloser, error) {
	base := t.base
	for n := 0; ; n++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+advertisementOf(service), nil)
		if err != nil {
			return nil, err
		}
		if service == uploadPack {
			req.Header.Set("Git-Protocol", "version=2")
		}
		body, err := t.do(req, "application/x-"+service+"-advertisement")
		var moved *movedError
		if !errors.As(err, &moved) || n == maxRedirects {
			if err == nil {
				t.mu.Lock()
				t.moved[service] = base
				t.mu.Unlock()
			}
			return body, err
		}
		next, ok := newBase(req.URL, moved.to, service)
		if !ok {
			return nil, err
		}
		base = next
	}
}

func advertisementOf(service string) string { return "/info/refs?service=" + service }

// newBase is the address of a repository whose server answered the question for a
// service with a redirect: on the same host, and not from https to http.
func newBase(asked *url.URL, location, service string) (string, bool) {
	to, err := asked.Parse(location)
	if err != nil || location == "" || to.User != nil {
		return "", false
	}
	upgrade := asked.Scheme == "http" && to.Scheme == "https" && asked.Hostname() == to.Hostname() && asked.Port() == "" && to.Port() == ""
	if !upgrade && (to.Scheme != asked.Scheme || to.Host != asked.Host) {
		return "", false
	}
	return strings.CutSuffix(to.String(), advertisementOf(service))
}

func (t *httpTransport) call(ctx context.Context, service string, can *advertisement, body []byte) (io.ReadCloser, error) {
	t.mu.Lock()
	base := cmp.Or(t.moved[service], t.base)
	t.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/"+service, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-"+service+"-request")
	if can.version == 2 {
		req.Header.Set("Git-Protocol", "version=2")
	}
	return t.do(req, "application/x-"+service+"-result")
}

func (t *httpTransport) close() { t.client.CloseIdleConnections() }

func (t *httpTransport) do(req *http.Request, accept string) (io.ReadCloser, error) {
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", t.userAgent)
	switch {
	case t.auth.Bearer != "":
		req.Header.Set("Authorization", "Bearer "+t.auth.Bearer)
	case t.auth.Username != "" || t.auth.Password != "":
		req.SetBasicAuth(t.auth.Username, t.auth.Password)
	}
	var sent atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
	}))
	resp, err := t.client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the wrapping repeats the URL
		}
		return nil, &callError{kind: ErrUnavailable, cause: err, sent: sent.Load()}
	}
	body := &drained{resp.Body}
	if err := statusError(resp, accept); err != nil {
		_ = body.Close()
		return nil, err
	}
	return body, nil
}

// statusError maps a status that is not "OK" and a content that is not Git's.
func statusError(resp *http.Response, accept string) error {
	if resp.StatusCode == http.StatusOK {
		if got := resp.Header.Get("Content-Type"); got != accept {
			return fmt.Errorf("%w: content type %q instead of %q", ErrProtocol, printable(got, 80), accept)
		}
		return nil
	}
	e := &callError{kind: ErrUnavailable, cause: fmt.Errorf("HTTP status %s", printable(resp.Status, 80))}
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		e.kind = ErrUnauthorized
	case code == http.StatusNotFound || code == http.StatusGone:
		e.kind = ErrNotFound
	case code >= 300 && code < 400:
		e.kind = ErrNotFound
		e.cause = &movedError{to: resp.Header.Get("Location")}
	case code >= 500 || code < 300:
		e.sent = true // a proxy may have given up on a server that did not
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		words, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if text := printable(string(words), 200); text != "" {
			e.cause = fmt.Errorf("%w: %q", e.cause, text)
		}
	}
	return e
}

// movedError says that the server has what was asked for elsewhere.
type movedError struct{ to string }

func (e *movedError) Error() string { return fmt.Sprintf("moved to %q", redacted(e.to)) }

// redacted is a URL without its user information and query.
func redacted(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "?"
	}
	u.User, u.RawQuery = nil, ""
	return printable(u.String(), 200)
}

// drained reads what is left of a body before closing it, within reason, so
// that the connection can serve the next request.
type drained struct{ io.ReadCloser }

func (d *drained) Close() error {
	_, _ = io.CopyN(io.Discard, d.ReadCloser, 64<<10)
	return d.ReadCloser.Close()
}
