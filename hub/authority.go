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

package hub

import (
	"context"
	"fmt"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/infra"
	"github.com/kubelb/gitops/hub/pki"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups="",namespace=kubelb,resources=secrets,verbs=get;create

// AuthoritySecret has the certificate and key of the xDS authority.
const AuthoritySecret = v1alpha1.SecretXDSCA

// LoadAuthority returns the xDS authority of the hub in a namespace, and makes it
// if there is none. Replicas that start at the same time agree on one.
func LoadAuthority(ctx context.Context, c client.Client, namespace string) (*pki.Authority, error) {
	key := types.NamespacedName{Namespace: namespace, Name: AuthoritySecret}
	var secret corev1.Secret
	err := c.Get(ctx, key, &secret)
	if apierrors.IsNotFound(err) {
		if err := createAuthority(ctx, c, key); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("create Secret %s: %w", key, err)
		}
		err = c.Get(ctx, key, &secret)
	}
	if err != nil {
		return nil, fmt.Errorf("get Secret %s: %w", key, err)
	}
	authority, err := pki.ParseAuthority(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("secret %s (restore it, or delete it and restart the hub and its proxies): %w", key, err)
	}
	return authority, nil
}

func createAuthority(ctx context.Context, c client.Client, key types.NamespacedName) error {
	authority, err := pki.NewAuthority(time.Now())
	if err != nil {
		return err
	}
	certificate, private, err := authority.PEM()
	if err != nil {
		return err
	}
	return c.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: private},
	})
}

// Identities makes what the proxies of a group show to the hub's xDS server.
func Identities(authority *pki.Authority) func(group string) (infra.Identity, error) {
	return func(group string) (infra.Identity, error) {
		leaf, err := authority.Client(group, time.Now())
		if err != nil {
			return infra.Identity{}, err
		}
		return infra.Identity{
			Certificate: leaf.Certificate, Key: leaf.Key, Authority: authority.CertificatePEM(),
			ServerName: pki.ServerName, RenewAt: leaf.RenewAt,
		}, nil
	}
}
