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
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reasons of the condition Restored.
const (
	reasonRestored   = "Restored"
	reasonRestoring  = "Restoring"
	reasonForeignKey = "SignedByAnotherKey"
)

// restore gives a rebuilt hub its addresses back: for each tenant that is not
// restored it copies what the status branch says of them into the objects that
// were applied. Nothing is assigned or served for the tenant before that.
func (l *loop) restore(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(l.todo)) {
		t := l.todo[name]
		if t.restored || t.state == nil {
			continue
		}
		if apimeta.IsStatusConditionTrue(t.state.Status.Conditions, v1alpha1.ConditionRestored) {
			t.restored = true
			continue
		}
		if !t.status.known || !t.applied.known || len(t.applied.retry) > 0 {
			continue
		}
		if !t.status.tip.IsZero() && !t.status.ours {
			continue // the condition says what to do
		}
		seen, err := l.restoreTenant(ctx, t)
		if err != nil {
			l.trouble(err, "cannot restore", name)
			continue
		}
		if !seen {
			continue // the events of the objects wake the loop again
		}
		t.restored, t.untold = true, true
		l.log.Info("restored", "tenant", name, "commit", t.status.tip.String())
	}
}

func (t *tenant) restoredCondition(now metav1.Time) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionRestored, LastTransitionTime: now, ObservedGeneration: t.state.Generation}
	switch {
	case t.restored, t.told == nil && apimeta.IsStatusConditionTrue(t.state.Status.Conditions, v1alpha1.ConditionRestored):
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, reasonRestored, "the hub has what Git knows of the tenant's addresses"
	case t.status.known && !t.status.tip.IsZero() && !t.status.ours:
		c.Status, c.Reason = metav1.ConditionFalse, reasonForeignKey
		c.Message = fmt.Sprintf("the branch status/%s is not signed by this hub's key: restore the Secret %s from its backup, or delete the branch to give the addresses up", t.name, KeysSecret)
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonRestoring, "waits for the repository and for the tenant's objects"
	}
	return c
}

// restoreTenant reports whether all that it restored is seen by this process's
// cache, which the hub's controllers share: they must not meet a restored
// tenant without its addresses.
func (l *loop) restoreTenant(ctx context.Context, t *tenant) (seen bool, err error) {
	files, err := t.store.Files(t.status.tree, repo.TenantDir(t.name))
	if err != nil {
		return false, err
	}
	paths := files.Paths()
	found, errs := make([]bool, len(paths)), make([]error, len(paths))
	var group errgroup.Group
	group.SetLimit(workers)
	for i, path := range paths {
		found[i] = true
		object, problems := repo.DecodeStatus(path, files[path])
		if len(problems) > 0 {
			continue // signed by us and yet unreadable: written by a newer hub
		}
		group.Go(func() error {
			switch object := object.(type) {
			case *v1alpha1.LoadBalancer:
				found[i], errs[i] = l.restoreAddresses(ctx, object)
			case *v1alpha1.TenantState:
				found[i], errs[i] = l.restoreReservations(ctx, object)
			}
			return nil
		})
	}
	_ = group.Wait()
	return !slices.Contains(found, false), errors.Join(errs...)
}

// restoreAddresses copies assigned and published addresses, and the ports on them,
// of a load balancer that was applied again.
func (l *loop) restoreAddresses(ctx context.Context, saved *v1alpha1.LoadBalancer) (seen bool, err error) {
	if len(saved.Status.Addresses) == 0 {
		return true, nil
	}
	key := client.ObjectKeyFromObject(saved)
	var cached, current v1alpha1.LoadBalancer
	if err := l.client.Get(ctx, key, &cached); err == nil && len(cached.Status.Addresses) > 0 {
		return true, nil
	}
	if err := l.live.Get(ctx, key, &current); err != nil {
		return true, client.IgnoreNotFound(err) // main has it no more
	}
	if len(current.Status.Addresses) > 0 {
		return false, nil
	}
	err = l.applyStatus(ctx, &v1alpha1.LoadBalancer{
		ObjectMeta: metav1.ObjectMeta{Namespace: saved.Namespace, Name: saved.Name},
		Status:     v1alpha1.LoadBalancerStatus{Addresses: saved.Status.Addresses, LoadBalancer: saved.Status.LoadBalancer, Ports: saved.Status.Ports},
	}, v1alpha1.KindLoadBalancer, hubManager)
	return false, client.IgnoreNotFound(err)
}

func (l *loop) restoreReservations(ctx context.Context, saved *v1alpha1.TenantState) (seen bool, err error) {
	if len(saved.Status.Reservations) == 0 {
		return true, nil
	}
	var cached v1alpha1.TenantState
	if err := l.client.Get(ctx, client.ObjectKeyFromObject(saved), &cached); err != nil || len(cached.Status.Reservations) > 0 {
		return err == nil, client.IgnoreNotFound(err)
	}
	var list []any
	for _, reservation := range saved.Status.Reservations {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&reservation)
		if err != nil {
			return false, err
		}
		list = append(list, m)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"reservations": list}}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.KindTenantState))
	u.SetNamespace(saved.Namespace)
	u.SetName(saved.Name)
	return false, l.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(hubManager), client.ForceOwnership)
}
