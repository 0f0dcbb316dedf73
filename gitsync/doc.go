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

// Package gitsync carries tenants' intents from Git into the hub and the hub's
// answers back: it fetches, integrates, applies and reports. See docs/design.md.
//
// There is one loop per GitSource. It alone writes the branches main and
// base/main (beside people, who may push to main) and status/<tenant>, and it
// alone applies objects into the namespaces of the tenants. A loop keeps what
// it knows in memory and can lose it at any time: everything it needs is in Git
// and in the Kubernetes API.
//
// It promises that a pass costs what changed, not what is there; that a pass
// without news makes no commit and no write; that after any failure what is
// applied stays, and nothing is pruned that was not completely read; that one
// tenant's mistakes stay that tenant's.
//
// It refuses to make a main branch, to follow one whose history was rewritten
// until that is accepted, to remove anything because an intent branch is
// missing or unreadable, and to apply what another GitSource has applied.
package gitsync
