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

// TenantStateSpec is empty: a TenantState only reports.
type TenantStateSpec struct{}

// Version is a build of the hub.
type Version struct {
	// gitVersion is the release.
	// +optional
	GitVersion string `json:"gitVersion,omitempty"`
	// gitCommit that was built.
	// +optional
	GitCommit string `json:"gitCommit,omitempty"`
	// buildDate of the binary.
	// +optional
	BuildDate string `json:"buildDate,omitempty"`
	// edition of the hub.
	// +optional
	Edition string `json:"edition,omitempty"`
}

// ObservedIntent is an intent commit that the hub has decided.
type ObservedIntent struct {
	// commit of the intent branch.
	Commit string `json:"commit"`
	// generation in the commit's trailers.
	Generation int64 `json:"generation"`
}

// Reservation keeps an address for an object that is gone.
type Reservation struct {
	// name of the LoadBalancer.
	Name string `json:"name"`
	// addresses that are kept.
	// +listType=atomic
	Addresses []string `json:"addresses"`
	// ports that are kept on them, as in LoadBalancer.status.ports: no other load
	// balancer of the tenant has these. None where the source object is gone.
	// +optional
	Ports string `json:"ports,omitempty"`
	// since is when the object was deleted.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// releaseAfter is when others may have them.
	ReleaseAfter metav1.Time `json:"releaseAfter"`
}

// LoadBalancerState is what a tenant has to know of the layer 4 settings.
type LoadBalancerState struct {
	// disable: load balancers are refused.
	// +optional
	Disable bool `json:"disable,omitempty"`
}

// TenantStateStatus is what a tenant is told of itself.
type TenantStateStatus struct {
	ObjectStatus `json:",inline"`
	// version of the hub.
	// +optional
	Version Version `json:"version,omitempty"`
	// lastUpdated is when the state last changed. It never travels through Git.
	// +optional
	LastUpdated metav1.Time `json:"lastUpdated,omitempty"`
	// loadBalancer settings.
	// +optional
	LoadBalancer LoadBalancerState `json:"loadBalancer,omitempty"`
	// repositoryID of the repository, from its kubelb.yaml.
	// +optional
	RepositoryID string `json:"repositoryID,omitempty"`
	// observedIntent is the intent commit that was decided last.
	// +optional
	ObservedIntent *ObservedIntent `json:"observedIntent,omitempty"`
	// appliedRevision is the last commit of main that changed the tenant's folder
	// and was applied.
	// +optional
	AppliedRevision string `json:"appliedRevision,omitempty"`
	// problemCount counts the problems, of which the first 100 are listed.
	// +optional
	ProblemCount int32 `json:"problemCount,omitempty"`
	// problems of the tenant's files.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Problems []Problem `json:"problems,omitempty"`
	// heldCount counts the held fields, of which the first 100 are listed.
	// +optional
	HeldCount int32 `json:"heldCount,omitempty"`
	// held are fields that differ because a person changed them on main.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Held []HeldField `json:"held,omitempty"`
	// pendingCount counts the pending fields, of which the first 100 are listed.
	// +optional
	PendingCount int32 `json:"pendingCount,omitempty"`
	// pending are fields of the intent branch that are not decided.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Pending []PendingField `json:"pending,omitempty"`
	// review is the proposal that the pending fields wait in, where there is one.
	// +optional
	Review *ReviewStatus `json:"review,omitempty"`
	// sourceGone are the paths of wishes on main that neither the intent nor base
	// has: they are not programmed.
	// +optional
	// +listType=atomic
	SourceGone []string `json:"sourceGone,omitempty"`
	// reservations of objects that are gone.
	// +optional
	// +listType=map
	// +listMapKey=name
	Reservations []Reservation `json:"reservations,omitempty"`
	// recipients (age X25519) that secrets are sealed to, all of them.
	// +optional
	// +listType=atomic
	Recipients []string `json:"recipients,omitempty"`
	// hubKeys are the SSH public keys that sign status branches, the one in use
	// first. A key that is added is announced under a signature of the old one.
	// +optional
	// +listType=atomic
	HubKeys []string `json:"hubKeys,omitempty"`
	// disabledFeatures of the hub for this tenant.
	// +optional
	// +listType=set
	DisabledFeatures []string `json:"disabledFeatures,omitempty"`
}

// TenantState tells a tenant what the hub made of its intents. There is one per
// tenant, called default.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kubelb
// +kubebuilder:printcolumn:name="Intent",type=string,priority=1,JSONPath=`.status.observedIntent.commit`
// +kubebuilder:printcolumn:name="Revision",type=string,priority=1,JSONPath=`.status.appliedRevision`
// +kubebuilder:printcolumn:name="Held",type=integer,JSONPath=`.status.heldCount`
// +kubebuilder:printcolumn:name="Pending",type=integer,JSONPath=`.status.pendingCount`
// +kubebuilder:printcolumn:name="Problems",type=integer,JSONPath=`.status.problemCount`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TenantState struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantStateSpec   `json:"spec,omitempty"`
	Status TenantStateStatus `json:"status,omitempty"`
}

// TenantStateList is a list of TenantStates.
//
// +kubebuilder:object:root=true
type TenantStateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []TenantState `json:"items"`
}

// ConditionRestored on a TenantState: everything that Git knows of the tenant's
// addresses is in the hub again. Nothing is assigned or served before that.
const ConditionRestored = "Restored"

// MaxListed bounds the problems, held and pending fields that a status lists.
const MaxListed = 100
