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

// Package repo is the contract of the Git repository: which files there are,
// what they are called, how they are written and read, which branches and
// trailers there are. The way of one file:
//
//	path, err := repo.PathOf(loadBalancer) // tenants/acme/loadbalancers/shop/web.service.yaml
//	data, err := repo.Encode(loadBalancer) // canonical: same object, same bytes
//	object, problems := repo.Decode(path, repo.File{Data: data}) // strict
//
// It promises that Encode and Decode are each other's inverse, that decoding
// never panics and never reports less than every mistake it can find, and that
// nothing outside the fixed set of kinds comes out of it. It knows no Git: a
// [Tree] is plain data.
package repo
