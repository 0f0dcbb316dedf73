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

package ccm

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubelb/gitops/ccm/project"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// rival is another implementation: it insists on an address of its own. It
// counts how often it had to write.
type rival struct {
	writes atomic.Int64
	stop   func()
}

func (w *world) rival(s *corev1.Service, address string) *rival {
	ctx, cancel := context.WithCancel(w.Context())
	r, done := &rival{}, make(chan struct{})
	r.stop = func() { cancel(); <-done }
	w.Cleanup(r.stop)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			var service corev1.Service
			if err := w.client.Get(ctx, client.ObjectKeyFromObject(s), &service); err != nil {
				continue
			}
			if in := service.Status.LoadBalancer.Ingress; len(in) == 1 && in[0].IP == address {
				<-time.After(5 * time.Millisecond)
				continue
			}
			service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
			if err := w.client.Status().Update(ctx, &service, client.FieldOwner("example-lb-controller")); err == nil {
				r.writes.Add(1)
			}
		}
	}()
	return r
}

func TestAnotherWriterOfTheStatusIsNamedAndNotFought(t *testing.T) {
	w, ccm, web := serving(t)
	other := w.rival(web, "203.0.113.9")
	w.hasEvent("shop", "web", ReasonStatusContested, `"example-lb-controller"`)
	if n := other.writes.Load(); n > 6 {
		t.Errorf("put back %d times before anybody was told", n)
	}
	w.hasCondition(web, project.ConditionProblem, ReasonStatusContested)

	// The pauses grow to their bound; nobody else's address is touched meanwhile.
	ccm.engine.contests.mu.Lock()
	ccm.engine.contests.by[web.UID].lost = 20
	ccm.engine.contests.mu.Unlock()
	before := other.writes.Load()
	for range 20 {
		ccm.engine.statuses.add(client.ObjectKeyFromObject(web))
	}
	w.hasAddress(web, "203.0.113.9")
	if n := other.writes.Load() - before; n > 1 {
		t.Errorf("put back %d times within a pause", n)
	}

	// When the other one leaves, the address comes back and the problem goes.
	other.stop()
	w.clock.add(contestMax)
	ccm.engine.statuses.add(client.ObjectKeyFromObject(web))
	w.hasAddress(web, "192.0.2.7")
	w.clock.add(contestEnd)
	ccm.engine.statuses.add(client.ObjectKeyFromObject(web))
	w.hasCondition(web, project.ConditionProblem, "")
}

func TestServicesOfAnotherClassAreLeftAlone(t *testing.T) {
	w, ccm, _ := serving(t)
	other := w.service("shop", "other", func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("example.com/other") })
	other.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}}
	if err := w.client.Status().Update(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	// What comes after it is on the branch, it is not.
	w.service("shop", "after")
	w.intentHas(nodesFile, webWish, webFact, "loadbalancers/shop/after.service.yaml", "backends/shop/after.service.yaml")
	ccm.engine.statuses.add(client.ObjectKeyFromObject(other))
	if got := w.get(other); len(got.Finalizers) > 0 || got.ResourceVersion != other.ResourceVersion {
		t.Errorf("a Service of another class was written: %+v", got.ObjectMeta)
	}
	w.hasAddress(other, "203.0.113.9")
}

func TestTheWriterOfAStatusIsTheOneThatOwnsTheAddress(t *testing.T) {
	entry := func(manager, subresource, fields string, minute int) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC))
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, Time: &at, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	const address, conditions = `{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`, `{"f:status":{"f:conditions":{}}}`
	for name, c := range map[string]struct {
		fields []metav1.ManagedFieldsEntry
		want   string
	}{
		"nobody":                       {want: "unknown"},
		"the CCM":                      {fields: []metav1.ManagedFieldsEntry{entry(fieldOwner, "status", address, 1)}, want: "unknown"},
		"who owns the address":         {fields: []metav1.ManagedFieldsEntry{entry("a", "status", conditions, 3), entry("b", "status", address, 1), entry("c", "status", conditions, 2)}, want: "b"},
		"who wrote the address last":   {fields: []metav1.ManagedFieldsEntry{entry("a", "status", address, 2), entry("b", "status", address, 1)}, want: "a"},
		"who wrote the status last":    {fields: []metav1.ManagedFieldsEntry{entry("a", "status", conditions, 1), entry("b", "status", conditions, 2)}, want: "b"},
		"not who wrote something else": {fields: []metav1.ManagedFieldsEntry{entry("kubectl", "", address, 9), entry("b", "status", conditions, 2)}, want: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := writerOf(&metav1.ObjectMeta{ManagedFields: c.fields}); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
