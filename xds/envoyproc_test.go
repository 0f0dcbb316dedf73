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
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envoyBinary finds Envoy or skips the test.
func envoyBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ENVOY"); path != "" {
		return path
	}
	path, err := filepath.Abs("../.tools/bin/envoy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("no Envoy: run `make tools` or set ENVOY")
	}
	return path
}

// startEnvoy runs an Envoy of a group and returns its admin address.
func startEnvoy(t *testing.T, b *bed, group string) (admin string) {
	t.Helper()
	binary := envoyBinary(t)
	admin = freeAddress(t, "127.0.0.1")
	dir := t.TempDir()
	config := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(config, bootstrap(t, b, group, admin), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "envoy.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-c", config, "--disable-hot-restart", "--concurrency", "1", "--log-level", "info", "--drain-time-s", "1")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // "signal: killed"
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("Envoy's log:\n%s", text)
		}
	})
	return admin
}

func bootstrap(t *testing.T, b *bed, group, admin string) []byte {
	t.Helper()
	ca, cert, key := b.ca.files(group)
	type m = map[string]any
	address := func(at string) m {
		host, port, _ := net.SplitHostPort(at)
		return m{"socket_address": m{"address": host, "port_value": json.Number(port)}}
	}
	ads := m{"ads": m{}, "resource_api_version": "V3"}
	out, err := json.Marshal(m{
		"node":  m{"id": "somebody", "cluster": "somewhere"},
		"admin": m{"address": address(admin)},
		"dynamic_resources": m{
			"ads_config": m{
				"api_type": "DELTA_GRPC", "transport_api_version": "V3",
				"grpc_services": []m{{"envoy_grpc": m{"cluster_name": "xds"}}},
			},
			"cds_config": ads, "lds_config": ads,
		},
		"static_resources": m{"clusters": []m{{
			"name": "xds", "type": "STATIC", "connect_timeout": "1s",
			"load_assignment": m{"cluster_name": "xds", "endpoints": []m{{"lb_endpoints": []m{{"endpoint": m{"address": address(b.address)}}}}}},
			"typed_extension_protocol_options": m{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": m{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": m{"http2_protocol_options": m{}},
			}},
			"transport_socket": m{"name": "envoy.transport_sockets.tls", "typed_config": m{
				"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
				"sni":   "xds",
				"common_tls_context": m{
					"tls_params":         m{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
					"tls_certificates":   []m{{"certificate_chain": m{"filename": cert}, "private_key": m{"filename": key}}},
					"validation_context": m{"trusted_ca": m{"filename": ca}},
				},
			}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// freeAddress is an address that nothing listens on.
func freeAddress(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// echo answers every connection with its name.
func echo(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// dial returns what the address says, "" when it says nothing.
func dial(address string) string {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	said, _ := io.ReadAll(c)
	return string(said)
}

func says(t *testing.T, address, word string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s says %q", address, word), func() bool { return dial(address) == word })
}

// stat reads one of Envoy's counters.
func stat(t *testing.T, admin, name string) (value int) {
	t.Helper()
	response, err := http.Get("http://" + admin + "/stats?filter=^" + name + "$")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, number, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
	if _, err := fmt.Sscan(number, &value); err != nil {
		t.Fatalf("%s: %q", name, text)
	}
	return value
}

// deadEnd is an address that never answers a connection: its queue is full.
func deadEnd(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 10 {
		c, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the queue does not fill")
	return ""
}

// from dials from a source address.
func from(source, network, address string) string {
	d := net.Dialer{Timeout: time.Second}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(source)}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	c, err := d.Dial(network, address)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if network == "udp" {
		if _, err := c.Write([]byte("hello")); err != nil {
			return ""
		}
		said := make([]byte, 100)
		n, _ := c.Read(said)
		return string(said[:n])
	}
	said, _ := io.ReadAll(c)
	return string(said)
}

// echoUDP answers every datagram with its name.
func echoUDP(t *testing.T, name string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			_, peer, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(name), peer)
		}
	}()
	return c.LocalAddr().String()
}
