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
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EndpointAddress is where an endpoint is reached: an IP address or a DNS name.
//
// +kubebuilder:validation:XValidation:rule="has(self.ip) != has(self.hostname)",message="set either ip or hostname"
// +kubebuilder:validation:XValidation:rule="!has(self.ip) || isIP(self.ip)",message="ip is not an IP address"
type EndpointAddress struct {
	// ip is an IPv4 or IPv6 address. Loopback, link-local, metadata and hub
	// addresses are refused unless the Tenant allows them.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=45
	IP string `json:"ip,omitempty"`
	// hostname is a DNS name that the hub can resolve.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Hostname string `json:"hostname,omitempty"`
}

// EndpointPort is a port of an endpoint.
type EndpointPort struct {
	// name matches the port to the load balancer's port of the same name.
	// +optional
	// +default="default"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
	// port is the number on the endpoint.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// protocol is TCP or UDP.
	// +optional
	// +default="TCP"
	// +kubebuilder:validation:Enum=TCP;UDP
	Protocol corev1.Protocol `json:"protocol,omitempty"`
}

// LoadBalancerEndpoints is a group of endpoints that serve the same ports.
//
// +kubebuilder:validation:XValidation:rule="(has(self.addresses) && self.addresses.size() > 0) != has(self.addressesReference)",message="set either addresses or addressesReference"
// +kubebuilder:validation:XValidation:rule="!(has(self.ports) && self.ports.size() > 0 && has(self.backendReference))",message="set either ports or backendReference"
type LoadBalancerEndpoints struct {
	// name of the group.
	// +optional
	// +default="default"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
	// addresses of the endpoints, where addressesReference is not used.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Addresses []EndpointAddress `json:"addresses,omitempty"`
	// addressesReference names the Addresses object that lists the nodes.
	// +optional
	AddressesReference *corev1.ObjectReference `json:"addressesReference,omitempty"`
	// backendReference names the Backend object that has the NodePorts; explicit
	// ports are not needed then.
	// +optional
	BackendReference *corev1.ObjectReference `json:"backendReference,omitempty"`
	// ports of the endpoints, where backendReference is not used.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=100
	Ports []EndpointPort `json:"ports,omitempty"`
}

// AnnotationSettings say which annotations of tenants' objects are carried on.
type AnnotationSettings struct {
	// propagatedAnnotations allows keys (globs) with a comma-separated list of
	// exact values; an empty value allows any.
	// +optional
	PropagatedAnnotations *map[string]string `json:"propagatedAnnotations,omitempty"`
	// propagateAllAnnotations allows everything that is not denied.
	// +optional
	PropagateAllAnnotations *bool `json:"propagateAllAnnotations,omitempty"`
	// deniedAnnotations are keys (globs) that never travel.
	// +optional
	// +listType=atomic
	DeniedAnnotations []string `json:"deniedAnnotations,omitempty"`
	// defaultAnnotations are added per kind (service, ingress, gateway, ...,
	// all) where the object has none of that key.
	// +optional
	DefaultAnnotations map[AnnotatedResource]Annotations `json:"defaultAnnotations,omitempty"`
}

// AnnotatedResource is a kind that default annotations are for.
// +kubebuilder:validation:Enum=all;service;ingress;gateway;httproute;grpcroute;tcproute;udproute;tlsroute
type AnnotatedResource string

// Annotations are annotation keys and values.
type Annotations map[string]string

// LocalReference names an object, in a namespace where that is not fixed.
type LocalReference struct {
	// name of the object.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// namespace of the object; the referring object's, or the hub's own
	// ("kubelb") for cluster-scoped ones, if empty.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// GitStatus is what gitsync knows of an applied object that is not as its tenant
// asks for. The commit that an object came from is in its annotation
// [AnnotationRevision].
type GitStatus struct {
	// revision is what earlier hubs wrote, and status branches of theirs still have:
	// the commit that is in the annotation kubelb.k8c.io/revision.
	// +optional
	Revision string `json:"revision,omitempty"`
	// held are the fields that a person changed on main and that therefore do
	// not follow the tenant.
	// +optional
	// +listType=atomic
	Held []HeldField `json:"held,omitempty"`
	// heldSummary says in words what is held, for kubectl, which prints one value
	// of an object in a column.
	// +optional
	HeldSummary string `json:"heldSummary,omitempty"`
	// pending are the fields that wait: for review, the guard or a repair.
	// +optional
	// +listType=atomic
	Pending []PendingField `json:"pending,omitempty"`
}

// HeldField is a field, or a whole document, that differs from what the tenant
// asks for because a person changed, reverted or deleted it on main.
type HeldField struct {
	// path of the document; empty where the object itself says it.
	// +optional
	Path string `json:"path,omitempty"`
	// field such as spec.ports[http].port; empty means the whole document.
	// +optional
	Field string `json:"field,omitempty"`
	// commit that made the difference, "unknown" if it is too far back.
	// +optional
	Commit string `json:"commit,omitempty"`
	// author of that commit.
	// +optional
	Author string `json:"author,omitempty"`
}

// Short is a commit as people read it: its first 12 characters.
func Short(commit string) string { return commit[:min(len(commit), 12)] }

// SummaryOf says in words what is held: GitStatus.heldSummary.
func SummaryOf(held []HeldField) string {
	words := make([]string, 0, len(held))
	for _, h := range held {
		words = append(words, cmp.Or(h.Field, "the whole document"))
	}
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	case 2:
		return words[0] + " and " + words[1]
	}
	return fmt.Sprintf("%s and %d more", words[0], len(words)-1)
}

// PendingField is a field, or a whole document, of the intent branch that has
// not been decided yet.
type PendingField struct {
	// path of the document; empty where the object itself says it.
	// +optional
	Path string `json:"path,omitempty"`
	// field such as spec.ports[http].port; empty means the whole document.
	// +optional
	Field string `json:"field,omitempty"`
	// reason: Review, Guard or Invalid.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// ReviewStatus is a tenant's proposal on its review branch.
type ReviewStatus struct {
	// commit is the tip of review/<tenant>.
	Commit string `json:"commit"`
	// intent is the commit of the intent branch that it proposes.
	// +optional
	Intent string `json:"intent,omitempty"`
	// url of the pull request; empty without a forge.
	// +optional
	URL string `json:"url,omitempty"`
}

// Reasons of a PendingField.
const (
	PendingReview  = "Review"
	PendingGuard   = "Guard"
	PendingInvalid = "Invalid"
)

// Problem is a mistake in what somebody asked for: where it is, what is wrong
// and what to do. It is a value, never an error: it is reported, not retried.
type Problem struct {
	// path of the file in the repository.
	// +optional
	Path string `json:"path,omitempty"`
	// object as <kind> <namespace>/<name>, of the source object where it is known.
	// +optional
	Object string `json:"object,omitempty"`
	// field such as spec.ports[http].port.
	// +optional
	Field string `json:"field,omitempty"`
	// reason in one word.
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z0-9]*$`
	Reason string `json:"reason"`
	// message says what is wrong.
	Message string `json:"message"`
	// remedy says what to do about it.
	// +optional
	Remedy string `json:"remedy,omitempty"`
	// Confirm is the commit that goes on when somebody confirms it; the status of
	// the Tenant lists those of all problems (status.git.confirm).
	Confirm string `json:"-"`
}

// ObjectStatus is what the status of every kind has.
type ObjectStatus struct {
	// observedGeneration is the generation that the conditions speak of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions with kstatus semantics: Ready, Reconciling, Stalled and others.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
