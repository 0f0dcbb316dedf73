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
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/xds/ir"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

func TestBadListenerHurtsItsOwnerOnly(t *testing.T) {
	b := start(t)
	parts := many(6)
	b.publish("edge", parts)
	b.Open("edge")
	bad := parts["lb-00003"].Listeners[0].Name()
	p := b.connect("edge", refuseNamed(map[string]string{bad: "cannot bind: Cannot assign requested address"}), nil)
	v := b.verdict("edge", "lb-00003", "rejected", rejected)
	want := []ir.Rejection{{Resource: bad, Message: "cannot bind: Cannot assign requested address"}}
	if v.Programmed || !reflect.DeepEqual(v.Rejections, want) {
		t.Errorf("verdict %+v", v)
	}
	for owner := range parts {
		if owner != "lb-00003" {
			b.programmed("edge", owner)
		}
	}
	p.heard()
	b.publish("edge", map[string]*ir.Part{"more": lb("more", "127.8.0.1", 80, "127.0.0.1:1")})
	b.programmed("edge", "more")
	if all := strings.Join(p.heard(), "\n"); strings.Contains(all, bad) {
		t.Errorf("the refused listener was sent with another change:\n%s", all)
	}
}

func TestRefusedListenerIsTriedAgainLater(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", refuseNamed(map[string]string{"127.0.0.1:80/TCP": "no"}), nil)
	b.verdict("edge", "web", "rejected", rejected)
	nacks := func() (n int) {
		for _, line := range p.heard() {
			if strings.HasPrefix(line, "nack") {
				n++
			}
		}
		return n
	}
	eventually(t, "the first refusal", func() bool { return nacks() == 1 })
	for i, wait := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
		eventually(t, "the server took the refusal", func() bool { return attempts(b, "edge", "127.0.0.1:80/TCP") == i+1 })
		b.clock.advance(wait*time.Second - time.Millisecond)
		// What is published now is answered after anything the clock set off.
		name := fmt.Sprintf("after-%d-%d", wait, rand.Int())
		b.publish("edge", map[string]*ir.Part{name: lb(name, "127.0.0.9", 80, "127.0.0.2:1")})
		b.programmed("edge", name)
		b.publish("edge", map[string]*ir.Part{name: nil})
		b.verdict("edge", name, "removed", removed)
		if n := nacks(); n != 0 {
			t.Fatalf("tried again before %d s", wait)
		}
		b.clock.advance(time.Millisecond)
		eventually(t, fmt.Sprintf("a try after %d s", wait), func() bool { return nacks() == 1 })
		if v, _ := b.Verdict("edge", "web"); !rejected(v) {
			t.Errorf("verdict %+v", v)
		}
	}
	p.think(nil)
	b.verdict("edge", "web", "programmed", func(v ir.Verdict) bool {
		b.clock.advance(lastRetry)
		return v.Programmed && len(v.Rejections) == 0
	})
}

// attempts is how often the one proxy of a group refused a listener.
func attempts(b *bed, group, listener string) int {
	g := b.group(group)
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		if r := s.lanes[listeners].refused[listener]; r != nil && !r.retrying {
			return r.attempts
		}
	}
	return 0
}

func TestRefusedListenerIsTriedAtOnceWhenItChanges(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", refuseNamed(map[string]string{"127.0.0.1:80/TCP": "no"}), nil)
	b.verdict("edge", "web", "rejected", rejected)
	p.think(nil)
	changed := lb("web", "127.0.0.1", 80, "127.0.0.2:1")
	changed.Listeners[0].IdleTimeout = time.Second
	b.publish("edge", map[string]*ir.Part{"web": changed})
	b.programmed("edge", "web")
}

func TestOneProxysRefusalLeavesTheOthersAlone(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	fine := b.connect("edge", nil, nil)
	b.programmed("edge", "web")
	sick := b.connect("edge", refuseNamed(map[string]string{"127.0.0.1:80/TCP": "no"}), nil)
	b.verdict("edge", "web", "rejected", func(v ir.Verdict) bool { return rejected(v) && !v.Programmed && v.Proxies == 2 })
	if fine.version(listeners, "127.0.0.1:80/TCP") == "" {
		t.Error("the proxy that took it lost it")
	}
	sick.cancel()
	b.programmed("edge", "web")
}

