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

// Package forge opens, refreshes and closes pull requests on GitHub, GitLab and
// Gitea (Forgejo) behind one small interface. It knows nothing of tenants or
// of the repository's content: what a pull request says is handed to it.
package forge

import (
	"context"
	"errors"
	"time"
)

// Kind is a kind of forge.
type Kind string

// The kinds of forges.
const (
	GitHub Kind = "GitHub"
	GitLab Kind = "GitLab"
	Gitea  Kind = "Gitea"
)

// State is where a pull request is in its life.
type State string

// The states of a pull request.
const (
	Open   State = "Open"
	Merged State = "Merged"
	Closed State = "Closed" // without a merge
)

// PullRequest is a pull request (GitLab: merge request) as the forge has it.
type PullRequest struct {
	Number int64
	// URL is what people open.
	URL   string
	State State
	// HeadCommit is the tip of its branch; of a pull request that is not open,
	// the tip when it was merged or closed, as far as the forge tells.
	HeadCommit string
	Title      string
	Body       string
}

// Proposal is what a pull request asks for.
type Proposal struct {
	// Head and Base are short branch names of the same repository.
	Head, Base string
	Title      string
	// Body is Markdown.
	Body string
}

// Forge is one repository on a forge. It is safe for concurrent use. Its errors
// are [ErrUnauthorized], [ErrNotFound], [ErrInvalid] or [ErrUnavailable], or
// those of the context; none contains the token. Pull requests from forks, whose
// branches anyone can name, are not seen.
type Forge interface {
	// Newest returns the pull request from head to base that is open or, where
	// none is, the newest in any state; false if there never was one.
	Newest(ctx context.Context, head, base string) (PullRequest, bool, error)
	// Create opens a pull request. Where one is open for the same branches it is
	// returned, updated. A text that is too long for the forge is cut, here and in
	// Update, and says so.
	Create(ctx context.Context, p Proposal) (PullRequest, error)
	// Update changes title and body of a pull request.
	Update(ctx context.Context, number int64, title, body string) (PullRequest, error)
	// Close closes a pull request without merging it. One that is not open is
	// left alone.
	Close(ctx context.Context, number int64) error
}

// What can go wrong.
var (
	// ErrUnauthorized: the token is missing, wrong or not allowed to do this.
	ErrUnauthorized = errors.New("not authorized by the forge")
	// ErrNotFound: there is no such repository, or the token may not see it.
	ErrNotFound = errors.New("repository not found on the forge")
	// ErrInvalid: the forge does not take the request as it is.
	ErrInvalid = errors.New("refused by the forge")
	// ErrUnavailable: the forge was not reached, did not answer in time, or
	// limits its requests. Worth repeating later.
	ErrUnavailable = errors.New("the forge is unavailable")
)

// Options say where a repository is.
type Options struct {
	Kind Kind
	// URL of the forge, https://git.example.com; https://github.com stands for
	// GitHub's own API.
	URL string
	// Repository is owner/name (GitLab: group/subgroup/name).
	Repository string
	Token      string
	// CABundle holds PEM certificates that replace the system's roots.
	CABundle []byte
	// Timeout bounds each call. Zero means 20 s.
	Timeout time.Duration
}
