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

// Package seal puts the content of a Secret into an armored age file that only
// the hub can open, together with the address it is for:
//
//	identity, recipient, err := seal.GenerateIdentity()
//	armored, err := seal.Seal([]string{recipient}, envelope)
//	envelope, err := seal.Open([]string{identity}, armored)
//	err = envelope.Check("acme", "shop", "cert")
//
// The plaintext of the age file is one JSON object, so that the age command line
// can open and make such files as well:
//
//	{"tenant":"acme","namespace":"shop","name":"cert","type":"kubernetes.io/tls","data":{"tls.crt":"LS0t...","tls.key":"LS0t..."}}
//
// tenant, namespace and name are those of the Secret in the tenant's cluster;
// values of data are base64, as in a Secret; an absent type is Opaque. Other
// fields, repeated fields and anything after the object are refused. [Seal]
// writes the fields in this order, keys sorted, and a newline at the end;
// [Open] takes any order and white space.
//
// It promises that no error quotes a plaintext or an identity, that opening is
// bounded in size and effort whatever the file, and that [Envelope.Digest] says
// without telling the content whether an age file that was made before is still
// right: they differ every time, so equal content cannot be seen otherwise.
//
// An age file says nothing about who made it: everybody who knows a recipient
// can seal. Who may commit decides that, not this package.
//
// [Keyring] is the layout of the Secret that holds the hub's identities.
package seal
