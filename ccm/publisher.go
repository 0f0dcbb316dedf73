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
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// How changes are put together: the first after a quiet spell goes at once, the
// next ones wait for the same quiet, but not for ever.
const (
	quietSpell = 100 * time.Millisecond
	maxWait    = time.Second
	maxBackoff = 30 * time.Second
)

var (
	errForeign    = errors.New("another cluster writes the intent branch")
	errSuperseded = errors.New("a newer leader wrote the intent branch")
)

// publisher renders what changed and pushes it: the one writer of the intent
// branch.
type publisher struct {
	*engine
	upstream *upstream
	ref      string
	log      logr.Logger

	// Set before run.
	signer  *git.Signer
	cluster string
	epoch   int64

	wake   chan struct{}
	resume chan struct{} // the Git server answers again
	mu     sync.Mutex
	// What changed since the last gathering.
	dirty        map[types.NamespacedName]bool
	nodesDirty   bool
	dirtySecrets dirtySecrets
	generation   int64       // pushed last
	doubted      bool        // the hub refuses what it found on the branch
	nextSigner   *git.Signer // takes signer's place

	// Of the running goroutine alone.
	store     *git.Store
	renewal   git.Renewal
	located   bool // tip is what the server has, as far as is known
	tip       git.Hash
	tree      git.Hash
	tipNumber int64 // generation of the tip
	mayAdopt  bool
	takeOver  bool // push even if nothing differs
	pushes    int
	readiness readiness
	gathered  bool
	sealer    sealer
	health    *healthPort
}

func newPublisher(e *engine, u *upstream) *publisher {
	p := &publisher{
		engine: e, upstream: u, ref: repo.IntentRef(e.options.Tenant), log: e.log.WithName("publisher"),
		wake: make(chan struct{}, 1), resume: make(chan struct{}, 1), dirty: map[types.NamespacedName]bool{}, nodesDirty: true, dirtySecrets: dirtySecrets{},
		store: git.NewStore(), mayAdopt: e.options.Adopt, readiness: newReadiness(),
	}
	p.health = newHealthPort(e.options.HealthCheckPort, p.markNodes)
	return p
}

// markService has a Service rendered again.
func (p *publisher) markService(name types.NamespacedName) {
	p.mu.Lock()
	p.dirty[name] = true
	p.mu.Unlock()
	p.poke()
}

// markNodes has the nodes rendered again.
func (p *publisher) markNodes() {
	p.mu.Lock()
	p.nodesDirty = true
	p.mu.Unlock()
	p.poke()
}

func (p *publisher) poke() { signal(p.wake) }

// doubt has the branch looked at again: somebody else may have moved it.
func (p *publisher) doubt() {
	p.mu.Lock()
	p.doubted = true
	p.mu.Unlock()
	p.poke()
}

// retry ends a back-off early.
func (p *publisher) retry() { signal(p.resume) }

// signal leaves a signal in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pushed returns the generation of the last commit that was pushed, 0 before.
func (p *publisher) pushed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation
}

// run publishes until the context ends, or until another leader took over.
func (p *publisher) run(ctx context.Context) error {
	p.poke()
	var last time.Time // of the last commit
	backoff := time.Duration(0)
	for {
		if !p.await(ctx, last) {
			return nil
		}
		pushed, err := p.publish(ctx)
		if pushed {
			last = time.Now()
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of the program is no failure
		case errors.Is(err, errSuperseded):
			return fmt.Errorf("publish: %w", err)
		case err == nil:
			backoff = 0
			continue
		}
		p.afterFailure(err)
		backoff = min(max(2*backoff, 250*time.Millisecond), maxBackoff)
		p.log.Error(err, "intents are not published", "again", backoff)
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.resume:
		}
		timer.Stop()
		p.poke()
	}
}

