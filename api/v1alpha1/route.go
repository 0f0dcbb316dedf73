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
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// RouteSpec is what a tenant wants served on layer 7.
type RouteSpec struct {
	// endpoints that receive the traffic.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Endpoints []LoadBalancerEndpoints `json:"endpoints,omitempty"`
	// source is what the route was made from.
	Source RouteSource `json:"source"`
}

// RouteSource is what a route was made from.
type RouteSource struct {
	// kubernetes objects of the tenant.
	// +optional
	Kubernetes *KubernetesSource `json:"kubernetes,omitempty"`
}

// KubernetesSource is a tenant's Ingress, Gateway or route, with its Services.
type KubernetesSource struct {
	// resource is the Ingress, Gateway or route itself.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:EmbeddedResource
	Route runtime.RawExtension `json:"resource"`
	// services that the resource refers to.
	// +optional
	// +listType=atomic
	Services []UpstreamService `json:"services,omitempty"`
}

// UpstreamService is a Service of the tenant.
type UpstreamService struct {
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:EmbeddedResource
	runtime.RawExtension `json:",inline"`
}

// RouteStatus is what became of a Route.
type RouteStatus struct {
	ObjectStatus `json:",inline"`
	// resources in the hub.
	// +optional
	Resources RouteResourcesStatus `json:"resources,omitempty"`
	// problems of the object as it is now.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Problems []Problem `json:"problems,omitempty"`
	// git is what gitsync knows of the object.
	// +optional
	Git *GitStatus `json:"git,omitempty"`
}

// RouteResourcesStatus is the state of the objects made from a route.
type RouteResourcesStatus struct {
	// source that the resources were made from.
	// +optional
	Source string `json:"source,omitempty"`
	// services by <namespace>/<name>.
	// +optional
	Services map[string]RouteServiceStatus `json:"services,omitempty"`
	// route itself.
	// +optional
	Route ResourceState `json:"route,omitempty"`
}

// RouteServiceStatus is the state of a Service made from a route.
type RouteServiceStatus struct {
	ResourceState `json:",inline"`
	// ports of the Service.
	// +optional
	// +listType=atomic
	Ports []corev1.ServicePort `json:"ports,omitempty"`
}

// ResourceState is the state of an object made from a route.
type ResourceState struct {
	// apiVersion of the object.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// kind of the object.
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the source object.
	// +optional
	Name string `json:"name,omitempty"`
	// namespace of the source object.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// generatedName is the object's name in the hub.
	// +optional
	GeneratedName string `json:"generatedName,omitempty"`
	// status of the object.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Status runtime.RawExtension `json:"status,omitempty"`
	// conditions of the object.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Route is an Ingress, Gateway or route of a tenant.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kubelb
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.source.kubernetes.resource.kind`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Held",type=string,JSONPath=`.status.git.heldSummary`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.metadata.annotations.kubelb\.k8c\.io/short-revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Route struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   RouteSpec   `json:"spec,omitempty"`
	Status RouteStatus `json:"status,omitempty"`
}

// RouteList is a list of Routes.
//
// +kubebuilder:object:root=true
type RouteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Route `json:"items"`
}
