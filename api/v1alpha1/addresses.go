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
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddressesSpec lists a tenant's nodes. It is a fact: what the tenant's cluster
// says goes, nobody holds or reviews it.
type AddressesSpec struct {
	// addresses of the nodes.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=5000
	Addresses []EndpointAddress `json:"addresses"`
	// healthCheckPort is the port at which every node answers GET /healthz, as
	// kube-proxy does (KEP-3836): a node that says 503 gets no new connection of
	// load balancers with externalTrafficPolicy Cluster. Without it a TCP connection
	// to the NodePort is enough.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	HealthCheckPort int32 `json:"healthCheckPort,omitempty"`
	// stale says that the tenant has no ready node: the addresses are those of the
	// nodes that were ready last. Gitsync sets it.
	// +optional
	Stale bool `json:"stale,omitempty"`
}

// AddressesStatus is what became of an Addresses object.
type AddressesStatus struct {
	ObjectStatus `json:",inline"`
	// problems of the object as it is now.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Problems []Problem `json:"problems,omitempty"`
	// git is what gitsync knows of the object.
	// +optional
	Git *GitStatus `json:"git,omitempty"`
}

// Addresses is the list of a tenant's nodes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=addresses,categories=kubelb
// +kubebuilder:printcolumn:name="First",type=string,JSONPath=`.spec.addresses[0].ip`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.metadata.annotations.kubelb\.k8c\.io/short-revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Addresses struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AddressesSpec   `json:"spec,omitempty"`
	Status AddressesStatus `json:"status,omitempty"`
}

// AddressesList is a list of Addresses.
//
// +kubebuilder:object:root=true
type AddressesList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Addresses `json:"items"`
}

// ParseHealthCheckPort reads the value of [AnnotationHealthCheckPort]: a port, or
// 0 for none.
func ParseHealthCheckPort(text string) (port int32, ok bool) {
	number, err := strconv.ParseUint(text, 10, 16)
	return int32(number), err == nil
}
