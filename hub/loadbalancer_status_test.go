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

package hub

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/build"
	"github.com/kubelb/gitops/xds/ir"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	noon  = metav1.NewTime(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	one   = netip.MustParseAddr("192.0.2.1")
	two   = netip.MustParseAddr("192.0.2.2")
	acked = ir.Verdict{Hash: "h", Programmed: true, Proxies: 1}
)

func TestDecide(t *testing.T) {
	served := build.Output{Ports: "80/TCP"}
	halfServed := build.Output{Ports: "80/TCP", Problems: []v1alpha1.Problem{{Field: "spec.ports[https]", Reason: v1alpha1.ReasonPortNotInBackend, Message: "no such port"}}}
	for name, test := range map[string]struct {
		reason    string
		published []string // before
		ports     int      // of the load balancer, 1 if unset
		o         observation
		// want are the conditions that are True, the reason of Ready, and what is
		// published.
		want          []string
		wantReason    string
		wantPublished []string
	}{
		"waits": {
			reason:     "nobody acknowledged yet",
			o:          observation{assigned: []netip.Addr{one}, output: served, hash: "h", verdict: ir.Verdict{Hash: "h", Proxies: 1}},
			want:       []string{"Accepted", "AddressAssigned", "Reconciling"},
			wantReason: v1alpha1.ReasonWaitingForProxy,
		},
		"acknowledged": {
			reason:        "a proxy serves it",
			o:             observation{assigned: []netip.Addr{one}, output: served, hash: "h", verdict: acked},
			want:          []string{"Accepted", "AddressAssigned", "Programmed", "Ready"},
			wantReason:    v1alpha1.ReasonProgrammed,
			wantPublished: []string{"192.0.2.1"},
		},
		"acknowledged without an endpoint": {
			reason: "the address stays, but what answers no connection is not ready",
			o: observation{assigned: []netip.Addr{one}, hash: "h", verdict: acked, output: build.Output{
				Ports: "80/TCP", Unusable: &v1alpha1.Problem{Reason: v1alpha1.ReasonNoEndpoints, Message: "no node"},
			}},
			want:          []string{"Accepted", "AddressAssigned", "Programmed", "Stalled"},
			wantReason:    v1alpha1.ReasonNoEndpoints,
			wantPublished: []string{"192.0.2.1"},
		},
		"acknowledged is something older": {
			reason:        "the verdict is of another part; what works stays published",
			published:     []string{"192.0.2.1"},
			o:             observation{assigned: []netip.Addr{one}, output: served, hash: "new", verdict: acked},
			want:          []string{"Accepted", "AddressAssigned", "Reconciling"},
			wantReason:    v1alpha1.ReasonWaitingForProxy,
			wantPublished: []string{"192.0.2.1"},
		},
		"proxies went": {
			reason:        "an address is not withdrawn because proxies disconnect",
			published:     []string{"192.0.2.1"},
			o:             observation{assigned: []netip.Addr{one}, output: served, hash: "h", verdict: ir.Verdict{Hash: "h"}},
			want:          []string{"Accepted", "AddressAssigned", "Reconciling"},
			wantReason:    v1alpha1.ReasonWaitingForProxy,
			wantPublished: []string{"192.0.2.1"},
		},
		"address changed": {
			reason:     "an address that is not assigned any more is withdrawn at once",
			published:  []string{"192.0.2.1"},
			o:          observation{assigned: []netip.Addr{two}, output: served, hash: "h", verdict: ir.Verdict{Hash: "h", Proxies: 1}},
			want:       []string{"Accepted", "AddressAssigned", "Reconciling"},
			wantReason: v1alpha1.ReasonWaitingForProxy,
		},
		"rejected": {
			reason: "Envoy refuses a listener",
			o: observation{assigned: []netip.Addr{one}, output: served, hash: "h", verdict: ir.Verdict{
				Hash: "h", Proxies: 1, Rejections: []ir.Rejection{{Resource: "192.0.2.1:80/TCP", Message: "cannot bind"}},
			}},
			want:       []string{"Accepted", "AddressAssigned", "Stalled"},
			wantReason: v1alpha1.ReasonRejectedByProxy,
		},
		"unreachable": {
			reason:     "acknowledged, and yet nobody listens",
			o:          observation{assigned: []netip.Addr{one}, output: served, hash: "h", verdict: acked, unreachable: errors.New("refused")},
			want:       []string{"Accepted", "AddressAssigned", "Reconciling"},
			wantReason: v1alpha1.ReasonUnreachable,
		},
		"one port of two": {
			reason:        "what can be served is, and the address works",
			ports:         2,
			o:             observation{assigned: []netip.Addr{one}, output: halfServed, hash: "h", verdict: acked},
			want:          []string{"Accepted", "AddressAssigned", "Stalled"},
			wantReason:    v1alpha1.ReasonPartlyProgrammed,
			wantPublished: []string{"192.0.2.1"},
		},
		"nothing can be served": {
			reason:        "facts are missing; what was published stays",
			published:     []string{"192.0.2.1"},
			o:             observation{assigned: []netip.Addr{one}, output: build.Output{Problems: halfServed.Problems}},
			want:          []string{"Accepted", "AddressAssigned", "Stalled"},
			wantReason:    v1alpha1.ReasonPortNotInBackend,
			wantPublished: []string{"192.0.2.1"},
		},
		"no address": {
			reason:     "the pool is empty",
			o:          observation{unassigned: &v1alpha1.Problem{Reason: v1alpha1.ReasonPoolExhausted, Message: "no address is free"}},
			want:       []string{"Accepted", "Stalled"},
			wantReason: v1alpha1.ReasonPoolExhausted,
		},
		"not the address it asks for": {
			reason: "the old one serves on, and the user hears why",
			o: observation{
				assigned: []netip.Addr{one}, output: served, hash: "h", verdict: acked,
				unassigned: &v1alpha1.Problem{Reason: v1alpha1.ReasonAddressInUse, Message: "192.0.2.9 is in use"},
			},
			want:          []string{"Accepted", "Programmed", "Stalled"},
			wantReason:    v1alpha1.ReasonAddressInUse,
			wantPublished: []string{"192.0.2.1"},
		},
		"refused": {
			reason:     "it is to be served no more",
			published:  []string{"192.0.2.1"},
			o:          observation{assigned: []netip.Addr{one}, refusal: &refusal{reason: v1alpha1.ReasonDisabled, message: "no", stalled: true}},
			want:       []string{"Stalled"},
			wantReason: v1alpha1.ReasonDisabled,
		},
		"refused but kept": {
			reason:        "a new version is not valid, the one before it serves on",
			published:     []string{"192.0.2.1"},
			o:             observation{assigned: []netip.Addr{one}, refusal: &refusal{reason: v1alpha1.ReasonInvalid, message: "no", stalled: true, keep: true}},
			want:          []string{"Stalled"},
			wantReason:    v1alpha1.ReasonInvalid,
			wantPublished: []string{"192.0.2.1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			lb := &v1alpha1.LoadBalancer{Spec: v1alpha1.LoadBalancerSpec{
				Type: corev1.ServiceTypeLoadBalancer, Ports: make([]v1alpha1.LoadBalancerPort, max(1, test.ports)),
			}}
			lb.Generation = 3
			lb.Status.Git = &v1alpha1.GitStatus{HeldSummary: "gitsync's"}
			for _, ip := range test.published {
				lb.Status.LoadBalancer.Ingress = append(lb.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
			}
			before := lb.DeepCopy()
			status := decide(lb, test.o, noon)
			if !equality.Semantic.DeepEqual(lb, before) {
				t.Error("the object was changed")
			}
			var is []string
			for _, c := range status.Conditions {
				if c.Status == metav1.ConditionTrue {
					is = append(is, c.Type)
				}
				if c.ObservedGeneration != 3 {
					t.Errorf("%+v", c)
				}
			}
			slices.Sort(is)
			if !slices.Equal(is, test.want) {
				t.Errorf("%s: true are %v, want %v", test.reason, is, test.want)
			}
			if got := apimeta.FindStatusCondition(status.Conditions, "Ready"); got == nil || got.Reason != test.wantReason {
				t.Errorf("%s: Ready is %+v, want the reason %s", test.reason, got, test.wantReason)
			}
			lb.Status = status
			if got := formatAddresses(ingressOf(lb)); !slices.Equal(got, test.wantPublished) {
				t.Errorf("%s: %v is published, want %v", test.reason, got, test.wantPublished)
			}
			if status.Git == nil {
				t.Error("what gitsync wrote is gone")
			}
			if again := decide(lb, test.o, metav1.NewTime(noon.Add(time.Hour))); !sameConditions(again.Conditions, status.Conditions) {
				t.Errorf("the second time it is %+v, the first time %+v", again.Conditions, status.Conditions)
			}
		})
	}
}

func TestOthersConditionsAreNotTouched(t *testing.T) {
	lb := &v1alpha1.LoadBalancer{Spec: v1alpha1.LoadBalancerSpec{Type: corev1.ServiceTypeLoadBalancer}}
	lb.Status.Conditions = []metav1.Condition{{Type: "Theirs", Status: "True", Reason: "X"}, {Type: "Stalled", Status: "True", Reason: "Old"}}
	status := decide(lb, observation{assigned: []netip.Addr{one}, output: build.Output{Ports: "80/TCP"}, hash: "h", verdict: acked}, noon)
	if apimeta.FindStatusCondition(status.Conditions, "Theirs") == nil {
		t.Error("it is gone")
	}
	if apimeta.FindStatusCondition(status.Conditions, "Stalled") != nil {
		t.Error("a condition that is not true any more stays")
	}
	if apimeta.FindStatusCondition(ownConditions(status.Conditions), "Theirs") != nil {
		t.Error("the hub claims it for its own")
	}
}
