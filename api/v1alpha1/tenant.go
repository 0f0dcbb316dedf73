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

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ReviewPolicy says whether people approve a tenant's changes.
// +kubebuilder:validation:Enum=Off;Required
type ReviewPolicy string

// The review policies.
const (
	ReviewOff      ReviewPolicy = "Off"
	ReviewRequired ReviewPolicy = "Required"
)

// TenantGit is how a tenant's intents reach the hub.
type TenantGit struct {
	// sourceRef names the GitSource with the tenant's main branch; its namespace
	// is the hub's own if empty, else one that the hub's flag --gitsource-namespaces
	// names. If unset: the one GitSource of the hub's namespace.
	// +optional
	SourceRef *LocalReference `json:"sourceRef,omitempty"`
	// intentSourceRef names a GitSource whose repository holds the tenant's
	// intent and status branches, for tenants that must not read each other. Its
	// namespace is as in sourceRef.
	// +optional
	IntentSourceRef *LocalReference `json:"intentSourceRef,omitempty"`
	// review makes changes wait for a pull request.
	// +optional
	// +default="Off"
	Review ReviewPolicy `json:"review,omitempty"`
	// allowedSigners are SSH public keys (one authorized_keys line each, without
	// options). When set, an intent commit counts only if one of them signed it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=16384
	// +kubebuilder:validation:items:Pattern=`^\s*(ssh-|ecdsa-sha2-|sk-)[^\s]*[ \t]+[A-Za-z0-9+/=]+([ \t][^\r\n]*)?\s*$`
	AllowedSigners []string `json:"allowedSigners,omitempty"`
}

// TenantLimits bound what one tenant can have; 0 means no limit.
type TenantLimits struct {
	// loadBalancers is the number of LoadBalancers.
	// +optional
	// +kubebuilder:validation:Minimum=0
	LoadBalancers int32 `json:"loadBalancers,omitempty"`
	// routes is the number of Routes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Routes int32 `json:"routes,omitempty"`
}

// TenantEnvoyProxy overrides the size of a tenant's proxies.
type TenantEnvoyProxy struct {
	// replicas of the Deployment.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Replicas *int32 `json:"replicas,omitempty"`
	// resources of a proxy.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`
}

// LoadBalancerSettings are the layer 4 settings of a tenant or of all.
type LoadBalancerSettings struct {
	// class of the Services in the hub (provider Service).
	// +optional
	Class *string `json:"class,omitempty"`
	// disable refuses load balancers.
	// +optional
	Disable bool `json:"disable,omitempty"`
}

// IngressSettings are the Ingress settings of a tenant or of all.
type IngressSettings struct {
	// class of the Ingresses in the hub.
	// +optional
	Class *string `json:"class,omitempty"`
	// disable refuses Ingresses.
	// +optional
	Disable bool `json:"disable,omitempty"`
}

// GatewayAPISettings are the Gateway API settings of a tenant or of all.
type GatewayAPISettings struct {
	// class of the Gateways in the hub.
	// +optional
	Class *string `json:"class,omitempty"`
	// defaultGateway that routes attach to.
	// +optional
	DefaultGateway *LocalReference `json:"defaultGateway,omitempty"`
	// disable refuses Gateways and routes.
	// +optional
	Disable bool `json:"disable,omitempty"`
}

// DNSSettings are the DNS settings of a tenant or of all.
type DNSSettings struct {
	// wildcardDomain that generated hostnames are made under.
	// +optional
	WildcardDomain *string `json:"wildcardDomain,omitempty"`
	// allowExplicitHostnames lets tenants name hostnames.
	// +optional
	AllowExplicitHostnames *bool `json:"allowExplicitHostnames,omitempty"`
	// useDNSAnnotations adds external-dns annotations.
	// +optional
	UseDNSAnnotations *bool `json:"useDNSAnnotations,omitempty"`
	// useCertificateAnnotations adds cert-manager annotations.
	// +optional
	UseCertificateAnnotations *bool `json:"useCertificateAnnotations,omitempty"`
}

