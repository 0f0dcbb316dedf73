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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// serving gives a load balancer these ports and its Backend the same.
func (b *bed) serving(tenant, name, address string, ports ...int32) *v1alpha1.LoadBalancer {
	b.Helper()
	lb := b.service(tenant, name, requesting(address), withPorts(ports...))
	change(b, &v1alpha1.Backend{ObjectMeta: metav1.ObjectMeta{Namespace: lb.Namespace, Name: lb.Name}}, func(backend *v1alpha1.Backend) {
		backend.Spec.Ports = nil
		for _, p := range []int32{80, 8080, 8081} {
			backend.Spec.Ports = append(backend.Spec.Ports, v1alpha1.BackendPort{Name: portName(p), Port: p, Protocol: "TCP", NodePort: 30000 + p%1000})
		}
	})
	return lb
}

func withPorts(ports ...int32) func(*v1alpha1.LoadBalancer) {
	return func(lb *v1alpha1.LoadBalancer) {
		lb.Spec.Ports = nil
		for _, p := range ports {
			lb.Spec.Ports = append(lb.Spec.Ports, v1alpha1.LoadBalancerPort{Name: portName(p), Port: p, Protocol: "TCP"})
		}
	}
}

func portName(port int32) string {
	return map[int32]string{80: "http", 8080: "alt", 8081: "other"}[port]
}

// servesPorts waits until an address and exactly these ports are published.
func (b *bed) servesPorts(lb *v1alpha1.LoadBalancer, ports string) {
	b.Helper()
	waitFor(b, lb.Name+" serves "+ports, lb, func(lb *v1alpha1.LoadBalancer) bool {
		return len(lb.Status.LoadBalancer.Ingress) == 1 && lb.Status.Ports == ports && condition(lb, "Ready").Status == "True"
	})
}

func TestWhatAnEditFreesWakesWhoWaitsForIt(t *testing.T) {
	t.Run("a port", func(t *testing.T) {
		b := newBed(t)
		b.ready("acme")
		one := b.serving("acme", "one", "192.0.2.7", 8080, 8081)
		b.servesPorts(one, "8080/TCP,8081/TCP")
		two := b.serving("acme", "two", "192.0.2.7", 8080)
		c := b.waitForReason(two, "Ready", "False", v1alpha1.ReasonPortConflict)
		if !strings.Contains(c.Message, "Service shop/one") {
			t.Errorf("the message does not say who has the port: %s", c.Message)
		}
		change(b, one, withPorts(8081))
		b.servesPorts(two, "8080/TCP")
		b.servesPorts(one, "8081/TCP")
	})
	t.Run("an address, for another tenant", func(t *testing.T) {
		b := newBed(t)
		b.ready("acme")
		b.ready("umbra")
		one := b.serving("acme", "one", "192.0.2.7", 80)
		b.servesPorts(one, "80/TCP")
		two := b.serving("umbra", "two", "192.0.2.7", 80)
		c := b.waitForReason(two, "Ready", "False", v1alpha1.ReasonAddressInUse)
		if !strings.Contains(c.Message, "another tenant") || strings.Contains(c.Message, "acme") {
			t.Errorf("the message is %s", c.Message)
		}
		change(b, one, requesting("192.0.2.8"))
		b.servesPorts(two, "80/TCP")
	})
	t.Run("room for listeners", func(t *testing.T) {
		b := newBed(t)
		b.infra.max = 2
		b.ready("acme")
		one := b.serving("acme", "one", "192.0.2.7", 8080, 8081)
		b.servesPorts(one, "8080/TCP,8081/TCP")
		two := b.service("acme", "two")
		b.waitForReason(two, "Programmed", "False", v1alpha1.ReasonTooManyListeners)
		change(b, one, withPorts(8080))
		b.servesPorts(two, "80/TCP")
	})
	t.Run("the room of one that is disabled", func(t *testing.T) {
		b := newBed(t)
		b.infra.max = 1
		b.ready("umbra")
		tenant := b.ready("acme")
		b.address(b.service("acme", "one"))
		two := b.service("umbra", "two")
		b.waitForReason(two, "Programmed", "False", v1alpha1.ReasonTooManyListeners)
		change(b, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.LoadBalancer.Disable = true })
		b.servesPorts(two, "80/TCP")
	})
}

func TestAChangedPortThatIsRefusedIsNotPublishedAsTheOldOne(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	one := b.serving("acme", "one", "192.0.2.7", 8080)
	b.servesPorts(one, "8080/TCP")
	two := b.serving("acme", "two", "192.0.2.7", 8081)
	b.servesPorts(two, "8081/TCP")
	change(b, one, withPorts(8081))
	waitFor(b, "the port is refused", one, func(lb *v1alpha1.LoadBalancer) bool {
		c := condition(lb, "Ready")
		return c.Reason == v1alpha1.ReasonPortConflict && c.ObservedGeneration == lb.Generation
	})
	if len(one.Status.LoadBalancer.Ingress) > 0 || one.Status.Ports != "" {
		t.Errorf("published are %v, ports %s; proxies serve %q", one.Status.LoadBalancer.Ingress, one.Status.Ports, b.proxies.serves(one))
	}
	b.servesPorts(b.serving("acme", "three", "192.0.2.7", 8080), "8080/TCP")
}

