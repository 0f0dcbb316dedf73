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
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestAnAddressIsPublishedAfterTheProxiesAcknowledged(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	b.proxies.set(func(p *proxies) { p.silent = true })
	lb := b.service("acme", "web")

	waitFor(b, "the address is assigned", lb, func(lb *v1alpha1.LoadBalancer) bool { return len(lb.Status.Addresses) == 1 })
	if len(lb.Finalizers) == 0 {
		t.Error("an address is assigned to an object without finalizer")
	}
	b.eventually("the part is published", func() (bool, string) { s := b.proxies.serves(lb); return s != "", s })
	if want, got := "192.0.2.1:80/TCP[{198.51.100.1 30080}]", b.proxies.serves(lb); got != want {
		t.Errorf("proxies are to serve %s, want %s", got, want)
	}
	b.waitForReason(lb, "Programmed", "False", v1alpha1.ReasonWaitingForProxy)
	if len(lb.Status.LoadBalancer.Ingress) != 0 || lb.Status.Ports != "" {
		t.Errorf("%v is published before anybody acknowledged", lb.Status.LoadBalancer.Ingress)
	}
	if c := condition(lb, "Reconciling"); c.Status != "True" {
		t.Errorf("Reconciling is %+v", c)
	}

	b.proxies.set(func(p *proxies) { p.silent = false })
	if got := b.address(lb); got != "192.0.2.1" {
		t.Errorf("the address is %s", got)
	}
	for kind, want := range map[string]string{"Accepted": "True", "AddressAssigned": "True", "Programmed": "True", "Ready": "True", "Reconciling": "", "Stalled": ""} {
		if c := condition(lb, kind); string(c.Status) != want || want != "" && c.ObservedGeneration != lb.Generation {
			t.Errorf("%s is %+v", kind, c)
		}
	}
	if lb.Status.Ports != "80/TCP" || lb.Status.ObservedGeneration != lb.Generation {
		t.Errorf("status %+v", lb.Status)
	}
}

func TestAnAddressStaysWhenProxiesGo(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	address := b.address(lb)
	b.proxies.set(func(p *proxies) {
		p.silent = true
		for owner, verdict := range p.verdicts {
			verdict.Programmed, verdict.Proxies = false, 0
			p.verdicts[owner] = verdict
			p.tell[0]("global", []string{owner})
		}
	})
	b.waitForReason(lb, "Ready", "False", v1alpha1.ReasonWaitingForProxy)
	if got := lb.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != address || lb.Status.Ports != "80/TCP" {
		t.Errorf("published are %v, ports %s", got, lb.Status.Ports)
	}
}

func TestARefusalOfTheProxyIsInTheStatus(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	const message = "cannot bind '192.0.2.1:80': Cannot assign requested address"
	b.proxies.set(func(p *proxies) { p.refuse["192.0.2.1:80/TCP"] = message })
	bad := b.service("acme", "bad")
	c := b.waitForReason(bad, "Programmed", "False", v1alpha1.ReasonRejectedByProxy)
	if !strings.Contains(c.Message, message) {
		t.Errorf("the message is %q", c.Message)
	}
	if len(bad.Status.LoadBalancer.Ingress) > 0 {
		t.Error("the address is published")
	}
	if p := bad.Status.Problems; len(p) != 1 || p[0].Object != "Service shop/bad" || p[0].Remedy == "" || p[0].Path != "tenants/acme/loadbalancers/shop/bad.service.yaml" {
		t.Errorf("problems %+v", p)
	}
	b.address(b.service("acme", "good"))

	b.proxies.set(func(p *proxies) { delete(p.refuse, "192.0.2.1:80/TCP") })
	b.address(bad)
	if len(bad.Status.Problems) != 0 {
		t.Errorf("problems %+v", bad.Status.Problems)
	}
}

func TestAnAddressThatNobodyListensAtIsNotPublished(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	b.infra.mu.Lock()
	b.infra.unreachable = addrPorts("192.0.2.1:80")
	b.infra.mu.Unlock()
	lb := b.service("acme", "web")
	b.waitForReason(lb, "Ready", "False", v1alpha1.ReasonUnreachable)
	if len(lb.Status.LoadBalancer.Ingress) > 0 {
		t.Error("the address is published")
	}
	b.infra.mu.Lock()
	b.infra.unreachable = nil
	b.infra.mu.Unlock()
	b.address(lb)
}

