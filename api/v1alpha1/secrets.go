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

// Secrets of the hub's namespace that Git cannot give back: kubelbctl keys saves
// and restores them. Those with the identities that open sealed secrets are laid
// out by api/seal.
const (
	// SecretHubKeys has the hub's signing key.
	SecretHubKeys = "kubelb-hub-keys"
	// SecretXDSCA has the authority that proxies and hub trust.
	SecretXDSCA = "kubelb-xds-ca"
)

// The keys of SecretHubKeys.
const (
	HubKeyIdentity       = "identity"     // OpenSSH private key, PEM
	HubKeyIdentityPublic = "identity.pub" // one line of authorized_keys
	// HubKeyNext is a key that tenants are told of and that nothing signs with yet.
	HubKeyNext       = "next"
	HubKeyNextPublic = "next.pub"
	// HubKeyPreviousPublic has a line for each key that signed before. What they
	// signed is still the hub's.
	HubKeyPreviousPublic = "previous.pub"
)
