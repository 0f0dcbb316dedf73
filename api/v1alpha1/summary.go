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
	"cmp"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReasonNotReconciled stands for the reason of an object that has no condition
// Ready yet.
const ReasonNotReconciled = "NotReconciled"

// NotReady returns why an object is not Ready; false if it is.
func NotReady(conditions []metav1.Condition) (why metav1.Condition, is bool) {
	c := apimeta.FindStatusCondition(conditions, "Ready")
	switch {
	case c == nil:
		return metav1.Condition{Type: "Ready", Status: metav1.ConditionUnknown, Reason: ReasonNotReconciled, Message: "the hub has not looked at it yet"}, true
	case c.Status == metav1.ConditionTrue:
		return metav1.Condition{}, false
	}
	return *c, true
}

// Wrong is what is wrong with a tenant as a whole.
type Wrong struct {
	// NotReady counts LoadBalancers that are not Ready.
	NotReady int32
	// Problems counts those of the tenant's files and of its LoadBalancers. A
	// LoadBalancer that waits for a person has one at least.
	Problems int32
	// Reason of the first: of the Tenant's condition, else of its files, else of the
	// first LoadBalancer.
	Reason string
}

// WrongWith sums up what is wrong with a tenant and its LoadBalancers. Of several
// LoadBalancers the one with the least name is the first.
func WrongWith(tenant *Tenant, balancers []LoadBalancer) (w Wrong) {
	if why, is := NotReady(tenant.Status.Conditions); is {
		w.Reason = why.Reason
	}
	if git := tenant.Status.Git; git != nil {
		w.Problems = git.ProblemCount
		if len(git.Problems) > 0 {
			w.Reason = cmp.Or(w.Reason, git.Problems[0].Reason)
		}
	}
	first, reason := "", ""
	for i := range balancers {
		lb := &balancers[i]
		why, is := NotReady(lb.Status.Conditions)
		problems := int32(len(lb.Status.Problems))
		if is {
			w.NotReady++
			if apimeta.IsStatusConditionTrue(lb.Status.Conditions, "Stalled") {
				problems = max(problems, 1)
			}
		}
		w.Problems += problems
		if !is && problems == 0 || first != "" && lb.Name >= first {
			continue
		}
		first, reason = lb.Name, why.Reason
		if !is {
			reason = lb.Status.Problems[0].Reason
		}
	}
	w.Reason = cmp.Or(w.Reason, reason)
	return w
}
