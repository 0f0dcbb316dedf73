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

package gitsync

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
)

// expected is what the tip of an intent branch has to fit.
type expected struct {
	repository string
	tenant     string
	last       repo.Integrated // zero: nothing was integrated yet
	// continues: the commit descends from the last integrated one, so its writer
	// knew whose place it takes (a CCM does that only when told to --adopt).
	continues bool
	// confirmed: an operator confirmed this commit.
	confirmed bool
	// signers: one of them must have signed; none means that anybody may.
	signers []git.PublicKey
}

// checkIntent says why the tip of an intent branch is not accepted. Nothing of
// it is integrated then and nothing is removed.
func checkIntent(c git.Commit, e expected) *v1alpha1.Problem {
	branch := strings.TrimPrefix(repo.IntentRef(e.tenant), repo.RefPrefix)
	refuse := func(reason, remedy, format string, args ...any) *v1alpha1.Problem {
		return &v1alpha1.Problem{
			Path: repo.TenantDir(e.tenant), Object: v1alpha1.KindTenant + " " + e.tenant, Reason: reason, Remedy: remedy,
			Message: fmt.Sprintf("commit %s of branch %s is not accepted: ", c.Hash.Short(), branch) + fmt.Sprintf(format, args...),
		}
	}
	for _, t := range []struct{ key, want string }{
		{repo.TrailerRepository, e.repository}, {repo.TrailerBranch, branch}, {repo.TrailerTenant, e.tenant},
	} {
		if got := c.Trailers.Get(t.key); got != t.want {
			return refuse(v1alpha1.ReasonUntrusted, "let only the tenant's CCM write its intent branch", "its trailer %s is %q, not %q", t.key, v1alpha1.Printable(got, 80), t.want)
		}
	}
	if len(e.signers) > 0 {
		if _, err := c.Verify(e.signers...); err != nil {
			return refuse(v1alpha1.ReasonUntrusted, "check the tenant's allowedSigners against the public key in the CCM's Secret kubelb-ccm-key",
				"%s", strings.TrimPrefix(err.Error(), "commit "+c.Hash.String()+": "))
		}
	}
	if c.Hash.String() == e.last.Commit {
		return nil
	}
	for _, key := range []string{repo.TrailerGeneration, repo.TrailerCluster, repo.TrailerEpoch, repo.TrailerDeletes} {
		value := c.Trailers.Get(key)
		if key == repo.TrailerDeletes && value == "" {
			continue // nothing was removed
		}
		if wrong := repo.CheckTrailer(key, value); wrong != "" {
			return refuse(v1alpha1.ReasonUntrusted, "let only the tenant's CCM write its intent branch", "%s", wrong)
		}
	}
	if e.confirmed {
		return nil
	}
	unlessConfirmed := func(reason, remedy, format string, args ...any) *v1alpha1.Problem {
		p := refuse(reason, fmt.Sprintf("%s, annotate the Tenant with %s: %s", remedy, v1alpha1.AnnotationConfirm, c.Hash), format, args...)
		p.Confirm = c.Hash.String()
		return p
	}
	generation, epoch, cluster := c.Trailers.Number(repo.TrailerGeneration), c.Trailers.Number(repo.TrailerEpoch), clusterIn(c)
	if generation <= e.last.Generation {
		return unlessConfirmed(v1alpha1.ReasonStaleWriter,
			"wait for the CCM to push again, or restart it; if the higher number was never the CCM's",
			"its generation %d is not above %d, which was integrated last", generation, e.last.Generation)
	}
	switch {
	case e.last.Cluster == "" || cluster == e.last.Cluster:
	case e.continues:
		return nil // epochs of another cluster do not compare
	default:
		return unlessConfirmed(v1alpha1.ReasonForeignCluster,
			"give each cluster a tenant name of its own; if this one takes the other's place",
			"it comes from cluster %q and does not continue the branch of cluster %q", cluster, e.last.Cluster)
	}
	if epoch < e.last.Epoch {
		return unlessConfirmed(v1alpha1.ReasonStaleWriter,
			"stop the CCM that lost its leadership; if the Lease in its cluster was made anew",
			"its epoch %d is below %d: a newer leader has written already", epoch, e.last.Epoch)
	}
	return nil
}

// clusterIn is the cluster that an intent commit is by, "" where it names none.
func clusterIn(c git.Commit) string {
	cluster := c.Trailers.Get(repo.TrailerCluster)
	if repo.CheckTrailer(repo.TrailerCluster, cluster) != "" {
		return ""
	}
	return cluster
}

// since is what the commits of an intent branch say that came after the last
// integrated one.
type since struct {
	deletes   int  // removals that the tenant vouches for
	continues bool // the last integrated commit is among their ancestors
}

// sinceIntegrated adds up the commits after the last integrated one. Where the
// store does not know them all, more of the branch is loaded.
func (l *loop) sinceIntegrated(ctx context.Context, t *tenant, tip git.Hash, last string) (s since, err error) {
	if t.link == nil { // a link has done so
		if err := reachBack(ctx, l.remote, l.store, tip, last); err != nil {
			return since{}, err
		}
	}
	s, err = addUp(t.store, tip, last, signers(t.object))
	if errors.Is(err, git.ErrMissing) {
		err = nil // too far back
	}
	return s, err
}

func addUp(store *git.Store, tip git.Hash, last string, keys []git.PublicKey) (s since, err error) {
	for c, err := range store.FirstParents(tip) {
		if err != nil {
			return s, err
		}
		if c.Hash.String() == last {
			s.continues = true
			return s, nil
		}
		if len(keys) > 0 {
			if _, err := c.Verify(keys...); err != nil {
				continue
			}
		}
		s.deletes += int(c.Trailers.Number(repo.TrailerDeletes))
	}
	return s, nil
}

// signers parses a tenant's allowed signers. A line that is no key matches
// nothing, and still demands a signature.
func signers(t *v1alpha1.Tenant) (keys []git.PublicKey) {
	for _, line := range t.Spec.Git.AllowedSigners {
		key, err := git.ParsePublicKey(line)
		if err != nil {
			key = git.PublicKey{}
		}
		keys = append(keys, key)
	}
	return keys
}