func TestSilentProxysRefusalDoesNotCount(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"web": lb("web", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	b.connect("edge", nil, nil)
	sick := b.connect("edge", refuseNamed(map[string]string{"127.0.0.1:80/TCP": "no"}), nil)
	b.verdict("edge", "web", "rejected", rejected)
	sick.mu.Lock()
	sick.mute = true
	sick.mu.Unlock()
	b.publish("edge", map[string]*ir.Part{"other": lb("other", "127.0.0.1", 81, "127.0.0.2:1")})
	b.programmed("edge", "other")
	b.verdict("edge", "web", "still rejected", rejected)
	b.verdict("edge", "web", "programmed", func(v ir.Verdict) bool {
		b.clock.advance(silence)
		return v.Programmed
	})
}

func TestAnonymousRefusalIsBisected(t *testing.T) {
	for _, k := range []kind{clusters, assignments} {
		t.Run(k.String(), func(t *testing.T) {
			b := start(t)
			parts := many(33)
			b.publish("edge", parts)
			bad := []string{"lb-00007", "lb-00030"}
			b.Open("edge")
			p := b.connect("edge", refuseAnonymously(k, func(r *discoveryv3.Resource) bool {
				return slices.Contains(bad, r.GetName())
			}), nil)
			for owner := range parts {
				if slices.Contains(bad, owner) {
					v := b.verdict("edge", owner, "rejected", rejected)
					if want := []ir.Rejection{{Resource: owner, Message: "malformed IP address: not-an-ip"}}; !reflect.DeepEqual(v.Rejections, want) {
						t.Errorf("verdict %+v", v)
					}
					continue
				}
				b.programmed("edge", owner)
			}
			if n := p.count(listeners); n != 31 {
				t.Errorf("%d listeners, want 31: none whose cluster is refused", n)
			}
			nacks := 0
			for _, line := range p.heard() {
				if strings.HasPrefix(line, "nack") {
					nacks++
				}
			}
			if nacks > 2*6 { // the depth of the tree, for each culprit
				t.Errorf("%d refusals to find two among 33", nacks)
			}
		})
	}
}

func TestRefusedVersionIsServedInItsLastGoodOne(t *testing.T) {
	for _, k := range []kind{clusters, assignments} {
		t.Run(k.String(), func(t *testing.T) {
			b := start(t)
			good := lb("web", "127.0.0.1", 80, "127.0.0.2:1")
			b.publish("edge", map[string]*ir.Part{"web": good})
			b.Open("edge")
			first := b.connect("edge", nil, nil)
			b.programmed("edge", "web")
			had := first.version(k, "web")

			bad := lb("web", "127.0.0.1", 80, "127.0.0.66:1")
			bad.Clusters[0].Policy = ir.Random
			j := refuseAnonymously(k, func(r *discoveryv3.Resource) bool { return r.GetName() == "web" && r.GetVersion() != had })
			first.think(j)
			b.publish("edge", map[string]*ir.Part{"web": bad})
			b.verdict("edge", "web", "rejected", rejected)
			if now := first.version(k, "web"); now != had {
				t.Errorf("has %q, had %q", now, had)
			}
			// A proxy that comes now gets the last good version too, and its listener.
			second := b.connect("edge", j, nil)
			eventually(t, "the listener", func() bool { return second.count(listeners) == 1 })
			if now := second.version(k, "web"); now != had {
				t.Errorf("the second has %q, the first %q", now, had)
			}
			if v, _ := b.Verdict("edge", "web"); v.Programmed || len(v.Rejections) != 1 {
				t.Errorf("verdict %+v", v)
			}
			// Back to what was good: accepted without anything being sent.
			b.publish("edge", map[string]*ir.Part{"web": good})
			b.programmed("edge", "web")
		})
	}
}

func TestNothingOfAnotherOwnerIsAFallback(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"old": lb("old", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", nil, nil)
	b.programmed("edge", "old")
	p.think(refuseNamed(map[string]string{"127.0.0.1:80/TCP": "no"}))
	b.publish("edge", map[string]*ir.Part{"old": nil, "new": lb("new", "127.0.0.1", 80, "127.0.0.3:1")})
	b.verdict("edge", "new", "rejected", rejected)
	b.verdict("edge", "old", "removed", removed)
	if p.count(listeners) != 0 {
		t.Error("the old owner's listener is still there")
	}
}

func TestListenerOfAGoneOwnerGoesWhenItsHeirIsRefused(t *testing.T) {
	b := start(t)
	b.publish("edge", map[string]*ir.Part{"old": lb("old", "127.0.0.1", 80, "127.0.0.2:1")})
	b.Open("edge")
	p := b.connect("edge", refuseAnonymously(clusters, func(r *discoveryv3.Resource) bool { return r.GetName() == "new" }), nil)
	b.programmed("edge", "old")
	b.publish("edge", map[string]*ir.Part{"old": nil, "new": lb("new", "127.0.0.1", 80, "127.0.0.3:1")})
	b.verdict("edge", "new", "rejected", rejected)
	b.verdict("edge", "old", "removed", removed)
	if p.count(listeners) != 0 || p.count(clusters) != 0 {
		t.Error("something of the old owner is still there")
	}
}

func TestCutMessageCondemnsOnlyWhatItNames(t *testing.T) {
	b := start(t)
	parts := many(9)
	b.publish("edge", parts)
	b.Open("edge")
	bad := map[string]string{}
	for _, owner := range []string{"lb-00001", "lb-00004", "lb-00008"} {
		bad[parts[owner].Listeners[0].Name()] = "no"
	}
	refuse := refuseNamed(bad)
	b.connect("edge", func(k kind, response *discoveryv3.DeltaDiscoveryResponse) string {
		message := refuse(k, response)
		if lines := strings.Split(message, "\n"); len(lines) > 1 {
			return lines[0] + "\n" + lines[1][:7] + cut
		}
		return message
	}, nil)
	for owner, part := range parts {
		if bad[part.Listeners[0].Name()] != "" {
			b.verdict("edge", owner, "rejected", rejected)
		} else {
			b.programmed("edge", owner)
		}
	}
}

func TestBlame(t *testing.T) {
	items := []*resource{{name: "192.0.2.1:80/TCP"}, {name: "[2001:db8::1]:80/TCP"}, {name: "web"}}
	for name, c := range map[string]struct {
		message  string
		named    map[string]string
		complete bool
	}{
		"one": {
			"Error adding/updating listener(s) 192.0.2.1:80/TCP: cannot bind '192.0.2.1:80': Cannot assign requested address\n",
			map[string]string{"192.0.2.1:80/TCP": "cannot bind '192.0.2.1:80': Cannot assign requested address"}, true,
		},
		"several, one in two lines": {
			"Error adding/updating listener(s) 192.0.2.1:80/TCP: a\nb\n[2001:db8::1]:80/TCP: c",
			map[string]string{"192.0.2.1:80/TCP": "a\nb", "[2001:db8::1]:80/TCP": "c"}, true,
		},
		"clusters":  {"Error adding/updating cluster(s) web: no", map[string]string{"web": "no"}, true},
		"cut":       {"Error adding/updating cluster(s) web: no\n192.0." + cut, map[string]string{"web": "no\n192.0."}, false},
		"anonymous": {"Invalid duration: web: no", nil, false},
		"unknown":   {"Error adding/updating cluster(s) other: no", map[string]string{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			named, complete := blame(c.message, items)
			if !reflect.DeepEqual(named, c.named) || complete != c.complete {
				t.Errorf("%q %v", named, complete)
			}
		})
	}
}

// fickle refuses a response now and then, with names or without.
func fickle(seed uint64) judge {
	random := rand.New(rand.NewPCG(seed, 2))
	return func(k kind, response *discoveryv3.DeltaDiscoveryResponse) string {
		if len(response.GetResources()) == 0 || random.IntN(4) > 0 {
			return ""
		}
		if random.IntN(2) == 0 {
			return "no, and I do not say to what"
		}
		return "Error adding/updating " + k.String() + "(s) " + response.GetResources()[0].GetName() + ": no"
	}
}

// Whatever owners, proxies and opinions do, order holds (the proxies check it)
// and in the end every proxy has exactly what it does not refuse.
func TestHistoriesConverge(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			b := start(t)
			b.Open("edge")
			proxies := []*proxy{b.connect("edge", fickle(seed), nil), b.connect("edge", nil, nil)}
			parts := map[string]*ir.Part{}
			for range 60 {
				change := map[string]*ir.Part{}
				for range 1 + random.IntN(4) {
					n := random.IntN(8)
					owner := fmt.Sprintf("owner-%d", n)
					change[owner] = nil
					if random.IntN(4) > 0 {
						name := fmt.Sprintf("%s-%d", owner, random.IntN(2))
						change[owner] = lb(name, fmt.Sprintf("127.0.0.%d", random.IntN(10)), 80, fmt.Sprintf("127.0.1.%d:1", 1+random.IntN(9)))
					}
				}
				errs := b.Publish("edge", change)
				for owner, part := range change {
					if errs[owner] == nil {
						parts[owner] = part
					}
				}
				if i := random.IntN(12); i < 2 {
					proxies[i].cancel()
					proxies[i] = b.connect("edge", fickle(seed), proxies[i])
				}
			}
			for _, p := range proxies {
				p.think(nil)
			}
			live := 0
			for owner, part := range parts {
				wished := removed
				if part != nil {
					live++
					wished = programmed
				}
				b.verdict("edge", owner, "as it should be", func(v ir.Verdict) bool {
					b.clock.advance(lastRetry) // what was refused is tried again
					return wished(v)
				})
			}
			for i, p := range proxies {
				eventually(t, fmt.Sprintf("proxy %d has all", i), func() bool {
					b.clock.advance(lastRetry)
					return p.count(listeners) == live && p.count(clusters) == live
				})
			}
		})
	}
}
