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

// Package assign gives external addresses out of pools (provider Pool). An
// [Allocator] is fed with what is stored, then asked:
//
//	allocator, problems := assign.New(config.Spec.AddressPools)
//	allocator.Hold(owner, addresses, ports)   // status of every live object
//	allocator.Reserve(owner, reservation)     // reservations of gone objects
//	addresses, problem := allocator.Assign(assign.Request{Owner: owner, Ports: ports})
//	allocator.Show(owner, claims)             // what its status and proxies show now
//
// What is assigned depends on what is held and reserved, and on the order of
// the calls of Assign, not on the order of Hold and Reserve. It promises:
//
//   - An existing assignment wins: Assign returns the same addresses until the
//     owner asks for others or is released, also if pools changed meanwhile.
//   - Without a request the lowest free address of the first pool that has one.
//   - Two tenants never share an address. Two owners of one tenant share one only
//     if it was asked for by address, and then no port of it twice.
//   - What an owner gave up is nobody else's as long as the owner still shows it.
//   - A reservation keeps others away from addresses, and its tenant from ports,
//     and is given back to the owner of that name.
//   - Work per call does not grow with the number of assignments.
//
// It refuses to guess: a request that cannot be granted is a problem and changes
// nothing. An Allocator is plain data and not safe for concurrent use.
package assign
