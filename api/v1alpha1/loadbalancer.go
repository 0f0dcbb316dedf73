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
)

// LoadBalancerPort is a port that clients connect to.
type LoadBalancerPort struct {
	// name of the port. Endpoints' ports that are listed by hand are found by it, a
	// Backend's by number and protocol, and by name where it has no such number.
	// +optional
	// +default="default"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
	// port that clients connect to.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// protocol is TCP or UDP.
	// +optional
	// +default="TCP"
	// +kubebuilder:validation:Enum=TCP;UDP
	Protocol corev1.Protocol `json:"protocol,omitempty"`
}

// PersistenceType says what keeps a client on one endpoint.
// +kubebuilder:validation:Enum=SourceIP
type PersistenceType string

// PersistenceSourceIP keeps a client on one endpoint by its address.
const PersistenceSourceIP PersistenceType = "SourceIP"

// Persistence keeps clients on endpoints.
type Persistence struct {
	// type of the persistence.
	Type PersistenceType `json:"type"`
}

// LBPolicy says how an endpoint is picked for a connection.
// +kubebuilder:validation:Enum=RoundRobin;LeastRequest;Random
type LBPolicy string

// The policies.
const (
	LBPolicyRoundRobin   LBPolicy = "RoundRobin"
	LBPolicyLeastRequest LBPolicy = "LeastRequest"
	LBPolicyRandom       LBPolicy = "Random"
)

// LoadBalancerSpec is what a tenant wants served on layer 4.
//
// +kubebuilder:validation:XValidation:rule="self.endpoints.all(e, has(e.backendReference) || has(e.ports) && e.ports.size() > 0)",message="a group of endpoints needs ports or backendReference"
// +kubebuilder:validation:XValidation:rule="!has(self.addresses) || self.addresses.all(a, isIP(a)) && (self.addresses.size() < 2 || ip(self.addresses[0]).family() != ip(self.addresses[1]).family())",message="addresses are at most one IPv4 and one IPv6 address"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerSourceRanges) || self.loadBalancerSourceRanges.all(r, isCIDR(r))",message="loadBalancerSourceRanges are networks (CIDR)"
// +kubebuilder:validation:XValidation:rule="self.ports.all(p, self.ports.exists_one(q, q.port == p.port && (has(q.protocol) ? q.protocol : 'TCP') == (has(p.protocol) ? p.protocol : 'TCP')))",message="two ports have the same number and protocol"
type LoadBalancerSpec struct {
	// endpoints that receive the traffic.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Endpoints []LoadBalancerEndpoints `json:"endpoints"`
	// ports that clients connect to.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	Ports []LoadBalancerPort `json:"ports"`
	// hostname that shall resolve to the load balancer.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Hostname string `json:"hostname,omitempty"`
	// type is ClusterIP or LoadBalancer; only the latter gets an external address.
	// +optional
	// +default="ClusterIP"
	// +kubebuilder:validation:Enum=ClusterIP;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`
	// externalTrafficPolicy of the source Service. Local probes the health check
	// node port of every node.
	// +optional
	// +kubebuilder:validation:Enum=Cluster;Local
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`
	// persistence keeps clients on endpoints.
	// +optional
	Persistence *Persistence `json:"persistence,omitempty"`
	// addresses asks for external addresses, one per family. They are granted if
	// the tenant may use them and they are free.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=45
	Addresses []string `json:"addresses,omitempty"`
	// loadBalancerSourceRanges are the client networks (CIDR) that may connect;
	// none means all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=49
	LoadBalancerSourceRanges []string `json:"loadBalancerSourceRanges,omitempty"`
	// lbPolicy picks the endpoint of a connection; RoundRobin if empty.
	// +optional
	LBPolicy LBPolicy `json:"lbPolicy,omitempty"`
}

// ServicePort is a port of the Service in the hub.
type ServicePort struct {
	corev1.ServicePort `json:",inline"`
	// upstreamTargetPort is the port of the endpoints.
	// +optional
	UpstreamTargetPort int32 `json:"upstreamTargetPort,omitempty"`
}

// ServiceStatus is the Service in the hub, where there is one.
type ServiceStatus struct {
	// ports of the Service.
	// +optional
	// +listType=atomic
	Ports []ServicePort `json:"ports,omitempty"`
}

// HostnameStatus is the state of a requested hostname.
type HostnameStatus struct {
	// hostname that was given.
	// +optional
	Hostname string `json:"hostname,omitempty"`
	// tlsEnabled: the hostname is served with TLS.
	// +optional
	TLSEnabled bool `json:"tlsEnabled,omitempty"`
	// dnsRecordCreated: the hostname resolves.
	// +optional
	DNSRecordCreated bool `json:"dnsRecordCreated,omitempty"`
}

// LoadBalancerStatus is what became of a LoadBalancer.
type LoadBalancerStatus struct {
	ObjectStatus `json:",inline"`
	// addresses that are assigned. They are the reservation; what is published is
	// in loadBalancer.ingress, after a proxy acknowledged the configuration.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
	// loadBalancer is the published status, as a Service has it.
	// +optional
	LoadBalancer corev1.LoadBalancerStatus `json:"loadBalancer,omitempty"`
	// ports that are programmed, for people: 80/TCP,443/TCP.
	// +optional
	Ports string `json:"ports,omitempty"`
	// service is the Service in the hub, where there is one.
	// +optional
	Service *ServiceStatus `json:"service,omitempty"`
	// hostname is the state of the requested hostname.
	// +optional
	Hostname *HostnameStatus `json:"hostname,omitempty"`
	// problems of the object as it is now.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Problems []Problem `json:"problems,omitempty"`
	// git is what gitsync knows of the object.
	// +optional
	Git *GitStatus `json:"git,omitempty"`
}

// LoadBalancer is a load balancer on layer 4 that a tenant wants.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=lb,categories=kubelb
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.loadBalancer.ingress[0].ip`
// +kubebuilder:printcolumn:name="Ports",type=string,JSONPath=`.status.ports`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Held",type=string,JSONPath=`.status.git.heldSummary`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.metadata.annotations.kubelb\.k8c\.io/short-revision`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type LoadBalancer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   LoadBalancerSpec   `json:"spec,omitempty"`
	Status LoadBalancerStatus `json:"status,omitempty"`
}

