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
	"context"
	"crypto/tls"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kubelb/gitops/xds/ir"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

func programmed(v ir.Verdict) bool { return v.Programmed }
func removed(v ir.Verdict) bool    { return v.Removed }
func rejected(v ir.Verdict) bool   { return len(v.Rejections) > 0 }

func TestListenersComeLastAndGoFirst(t *testing.T) {
	b := start(t)
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	eventually(t, "greeted", func() bool { return len(p.heard()) > 0 })
	part := lb("web", "127.0.0.1", 80, "127.0.0.2:1")
	b.publish("edge", map[string]*ir.Part{"web": part})
	v := b.verdict("edge", "web", "programmed", programmed)
	if v.Hash != part.Hash() || v.Proxies != 1 || v.Removed {
		t.Errorf("verdict %+v", v)
	}
	b.publish("edge", map[string]*ir.Part{"web": nil})
	b.verdict("edge", "web", "removed", removed)
	heard := slices.DeleteFunc(p.heard(), func(line string) bool { return !strings.ContainsAny(line, "+-") })
	want := []string{
		"ack cluster +web", "ack assignment +web", "ack listener +127.0.0.1:80/TCP",
		"ack listener -127.0.0.1:80/TCP", "ack cluster -web",
	}
	if !reflect.DeepEqual(heard, want) {
		t.Errorf("heard %q\nwant  %q", heard, want)
	}
}

func TestChangeOfEndpointsIsAnAssignmentOnly(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	b.programmed("edge", "web")
	p.heard()
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.3:1")})
	b.programmed("edge", "web")
	if heard := p.heard(); !reflect.DeepEqual(heard, []string{"ack assignment +web"}) {
		t.Errorf("heard %q", heard)
	}
}

func TestChangedClusterGetsItsEndpointsAgain(t *testing.T) {
	b := start(t)
	part := lb("web", "127.0.0.1", 80, "127.0.0.2:1")
	b.publish("edge", map[string]*ir.Part{"web": part})
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	b.programmed("edge", "web")
	p.heard()
	changed := part.Sort()
	changed.Clusters[0].Policy = ir.Random
	b.publish("edge", map[string]*ir.Part{"web": &changed})
	want := []string{"ack cluster +web", "ack assignment +web"}
	var heard []string
	eventually(t, "cluster and assignment", func() bool {
		heard = append(heard, p.heard()...)
		return reflect.DeepEqual(heard, want)
	})
}

func TestReplacedListenerGoesTogetherWithItsSuccessor(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web-http", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	b.programmed("edge", "web")
	p.heard()
	b.publish("edge", map[string]*ir.Part{"web": lb("web-https", "127.0.0.1", 443, "127.0.0.2:1")})
	b.programmed("edge", "web")
	eventually(t, "the old cluster goes", func() bool { return p.count(clusters) == 1 })
	want := []string{
		"ack cluster +web-https", "ack assignment +web-https",
		"ack listener +127.0.0.1:443/TCP -127.0.0.1:80/TCP", "ack cluster -web-http",
	}
	if heard := p.heard(); !reflect.DeepEqual(heard, want) {
		t.Errorf("heard %q\nwant  %q", heard, want)
	}
}

func TestListenerPassesToAnotherOwner(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"old": lb("old", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	b.programmed("edge", "old")
	p.heard()
	b.publish("edge", map[string]*ir.Part{"old": nil, "new": lb("new", "127.0.0.1", 80, "127.0.0.3:1")})
	b.programmed("edge", "new")
	b.verdict("edge", "old", "removed", removed)
	for _, line := range p.heard() {
		if strings.Contains(line, "-127.0.0.1:80/TCP") {
			t.Errorf("the listener was away for a moment: %s", line)
		}
	}
}

func TestNamesCannotBeStolen(t *testing.T) {
	b := start(t)
	mine, theirs := lb("mine", "127.0.0.1", 80, "127.0.0.2:1"), lb("theirs", "127.0.0.1", 80, "127.0.0.3:1")
	b.publish("edge", map[string]*ir.Part{"mine": mine})
	errs := b.Publish("edge", map[string]*ir.Part{"a-thief": theirs, "honest": lb("honest", "127.0.0.1", 81)})
	if len(errs) != 1 || errs["a-thief"] == nil || !strings.Contains(errs["a-thief"].Error(), "mine") {
		t.Errorf("errors %v", errs)
	}
	// Two owners change places at once.
	b.publish("edge", map[string]*ir.Part{"honest": lb("honest", "127.0.0.1", 80), "mine": lb("mine", "127.0.0.1", 81)})
	// The one who may not move keeps its place, so nobody takes it.
	errs = b.Publish("edge", map[string]*ir.Part{
		"honest": lb("honest", "127.0.0.1", 81), "mine": lb("mine", "127.0.0.1", 82), "blocker": lb("blocker", "127.0.0.1", 82),
	})
	if len(errs) != 2 || errs["mine"] == nil || errs["honest"] == nil {
		t.Errorf("errors %v", errs)
	}
}

func TestPartThatDoesNotTranslateKeepsItsLastVersion(t *testing.T) {
	b := start(t)
	good := lb("web", "127.0.0.1", 80, "127.0.0.2:1")
	b.publish("edge", map[string]*ir.Part{"web": good})
	b.Open("edge")
	b.connect("edge", nil, nil)
	b.programmed("edge", "web")
	errs := b.Publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 0), "other": lb("other", "127.0.0.1", 81)})
	if len(errs) != 1 || errs["web"] == nil {
		t.Fatalf("errors %v", errs)
	}
	b.programmed("edge", "other")
	if v, _ := b.Verdict("edge", "web"); !v.Programmed || v.Hash != good.Hash() {
		t.Errorf("verdict %+v", v)
	}
}

