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

package command_test

import (
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is wrong is counted in the fleet view, named there by its first reason, and
// listed with remedies in the tenant's. Verbs take what they need from fields, so
// that no sentence has a meaning for them.
func TestStatusShowsWhatIsWrongAndVerbsReadFields(t *testing.T) {
	p := newPlane(t)
	now := metav1.Now()
	is := func(kind, status, reason, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: message, LastTransitionTime: now}
	}
	source := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: "fleet"}, Spec: v1alpha1.GitSourceSpec{URL: "https://git.example.com/fleet.git"}}
	p.make(source)
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme"}}
	p.make(tenant)
	p.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant-acme"}})
	lb := &v1alpha1.LoadBalancer{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "shop.web", Labels: map[string]string{v1alpha1.LabelOriginNS: "shop", v1alpha1.LabelOriginName: "web"}},
		Spec: v1alpha1.LoadBalancerSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80, Protocol: "TCP"}}, Endpoints: []v1alpha1.LoadBalancerEndpoints{{
			Name: "default", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: "shop.web"},
		}}},
	}
	p.make(lb)
	p.tells(source, func() {
		source.Status.Conditions = []metav1.Condition{is("Ready", "True", "Succeeded", "follows")}
	})
	// The sentence names a commit, and no field does.
	first, second := strings.Repeat("a1", 20), strings.Repeat("b2", 20)
	p.tells(tenant, func() {
		tenant.Status.Conditions = []metav1.Condition{is("Ready", "True", "Succeeded", "served")}
		tenant.Status.Git = &v1alpha1.TenantGitStatus{ProblemCount: 1, Problems: []v1alpha1.Problem{{
			Path: "tenants/acme", Reason: v1alpha1.ReasonInvalid, Message: "said by the tenant", Remedy: v1alpha1.AnnotationConfirm + ": " + first,
		}}}
	})
	p.tells(lb, func() {
		lb.Status.Conditions = []metav1.Condition{is("Ready", "False", "PartlyProgrammed", "only 80/TCP"), is("Stalled", "True", "PartlyProgrammed", "only 80/TCP")}
		lb.Status.Problems = []v1alpha1.Problem{
			{Object: "Service shop/web", Field: "spec.ports[x]", Reason: "PortNotInBackend", Message: "the backend has no port x", Remedy: "add it"},
			{Object: "Service shop/web", Field: "spec.ports[y]", Reason: "PortConflict", Message: "another tenant has it", Remedy: "use another port"},
		}
	})
	p.says(0, "REASON", "status")
	for _, line := range strings.Split(p.lastOut, "\n") {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "acme" && strings.Join(fields[2:10], " ") != "1 (1 not ready) 0 0 3 Invalid" {
			t.Errorf("the tenant's row is %q", line)
		}
	}
	p.says(0, "Service shop/web: PortConflict: spec.ports[y] another tenant has it\n    use another port", "status", "acme")
	p.says(0, "Service shop/web: PortNotInBackend", "status", "acme")
	p.says(0, "said by the tenant", "status", "acme")

	p.says(1, "nothing of tenant acme waits to be confirmed", "confirm", "acme")
	p.tells(tenant, func() {
		tenant.Status.Git.Confirm = []v1alpha1.Confirmation{{Commit: second, Reason: v1alpha1.ReasonApplyGuarded}}
	})
	p.says(0, "confirmed commit "+second, "confirm", "acme")
	p.tells(tenant, func() {
		tenant.Status.Git.Confirm = append(tenant.Status.Git.Confirm, v1alpha1.Confirmation{Commit: first, Reason: v1alpha1.ReasonForeignCluster})
	})
	p.says(2, first+" ("+v1alpha1.ReasonForeignCluster+")", "confirm", "acme")

	p.tells(source, func() {
		source.Status.Conditions = []metav1.Condition{is("Stalled", "True", v1alpha1.ReasonMainRewritten, v1alpha1.AnnotationAcceptRewrite+"="+first)}
	})
	p.says(1, "was not rewritten", "accept-rewrite", "fleet")
	p.tells(source, func() { source.Status.AcceptRewrite = second })
	p.says(0, "as of commit "+second, "accept-rewrite", "fleet")
}
