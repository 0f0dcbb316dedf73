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
	"context"

	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// want has the next turns look at a tenant, until there is nothing to do for it.
func (l *loop) want(t *tenant) { l.todo[t.name] = t }

// rest drops the tenants from todo for which nothing is left to be done.
func (l *loop) rest() {
	for name, t := range l.todo {
		if l.quiet(t) {
			delete(l.todo, name)
		}
	}
}

// quiet reports whether a tenant changes only when something else does: then
// whoever sees that puts it into todo again.
func (l *loop) quiet(t *tenant) bool {
	a, s := &t.applied, &t.status
	switch {
	case t.state == nil:
		return !t.stale // its TenantState's coming is told
	case t.stale, t.untold, !t.restored, !t.seen.known, len(t.regit) > 0:
		return false
	case !s.known, !s.full, len(s.dirty) > 0, !s.due.IsZero(), s.refused != "":
		return false
	}
	return t.suspended() || a.known && a.dir == l.mainDir[t.name] && len(a.retry) == 0 && len(a.guarded) == 0
}

// forgetApplied has everything that is applied read again.
func (l *loop) forgetApplied() {
	for _, t := range l.tenants {
		t.applied.known = false
		l.want(t)
	}
}

// freshen reads the TenantStates again that have changed.
func (l *loop) freshen(ctx context.Context) {
	for name, t := range l.todo {
		if !t.stale {
			continue
		}
		if err := l.loadState(ctx, t); err != nil {
			l.trouble(err, "cannot read a TenantState", name)
		}
	}
}

// loadConfig has every tenant told anew when the hub's Config changed.
func (l *loop) loadConfig(ctx context.Context) error {
	var config v1alpha1.Config
	err := l.client.Get(ctx, client.ObjectKey{Namespace: l.options.Namespace, Name: v1alpha1.DefaultName}, &config)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if config.ResourceVersion == l.config {
		return nil
	}
	l.config = config.ResourceVersion
	for _, t := range l.tenants {
		t.untold = true
		l.want(t)
	}
	return nil
}

// refusals counts the tenants whose status branch the server does not take.
func (l *loop) refusals() (n int) {
	for _, t := range l.todo {
		if t.status.refused != "" && t.link == nil {
			n++
		}
	}
	return n
}
