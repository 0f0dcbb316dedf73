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
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxMessage bounds a condition's message; the rest is counted.
const maxMessage = 1024

// wanted are the conditions that a Service in scope should have, without times.
func wanted(in Input) []metav1.Condition {
	held, pending, problems := heldFields(in), pendingFields(in), problems(in)
	var out []metav1.Condition
	if !in.Heard {
		out = slices.DeleteFunc(slices.Clone(in.Service.Status.Conditions), func(c metav1.Condition) bool {
			return !strings.HasPrefix(c.Type, ConditionPrefix) || c.Type == ConditionProblem && len(problems) > 0
		})
	} else if ready := ready(in, len(held)+len(pending)+len(problems) > 0); ready != nil {
		out = append(out, *ready)
	}
	add := func(kind, reason string, sentences []string) {
		out = append(out, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: join(sentences)})
	}
	if len(held) > 0 {
		add(ConditionHeld, ReasonHeld, sentences(held, heldSentence))
	}
	if len(pending) > 0 {
		reason := cmp.Or(pending[0].Reason, v1alpha1.PendingReview)
		add(ConditionPending, reason, append(reviewSentence(in, pending), sentences(pending, pendingSentence)...))
	}
	if len(problems) > 0 {
		add(ConditionProblem, problems[0].Reason, sentences(problems, problemSentence))
	}
	return out
}

// ready repeats the hub's Ready. Where the hub says nothing there is a condition
// only if something else is known, or if there was one before.
func ready(in Input, known bool) *metav1.Condition {
	c := &metav1.Condition{Type: ConditionReady, Status: metav1.ConditionFalse, Reason: ReasonNoAnswer,
		Message: "the hub does not serve this Service"}
	old := apimeta.FindStatusCondition(in.Service.Status.Conditions, ConditionReady)
	switch {
	case !in.Answered && (old != nil || in.LoadBalancer != nil):
		return old
	case in.LoadBalancer == nil && !known && old == nil:
		return nil
	case in.LoadBalancer == nil:
		return c
	}
	said := apimeta.FindStatusCondition(in.LoadBalancer.Status.Conditions, "Ready")
	if said == nil {
		c.Message = "the hub has not served this Service yet"
		return c
	}
	c.Status, c.Reason, c.Message = said.Status, cmp.Or(said.Reason, ReasonNoAnswer), said.Message
	return c
}

// heldFields is what the tenant's state has of the Service. What the load balancer
// says of itself is written later, so that it counts only where the state's list
// is cut off: else people would hear of every change twice.
func heldFields(in Input) []v1alpha1.HeldField {
	var out []v1alpha1.HeldField
	whole := in.State != nil && int(in.State.Status.HeldCount) == len(in.State.Status.Held)
	if !whole && in.LoadBalancer != nil && in.LoadBalancer.Status.Git != nil {
		out = append(out, in.LoadBalancer.Status.Git.Held...)
	}
	if in.State != nil {
		for _, h := range in.State.Status.Held {
			if slices.Contains(in.Paths, h.Path) {
				out = append(out, h)
			}
		}
	}
	for i := range out {
		out[i].Path = ""
	}
	slices.SortFunc(out, func(a, b v1alpha1.HeldField) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Commit, b.Commit), cmp.Compare(a.Author, b.Author))
	})
	return slices.Compact(out)
}

