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
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// proxyV2 is a PROXY header, version 2, for TCP or UDP over IPv4.
func proxyV2(source, destination string) string {
	from, to := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	body := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, from.Port())
	body = binary.BigEndian.AppendUint16(body, to.Port())
	body = append(body, 4, 0, 1, 'x') // a TLV, which is passed over
	head := append(slices.Clone(proxySignature), 0x21, 0x11)
	return string(append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...))
}

func TestEchoReportsWhatItWasTold(t *testing.T) {
	address := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	server := &echo{pod: "web-1", namespace: "shop", node: "node-1", port: 8080}
	serve := map[string]func(netip.AddrPort) (io.Closer, error){"http": server.serveHTTP, "tcp": server.serveTCP, "udp": server.serveUDP}
	header := proxyV2("192.0.2.7:4711", "203.0.113.1:80")
	want := ProxyHeader{Command: "PROXY", Source: "192.0.2.7:4711", Destination: "203.0.113.1:80"}
	for name, say := range map[string]string{
		"http": "POST /a?b HTTP/1.1\r\nHost: shop.example\r\nX-Test: yes\r\nContent-Length: 2\r\n\r\nhi",
		"tcp":  "hi\n",
		"udp":  "hi",
	} {
		for _, proxied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, PROXY header %t", name, proxied), func(t *testing.T) {
				port, err := freePort()
				if err != nil {
					t.Fatal(err)
				}
				closer, err := serve[name](address(uint16(port)))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = closer.Close() }()
				network, text := "tcp", say
				if name == "udp" {
					network = "udp"
				}
				if proxied {
					text = header + say
				}
				reply := converse(t, network, address(uint16(port)).String(), text)
				if reply.Pod != "web-1" || reply.Namespace != "shop" || reply.Node != "node-1" || reply.Port != 8080 ||
					!strings.HasPrefix(reply.Peer, "127.0.0.1:") || reply.Data != "hi" {
					t.Errorf("got %+v", reply)
				}
				if (reply.Proxy != nil) != proxied || (proxied && *reply.Proxy != want) {
					t.Errorf("PROXY header %+v", reply.Proxy)
				}
				if name == "http" && (reply.Method != "POST" || reply.Host != "shop.example" || reply.Path != "/a?b" || reply.Header.Get("X-Test") != "yes") {
					t.Errorf("request %+v", reply)
				}
			})
		}
	}
}

// converse says something and reads the line of JSON in the answer.
func converse(t *testing.T, network, address, text string) Reply {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(conn, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line[0] != '{' {
			continue // the head of an HTTP answer
		}
		reply, err := decodeReply(line)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
}
