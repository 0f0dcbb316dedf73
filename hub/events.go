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
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"golang.org/x/time/rate"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=gitsources;routes;tenants;configs,verbs=get;list;watch
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch

// Limits of Events. What is not told is in the conditions all the same.
const (
	eventsPerObject = rate.Limit(0.1) // a second
	eventsAtOnce    = 10              // of one object
	eventsInAll     = rate.Limit(5)   // a second
	eventsInAllOnce = 50
	eventNote       = 1000 // bytes; the API takes 1,024
)

// heralds make Events of what changes in the status of GitSources, Tenants, Routes
// and Configs, whoever writes it: `kubectl describe` shows what happened when. Load
// balancers and SyncSecrets have theirs from their controllers. Only the leader
// tells, and only of changes that it sees: a hub that starts tells nothing anew.
type heralds struct {
	manager manager.Manager
	events  eventRecorder

	mu       sync.Mutex
	inAll    *rate.Limiter
	byObject map[types.UID]*rate.Limiter
}

func (h *hub) setupEvents(mgr manager.Manager, _ *measures) error {
	return mgr.Add(newHeralds(mgr, mgr.GetEventRecorder(fieldManager)))
}

func newHeralds(mgr manager.Manager, events eventRecorder) *heralds {
	return &heralds{manager: mgr, events: events, inAll: rate.NewLimiter(eventsInAll, eventsInAllOnce), byObject: map[types.UID]*rate.Limiter{}}
}

// NeedLeaderElection is part of manager.LeaderElectionRunnable.
func (h *heralds) NeedLeaderElection() bool { return true }

// Start is part of manager.Runnable.
func (h *heralds) Start(ctx context.Context) error {
	for _, kind := range []client.Object{&v1alpha1.GitSource{}, &v1alpha1.Tenant{}, &v1alpha1.Route{}, &v1alpha1.Config{}} {
		informer, err := h.manager.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("hub: watch %T for Events: %w", kind, err)
		}
		registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			UpdateFunc: func(before, after any) { h.compare(before.(client.Object), after.(client.Object)) },
			DeleteFunc: h.forget,
		})
		if err != nil {
			return fmt.Errorf("hub: watch %T for Events: %w", kind, err)
		}
		defer func() { _ = informer.RemoveEventHandler(registration) }()
	}
	<-ctx.Done()
	return nil
}

func (h *heralds) forget(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	if o, ok := object.(client.Object); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.byObject, o.GetUID())
	}
}

// compare tells what is news in an object.
func (h *heralds) compare(before, after client.Object) {
	for _, n := range newsOf(before, after) {
		if !h.allow(after.GetUID()) {
			return
		}
		h.events.Eventf(after, nil, n.kind, n.reason, "Report", "%s", v1alpha1.Printable(n.note, eventNote))
	}
}

func (h *heralds) allow(object types.UID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	limiter := h.byObject[object]
	if limiter == nil {
		limiter = rate.NewLimiter(eventsPerObject, eventsAtOnce)
		h.byObject[object] = limiter
	}
	now := time.Now()
	return limiter.AllowN(now, 1) && h.inAll.AllowN(now, 1)
}

// news is an Event that is to be made.
type news struct{ kind, reason, note string }

// newsOf compares what two versions of an object say of themselves: conditions
// whose status or reason changed, and problems that were not there before. It is
// pure.
func newsOf(before, after client.Object) (out []news) {
	old, oldProblems := saidBy(before)
	now, problems := saidBy(after)
	for _, c := range now {
		was := apimeta.FindStatusCondition(old, c.Type)
		if was != nil && was.Status == c.Status && was.Reason == c.Reason {
			continue
		}
		if kind := kindOf(c, was); kind != "" {
			out = append(out, news{kind, c.Reason, c.Message})
		}
	}
	for _, p := range problems {
		if !slices.Contains(oldProblems, p) {
			out = append(out, news{corev1.EventTypeWarning, p.Reason, textOf(p)})
		}
	}
	return out
}

// kindOf says which kind of Event a changed condition makes; empty is none.
func kindOf(c metav1.Condition, was *metav1.Condition) string {
	quiet := slices.Contains([]string{
		v1alpha1.ReasonProgressing, v1alpha1.ReasonNotRestored, v1alpha1.ReasonSuspended, v1alpha1.ReasonDraining, v1alpha1.PhaseTerminating,
	}, c.Reason)
	switch {
	case !slices.Contains([]string{meta.ReadyCondition, v1alpha1.ConditionWebhookReady, v1alpha1.ConditionHeard, v1alpha1.ConditionArchived}, c.Type):
		return "" // Reconciling and Stalled say what Ready says
	case c.Status == metav1.ConditionTrue && was == nil && c.Type != meta.ReadyCondition:
		return ""
	case c.Status == metav1.ConditionTrue, quiet:
		return corev1.EventTypeNormal
	case c.Type == v1alpha1.ConditionHeard && was == nil:
		return "" // nobody was heard before the CCM is installed
	}
	return corev1.EventTypeWarning
}

// saidBy returns the conditions and problems of an object.
func saidBy(object client.Object) ([]metav1.Condition, []v1alpha1.Problem) {
	switch o := object.(type) {
	case *v1alpha1.GitSource:
		return o.Status.Conditions, o.Status.Problems
	case *v1alpha1.Tenant:
		if o.Status.Git != nil {
			return o.Status.Conditions, o.Status.Git.Problems
		}
		return o.Status.Conditions, nil
	case *v1alpha1.Route:
		return o.Status.Conditions, o.Status.Problems
	case *v1alpha1.Config:
		return o.Status.Conditions, nil
	}
	return nil, nil
}

// textOf is a problem as an Event's note.
func textOf(p v1alpha1.Problem) string {
	var words []string
	for _, word := range []string{p.Object, p.Field, p.Message} {
		if word != "" {
			words = append(words, word)
		}
	}
	text := strings.Join(words, ": ")
	if p.Remedy != "" {
		text += " (" + p.Remedy + ")"
	}
	return text
}