func TestTenantsWithTheSameNamesDoNotMeet(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	b.ready("umbra")
	one, two := b.service("acme", "web"), b.service("umbra", "web")
	if first, second := b.address(one), b.address(two); first == second {
		t.Errorf("both have %s", first)
	}
	b.remove(one)
	b.waitUntilGone(one)
	b.address(two)
	if b.proxies.serves(two) == "" {
		t.Error("the other tenant's load balancer is not served any more")
	}
}

func TestFactsReachTheProxies(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	b.address(lb)
	serves := func(want string) {
		t.Helper()
		b.eventually("proxies serve "+want, func() (bool, string) { got := b.proxies.serves(lb); return got == want, got })
	}
	change(b, b.nodes("acme"), func(a *v1alpha1.Addresses) {
		a.Spec.Addresses = []v1alpha1.EndpointAddress{{IP: "198.51.100.2"}, {IP: "198.51.100.1"}}
	})
	serves("192.0.2.1:80/TCP[{198.51.100.1 30080} {198.51.100.2 30080}]")
	change(b, &v1alpha1.Backend{ObjectMeta: metav1.ObjectMeta{Namespace: lb.Namespace, Name: lb.Name}}, func(backend *v1alpha1.Backend) { backend.Spec.Ports[0].NodePort = 31000 })
	serves("192.0.2.1:80/TCP[{198.51.100.1 31000} {198.51.100.2 31000}]")
	change(b, lb, func(lb *v1alpha1.LoadBalancer) { lb.Spec.Ports[0].Port = 8080 })
	serves("192.0.2.1:8080/TCP[{198.51.100.1 31000} {198.51.100.2 31000}]")
	waitFor(b, "the new port is shown", lb, func(lb *v1alpha1.LoadBalancer) bool { return lb.Status.Ports == "8080/TCP" })
}

func TestFactsMayComeAfterTheWish(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	b.restored("acme")
	lb := b.service("acme", "web")
	b.waitForReason(lb, "Programmed", "False", v1alpha1.ReasonAddressesNotFound)
	b.create(b.nodes("acme", "198.51.100.1"))
	b.address(lb)
}

func TestADeletedLoadBalancerComesBackWithItsAddress(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	first, second := b.service("acme", "first"), b.service("acme", "second")
	b.address(first)
	address := b.address(second)

	b.proxies.set(func(p *proxies) { p.silent = true })
	b.remove(second)
	b.eventually("the part is taken from the proxies", func() (bool, string) { s := b.proxies.serves(second); return s == "", s })
	if err := b.Get(t.Context(), client.ObjectKeyFromObject(second), second); err != nil {
		t.Fatalf("it went before the proxies acknowledged: %v", err)
	}
	b.proxies.set(func(p *proxies) { p.silent = false })
	b.waitUntilGone(second)
	waitFor(b, "the address is kept", b.state("acme"), func(s *v1alpha1.TenantState) bool {
		return len(s.Status.Reservations) == 1 && s.Status.Reservations[0].Name == "shop.second" && s.Status.Reservations[0].Addresses[0] == address
	})

	if other := b.address(b.service("acme", "other")); other == address {
		t.Error("another one was given the address")
	}
	b.proxies.set(func(p *proxies) {
		if n := p.needless[second.Namespace+"/"+second.Name]; n > 3 {
			t.Errorf("the proxies were told %d times to remove what they did not have", n)
		}
	})
	if again := b.address(b.service("acme", "second")); again != address {
		t.Errorf("it had %s and came back with %s", address, again)
	}
	waitFor(b, "the reservation ends", b.state("acme"), func(s *v1alpha1.TenantState) bool { return len(s.Status.Reservations) == 0 })
}

func TestAnAddressIsFreeAfterItsGracePeriod(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web", requesting("192.0.2.8"))
	b.address(lb)
	b.remove(lb)
	b.waitUntilGone(lb)
	other := b.service("acme", "other")
	b.address(other)
	b.ready("umbra")
	wants := b.service("umbra", "wants", requesting("192.0.2.8"))
	b.waitForReason(wants, "AddressAssigned", "False", v1alpha1.ReasonAddressInUse)
	changeStatus(b, b.state("acme"), func(s *v1alpha1.TenantState) { // as if time had passed
		s.Status.Reservations = append(s.Status.Reservations, v1alpha1.Reservation{Name: "shop.none", Addresses: []string{"192.0.2.7"}})
		for i := range s.Status.Reservations {
			s.Status.Reservations[i].ReleaseAfter = metav1.Unix(1, 0)
		}
	})
	if got := b.address(wants); got != "192.0.2.8" {
		t.Errorf("the address is %s", got)
	}
}

