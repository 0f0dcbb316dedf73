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

// SyncSecretStatus is what became of a SyncSecret.
type SyncSecretStatus struct {
	ObjectStatus `json:",inline"`
	// phase is Pending, Synced, Failed or Terminating.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Synced;Failed;Terminating
	Phase string `json:"phase,omitempty"`
	// problems of the object as it is now.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Problems []Problem `json:"problems,omitempty"`
	// git is what gitsync knows of the object.
	// +optional
	Git *GitStatus `json:"git,omitempty"`
}

// SyncSecret is a Secret of a tenant that the hub shall have.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kubelb
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.type`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Held",type=string,JSONPath=`.status.git.heldSummary`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.metadata.annotations.kubelb\.k8c\.io/short-revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SyncSecret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// immutable as in a Secret.
	// +optional
	Immutable *bool `json:"immutable,omitempty"`
	// data as in a Secret. It never travels through Git.
	// +optional
	Data map[string][]byte `json:"data,omitempty"`
	// stringData as in a Secret. It never travels through Git.
	// +optional
	StringData map[string]string `json:"stringData,omitempty"`
	// type as in a Secret.
	// +optional
	Type corev1.SecretType `json:"type,omitempty"`
	// sealed is an armored age file that only the hub can open.
	// +optional
	Sealed string `json:"sealed,omitempty"`

	Status SyncSecretStatus `json:"status,omitempty"`
}

// SyncSecretList is a list of SyncSecrets.
//
// +kubebuilder:object:root=true
type SyncSecretList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []SyncSecret `json:"items"`
}

// Reasons of conditions and problems of a SyncSecret, beside ReasonInvalid.
const (
	// ReasonCannotOpen: it is sealed to no key that the hub has.
	ReasonCannotOpen = "CannotOpen"
	// ReasonMalformed: what is sealed is damaged, or not what it should be.
	ReasonMalformed = "Malformed"
	// ReasonAddressMismatch: it was sealed for another Secret.
	ReasonAddressMismatch = "AddressMismatch"
	// ReasonTypeMismatch: it was sealed as another type than the document's.
	ReasonTypeMismatch = "TypeMismatch"
	// ReasonTooLarge: the content is too large.
	ReasonTooLarge = "TooLarge"
	// ReasonSecretRefused: the API server does not take such a Secret.
	ReasonSecretRefused = "SecretRefused"
	// ReasonNameTaken: there is a Secret of that name that is not the SyncSecret's.
	ReasonNameTaken = "NameTaken"
	// ReasonSynced: the hub has the Secret.
	ReasonSynced = "Synced"
)

// Phases of a SyncSecret.
const (
	SyncPending     = "Pending"
	SyncSynced      = "Synced"
	SyncFailed      = "Failed"
	SyncTerminating = "Terminating"
)

// SyncableSecretType reports whether Secrets of a type can be brought to the
// hub. Tokens of service accounts and of bootstrapping mean something to the
// cluster that they are in, and would be credentials of the hub's.
func SyncableSecretType(t corev1.SecretType) bool {
	return t != corev1.SecretTypeServiceAccountToken && t != corev1.SecretTypeBootstrapToken
}
