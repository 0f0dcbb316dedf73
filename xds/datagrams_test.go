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
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/kubelb/gitops/xds/ir"
)

// The largest payload of a UDP datagram over IPv4 (RFC 768 and RFC 791: 65,535
// bytes less 20 of the IP header and 8 of UDP's) and over IPv6 (RFC 8200, whose
// payload length does not count its header).
const (
	mostIPv4 = 65_507
	mostIPv6 = 65_527
)

func TestEnvoyCarriesDatagramsOfEverySize(t *testing.T) {
	if behindNarrowNetwork(t) {
		return
	}
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	cases := map[string][]int{
		"127.0.0.1": {0, 1, 1472, 1473, 1500, 1501, 9000, mostIPv4},
		"::1":       {0, 1, 1452, 1453, 1500, 1501, 9000, mostIPv6},
	}
	parts, at := map[string]*ir.Part{}, map[string]string{}
	for host := range cases {
		for i, policy := range []ir.Policy{ir.RoundRobin, ir.SourceIP} {
			name, port := host+string(policy), uint16(8053+i)
			part := lb(name, host, port, sizedUDP(t, host))
			part.Listeners[0].Protocol, part.Clusters[0].Policy = ir.UDP, policy
			parts[name], at[name] = part, net.JoinHostPort(host, fmt.Sprint(port))
		}
	}
	b.publish("edge", parts)
	b.Open("edge")
	startEnvoy(t, b, "edge")
	for owner := range parts {
		b.programmed("edge", owner)
	}
	for host, sizes := range cases {
		for _, policy := range []ir.Policy{ir.RoundRobin, ir.SourceIP} {
			for i, size := range sizes {
				// Each size there and each back.
				for _, other := range []int{size, sizes[(i+2)%len(sizes)], sizes[(i+5)%len(sizes)]} {
					if err := ask(at[host+string(policy)], size, other); err != nil {
						t.Errorf("%s %s, %d bytes there, %d back: %v", host, policy, size, other, err)
					}
				}
			}
		}
	}
}

// Linux hands several datagrams of one sender to a socket that asks for GRO as
// one, and Envoy asks for all its listeners. They must come apart again.
func TestEnvoyKeepsDatagramsApart(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	part := lb("web", "127.7.10.1", 8053, sizedUDP(t, "127.0.0.1"))
	part.Listeners[0].Protocol = ir.UDP
	b.publish("edge", map[string]*ir.Part{"web": part})
	b.Open("edge")
	startEnvoy(t, b, "edge")
	b.programmed("edge", "web")
	if err := ask("127.7.10.1:8053", 1, 1); err != nil {
		t.Fatal(err)
	}

	client, err := net.Dial("udp", "127.7.10.1:8053")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	const size, count, udpSegment = 1000, 6, 103
	raw, err := client.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var refused error
	if err := raw.Control(func(fd uintptr) {
		refused = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, udpSegment, size)
	}); err != nil || refused != nil {
		t.Skipf("the kernel does not cut datagrams: %v %v", err, refused)
	}
	var burst []byte
	for range count {
		question := sized(size)
		binary.BigEndian.PutUint32(question, size)
		burst = append(burst, question...)
	}
	if _, err := client.Write(burst); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1<<16)
	for i := range count {
		_ = client.SetReadDeadline(time.Now().Add(time.Second))
		n, err := client.Read(answer)
		if err != nil || !bytes.Equal(answer[:n], sized(size)) {
			t.Fatalf("answer %d of %d has %d bytes, want %d: %v", i+1, count, n, size, err)
		}
	}
}

// narrowed is set where the test runs in a network of its own.
const narrowed = "KUBELB_TEST_NARROW_NETWORK"

// behindNarrowNetwork runs the test again in a network of its own whose packets
// have 1,500 bytes, as those of an Ethernet, and reports whether it did. Loopback
// has packets of 64 KiB and would hide what a path's MTU does to a datagram.
// Where the machine allows no such network the test goes on here.
func behindNarrowNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(narrowed) != "" {
		if text, err := exec.Command("ip", "link", "set", "lo", "up", "mtu", "1500").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return false
	}
	envoyBinary(t)
	own := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	try := exec.Command("ip", "link", "set", "lo", "up", "mtu", "1500")
	try.SysProcAttr = own
	if text, err := try.CombinedOutput(); err != nil {
		t.Logf("no network of its own, the MTU is loopback's: %v: %s", err, text)
		return false
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	again.SysProcAttr, again.Env = own, append(os.Environ(), narrowed+"=1")
	text, err := again.CombinedOutput()
	if err != nil {
		t.Errorf("in a network of its own: %v\n%s", err, text)
	}
	return true
}

// ask sends datagrams of one size to a server of sizedUDP until an answer of the
// other size is back. UDP may lose one, so it asks three times.
func ask(address string, there, back int) error {
	client, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	question, want := sized(there), sized(back)
	if there >= 4 {
		binary.BigEndian.PutUint32(question, uint32(back))
	} else {
		want = question // it is too short to name a size
	}
	answer := make([]byte, 1<<16)
	var n int
	for range 3 {
		if _, err := client.Write(question); err != nil {
			return err
		}
		_ = client.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err = client.Read(answer); err != nil {
			continue
		}
		if !bytes.Equal(answer[:n], want) {
			return fmt.Errorf("%d bytes came back, want the %d that were sent", n, len(want))
		}
		return nil
	}
	return err
}

// sized is a text of n bytes.
func sized(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i % 251)
	}
	return out
}

// sizedUDP answers with a datagram of the size that the first four bytes of the
// question ask for, or with the question if that is shorter.
func sizedUDP(t *testing.T, host string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, peer, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			answer := buffer[:n]
			if n >= 4 {
				answer = sized(int(min(binary.BigEndian.Uint32(answer), mostIPv6)))
			}
			_, _ = c.WriteTo(answer, peer)
		}
	}()
	return c.LocalAddr().String()
}
