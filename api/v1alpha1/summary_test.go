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

package v1alpha1

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWrongWithCountsWhatIsWrong(t *testing.T) {
	ready := func(status, reason string) metav1.Condition {
		return metav1.Condition{Type: "Ready", Status: metav1.ConditionStatus(status), Reason: reason}
	}
	stalled := metav1.Condition{Type: "Stalled", Status: "True"}
	lb := func(name string, problems []Problem, conditions ...metav1.Condition) LoadBalancer {
		return LoadBalancer{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status:     LoadBalancerStatus{ObjectStatus: ObjectStatus{Conditions: conditions}, Problems: problems},
		}
	}
	fine := lb("a", nil, ready("True", "Programmed"))
	partly := lb("b", []Problem{{Reason: "PortNotInBackend"}, {Reason: "PortConflict"}}, ready("False", "PartlyProgrammed"), stalled)
	warned := lb("c", []Problem{{Reason: "EndpointRefused"}}, ready("True", "Programmed"))
	disabled := lb("d", nil, ready("False", "Disabled"), stalled)
	waits := lb("e", nil, ready("False", "WaitingForProxy"))
	unseen := lb("f", nil)
	git := &TenantGitStatus{ProblemCount: 120, Problems: []Problem{{Reason: "Unverified"}}}
	for name, c := range map[string]struct {
		ready     metav1.Condition
		git       *TenantGitStatus
		balancers []LoadBalancer
		want      Wrong
	}{
		"nothing":                               {ready("True", "Succeeded"), nil, []LoadBalancer{fine}, Wrong{}},
		"a problem of a load balancer":          {ready("True", "Succeeded"), nil, []LoadBalancer{warned, fine}, Wrong{0, 1, "EndpointRefused"}},
		"the first by name, whatever the order": {ready("True", "Succeeded"), nil, []LoadBalancer{disabled, warned, partly, fine}, Wrong{2, 4, "PartlyProgrammed"}},
		"one that waits for a person":           {ready("True", "Succeeded"), nil, []LoadBalancer{disabled}, Wrong{1, 1, "Disabled"}},
		"one that waits for a proxy":            {ready("True", "Succeeded"), nil, []LoadBalancer{waits}, Wrong{1, 0, "WaitingForProxy"}},
		"one that nobody looked at":             {ready("True", "Succeeded"), nil, []LoadBalancer{unseen}, Wrong{1, 0, ReasonNotReconciled}},
		"files come before load balancers":      {ready("True", "Succeeded"), git, []LoadBalancer{partly}, Wrong{1, 122, "Unverified"}},
		"the Tenant comes before all":           {ready("False", "NotRestored"), git, []LoadBalancer{partly}, Wrong{1, 122, "NotRestored"}},
	} {
		tenant := &Tenant{Status: TenantStatus{ObjectStatus: ObjectStatus{Conditions: []metav1.Condition{c.ready}}, Git: c.git}}
		if got := WrongWith(tenant, c.balancers); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