func TestManyAreDeletedAtOnceAndAllAddressesAreKept(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	var lbs []*v1alpha1.LoadBalancer
	for i := range 6 {
		lbs = append(lbs, b.service("acme", fmt.Sprintf("web%d", i)))
	}
	for _, lb := range lbs {
		b.address(lb)
	}
	for _, lb := range lbs {
		b.remove(lb)
	}
	for _, lb := range lbs {
		b.waitUntilGone(lb)
	}
	waitFor(b, "all are kept", b.state("acme"), func(s *v1alpha1.TenantState) bool { return len(s.Status.Reservations) == len(lbs) })
}

func TestARestartedHubKeepsAddressesAndOpensWhenEverythingIsBuilt(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	one, two := b.service("acme", "one"), b.service("acme", "two")
	address1, address2 := b.address(one), b.address(two)
	b.stopHub()
	b.remove(one)
	three := b.service("acme", "three")
	b.proxies = newProxies()
	b.startHub()
	address3 := b.address(three)
	if address3 == address1 || address3 == address2 {
		t.Errorf("the new one has %s", address3)
	}
	if got := b.address(two); got != address2 {
		t.Errorf("%s became %s", address2, got)
	}
	b.waitUntilGone(one)
	if first := b.proxies.published[0]; first != "tenant-acme/shop.two" {
		t.Errorf("%s was published first", first)
	}
}

func TestAHubIsNotOpenedBeforeItsTenantsAreRestored(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	address := b.address(lb)
	b.stopHub()
	changeStatus(b, b.state("acme"), func(s *v1alpha1.TenantState) { s.Status.Conditions = nil })
	changeStatus(b, lb, func(lb *v1alpha1.LoadBalancer) { lb.Status.Addresses = nil }) // a rebuilt hub has applied the wish only
	b.proxies = newProxies()
	b.startHub()
	b.waitForReason(lb, "Accepted", "False", v1alpha1.ReasonNotRestored)
	if b.proxies.isOpen() {
		t.Error("the proxies are served")
	}
	if len(lb.Status.Addresses) > 0 {
		t.Errorf("%v was assigned", lb.Status.Addresses)
	}
	changeStatus(b, lb, func(lb *v1alpha1.LoadBalancer) { lb.Status.Addresses = []string{"192.0.2.5"} })
	b.restored("acme")
	if got := b.address(lb); got != "192.0.2.5" {
		t.Errorf("the address was %s, is %s and the repository says 192.0.2.5", address, got)
	}
}

func TestAWishWithoutSourceKeepsOnlyItsAddress(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	address := b.address(lb)
	path := "tenants/acme/loadbalancers/shop/web.service.yaml"
	changeStatus(b, b.state("acme"), func(s *v1alpha1.TenantState) { s.Status.SourceGone = []string{path} })
	b.waitForReason(lb, "Accepted", "False", v1alpha1.ReasonSourceGone)
	if len(lb.Status.LoadBalancer.Ingress) > 0 || b.proxies.serves(lb) != "" {
		t.Errorf("published %v, served %s", lb.Status.LoadBalancer.Ingress, b.proxies.serves(lb))
	}
	if !slices.Equal(lb.Status.Addresses, []string{address}) {
		t.Errorf("kept is %v", lb.Status.Addresses)
	}
	changeStatus(b, b.state("acme"), func(s *v1alpha1.TenantState) { s.Status.SourceGone = nil })
	if got := b.address(lb); got != address {
		t.Errorf("it came back with %s instead of %s", got, address)
	}
}

func TestLimitsHoldForNewOnes(t *testing.T) {
	b := newBed(t)
	tenant := b.ready("acme", func(tenant *v1alpha1.Tenant) { tenant.Spec.Limits.LoadBalancers = 1 })
	one := b.service("acme", "one")
	b.address(one)
	two := b.service("acme", "two")
	b.waitForReason(two, "Accepted", "False", v1alpha1.ReasonLimitExceeded)
	change(b, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Limits.LoadBalancers = 2 })
	b.address(two)
	three := b.service("acme", "three")
	b.waitForReason(three, "Ready", "False", v1alpha1.ReasonLimitExceeded)
	b.remove(one)
	b.waitUntilGone(one)
	// What is kept counts: else a tenant could empty the pool by deleting and creating.
	waitFor(b, "it is told what is kept", three, func(lb *v1alpha1.LoadBalancer) bool {
		c := condition(lb, "Ready")
		return c.Reason == v1alpha1.ReasonLimitExceeded && strings.Contains(c.Message, "the addresses of 1 that were deleted are kept")
	})
	again := b.service("acme", "one")
	b.address(again)
	b.remove(again)
	b.waitUntilGone(again)
	b.pass(b.state("acme"))
	b.address(three)
}

