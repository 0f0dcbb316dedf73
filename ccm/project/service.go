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
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Conditions of a Service. Ready is there as soon as the hub has said anything,
// the others only while they are true.
const (
	// ConditionPrefix is what the types of all our conditions begin with.
	ConditionPrefix = "kubelb.k8c.io/"
	// ConditionReady: the load balancer serves the Service as the hub knows it.
	ConditionReady = ConditionPrefix + "Ready"
	// ConditionHeld: a person changed, reverted or deleted something on main.
	ConditionHeld = ConditionPrefix + "Held"
	// ConditionPending: something waits for review, the guard or a repair.
	ConditionPending = ConditionPrefix + "Pending"
	// ConditionProblem: something of the Service cannot be done as it is.
	ConditionProblem = ConditionPrefix + "Problem"
)

// Reasons of conditions and Events.
const (
	ReasonHeld     = "Held"
	ReasonReleased = "Released"
	ReasonNoAnswer = "NoAnswer"
	ReasonAddress  = "AddressPublished"
	ReasonWithdrew = "AddressWithdrawn"
	// ReasonNoDualStack: the Service requires addresses of both families.
	ReasonNoDualStack = "NoDualStack"
)

// Input is what is known of one Service.
type Input struct {
	// Service as it is now.
	Service *corev1.Service
	// InScope: the Service gets a load balancer from us.
	InScope bool
	// Paths of the Service's documents: those of TenantState entries that speak
	// of it.
	Paths []string
	// LoadBalancer and Backend are the hub's status of it, nil where there is none.
	LoadBalancer *v1alpha1.LoadBalancer
	Backend      *v1alpha1.Backend
	// State of the tenant, nil if none is known.
	State *v1alpha1.TenantState
	// Heard: the hub's present answer is known. Before, what the Service's status
	// has of it stays.
	Heard bool
	// Answered: the hub has seen the Service's present intents, or there are
	// none. Until then its address and Ready stay, and none are given: what the
	// hub says may be about an earlier Service of that name.
	Answered bool
	// Problems that were found on this side.
	Problems []v1alpha1.Problem
	// Now is the time of transitions.
	Now metav1.Time
}

// Result is what becomes of a Service.
type Result struct {
	// Status is the whole status that it should have.
	Status corev1.ServiceStatus
	// Changed: Status is not what the Service has.
	Changed bool
	// Events tell of the difference.
	Events []Event
}

// Event is what to tell the owner of a Service.
type Event struct {
	Type    string // Normal or Warning
	Reason  string
	Message string
}

// Service projects the hub's answer onto one Service.
func Service(in Input) Result {
	out := Result{Status: *in.Service.Status.DeepCopy()}
	var conditions []metav1.Condition
	switch {
	case in.InScope:
		out.Status.LoadBalancer = ingress(in)
		conditions = wanted(in)
	case foreign(in) && !in.Heard:
		return out // whose address it has is not known yet
	case Ours(in.Service):
		if !foreign(in) || sameAddresses(in.LoadBalancer, in.Service) {
			out.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		}
	}
	out.Status.Conditions = merge(in.Service.Status.Conditions, conditions, in.Now)
	out.Changed = !apiequality.Semantic.DeepEqual(in.Service.Status, out.Status)
	out.Events = events(in.Service.Status, out.Status)
	otherFamily(in.Service, out)
	return out
}

// Ours reports whether a Service's status is ours: it has a condition of ours,
// or our finalizer.
func Ours(service *corev1.Service) bool {
	return slices.Contains(service.Finalizers, v1alpha1.Finalizer) ||
		slices.ContainsFunc(service.Status.Conditions, func(c metav1.Condition) bool {
			return strings.HasPrefix(c.Type, ConditionPrefix)
		})
}

