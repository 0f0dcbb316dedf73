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
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// identity are the hub's keys, as its Secret has them.
type identity struct {
	signer *git.Signer
	// next will sign after this one; tenants are told before it does.
	next git.PublicKey
	// previous have signed what is in the repository.
	previous []git.PublicKey
	version  string // of the Secret
}

// known are the keys whose signatures are the hub's.
func (i *identity) known() []git.PublicKey {
	return append([]git.PublicKey{i.signer.PublicKey(), i.next}, i.previous...)
}

// announced are the keys that tenants are told of: the one in use first.
func (i *identity) announced() []string {
	keys := []string{i.signer.PublicKey().String()}
	if next := i.next.String(); next != "" {
		keys = append(keys, next)
	}
	return keys
}

// parseIdentity reads the Secret.
func parseIdentity(secret *corev1.Secret) (*identity, error) {
	fail := func(key string, err error) error {
		return fmt.Errorf("secret %s, key %s: %w", client.ObjectKeyFromObject(secret), key, err)
	}
	i := &identity{version: secret.ResourceVersion}
	var err error
	if i.signer, err = git.ParsePrivateKey(secret.Data[v1alpha1.HubKeyIdentity]); err != nil {
		return nil, fail(v1alpha1.HubKeyIdentity, err)
	}
	if pem := secret.Data[v1alpha1.HubKeyNext]; len(pem) > 0 {
		next, err := git.ParsePrivateKey(pem)
		if err != nil {
			return nil, fail(v1alpha1.HubKeyNext, err)
		}
		if i.next = next.PublicKey(); i.next.Equal(i.signer.PublicKey()) {
			i.next = git.PublicKey{}
		}
	}
	for line := range strings.Lines(string(secret.Data[v1alpha1.HubKeyPreviousPublic])) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := git.ParsePublicKey(line)
		if err != nil {
			return nil, fail(v1alpha1.HubKeyPreviousPublic, err)
		}
		i.previous = append(i.previous, key)
	}
	return i, nil
}

// loadKeys looks whether the hub's keys were changed. What cannot be read
// changes nothing. Before they were read once they may be old: a loop signs nothing
// with those that the hub began with.
func (l *loop) loadKeys(ctx context.Context) error {
	now := l.now()
	if now.Before(l.keysAt) {
		return nil
	}
	first := l.keysAt.IsZero()
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: l.options.Namespace, Name: KeysSecret}
	err := l.live.Get(ctx, key, &secret)
	if first && client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the hub's keys: %w", err)
	}
	l.keysAt = now.Add(l.interval())
	if apierrors.IsNotFound(err) || err == nil && secret.ResourceVersion == l.keys.version {
		return nil
	}
	var keys *identity
	if err == nil {
		keys, err = parseIdentity(&secret)
	}
	if err != nil {
		if ctx.Err() == nil {
			l.log.Error(err, "the hub's keys stay as they are")
		}
		return nil
	}
	if !keys.signer.PublicKey().Equal(l.signer.PublicKey()) {
		l.log.Info("the hub signs with another key", "key", keys.signer.PublicKey().String(), "before", l.signer.PublicKey().String())
	}
	if !slices.Equal(keys.announced(), l.keys.announced()) {
		for _, t := range l.tenants {
			t.untold = true
			l.want(t)
		}
	}
	l.keys, l.signer = keys, keys.signer
	return nil
}

// resign reports whether base/main has to be written anew because another key
// signed it.
func (l *loop) resign() bool {
	if l.base.commit.Hash.IsZero() {
		return false
	}
	_, err := l.base.commit.Verify(l.signer.PublicKey())
	return err != nil
}