func TestGroupsSeeOnlyTheirOwn(t *testing.T) {
	b := start(t)
	b.publish("acme", map[string]*ir.Part{"web": lb("acme-web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.publish("umbrella", map[string]*ir.Part{"web": lb("umbrella-web", "127.0.0.1", 80, "127.0.0.3:1")})
	b.Open("acme")
	b.Open("umbrella")
	acme, umbrella := b.connect("acme", nil, nil), b.connect("umbrella", nil, nil)
	b.programmed("acme", "web")
	b.programmed("umbrella", "web")
	if acme.version(clusters, "acme-web") == "" || acme.count(clusters) != 1 || umbrella.version(clusters, "acme-web") != "" {
		t.Error("a proxy has what is not its group's")
	}
}

func TestOnlyGroupCertificatesAreServed(t *testing.T) {
	b := start(t)
	b.Open("edge")
	foreign := newAuthority(t)
	other := &url.URL{Scheme: "kubelb", Host: "tenant", Path: "/edge"}
	for name, certificates := range map[string][]tls.Certificate{
		"no certificate":           nil,
		"somebody else's":          {foreign.certificate(groupURI("edge"))},
		"no URI":                   {b.ca.certificate()},
		"URI of another kind":      {b.ca.certificate(other)},
		"URI without a group":      {b.ca.certificate(groupURI(""))},
		"two groups":               {b.ca.certificate(groupURI("edge"), groupURI("acme"))},
		"URI with more than group": {b.ca.certificate(&url.URL{Scheme: "kubelb", Host: "proxy-group", Path: "/edge", RawQuery: "x"})},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := b.client(certificates...).DeltaAggregatedResources(context.Background())
			if err == nil {
				_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[clusters]})
				_, err = stream.Recv()
			}
			if code := status.Code(err); code != codes.PermissionDenied && code != codes.Unavailable {
				t.Errorf("served: %v", err)
			}
			if b.Proxies("edge") != 0 {
				t.Error("counted as a proxy")
			}
		})
	}
}

func TestStateOfTheWorldIsRefused(t *testing.T) {
	b := start(t)
	stream, err := b.client(b.ca.certificate(groupURI("edge"))).StreamAggregatedResources(context.Background())
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "DELTA_GRPC") {
		t.Errorf("got %v", err)
	}
}

func TestProxyIsHeldUntilItsGroupIsOpen(t *testing.T) {
	b := start(t)
	first := b.connect("edge", nil, nil)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	if _, ok := b.Verdict("edge", "web"); ok {
		t.Error("a verdict before the group is open")
	}
	// A group that is open answers; by then the held one would have heard too.
	b.Open("other")
	other := b.connect("other", nil, nil)
	eventually(t, "the other group answers", func() bool { return len(other.heard()) > 0 })
	if heard := first.heard(); len(heard) > 0 {
		t.Errorf("heard %q", heard)
	}
	b.Open("edge")
	b.programmed("edge", "web")
}

func TestRestartedServerSendsNothingNew(t *testing.T) {
	b := start(t)
	parts := many(20)
	b.publish("edge", parts)
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	for owner := range parts {
		b.programmed("edge", owner)
	}
	p.cancel()
	b.stop()

	again := startAt(t, b.ca, "127.0.0.1:0", newFakeClock())
	back := again.connect("edge", nil, p)
	eventually(t, "connected", func() bool { return again.Proxies("edge") == 1 })
	again.publish("edge", parts)
	again.Open("edge")
	for owner := range parts {
		again.programmed("edge", owner)
	}
	if heard := back.heard(); len(heard) > 0 {
		t.Errorf("heard %q", heard)
	}
}

func TestRestartedServerRemovesWhatWentMeanwhile(t *testing.T) {
	b := start(t)
	keeps, goes := lb("keeps", "127.0.0.1", 80, "127.0.0.2:1"), lb("goes", "127.0.0.1", 81, "127.0.0.2:1")
	b.publish("edge", map[string]*ir.Part{"keeps": keeps, "goes": goes})
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	b.programmed("edge", "keeps", "goes")
	p.cancel()
	b.stop()

	again := startAt(t, b.ca, "127.0.0.1:0", newFakeClock())
	again.publish("edge", map[string]*ir.Part{"keeps": keeps, "goes": nil})
	again.Open("edge")
	if v, known := again.Verdict("edge", "goes"); known {
		t.Errorf("%+v, though nobody can know yet", v)
	}
	back := again.connect("edge", nil, p)
	eventually(t, "connected", func() bool { return again.Proxies("edge") == 1 })
	again.programmed("edge", "keeps")
	again.verdict("edge", "goes", "removed", removed)
	if back.count(listeners) != 1 || back.count(clusters) != 1 {
		t.Error("removed before it was gone")
	}
}

