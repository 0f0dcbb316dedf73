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

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// hubName is the Git user of the hub.
const hubName = "hub"

// hubUser makes the account of the hub, with the rules that keep its branches
// its own, and returns its password.
func (s *System) hubUser(ctx context.Context) (password string, err error) {
	if s.Forge == nil {
		password = s.Git.AddUser(hubName, "")
		s.Repository.allowHub(repo.Main)
		return password, nil
	}
	u, err := s.Forge.AddUser(ctx, hubName)
	if err != nil {
		return "", err
	}
	if err := s.Forge.Collaborate(ctx, s.Repository, hubName); err != nil {
		return "", err
	}
	if _, err := s.AddPerson(ctx, Reviewer); err != nil {
		return "", err
	}
	return u.Token, s.Forge.ProtectFleet(ctx, s.Repository, hubName, Reviewer)
}

// allowHub lets the hub write its branches and the one that is the truth.
func (r *Repository) allowHub(truth string) {
	r.Allow(hubName, truth, repo.RefPrefix+"base/*", repo.RefPrefix+"status/*", repo.RefPrefix+"review/*",
		repo.ArchivePrefix+"*", "-"+repo.IntentRef("*"))
}

// Reviewer is a person on the forge who may push to main and merge into it.
const Reviewer = "reviewer"

// AddPerson makes an account on the system's forge that may write where no
// branch rule says otherwise: review branches and branches of its own.
func (s *System) AddPerson(ctx context.Context, name string) (GiteaUser, error) {
	u, err := s.Forge.AddUser(ctx, name, "write:repository", "write:issue")
	if err != nil {
		return u, err
	}
	return u, s.Forge.Collaborate(ctx, s.Repository, name)
}

// ccmUser makes the account of a tenant's CCM and leaves the intent branch to it.
func (s *System) ccmUser(ctx context.Context, tenant, user string) (password string, err error) {
	if s.Forge == nil {
		password = s.Git.AddUser(user, "")
		s.Repository.Allow(user, repo.IntentRef(tenant))
		return password, nil
	}
	u, err := s.Forge.AddUser(ctx, user)
	if err != nil {
		return "", err
	}
	if err := s.Forge.Collaborate(ctx, s.Repository, user); err != nil {
		return "", err
	}
	return u.Token, s.Forge.ProtectIntent(ctx, s.Repository, tenant, user)
}

// addWebhook tells one of the system's programs of pushes, unless it is to be
// left to its interval.
func (s *System) addWebhook(ctx context.Context, hook Webhook) error {
	switch {
	case s.options.NoWebhooks:
		return nil
	case s.Forge != nil:
		return s.Forge.AddWebhook(ctx, s.Repository, hook)
	}
	s.Repository.AddWebhook(hook)
	return nil
}

// gitURL is where hub and CCMs find the repository.
func (s *System) gitURL() string {
	if s.options.SSH {
		return s.Repository.SSHURL()
	}
	return s.Repository.URL()
}

// gitURLOf is where a tenant's CCM meets the hub.
func (s *System) gitURLOf(m *member) string {
	if m.own != nil {
		return m.own.URL()
	}
	return s.gitURL()
}

// credentials are what a Secret holds for a user.
func (s *System) credentials(user, password string) (map[string]string, error) {
	if !s.options.SSH {
		return map[string]string{"username": user, "password": password}, nil
	}
	identity, err := s.Git.AddKey(user)
	return map[string]string{"identity": identity, "known_hosts": s.Git.KnownHosts()}, err
}

// SetHubCredentials replaces the hub's Secret with those for how the repository
// is reached now; over SSH that is a new key.
func (s *System) SetHubCredentials(ctx context.Context) error {
	credentials, err := s.credentials(hubName, s.Git.AddUser(hubName, ""))
	if err != nil {
		return err
	}
	return replaceSecret(ctx, s.HubClient, "fleet-git", credentials)
}

// SetCCMCredentials is [System.SetHubCredentials] for a tenant's CCM.
func (s *System) SetCCMCredentials(ctx context.Context, tenant string) error {
	credentials, err := s.credentials("ccm-"+tenant, s.Git.AddUser("ccm-"+tenant, ""))
	if err != nil {
		return err
	}
	return replaceSecret(ctx, s.TenantClient(tenant), "kubelb-git", credentials)
}

// UseHTTP has hub and CCMs reach the repository over HTTP and through a proxy
// from now on. CCMs are started anew for that.
func (s *System) UseHTTP(ctx context.Context, proxy map[string]string) error {
	s.options.SSH = false
	s.options.CCMArgs = append(s.options.CCMArgs, "--git-proxy-secret", "git-proxy")
	if err := errors.Join(s.SetHubCredentials(ctx), replaceSecret(ctx, s.HubClient, "git-proxy", proxy)); err != nil {
		return err
	}
	var source v1alpha1.GitSource
	if err := s.HubClient.Get(ctx, client.ObjectKey{Namespace: HubNamespace, Name: SourceName}, &source); err != nil {
		return err
	}
	patch := client.MergeFrom(source.DeepCopy())
	source.Spec.URL, source.Spec.ProxySecretRef = s.gitURL(), &v1alpha1.LocalReference{Name: "git-proxy"}
	if err := s.HubClient.Patch(ctx, &source, patch); err != nil {
		return err
	}
	for tenant := range s.ccms {
		s.KillCCM(tenant)
		if err := errors.Join(s.SetCCMCredentials(ctx, tenant), replaceSecret(ctx, s.TenantClient(tenant), "git-proxy", proxy)); err != nil {
			return err
		}
		if err := s.StartCCM(ctx, tenant); err != nil {
			return err
		}
	}
	return nil
}

func replaceSecret(ctx context.Context, c client.Client, name string, data map[string]string) error {
	if err := client.IgnoreNotFound(c.Delete(ctx, secret(name, nil))); err != nil {
		return err
	}
	return c.Create(ctx, secret(name, data))
}
