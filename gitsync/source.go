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
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const defaultInterval = 10 * time.Second

// load reads the GitSource, its credentials and its tenants. exists is false
// when the source is gone; its loop is about to be stopped then.
func (l *loop) load(ctx context.Context) (exists bool, err error) {
	var source v1alpha1.GitSource
	if err := l.client.Get(ctx, l.key, &source); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return l.source != nil, fmt.Errorf("get GitSource: %w", err)
	}
	if l.source != nil && l.source.Spec.Apply != source.Spec.Apply {
		l.forgetApplied()
	}
	l.source, l.mistakes = &source, mistakesOf(&source)
	if err := l.loadKeys(ctx); err != nil {
		return true, err
	}
	if err := l.loadConfig(ctx); err != nil {
		return true, err
	}
	if err := l.loadTenants(ctx); err != nil {
		return true, err
	}
	l.loadHook(ctx)
	if err := l.mistakes.refused(); err != nil {
		return true, err
	}
	if err := l.connect(ctx); err != nil {
		return true, err
	}
	return true, l.connectForge(ctx)
}

// connect makes a new Remote when the URL or the credentials changed.
func (l *loop) connect(ctx context.Context) error {
	spec := &l.source.Spec
	if l.connected == l.source.Generation && l.failed == nil && l.now().Before(l.connectAt) {
		return nil
	}
	options, err := access(ctx, l.live, l.source)
	if err != nil {
		return err
	}
	made := fingerprint(spec.URL, options)
	l.connected, l.connectAt = l.source.Generation, l.now().Add(l.interval())
	if made == l.credentials {
		if l.failed != nil && l.failed.refused && l.now().Before(l.askAgain) {
			return l.failed // the server need not say again that it refuses these
		}
		return nil
	}
	remote, err := git.NewRemote(spec.URL, options)
	if err != nil {
		return unusable(err)
	}
	l.close()
	l.remote, l.credentials = remote, made
	return nil
}

// fingerprint changes with a repository's address and credentials.
func fingerprint(url string, options git.Options) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q", url, options)))
}

// interval is how often the repository is looked at without news.
func (l *loop) interval() time.Duration { return intervalOf(l.source) }

func intervalOf(source *v1alpha1.GitSource) time.Duration {
	return cmp.Or(max(source.Spec.Interval.Duration, 0), defaultInterval)
}

// mainRef is the branch that is the truth.
func (l *loop) mainRef() string {
	if branch := l.source.Spec.Branch; branch != "" {
		return repo.RefPrefix + branch
	}
	return repo.Main
}

// loadTenants brings the set of tenants up to date. What did not change is only
// passed by, so that a look costs what changed.
func (l *loop) loadTenants(ctx context.Context) error {
	var tenants v1alpha1.TenantList
	if err := l.client.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list Tenants: %w", err)
	}
	var sources v1alpha1.GitSourceList
	if err := l.client.List(ctx, &sources, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list GitSources: %w", err)
	}
	l.lends = lendsTo(tenants.Items, l.key, l.options.Namespace)
	mains := v1alpha1.MainSources(tenants.Items, sources.Items, l.options.Namespace)
	mine := 0
	clear(l.leaving)
	for i := range tenants.Items {
		object := &tenants.Items[i]
		leaves := !object.DeletionTimestamp.IsZero()
		if !repo.ValidTenant(object.Name) || leaves || !l.owns(object, mains) {
			if leaves && l.owns(object, mains) {
				l.leave(object)
			}
			if l.tenants[object.Name] != nil {
				l.drop(object.Name, leaves)
			}
			continue
		}
		mine++
		if err := l.loadTenant(ctx, object); err != nil {
			return err
		}
	}
	if mine != len(l.tenants) {
		l.dropMissing(tenants.Items)
	}
	l.dropLinks()
	l.hold()
	return nil
}

// loadTenant takes a tenant over as the API server has it now. The object is the
// cache's.
func (l *loop) loadTenant(ctx context.Context, object *v1alpha1.Tenant) error {
	t := l.tenants[object.Name]
	if t == nil {
		t = newTenant(object.Name)
		t.status.grows = grew(object)
		l.tenants[object.Name] = t
	}
	if t.object == nil || t.object.ResourceVersion != object.ResourceVersion || t.object.UID != object.UID {
		t.object, t.untold = object.DeepCopy(), true
		t.mistakes = mistakesOfTenant(object)
		l.keep(ctx, t.object)
		l.meet(ctx, t)
		l.want(t)
	}
	if t.state == nil || t.stale {
		return l.loadState(ctx, t)
	}
	return nil
}

// drop forgets a tenant that is no longer the loop's, or that is gone.
func (l *loop) drop(name string, gone bool) {
	if t := l.tenants[name]; t != nil {
		t.unmeasure()
		l.leaveReview(t, gone)
	}
	delete(l.tenants, name)
	delete(l.todo, name)
}

// dropMissing forgets tenants that are gone.
func (l *loop) dropMissing(tenants []v1alpha1.Tenant) {
	there := make(map[string]bool, len(tenants))
	for i := range tenants {
		there[tenants[i].Name] = true
	}
	for name := range l.tenants {
		if !there[name] {
			l.drop(name, true)
		}
	}
}

// owns reports whether a tenant meets the hub in this source's repository.
func (l *loop) owns(t *v1alpha1.Tenant, mains []client.ObjectKey) bool {
	ref := t.Spec.Git.SourceRef
	if ref == nil {
		return len(mains) == 1 && mains[0] == l.key
	}
	return ref.Key(l.options.Namespace) == l.key
}

// loadState reads the tenant's TenantState, which shows that its namespace
// exists.
func (l *loop) loadState(ctx context.Context, t *tenant) error {
	var state v1alpha1.TenantState
	key := client.ObjectKey{Namespace: v1alpha1.TenantNamespace(t.name), Name: v1alpha1.DefaultName}
	err := l.client.Get(ctx, key, &state)
	switch {
	case apierrors.IsNotFound(err) || err == nil && !state.DeletionTimestamp.IsZero():
		t.state, t.told, t.restored, t.stale = nil, nil, false, false
		return nil
	case err != nil:
		return fmt.Errorf("get TenantState of %s: %w", t.name, err)
	}
	if t.state == nil || t.state.UID != state.UID {
		t.told, t.restored, t.applied.known = nil, false, false // the namespace was made anew
	}
	t.state, t.stale, t.untold = &state, false, true
	l.want(t)
	return nil
}
