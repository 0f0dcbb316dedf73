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

package ir

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// full is a part that uses every field.
func full() Part {
	return Part{
		Listeners: []Listener{
			{
				Address: netip.MustParseAddr("203.0.113.10"), Port: 443, Protocol: TCP, Cluster: "web",
				SourceRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("2001:db8::/32")},
				Freebind:     true, IdleTimeout: time.Minute,
			},
			{Address: netip.MustParseAddr("203.0.113.10"), Port: 443, Protocol: UDP, Cluster: "quic"},
		},
		Clusters: []Cluster{
			{
				Name: "web", Policy: SourceIP, ProxyProtocol: true, Interchangeable: true,
				Endpoints:   []Endpoint{{"192.0.2.1", 30080}, {"192.0.2.2", 30080}, {"192.0.2.1", 30081}},
				HealthCheck: &HealthCheck{Path: "/healthz", Port: 32000, Interval: 5, Timeout: 5, UnhealthyThreshold: 3, HealthyThreshold: 2},
			},
			{Name: "quic", Endpoints: []Endpoint{{"node.example.com", 30443}}},
		},
	}
}

func shuffled(p Part, random *rand.Rand) Part {
	swap := func(v any) { random.Shuffle(reflect.ValueOf(v).Len(), reflect.Swapper(v)) }
	swap(p.Listeners)
	swap(p.Clusters)
	for _, l := range p.Listeners {
		swap(l.SourceRanges)
	}
	for _, c := range p.Clusters {
		swap(c.Endpoints)
	}
	return p
}

func TestOrderAndDuplicatesDoNotCount(t *testing.T) {
	want, sorted := full().Hash(), full().Sort()
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		p := shuffled(full(), random)
		before := shuffled(full(), rand.New(rand.NewPCG(seed, 0)))
		p.Clusters[0].Endpoints = append(p.Clusters[0].Endpoints, p.Clusters[0].Endpoints[0])
		before.Clusters[0].Endpoints = append(before.Clusters[0].Endpoints, before.Clusters[0].Endpoints[0])
		if got := p.Hash(); got != want {
			t.Fatalf("seed %d: hash %s, want %s", seed, got, want)
		}
		if got := p.Sort(); !reflect.DeepEqual(got, sorted) {
			t.Fatalf("seed %d: sorted %+v", seed, got)
		}
		if !reflect.DeepEqual(p, before) {
			t.Fatalf("seed %d: the input was changed", seed)
		}
	}
}

// Every field of every struct is in the hash, also one that comes later.
func TestEveryFieldCounts(t *testing.T) {
	p := full()
	seen := map[string]string{p.Hash(): "nothing"}
	var vary func(path string, v reflect.Value)
	vary = func(path string, v reflect.Value) {
		if v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[Part]().PkgPath() {
			for i := range v.NumField() {
				vary(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		}
		if v.Kind() == reflect.Pointer {
			vary(path, v.Elem())
			return
		}
		if v.Kind() == reflect.Slice && v.Type().Elem().PkgPath() == reflect.TypeFor[Part]().PkgPath() {
			vary(path+"[0]", v.Index(0))
			return
		}
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.SetZero()
		if reflect.DeepEqual(old.Interface(), v.Interface()) {
			t.Fatalf("%s is zero in the full part: the test proves nothing", path)
		}
		hash := p.Hash()
		if other, ok := seen[hash]; ok {
			t.Errorf("without %s the hash is that without %s", path, other)
		}
		seen[hash] = path
		v.Set(old)
	}
	vary("Part", reflect.ValueOf(&p).Elem())
	if len(seen) < 18 {
		t.Errorf("only %d fields were varied", len(seen)-1)
	}
}

func TestValidate(t *testing.T) {
	if err := full().Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (Part{}).Validate(); err != nil {
		t.Fatalf("an empty part serves nothing, which is fine: %v", err)
	}
	for want, spoil := range map[string]func(*Part){
		`listener 203.0.113.10:443/TCP is listed twice`:       func(p *Part) { p.Listeners[1].Protocol = TCP },
		`cluster "web" is listed twice`:                       func(p *Part) { p.Clusters[1].Name = "web" },
		`its cluster "gone" is not in the part`:               func(p *Part) { p.Listeners[0].Cluster = "gone" },
		`no address`:                                          func(p *Part) { p.Listeners[0].Address = netip.Addr{} },
		`an address with a zone`:                              func(p *Part) { p.Listeners[0].Address = netip.MustParseAddr("fe80::1%eth0") },
		`port 0`:                                              func(p *Part) { p.Listeners[0].Port = 0 },
		`protocol "SCTP" is neither TCP nor UDP`:              func(p *Part) { p.Listeners[0].Protocol = "SCTP" },
		`a negative idle timeout`:                             func(p *Part) { p.Listeners[0].IdleTimeout = -1 },
		`a source range is not a network`:                     func(p *Part) { p.Listeners[0].SourceRanges[0] = netip.Prefix{} },
		`a cluster has no name`:                               func(p *Part) { p.Clusters[0].Name = "" },
		`unknown policy "Best"`:                               func(p *Part) { p.Clusters[0].Policy = "Best" },
		`endpoint "" port 30080 is not an address`:            func(p *Part) { p.Clusters[0].Endpoints[0].Address = "" },
		`endpoint "192.0.2.1" port 0 is not an address`:       func(p *Part) { p.Clusters[0].Endpoints[0].Port = 0 },
		`endpoint "fe80::1%eth0" port 30080 is not an`:        func(p *Part) { p.Clusters[0].Endpoints[0].Address = "fe80::1%eth0" },
		`needs an interval, a timeout and thresholds above 0`: func(p *Part) { p.Clusters[0].HealthCheck.Timeout = 0 },
	} {
		p := full()
		spoil(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestEveryMistakeIsReported(t *testing.T) {
	p := full()
	p.Listeners[0].Port, p.Listeners[1].Protocol, p.Clusters[1].Policy = 0, "SCTP", "Best"
	if lines := strings.Split(p.Validate().Error(), "\n"); len(lines) != 3 {
		t.Errorf("%q", lines)
	}
}

func TestOneNameMakesAClusterByDNS(t *testing.T) {
	c := Cluster{Endpoints: []Endpoint{{"192.0.2.1", 1}, {"2001:db8::1", 1}}}
	if c.ByDNS() {
		t.Error("addresses need no DNS")
	}
	c.Endpoints = slices.Insert(c.Endpoints, 1, Endpoint{"node.example.com", 1})
	if !c.ByDNS() {
		t.Error("a name needs DNS")
	}
}

func TestListenerName(t *testing.T) {
	for want, l := range map[string]Listener{
		"203.0.113.10:443/TCP": {Address: netip.MustParseAddr("203.0.113.10"), Port: 443, Protocol: TCP},
		"[2001:db8::1]:53/UDP": {Address: netip.MustParseAddr("2001:db8::1"), Port: 53, Protocol: UDP},
	} {
		if got := l.Name(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
