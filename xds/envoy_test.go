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
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubelb/gitops/xds/ir"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

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

func TestEnvoyNamesABadCluster(t *testing.T) {
	b := startAt(t, newAuthority(t), "127.0.0.1:0", nil)
	one := echo(t, "one")
	parts := map[string]*ir.Part{}
	for i, owner := range []string{"a", "b", "c"} {
		parts[owner] = lb(owner, fmt.Sprintf("127.7.8.%d", i+1), 8080, one)
	}
	corrupt(b, "edge", "b", func(p *part) {
		var c clusterv3.Cluster
		if err := p.resources[clusters][0].wire.GetResource().UnmarshalTo(&c); err != nil {
			t.Fatal(err)
		}
		c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED // fits no EDS cluster
		bad, err := newResource(clusters, "b", "b", "", &c)
		if err != nil {
			t.Fatal(err)
		}
		p.resources[clusters][0] = bad
	})
	b.publish("edge", parts)
	b.Open("edge")
	startEnvoy(t, b, "edge")
	v := b.verdict("edge", "b", "rejected", rejected)
	if strings.HasPrefix(v.Rejections[0].Message, "Error adding") {
		t.Errorf("the message is not the cluster's own: %q", v.Rejections)
	}
	b.programmed("edge", "a", "c")
	says(t, "127.7.8.3:8080", "one")
	var refusals dto.Metric
	if err := b.metrics.nacks.WithLabelValues("edge", typeURLs[clusters]).Write(&refusals); err != nil {
		t.Fatal(err)
	}
	if n := refusals.GetCounter().GetValue(); n != 1 {
		t.Errorf("%v refusals, want 1: the first one named it", n)
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
