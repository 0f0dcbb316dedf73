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
	"reflect"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/plan"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lists returns an empty list for each kind that a tenant's folder can hold.
func lists() []client.ObjectList {
	return []client.ObjectList{
		&v1alpha1.LoadBalancerList{}, &v1alpha1.RouteList{}, &v1alpha1.SyncSecretList{}, &v1alpha1.AddressesList{}, &v1alpha1.BackendList{},
	}
}

// inventories lists everything that was applied, by tenant and past the cache, if
// there is a tenant of which it is not known.
func (l *loop) inventories(ctx context.Context) (map[string][]plan.Ref, error) {
	var within []client.ListOption
	for _, t := range l.todo {
		if t.state != nil && !t.suspended() && !t.applied.known {
			within = append(within, client.InNamespace(v1alpha1.TenantNamespace(t.name)))
		}
	}
	switch len(within) {
	case 0:
		return nil, nil
	case 1: // alone: it is not worth a look at all others
	default:
		within = within[:0]
	}
	listed := map[string][]plan.Ref{}
	for _, list := range lists() {
		if err := l.live.List(ctx, list, append(within, client.MatchingLabels{v1alpha1.LabelSource: l.label()})...); err != nil {
			return nil, fmt.Errorf("list what is applied: %w", err)
		}
		for _, object := range objectsOf(list) {
			path, err := repo.PathOf(object)
			if err != nil {
				continue // its labels were edited: nobody's file, so never pruned
			}
			tenant := tenantOf(path)
			if ref, err := plan.RefOf(tenant, path); err == nil {
				listed[tenant] = append(listed[tenant], ref)
			}
		}
	}
	return listed, nil
}

func objectsOf(list client.ObjectList) (objects []repo.Object) {
	switch list := list.(type) {
	case *v1alpha1.LoadBalancerList:
		return pointers[v1alpha1.LoadBalancer](list.Items)
	case *v1alpha1.RouteList:
		return pointers[v1alpha1.Route](list.Items)
	case *v1alpha1.SyncSecretList:
		return pointers[v1alpha1.SyncSecret](list.Items)
	case *v1alpha1.AddressesList:
		return pointers[v1alpha1.Addresses](list.Items)
	case *v1alpha1.BackendList:
		return pointers[v1alpha1.Backend](list.Items)
	}
	return nil
}

func pointers[T any, P interface {
	*T
	repo.Object
}](items []T) []repo.Object {
	objects := make([]repo.Object, len(items))
	for i := range items {
		objects[i] = P(&items[i])
	}
	return objects
}

// cached reads the present state of an object from the cache; nil if it is not
// there.
func (l *loop) cached(ctx context.Context, like repo.Object) (repo.Object, error) {
	object := emptyLike(like)
	err := l.client.Get(ctx, client.ObjectKeyFromObject(like), object)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %T %s: %w", object, client.ObjectKeyFromObject(like), err)
	}
	return object, nil
}

func emptyLike(object repo.Object) repo.Object {
	return reflect.New(reflect.TypeOf(object).Elem()).Interface().(repo.Object)
}

// ofKind returns an empty object of a kind.
func ofKind(kind string) repo.Object {
	switch kind {
	case v1alpha1.KindLoadBalancer:
		return &v1alpha1.LoadBalancer{}
	case v1alpha1.KindRoute:
		return &v1alpha1.Route{}
	case v1alpha1.KindSyncSecret:
		return &v1alpha1.SyncSecret{}
	case v1alpha1.KindAddresses:
		return &v1alpha1.Addresses{}
	case v1alpha1.KindBackend:
		return &v1alpha1.Backend{}
	}
	return &v1alpha1.TenantState{}
}
