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

// Package render makes intents of a tenant cluster's objects: a Service of
// type LoadBalancer becomes a LoadBalancer (the wish) and a Backend (the fact),
// the nodes become Addresses.
//
//	documents, problems := render.Service(service, options)
//	documents, problems = render.Nodes(ready, options)
//
// It promises that the same objects give the same bytes, in whatever order they
// come and whatever else they carry, and that one object it cannot serve leaves
// the others as they are. Everything it leaves out it says as a
// [v1alpha1.Problem] with the source object, the field and the remedy.
//
// It is pure: it reads no clock and no cluster, and does not change its input.
package render
