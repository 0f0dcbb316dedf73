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

// MergeKeys returns by which fields the elements of a kind's lists are told
// apart within a document, by the list's path: "spec.endpoints.ports" are the ports
// of every group of endpoints. A list without an entry is one value. They are the
// list map keys of the CRDs. What tells a port in two versions of a document is its
// number and protocol: [PairPorts].
func MergeKeys(kind string) map[string][]string { return mergeKeys[kind] }

var mergeKeys = map[string]map[string][]string{
	KindLoadBalancer: {
		"spec.endpoints":       {"name"},
		"spec.endpoints.ports": {"name"},
		"spec.ports":           {"name"},
	},
	KindRoute: {
		"spec.endpoints":       {"name"},
		"spec.endpoints.ports": {"name"},
	},
	KindBackend: {
		"spec.ports": {"name"},
	},
}