func TestAnExhaustedPoolIsAProblemUntilSomethingIsFree(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	config := &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}}
	change(b, config, func(c *v1alpha1.Config) {
		c.Spec.AddressPools[0].CIDRs = []string{"192.0.2.1-192.0.2.1"}
		c.Spec.AddressGracePeriod = &metav1.Duration{}
	})
	one := b.service("acme", "one")
	b.address(one)
	two := b.service("acme", "two")
	c := b.waitForReason(two, "AddressAssigned", "False", v1alpha1.ReasonPoolExhausted)
	if c := condition(two, "Stalled"); c.Status != "True" {
		t.Errorf("Stalled is %+v", c)
	}
	if !strings.Contains(c.Message, "main") {
		t.Errorf("the message %q does not name the pool", c.Message)
	}
	change(b, config, func(c *v1alpha1.Config) { c.Spec.AddressPools[0].CIDRs = []string{"192.0.2.1-192.0.2.2"} })
	b.address(two)
	three := b.service("acme", "three")
	b.waitForReason(three, "AddressAssigned", "False", v1alpha1.ReasonPoolExhausted)
	b.remove(one)
	b.address(three)
}

func TestDisabledLoadBalancersAreNotServed(t *testing.T) {
	b := newBed(t)
	tenant := b.ready("acme")
	lb := b.service("acme", "web")
	address := b.address(lb)
	change(b, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.LoadBalancer.Disable = true })
	b.waitForReason(lb, "Accepted", "False", v1alpha1.ReasonDisabled)
	if len(lb.Status.LoadBalancer.Ingress) > 0 || b.proxies.serves(lb) != "" {
		t.Errorf("published %v, served %s", lb.Status.LoadBalancer.Ingress, b.proxies.serves(lb))
	}
	change(b, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.LoadBalancer.Disable = false })
	if got := b.address(lb); got != address {
		t.Errorf("%s became %s", address, got)
	}
}

func TestARequestedAddressTakesThePlaceOfTheOldOne(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	b.address(lb)
	b.proxies.set(func(p *proxies) { p.silent = true })
	change(b, lb, func(lb *v1alpha1.LoadBalancer) { lb.Spec.Addresses = []string{"192.0.2.7"} })
	waitFor(b, "the old address is withdrawn", lb, func(lb *v1alpha1.LoadBalancer) bool {
		return slices.Equal(lb.Status.Addresses, []string{"192.0.2.7"}) && len(lb.Status.LoadBalancer.Ingress) == 0
	})
	b.proxies.set(func(p *proxies) { p.silent = false })
	if got := b.address(lb); got != "192.0.2.7" {
		t.Errorf("the address is %s", got)
	}
}

func TestProxiesAreNotGivenMoreListenersThanTheyCanHave(t *testing.T) {
	b := newBed(t)
	b.infra.max = 1
	b.ready("acme")
	one := b.service("acme", "one")
	b.address(one)
	two := b.service("acme", "two")
	b.waitForReason(two, "Programmed", "False", v1alpha1.ReasonTooManyListeners)
	b.remove(one)
	b.address(two)
}

func TestTypeClusterIPAsksForNothing(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	b.address(lb)
	change(b, lb, func(lb *v1alpha1.LoadBalancer) { lb.Spec.Type = corev1.ServiceTypeClusterIP })
	b.waitForReason(lb, "Ready", "True", v1alpha1.ReasonNotRequested)
	if len(lb.Status.Addresses) > 0 || len(lb.Status.LoadBalancer.Ingress) > 0 || b.proxies.serves(lb) != "" {
		t.Errorf("it still has %v, %v, %s", lb.Status.Addresses, lb.Status.LoadBalancer.Ingress, b.proxies.serves(lb))
	}
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	b.address(lb)
	version := lb.ResourceVersion
	for _, f := range b.proxies.tell {
		f("global", []string{"tenant-acme/shop.web"})
	}
	other := b.service("acme", "other") // by the time it has its address, the news were heard
	b.address(other)
	if err := b.Get(t.Context(), client.ObjectKeyFromObject(lb), lb); err != nil {
		t.Fatal(err)
	}
	if lb.ResourceVersion != version {
		t.Errorf("the object was written again: %+v", lb.ManagedFields)
	}
}

func requesting(address string) func(*v1alpha1.LoadBalancer) {
	return func(lb *v1alpha1.LoadBalancer) { lb.Spec.Addresses = []string{address} }
}
