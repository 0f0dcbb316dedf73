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

package testbed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Stage is a station on the way of one change, in the order of docs/design.md.
type Stage string

// The stages, as they are seen from outside: pushes by the Git server, objects
// by watches on the two API servers.
const (
	StageCreated    Stage = "created"    // the source object is in the tenant's API server
	StagePushed     Stage = "pushed"     // the intent is on intent/<tenant>
	StageIntegrated Stage = "integrated" // the change is on main
	StageApplied    Stage = "applied"    // the object is in the hub's API server
	StageAssigned   Stage = "assigned"   // it has an address
	StageProgrammed Stage = "programmed" // Envoy acknowledged it and the address is published
	StageReported   Stage = "reported"   // the answer is on status/<tenant>
	StageAddressed  Stage = "addressed"  // Service.status has the address
)

// Stages lists the stages in order.
var Stages = []Stage{StageCreated, StagePushed, StageIntegrated, StageApplied, StageAssigned, StageProgrammed, StageReported, StageAddressed}

// Mark is one entry of a trail.
type Mark struct {
	Stage Stage
	// Tenant and, for objects, the name in the hub: shop.web.
	Tenant, Object string
	// Commit of a push.
	Commit string
	At     time.Time
}

// Trail notes, by one clock, when what came by.
type Trail struct {
	mu    sync.Mutex
	marks []Mark
	news  chan struct{}
}

func newTrail() *Trail { return &Trail{news: make(chan struct{})} }

// Note adds a mark, now.
func (t *Trail) Note(mark Mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mark.At = time.Now()
	t.marks = append(t.marks, mark)
	close(t.news)
	t.news = make(chan struct{})
}

// Reset forgets all marks.
func (t *Trail) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks = nil
}

// Marks returns what has been noted so far.
func (t *Trail) Marks() []Mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.marks)
}

// Wait returns the first mark after a moment that a condition likes.
func (t *Trail) Wait(ctx context.Context, what string, after time.Time, likes func(Mark) bool) (Mark, error) {
	for {
		t.mu.Lock()
		news, marks := t.news, t.marks
		t.mu.Unlock()
		for _, mark := range marks {
			if mark.At.After(after) && likes(mark) {
				return mark, nil
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Mark{}, fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}

func (t *Trail) pushed(event PushEvent) {
	for _, update := range event.Refs {
		mark := Mark{Commit: update.New}
		switch {
		case update.Name == repo.Main:
			mark.Stage = StageIntegrated
		case strings.HasPrefix(update.Name, repo.IntentRef("")):
			mark.Stage, mark.Tenant = StagePushed, strings.TrimPrefix(update.Name, repo.IntentRef(""))
		case strings.HasPrefix(update.Name, repo.StatusRef("")):
			mark.Stage, mark.Tenant = StageReported, strings.TrimPrefix(update.Name, repo.StatusRef(""))
		default:
			continue
		}
		t.Note(mark)
	}
}

// Follow watches Services of a tenant and LoadBalancers of the hub until the
// context ends, and notes what becomes of them.
func (s *System) Follow(ctx context.Context, tenant string) error {
	if err := follow(ctx, s.Hub, &v1alpha1.LoadBalancerList{}, v1alpha1.TenantNamespace(tenant), func(object runtime.Object, added bool) {
		if lb, ok := object.(*v1alpha1.LoadBalancer); ok {
			s.noteLoadBalancer(tenant, lb, added)
		}
	}); err != nil {
		return err
	}
	return follow(ctx, s.Tenant(tenant).Plane, &corev1.ServiceList{}, "", func(object runtime.Object, added bool) {
		service, ok := object.(*corev1.Service)
		if !ok || service.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return
		}
		name := repo.ObjectName(service.Namespace, service.Name)
		if added {
			s.Trail.Note(Mark{Stage: StageCreated, Tenant: tenant, Object: name})
		}
		if len(service.Status.LoadBalancer.Ingress) > 0 {
			s.Trail.Note(Mark{Stage: StageAddressed, Tenant: tenant, Object: name})
		}
	})
}

func (s *System) noteLoadBalancer(tenant string, lb *v1alpha1.LoadBalancer, added bool) {
	mark := Mark{Tenant: tenant, Object: lb.Name, Commit: lb.Annotations[v1alpha1.AnnotationRevision]}
	note := func(stage Stage) { mark.Stage = stage; s.Trail.Note(mark) }
	if added || lb.Status.ObservedGeneration < lb.Generation {
		note(StageApplied)
	}
	if len(lb.Status.Addresses) > 0 {
		note(StageAssigned)
	}
	if len(lb.Status.LoadBalancer.Ingress) > 0 && lb.Status.ObservedGeneration == lb.Generation {
		note(StageProgrammed)
	}
}

func follow(ctx context.Context, plane *Plane, list client.ObjectList, namespace string, note func(object runtime.Object, added bool)) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	watcher, err := client.NewWithWatch(plane.Config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	if err := watcher.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return err
	}
	since := &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}
	w, err := watcher.Watch(ctx, list, &client.ListOptions{Namespace: namespace, Raw: since})
	if err != nil {
		return err
	}
	go func() {
		defer w.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event, open := <-w.ResultChan():
				if !open {
					return
				}
				if event.Type == watch.Added || event.Type == watch.Modified {
					note(event.Object, event.Type == watch.Added)
				}
			}
		}
	}()
	return nil
}