// foreign reports whether another implementation serves the Service: what it
// writes into the status is not ours to take back.
func foreign(in Input) bool {
	return !in.InScope && in.Service.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// sameAddresses reports whether a Service has the addresses of its load balancer,
// or the hub knows of none.
func sameAddresses(lb *v1alpha1.LoadBalancer, service *corev1.Service) bool {
	return lb == nil || addresses(corev1.ServiceStatus{LoadBalancer: lb.Status.LoadBalancer}) == addresses(service.Status)
}

// ingress is the published address: what the hub says. Its mode is Proxy, because
// packets reach a node with the address and the NodePort of that node as their
// destination, not the load balancer's (LoadBalancerIngress.ipMode); with VIP a
// node would answer for the address itself.
func ingress(in Input) corev1.LoadBalancerStatus {
	if !in.Heard || !in.Answered {
		return *in.Service.Status.LoadBalancer.DeepCopy()
	}
	if in.LoadBalancer == nil {
		return corev1.LoadBalancerStatus{}
	}
	status := in.LoadBalancer.Status.LoadBalancer.DeepCopy()
	for i := range status.Ingress {
		if entry := &status.Ingress[i]; entry.IP != "" {
			entry.IPMode = new(corev1.LoadBalancerIPModeProxy)
		}
	}
	return *status
}

// merge returns others' conditions as they are, with ours in place of what ours
// were. The time of a condition is that of its last change of status.
func merge(present, ours []metav1.Condition, now metav1.Time) []metav1.Condition {
	out := slices.DeleteFunc(slices.Clone(present), func(c metav1.Condition) bool {
		return strings.HasPrefix(c.Type, ConditionPrefix) && apimeta.FindStatusCondition(ours, c.Type) == nil
	})
	for _, c := range ours {
		c.LastTransitionTime = now
		at := slices.IndexFunc(out, func(o metav1.Condition) bool { return o.Type == c.Type })
		if at < 0 {
			out = append(out, c)
			continue
		}
		if out[at].Status == c.Status {
			c.LastTransitionTime = out[at].LastTransitionTime
		}
		out[at] = c
	}
	return out
}

// events are what changed between two statuses, in words.
func events(before, after corev1.ServiceStatus) []Event {
	var out []Event
	add := func(kind, reason, message string) {
		out = append(out, Event{Type: kind, Reason: reason, Message: message})
	}
	switch was, is := addresses(before), addresses(after); {
	case is != "" && is != was:
		add(corev1.EventTypeNormal, ReasonAddress, "the load balancer answers at "+is)
	case is == "" && was != "":
		add(corev1.EventTypeWarning, ReasonWithdrew, "the load balancer no longer answers at "+was)
	}
	was, is := find(before, ConditionHeld), find(after, ConditionHeld)
	switch {
	case is != nil && (was == nil || was.Message != is.Message):
		out = append(out, about(is))
	case is == nil && was != nil && find(after, ConditionReady) != nil:
		add(corev1.EventTypeNormal, ReasonReleased, "main and the Service agree again, nothing is held")
	}
	was, is = find(before, ConditionPending), find(after, ConditionPending)
	if is != nil && (was == nil || was.Message != is.Message) {
		add(corev1.EventTypeNormal, "Pending"+is.Reason, pendingNews(was, is))
	}
	was, is = find(before, ConditionProblem), find(after, ConditionProblem)
	if is != nil && (was == nil || was.Message != is.Message) {
		out = append(out, about(is))
	}
	if event := notReady(before, after); event != nil {
		out = append(out, *event)
	}
	return out
}

// otherFamily adds to the news of an address that it is of none of the Service's
// families. That works, since proxies connect on to the nodes, but whoever chose
// the families should hear of it.
func otherFamily(service *corev1.Service, out Result) {
	families := service.Spec.IPFamilies
	for i := range out.Events {
		if out.Events[i].Reason != ReasonAddress || len(families) == 0 {
			continue
		}
		if !slices.ContainsFunc(out.Status.LoadBalancer.Ingress, func(entry corev1.LoadBalancerIngress) bool {
			family := corev1.IPv4Protocol
			if strings.Contains(entry.IP, ":") {
				family = corev1.IPv6Protocol
			}
			return entry.IP == "" || slices.Contains(families, family)
		}) {
			out.Events[i].Message += fmt.Sprintf(", which is not of the families of the Service (%s): an address is of the family of the hub's first pool unless another is asked for", families[0])
		}
	}
}

// pendingNews is what an Event says of something that waits. A review is on a
// branch before the forge has its pull request: then the Event says that only
// the place is new, which people need to know, and not the rest again.
func pendingNews(was, is *metav1.Condition) string {
	place, what := cutReview(is.Message)
	if was == nil || place == "" {
		return is.Message
	}
	if _, before := cutReview(was.Message); before != what {
		return is.Message
	}
	return place + "; what waits is the same"
}

func find(status corev1.ServiceStatus, kind string) *metav1.Condition {
	return apimeta.FindStatusCondition(status.Conditions, kind)
}

func addresses(status corev1.ServiceStatus) string {
	var words []string
	for _, entry := range status.LoadBalancer.Ingress {
		words = append(words, entry.IP+entry.Hostname)
	}
	return strings.Join(words, ", ")
}
