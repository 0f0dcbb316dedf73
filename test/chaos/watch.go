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

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// witness notes what must never be true, at whatever moment it is.
type witness struct {
	mu        sync.Mutex
	claims    map[client.ObjectKey][]string // of a LoadBalancer: <address>:<port>/<protocol>
	there     map[string]bool               // <tenant>/<Service>: those that the watch knows
	addresses map[string]map[string]bool    // by <tenant>/<Service>: all that it ever had
	broken    []string
}

func emptyWitness() *witness {
	return &witness{claims: map[client.ObjectKey][]string{}, there: map[string]bool{}, addresses: map[string]map[string]bool{}}
}

// newWitness watches LoadBalancers of the hub and Services of the tenants until
// the context ends.
func newWitness(ctx context.Context, system *testbed.System, tenants []string) (*witness, error) {
	w := emptyWitness()
	err := inform(ctx, system.Hub.Config, system.HubClient, &v1alpha1.LoadBalancer{}, func(object any, gone bool) {
		if lb, ok := object.(*v1alpha1.LoadBalancer); ok {
			w.loadBalancer(lb, gone)
		}
	})
	for _, tenant := range tenants {
		err = errors.Join(err, inform(ctx, system.Tenant(tenant).Config, system.TenantClient(tenant), &corev1.Service{}, func(object any, gone bool) {
			if service, ok := object.(*corev1.Service); ok && service.Namespace == namespace {
				w.service(tenant, service, gone)
			}
		}))
	}
	return w, err
}

// inform tells of every version of a kind's objects that a watch sees.
func inform(ctx context.Context, config *rest.Config, c client.Client, kind client.Object, tell func(object any, gone bool)) error {
	objects, err := cache.New(config, cache.Options{Scheme: c.Scheme()})
	if err != nil {
		return err
	}
	informer, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell(object, false) },
		UpdateFunc: func(_, object any) { tell(object, false) },
		DeleteFunc: func(object any) {
			if last, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = last.Obj
			}
			tell(object, true)
		},
	})
	if err != nil {
		return err
	}
	go func() { _ = objects.Start(ctx) }()
	if !objects.WaitForCacheSync(ctx) {
		return fmt.Errorf("the watch of %T did not begin: %w", kind, ctx.Err())
	}
	return nil
}

// loadBalancer checks that no two load balancers publish one address and port.
func (w *witness) loadBalancer(lb *v1alpha1.LoadBalancer, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(lb)
	delete(w.claims, key)
	if gone {
		return
	}
	var own []string
	for _, ingress := range lb.Status.LoadBalancer.Ingress {
		for p := range strings.SplitSeq(lb.Status.Ports, ",") {
			own = append(own, ingress.IP+":"+strings.TrimSpace(p))
		}
	}
	for other, claims := range w.claims {
		for _, claim := range own {
			if slices.Contains(claims, claim) {
				w.broken = append(w.broken, fmt.Sprintf("%s and %s both publish %s", key, other, claim))
			}
		}
	}
	w.claims[key] = own
}

// service checks that a Service never has another address than before.
func (w *witness) service(tenant string, service *corev1.Service, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := tenant + "/" + service.Name
	if gone {
		delete(w.there, key)
		return
	}
	w.there[key] = true
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if w.addresses[key] == nil {
			w.addresses[key] = map[string]bool{}
		}
		if w.addresses[key][ingress.IP] {
			continue
		}
		w.addresses[key][ingress.IP] = true
		if len(w.addresses[key]) > 1 {
			w.broken = append(w.broken, fmt.Sprintf("Service %s had the addresses %v", key, slices.Sorted(maps.Keys(w.addresses[key]))))
		}
	}
}

// empty returns an error while the watches know of a Service or load balancer.
func (w *witness) empty() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.there)+len(w.claims) > 0 {
		return fmt.Errorf("the watches know of the Services %v and of %d load balancers", w.there, len(w.claims))
	}
	return nil
}

// take returns what was broken and begins anew.
func (w *witness) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	broken := w.broken
	w.broken, w.addresses = nil, map[string]map[string]bool{}
	return broken
}

// traffic asks a Service that nobody changes, again and again.
type traffic struct {
	mu      sync.Mutex
	excused bool
	since   time.Time // an answer to a question asked after this ends the excuse; zero: none does
	asked   int
	broken  []string
}

// excuse says that Envoy is being ended or paused (begin), or that this is over:
// from then on the next answer ends the excuse.
func (t *traffic) excuse(begin bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.excused, t.since = true, time.Time{}
	if !begin {
		t.since = time.Now()
	}
}

// ask asks until the context ends.
func (t *traffic) ask(ctx context.Context, tenant, address string) {
	for ctx.Err() == nil {
		begin := time.Now()
		_, err := testbed.AskHTTP(ctx, address)
		if ctx.Err() != nil {
			return
		}
		t.note(tenant, begin, err)
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (t *traffic) note(tenant string, begin time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked++
	switch {
	case err == nil && !t.since.IsZero() && begin.After(t.since):
		t.excused, t.since = false, time.Time{}
	case err != nil && !t.excused:
		t.broken = append(t.broken, fmt.Sprintf("%s: a request to the steady Service of %s failed: %v", begin.Format(clock), tenant, err))
	}
}

func (t *traffic) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	broken := t.broken
	t.broken = nil
	return broken
}

// supervisor starts hub and CCMs again when they end, as a kubelet does: not
// sooner than backOff after the last time.
type supervisor struct {
	system  *testbed.System
	tenants []string
	note    func(format string, args ...any)

	mu     sync.Mutex
	held   map[target]bool
	last   map[target]time.Time
	starts int
}

const backOff = time.Second

// run supervises until the context ends.
func (s *supervisor) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.look()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *supervisor) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(target{Part: "hub"}, s.system.HubProcess(), s.system.StartHub)
	for _, tenant := range s.tenants {
		s.keep(target{"ccm", tenant}, s.system.CCMProcess(tenant), func() error { return s.system.RestartCCM(tenant) })
	}
}

func (s *supervisor) keep(t target, p *testbed.Process, start func() error) {
	if s.held[t] || p.Alive() || time.Since(s.last[t]) < backOff {
		return
	}
	s.last[t] = time.Now()
	s.starts++
	s.note("start %s", t)
	if err := start(); err != nil {
		s.note("start %s: %v", t, err)
	}
}

func (s *supervisor) hold(t target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[t] = true
}

// release leaves a part to itself again; one that has ended is started at once.
func (s *supervisor) release(t target) {
	s.mu.Lock()
	delete(s.held, t)
	delete(s.last, t)
	s.mu.Unlock()
	s.look()
}