func TestRemovedWaitsForEveryProxyThatAnswers(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	one, two := b.connect("edge", nil, nil), b.connect("edge", nil, nil)
	eventually(t, "both have it", func() bool { return one.count(listeners) == 1 && two.count(listeners) == 1 })
	b.verdict("edge", "web", "programmed by two", func(v ir.Verdict) bool { return v.Programmed && v.Proxies == 2 })
	two.mu.Lock()
	two.mute = true
	two.mu.Unlock()
	b.publish("edge", map[string]*ir.Part{"web": nil})
	eventually(t, "the first lets go", func() bool { return one.count(clusters) == 0 })
	if v, _ := b.Verdict("edge", "web"); v.Removed {
		t.Error("removed although a proxy did not say so")
	}
	b.verdict("edge", "web", "removed", func(v ir.Verdict) bool {
		b.clock.advance(silence)
		return v.Removed
	})
}

func TestRemovedWithoutProxies(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80)})
	b.Open("edge")
	b.publish("edge", map[string]*ir.Part{"web": nil})
	b.verdict("edge", "web", "removed", removed)
}

func TestSubscribersHearOfEveryChange(t *testing.T) {
	b := start(t)
	var mu sync.Mutex
	latest := map[string]ir.Verdict{}
	b.Subscribe(func(group string, owners []string) {
		for _, owner := range owners {
			v, _ := b.Verdict(group, owner)
			mu.Lock()
			latest[owner] = v
			mu.Unlock()
		}
	})
	is := func(what string, wished func(ir.Verdict) bool) {
		t.Helper()
		eventually(t, what, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return wished(latest["web"])
		})
	}
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	is("programmed", programmed)
	p.cancel()
	is("no proxy", func(v ir.Verdict) bool { return v.Proxies == 0 && !v.Programmed })
	b.connect("edge", refuseNamed(map[string]string{"127.0.0.1:81/TCP": "no"}), p)
	is("programmed again", programmed)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 81, "127.0.0.2:1")})
	is("rejected", rejected)
	b.publish("edge", map[string]*ir.Part{"web": nil})
	is("removed", removed)
}

// A change is answered by looking at that change, however many parts there are.
func TestCostIsThatOfTheChange(t *testing.T) {
	looks := func(n int) int {
		b := start(t)
		b.publish("edge", many(n))
		b.Open("edge")
		p := b.connect("edge", nil, nil)
		eventually(t, "all are there", func() bool { return p.count(listeners) == n })
		b.programmed("edge", "lb-00000", "lb-00042")
		eventually(t, "every answer is in, or it would count too", func() bool { return b.answered("edge") })
		count := func() int {
			g := b.group("edge")
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.looks
		}
		before := count()
		b.publish("edge", map[string]*ir.Part{"lb-00042": lb("lb-00042", "127.9.0.43", 8080, "127.0.0.1:9001")})
		b.programmed("edge", "lb-00042")
		b.publish("edge", map[string]*ir.Part{"lb-00042": nil, "new": lb("new", "127.8.0.1", 80, "127.0.0.1:9001")})
		b.programmed("edge", "new")
		b.verdict("edge", "lb-00042", "removed", removed)
		return count() - before
	}
	few, lots := looks(100), looks(2000)
	if lots > few+5 { // how things meet in one response varies a little
		t.Errorf("%d looks among 100, %d among 2,000", few, lots)
	}
}

func TestMetricsFollowTheGroups(t *testing.T) {
	b := start(t)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(b.Server); err != nil {
		t.Fatal(err)
	}
	part := lb("web", "127.0.0.1", 80, "127.0.0.2:1")
	b.publish("edge", map[string]*ir.Part{"web": part})
	b.publish("edge", map[string]*ir.Part{"web": part})
	b.Open("edge")
	b.connect("edge", refuseNamed(map[string]string{"127.0.0.1:80/TCP": "no"}), nil)
	b.verdict("edge", "web", "rejected", rejected)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[strings.TrimPrefix(f.GetName(), metricsPrefix)] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"clusters": 1, "listeners": 1, "endpoints": 1, "snapshots": 1, "grpc_connections": 1, "connected_proxies": 1,
		"snapshot_updates_total": 1, "cache_hits_total": 1, "cache_misses_total": 1, "cache_clears_total": 0, "nacks_total": 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestServerNeedsClientCertificates(t *testing.T) {
	for name, config := range map[string]*tls.Config{
		"no TLS":           nil,
		"optional":         {ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: newAuthority(t).pool()},
		"system's signers": {ClientAuth: tls.RequireAndVerifyClientCert},
	} {
		if _, err := New(Options{TLS: config}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStoppingEndsStreams(t *testing.T) {
	b := start(t)
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	eventually(t, "connected", func() bool { return b.Proxies("edge") == 1 })
	b.stop()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("the stream goes on")
	}
}
