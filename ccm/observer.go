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
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
)

// observer follows the status branch and says which Services its news concern.
type observer struct {
	*engine
	upstream *upstream
	hubKeys  []git.PublicKey
	ref      string
	log      logr.Logger
	wake     chan struct{}

	mu       sync.Mutex
	lastPush time.Time

	// Of the running goroutine alone.
	store    *git.Store
	renewal  git.Renewal
	anew     bool     // tree is not what the answers are from
	tip      git.Hash // of the last commit that was accepted
	tree     git.Hash
	refused  git.Hash        // a commit that was not
	reminded time.Time       // when Events about what lasts were renewed last
	unseen   time.Time       // since when the hub has not seen what was pushed; zero: it has
	told     map[string]told // what Secrets were told last, by path
}

func newObserver(e *engine, u *upstream, hubKeys []git.PublicKey) *observer {
	return &observer{
		engine: e, upstream: u, hubKeys: hubKeys, ref: repo.StatusRef(e.options.Tenant), log: e.log.WithName("observer"),
		wake: make(chan struct{}, 1), store: git.NewStore(), told: map[string]told{},
	}
}

// pushed says that there is something new to answer.
func (o *observer) pushed() {
	o.mu.Lock()
	o.lastPush = time.Now()
	o.mu.Unlock()
	o.poke()
}

// poke has the branch looked at now.
func (o *observer) poke() { signal(o.wake) }

func (o *observer) sincePush() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Since(o.lastPush)
}

func (o *observer) run(ctx context.Context) error {
	var pace pace
	o.reminded = o.options.now()
	o.watchKeys()
	for {
		err := o.look(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of the program is no failure
		}
		if err != nil {
			o.log.V(1).Info("the status branch cannot be read", "error", err.Error())
			o.afterFailure(err)
		}
		o.watchSilence()
		o.remind()
		timer := time.NewTimer(pace.next(err != nil, o.expecting(), o.sincePush()))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-o.wake:
		}
		timer.Stop()
	}
}

// expecting reports whether the hub will say something by itself soon: not if it
// waits for people.
func (o *observer) expecting() bool {
	return o.answers.repository() == "" ||
		o.publisher.pushed() > o.answers.observed() && !o.answers.guarded() ||
		o.waiting.any() || o.departing.any()
}

// look fetches and takes over what is new.
func (o *observer) look(ctx context.Context) error {
	head, err := o.upstream.head(ctx, o.ref)
	if err != nil {
		return err
	}
	if head == o.tip && !o.refused.IsZero() { // what was refused is gone
		o.refused = git.Hash{}
		o.notices.clear(noticeStatus)
	}
	if head == o.tip || head == o.refused || head.IsZero() {
		return nil
	}
	if err := o.upstream.fetch(ctx, o.store, head, o.tip); err != nil {
		return err
	}
	commit, err := o.store.Commit(head)
	if err != nil {
		return fmt.Errorf("read the status branch: %w", err)
	}
	signer, problem := o.refuse(ctx, commit)
	if problem != nil {
		o.refused = head
		o.notices.set(noticeStatus, *problem)
		o.log.Info("status refused", "commit", head.String(), "why", problem.Message)
		o.store.Retain(o.tip)
		return nil
	}
	changed, err := o.changes(commit.Tree)
	if err != nil {
		return fmt.Errorf("read the status branch: %w", err)
	}
	state, err := o.stateIn(commit.Tree)
	if err != nil {
		return fmt.Errorf("read the status branch: %w", err)
	}
	o.accept(commit, changed, announcedBy(state, signer))
	return nil
}

