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

package gitsync

import (
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// failure is why a repository cannot be followed, as people are told.
type failure struct {
	reason, message string
	stalled         bool   // waits for people; else it is tried again with back-off
	stop            bool   // what is on main must not be applied
	secret          bool   // another Secret may heal it
	refused         bool   // these credentials do not get on with the server
	accepts         string // the commit of main that people may accept; empty: there is nothing to accept
}

// Error makes a failure an error on its way up.
func (f *failure) Error() string { return f.message }

// explain maps an error to what people are told. It is the only such place.
func explain(err error, source *v1alpha1.GitSource) failure {
	var known *failure
	if errors.As(err, &known) {
		return *known
	}
	if f := explainAccess(err, source); f != nil {
		return *f
	}
	where := redact(source.Spec.URL)
	var rejected *git.RejectedError
	switch {
	case errors.As(err, &rejected) && rejected.NotStored():
		return failure{reason: v1alpha1.ReasonPushFailed,
			message: fmt.Sprintf("%s cannot store the hub's commits (%v): look at the Git server's disk and log; it is tried again", where, err)}
	case errors.Is(err, git.ErrNotFound):
		return failure{reason: v1alpha1.ReasonRepositoryInvalid, stalled: true,
			message: fmt.Sprintf("there is no repository at %s (%v): correct spec.url, make the repository, or let the credentials read it", where, err)}
	case errors.Is(err, git.ErrProtocol):
		return failure{reason: v1alpha1.ReasonRepositoryInvalid,
			message: fmt.Sprintf("%s does not answer like a Git server (%v): correct spec.url", where, err)}
	case errors.Is(err, git.ErrRejected), errors.Is(err, git.ErrUnknownOutcome):
		return failure{reason: v1alpha1.ReasonPushFailed,
			message: fmt.Sprintf("%s does not take the hub's commits (%v): allow the hub to push to %s, base/*, review/* and status/*", where, err, source.Spec.Branch)}
	case errors.Is(err, git.ErrUnavailable) && (errors.Is(err, git.ErrMissing) || errors.Is(err, git.ErrMalformed)):
		return failure{reason: v1alpha1.ReasonGitUnavailable,
			message: fmt.Sprintf("%s does not hand out what it has (%v): run git fsck in the repository on the server, and restore what is missing; everything stays as it is until then", where, err)}
	case errors.Is(err, git.ErrUnavailable):
		return failure{reason: v1alpha1.ReasonGitUnavailable,
			message: fmt.Sprintf("%s does not serve (%v): look at the Git server and the network; everything stays as it is until then", where, err)}
	}
	return failure{reason: meta.FailedReason, message: err.Error()}
}

// redact removes what may be secret from a URL.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the repository of spec.url"
	}
	if u.User != nil {
		u.User = nil
	}
	return u.String()
}

// maxCondition bounds the message of a condition, in bytes: a problem and its
// remedy have room.
const maxCondition = 4 * v1alpha1.MaxMessage

// setConditions writes Ready, Reconciling and Stalled as kstatus wants them.
func setConditions(conditions []metav1.Condition, f *failure, success string, generation int64, now metav1.Time) []metav1.Condition {
	conditions = slices.Clone(conditions)
	if f != nil { // it may repeat what others wrote
		f = &failure{reason: f.reason, message: v1alpha1.Printable(f.message, maxCondition), stalled: f.stalled}
	}
	set := func(kind string, status metav1.ConditionStatus, reason, message string) {
		apimeta.SetStatusCondition(&conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation, LastTransitionTime: now,
		})
	}
	switch {
	case f == nil:
		set(meta.ReadyCondition, metav1.ConditionTrue, meta.SucceededReason, success)
	case f.stalled:
		set(meta.ReadyCondition, metav1.ConditionFalse, f.reason, f.message)
		set(meta.StalledCondition, metav1.ConditionTrue, f.reason, f.message)
	default:
		set(meta.ReadyCondition, metav1.ConditionFalse, f.reason, f.message)
		set(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingWithRetryReason, f.message)
	}
	if f == nil || !f.stalled {
		apimeta.RemoveStatusCondition(&conditions, meta.StalledCondition)
	}
	if f == nil || f.stalled {
		apimeta.RemoveStatusCondition(&conditions, meta.ReconcilingCondition)
	}
	return conditions
}
