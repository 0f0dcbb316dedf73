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
	"strings"
	"sync"
	"time"

	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// upstream is the Git repository as the CCM reaches it: with the credentials and
// the proxy of Secrets, and measured.
type upstream struct {
	api    client.Reader
	url    string
	secret types.NamespacedName // of the credentials; without a name: nobody's
	proxy  types.NamespacedName // without a name: none
	// report is told after every call whether the server could be used.
	report func(error)

	mu      sync.Mutex
	remote  *git.Remote
	options git.Options // that remote was made from
	doubt   bool        // the Secrets may have changed
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

// past brings the commits behind one.
func (u *upstream) past(ctx context.Context, store *git.Store, tip git.Hash, n int) error {
	return u.do(ctx, "fetch", func(r *git.Remote) error { return r.Past(ctx, store, tip, n) })
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
	u.mu.Lock()
	u.doubt = true
	u.mu.Unlock()
	return err
}

// connect returns the Remote. After a failure the Secrets are read again: what
// was wrong with them may have been corrected.
func (u *upstream) connect(ctx context.Context) (*git.Remote, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.remote != nil && !u.doubt {
		return u.remote, nil
	}
	options, err := u.access(ctx)
	if err != nil {
		return nil, err
	}
	if u.remote != nil && options == u.options {
		u.doubt = false
		return u.remote, nil
	}
	remote, err := git.NewRemote(u.url, options)
	if err != nil {
		return nil, fmt.Errorf("repository of Git: %w", err)
	}
	if u.remote != nil {
		u.remote.Close()
	}
	u.remote, u.options, u.doubt = remote, options, false
	return remote, nil
}

// access reads the Secrets. One that does not exist holds nothing: without
// credentials the CCM introduces nobody.
func (u *upstream) access(ctx context.Context) (options git.Options, err error) {
	read := func(name types.NamespacedName) (map[string][]byte, error) {
		var secret corev1.Secret
		err := u.api.Get(ctx, name, &secret)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("get the Secret %s: %w", name, err)
		}
		return secret.Data, nil
	}
	if u.secret.Name != "" {
		data, err := read(u.secret)
		if err == nil && (data != nil || strings.HasPrefix(u.url, "ssh:")) {
			if options, err = git.ReadSecret(u.url, data); err != nil {
				err = fmt.Errorf("the Secret %s: %w", u.secret, err)
			}
		}
		if err != nil {
			return options, err
		}
	}
	if u.proxy.Name != "" {
		data, err := read(u.proxy)
		if err == nil {
			if options.Proxy, err = git.ReadProxySecret(data); err != nil {
				err = fmt.Errorf("the Secret %s: %w", u.proxy, err)
			}
		}
		if err != nil {
			return options, err
		}
	}
	options.UserAgent = "git/kubelb-ccm"
	return options, nil
}
