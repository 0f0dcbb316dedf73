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

package gitsync

import (
	"context"
	"fmt"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// KeysSecret is the Secret with the hub's identity, in the hub's namespace.
// Restore it before a rebuilt hub starts: CCMs trust no other key.
const KeysSecret = v1alpha1.SecretHubKeys

// The hub as the committer of its commits.
const (
	committerName  = repo.HubName
	committerEmail = repo.HubEmail
)

// loadIdentity returns the hub's keys, and makes one if there is none yet.
func loadIdentity(ctx context.Context, live client.Reader, c client.Client, namespace string) (*identity, error) {
	key := client.ObjectKey{Namespace: namespace, Name: KeysSecret}
	for {
		var secret corev1.Secret
		err := live.Get(ctx, key, &secret)
		if err == nil {
			return parseIdentity(&secret)
		}
		if !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("hub keys: %w", err)
		}
		if err := makeKeys(ctx, c, key); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("hub keys: %w", err)
		}
	}
}

func makeKeys(ctx context.Context, c client.Client, key client.ObjectKey) error {
	signer, err := git.GenerateKey()
	if err != nil {
		return err
	}
	pem, err := signer.PEM()
	if err != nil {
		return err
	}
	return c.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Data: map[string][]byte{
			v1alpha1.HubKeyIdentity:       pem,
			v1alpha1.HubKeyIdentityPublic: []byte(signer.PublicKey().String() + " " + committerName + "\n"),
		},
	})
}
