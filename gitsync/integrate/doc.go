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

// Package integrate carries what changed on a tenant's intent branch into main.
// It is pure: three trees in (with a review: four), edits of two (with a review:
// three) out.
//
//	result := integrate.Integrate(integrate.Input{Tenant: "acme", Intent: tip, Base: base, Main: main, Decided: 12})
//
// A fact (Addresses, Backend) of the tip goes to main as it is. A wish
// (LoadBalancer, Route, SyncSecret) is merged three-way, where B, I and M are a
// document, a list's element or a field in base, intent and main:
//
//	case                           main  base  proposed
//	I = B                          M     B     –   held if M ≠ B
//	M = I                          M     I     –   decided
//	document: I = ∅, B ≠ ∅         ∅     ∅     –   the source is gone
//	maps, keyed lists              each key by this table
//	review                         M     B     I   pending
//	M = B                          I     I     –   taken
//	otherwise                      M     I     –   held
//
// An absent map is an empty one; an absent document or element is absent, and
// one that both sides added is main's whole (under review: by key). Elements of
// lists are told by what they are, ports by number and protocol, whatever they are
// called; the name of a port goes to main without review.
//
// It promises that what people wrote on main stays until they or the tenant's
// deletion take it back, that nothing invalid reaches main, base or a review,
// that one bad document never blocks its neighbours, and that a second run on
// its own result edits nothing, so that a caller that died between two pushes
// only has to run again. It refuses to judge who may change what: signatures,
// generations and the choice of base are the caller's.
package integrate
