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

package ccm

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups="",namespace=kubelb,resources=secrets,verbs=get;create

const (
	keyIdentity       = "identity"
	keyIdentityPublic = "identity.pub"
)

// ensureKey returns the key that signs intents, and makes it if there is none.
func ensureKey(ctx context.Context, api client.Reader, writer client.Writer, name types.NamespacedName) (*git.Signer, error) {
	var secret corev1.Secret
	err := api.Get(ctx, name, &secret)
	if apierrors.IsNotFound(err) {
		if err = createKey(ctx, writer, name); err == nil || apierrors.IsAlreadyExists(err) {
			err = api.Get(ctx, name, &secret)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	signer, err := git.ParsePrivateKey(secret.Data[keyIdentity])
	if err != nil {
		return nil, fmt.Errorf("signing key in Secret %s: %w", name, err)
	}
	return signer, nil
}

func createKey(ctx context.Context, writer client.Writer, name types.NamespacedName) error {
	signer, err := git.GenerateKey()
	if err != nil {
		return err
	}
	private, err := signer.PEM()
	if err != nil {
		return err
	}
	return writer.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name},
		Data: map[string][]byte{
			keyIdentity:       private,
			keyIdentityPublic: []byte(signer.PublicKey().String() + "\n"),
		},
	})
}

// keyDigest is the key in the Secret DigestKeySecretName, digestKeySize its
// length.
const (
	keyDigest     = "key"
	digestKeySize = 32
)

// ensureDigestKey returns the key of the digests of what was sealed, and makes it
// if there is none. It never leaves the cluster.
func ensureDigestKey(ctx context.Context, api client.Reader, writer client.Writer, name types.NamespacedName) ([]byte, error) {
	var secret corev1.Secret
	err := api.Get(ctx, name, &secret)
	if apierrors.IsNotFound(err) {
		key := make([]byte, digestKeySize)
		_, _ = rand.Read(key) // never fails
		err = writer.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}, Data: map[string][]byte{keyDigest: key},
		})
		if err == nil || apierrors.IsAlreadyExists(err) {
			err = api.Get(ctx, name, &secret)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key of the digests: %w", err)
	}
	if len(secret.Data[keyDigest]) < digestKeySize {
		return nil, fmt.Errorf("key of the digests in Secret %s is too short: delete the Secret, and secrets are sealed again", name)
	}
	return secret.Data[keyDigest], nil
}
