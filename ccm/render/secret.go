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

package render

import (
	"cmp"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
)

// Reasons of problems of Secrets.
const (
	ReasonSecretType = "UnsupportedSecretType"
	ReasonTooLarge   = v1alpha1.ReasonTooLarge
)

// Sealable is a Secret on its way into a document: what is to be sealed, and
// everything else.
type Sealable struct {
	Envelope seal.Envelope

	path   repo.Path
	intent *v1alpha1.SyncSecret
}

// Path is that of the document.
func (s *Sealable) Path() string { return s.path.String() }

// Document returns the document with what was sealed. It has nothing of the
// Secret in plaintext but its name, its type and whether it is immutable.
func (s *Sealable) Document(sealed string) Document {
	intent := s.intent.DeepCopy()
	intent.Sealed = sealed
	return document(s.path, intent)
}

// SecretPath returns the path of what a Secret is rendered to.
func SecretPath(tenant, namespace, name string) repo.Path {
	return repo.Path{Tenant: tenant, Kind: v1alpha1.KindSyncSecret, Namespace: namespace, Name: repo.FileName(name), SourceKind: "secret"}
}

// SecretInScope reports whether a Secret asks to be brought to the hub.
func SecretInScope(secret *corev1.Secret) bool {
	return secret.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy && secret.DeletionTimestamp == nil
}

// Secret renders a Secret that shall be brought to the hub, but for the sealing,
// which is neither pure nor repeatable. It returns nil and a problem for one
// that cannot be.
func Secret(secret *corev1.Secret, o Options) (*Sealable, []v1alpha1.Problem) {
	path := SecretPath(o.Tenant, secret.Namespace, secret.Name)
	if !v1alpha1.SyncableSecretType(secret.Type) {
		return nil, []v1alpha1.Problem{{
			Path: path.String(), Object: path.Source(), Field: "type", Reason: ReasonSecretType,
			Message: "a Secret of type " + string(secret.Type) + " is a credential of this cluster and is not brought to the hub",
			Remedy:  "take the label " + v1alpha1.LabelManagedBy + " off",
		}}
	}
	s := &Sealable{
		path: path,
		Envelope: seal.Envelope{
			Tenant: o.Tenant, Namespace: secret.Namespace, Name: secret.Name,
			Type: cmp.Or(secret.Type, corev1.SecretTypeOpaque), Data: secret.Data,
		},
	}
	s.intent = &v1alpha1.SyncSecret{ObjectMeta: meta(path, secret, "Secret"), Type: s.Envelope.Type}
	if secret.Immutable != nil && *secret.Immutable {
		s.intent.Immutable = secret.Immutable
	}
	return s, nil
}
