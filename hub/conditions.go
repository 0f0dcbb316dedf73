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
	"cmp"
	"slices"
	"time"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Back-off of what failed for no fault of the user's.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// ownedConditions are the types that the hub's controllers write. Others are
// somebody else's and stay as they are.
var ownedConditions = []string{
	v1alpha1.ConditionAccepted, v1alpha1.ConditionAddressAssigned, v1alpha1.ConditionProgrammed,
	meta.ReadyCondition, meta.ReconcilingCondition, meta.StalledCondition,
}

// conditions are built anew from what is true now; only the times of those that
// did not change come from before.
type conditions struct {
	list       []metav1.Condition
	before     []metav1.Condition
	generation int64
	now        metav1.Time
}

func conditionsOf(before []metav1.Condition, generation int64, now metav1.Time) *conditions {
	others := slices.DeleteFunc(slices.Clone(before), func(c metav1.Condition) bool { return slices.Contains(ownedConditions, c.Type) })
	return &conditions{list: others, before: before, generation: generation, now: metav1.NewTime(now.Truncate(time.Second))}
}

func (c *conditions) set(kind string, is bool, reason, message string) {
	condition := metav1.Condition{
		Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message,
		ObservedGeneration: c.generation, LastTransitionTime: c.now,
	}
	if is {
		condition.Status = metav1.ConditionTrue
	}
	if old := apimeta.FindStatusCondition(c.before, kind); old != nil && old.Status == condition.Status {
		condition.LastTransitionTime = old.LastTransitionTime
	}
	c.list = append(c.list, condition)
}

// ready, reconciling and stalled are the three states that kstatus knows.
func (c *conditions) ready(reason, message string) {
	c.set(meta.ReadyCondition, true, reason, message)
}

func (c *conditions) reconciling(reason, message string) {
	c.set(meta.ReadyCondition, false, reason, message)
	c.set(meta.ReconcilingCondition, true, reason, message)
}

func (c *conditions) stalled(reason, message string) {
	c.set(meta.ReadyCondition, false, reason, message)
	c.set(meta.StalledCondition, true, reason, message)
}

// sameConditions compares without order, which is the server's to choose.
func sameConditions(a, b []metav1.Condition) bool {
	sorted := func(list []metav1.Condition) []metav1.Condition {
		return slices.SortedFunc(slices.Values(list), func(x, y metav1.Condition) int { return cmp.Compare(x.Type, y.Type) })
	}
	return equality.Semantic.DeepEqual(sorted(a), sorted(b))
}

func controllerOptions(workers int, leaderOnly *bool) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: workers, NeedLeaderElection: leaderOnly,
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
	}
}