// CertificateSettings are the certificate settings of a tenant or of all.
type CertificateSettings struct {
	// defaultClusterIssuer for cert-manager.
	// +optional
	DefaultClusterIssuer *string `json:"defaultClusterIssuer,omitempty"`
}

// TenantSpec is what an operator grants a tenant.
type TenantSpec struct {
	AnnotationSettings `json:",inline"`

	// envoyProxy overrides the size of the tenant's proxies.
	// +optional
	EnvoyProxy TenantEnvoyProxy `json:"envoyProxy,omitempty"`
	// loadBalancer settings; what is unset comes from Config.
	// +optional
	LoadBalancer LoadBalancerSettings `json:"loadBalancer,omitempty"`
	// ingress settings; what is unset comes from Config.
	// +optional
	Ingress IngressSettings `json:"ingress,omitempty"`
	// gatewayAPI settings; what is unset comes from Config.
	// +optional
	GatewayAPI GatewayAPISettings `json:"gatewayAPI,omitempty"`
	// dns settings; what is unset comes from Config.
	// +optional
	DNS DNSSettings `json:"dns,omitempty"`
	// certificates settings; what is unset comes from Config.
	// +optional
	Certificates CertificateSettings `json:"certificates,omitempty"`

	// git says how the tenant's intents reach the hub.
	// +optional
	Git TenantGit `json:"git,omitempty"`
	// limits on what the tenant can have.
	// +optional
	Limits TenantLimits `json:"limits,omitempty"`
	// maxEndpointsPerPort bounds the endpoints of a port with
	// externalTrafficPolicy Cluster; more are thinned out by rendezvous hash.
	// +optional
	// +default=16
	// +kubebuilder:validation:Minimum=1
	MaxEndpointsPerPort int32 `json:"maxEndpointsPerPort,omitempty"`
	// allowedDomains (example.com, *.example.com) that the tenant's hostnames
	// must be in; none means no hostname.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	AllowedDomains []string `json:"allowedDomains,omitempty"`
	// allowedEndpointCIDRs are networks that endpoints may be in although they
	// are refused otherwise, such as loopback on a test bed.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	AllowedEndpointCIDRs []string `json:"allowedEndpointCIDRs,omitempty"`
	// allowedEndpointDomains (example.com, *.example.com) are the DNS names that
	// explicit endpoints may have; none means IP addresses only. A name can
	// resolve to any address, also one that allowedEndpointCIDRs would not allow:
	// allow only names whose DNS records the tenant cannot change, or tenants that
	// are trusted with what the proxies can reach.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	AllowedEndpointDomains []string `json:"allowedEndpointDomains,omitempty"`
	// addressPools that the tenant may get addresses from, in this order; none
	// means all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	AddressPools []string `json:"addressPools,omitempty"`
	// suspend stops applying and putting back for this tenant; what is programmed
	// stays.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// TenantGitStatus is what gitsync knows of a tenant.
type TenantGitStatus struct {
	// intent is the commit of the intent branch that was decided last.
	// +optional
	Intent string `json:"intent,omitempty"`
	// revision is the last commit of main that changed the tenant's folder and
	// was applied.
	// +optional
	Revision string `json:"revision,omitempty"`
	// shortRevision is revision, cut to 12 characters, for kubectl's column.
	// +optional
	ShortRevision string `json:"shortRevision,omitempty"`
	// intentTime is when the CCM made the commit that was decided last, as the
	// commit says. A CCM pushes only what changes, so an old one is no fault.
	// +optional
	IntentTime *metav1.Time `json:"intentTime,omitempty"`
	// confirm are the commits that wait to be confirmed: what the annotation
	// kubelb.k8c.io/confirm takes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Confirm []Confirmation `json:"confirm,omitempty"`
	// held counts the held fields.
	// +optional
	Held int32 `json:"held"`
	// pending counts the pending fields.
	// +optional
	Pending int32 `json:"pending"`
	// hubKeys are the hub's public keys that the tenant's status branch tells of,
	// the one in use first.
	// +optional
	// +listType=atomic
	HubKeys []string `json:"hubKeys,omitempty"`
	// review is the proposal that waits for people, where there is one.
	// +optional
	Review *ReviewStatus `json:"review,omitempty"`
	// problemCount counts the problems, of which the first are listed.
	// +optional
	ProblemCount int32 `json:"problemCount"`
	// problems of the tenant's files.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Problems []Problem `json:"problems,omitempty"`
}

// Confirmation is what an operator is asked to confirm.
type Confirmation struct {
	// commit of the intent branch, or of main.
	Commit string `json:"commit"`
	// reason of the problem that asks for it.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// TenantStatus is what became of a Tenant.
type TenantStatus struct {
	ObjectStatus `json:",inline"`
	// phase is Pending, Ready, Failed or Terminating.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Ready;Failed;Terminating
	Phase string `json:"phase,omitempty"`
	// loadBalancers counts the tenant's LoadBalancers.
	// +optional
	LoadBalancers int32 `json:"loadBalancers,omitempty"`
	// notReady counts the LoadBalancers that are not Ready.
	// +optional
	NotReady int32 `json:"notReady,omitempty"`
	// problemCount counts all problems: of the tenant's files (git.problemCount)
	// and of its LoadBalancers.
	// +optional
	ProblemCount int32 `json:"problemCount,omitempty"`
	// reason of the first thing that is wrong; empty where nothing is.
	// +optional
	Reason string `json:"reason,omitempty"`
	// git is what gitsync knows of the tenant.
	// +optional
	Git *TenantGitStatus `json:"git,omitempty"`
}

// Phases of a Tenant.
const (
	PhasePending     = "Pending"
	PhaseReady       = "Ready"
	PhaseFailed      = "Failed"
	PhaseTerminating = "Terminating"
)

// Tenant is a cluster that consumes load balancers. Its name is a DNS label of
// at most 56 characters and cannot change.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ten,categories=kubelb
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="LoadBalancers",type=integer,JSONPath=`.status.loadBalancers`
// +kubebuilder:printcolumn:name="NotReady",type=integer,JSONPath=`.status.notReady`
// +kubebuilder:printcolumn:name="Held",type=integer,JSONPath=`.status.git.held`
// +kubebuilder:printcolumn:name="Pending",type=integer,JSONPath=`.status.git.pending`
// +kubebuilder:printcolumn:name="Problems",type=integer,JSONPath=`.status.problemCount`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Heard",type=date,JSONPath=`.status.git.intentTime`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.git.shortRevision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 56 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="a Tenant's name is a DNS label of at most 56 characters"
type Tenant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantSpec   `json:"spec,omitempty"`
	Status TenantStatus `json:"status,omitempty"`
}

// TenantList is a list of Tenants.
//
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Tenant `json:"items"`
}

