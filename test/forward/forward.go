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

// Package forward is a forward proxy for tests: HTTP requests with whole URLs,
// CONNECT, and SOCKS5 on the same port. It asks everybody for a user name and a
// password, and counts who came through.
package forward

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// Proxy is a forward proxy on a port of 127.0.0.1.
type Proxy struct {
	Username, Password string

	listener net.Listener
	mu       sync.Mutex
	passed   map[string]int
}

// Start starts a proxy.
func Start(username, password string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("forward proxy: %w", err)
	}
	p := &Proxy{Username: username, Password: password, listener: listener, passed: map[string]int{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p, nil
}

// Close ends it for new connections.
func (p *Proxy) Close() { _ = p.listener.Close() }

// URL is its address with a scheme: http or socks5.
func (p *Proxy) URL(scheme string) string { return scheme + "://" + p.listener.Addr().String() }

// Passed counts what came through: "CONNECT", "SOCKS5", or "GET" and the like;
// "denied" what did not.
func (p *Proxy) Passed(kind string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed[kind]
}

func (p *Proxy) count(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed[kind]++
}

func (p *Proxy) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	if first, err := reader.Peek(1); err == nil && first[0] == 5 {
		p.socks(conn, reader)
		return
	}
	for p.request(conn, reader) {
	}
}

// request serves one HTTP request and reports whether there may be another.
func (p *Proxy) request(conn net.Conn, reader *bufio.Reader) bool {
	r, err := http.ReadRequest(reader)
	if err != nil {
		return false
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.Username+":"+p.Password))
	if r.Header.Get("Proxy-Authorization") != want {
		p.count("denied")
		_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return false
	}
	p.count(r.Method)
	if r.Method == http.MethodConnect {
		target, err := net.Dial("tcp", r.Host)
		if err != nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			return false
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		join(conn, reader, target)
		return false
	}
	r.RequestURI = ""
	r.Header.Del("Proxy-Authorization")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return false
	}
	defer func() { _ = response.Body.Close() }()
	return response.Write(conn) == nil && !response.Close
}

// socks serves SOCKS5 with user name and password, for TCP.
func (p *Proxy) socks(conn net.Conn, reader *bufio.Reader) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(reader, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	methods := read(2)
	read(int(methods[1]))
	_, _ = conn.Write([]byte{5, 2}) // user name and password
	user := string(read(int(read(2)[1])))
	password := string(read(int(read(1)[0])))
	if user != p.Username || password != p.Password {
		p.count("denied")
		_, _ = conn.Write([]byte{1, 1})
		return
	}
	_, _ = conn.Write([]byte{1, 0})
	var host string
	switch request := read(4); request[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	case 4:
		host = net.IP(read(16)).String()
	}
	port := read(2)
	target, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(int(port[0])<<8|int(port[1]))))
	if err != nil {
		_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	p.count("SOCKS5")
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	join(conn, reader, target)
}

// join carries bytes both ways until one side ends.
func join(conn net.Conn, reader io.Reader, target net.Conn) {
	go func() {
		_, _ = io.Copy(target, reader)
		_ = target.Close()
	}()
	_, _ = io.Copy(conn, target)
}
