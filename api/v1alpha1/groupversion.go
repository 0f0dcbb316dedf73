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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of every kind of this package.
var GroupVersion = schema.GroupVersion{Group: "kubelb.k8c.io", Version: "v1alpha1"}

var schemeBuilder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&LoadBalancer{}, &LoadBalancerList{},
		&Route{}, &RouteList{},
		&Addresses{}, &AddressesList{},
		&Backend{}, &BackendList{},
		&SyncSecret{}, &SyncSecretList{},
		&Tenant{}, &TenantList{},
		&TenantState{}, &TenantStateList{},
		&Config{}, &ConfigList{},
		&GitSource{}, &GitSourceList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})

// AddToScheme registers the kinds of this package.
var AddToScheme = schemeBuilder.AddToScheme

// Kinds as they are written in manifests.
const (
	KindLoadBalancer = "LoadBalancer"
	KindRoute        = "Route"
	KindAddresses    = "Addresses"
	KindBackend      = "Backend"
	KindSyncSecret   = "SyncSecret"
	KindTenant       = "Tenant"
	KindTenantState  = "TenantState"
	KindConfig       = "Config"
	KindGitSource    = "GitSource"
)

// DefaultName is the name of the objects of which a namespace has one:
// Addresses, TenantState and Config.
const DefaultName = "default"

// TenantNamespacePrefix and a tenant's name make the name of its namespace in
// the hub.
const TenantNamespacePrefix = "tenant-"

// TenantNamespace returns the namespace of a tenant in the hub.
func TenantNamespace(tenant string) string { return TenantNamespacePrefix + tenant }

// Labels, annotations and finalizers.
const (
	// Finalizer keeps an object until what was made from it is gone.
	Finalizer = "kubelb.k8c.io/cleanup"
	// FinalizerArchive keeps a Tenant until its branches are archived and its
	// folder is gone from main.
	FinalizerArchive = "kubelb.k8c.io/archive"

	LabelOriginName = "kubelb.k8c.io/origin-name"
	LabelOriginNS   = "kubelb.k8c.io/origin-ns"
	LabelOriginKind = "kubelb.k8c.io/origin-resource-kind"
	LabelManagedBy  = "kubelb.k8c.io/managed-by"
	LabelTenant     = "kubelb.k8c.io/tenant"
	// LabelSource is on every object that gitsync applied and names the GitSource
	// as <namespace>.<name>: the objects with it are the inventory.
	LabelSource = "kubelb.k8c.io/source"

	// ManagedBy is the value of LabelManagedBy.
	ManagedBy = "kubelb"

	// AnnotationOrigin is <namespace>/<name> of the source object, where labels
	// are too short for it.
	AnnotationOrigin    = "kubelb.k8c.io/origin"
	AnnotationOriginUID = "kubelb.k8c.io/origin-uid"
	// AnnotationProxyProtocol asks for a PROXY protocol header to the endpoints;
	// the one value is "v2".
	AnnotationProxyProtocol = "kubelb.k8c.io/proxy-protocol"
	// AnnotationHealthCheckPort names the port of the nodes whose /healthz says
	// whether a node takes new connections (externalTrafficPolicy Cluster), in
	// place of Addresses.spec.healthCheckPort: 1 to 65535, or "0" for none, which
	// means that a TCP connection to the NodePort is enough.
	AnnotationHealthCheckPort = "kubelb.k8c.io/health-check-port"
	// AnnotationLBPolicy on a Service becomes LoadBalancer.spec.lbPolicy.
	AnnotationLBPolicy = "kubelb.k8c.io/lb-policy"
	// AnnotationAddresses on a Service becomes LoadBalancer.spec.addresses: IP
	// addresses separated by commas.
	AnnotationAddresses = "kubelb.k8c.io/addresses"
	// AnnotationConfirm on a Tenant confirms the removals up to an intent commit.
	AnnotationConfirm = "kubelb.k8c.io/confirm"
	// AnnotationReject on a Tenant rejects the proposal of that commit of its
	// review branch, as closing the pull request does.
	AnnotationReject = "kubelb.k8c.io/reject"
	// AnnotationReleaseAddress on a TenantState ends reservations: names of gone
	// LoadBalancers or addresses that are kept for them, separated by commas.
	AnnotationReleaseAddress = "kubelb.k8c.io/release-address"
	// AnnotationAcceptRewrite on a GitSource accepts a rewritten main branch.
	AnnotationAcceptRewrite = "kubelb.k8c.io/accept-rewrite"
	// AnnotationReconcile triggers a GitSource, as with Flux.
	AnnotationReconcile = "reconcile.fluxcd.io/requestedAt"
	// AnnotationPruned is on a LoadBalancer that gitsync deletes because main has it
	// no more: nobody puts it back, so its ports are not kept.
	AnnotationPruned = "kubelb.k8c.io/pruned"
	// AnnotationRevision is the commit of main that an applied object came from.
	AnnotationRevision = "kubelb.k8c.io/revision"
	// AnnotationShortRevision is the same, cut to 12 characters for kubectl's column.
	AnnotationShortRevision = "kubelb.k8c.io/short-revision"
)

// AnnotationPrefix is what a source object's annotation starts with if it
// travels to the hub.
const AnnotationPrefix = "kubelb.k8c.io/"
