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

package forge

import (
	"context"
	"net/http"

	"github.com/google/go-github/v84/github"
)

// gitHub is a repository on github.com or on a GitHub Enterprise Server.
type gitHub struct {
	client      *github.Client
	owner, name string
}

func newGitHub(client *http.Client, address, owner, name, token string) (host, error) {
	c := github.NewClient(client).WithAuthToken(token)
	c.UserAgent = userAgent
	c.DisableRateLimitCheck = true // the gate knows limits
	if address != "https://github.com" && address != "https://api.github.com" {
		var err error
		if c, err = c.WithEnterpriseURLs(address, address); err != nil {
			return nil, err
		}
	}
	return &gitHub{client: c, owner: owner, name: name}, nil
}

func (g *gitHub) limit() int { return 65536 }

func (g *gitHub) list(ctx context.Context, head, base string, open bool, page int) ([]listed, bool, error) {
	state := "all"
	if open {
		state = "open"
	}
	all, response, err := g.client.PullRequests.List(ctx, g.owner, g.name, &github.PullRequestListOptions{
		State: state, Head: g.owner + ":" + head, Base: base, Sort: "created", Direction: "desc",
		ListOptions: github.ListOptions{Page: page, PerPage: pageSize},
	})
	if err != nil {
		return nil, false, err
	}
	out := make([]listed, len(all))
	for i, pr := range all {
		out[i] = listed{
			PullRequest: gitHubPull(pr), head: pr.GetHead().GetRef(), base: pr.GetBase().GetRef(),
			foreign: pr.GetHead().GetRepo().GetID() != pr.GetBase().GetRepo().GetID(), // a deleted fork has no repo
		}
	}
	return out, response.NextPage != 0, nil
}

func (g *gitHub) get(ctx context.Context, number int64) (PullRequest, error) {
	pr, _, err := g.client.PullRequests.Get(ctx, g.owner, g.name, int(number))
	return gitHubPull(pr), err
}

func (g *gitHub) create(ctx context.Context, p Proposal) (PullRequest, error) {
	pr, _, err := g.client.PullRequests.Create(ctx, g.owner, g.name, &github.NewPullRequest{
		Title: &p.Title, Body: &p.Body, Head: &p.Head, Base: &p.Base,
	})
	return gitHubPull(pr), err
}

func (g *gitHub) update(ctx context.Context, number int64, title, body string) (PullRequest, error) {
	return g.edit(ctx, number, &github.PullRequest{Title: &title, Body: &body})
}

func (g *gitHub) close(ctx context.Context, number int64) error {
	_, err := g.edit(ctx, number, &github.PullRequest{State: github.Ptr("closed")})
	return err
}

func (g *gitHub) edit(ctx context.Context, number int64, change *github.PullRequest) (PullRequest, error) {
	pr, _, err := g.client.PullRequests.Edit(ctx, g.owner, g.name, int(number), change)
	return gitHubPull(pr), err
}

// gitHubPull translates; lists say that one is merged only by its time.
func gitHubPull(pr *github.PullRequest) PullRequest {
	out := PullRequest{
		Number: int64(pr.GetNumber()), URL: pr.GetHTMLURL(), State: Closed,
		HeadCommit: pr.GetHead().GetSHA(), Title: pr.GetTitle(), Body: pr.GetBody(),
	}
	switch {
	case pr.GetMerged() || pr != nil && pr.MergedAt != nil:
		out.State = Merged
	case pr.GetState() == "open":
		out.State = Open
	}
	return out
}
