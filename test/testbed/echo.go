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

package testbed

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Reply is what an echo pod answers with, as one line of JSON: to every HTTP
// request, every line over TCP, every datagram over UDP.
type Reply struct {
	Pod       string       `json:"pod"`
	Namespace string       `json:"namespace"`
	Node      string       `json:"node"`
	Port      int          `json:"port"`            // the container's port
	Peer      string       `json:"peer"`            // who connected: a node's address when it came through a NodePort
	Proxy     *ProxyHeader `json:"proxy,omitempty"` // the PROXY protocol header that came first
	Data      string       `json:"data,omitempty"`  // the body, line or datagram

	Method string      `json:"method,omitempty"`
	Host   string      `json:"host,omitempty"`
	Path   string      `json:"path,omitempty"`
	Header http.Header `json:"header,omitempty"`
}

// echo is one port of an echo pod.
type echo struct {
	pod, namespace, node string
	port                 int
}

func (e *echo) reply(peer net.Addr, proxy *ProxyHeader) Reply {
	return Reply{Pod: e.pod, Namespace: e.namespace, Node: e.node, Port: e.port, Peer: peer.String(), Proxy: proxy}
}

func (r *Reply) line() []byte {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings, numbers and a map of strings can always be written
	}
	return append(text, '\n')
}

type connKey struct{}

func (e *echo) serveHTTP(address netip.AddrPort) (io.Closer, error) {
	listener, err := net.Listen("tcp", address.String())
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
			var reply Reply
			if conn, ok := r.Context().Value(connKey{}).(*proxiedConn); ok {
				reply = e.reply(conn.RemoteAddr(), conn.header)
			}
			reply.Method, reply.Host, reply.Path, reply.Header, reply.Data = r.Method, r.Host, r.URL.RequestURI(), r.Header, string(body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(reply.line())
		}),
	}
	go func() { _ = server.Serve(proxiedListener{listener}) }()
	return server, nil
}

// tcpEcho answers lines.
type tcpEcho struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

func (e *echo) serveTCP(address netip.AddrPort) (io.Closer, error) {
	listener, err := net.Listen("tcp", address.String())
	if err != nil {
		return nil, err
	}
	server := &tcpEcho{Listener: proxiedListener{listener}, conns: map[net.Conn]bool{}}
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go server.answer(e, conn)
		}
	}()
	return server, nil
}

func (t *tcpEcho) answer(e *echo, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	t.mu.Lock()
	if t.conns == nil {
		t.mu.Unlock()
		return
	}
	t.conns[conn] = true
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.conns, conn)
	}()
	proxied, _ := conn.(*proxiedConn)
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			reply := e.reply(conn.RemoteAddr(), proxied.header)
			reply.Data = strings.TrimRight(line, "\r\n")
			if _, err := conn.Write(reply.line()); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Close ends the listener and its connections.
func (t *tcpEcho) Close() error {
	err := t.Listener.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for conn := range t.conns {
		_ = conn.Close()
	}
	t.conns = nil
	return err
}

func (e *echo) serveUDP(address netip.AddrPort) (io.Closer, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
	if err != nil {
		return nil, err
	}
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, peer, err := conn.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			header, data := splitProxyHeader(buffer[:n])
			reply := e.reply(peer, header)
			reply.Data = string(data)
			_, _ = conn.WriteToUDP(reply.line(), peer)
		}
	}()
	return conn, nil
}
