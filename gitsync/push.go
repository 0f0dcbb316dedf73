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
	"fmt"
	"path"
	"slices"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// push makes the commits for what was decided and pushes them: in one atomic
// push where the server offers it, else base first, so that a hub that dies in
// between finds a base whose main commit does not exist and ignores it.
func (l *loop) push(ctx context.Context, decisions []*decision) error {
	c, err := l.composeAll(decisions)
	if err != nil {
		return err
	}
	if !c.main.IsZero() || !c.base.IsZero() {
		if err := l.pushBoth(ctx, c); err != nil {
			return err
		}
		l.pushed, l.worked = l.now(), l.now()
	}
	if err := l.moved(c); err != nil {
		return err
	}
	if err := l.readTruth(ctx); err != nil {
		return err
	}
	decisions = slices.DeleteFunc(decisions, func(d *decision) bool { return d.removes })
	if err := l.propose(ctx, decisions); err != nil {
		return err
	}
	for _, d := range decisions {
		d.seen.base, d.seen.main, d.seen.shadow = l.baseDir[d.tenant.name], l.mainDir[d.tenant.name], l.truth.dirs[d.tenant.name]
		d.seen.integrated = l.integrated[path.Base(repo.IntegratedPath(d.tenant.name))].Hash
		d.settle()
		l.want(d.tenant)
		if err := l.readDecided(d.tenant); err != nil {
			return err
		}
		if d.integrated != nil {
			l.log.Info("stage", "stage", "integrated", "tenant", d.tenant.name, "intent", d.integrated.Commit,
				"commit", l.main.Hash.String(), "held", len(d.result.Held), "pending", len(d.result.Pending))
		}
	}
	return nil
}

// pushBoth pushes what there is of main and base. Each is compared with what
// was seen, so nobody's push in between is lost.
func (l *loop) pushBoth(ctx context.Context, c commits) error {
	var updates []git.RefUpdate
	if !c.base.IsZero() {
		updates = append(updates, git.RefUpdate{Name: repo.BaseRef(l.mainRef()), Old: l.base.tip, New: c.base})
	}
	if !c.main.IsZero() {
		updates = append(updates, git.RefUpdate{Name: l.mainRef(), Old: l.main.Hash, New: c.main})
	}
	atomic := false
	if len(updates) > 1 {
		var err error
		if atomic, err = l.remote.SupportsAtomic(ctx); err != nil {
			return err
		}
	}
	if len(updates) == 1 || atomic {
		return l.pushRefs(ctx, updates, atomic)
	}
	for _, update := range updates {
		if err := l.pushRefs(ctx, []git.RefUpdate{update}, false); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) pushRefs(ctx context.Context, updates []git.RefUpdate, atomic bool) error {
	_, err := l.remote.Push(ctx, l.store, updates, atomic)
	result := "done"
	if err != nil {
		result = "failed"
	}
	pushes.WithLabelValues(l.key.String(), "main", result).Inc()
	return err
}

// moved takes over the refs that were pushed.
func (l *loop) moved(c commits) error {
	if !c.main.IsZero() {
		l.refs[l.mainRef()] = c.main
		if err := l.readMain(c.main); err != nil {
			return err
		}
	}
	if c.base.IsZero() {
		return nil
	}
	l.refs[repo.BaseRef(l.mainRef())] = c.base
	commit, err := l.store.Commit(c.base)
	if err != nil {
		return err
	}
	if err := l.readBaseTree(c.baseTree); err != nil {
		return err
	}
	l.base = base{tip: c.base, main: l.main.Hash, commit: commit, tree: c.baseTree, generation: c.generation}
	return nil
}

// readDecided reads which intent commit of a tenant was decided last.
func (l *loop) readDecided(t *tenant) error {
	last, err := l.lastIntegrated(t.name)
	if err != nil {
		return err
	}
	t.decided, t.read = v1alpha1.ObservedIntent{Commit: last.Commit, Generation: last.Generation}, true
	return nil
}

// dropAnnotations removes confirmations that have been recorded on base/main.
func (l *loop) dropAnnotations(ctx context.Context, decisions []*decision) error {
	if annotation := l.source.Annotations[v1alpha1.AnnotationAcceptRewrite]; annotation != "" &&
		l.base.commit.Trailers.Get(repo.TrailerAccepts) == annotation {
		if err := l.dropAnnotation(ctx, l.source, v1alpha1.AnnotationAcceptRewrite); err != nil {
			return err
		}
	}
	for _, d := range decisions {
		if d.confirms && d.integrated != nil {
			if err := l.dropAnnotation(ctx, d.tenant.object, v1alpha1.AnnotationConfirm); err != nil {
				return err
			}
		}
		if d.seen.reject != "" && d.seen.reject == d.record.Review {
			if err := l.dropAnnotation(ctx, d.tenant.object, v1alpha1.AnnotationReject); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loop) dropAnnotation(ctx context.Context, object client.Object, key string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, key)
	copied := object.DeepCopyObject().(client.Object)
	err := l.client.Patch(ctx, copied, client.RawPatch(mergePatch, patch), client.FieldOwner(fieldManager))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove annotation %s: %w", key, err)
	}
	return nil
}
