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

package project

import (
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RemindEvery is how often an Event about what lasts is renewed: API servers drop
// Events after an hour, and kubectl describe shows no conditions of a Service.
const RemindEvery = 30 * time.Minute

// Reminders returns the Events that are due about what lasts in a Service's
// status: what is held, pending or a problem, or else that it is not Ready. Each
// is due when another RemindEvery has passed since the condition's transition,
// after the time since and not after now. next is how long until one is due
// again; 0 if nothing lasts.
func Reminders(status corev1.ServiceStatus, since, now time.Time) (due []Event, next time.Duration) {
	for _, c := range lasting(status) {
		begin := c.LastTransitionTime.Time
		turns := now.Sub(begin) / RemindEvery // whole ones
		left := begin.Add((turns + 1) * RemindEvery).Sub(now)
		if next == 0 || left < next {
			next = left
		}
		if turns > 0 && begin.Add(turns*RemindEvery).After(since) {
			due = append(due, about(c))
		}
	}
	return due, next
}

// lasting are the conditions of a status that its owner can do something about.
func lasting(status corev1.ServiceStatus) []*metav1.Condition {
	var out []*metav1.Condition
	for _, kind := range []string{ConditionHeld, ConditionPending, ConditionProblem} {
		if c := find(status, kind); c != nil {
			out = append(out, c)
		}
	}
	if c := find(status, ConditionReady); len(out) == 0 && c != nil && c.Status == metav1.ConditionFalse {
		out = append(out, c)
	}
	return out
}

// about is the Event that tells of a condition.
func about(c *metav1.Condition) Event {
	if c.Type == ConditionPending {
		return Event{Type: corev1.EventTypeNormal, Reason: "Pending" + c.Reason, Message: c.Message}
	}
	return Event{Type: corev1.EventTypeWarning, Reason: c.Reason, Message: c.Message}
}

// notReady is the Event about a Service that was served and is not any more, nil
// where another Event tells of it or where the hub only waits for its proxies.
func notReady(before, after corev1.ServiceStatus) *Event {
	was, is := find(before, ConditionReady), find(after, ConditionReady)
	if was == nil || is == nil || was.Status != metav1.ConditionTrue || is.Status != metav1.ConditionFalse || is.Reason == v1alpha1.ReasonWaitingForProxy {
		return nil
	}
	if addresses(after) == "" {
		return nil
	}
	if problem := find(after, ConditionProblem); problem != nil && problem.Reason == is.Reason {
		return nil
	}
	event := about(is)
	return &event
}
