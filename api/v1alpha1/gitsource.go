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

// VerifyMode says what an unsigned change on main is worth.
// +kubebuilder:validation:Enum=Off;Warn;Require
type VerifyMode string

// The verify modes.
const (
	VerifyOff     VerifyMode = "Off"
	VerifyWarn    VerifyMode = "Warn"
	VerifyRequire VerifyMode = "Require"
)

// ApplyMode says who applies main.
// +kubebuilder:validation:Enum=Enabled;Disabled
type ApplyMode string

// The apply modes.
const (
	ApplyEnabled ApplyMode = "Enabled"
	// ApplyDisabled leaves applying to Flux or Argo CD.
	ApplyDisabled ApplyMode = "Disabled"
)

// WebhookType is the format that a Git server tells of news in.
// +kubebuilder:validation:Enum=generic-hmac;github;gitlab;gitea
type WebhookType string

// The webhook types.
const (
	// WebhookGeneric is Flux's generic-hmac: X-Signature over the body.
	WebhookGeneric WebhookType = "generic-hmac"
	WebhookGitHub  WebhookType = "github"
	WebhookGitLab  WebhookType = "gitlab"
	WebhookGitea   WebhookType = "gitea"
)

// GitWebhook lets the Git server tell of news.
type GitWebhook struct {
	// type of the sender. Default: generic-hmac.
	// +optional
	// +default="generic-hmac"
	Type WebhookType `json:"type,omitempty"`
	// secretRef names a Secret whose key "token" is the HMAC key (GitLab: the
	// secret token).
	// +kubebuilder:validation:XValidation:rule="!has(self.__namespace__) || self.__namespace__ == ''",message="a GitSource uses Secrets of its own namespace only: leave out namespace"
	SecretRef LocalReference `json:"secretRef"`
}

// Reviewer is a person whose signature on a commit of main counts.
type Reviewer struct {
	// name of the reviewer, as problems and approvals show it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// publicKey is an SSH public key (one authorized_keys line without options) or
	// one armored OpenPGP public key block.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32768
	PublicKey string `json:"publicKey"`
	// tenants whose files the reviewer's signature counts for; none means all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	Tenants []string `json:"tenants,omitempty"`
}

// ForgeKind is a kind of Git forge.
// +kubebuilder:validation:Enum=GitHub;GitLab;Gitea
type ForgeKind string

// The kinds of forges.
const (
	ForgeGitHub ForgeKind = "GitHub"
	ForgeGitLab ForgeKind = "GitLab"
	// ForgeGitea is also Forgejo.
	ForgeGitea ForgeKind = "Gitea"
)

// GitForge lets the hub open pull requests for tenants with review: Required.
type GitForge struct {
	// kind of the forge.
	Kind ForgeKind `json:"kind"`
	// url of the forge, such as https://git.example.com. Default: scheme and host
	// of spec.url (of an ssh URL: https and its host).
	// +optional
	// +kubebuilder:validation:Pattern=`^(https?://[^/?#@]+(/[^?#@]*)?)?$`
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`
	// repository as owner/name (GitLab: group/subgroup/name). Default: the path
	// of spec.url.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Repository string `json:"repository,omitempty"`
	// secretRef names a Secret with an API token in the key "token", and ca.crt
	// for the forge's certificate.
	// +kubebuilder:validation:XValidation:rule="!has(self.__namespace__) || self.__namespace__ == ''",message="a GitSource uses Secrets of its own namespace only: leave out namespace"
	SecretRef LocalReference `json:"secretRef"`
}

// GitSourceSpec is a repository and how to follow it.
type GitSourceSpec struct {
	// url of the repository: http, https or ssh (ssh://git@host[:port]/path). It
	// has no password, query or fragment; credentials are in secretRef's Secret.
	// +kubebuilder:validation:Pattern=`^(https?|ssh)://[^/?#]+(/[^?#]*)?$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^/]*@') && !self.matches('^ssh://[^/]*:[^/]*@')",message="a URL must not hold credentials: put them into a Secret that spec.secretRef names; treat these as disclosed"
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url"`
	// branch that is the truth. Default: main.
	// +optional
	// +default="main"
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:XValidation:rule="self == '' || (self.matches('^[A-Za-z0-9_][-A-Za-z0-9_./]*$') && !self.contains('..') && !self.contains('//') && !self.matches('(/|[.]|[.]lock)$'))",message="write the short name of a branch, such as main"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(intent|status|review|base|archive)(/|$)')",message="branches under intent/, status/, review/, base/ and archive/ have another purpose: follow a branch such as main"
	Branch string `json:"branch,omitempty"`
	// interval at which the repository is looked at without a webhook. Default: 10s.
	// +optional
	// +default="10s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="write a duration such as 10s, not a negative one"
	Interval metav1.Duration `json:"interval,omitempty"`
	// minPushInterval is the least time between two pushes, for forges that limit
	// them. Default: none.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="write a duration such as 10s, not a negative one"
	MinPushInterval *metav1.Duration `json:"minPushInterval,omitempty"`
	// timeout of one exchange with the Git server. Default: 20s.
	// +optional
	// +default="20s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="write a duration such as 10s, not a negative one"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// secretRef names a Secret with credentials as Flux has them: username and
	// password, or bearerToken; ca.crt for the server's certificate; for ssh
	// identity (a private key), password (of the key, optional) and known_hosts.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.__namespace__) || self.__namespace__ == ''",message="a GitSource uses Secrets of its own namespace only: leave out namespace"
	SecretRef *LocalReference `json:"secretRef,omitempty"`
	// proxySecretRef names a Secret with the proxy to reach the Git server
	// through, as Flux has it: address, and optionally username and password.
	// Default: the hub's environment.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.__namespace__) || self.__namespace__ == ''",message="a GitSource uses Secrets of its own namespace only: leave out namespace"
	ProxySecretRef *LocalReference `json:"proxySecretRef,omitempty"`
	// verify says what changes on main are worth that neither the hub nor a
	// reviewer signed: Off takes them, Warn takes them with a problem, Require
	// keeps the last good version of the path. Default: Off.
	// +optional
	// +default="Off"
	Verify VerifyMode `json:"verify,omitempty"`
	// reviewers are the people whose signatures count (verify).
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=200
	Reviewers []Reviewer `json:"reviewers,omitempty"`
	// trustForgeApproval accepts an unsigned or forge-signed merge whose result
	// equals the review tree that the hub signed: the forge can then approve, but
	// never alter.
	// +optional
	TrustForgeApproval bool `json:"trustForgeApproval,omitempty"`
	// forge lets the hub open pull requests; without it review branches alone
	// work.
	// +optional
	Forge *GitForge `json:"forge,omitempty"`
	// webhook lets the Git server tell of news: POST /hook/<namespace>/<name>.
	// +optional
	Webhook *GitWebhook `json:"webhook,omitempty"`
	// suspend stops following.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// apply says who applies main.
	// +optional
	// +default="Enabled"
	Apply ApplyMode `json:"apply,omitempty"`
}

