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
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/describe"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/integrate"
)

// maxSingle is up to how many wishes each get a commit of their own in one push.
const maxSingle = 50

// group is what one commit on main changes.
type group struct {
	decision *decision
	subject  string
	edits    map[string][]byte
}

// groups orders what a push changes on main into commits: first the facts of
// each tenant, then wishes one by one, or where they are many those of each
// tenant. So a revert of a wish never touches a fact.
func groups(decisions []*decision, subject func(d *decision, path string) string) []group {
	var facts, single, many []group
	for _, d := range decisions {
		tenant := d.tenant.name
		if d.removes {
			facts = append(facts, group{d, tenant + ": tenant removed", d.result.Main})
			continue
		}
		factual, wishes := map[string][]byte{}, map[string][]byte{}
		for _, path := range slices.Sorted(maps.Keys(d.result.Main)) {
			content := d.result.Main[path]
			if p, err := repo.ParsePath(path); err == nil && p.Fact() {
				factual[path] = content
				continue
			}
			wishes[path] = content
			single = append(single, group{d, subject(d, path), map[string][]byte{path: content}})
		}
		if len(factual) > 0 {
			facts = append(facts, group{d, factsSubject(tenant, factual), factual})
		}
		if len(wishes) > 0 {
			many = append(many, group{d, fmt.Sprintf("%s: %d changes", tenant, len(wishes)), wishes})
		}
	}
	if len(single) > maxSingle {
		single = many
	}
	return append(facts, single...)
}

func factsSubject(tenant string, facts map[string][]byte) string {
	nodes, backends := 0, 0
	for path := range facts {
		if p, _ := repo.ParsePath(path); p.Kind == v1alpha1.KindAddresses {
			nodes++
		} else {
			backends++
		}
	}
	var what []string
	if nodes > 0 {
		what = append(what, "nodes")
	}
	if backends == 1 {
		what = append(what, "1 backend")
	} else if backends > 1 {
		what = append(what, strconv.Itoa(backends)+" backends")
	}
	return tenant + ": " + strings.Join(what, ", ")
}

// commits are the new tips that a pass wants to push; a zero hash is no change.
type commits struct {
	main, base         git.Hash
	mainTree, baseTree git.Hash
	generation         int64
}

// unfit is a decision that cannot be written.
type unfit struct {
	*decision
	cause error
}

func (u *unfit) Error() string { return fmt.Sprintf("tenant %s: %v", u.tenant.name, u.cause) }
func (u *unfit) Unwrap() error { return u.cause }

// composeAll makes the commits for what was decided. What cannot be written of
// one tenant is that tenant's problem: nothing of it moves, and the others go on.
func (l *loop) composeAll(decisions []*decision) (commits, error) {
	for range len(decisions) {
		c, err := l.compose(decisions)
		var u *unfit
		if !errors.As(err, &u) || !git.OfContent(err) || u.refuse != nil {
			return c, err
		}
		lacking := l.suspectMissing(err)
		if u.removes {
			l.leaveLater(l.leaving[u.tenant.name], u.cause)
			u.result = integrate.Result{}
			continue
		}
		last, err := l.lastIntegrated(u.tenant.name)
		if err != nil {
			return c, err
		}
		u.seen.lacking = lacking
		u.give(last, v1alpha1.Problem{
			Path: repo.TenantDir(u.tenant.name), Object: v1alpha1.KindTenant + " " + u.tenant.name, Reason: repo.ReasonMalformed,
			Message: "nothing of this tenant's change is integrated, because it cannot be written to main: " + u.cause.Error(),
			Remedy:  "change the document that the message names, in the tenant or on main",
		})
	}
	return l.compose(decisions)
}

// compose makes the commits for what was decided. An error that concerns one
// decision is an [unfit].
func (l *loop) compose(decisions []*decision) (commits, error) {
	c := commits{mainTree: l.main.Tree, baseTree: l.base.tree, generation: l.base.generation + 1}
	tip := l.main.Hash
	newest := map[string]git.Hash{}
	for _, g := range groups(decisions, l.subject) {
		tree, err := l.store.Edit(c.mainTree, g.edits)
		if err != nil {
			return c, &unfit{g.decision, err}
		}
		if tree == c.mainTree {
			continue
		}
		c.mainTree = tree
		if tip, err = l.commitMain(g, tree, tip, c.generation); err != nil {
			return c, err
		}
		c.main = tip
		for path := range g.edits {
			newest[path] = tip
		}
	}
	tree, err := l.composeBase(c.baseTree, decisions)
	if err != nil {
		return c, err
	}
	if tree, err = l.record(tree, c.mainTree, decisions, newest); err != nil {
		return c, err
	}
	if tree == c.baseTree && !l.base.commit.Hash.IsZero() && !l.truth.unrecorded && l.base.accepts.IsZero() && !l.resign() {
		return c, nil // nothing was decided
	}
	c.baseTree = tree
	c.base, err = l.commitBase(decisions, tree, tip, c.generation)
	return c, err
}