func TestWhatIsPutBackFindsItsAddressAndPorts(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	one := b.service("acme", "one")
	address := b.address(one)
	two := b.service("acme", "two", requesting(address))
	b.waitForReason(two, "Ready", "False", v1alpha1.ReasonPortConflict)
	b.remove(one)
	b.waitUntilGone(one)
	waitFor(b, "it hears that the port is kept", two, func(lb *v1alpha1.LoadBalancer) bool {
		return strings.Contains(condition(lb, "Ready").Message, "is kept for Service shop/one")
	})
	if got := b.address(b.service("acme", "one")); got != address {
		t.Errorf("it had %s and was put back with %s", address, got)
	}
	b.waitForReason(two, "Ready", "False", v1alpha1.ReasonPortConflict)

	// What its tenant deleted comes back to nobody: who waits has the port at once.
	change(b, one, func(lb *v1alpha1.LoadBalancer) { lb.Annotations = map[string]string{v1alpha1.AnnotationPruned: "true"} })
	b.remove(one)
	b.servesPorts(two, "80/TCP")
}

func TestReservationsFollowTheGracePeriodAndPeople(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	b.ready("umbra")
	for _, how := range []string{"released by name", "released by address", "the period is shorter"} {
		web := b.service("acme", "web", requesting("192.0.2.8"))
		b.address(web)
		b.remove(web)
		b.waitUntilGone(web)
		wants := b.service("umbra", "wants", requesting("192.0.2.8"))
		b.waitForReason(wants, "Ready", "False", v1alpha1.ReasonAddressInUse)
		state := waitFor(b, "the address is kept", b.state("acme"), func(s *v1alpha1.TenantState) bool { return len(s.Status.Reservations) == 1 })
		until := state.Status.Reservations[0].ReleaseAfter.UTC().Format("2006-01-02T15:04:05Z07:00")
		waitFor(b, "it hears until when", wants, func(lb *v1alpha1.LoadBalancer) bool {
			c := condition(lb, "Ready")
			return strings.Contains(c.Message, until) && !strings.Contains(c.Message, "shop")
		})
		release := func(what string) {
			change(b, state, func(s *v1alpha1.TenantState) {
				s.Annotations = map[string]string{v1alpha1.AnnotationReleaseAddress: what}
			})
		}
		switch how {
		case "released by name":
			release("shop.none, shop.web")
		case "released by address":
			release("192.0.2.8")
		default:
			change(b, &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}}, func(c *v1alpha1.Config) {
				c.Spec.AddressGracePeriod = &metav1.Duration{}
			})
		}
		if got := b.address(wants); got != "192.0.2.8" {
			t.Errorf("%s: the address is %s", how, got)
		}
		waitFor(b, "the annotation is removed", state, func(s *v1alpha1.TenantState) bool { return len(s.Annotations) == 0 })
		change(b, wants, requesting("192.0.2.5"))
		b.servesPorts(wants, "80/TCP")
		waitFor(b, "it has the other address", wants, func(lb *v1alpha1.LoadBalancer) bool {
			return len(lb.Status.LoadBalancer.Ingress) == 1 && lb.Status.LoadBalancer.Ingress[0].IP == "192.0.2.5"
		})
		b.remove(wants)
		b.waitUntilGone(wants)
		changeStatus(b, b.state("umbra"), func(s *v1alpha1.TenantState) {
			for i := range s.Status.Reservations {
				s.Status.Reservations[i].ReleaseAfter = metav1.Unix(1, 0)
			}
		})
	}
}

func TestEndpointsAreJudgedAnewWhenNetworksChange(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	b.ready("umbra")
	change(b, b.nodes("acme"), func(a *v1alpha1.Addresses) {
		a.Spec.Addresses = []v1alpha1.EndpointAddress{{IP: "198.51.100.1"}, {IP: "198.51.100.9"}}
	})
	lb, other := b.service("acme", "web", requesting("192.0.2.1")), b.service("umbra", "web")
	b.address(lb)
	b.address(other)
	serves := func(want string) {
		t.Helper()
		b.eventually("proxies serve "+want, func() (bool, string) { got := b.proxies.serves(lb); return got == want, got })
	}
	config := &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}}
	both, one := "192.0.2.1:80/TCP[{198.51.100.1 30080} {198.51.100.9 30080}]", "192.0.2.1:80/TCP[{198.51.100.1 30080}]"
	serves(both)
	change(b, config, func(c *v1alpha1.Config) { c.Spec.HubNetworks = []string{"198.51.100.8/29"} })
	serves(one)
	change(b, config, func(c *v1alpha1.Config) { c.Spec.HubNetworks = nil })
	serves(both)
	change(b, config, func(c *v1alpha1.Config) {
		c.Spec.AddressPools[0].CIDRs = append(c.Spec.AddressPools[0].CIDRs, "198.51.100.9-198.51.100.9")
	})
	serves(one)
	taken := b.service("umbra", "taken", requesting("198.51.100.9"))
	b.address(taken)
	change(b, config, func(c *v1alpha1.Config) {
		c.Spec.AddressPools[0].CIDRs = c.Spec.AddressPools[0].CIDRs[:1]
		c.Spec.AddressGracePeriod = &metav1.Duration{}
	})
	b.remove(taken) // until now it is somebody's, also outside of the pools
	serves(both)
}
