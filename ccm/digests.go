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
	"fmt"
	"maps"
	"sync"

	"github.com/kubelb/gitops/api/repo"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// digests remember, in a ConfigMap of the tenant cluster, which content and
// recipients the age files on the intent branch were made from. They are keyed
// hashes that cover the age file as well: what is remembered of a file that never
// reached the branch fits no file there. Without the ConfigMap everything is
// sealed once more.
type digests struct {
	client client.Client
	api    client.Reader
	name   types.NamespacedName
	key    []byte

	mu     sync.Mutex
	values map[string]string // by name of the SyncSecret
	dirty  bool
}

func newDigests(c client.Client, api client.Reader, name types.NamespacedName) *digests {
	return &digests{client: c, api: api, name: name, values: map[string]string{}}
}

func (d *digests) load(ctx context.Context, key []byte) error {
	var cm corev1.ConfigMap
	if err := d.api.Get(ctx, d.name, &cm); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read what was sealed: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.key, d.values, d.dirty = key, maps.Clone(cm.Data), false
	if d.values == nil {
		d.values = map[string]string{}
	}
	return nil
}

func (d *digests) get(secret types.NamespacedName) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.values[repo.ObjectName(secret.Namespace, secret.Name)]
}

// set remembers a digest; an empty one is forgotten.
func (d *digests) set(secret types.NamespacedName, digest string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := repo.ObjectName(secret.Namespace, secret.Name)
	if d.values[key] == digest {
		return
	}
	d.dirty = true
	if digest == "" {
		delete(d.values, key)
		return
	}
	d.values[key] = digest
}

// retain forgets all but those of these Secrets.
func (d *digests) retain(secrets map[types.NamespacedName]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := map[string]string{}
	for secret := range secrets {
		key := repo.ObjectName(secret.Namespace, secret.Name)
		if value, ok := d.values[key]; ok {
			kept[key] = value
		}
	}
	d.dirty = d.dirty || len(kept) != len(d.values)
	d.values = kept
}

// save stores what changed.
func (d *digests) save(ctx context.Context) error {
	d.mu.Lock()
	if !d.dirty {
		d.mu.Unlock()
		return nil
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: d.name.Namespace, Name: d.name.Name}, Data: maps.Clone(d.values)}
	d.dirty = false
	d.mu.Unlock()
	err := d.client.Update(ctx, cm)
	if apierrors.IsNotFound(err) {
		err = d.client.Create(ctx, cm)
	}
	if err != nil {
		d.mu.Lock()
		d.dirty = true
		d.mu.Unlock()
	}
	return err
}
