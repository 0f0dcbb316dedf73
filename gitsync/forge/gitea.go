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
	"errors"
	"net/http"

	"code.gitea.io/sdk/gitea"
)

// giteaHost is a repository on a Gitea or Forgejo.
type giteaHost struct {
	address, token string
	client         *http.Client
	owner, name    string
}

func newGitea(client *http.Client, address, owner, name, token string) (host, error) {
	return &giteaHost{address: address, token: token, client: client, owner: owner, name: name}, nil
}

func (g *giteaHost) limit() int { return 1 << 20 }

// in returns a client for one call: the library has the context in its client.
func (g *giteaHost) in(ctx context.Context) (*gitea.Client, error) {
	return gitea.NewClient(g.address, gitea.SetContext(ctx), gitea.SetHTTPClient(g.client), gitea.SetToken(g.token),
		gitea.SetUserAgent(userAgent), gitea.SetGiteaVersion("")) // no request to ask for the version
}

// list cannot ask for a branch. So it finds out first whether there ever was
// such a pull request: a repository may have many others.
func (g *giteaHost) list(ctx context.Context, head, base string, open bool, page int) ([]listed, bool, error) {
	c, err := g.in(ctx)
	if err != nil {
		return nil, false, err
	}
	if page == 1 {
		if exists, err := g.exists(c, head, base); err != nil || !exists {
			return nil, false, err
		}
	}
	state := gitea.StateAll
	if open {
		state = gitea.StateOpen
	}
	all, response, err := c.ListRepoPullRequests(g.owner, g.name, gitea.ListPullRequestsOptions{
		State: state, ListOptions: gitea.ListOptions{Page: page, PageSize: pageSize},
	})
	if err != nil {
		return nil, false, err
	}
	out := make([]listed, 0, len(all))
	for _, pr := range all {
		if pr.Head == nil || pr.Base == nil {
			continue
		}
		out = append(out, listed{
			PullRequest: giteaPull(pr), head: pr.Head.Name, base: pr.Base.Ref, // Head.Ref is no branch when that is gone
			foreign: pr.Head.RepoID != pr.Base.RepoID,
		})
	}
	return out, response.NextPage != 0, nil
}

func (g *giteaHost) exists(c *gitea.Client, head, base string) (bool, error) {
	_, _, err := c.GetPullRequestByBaseHead(g.owner, g.name, base, head)
	if !errors.Is(err, ErrNotFound) {
		return err == nil, err
	}
	_, _, err = c.GetRepo(g.owner, g.name) // the answer is the same without a repository
	return false, err
}

func (g *giteaHost) get(ctx context.Context, number int64) (PullRequest, error) {
	c, err := g.in(ctx)
	if err != nil {
		return PullRequest{}, err
	}
	pr, _, err := c.GetPullRequest(g.owner, g.name, number)
	return giteaPull(pr), err
}

func (g *giteaHost) create(ctx context.Context, p Proposal) (PullRequest, error) {
	c, err := g.in(ctx)
	if err != nil {
		return PullRequest{}, err
	}
	pr, _, err := c.CreatePullRequest(g.owner, g.name, gitea.CreatePullRequestOption{Head: p.Head, Base: p.Base, Title: p.Title, Body: p.Body})
	return giteaPull(pr), err
}

func (g *giteaHost) update(ctx context.Context, number int64, title, body string) (PullRequest, error) {
	return g.edit(ctx, number, gitea.EditPullRequestOption{Title: title, Body: &body})
}

func (g *giteaHost) close(ctx context.Context, number int64) error {
	closed := gitea.StateClosed
	_, err := g.edit(ctx, number, gitea.EditPullRequestOption{State: &closed})
	return err
}

func (g *giteaHost) edit(ctx context.Context, number int64, change gitea.EditPullRequestOption) (PullRequest, error) {
	c, err := g.in(ctx)
	if err != nil {
		return PullRequest{}, err
	}
	pr, _, err := c.EditPullRequest(g.owner, g.name, number, change)
	return giteaPull(pr), err
}

func giteaPull(pr *gitea.PullRequest) PullRequest {
	if pr == nil {
		return PullRequest{}
	}
	out := PullRequest{Number: pr.Index, URL: pr.HTMLURL, State: Closed, Title: pr.Title, Body: pr.Body}
	if pr.Head != nil {
		out.HeadCommit = pr.Head.Sha
	}
	switch {
	case pr.HasMerged:
		out.State = Merged
	case pr.State == gitea.StateOpen:
		out.State = Open
	}
	return out
}