// await returns when there is something to publish, and enough of it.
func (p *publisher) await(ctx context.Context, last time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-p.wake:
	}
	if time.Since(last) >= quietSpell {
		return true
	}
	enough := time.NewTimer(maxWait)
	defer enough.Stop()
	for {
		quiet := time.NewTimer(quietSpell)
		select {
		case <-ctx.Done():
			quiet.Stop()
			return false
		case <-enough.C:
			quiet.Stop()
			return true
		case <-quiet.C:
			return true
		case <-p.wake:
			quiet.Stop()
		}
	}
}

// publish makes the branch what the cluster wants. It reports whether that took
// a commit.
func (p *publisher) publish(ctx context.Context) (bool, error) {
	p.changeSigner()
	if err := p.gatherServices(ctx); err != nil {
		return false, err
	}
	repository := p.answers.repository()
	if repository == "" {
		return false, nil // the observer wakes us when it knows
	}
	for attempt := 0; ; attempt++ {
		if err := p.relocate(ctx); err != nil {
			return false, err
		}
		if err := p.gatherNodes(ctx); err != nil {
			return false, err
		}
		if err := p.gatherSecrets(ctx); err != nil {
			return false, err
		}
		pushed, err := p.advance(ctx, repository)
		if err == nil {
			p.notices.clear(noticeIntent)
			return pushed, nil
		}
		if !errors.Is(err, git.ErrRejected) && !errors.Is(err, git.ErrUnknownOutcome) {
			return false, err
		}
		old := p.tip
		p.located = false
		if err := p.locate(ctx); err != nil {
			return false, err
		}
		if p.tip == old || attempt > 3 {
			if errors.Is(err, git.ErrRejected) {
				p.notices.set(noticeIntent, pushProblem(p.ref, err))
			}
			return false, err
		}
	}
}

// gatherServices renders the Services that changed, the first time all.
func (p *publisher) gatherServices(ctx context.Context) error {
	p.mu.Lock()
	dirty := p.dirty
	p.dirty = map[types.NamespacedName]bool{}
	p.mu.Unlock()
	if err := p.renderServices(ctx, dirty); err != nil {
		p.mu.Lock()
		for name := range dirty {
			p.dirty[name] = true
		}
		p.mu.Unlock()
		return err
	}
	if len(dirty) > 0 {
		p.log.V(1).Info("stage", "stage", "rendered", "services", slices.Collect(maps.Keys(dirty)))
	}
	return nil
}

func (p *publisher) renderServices(ctx context.Context, dirty map[types.NamespacedName]bool) error {
	if !p.gathered {
		var list corev1.ServiceList
		if err := p.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list Services: %w", err)
		}
		for i := range list.Items {
			p.renderService(&list.Items[i])
		}
		p.gathered = true
		p.count()
		return nil
	}
	for name := range dirty {
		var service corev1.Service
		err := p.cache.Get(ctx, name, &service)
		switch {
		case apierrors.IsNotFound(err):
			p.content.remove(serviceOrigin(name), false)
		case err != nil:
			return fmt.Errorf("get Service %s: %w", name, err)
		default:
			p.renderService(&service)
		}
	}
	if len(dirty) > 0 {
		p.count()
	}
	return nil
}

func (p *publisher) renderService(service *corev1.Service) {
	name := client.ObjectKeyFromObject(service)
	guarded := controllerutil.ContainsFinalizer(service, v1alpha1.Finalizer)
	if _, known := p.content.lookup(serviceOrigin(name)); !known && !guarded && !render.InScope(service, p.options.render()) {
		return // never was ours
	}
	documents, problems := render.Service(service, p.options.render())
	if p.content.put(serviceOrigin(name), rendered{
		uid: service.UID, guarded: guarded, deleting: service.DeletionTimestamp != nil,
		documents: documents, problems: problems,
	}) {
		p.statuses.add(name)
	}
}

func (p *publisher) count() {
	managedServices.Reset()
	for namespace, n := range p.content.managed(kindService) {
		managedServices.WithLabelValues(namespace).Set(float64(n))
	}
}
