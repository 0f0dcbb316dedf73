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
	"maps"
	"slices"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/plan"
)

// heal puts back what somebody changed or deleted by hand among the objects
// that were touched: what counts is what was applied from main.
func (l *loop) heal(ctx context.Context, objects map[string]touched) {
	if l.source.Spec.Apply == v1alpha1.ApplyDisabled {
		return
	}
	for _, path := range slices.Sorted(maps.Keys(objects)) {
		t := l.tenants[tenantOf(path)]
		if !objects[path].heal || t == nil || t.state == nil || t.suspended() || !t.applied.known {
			continue
		}
		o, err := l.healObject(ctx, t, path)
		if err != nil {
			l.log.Error(err, "cannot look at an object", "path", path)
			l.suspect(err)
			continue
		}
		if o.action == "" && o.problem == nil {
			continue
		}
		l.settleOutcome(t, o)
		if o.retry && l.applyRetry.at.IsZero() {
			l.applyRetry.failed(l.now())
		}
	}
}

func (l *loop) healObject(ctx context.Context, t *tenant, path string) (outcome, error) {
	file, ok, err := l.store.File(t.applied.root, path)
	if err != nil || !ok {
		return outcome{}, err
	}
	object, problems := repo.Decode(path, file)
	if len(problems) > 0 {
		return outcome{}, nil // the last good version cannot be told any more
	}
	current, err := l.cached(ctx, object)
	if err != nil {
		return outcome{}, err
	}
	if current != nil && !current.GetDeletionTimestamp().IsZero() {
		return outcome{}, nil // it comes back when it is gone
	}
	o := l.applyItem(ctx, plan.Item{Path: path, Object: object}, current)
	if o.action != "" {
		l.log.Info("put back what was changed by hand", "tenant", t.name, "path", path)
	}
	return o, nil
}
