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

// ResourceRequirements are the resources of a container.
type ResourceRequirements = corev1.ResourceRequirements

// AddressProvider says where external addresses come from.
// +kubebuilder:validation:Enum=Service;Pool
type AddressProvider string

// The address providers.
const (
	// ProviderService makes a Service of type LoadBalancer in the hub for each
	// LoadBalancer; MetalLB or the cloud gives the address.
	ProviderService AddressProvider = "Service"
	// ProviderPool assigns from address pools.
	ProviderPool AddressProvider = "Pool"
)

// Infrastructure says where proxies run.
// +kubebuilder:validation:Enum=Kubernetes;Host
type Infrastructure string

// The infrastructures.
const (
	InfrastructureKubernetes Infrastructure = "Kubernetes"
	// InfrastructureHost runs Envoy as a process of the hub's machine.
	InfrastructureHost Infrastructure = "Host"
)

// Topology says which tenants share proxies.
// +kubebuilder:validation:Enum=shared;global;dedicated
type Topology string

// The topologies.
const (
	// TopologyShared: one proxy group per tenant.
	TopologyShared Topology = "shared"
	// TopologyGlobal: one proxy group for all tenants.
	TopologyGlobal Topology = "global"
)

// AddressPool is a set of addresses that the hub assigns.
type AddressPool struct {
	// name of the pool.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// cidrs such as 203.0.113.0/24, or ranges such as
	// 203.0.113.10-203.0.113.20. Network and broadcast addresses of an IPv4 CIDR
	// of /30 or larger are left out.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	CIDRs []string `json:"cidrs"`
}

