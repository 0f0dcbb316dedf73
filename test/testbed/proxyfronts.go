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
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// dialTimeout bounds how long a connection to a pod may take.
const dialTimeout = 2 * time.Second

// udpIdle is how long a UDP session lives without a datagram.
const udpIdle = 60 * time.Second

// roundRobin hands out backends in turn.
type roundRobin struct {
	backends []netip.AddrPort
	turn     int
}

func (r *roundRobin) next() (netip.AddrPort, bool) {
	if len(r.backends) == 0 {
		return netip.AddrPort{}, false
	}
	r.turn++
	return r.backends[r.turn%len(r.backends)], true
}

func listenTCP(address netip.AddrPort) (*net.TCPListener, error) {
	return net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(address))
}

// tcpFront carries the connections of one NodePort.
type tcpFront struct {
	listener *net.TCPListener
	node     netip.Addr

	mu    sync.Mutex
	ring  roundRobin
	conns map[net.Conn]bool
}

func newTCPFront(address netip.AddrPort) (*tcpFront, error) {
	listener, err := listenTCP(address)
	if err != nil {
		return nil, err
	}
	f := &tcpFront{listener: listener, node: address.Addr(), conns: map[net.Conn]bool{}}
	go func() {
		for {
			client, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			go f.carry(client)
		}
	}()
	return f, nil
}

func (f *tcpFront) setBackends(backends []netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring.backends = backends
}

// carry joins a client with the next pod. Where a kernel would let the pod's
// refusal through, the client gets a reset.
func (f *tcpFront) carry(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	f.mu.Lock()
	backend, ok := f.ring.next()
	f.mu.Unlock()
	// From the node's address, as kube-proxy masquerades.
	dialer := net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{IP: f.node.AsSlice()}}
	var pod net.Conn
	if ok {
		pod, _ = dialer.Dial("tcp4", backend.String())
	}
	if pod == nil {
		_ = client.SetLinger(0)
		return
	}
	defer func() { _ = pod.Close() }()
	if !f.hold(client, pod) {
		return
	}
	defer f.release(client, pod)
	var back sync.WaitGroup
	back.Go(func() { pipe(client, pod) })
	pipe(pod, client)
	back.Wait()
}

// pipe copies until from ends, and hands the end on. A broken connection is
// reset on the other side.
func pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	conn, ok := to.(*net.TCPConn)
	if !ok {
		return
	}
	if err != nil {
		_ = conn.SetLinger(0)
		_ = conn.Close()
		_ = from.Close()
		return
	}
	_ = conn.CloseWrite()
}

func (f *tcpFront) hold(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range conns {
		if f.conns == nil {
			return false
		}
		f.conns[conn] = true
	}
	return true
}

func (f *tcpFront) release(conns ...net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range conns {
		delete(f.conns, conn)
	}
}

func (f *tcpFront) Close() error { return f.listener.Close() }

func (f *tcpFront) abort() {
	_ = f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	f.conns = nil
}

// udpFront carries the datagrams of one NodePort: one session per client.
type udpFront struct {
	conn *net.UDPConn
	node netip.Addr

	mu       sync.Mutex
	ring     roundRobin
	sessions map[netip.AddrPort]*udpSession
}

type udpSession struct {
	*net.UDPConn
	backend netip.AddrPort
}

func newUDPFront(address netip.AddrPort) (*udpFront, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
	if err != nil {
		return nil, err
	}
	f := &udpFront{conn: conn, node: address.Addr(), sessions: map[netip.AddrPort]*udpSession{}}
	go f.carry()
	return f, nil
}

// setBackends also ends sessions whose backend is gone, as kube-proxy does
// with the kernel's connection tracking.
func (f *udpFront) setBackends(backends []netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring.backends = backends
	for client, session := range f.sessions {
		if !slices.Contains(backends, session.backend) {
			_ = session.Close()
			delete(f.sessions, client)
		}
	}
}

func (f *udpFront) carry() {
	buffer := make([]byte, 64<<10)
	for {
		n, client, err := f.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if session := f.session(client); session != nil {
			_ = session.SetReadDeadline(time.Now().Add(udpIdle))
			_, _ = session.Write(buffer[:n])
		}
	}
}

// session finds or opens the client's session; nil when there is no backend.
func (f *udpFront) session(client netip.AddrPort) *udpSession {
	f.mu.Lock()
	defer f.mu.Unlock()
	if session, ok := f.sessions[client]; ok {
		return session
	}
	backend, ok := f.ring.next()
	if !ok || f.sessions == nil {
		return nil
	}
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: f.node.AsSlice()}, net.UDPAddrFromAddrPort(backend))
	if err != nil {
		return nil
	}
	session := &udpSession{conn, backend}
	f.sessions[client] = session
	go f.answer(client, session)
	return session
}

// answer carries a pod's datagrams back until the session is idle or ended.
func (f *udpFront) answer(client netip.AddrPort, session *udpSession) {
	defer func() {
		_ = session.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.sessions[client] == session {
			delete(f.sessions, client)
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		_ = session.SetReadDeadline(time.Now().Add(udpIdle))
		n, err := session.Read(buffer)
		if err != nil {
			return
		}
		_, _ = f.conn.WriteToUDPAddrPort(buffer[:n], client)
	}
}

func (f *udpFront) Close() error {
	f.abort() // without the socket there is no way back to the clients
	return nil
}

func (f *udpFront) abort() {
	_ = f.conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, session := range f.sessions {
		_ = session.Close()
	}
	f.sessions = nil
}
