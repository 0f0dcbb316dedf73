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
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
)

// retainAfter pushes the publisher's store is swept.
const retainAfter = 64

// relocate locates the branch, again if the hub refuses what it found there. If
// it is not what was pushed last, it gets a commit of this leader in any case.
func (p *publisher) relocate(ctx context.Context) error {
	p.mu.Lock()
	doubted := p.doubted
	p.doubted = false
	p.mu.Unlock()
	if !doubted {
		return p.locate(ctx)
	}
	last := p.tip
	p.located = false
	if err := p.locate(ctx); err != nil {
		p.mu.Lock()
		p.doubted = true
		p.mu.Unlock()
		return err
	}
	moved := p.tip != last && !last.IsZero()
	// The hub has decided a commit of a higher generation, or another one of this:
	// it takes nothing from here before it is given a higher one.
	p.takeOver = p.takeOver || moved || p.answers.decidedElsewhere(p.tip.String(), p.tipNumber)
	return nil
}

// locate finds out what the intent branch has, if that is not known, and who
// wrote it.
func (p *publisher) locate(ctx context.Context) error {
	if p.located {
		return nil
	}
	head, err := p.upstream.head(ctx, p.ref)
	if err != nil {
		return err
	}
	if head == p.tip && !head.IsZero() {
		p.located = true
		return nil
	}
	var tree git.Hash
	var commit git.Commit
	if !head.IsZero() {
		if err := p.upstream.fetch(ctx, p.store, head, p.tip); err != nil {
			return err
		}
		if commit, err = p.store.Commit(head); err != nil {
			return fmt.Errorf("read the intent branch: %w", err)
		}
		if err := p.examine(commit); err != nil {
			p.store.Retain(p.tip)
			return err
		}
		tree = commit.Tree
	}
	files, err := p.store.Files(tree, "")
	if err != nil {
		return fmt.Errorf("read the intent branch: %w", err)
	}
	p.content.recheck(files)
	p.located, p.tip, p.tree, p.tipNumber = true, head, tree, 0
	if p.wrote(commit) {
		p.tipNumber = commit.Trailers.Number(repo.TrailerGeneration)
	}
	p.noteGeneration(p.tipNumber)
	p.store.Retain(head)
	return nil
}

// wrote reports whether a commit is signed with this CCM's key, which all its
// leaders share. What any other commit says of generations and epochs is not
// believed.
func (p *publisher) wrote(c git.Commit) bool {
	keys := []git.PublicKey{p.signer.PublicKey()}
	p.mu.Lock()
	if p.nextSigner != nil {
		keys = append(keys, p.nextSigner.PublicKey())
	}
	p.mu.Unlock()
	_, err := c.Verify(keys...)
	return err == nil
}

// examine looks who wrote a tip that is not the one pushed last.
func (p *publisher) examine(tip git.Commit) error {
	writer, epoch := tip.Trailers.Get(repo.TrailerCluster), tip.Trailers.Number(repo.TrailerEpoch)
	// A commit for another branch, or of what is no cluster at all, is no cluster of
	// this name: somebody put it here.
	branch := tip.Trailers.Get(repo.TrailerBranch)
	meant := (branch == "" || branch == strings.TrimPrefix(p.ref, repo.RefPrefix)) && repo.CheckTrailer(repo.TrailerCluster, writer) == ""
	foreign, higher := writer != p.cluster && meant, writer == p.cluster && epoch > p.epoch
	superseded := higher && p.wrote(tip)
	switch {
	case p.mayAdopt && (foreign || higher):
		p.log.Info("taking over the intent branch", "commit", tip.Hash.String(), "cluster", writer, "epoch", epoch)
		p.takeOver = foreign
		p.epoch = max(p.epoch, epoch)
		return nil
	case !foreign && !superseded:
		return nil
	case superseded:
		return fmt.Errorf("%w: commit %s has epoch %d, this leader %d; if the Lease was made anew, start once with --adopt",
			errSuperseded, tip.Hash.Short(), epoch, p.epoch)
	}
	p.notices.set(noticeIntent, v1alpha1.Problem{Reason: ReasonForeignCluster,
		Message: fmt.Sprintf("commit %s on %s is by another cluster (%s), so nothing is published", tip.Hash.Short(), p.ref, writer),
		Remedy:  "give each cluster a name of its own, or run the CCM with --adopt if this cluster takes the place of that one"})
	return fmt.Errorf("%w: commit %s is by cluster %s, this is %s", errForeign, tip.Hash.Short(), writer, p.cluster)
}

