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

package v1alpha1

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Key is the name of the object that a reference means; namespace is where it
// counts from.
func (r LocalReference) Key(namespace string) types.NamespacedName {
	return types.NamespacedName{Namespace: cmp.Or(r.Namespace, namespace), Name: r.Name}
}

// MainSources are the GitSources, in order, that a Tenant without sourceRef may
// belong to: those of the hub's own namespace, but for those that Tenants name as
// intentSourceRef and none as sourceRef. Such a Tenant belongs to one if it is the
// only one. GitSources of other namespaces have only the Tenants that name them, so
// that whoever may make one there takes no Tenant away.
func MainSources(tenants []Tenant, sources []GitSource, namespace string) []types.NamespacedName {
	lends, has := map[types.NamespacedName]bool{}, map[types.NamespacedName]bool{}
	for i := range tenants {
		git := &tenants[i].Spec.Git
		if git.IntentSourceRef != nil {
			lends[git.IntentSourceRef.Key(namespace)] = true
		}
		if git.SourceRef != nil {
			has[git.SourceRef.Key(namespace)] = true
		}
	}
	var mains []types.NamespacedName
	for i := range sources {
		key := types.NamespacedName{Namespace: sources[i].Namespace, Name: sources[i].Name}
		if key.Namespace == namespace && (has[key] || !lends[key]) {
			mains = append(mains, key)
		}
	}
	slices.SortFunc(mains, func(a, b types.NamespacedName) int { return cmp.Compare(a.String(), b.String()) })
	return mains
}
