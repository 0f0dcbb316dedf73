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
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// end deletes a Tenant and does what Kubernetes does to its namespace.
func (b *bed) end(name string) {
	b.Helper()
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.remove(tenant)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant-" + name}}
	waitFor(b, "the namespace is deleted", namespace, func(n *corev1.Namespace) bool { return !n.DeletionTimestamp.IsZero() })
	b.remove(b.state(name))
	b.remove(b.nodes(name))
	b.finalizeNamespace(namespace.Name)
	b.waitUntilGone(tenant)
}

// pass does what time does to reservations; the hub looks when their number
// changes.
func (b *bed) pass(state *v1alpha1.TenantState) {
	b.Helper()
	changeStatus(b, state, func(s *v1alpha1.TenantState) {
		s.Status.Reservations = append(s.Status.Reservations, v1alpha1.Reservation{Name: "shop.none", Addresses: []string{"192.0.2.6"}})
		for i := range s.Status.Reservations {
			s.Status.Reservations[i].ReleaseAfter = metav1.Unix(1, 0)
		}
	})
}

func TestWhatADeletedTenantHadIsKeptForItsGracePeriod(t *testing.T) {
	b := newBed(t)
	b.ready("leaver")
	b.ready("umbra")
	early, web := b.service("leaver", "early", requesting("192.0.2.7")), b.service("leaver", "web", requesting("192.0.2.8"))
	b.address(early)
	b.address(web)
	b.remove(early)
	b.waitUntilGone(early)
	b.end("leaver")
	kept := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "leaver"}}
	waitFor(b, "both addresses are kept", kept, func(s *v1alpha1.TenantState) bool { return len(s.Status.Reservations) == 2 })

	b.stopHub() // with all that it had in memory
	b.proxies = newProxies()
	b.startHub()
	seven, eight := b.service("umbra", "seven", requesting("192.0.2.7")), b.service("umbra", "eight", requesting("192.0.2.8"))
	b.waitForReason(seven, "AddressAssigned", "False", v1alpha1.ReasonAddressInUse)
	b.waitForReason(eight, "AddressAssigned", "False", v1alpha1.ReasonAddressInUse)

	// A tenant of the same name is met by its addresses.
	b.ready("leaver")
	if again := b.address(b.service("leaver", "web")); again != "192.0.2.8" {
		t.Errorf("the load balancer that came back has %s", again)
	}
	waitFor(b, "its own reservation ends", kept, func(s *v1alpha1.TenantState) bool {
		return len(s.Status.Reservations) == 1 && s.Status.Reservations[0].Name == "shop.early"
	})
	b.pass(kept)
	if got := b.address(seven); got != "192.0.2.7" {
		t.Errorf("the address is %s", got)
	}
	b.waitUntilGone(kept)
}

func TestADeletedTenantsAddressesAreFreeAfterwardsWithoutARestart(t *testing.T) {
	b := newBed(t)
	b.ready("leaver")
	b.ready("umbra")
	b.address(b.service("leaver", "web", requesting("192.0.2.8")))
	b.end("leaver")
	wants := b.service("umbra", "wants", requesting("192.0.2.8"))
	b.waitForReason(wants, "AddressAssigned", "False", v1alpha1.ReasonAddressInUse)
	kept := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "leaver"}}
	b.pass(kept)
	if got := b.address(wants); got != "192.0.2.8" {
		t.Errorf("the address is %s", got)
	}
	b.waitUntilGone(kept)
}

func TestADeletedTenantWithoutAddressesLeavesNothing(t *testing.T) {
	b := newBed(t)
	b.ready("leaver")
	b.end("leaver")
	kept := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "leaver"}}
	if err := b.Get(t.Context(), client.ObjectKeyFromObject(kept), kept); !apierrors.IsNotFound(err) {
		t.Errorf("%v %+v", err, kept)
	}
}