// Reasons of a Tenant's conditions.
const (
	ReasonSourceNotFound = "SourceNotFound"
	ReasonSucceeded      = "Succeeded"
	ReasonSuspended      = "Suspended"
	ReasonProgressing    = "Progressing"
	ReasonGuarded        = "RemovalsNeedConfirmation"
	ReasonForeignCluster = "ForeignCluster"
	ReasonStaleWriter    = "StaleWriter"
	ReasonUntrusted      = "Untrusted"
	// ReasonUnverified: neither the hub nor an entitled reviewer signed a change
	// on main (GitSource.spec.verify).
	ReasonUnverified = "Unverified"
	// ReasonNoAllowedSigners: main is verified, but anybody who can push the
	// tenant's intent branch decides what the hub integrates.
	ReasonNoAllowedSigners = "NoAllowedSigners"
	ReasonTenantMissing    = "TenantMissing"
	// ReasonTenantDeleted is what a tenant is told last.
	ReasonTenantDeleted = "TenantDeleted"
	ReasonDraining      = "Draining"
	ReasonArchiveFailed = "ArchiveFailed"
)

// ConditionHeard on a Tenant says whether its CCM was ever heard of: whether the
// hub has decided a commit of its intent branch. How long ago is git.intentTime.
const ConditionHeard = "Heard"

// Reasons of the condition Heard.
const (
	ReasonHeard       = "IntentDecided"
	ReasonNoIntentYet = "NoIntentYet"
)

// ConditionArchived on a Tenant that is being deleted says what its branches
// and its folder on main wait for.
const ConditionArchived = "Archived"
