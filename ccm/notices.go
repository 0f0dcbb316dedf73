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

package ccm

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

// Reasons of problems that concern all Services.
const (
	ReasonGitUnreachable  = "GitUnreachable"
	ReasonGitUnauthorized = "GitUnauthorized"
	ReasonGitHostKey      = "GitHostKeyMismatch"
	ReasonPushRefused     = "PushRefused"
	ReasonForeignCluster  = "ForeignCluster"
	ReasonStatusRefused   = "StatusRefused"
	ReasonHubSilent       = "HubSilent"
	ReasonHubKeyReplaced  = "HubKeyReplaced"
	ReasonNoRecipients    = "NoRecipients"
	ReasonBadRecipients   = "BadRecipients"
)

// notice says what a problem is about; there is at most one problem of each.
type notice int

const (
	noticeGit notice = iota
	noticeNodes
	noticeIntent
	noticeStatus
	noticeSilence // the hub says nothing of them
	noticeSealing
	noticeTenant
	noticeKeys // another hub key was given than the believed ones
	noticeCount
)

// everyone reports whether Services that have an address are told as well.
func (n notice) everyone() bool {
	return n == noticeIntent || n == noticeStatus || n == noticeTenant || n == noticeSilence || n == noticeKeys
}

// services reports whether Services are told at all.
func (n notice) services() bool { return n != noticeSealing }

// notices are problems that concern more than one object. They are
// Events on the ConfigMap with the CCM's state, and conditions of the Services.
type notices struct {
	recorder events.EventRecorder
	about    runtime.Object
	changed  func()

	mu       sync.Mutex
	problems [noticeCount]*v1alpha1.Problem
}

func newNotices(recorder events.EventRecorder, about runtime.Object, changed func()) *notices {
	return &notices{recorder: recorder, about: about, changed: changed}
}

// set notes a problem. It reports whether it is a new one.
func (n *notices) set(which notice, problem v1alpha1.Problem) bool {
	problem = problem.Bounded() // it may repeat what others wrote
	n.mu.Lock()
	old := n.problems[which]
	n.problems[which] = &problem
	n.mu.Unlock()
	if old != nil && old.Reason == problem.Reason {
		if *old != problem {
			n.changed() // in other words
		}
		return false
	}
	emit(n.recorder, n.about, corev1.EventTypeWarning, problem.Reason, problem.Message)
	n.changed()
	return true
}

// clear notes that there is no such problem any more.
func (n *notices) clear(which notice) {
	n.mu.Lock()
	old := n.problems[which]
	n.problems[which] = nil
	n.mu.Unlock()
	if old == nil {
		return
	}
	emit(n.recorder, n.about, corev1.EventTypeNormal, old.Reason+"Solved", "solved: "+old.Message)
	n.changed()
}

// remind renews the Events about the problems that there are.
func (n *notices) remind() {
	n.mu.Lock()
	problems := n.problems
	n.mu.Unlock()
	for _, problem := range problems {
		if problem != nil {
			emit(n.recorder, n.about, corev1.EventTypeWarning, problem.Reason, problem.Message)
		}
	}
}

// has reports whether there is such a problem.
func (n *notices) has(which notice) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.problems[which] != nil
}

// tell makes Events of problems of one source object that has no conditions, on
// the object and on the ConfigMap.
func (n *notices) tell(object runtime.Object, problems []v1alpha1.Problem) {
	for _, p := range problems {
		note := p.Message
		if p.Remedy != "" {
			note += "; remedy: " + p.Remedy
		}
		emit(n.recorder, object, corev1.EventTypeWarning, p.Reason, note)
		// Events that differ in their words only are one Event: the object tells them apart.
		n.recorder.Eventf(n.about, object, corev1.EventTypeWarning, p.Reason, action, "%s", shortNote(p.Object+": "+note))
	}
}

// of returns the problems that a Service with or without an address is told.
func (n *notices) of(address bool) []v1alpha1.Problem {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []v1alpha1.Problem
	for which, problem := range n.problems {
		if problem != nil && notice(which).services() && (!address || notice(which).everyone()) {
			out = append(out, *problem)
		}
	}
	return out
}

// tenantProblem is why the hub does not follow the tenant, nil if it does.
func tenantProblem(state *v1alpha1.TenantState) *v1alpha1.Problem {
	if state == nil {
		return nil
	}
	c := apimeta.FindStatusCondition(state.Status.Conditions, meta.ReadyCondition)
	if c == nil || c.Status != metav1.ConditionFalse {
		return nil
	}
	return &v1alpha1.Problem{Reason: c.Reason, Message: "the hub does not follow this cluster: " + c.Message}
}

// pushProblem says why the Git server does not take the intents.
func pushProblem(ref string, err error) v1alpha1.Problem {
	problem := v1alpha1.Problem{Reason: ReasonPushRefused, Message: "the Git server does not accept the intents: " + err.Error(),
		Remedy: "give the CCM's Git user the right to write " + ref}
	var rejected *git.RejectedError
	if errors.As(err, &rejected) && rejected.NotStored() {
		problem.Remedy = "look at the Git server's disk and log; it is tried again"
	}
	return problem
}

// theSecret stands for the Secret with the credentials where its name is not known.
const theSecret = "the Secret that --git-secret names"

// withSecret names the Secret with the credentials in a problem's remedy, with the
// flag beside it.
func withSecret(p v1alpha1.Problem, namespace, name string) v1alpha1.Problem {
	if name != "" {
		p.Remedy = strings.ReplaceAll(p.Remedy, theSecret, fmt.Sprintf("the Secret %s/%s (--git-secret)", namespace, name))
	}
	return p
}

// gitProblem says what keeps the CCM from the repository. Only what will not pass
// by itself has another reason than ReasonGitUnreachable.
func gitProblem(err error) v1alpha1.Problem {
	var mistake *git.SecretError
	var hostKey *git.HostKeyError
	switch {
	case errors.As(err, &mistake):
		return v1alpha1.Problem{Reason: ReasonGitUnauthorized, Message: "the credentials for the Git repository cannot be used: " + err.Error(),
			Remedy: "correct that Secret; it is read again by itself"}
	case errors.As(err, &hostKey):
		return v1alpha1.Problem{Reason: ReasonGitHostKey, Message: hostKey.Error(),
			Remedy: "compare the fingerprint with what the server's operator publishes: if it is right, put the key into known_hosts of " + theSecret + "; if not, somebody stands between"}
	case errors.Is(err, git.ErrUnauthorized):
		return v1alpha1.Problem{Reason: ReasonGitUnauthorized, Message: "the Git server refuses the credentials",
			Remedy: "put valid credentials into " + theSecret + "; it is read again by itself"}
	}
	return v1alpha1.Problem{Reason: ReasonGitUnreachable, Message: "the Git repository cannot be reached",
		Remedy: "none is needed if this passes; else look at --git-url and the CCM's log"}
}

const (
	action = "Reconcile"
	// maxNote bounds the text of an Event, in bytes.
	maxNote = 1000
)

func emit(recorder events.EventRecorder, about runtime.Object, kind, reason, note string) {
	recorder.Eventf(about, nil, kind, reason, action, "%s", shortNote(note))
}

func shortNote(note string) string {
	if len(note) > maxNote {
		return strings.ToValidUTF8(note[:maxNote], "") + "…"
	}
	return note
}
