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

	gitlab "gitlab.com/gitlab-org/api/client-go"
)

// gitLab is a project on gitlab.com or on a GitLab of one's own.
type gitLab struct {
	client  *gitlab.Client
	project string
}

// unlimited leaves the pace to the callers: GitLab's limits come as answers.
type unlimited struct{}

func (unlimited) Wait(context.Context) error { return nil }

func newGitLab(client *http.Client, address, project, token string) (host, error) {
	c, err := gitlab.NewClient(token, gitlab.WithBaseURL(address), gitlab.WithHTTPClient(client),
		gitlab.WithoutRetries(), gitlab.WithCustomLimiter(unlimited{}), gitlab.WithUserAgent(userAgent))
	if err != nil {
		return nil, err
	}
	return &gitLab{client: c, project: project}, nil
}

func (g *gitLab) limit() int { return 1 << 20 }

func (g *gitLab) list(ctx context.Context, head, base string, open bool, page int) ([]listed, bool, error) {
	state := "all"
	if open {
		state = "opened"
	}
	all, response, err := g.client.MergeRequests.ListProjectMergeRequests(g.project, &gitlab.ListProjectMergeRequestsOptions{
		State: &state, SourceBranch: &head, TargetBranch: &base, OrderBy: gitlab.Ptr("created_at"), Sort: gitlab.Ptr("desc"),
		ListOptions: gitlab.ListOptions{Page: int64(page), PerPage: pageSize},
	}, gitlab.WithContext(ctx))
	if err != nil {
		return nil, false, err
	}
	out := make([]listed, len(all))
	for i, mr := range all {
		out[i] = listed{
			PullRequest: gitLabMerge(mr), head: mr.SourceBranch, base: mr.TargetBranch,
			foreign: mr.SourceProjectID != mr.TargetProjectID,
		}
	}
	return out, response.NextPage != 0, nil
}

func (g *gitLab) get(ctx context.Context, number int64) (PullRequest, error) {
	mr, _, err := g.client.MergeRequests.GetMergeRequest(g.project, number, nil, gitlab.WithContext(ctx))
	return gitLabFull(mr), err
}

func (g *gitLab) create(ctx context.Context, p Proposal) (PullRequest, error) {
	mr, _, err := g.client.MergeRequests.CreateMergeRequest(g.project, &gitlab.CreateMergeRequestOptions{
		Title: &p.Title, Description: &p.Body, SourceBranch: &p.Head, TargetBranch: &p.Base,
	}, gitlab.WithContext(ctx))
	return gitLabFull(mr), err
}

func (g *gitLab) update(ctx context.Context, number int64, title, body string) (PullRequest, error) {
	return g.edit(ctx, number, &gitlab.UpdateMergeRequestOptions{Title: &title, Description: &body})
}

func (g *gitLab) close(ctx context.Context, number int64) error {
	_, err := g.edit(ctx, number, &gitlab.UpdateMergeRequestOptions{StateEvent: gitlab.Ptr("close")})
	return err
}

func (g *gitLab) edit(ctx context.Context, number int64, change *gitlab.UpdateMergeRequestOptions) (PullRequest, error) {
	mr, _, err := g.client.MergeRequests.UpdateMergeRequest(g.project, number, change, gitlab.WithContext(ctx))
	return gitLabFull(mr), err
}

func gitLabFull(mr *gitlab.MergeRequest) PullRequest {
	if mr == nil {
		return PullRequest{}
	}
	return gitLabMerge(&mr.BasicMergeRequest)
}

func gitLabMerge(mr *gitlab.BasicMergeRequest) PullRequest {
	out := PullRequest{Number: mr.IID, URL: mr.WebURL, State: Closed, HeadCommit: mr.SHA, Title: mr.Title, Body: mr.Description}
	switch mr.State {
	case "merged":
		out.State = Merged
	case "opened", "locked": // locked while it is being merged
		out.State = Open
	}
	return out
}
