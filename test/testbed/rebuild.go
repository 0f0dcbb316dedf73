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

package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kubelb/gitops/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// OperatorsManifests are what an operator wrote himself and keeps outside of the
// hub: Config, GitSources and Tenants.
func (s *System) OperatorsManifests(ctx context.Context) ([]client.Object, error) {
	var manifests []client.Object
	var configs v1alpha1.ConfigList
	var sources v1alpha1.GitSourceList
	var tenants v1alpha1.TenantList
	err := errors.Join(s.HubClient.List(ctx, &configs), s.HubClient.List(ctx, &sources), s.HubClient.List(ctx, &tenants))
	if err != nil {
		return nil, err
	}
	for i := range configs.Items {
		configs.Items[i].Status = v1alpha1.ConfigStatus{}
		manifests = append(manifests, &configs.Items[i])
	}
	for i := range sources.Items {
		sources.Items[i].Status = v1alpha1.GitSourceStatus{}
		manifests = append(manifests, &sources.Items[i])
	}
	for i := range tenants.Items {
		tenants.Items[i].Status = v1alpha1.TenantStatus{}
		manifests = append(manifests, &tenants.Items[i])
	}
	for _, object := range manifests {
		bare(object)
	}
	return manifests, nil
}

// bare takes away what an API server adds to an object.
func bare(object client.Object) {
	object.SetResourceVersion("")
	object.SetUID("")
	object.SetCreationTimestamp(metav1.Time{})
	object.SetGeneration(0)
	object.SetManagedFields(nil)
	object.SetFinalizers(nil)
	object.SetOwnerReferences(nil)
}

// LoseHub ends the hub, its Envoy and its control plane, and throws away all
// that they had on disk: etcd's data and the hub's state.
func (s *System) LoseHub() error {
	s.KillHub()
	if err := s.KillEnvoy(); err != nil {
		return err
	}
	s.Hub.Down()
	return errors.Join(s.Hub.forget(), os.RemoveAll(filepath.Join(s.Dir, "state")))
}

// NewHubPlane starts an empty control plane in the place of the lost one and
// installs the CRDs.
func (s *System) NewHubPlane(ctx context.Context) error {
	if err := s.Hub.Up(ctx); err != nil {
		return err
	}
	return s.Hub.InstallCRDs(s.options.CRDs...)
}

// RebuildHub applies what an operator applies to a new control plane, after the
// keys were restored, and starts the hub.
func (s *System) RebuildHub(ctx context.Context, manifests []client.Object) error {
	for _, object := range manifests {
		if err := s.HubClient.Create(ctx, object.DeepCopyObject().(client.Object)); err != nil {
			return fmt.Errorf("restore %T %s: %w", object, object.GetName(), err)
		}
	}
	var err error
	if s.hubConfig, err = serviceAccount(ctx, s.Hub, s.HubClient, "hub"); err != nil {
		return err
	}
	return s.StartHub()
}

// forget removes the data of a control plane that is down.
func (p *Plane) forget() error {
	data := p.folder("etcd-data")
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	return os.MkdirAll(data, 0o700)
}

// RebuildTenant replaces a tenant's cluster by an empty one of the same name,
// with other nodes and UIDs, and starts no CCM in it.
func (s *System) RebuildTenant(ctx context.Context, name string) error {
	s.KillCCM(name)
	lost := s.Tenant(name)
	lost.stop()
	lost.Down()
	if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.tenants, name)
	s.mu.Unlock()
	if _, err := s.Bed.AddTenant(ctx, name); err != nil {
		return err
	}
	return s.furnish(ctx, name, s.ccms[name])
}
