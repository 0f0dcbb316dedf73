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

// Package ccm is the agent in a tenant cluster: it pushes what the cluster wants
// to its intent branch and writes what the hub answers into the cluster.
//
// Reconcilers only say what changed and keep finalizers. One publisher renders
// ([render]) and pushes; one observer fetches the status branch and says which
// Services it concerns; the status reconciler projects ([project]) and writes.
//
// It promises that no change makes no commit, that nothing is pushed before the
// caches are complete and the repository is known by the hub's signature, that
// a status counts only if the hub signed it for this tenant and repository and
// it is not older than what was seen, and that Services keep their addresses
// while Git or the hub is away. It refuses to write a branch that another
// cluster writes.
package ccm