// composeBase writes what was decided into the tree of base/main: in one edit, or
// where that fails one by one, which names the decision that cannot be written.
func (l *loop) composeBase(tree git.Hash, decisions []*decision) (git.Hash, error) {
	all := map[string][]byte{}
	single := make([]map[string][]byte, len(decisions))
	for i, d := range decisions {
		edits := map[string][]byte{}
		maps.Copy(edits, d.rebase)
		maps.Copy(edits, d.result.Base)
		if d.integrated != nil {
			content, err := repo.EncodeIntegrated(*d.integrated)
			if err != nil {
				return tree, &unfit{d, fmt.Errorf("%w: %w", git.ErrMalformed, err)}
			}
			edits[repo.IntegratedPath(d.tenant.name)] = content
		}
		single[i] = edits
		maps.Copy(all, edits)
	}
	edited, err := l.store.Edit(tree, all)
	if err == nil {
		return edited, nil
	}
	for i, d := range decisions {
		if _, err := l.store.Edit(tree, single[i]); err != nil {
			return tree, &unfit{d, err}
		}
	}
	return tree, err
}

// subject says in the user's words what a document's change on main is.
func (l *loop) subject(d *decision, path string) string {
	var before, after repo.Object
	if file, ok, err := l.store.File(l.main.Tree, path); err == nil && ok {
		before, _ = repo.Decode(path, file)
	}
	if content := d.result.Main[path]; content != nil {
		after, _ = repo.Decode(path, repo.NewFile(content))
	}
	return describe.Subject(d.tenant.name, path, before, after)
}

func (l *loop) committer() git.Ident {
	return git.Ident{Name: committerName, Email: committerEmail, When: l.now()}
}

func (l *loop) trailers(ref, tenant string, generation int64) git.Trailers {
	t := git.Trailers{
		{Key: repo.TrailerRepository, Value: l.id},
		{Key: repo.TrailerBranch, Value: strings.TrimPrefix(ref, repo.RefPrefix)},
	}
	if tenant != "" {
		t = append(t, git.Trailer{Key: repo.TrailerTenant, Value: tenant})
	}
	return append(t, git.Trailer{Key: repo.TrailerGeneration, Value: strconv.FormatInt(generation, 10)})
}

func (l *loop) commitMain(g group, tree, parent git.Hash, generation int64) (git.Hash, error) {
	trailers := l.trailers(l.mainRef(), g.decision.tenant.name, generation)
	author := l.committer()
	if tip := g.decision.tip; !tip.Hash.IsZero() {
		author = authorOf(tip, g.decision.tenant.name, author)
		trailers = append(trailers, git.Trailer{Key: repo.TrailerIntent, Value: tip.Hash.String()})
	}
	return l.store.NewCommit(git.CommitSpec{
		Tree: tree, Parents: []git.Hash{parent}, Author: author, Committer: l.committer(),
		Message: g.subject, Trailers: trailers, Signer: l.signer,
	})
}

// authorOf is the author of an intent commit, as far as a commit that others have
// to take can repeat it: a name and an address that are printable and not long,
// and a time that Git servers which check commits let pass.
func authorOf(tip git.Commit, tenant string, instead git.Ident) git.Ident {
	author := tip.Author
	author.Name = cmp.Or(identText(author.Name), tenant)
	author.Email = identText(author.Email)
	if at := author.When; at.Unix() <= 0 || at.After(instead.When.Add(24*time.Hour)) {
		author.When = instead.When
	}
	return author
}

// identText is what can stand for a name or an address in a commit.
func identText(text string) string {
	return strings.TrimSpace(v1alpha1.Printable(strings.Map(func(r rune) rune {
		if r == '<' || r == '>' {
			return -1
		}
		return r
	}, text), v1alpha1.MaxName))
}

// personOf names the author of a commit to people and in files of base/main.
func personOf(c git.Commit) string { return v1alpha1.Printable(c.Author.Name, v1alpha1.MaxName) }

func (l *loop) commitBase(decisions []*decision, tree, main git.Hash, generation int64) (git.Hash, error) {
	trailers := append(l.trailers(repo.BaseRef(l.mainRef()), "", generation), git.Trailer{Key: repo.TrailerMain, Value: main.String()})
	var tenants []string
	for _, d := range decisions {
		if d.integrated != nil || len(d.result.Base) > 0 {
			tenants = append(tenants, d.tenant.name)
		}
		if d.confirms {
			trailers = append(trailers, git.Trailer{Key: repo.TrailerConfirms, Value: d.seen.intent.String()})
		}
		if d.outcome != "" {
			trailers = append(trailers, git.Trailer{Key: repo.TrailerReview, Value: d.decides})
		}
	}
	if !l.base.accepts.IsZero() {
		trailers = append(trailers, git.Trailer{Key: repo.TrailerAccepts, Value: l.base.accepts.String()})
	}
	message := "base of " + strings.TrimPrefix(l.mainRef(), repo.RefPrefix)
	if len(tenants) > 0 {
		message += ": " + strings.Join(tenants, ", ")
	}
	var parents []git.Hash
	if !l.base.tip.IsZero() {
		parents = append(parents, l.base.tip)
	}
	return l.store.NewCommit(git.CommitSpec{
		Tree: tree, Parents: parents, Author: l.committer(), Message: shorten(message, 200), Trailers: trailers, Signer: l.signer,
	})
}

func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return text[:limit-3] + "..."
}