// LoadBalancerList is a list of LoadBalancers.
//
// +kubebuilder:object:root=true
type LoadBalancerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []LoadBalancer `json:"items"`
}

// Conditions of a LoadBalancer beside Ready, Reconciling and Stalled.
const (
	// ConditionAccepted: the object is valid and its tenant may have it.
	ConditionAccepted = "Accepted"
	// ConditionAddressAssigned: status.addresses is complete.
	ConditionAddressAssigned = "AddressAssigned"
	// ConditionProgrammed: a proxy acknowledged the complete configuration and
	// none rejects any of it.
	ConditionProgrammed = "Programmed"
)

// Reasons of a LoadBalancer's conditions.
const (
	ReasonAccepted          = "Accepted"
	ReasonInvalid           = "Invalid"
	ReasonTenantNotReady    = "TenantNotReady"
	ReasonDisabled          = "Disabled"
	ReasonLimitExceeded     = "LimitExceeded"
	ReasonSourceGone        = "SourceGone"
	ReasonNotRestored       = "NotRestored"
	ReasonAssigned          = "Assigned"
	ReasonPoolExhausted     = "PoolExhausted"
	ReasonAddressInUse      = "AddressInUse"
	ReasonAddressNotAllowed = "AddressNotAllowed"
	ReasonPortConflict      = "PortConflict"
	ReasonNotRequested      = "NotRequested"
	ReasonProgrammed        = "Programmed"
	ReasonWaitingForProxy   = "WaitingForProxy"
	ReasonRejectedByProxy   = "RejectedByProxy"
	// ReasonNoEndpoints: none of the ports has an endpoint, or the tenant has no
	// ready node; connections fail.
	ReasonNoEndpoints = "NoEndpoints"
	// ReasonEndpointsRefused: the hub accepts none of the endpoints.
	ReasonEndpointsRefused = "EndpointsRefused"
	ReasonPartlyProgrammed = "PartlyProgrammed"
	ReasonTooManyListeners = "TooManyListeners"
	ReasonUnreachable      = "Unreachable"
)

// Reasons of problems of a LoadBalancer's ports and endpoints. They concern what
// they name; the rest of the LoadBalancer is programmed.
const (
	ReasonAddressesNotFound      = "AddressesNotFound"
	ReasonBackendNotFound        = "BackendNotFound"
	ReasonPortNotInBackend       = "PortNotInBackend"
	ReasonNoHealthCheckPort      = "NoHealthCheckPort"
	ReasonEndpointRefused        = "EndpointRefused"
	ReasonUnsupportedAnnotation  = "UnsupportedAnnotation"
	ReasonSourceRangesUnreadable = "SourceRangesUnreadable"
)
