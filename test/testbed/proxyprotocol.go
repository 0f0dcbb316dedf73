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
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
)

// ProxyHeader is a PROXY protocol header, version 2.
type ProxyHeader struct {
	Command     string `json:"command"` // "PROXY" or "LOCAL"
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
}

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

const proxyFixed = 16 // the signature, version and command, family, length

// proxyLength is the length of the header that text begins with.
func proxyLength(text []byte) int {
	return proxyFixed + int(binary.BigEndian.Uint16(text[14:proxyFixed]))
}

// splitProxyHeader takes the header off the front of text; nil when there is none.
func splitProxyHeader(text []byte) (*ProxyHeader, []byte) {
	if len(text) < proxyFixed || !bytes.HasPrefix(text, proxySignature) || len(text) < proxyLength(text) {
		return nil, text
	}
	body, rest := text[proxyFixed:proxyLength(text)], text[proxyLength(text):]
	if text[12]&0x0f == 0 {
		return &ProxyHeader{Command: "LOCAL"}, rest
	}
	header := &ProxyHeader{Command: "PROXY"}
	size := map[byte]int{1: 4, 2: 16}[text[13]>>4] // AF_INET, AF_INET6
	if size > 0 && len(body) >= 2*size+4 {
		source, _ := netip.AddrFromSlice(body[:size])
		destination, _ := netip.AddrFromSlice(body[size : 2*size])
		header.Source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(body[2*size:])).String()
		header.Destination = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(body[2*size+2:])).String()
	}
	return header, rest
}

// proxiedListener accepts connections that may begin with a PROXY header.
type proxiedListener struct{ net.Listener }

func (l proxiedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxiedConn{Conn: conn, reader: bufio.NewReaderSize(conn, 4096)}, nil
}

// proxiedConn reads past a PROXY header and keeps it; header is settled after
// the first Read.
type proxiedConn struct {
	net.Conn
	reader *bufio.Reader
	once   sync.Once
	header *ProxyHeader
}

func (c *proxiedConn) Read(p []byte) (int, error) {
	c.once.Do(c.readHeader)
	return c.reader.Read(p)
}

// readHeader waits for no more than what can still be a header.
func (c *proxiedConn) readHeader() {
	for n := 1; n <= proxyFixed; n++ {
		start, err := c.reader.Peek(n)
		if err != nil || !bytes.HasPrefix(proxySignature, start[:min(n, len(proxySignature))]) {
			return
		}
	}
	fixed, err := c.reader.Peek(proxyFixed)
	if err != nil {
		return
	}
	whole, err := c.reader.Peek(proxyLength(fixed))
	if err != nil {
		return
	}
	c.header, _ = splitProxyHeader(whole)
	_, _ = c.reader.Discard(len(whole))
}
