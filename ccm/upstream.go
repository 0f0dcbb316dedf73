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
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// upstream is the Git repository as the CCM reaches it: with the credentials of
// a Secret, and measured.
type upstream struct {
	api    client.Reader
	secret types.NamespacedName
	url    string
	// report is told after every call whether the server could be used.
	report func(error)

	mu     sync.Mutex
	remote *git.Remote
}

func newUpstream(api client.Reader, secret types.NamespacedName, url string, report func(error)) *upstream {
	return &upstream{api: api, secret: secret, url: url, report: report}
}

// head returns what a branch is at, zero if there is no such branch.
func (u *upstream) head(ctx context.Context, ref string) (head git.Hash, err error) {
	err = u.do(ctx, "get", func(r *git.Remote) error {
		refs, err := r.ListRefs(ctx, ref)
		head = refs[ref]
		return err
	})
	return head, err
}

// fetch brings a commit into a store. Have is what was there before, if anything.
func (u *upstream) fetch(ctx context.Context, store *git.Store, tip, have git.Hash) error {
	return u.do(ctx, "fetch", func(r *git.Remote) error {
		return r.Fetch(ctx, store, git.Want{Tip: tip, Have: have})
	})
}

// push moves a branch from one commit to the next.
func (u *upstream) push(ctx context.Context, store *git.Store, ref string, from, to git.Hash) error {
	return u.do(ctx, "push", func(r *git.Remote) error {
		_, err := r.Push(ctx, store, []git.RefUpdate{{Name: ref, Old: from, New: to}}, false)
		return err
	})
}

func (u *upstream) do(ctx context.Context, operation string, call func(*git.Remote) error) error {
	begin := time.Now()
	remote, err := u.connect(ctx)
	if err == nil {
		err = call(remote)
	}
	if ctx.Err() != nil && err != nil {
		return err
	}
	measureGit(operation, begin, err)
	// A server that refuses an update is there.
	usable := err == nil || errors.Is(err, git.ErrRejected)
	if usable {
		u.report(nil)
		return err
	}
	u.report(err)
	if errors.Is(err, git.ErrUnauthorized) {
		u.mu.Lock()
		u.remote = nil // the Secret may have changed
		u.mu.Unlock()
	}
	return err
}

func (u *upstream) connect(ctx context.Context) (*git.Remote, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.remote != nil {
		return u.remote, nil
	}
	var secret corev1.Secret
	if u.secret.Name != "" {
		if err := u.api.Get(ctx, u.secret, &secret); err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("credentials of Git: %w", err)
		}
	}
	remote, err := git.NewRemote(u.url, git.Options{
		Auth: git.Auth{
			Username: string(secret.Data["username"]),
			Password: string(secret.Data["password"]),
			Bearer:   string(secret.Data["bearerToken"]),
		},
		CABundle:  secret.Data["ca.crt"],
		UserAgent: "git/kubelb-ccm",
	})
	if err != nil {
		return nil, fmt.Errorf("repository of Git: %w", err)
	}
	u.remote = remote
	return remote, nil
}