// accept takes over a commit of the hub.
func (o *observer) accept(commit git.Commit, changed map[string]repo.Object, keys []git.PublicKey) {
	first := o.answers.repository() == ""
	id, generation := commit.Trailers.Get(repo.TrailerRepository), commit.Trailers.Number(repo.TrailerGeneration)
	news := o.answers.update(id, commit.Hash.String(), changed)
	o.tip, o.tree, o.anew, o.refused = commit.Hash, commit.Tree, false, git.Hash{}
	storeObjects.WithLabelValues("status").Set(float64(o.store.Stats().Objects))
	o.store.Retain(o.tip)
	o.memory.keep(func(r *remembered) {
		if r.repositoryID != id {
			*r = remembered{repositoryID: id}
		}
		r.statusGeneration = generation
		o.remember(r, keys)
	})
	o.watchKeys()
	o.notices.clear(noticeStatus)
	if problem := tenantProblem(o.answers.tenantState()); problem != nil {
		o.notices.set(noticeTenant, *problem)
		if problem.Reason == v1alpha1.ReasonStaleWriter || problem.Reason == v1alpha1.ReasonUntrusted || problem.Reason == repo.ReasonMalformed {
			o.publisher.doubt()
		}
	} else {
		o.notices.clear(noticeTenant)
	}
	observedGen.WithLabelValues().Set(float64(o.answers.observed()))
	o.log.Info("stage", "stage", "observed", "commit", commit.Hash.String(), "generation", generation,
		"observedIntent", o.answers.observed(), "files", len(changed))
	o.statuses.add(news.services...)
	o.services.add(news.services...)
	if news.observed {
		o.statuses.add(o.waiting.list()...)
		o.services.add(o.departing.list()...)
	}
	if news.everyone || first {
		o.tellAll()
	}
	o.tellSecrets(news.secrets)
	if first || news.recipients {
		o.publisher.poke()
	}
}

// refuse says why a status commit does not count, nil if it does, and with which
// key it is signed.
func (o *observer) refuse(ctx context.Context, c git.Commit) (git.PublicKey, *v1alpha1.Problem) {
	var signer git.PublicKey
	refusal := func(remedy, format string, args ...any) (git.PublicKey, *v1alpha1.Problem) {
		return signer, &v1alpha1.Problem{Reason: ReasonStatusRefused, Remedy: remedy,
			Message: fmt.Sprintf("status commit %s is not believed: ", c.Hash.Short()) + fmt.Sprintf(format, args...)}
	}
	branch, known := strings.TrimPrefix(o.ref, repo.RefPrefix), o.memory.get()
	if o.options.Adopt && o.tip.IsZero() {
		known = remembered{} // whatever was before
	}
	signer, err := o.verify(ctx, c, known)
	if err != nil {
		return refusal("if the hub has a new key, give it to the CCM with --hub-key; else find out who pushed it", "%v", err)
	}
	id, generation := c.Trailers.Get(repo.TrailerRepository), c.Trailers.Number(repo.TrailerGeneration)
	const elsewhere = "find out who pushed it: the hub made it for another place"
	switch {
	case c.Trailers.Get(repo.TrailerBranch) != branch:
		return refusal(elsewhere, "it is for branch %q", c.Trailers.Get(repo.TrailerBranch))
	case c.Trailers.Get(repo.TrailerTenant) != o.options.Tenant:
		return refusal(elsewhere, "it is for tenant %q", c.Trailers.Get(repo.TrailerTenant))
	case id == "":
		return refusal(elsewhere, "it names no repository")
	case generation == 0:
		return refusal(elsewhere, "%s", repo.CheckTrailer(repo.TrailerGeneration, c.Trailers.Get(repo.TrailerGeneration)))
	case known.repositoryID != "" && id != known.repositoryID:
		return refusal("run the CCM with --adopt if the repository was changed on purpose",
			"it is for repository %s, this cluster's is %s", id, known.repositoryID)
	case id == known.repositoryID && (generation < known.statusGeneration || generation == known.statusGeneration && !o.tip.IsZero()):
		return refusal("find out who set the branch back; start the CCM once with --adopt if the repository was restored on purpose",
			"its generation %d is not after %d", generation, known.statusGeneration)
	}
	return signer, nil
}

// changes decodes what differs from the last tree. A file that cannot be read
// changes nothing.
func (o *observer) changes(tree git.Hash) (map[string]repo.Object, error) {
	changed := map[string]repo.Object{}
	if o.anew { // what is not there again is gone
		changed = o.answers.gone()
	}
	err := o.store.Diff(o.tree, tree, repo.TenantDir(o.options.Tenant), func(c git.Change) error {
		if c.New.IsZero() {
			changed[c.Path] = nil
			return nil
		}
		file, _, err := o.store.File(tree, c.Path)
		if err != nil {
			return err
		}
		object, problems := repo.DecodeStatus(c.Path, file)
		if len(problems) > 0 {
			o.log.Info("status file ignored", "path", c.Path, "why", problems[0].Message)
			delete(changed, c.Path)
			return nil
		}
		changed[c.Path] = object
		return nil
	})
	return changed, err
}
