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

	"github.com/kubelb/gitops/api/repo"
)

// hubName is the Git user of the hub.
const hubName = "hub"

// hubUser makes the account of the hub, with the rules that keep its branches
// its own, and returns its password.
func (s *System) hubUser(ctx context.Context) (password string, err error) {
	if s.Forge == nil {
		password = s.Git.AddUser(hubName, "")
		s.Repository.Allow(hubName, repo.Main, repo.RefPrefix+"base/*", repo.RefPrefix+"status/*", repo.RefPrefix+"review/*")
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
