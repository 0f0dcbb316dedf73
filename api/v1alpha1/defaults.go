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

// Defaults returns what the absent fields of a kind's documents mean, by their
// paths: "spec.ports.protocol" is the protocol of every port. They are the
// defaults of the CRDs and those that the hub reads into an absent field.
func Defaults(kind string) map[string]string { return defaults[kind] }

var defaults = map[string]map[string]string{
	KindLoadBalancer: {
		"spec.endpoints.name":           "default",
		"spec.endpoints.ports.name":     "default",
		"spec.endpoints.ports.protocol": "TCP",
		"spec.externalTrafficPolicy":    "Cluster",
		"spec.lbPolicy":                 string(LBPolicyRoundRobin),
		"spec.ports.name":               "default",
		"spec.ports.protocol":           "TCP",
		"spec.type":                     "ClusterIP",
	},
	KindRoute: {
		"spec.endpoints.name":           "default",
		"spec.endpoints.ports.name":     "default",
		"spec.endpoints.ports.protocol": "TCP",
	},
	KindBackend: {
		"spec.ports.name":     "default",
		"spec.ports.protocol": "TCP",
	},
}