// GitSourceStatus is what became of following a repository.
type GitSourceStatus struct {
	ObjectStatus `json:",inline"`
	// revision is the commit of main that was applied last.
	// +optional
	Revision string `json:"revision,omitempty"`
	// shortRevision is revision, cut to 12 characters, for kubectl's column.
	// +optional
	ShortRevision string `json:"shortRevision,omitempty"`
	// acceptRewrite is the commit of main that has to be accepted before the hub
	// goes on: what the annotation kubelb.k8c.io/accept-rewrite takes. Empty where
	// nothing has to be accepted.
	// +optional
	AcceptRewrite string `json:"acceptRewrite,omitempty"`
	// baseGeneration is the highest generation of the hub's own branch base/ that
	// was seen. A repository that is set back behind it is not followed.
	// +optional
	BaseGeneration int64 `json:"baseGeneration,omitempty"`
	// repositoryID in the repository's kubelb.yaml.
	// +optional
	RepositoryID string `json:"repositoryID,omitempty"`
	// lastHandledReconcileAt is the last reconcile.fluxcd.io/requestedAt handled.
	// +optional
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
	// problemCount counts the problems, of which the first are listed.
	// +optional
	ProblemCount int32 `json:"problemCount"`
	// problems of files that belong to no tenant.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Problems []Problem `json:"problems,omitempty"`
}

// GitSource is a repository that tenants and the hub meet in. The hub follows
// those of its own namespace, and of the namespaces that its flag
// --gitsource-namespaces names. The Secrets that it refers to are in its own
// namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=gs,categories=kubelb
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Problems",type=integer,JSONPath=`.status.problemCount`
// +kubebuilder:printcolumn:name="Webhook",type=string,JSONPath=`.status.conditions[?(@.type=="WebhookReady")].status`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.shortRevision`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GitSource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   GitSourceSpec   `json:"spec,omitempty"`
	Status GitSourceStatus `json:"status,omitempty"`
}

// GitSourceList is a list of GitSources.
//
// +kubebuilder:object:root=true
type GitSourceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []GitSource `json:"items"`
}

// ConditionWebhookReady on a GitSource with spec.webhook says whether the hub can
// tell a true webhook from a false one. Without it news are heard at the interval.
const ConditionWebhookReady = "WebhookReady"

// Reasons of a GitSource's conditions.
const (
	// ReasonSecretNotFound and ReasonTokenMissing: no webhook is believed.
	ReasonSecretNotFound    = "SecretNotFound"
	ReasonTokenMissing      = "TokenMissing"
	ReasonGitUnavailable    = "GitUnavailable"
	ReasonAuthFailed        = "AuthenticationFailed"
	ReasonHostKeyMismatch   = "HostKeyMismatch"
	ReasonBranchNotFound    = "BranchNotFound"
	ReasonRepositoryInvalid = "RepositoryInvalid"
	ReasonRolledBack        = "RolledBack"
	ReasonMainRewritten     = "MainRewritten"
	ReasonPushFailed        = "PushFailed"
	// ReasonStatusBranchGrows: the server refuses forced pushes of a status branch.
	ReasonStatusBranchGrows = "StatusBranchGrows"
	ReasonApplyFailed       = "ApplyFailed"
	ReasonApplyGuarded      = "RemovalsNeedConfirmation"
	// ReasonNamespaceNotFollowed: the hub follows GitSources of its own namespace
	// and of those that its flag --gitsource-namespaces names.
	ReasonNamespaceNotFollowed = "NamespaceNotFollowed"
)