// advance pushes one commit on top of the tip, if anything differs.
func (p *publisher) advance(ctx context.Context, repository string) (bool, error) {
	edits, done, deletes, err := p.content.edits(func(path string) (repo.File, bool, error) {
		return p.store.File(p.tree, path)
	})
	if err != nil {
		return false, fmt.Errorf("compare with the intent branch: %w", err)
	}
	if len(edits) == 0 && (!p.takeOver || p.tip.IsZero()) {
		p.announce(p.content.settle(done, p.tipNumber))
		return false, nil
	}
	if err := p.digests.save(ctx); err != nil {
		p.log.Error(err, "what is sealed is not remembered; secrets may be sealed again after a restart")
	}
	tree, err := p.store.Edit(p.tree, edits)
	if err != nil {
		return false, fmt.Errorf("write the intents: %w", err)
	}
	generation := 1 + max(p.tipNumber, p.pushed(), p.memory.get().intentGeneration, p.answers.observed())
	if generation > repo.MaxGeneration { // somebody else used them up: see the hub's problem
		generation = 1
	}
	commit, err := p.store.NewCommit(p.commitSpec(tree, subject(edits), git.Trailers{
		{Key: repo.TrailerRepository, Value: repository},
		{Key: repo.TrailerBranch, Value: strings.TrimPrefix(p.ref, repo.RefPrefix)},
		{Key: repo.TrailerTenant, Value: p.options.Tenant},
		{Key: repo.TrailerGeneration, Value: strconv.FormatInt(generation, 10)},
		{Key: repo.TrailerCluster, Value: p.cluster},
		{Key: repo.TrailerEpoch, Value: strconv.FormatInt(p.epoch, 10)},
	}, deletes))
	if err != nil {
		return false, err
	}
	err = p.upstream.push(ctx, p.store, p.ref, p.tip, commit)
	if errors.Is(err, git.ErrUnknownOutcome) {
		if head, look := p.upstream.head(ctx, p.ref); look == nil && head == commit {
			err = nil
		}
	}
	if err != nil {
		return false, err
	}
	p.tip, p.tree, p.tipNumber, p.takeOver, p.mayAdopt = commit, tree, generation, false, false
	p.log.Info("stage", "stage", "pushed", "commit", commit.String(), "generation", generation,
		"subject", subject(edits), "paths", slices.Sorted(maps.Keys(edits)))
	p.noteGeneration(generation)
	p.announce(p.content.settle(done, generation))
	p.observer.pushed()
	if p.pushes++; p.pushes%retainAfter == 0 {
		p.store.Retain(p.tip)
	}
	storeObjects.WithLabelValues("intent").Set(float64(p.store.Stats().Objects))
	return true, nil
}

func (p *publisher) commitSpec(tree git.Hash, subject string, trailers git.Trailers, deletes int) git.CommitSpec {
	if deletes > 0 {
		trailers = append(trailers, git.Trailer{Key: repo.TrailerDeletes, Value: strconv.Itoa(deletes)})
	}
	var parents []git.Hash
	if !p.tip.IsZero() {
		parents = []git.Hash{p.tip}
	}
	return git.CommitSpec{
		Tree: tree, Parents: parents, Message: subject, Trailers: trailers, Signer: p.signer,
		Author: author(p.options.Tenant, p.options.now()),
	}
}

// author is who intents are by.
func author(tenant string, now time.Time) git.Ident {
	return git.Ident{Name: "kubelb-ccm " + tenant, Email: tenant + "@kubelb.local", When: now}
}

func (p *publisher) noteGeneration(generation int64) {
	p.mu.Lock()
	p.generation = max(p.generation, generation)
	p.mu.Unlock()
	p.memory.keep(func(r *remembered) { r.intentGeneration = max(r.intentGeneration, generation) })
	intentGen.WithLabelValues().Set(float64(generation))
}

// announce has Services looked at whose intents the branch has since now.
func (p *publisher) announce(settled []origin) {
	for _, o := range settled {
		if o.kind == kindService {
			p.services.add(o.NamespacedName)
			p.statuses.add(o.NamespacedName)
		}
	}
}
