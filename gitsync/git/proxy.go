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
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/proxy"
)

// Proxy leads to a Git server. The zero value is none.
type Proxy struct {
	// Address is a URL: http, https, socks5 or socks5h.
	Address string
	// Username and Password introduce the Remote to the proxy.
	Username, Password string
}

func (p Proxy) url() (*url.URL, error) {
	u, err := url.Parse(p.Address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("proxy: the address is not a URL such as http://proxy.example.com:3128")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, fmt.Errorf("proxy: scheme %s is not supported: write http, https, socks5 or socks5h", u.Scheme)
	}
	if p.Username != "" {
		u.User = url.UserPassword(p.Username, p.Password)
	}
	return u, nil
}

// dialer connects to host:port.
type dialer func(ctx context.Context, address string) (net.Conn, error)

// dialer connects through the proxy, or directly without one.
func (p Proxy) dialer(config *tls.Config) (dialer, error) {
	direct := &net.Dialer{}
	if p == (Proxy{}) {
		return func(ctx context.Context, address string) (net.Conn, error) {
			return direct.DialContext(ctx, "tcp", address)
		}, nil
	}
	u, err := p.url()
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		return (&tunnel{proxy: u, config: config}).dial, nil
	}
	through, err := proxy.FromURL(u, direct)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	dial, ok := through.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("proxy: it cannot be given up on")
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := dial.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", u.Host, err)
		}
		return conn, nil
	}, nil
}

// tunnel asks an HTTP proxy for a connection.
type tunnel struct {
	proxy  *url.URL
	config *tls.Config
}

func (t *tunnel) dial(ctx context.Context, address string) (net.Conn, error) {
	port := t.proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[t.proxy.Scheme]
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(t.proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if t.proxy.Scheme == "https" {
		config := t.config.Clone()
		config.ServerName = t.proxy.Hostname()
		conn = tls.Client(conn, config)
	}
	conn, err = t.connect(conn, address)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", t.proxy.Host, err)
	}
	return conn, nil
}

// connect has the proxy open the way to address; it closes conn if it fails.
func (t *tunnel) connect(conn net.Conn, address string) (net.Conn, error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := t.proxy.User; user != nil {
		password, _ := user.Password()
		request.SetBasicAuth(user.Username(), password)
		request.Header["Proxy-Authorization"] = request.Header["Authorization"]
		delete(request.Header, "Authorization")
	}
	reader := bufio.NewReader(conn)
	err := request.Write(conn)
	if err == nil {
		var response *http.Response
		if response, err = http.ReadResponse(reader, request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				err = errors.New("it answers " + printable(response.Status, 80))
			}
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &readAhead{Conn: conn, reader: reader}, nil
}

// readAhead is a connection of which something was read already.
type readAhead struct {
	net.Conn
	reader *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.reader.Read(p) }
