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

// Package gitops is the root of the module. It has the skeleton of the repository
// that hub, tenants and people share.
package gitops

import "embed"

// Template holds the files of repo-template/, from which a new repository is made.
//
//go:embed all:repo-template
var Template embed.FS

// TemplateDir is the folder of [Template] that they are in.
const TemplateDir = "repo-template"

// CCMRights holds the manifests of the CCM's service account and rights.
//
//go:embed deploy/rbac/ccm/role.yaml deploy/rbac/ccm/binding.yaml
var CCMRights embed.FS

// CCMRightsDir is the folder of [CCMRights] that they are in.
const CCMRightsDir = "deploy/rbac/ccm"
