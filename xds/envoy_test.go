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
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubelb/gitops/xds/ir"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
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
	defer l.Close()
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
	defer c.Close()
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
	defer response.Body.Close()
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

func TestEnvoyCarriesTraffic(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	one, two := echo(t, "one"), echo(t, "two")
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.7.0.1", 8080, one)})
	b.Open("edge")
	admin := startEnvoy(t, b, "edge")
	b.programmed("edge", "web")
	says(t, "127.7.0.1:8080", "one")

	updates := stat(t, admin, "listener_manager.lds.update_success")
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.7.0.1", 8080, two)})
	b.programmed("edge", "web")
	says(t, "127.7.0.1:8080", "two")
	if now := stat(t, admin, "listener_manager.lds.update_success"); now != updates {
		t.Errorf("a change of endpoints made %d updates of listeners", now-updates)
	}

	b.publish("edge", map[string]*ir.Part{"web": nil})
	b.verdict("edge", "web", "removed", func(v ir.Verdict) bool { return v.Removed })
	eventually(t, "nothing listens", func() bool { return dial("127.7.0.1:8080") == "" })
}

func TestEnvoyRefusesOneListenerAmongGoodOnes(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	one := echo(t, "one")
	b.publish("edge", map[string]*ir.Part{
		"before": lb("before", "127.7.0.2", 8080, one),
		"bad":    lb("bad", "192.0.2.1", 8080, one),
		"after":  lb("after", "192.0.2.1", 8081, one),
		"web":    lb("web", "127.7.0.3", 8080, one),
	})
	b.Open("edge")
	startEnvoy(t, b, "edge")
	b.programmed("edge", "before", "web")
	says(t, "127.7.0.2:8080", "one")
	says(t, "127.7.0.3:8080", "one")
	for _, owner := range []string{"bad", "after"} {
		v := b.verdict("edge", owner, "rejected", rejected)
		if !strings.Contains(v.Rejections[0].Message, "cannot bind '192.0.2.1") || strings.Contains(v.Rejections[0].Message, "\n") {
			t.Errorf("rejections %q", v.Rejections)
		}
	}
	b.publish("edge", map[string]*ir.Part{"later": lb("later", "127.7.0.4", 8080, one)})
	b.programmed("edge", "later")

	// Another address is another listener: the remedy works at once.
	b.publish("edge", map[string]*ir.Part{"bad": lb("bad", "127.7.0.5", 8080, one)})
	b.programmed("edge", "bad")
	says(t, "127.7.0.5:8080", "one")

	freebind := lb("after", "192.0.2.1", 8081, one)
	freebind.Listeners[0].Freebind = true
	b.publish("edge", map[string]*ir.Part{"after": freebind})
	b.programmed("edge", "after")
}

// corrupt makes the server send what translate would never let out.
func corrupt(b *bed, group, owner string, spoil func(p *part)) {
	g := b.group(group)
	g.compile = func(o, hash string, p ir.Part) (*part, error) {
		out, err := newPart(o, hash, p)
		if err == nil && o == owner {
			spoil(out)
		}
		return out, err
	}
}

