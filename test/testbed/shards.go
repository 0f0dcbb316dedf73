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
)

// Shard is a branch of a repository on the bed's Git server that is the truth
// for some of the tenants, with a GitSource of its own.
type Shard struct {
	Source     string // name of the GitSource
	Repository *Repository
	Branch     string
}

// Ref is the full name of the shard's branch.
func (s Shard) Ref() string { return repo.RefPrefix + s.Branch }

// AddShard makes the GitSource of a shard, whose branch somebody made, and tells
// the hub of pushes there. The hub is the same user everywhere.
func (s *System) AddShard(ctx context.Context, shard Shard) error {
	shard.Repository.allowHub(shard.Ref())
	source := &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: HubNamespace, Name: shard.Source},
		Spec: v1alpha1.GitSourceSpec{
			URL: shard.Repository.URL(), Branch: shard.Branch, Interval: metav1.Duration{Duration: s.options.Interval},
			SecretRef: &v1alpha1.LocalReference{Name: "fleet-git"},
			Webhook:   &v1alpha1.GitWebhook{SecretRef: v1alpha1.LocalReference{Name: "fleet-webhook"}},
		},
	}
	if err := s.HubClient.Create(ctx, source); err != nil {
		return err
	}
	shard.Repository.AddWebhook(Webhook{
		URL: fmt.Sprintf("http://127.0.0.1:%d/hook/%s/%s", s.hookPort, HubNamespace, shard.Source), Secret: s.hookToken,
		Refs: []string{shard.Ref(), repo.RefPrefix + "intent/*", repo.RefPrefix + "review/*"},
	})
	return nil
}

// AddTenantTo is [System.AddTenant] for a tenant of a shard.
func (s *System) AddTenantTo(ctx context.Context, name string, shard Shard) error {
	if _, err := s.Bed.AddTenant(ctx, name); err != nil {
		return err
	}
	tenant := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.TenantSpec{
			AllowedEndpointCIDRs: []string{"127.0.0.0/8"},
			Git:                  v1alpha1.TenantGit{SourceRef: &v1alpha1.LocalReference{Name: shard.Source}},
		},
	}
	if err := s.HubClient.Create(ctx, tenant); err != nil {
		return err
	}
	ccm := "ccm-" + name
	shard.Repository.Allow(ccm, repo.IntentRef(name))
	m := &member{tenant: name, credentials: map[string]string{"username": ccm, "password": s.Git.AddUser(ccm, "")}}
	if shard.Repository != s.Repository {
		m.own = shard.Repository
	}
	return s.connect(ctx, name, m)
}
