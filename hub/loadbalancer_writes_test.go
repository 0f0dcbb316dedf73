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

package hub_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// writes are those that a hub asks the API server for, in order: "PATCH <path>".
type writes struct {
	mu  sync.Mutex
	all []string
}

func (w *writes) count(inner http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodGet {
			w.mu.Lock()
			w.all = append(w.all, r.Method+" "+r.URL.Path)
			w.mu.Unlock()
		}
		return inner.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (w *writes) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = nil
}

// of lists the writes of a load balancer.
func (w *writes) of(lb *v1alpha1.LoadBalancer) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, write := range w.all {
		if path := fmt.Sprintf("/namespaces/%s/loadbalancers/%s", lb.Namespace, lb.Name); strings.HasSuffix(write, path) || strings.HasSuffix(write, path+"/status") {
			out = append(out, write)
		}
	}
	return out
}

// several makes load balancers that are served, and returns after the hub's last
// word about them.
func (b *bed) several(n int) (lbs []*v1alpha1.LoadBalancer) {
	b.Helper()
	for i := range n {
		lbs = append(lbs, b.service("acme", fmt.Sprintf("web%d", i)))
	}
	for _, lb := range lbs {
		b.address(lb)
	}
	return lbs
}

// wrote fails if anything was written of load balancers; that of another one,
// which is made now, has to come last.
func (b *bed) wroteNothing(lbs []*v1alpha1.LoadBalancer, other string) {
	b.Helper()
	b.address(b.service("acme", other))
	for _, lb := range lbs {
		if got := b.writes.of(lb); len(got) > 0 {
			b.Errorf("%s was written %d times: %s", lb.Name, len(got), got)
		}
		before := lb.ResourceVersion
		if waitFor(b, "it is ready", lb, func(lb *v1alpha1.LoadBalancer) bool { return condition(lb, "Ready").Status == "True" }); lb.ResourceVersion != before {
			b.Errorf("%s has changed: %+v", lb.Name, lb.Status)
		}
	}
}

func TestALoadBalancerCostsOneStatus(t *testing.T) {
	b := newBed(t)
	b.patient()
	b.ready("acme")
	b.proxies.set(func(p *proxies) { p.silent = true })
	lb := b.service("acme", "web")
	b.eventually("it is published", func() (bool, string) { got := b.proxies.serves(lb); return got != "", got })
	b.proxies.set(func(p *proxies) { p.silent = false })
	b.address(lb)
	b.address(b.service("acme", "other"))
	status := 0
	for _, write := range b.writes.of(lb) {
		if strings.HasSuffix(write, "/status") {
			status++
		}
	}
	if status != 1 {
		t.Errorf("the status was written %d times: %s", status, b.writes.of(lb))
	}
}

func TestAChangedNodeWritesNoStatus(t *testing.T) {
	b := newBed(t)
	b.patient()
	b.ready("acme")
	lbs := b.several(5)
	b.writes.reset()
	b.proxies.set(func(p *proxies) { p.silent = true })
	change(b, b.nodes("acme"), func(a *v1alpha1.Addresses) {
		a.Spec.Addresses = []v1alpha1.EndpointAddress{{IP: "198.51.100.2"}}
	})
	for _, lb := range lbs {
		b.eventually("proxies are told", func() (bool, string) {
			got := b.proxies.serves(lb)
			return strings.Contains(got, "198.51.100.2"), got
		})
	}
	b.proxies.set(func(p *proxies) { p.silent = false })
	b.wroteNothing(lbs, "other")
}

func TestARestartWritesNoStatus(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprintf("EnvoyKept=%t", kept), func(t *testing.T) {
			b := newBed(t)
			b.patient()
			b.ready("acme")
			lbs := b.several(5)
			b.stopHub()
			b.writes.reset()
			b.proxies = newProxies()
			b.proxies.silent = !kept
			b.startHub()
			b.eventually("the hub serves", func() (bool, string) { return b.proxies.isOpen(), "" })
			if !kept {
				for _, lb := range lbs {
					b.eventually("proxies are told", func() (bool, string) { got := b.proxies.serves(lb); return got != "", got })
				}
				b.proxies.set(func(p *proxies) { p.silent = false })
			}
			b.wroteNothing(lbs, "other")
		})
	}
}

func TestSilentProxiesAreToldOfAfterAWhile(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.several(1)[0]
	address := lb.Status.LoadBalancer.Ingress
	b.proxies.set(func(p *proxies) { p.silent = true })
	change(b, b.nodes("acme"), func(a *v1alpha1.Addresses) {
		a.Spec.Addresses = []v1alpha1.EndpointAddress{{IP: "198.51.100.2"}}
	})
	b.waitForReason(lb, "Ready", "False", v1alpha1.ReasonWaitingForProxy)
	if got := lb.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != address[0].IP {
		t.Errorf("published are %v", got)
	}
	b.proxies.set(func(p *proxies) { p.silent = false })
	b.address(lb)
}

func TestAnAddressThatIsNotStoredYetSurvivesAChangeOfPools(t *testing.T) {
	b := newBed(t)
	b.patient()
	b.ready("acme")
	b.proxies.set(func(p *proxies) { p.silent = true })
	first, second := b.service("acme", "first"), b.service("acme", "second")
	served := map[string]string{}
	for _, lb := range []*v1alpha1.LoadBalancer{first, second} {
		b.eventually("it is published", func() (bool, string) { got := b.proxies.serves(lb); return got != "", got })
		served[lb.Name] = b.proxies.serves(lb)
	}
	config := &v1alpha1.Config{}
	config.Namespace, config.Name = hubNamespace, "default"
	change(b, config, func(c *v1alpha1.Config) { c.Spec.AddressPools[0].CIDRs = []string{"192.0.2.1-192.0.2.9"} })
	b.proxies.set(func(p *proxies) { p.silent = false })
	b.address(b.service("acme", "other"))
	for _, lb := range []*v1alpha1.LoadBalancer{first, second} {
		b.address(lb)
		if got := b.proxies.serves(lb); got != served[lb.Name] || !strings.HasPrefix(got, lb.Status.LoadBalancer.Ingress[0].IP+":") {
			t.Errorf("%s was served as %s and is %s, its address is %v", lb.Name, served[lb.Name], got, lb.Status.LoadBalancer.Ingress)
		}
	}
}

// patient has the hub wait for proxies for as long as it takes.
func (b *bed) patient() {
	b.stopHub()
	b.patience = time.Hour
	b.startHub()
}