// pendingFields is for what waits as heldFields is for what is held.
func pendingFields(in Input) []v1alpha1.PendingField {
	var out []v1alpha1.PendingField
	whole := in.State != nil && int(in.State.Status.PendingCount) == len(in.State.Status.Pending)
	if !whole && in.LoadBalancer != nil && in.LoadBalancer.Status.Git != nil {
		out = append(out, in.LoadBalancer.Status.Git.Pending...)
	}
	if in.State != nil {
		for _, p := range in.State.Status.Pending {
			if slices.Contains(in.Paths, p.Path) {
				out = append(out, p)
			}
		}
	}
	for i := range out {
		out[i].Path = ""
	}
	slices.SortFunc(out, func(a, b v1alpha1.PendingField) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(out)
}

func problems(in Input) []v1alpha1.Problem {
	out := append(slices.Clone(in.Problems), dualStack(in)...)
	if in.LoadBalancer != nil {
		out = append(out, in.LoadBalancer.Status.Problems...)
	}
	if in.Backend != nil {
		out = append(out, in.Backend.Status.Problems...)
	}
	if in.State != nil {
		for _, p := range in.State.Status.Problems {
			if slices.Contains(in.Paths, p.Path) {
				out = append(out, p)
			}
		}
	}
	for i := range out {
		out[i].Path, out[i].Object = "", ""
	}
	slices.SortStableFunc(out, func(a, b v1alpha1.Problem) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(out)
}

// dualStack says that a Service which requires an address of each family has not
// got them.
func dualStack(in Input) []v1alpha1.Problem {
	policy := in.Service.Spec.IPFamilyPolicy
	if !in.InScope || in.LoadBalancer == nil || policy == nil || *policy != corev1.IPFamilyPolicyRequireDualStack {
		return nil
	}
	published := addresses(corev1.ServiceStatus{LoadBalancer: in.LoadBalancer.Status.LoadBalancer})
	if published == "" || strings.Contains(published, ":") && strings.Contains(published, ".") {
		return nil
	}
	return []v1alpha1.Problem{{Field: "spec.ipFamilyPolicy", Reason: ReasonNoDualStack,
		Message: "RequireDualStack asks for an address of each family; the load balancer has only " + published,
		Remedy:  "ask for one IPv4 and one IPv6 address of the pools with the annotation " + v1alpha1.AnnotationAddresses + ", or write PreferDualStack"}}
}

func heldSentence(h v1alpha1.HeldField) string {
	what, who := cmp.Or(h.Field, "the whole load balancer"), "a commit"
	if len(h.Commit) == 40 {
		who = "commit " + h.Commit[:12]
	}
	if h.Author != "" {
		who += " of " + h.Author
	}
	return fmt.Sprintf("%s does not follow this Service, because %s on main changed it", what, who)
}

func pendingSentence(p v1alpha1.PendingField) string {
	what := cmp.Or(p.Field, "the whole load balancer")
	switch p.Reason {
	case v1alpha1.PendingReview:
		return what + " waits for review"
	case v1alpha1.PendingGuard:
		return what + " waits, because too many objects disappeared at once: confirm that"
	case v1alpha1.PendingInvalid:
		return what + " waits, because with what is on main it would not be valid"
	}
	return what + " waits: " + p.Reason
}

// How sentences begin that say where something is reviewed.
const (
	reviewAt = "review at "
	reviewOn = "review on the branch review/"
)

// cutReview parts what a message says of the place of a review, if anything,
// from what waits.
func cutReview(message string) (place, what string) {
	if strings.HasPrefix(message, reviewAt) || strings.HasPrefix(message, reviewOn) {
		place, what, _ = strings.Cut(message, separator)
		return place, what
	}
	return "", message
}

// reviewSentence says where people decide what waits for review.
func reviewSentence(in Input, pending []v1alpha1.PendingField) []string {
	waits := slices.ContainsFunc(pending, func(p v1alpha1.PendingField) bool { return p.Reason == v1alpha1.PendingReview })
	switch {
	case !waits || in.State == nil || in.State.Status.Review == nil:
		return nil
	case in.State.Status.Review.URL != "":
		return []string{reviewAt + in.State.Status.Review.URL}
	}
	return []string{reviewOn + strings.TrimPrefix(in.State.Namespace, v1alpha1.TenantNamespacePrefix)}
}

func problemSentence(p v1alpha1.Problem) string {
	s := p.Message
	if p.Field != "" {
		s = p.Field + ": " + s
	}
	if p.Remedy != "" {
		s += " (remedy: " + p.Remedy + ")"
	}
	return s
}

func sentences[T any](items []T, say func(T) string) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = say(item)
	}
	return out
}

// separator is between sentences.
const separator = "; "

// join puts sentences together, as many as fit.
func join(sentences []string) string {
	var b strings.Builder
	for i, s := range sentences {
		if i > 0 {
			if b.Len()+len(s) > maxMessage {
				fmt.Fprintf(&b, "; and %d more", len(sentences)-i)
				break
			}
			b.WriteString(separator)
		}
		b.WriteString(s)
	}
	return b.String()
}
