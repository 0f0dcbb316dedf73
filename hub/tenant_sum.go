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
	"slices"

	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/controller-runtime/pkg/event"
)

// sumUp sets what a Tenant's status says of the whole tenant, from the conditions
// that are about to be written.
func sumUp(tenant *v1alpha1.Tenant, status *v1alpha1.TenantStatus, balancers []v1alpha1.LoadBalancer) {
	seen := &v1alpha1.Tenant{ObjectMeta: tenant.ObjectMeta, Status: *status}
	wrong := v1alpha1.WrongWith(seen, balancers)
	status.NotReady, status.ProblemCount, status.Reason = wrong.NotReady, wrong.Problems, wrong.Reason
}

func sameSum(a, b v1alpha1.TenantStatus) bool {
	return a.NotReady == b.NotReady && a.ProblemCount == b.ProblemCount && a.Reason == b.Reason
}

// wrongChanged reports whether a change of a load balancer changes what is wrong
// with its tenant.
func wrongChanged(before, after *v1alpha1.LoadBalancer) bool {
	was, wasNot := v1alpha1.NotReady(before.Status.Conditions)
	is, isNot := v1alpha1.NotReady(after.Status.Conditions)
	return wasNot != isNot || was.Reason != is.Reason || !slices.Equal(before.Status.Problems, after.Status.Problems)
}

// gitProblemsChanged reports whether what gitsync found wrong with a Tenant did.
func gitProblemsChanged(e event.UpdateEvent) bool {
	of := func(o any) (count int32, first string) {
		git := o.(*v1alpha1.Tenant).Status.Git
		switch {
		case git == nil:
			return -1, ""
		case len(git.Problems) > 0:
			first = git.Problems[0].Reason
		}
		return git.ProblemCount, first
	}
	count, first := of(e.ObjectOld)
	countNow, firstNow := of(e.ObjectNew)
	return count != countNow || first != firstNow
}
