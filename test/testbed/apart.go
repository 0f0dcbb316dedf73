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
	"fmt"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// AddTenantApart is [System.AddTenant] for a tenant that meets the hub in a
// repository of its own: only the tenant and the hub can read that.
func (s *System) AddTenantApart(ctx context.Context, name string) (*Repository, error) {
	own, err := s.Git.Create(ctx, "intents-"+name)
	if err != nil {
		return nil, err
	}
	hub, ccm := own.Name+"-hub", "ccm-"+name
	own.Allow(hub, repo.StatusRef(name))
	own.Allow(ccm, repo.IntentRef(name))
	source := &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: HubNamespace, Name: own.Name},
		Spec: v1alpha1.GitSourceSpec{
			URL: own.URL(), Interval: metav1.Duration{Duration: s.options.Interval},
			SecretRef: &v1alpha1.LocalReference{Name: own.Name}, Webhook: &v1alpha1.GitWebhook{SecretRef: v1alpha1.LocalReference{Name: "fleet-webhook"}},
		},
	}
	tenant := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.TenantSpec{
			AllowedEndpointCIDRs: []string{"127.0.0.0/8"},
			Git:                  v1alpha1.TenantGit{IntentSourceRef: &v1alpha1.LocalReference{Name: own.Name}},
		},
	}
	for _, object := range []client.Object{
		secret(own.Name, map[string]string{"username": hub, "password": s.Git.AddUser(hub, "")}), source, tenant,
	} {
		if err := s.HubClient.Create(ctx, object); err != nil {
			return nil, err
		}
	}
	own.AddWebhook(Webhook{
		URL: fmt.Sprintf("http://127.0.0.1:%d/hook/%s/%s", s.hookPort, HubNamespace, own.Name), Secret: s.hookToken,
		Refs: []string{repo.IntentRef(name)},
	})
	if _, err := s.Bed.AddTenant(ctx, name); err != nil {
		return nil, err
	}
	m := &member{tenant: name, own: own, credentials: map[string]string{"username": ccm, "password": s.Git.AddUser(ccm, "")}}
	return own, s.connect(ctx, name, m)
}

// meets is the repository in which a tenant meets the hub.
func (s *System) meets(m *member) *Repository {
	if m.own != nil {
		return m.own
	}
	return s.Repository
}
