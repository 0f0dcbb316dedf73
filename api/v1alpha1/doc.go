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

// Package v1alpha1 is the API of the hub: what tenants ask for (LoadBalancer,
// Route, Addresses, Backend, SyncSecret), what operators set (Tenant, Config,
// GitSource) and what both are told (TenantState). It is a superset of KubeLB's
// types of the same group and version, with the same JSON field names.
//
// Beside the types stand the rules that no schema can hold ([Validate]), the
// reasons of conditions, the keys by which lists are merged ([MergeKeys]) and
// [Problem], the one form in which a user's mistake is reported.
//
// The package refuses to know anything of clients, controllers or Git.
//
// +kubebuilder:object:generate=true
// +groupName=kubelb.k8c.io
package v1alpha1