// GracefulShutdown of proxies.
type GracefulShutdown struct {
	// disabled ends proxies at once.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
	// drainTimeout is how long connections may last.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="write a duration such as 10s, not a negative one"
	DrainTimeout *metav1.Duration `json:"drainTimeout,omitempty"`
	// minDrainDuration is how long a proxy drains at least.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="write a duration such as 10s, not a negative one"
	MinDrainDuration *metav1.Duration `json:"minDrainDuration,omitempty"`
	// terminationGracePeriodSeconds of the pod.
	// +optional
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`
}

// OverloadManager protects a proxy's memory.
type OverloadManager struct {
	// enabled turns it on.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
	// maxHeapSizeBytes of the proxy.
	// +optional
	MaxHeapSizeBytes uint64 `json:"maxHeapSizeBytes,omitempty"`
	// maxActiveDownstreamConnections of the proxy.
	// +optional
	MaxActiveDownstreamConnections uint64 `json:"maxActiveDownstreamConnections,omitempty"`
}

// PodMonitor for the proxies.
type PodMonitor struct {
	// enabled makes a PodMonitor per tenant.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// HeaderLimits of HTTP listeners.
type HeaderLimits struct {
	// maxRequestHeadersKiB of a request.
	// +optional
	MaxRequestHeadersKiB *uint32 `json:"maxRequestHeadersKiB,omitempty"`
	// maxRequestHeadersCount of a request.
	// +optional
	MaxRequestHeadersCount *uint32 `json:"maxRequestHeadersCount,omitempty"`
	// maxResponseHeadersKiB of a response.
	// +optional
	MaxResponseHeadersKiB *uint32 `json:"maxResponseHeadersKiB,omitempty"`
}

// EnvoyProxy says how proxies run.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.topology) || !has(self.topology) || self.topology == oldSelf.topology || self.topology == 'shared'",message="topology is immutable, except to shared"
type EnvoyProxy struct {
	// topology: shared (one group per tenant) or global. Default: shared on
	// Kubernetes, global on Host.
	// +optional
	Topology Topology `json:"topology,omitempty"`
	// useDaemonset instead of a Deployment.
	// +optional
	UseDaemonset bool `json:"useDaemonset,omitempty"`
	// replicas of the Deployment.
	// +optional
	// +default=3
	Replicas int32 `json:"replicas,omitempty"`
	// singlePodPerNode spreads the proxies over nodes.
	// +optional
	SinglePodPerNode bool `json:"singlePodPerNode,omitempty"`
	// nodeSelector of the proxies.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// tolerations of the proxies.
	// +optional
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// resources of a proxy.
	// +optional
	Resources ResourceRequirements `json:"resources,omitempty"`
	// affinity of the proxies.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// gracefulShutdown of the proxies.
	// +optional
	GracefulShutdown *GracefulShutdown `json:"gracefulShutdown,omitempty"`
	// overloadManager of the proxies.
	// +optional
	OverloadManager *OverloadManager `json:"overloadManager,omitempty"`
	// podMonitor for the proxies.
	// +optional
	PodMonitor *PodMonitor `json:"podMonitor,omitempty"`
	// headerLimits of HTTP listeners.
	// +optional
	HeaderLimits *HeaderLimits `json:"headerLimits,omitempty"`
}

// ConfigSpec is the hub's configuration.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.addressProvider) && self.addressProvider == 'Service' && has(self.infrastructure) && self.infrastructure == 'Host')",message="address provider Service needs infrastructure Kubernetes; on Host use Pool"
// +kubebuilder:validation:XValidation:rule="!(has(self.infrastructure) && self.infrastructure == 'Kubernetes' && !(has(self.addressProvider) && self.addressProvider == 'Service') && !(has(self.envoyProxy) && has(self.envoyProxy.useDaemonset) && self.envoyProxy.useDaemonset))",message="address provider Pool on infrastructure Kubernetes needs envoyProxy.useDaemonset"
type ConfigSpec struct {
	AnnotationSettings `json:",inline"`

	// envoyProxy says how proxies run.
	// +optional
	EnvoyProxy EnvoyProxy `json:"envoyProxy,omitempty"`
	// loadBalancer settings for all tenants.
	// +optional
	LoadBalancer LoadBalancerSettings `json:"loadBalancer,omitempty"`
	// ingress settings for all tenants.
	// +optional
	Ingress IngressSettings `json:"ingress,omitempty"`
	// gatewayAPI settings for all tenants.
	// +optional
	GatewayAPI GatewayAPISettings `json:"gatewayAPI,omitempty"`
	// dns settings for all tenants.
	// +optional
	DNS DNSSettings `json:"dns,omitempty"`
	// certificates settings for all tenants.
	// +optional
	Certificates CertificateSettings `json:"certificates,omitempty"`

	// addressProvider says where external addresses come from. Default: Pool.
	// +optional
	// +default="Pool"
	AddressProvider AddressProvider `json:"addressProvider,omitempty"`
	// infrastructure says where proxies run. Default: Host.
	// +optional
	// +default="Host"
	Infrastructure Infrastructure `json:"infrastructure,omitempty"`
	// addressPools that the hub assigns from (provider Pool).
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	AddressPools []AddressPool `json:"addressPools,omitempty"`
	// addressGracePeriod is how long the address of a deleted load balancer is
	// kept for one of the same name. Default: 24h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="write a duration such as 10s, not a negative one"
	AddressGracePeriod *metav1.Duration `json:"addressGracePeriod,omitempty"`
	// hubNetworks are networks (CIDR) that no endpoint of a tenant may be in unless
	// the Tenant allows it: those of the hub's nodes, pods and Services. The
	// addresses of the hub's own machine are refused anyway.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(n, isCIDR(n))",message="hubNetworks are networks (CIDR)"
	HubNetworks []string `json:"hubNetworks,omitempty"`
	// sealing of secrets.
	// +optional
	Sealing Sealing `json:"sealing,omitempty"`
}

// Sealing says how the hub keeps the keys that tenants seal secrets to.
type Sealing struct {
	// rotateAfter is the age at which a new key is made; tenants seal to it from
	// then on, and older keys still open what was sealed before. 0 turns it off.
	// Default: 2160h (90 days), at least 1h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="write a duration such as 10s, not a negative one"
	RotateAfter *metav1.Duration `json:"rotateAfter,omitempty"`
}

// ConfigStatus is what became of the Config.
type ConfigStatus struct {
	ObjectStatus `json:",inline"`
	// version of the hub.
	// +optional
	Version Version `json:"version,omitempty"`
}

// Config is the hub's configuration. Only the one called default in the hub's
// namespace is read.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kubelb
// +kubebuilder:printcolumn:name="Provider",type=string,JSONPath=`.spec.addressProvider`
// +kubebuilder:printcolumn:name="Infrastructure",type=string,JSONPath=`.spec.infrastructure`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Config struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ConfigSpec   `json:"spec,omitempty"`
	Status ConfigStatus `json:"status,omitempty"`
}

// ConfigList is a list of Configs.
//
// +kubebuilder:object:root=true
type ConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Config `json:"items"`
}

// ReasonNotInForce of a Config's condition: it is not the one that the hub reads.
const ReasonNotInForce = "NotInForce"

// ReasonNotSupported of a Config's condition: this version of the hub cannot do
// what it asks for.
const ReasonNotSupported = "NotSupported"