// spoilt packs a message in place of a resource's own.
func spoilt(t *testing.T, r *resource, message proto.Message) *resource {
	t.Helper()
	if err := r.wire.GetResource().UnmarshalTo(message); err != nil {
		t.Fatal(err)
	}
	switch m := message.(type) {
	case *clusterv3.Cluster:
		m.ConnectTimeout = durationpb.New(-time.Second)
	case *endpointv3.ClusterLoadAssignment:
		m.GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress().Address = "not-an-ip"
	}
	out, err := newResource(r.kind, r.owner, r.name, r.cluster, message)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEnvoysAnonymousRefusalIsBisected(t *testing.T) {
	for _, k := range []kind{clusters, assignments} {
		t.Run(k.String(), func(t *testing.T) {
			b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
			one := echo(t, "one")
			owners := []string{"a", "b", "c", "d", "e"}
			parts := map[string]*ir.Part{}
			for i, owner := range owners {
				parts[owner] = lb(owner, fmt.Sprintf("127.7.1.%d", i+1), 8080, one)
			}
			corrupt(b, "edge", "c", func(p *part) {
				message := proto.Message(&clusterv3.Cluster{})
				if k == assignments {
					message = &endpointv3.ClusterLoadAssignment{}
				}
				p.resources[k][0] = spoilt(t, p.resources[k][0], message)
			})
			b.publish("edge", parts)
			b.Open("edge")
			startEnvoy(t, b, "edge")
			b.programmed("edge", "a", "b", "d", "e")
			v := b.verdict("edge", "c", "rejected", rejected)
			t.Log(v.Rejections)
			if len(v.Rejections) != 1 || v.Rejections[0].Resource != "c" || v.Rejections[0].Message == "" {
				t.Errorf("rejections %q", v.Rejections)
			}
			says(t, "127.7.1.5:8080", "one")
			if said := dial("127.7.1.3:8080"); said != "" {
				t.Errorf("the refused one says %q", said)
			}
		})
	}
}

func TestEnvoyKeepsServingTheLastGoodVersion(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	one, two := echo(t, "one"), echo(t, "two")
	good := map[string]*ir.Part{"a": lb("a", "127.7.2.1", 8080, one), "b": lb("b", "127.7.2.2", 8080, one)}
	b.publish("edge", good)
	b.Open("edge")
	startEnvoy(t, b, "edge")
	b.programmed("edge", "a", "b")
	corrupt(b, "edge", "a", func(p *part) {
		p.resources[assignments][0] = spoilt(t, p.resources[assignments][0], &endpointv3.ClusterLoadAssignment{})
	})
	b.publish("edge", map[string]*ir.Part{"a": lb("a", "127.7.2.1", 8080, two), "b": lb("b", "127.7.2.2", 8080, two)})
	b.verdict("edge", "a", "rejected", rejected)
	b.programmed("edge", "b")
	says(t, "127.7.2.2:8080", "two")
	if said := dial("127.7.2.1:8080"); said != "one" {
		t.Errorf("says %q", said)
	}
	corrupt(b, "edge", "", nil)
	b.publish("edge", map[string]*ir.Part{"a": lb("a", "127.7.2.1", 8080, one, two)})
	b.programmed("edge", "a")
}

func TestRestartedServerLeavesEnvoyAlone(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	one := echo(t, "one")
	parts := map[string]*ir.Part{"a": lb("a", "127.7.3.1", 8080, one), "b": lb("b", "127.7.3.2", 8080, one)}
	b.publish("edge", parts)
	b.Open("edge")
	admin := startEnvoy(t, b, "edge")
	b.programmed("edge", "a", "b")
	updates := func() (n int) {
		for _, name := range []string{"cluster_manager.cds.update_success", "listener_manager.lds.update_success", "cluster.a.update_success"} {
			n += stat(t, admin, name)
		}
		return n
	}
	before := updates()
	b.stop()

	// The new one is silent until its first build; nothing is lost meanwhile.
	again := startAt(t, b.ca, b.address, nil)
	eventually(t, "Envoy is back", func() bool { return again.Proxies("edge") == 1 })
	says(t, "127.7.3.1:8080", "one")
	again.publish("edge", parts)
	again.Open("edge")
	again.programmed("edge", "a", "b")
	if now := updates(); now != before {
		t.Errorf("%d updates after the restart", now-before)
	}
	// What went while the server was away goes now.
	again.publish("edge", map[string]*ir.Part{"a": nil})
	again.verdict("edge", "a", "removed", removed)
	says(t, "127.7.3.2:8080", "one")
}

func TestEnvoyTakesAChangedClusterAtOnce(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	one := echo(t, "one")
	part := lb("web", "127.7.4.1", 8080, one)
	b.publish("edge", map[string]*ir.Part{"web": part})
	b.Open("edge")
	admin := startEnvoy(t, b, "edge")
	b.programmed("edge", "web")
	changed := part.Sort()
	changed.Clusters[0].Policy = ir.SourceIP
	b.publish("edge", map[string]*ir.Part{"web": &changed})
	b.programmed("edge", "web")
	eventually(t, "nothing waits for endpoints", func() bool { return stat(t, admin, "cluster_manager.warming_clusters") == 0 })
	says(t, "127.7.4.1:8080", "one")
	if n := stat(t, admin, "cluster.web.init_fetch_timeout"); n != 0 {
		t.Errorf("the cluster waited for its endpoints in vain %d times", n)
	}
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

func TestDeadEndpointsHoldUpNobodyElse(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	one := echo(t, "one")
	b.publish("edge", map[string]*ir.Part{"first": lb("first", "127.7.7.1", 8080, one)})
	b.Open("edge")
	admin := startEnvoy(t, b, "edge")
	b.programmed("edge", "first")

	dead := lb("dead", "127.7.7.2", 8080, deadEnd(t))
	dead.Clusters[0].HealthCheck = &ir.HealthCheck{
		Interval: time.Minute, Timeout: time.Minute, UnhealthyThreshold: 3, HealthyThreshold: 2,
	}
	b.publish("edge", map[string]*ir.Part{"dead": dead})
	eventually(t, "Envoy waits", func() bool { return stat(t, admin, "cluster_manager.warming_clusters") == 1 })
	for i, owner := range []string{"second", "third", "fourth"} {
		address := fmt.Sprintf("127.7.7.%d", 10+i)
		b.publish("edge", map[string]*ir.Part{owner: lb(owner, address, 8080, one)})
		b.programmed("edge", owner)
		says(t, address+":8080", "one")
	}
	b.publish("edge", map[string]*ir.Part{"third": nil})
	b.verdict("edge", "third", "removed", removed)
	if stat(t, admin, "cluster_manager.warming_clusters") != 1 {
		t.Error("the test proves nothing: Envoy no longer waits")
	}
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
	defer c.Close()
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

func TestEnvoyRefusesClientsOutsideTheSourceRanges(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	tcp, udp := lb("tcp", "127.7.5.1", 8080, echo(t, "one")), lb("udp", "127.7.5.1", 8080, echoUDP(t, "one"))
	ranges := []netip.Prefix{netip.MustParsePrefix("127.0.8.0/24"), netip.MustParsePrefix("127.0.9.1/32")}
	udp.Listeners[0].Protocol = ir.UDP
	tcp.Listeners[0].SourceRanges, udp.Listeners[0].SourceRanges = ranges, ranges
	free := lb("free", "127.7.5.1", 8081, echoUDP(t, "two"))
	free.Listeners[0].Protocol = ir.UDP
	free.Clusters[0].Policy = ir.SourceIP
	b.publish("edge", map[string]*ir.Part{"tcp": tcp, "udp": udp, "free": free})
	b.Open("edge")
	startEnvoy(t, b, "edge")
	b.programmed("edge", "tcp", "udp", "free")
	for _, network := range []string{"tcp", "udp"} {
		for source, want := range map[string]string{"127.0.8.5": "one", "127.0.9.1": "one", "127.0.9.2": "", "127.0.0.1": ""} {
			if want != "" {
				eventually(t, network+" from "+source, func() bool { return from(source, network, "127.7.5.1:8080") == want })
			} else if said := from(source, network, "127.7.5.1:8080"); said != "" {
				t.Errorf("%s from %s: %q", network, source, said)
			}
		}
	}
	eventually(t, "UDP from anywhere", func() bool { return from("127.0.0.1", "udp", "127.7.5.1:8081") == "two" })
}

// Everything that translate can make, Envoy takes.
func TestEnvoyTakesEveryShape(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	probe := ir.HealthCheck{Interval: 5 * time.Second, Timeout: 5 * time.Second, UnhealthyThreshold: 3, HealthyThreshold: 2}
	http := probe
	http.Path, http.Port = "/healthz", 10256
	parts := map[string]*ir.Part{}
	port := uint16(9000)
	for _, protocol := range []ir.Protocol{ir.TCP, ir.UDP} {
		for _, policy := range []ir.Policy{ir.RoundRobin, ir.LeastRequest, ir.Random, ir.SourceIP} {
			for _, check := range []*ir.HealthCheck{nil, &probe, &http} {
				for _, host := range []string{"127.0.0.1", "localhost", ""} {
					port++
					name := fmt.Sprintf("lb-%d", port)
					part := lb(name, "127.7.6.1", port)
					part.Listeners[0].Protocol = protocol
					part.Clusters[0].Policy, part.Clusters[0].HealthCheck = policy, check
					part.Clusters[0].ProxyProtocol = port%2 == 0
					if host != "" {
						part.Clusters[0].Endpoints = []ir.Endpoint{{Address: host, Port: 9}}
					}
					parts[name] = part
				}
			}
		}
	}
	b.publish("edge", parts)
	b.Open("edge")
	startEnvoy(t, b, "edge")
	for owner := range parts {
		v := b.verdict("edge", owner, "decided", func(v ir.Verdict) bool { return programmed(v) || rejected(v) })
		if rejected(v) {
			t.Errorf("%+v: %q", parts[owner], v.Rejections)
		}
	}
}
