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

package command

import (
	"context"
	"fmt"
	"maps"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
	"github.com/kubelb/gitops/gitsync/describe"
)

func newApprove(o *Options) *cobra.Command {
	a := approver{options: o}
	cmd := &cobra.Command{
		Use:     "approve TENANT | COMMIT",
		GroupID: groupClone,
		Short:   "Approve a proposal, or a change on main, with your signature",
		Long: `Says what is approved, and approves it with a commit on the main branch that is
checked out, signed by git with your key, and pushes it.

For a TENANT it merges review/TENANT, as this clone knows it. For a COMMIT of main,
whose change nobody signed who may, it is an empty commit. Both carry the trailer
Kubelb-Approves. Whether your signature counts is for GitSource spec.verify and its
reviewers to say.

git must be set up to sign: see the message if it is not.`,
		Example: `  kubelbctl approve acme
  kubelbctl approve 3f2a9c1d
  kubelbctl approve acme --dry-run     # what would be approved`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeTenant,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&a.noPush, "no-push", false, "only commit")
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "only say what would be approved")
	o.addFetch(cmd)
	return cmd
}

type approver struct {
	options        *Options
	noPush, dryRun bool
}

func (a *approver) run(ctx context.Context, what string) error {
	c, err := a.options.open(ctx)
	if err != nil {
		return err
	}
	if repo.ValidTenant(what) {
		if review := c.Ref(ctx, "review/"+what); review != "" {
			return a.tenant(ctx, c, what, review)
		}
	}
	commit, err := c.Resolve(ctx, what)
	if err != nil {
		return usage("Tenants whose proposals this clone knows: git branch -r --list '*/review/*'. --fetch gets the newest.",
			"%q is neither a tenant with a branch review/%s nor a commit of this clone", what, what)
	}
	return a.commit(ctx, c, commit)
}

// tenant merges a review branch.
func (a *approver) tenant(ctx context.Context, c *clone.Clone, tenant, review string) error {
	main, err := a.options.tip(ctx, c)
	if err != nil {
		return err
	}
	if _, err := c.Git(ctx, "merge-base", "--is-ancestor", review, main); err == nil {
		return refuse("", "the proposal %.12s of %s is on %s already", review, tenant, c.Main)
	}
	tree, err := merged(ctx, c, main, review)
	if err != nil {
		return refuse("The hub refreshes it soon: fetch again later. Or merge it by hand, with a signature (git merge -S) and the trailer "+repo.TrailerApproves+".",
			"the proposal of %s does not merge into %s without a conflict", tenant, c.Main)
	}
	s, err := differ{clone: c}.commits(ctx, main, tree, nil)
	if err != nil {
		return err
	}
	a.options.say("%s", s.Text())
	if a.dryRun {
		return nil
	}
	message := fmt.Sprintf("Approve %s\n\n%s: %s", s.Title(), repo.TrailerApproves, review)
	return a.sign(ctx, c, func() error {
		// No other file may go into the merge, so the tree must be clean.
		if dirty, err := c.Git(ctx, "status", "--porcelain", "--untracked-files=no"); err != nil || dirty != "" {
			return refuse("Commit or stash it first.", "the working tree has changes that are not committed")
		}
		if err := c.Talk(ctx, "merge", "--quiet", "--no-ff", "--gpg-sign", "--no-edit", "--message", message, review); err != nil {
			_, _ = c.Git(ctx, "merge", "--abort") // nothing to abort if it did not begin
			return err
		}
		return nil
	})
}

// commit approves a change on main with an empty commit.
func (a *approver) commit(ctx context.Context, c *clone.Clone, commit string) error {
	main, err := a.options.tip(ctx, c)
	if err != nil {
		return err
	}
	if _, err := c.Git(ctx, "merge-base", "--is-ancestor", commit, main); err != nil {
		return refuse("Name a commit of main, or a tenant to approve its proposal.", "commit %.12s is not on %s/%s", commit, c.Remote, c.Main)
	}
	parent, err := c.Git(ctx, "rev-parse", "--verify", "--quiet", commit+"^1")
	if err != nil {
		parent = ""
	}
	s, err := approved(ctx, c, parent, commit)
	if err != nil {
		return err
	}
	a.options.say("%s", s.Text())
	if a.dryRun {
		return nil
	}
	message := fmt.Sprintf("Approve %s\n\n%s: %s", s.Title(), repo.TrailerApproves, commit)
	return a.sign(ctx, c, func() error {
		if staged, err := c.Git(ctx, "diff", "--cached", "--name-only"); err != nil || staged != "" {
			return refuse("Commit or unstage them first.", "there are staged changes, which would go into the commit")
		}
		return c.Talk(ctx, "commit", "--quiet", "--allow-empty", "--gpg-sign", "--message", message)
	})
}

// approved describes what the approval of a commit makes of the files that it
// changed. Where the hub has refused what was on main before, that is more than
// the commit's own change.
func approved(ctx context.Context, c *clone.Clone, parent, commit string) (describe.Summary, error) {
	d := differ{clone: c}
	was, now, err := c.Changed(ctx, parent, commit)
	if err != nil {
		return describe.Summary{}, err
	}
	before, after, err := d.trees(ctx, parent, commit, nil)
	if err != nil {
		return describe.Summary{}, err
	}
	if base := c.Ref(ctx, baseOf(c)); base != "" {
		kept, err := c.Tree(ctx, base, repo.TrustedDir, repo.RefusedDir)
		if err != nil {
			return describe.Summary{}, err
		}
		maps.Copy(was, now)
		for path := range was {
			if _, refused := kept[repo.RefusedDir+"/"+path]; !refused {
				continue
			}
			delete(before, path)
			if file, ok := kept[repo.TrustedDir+"/"+path]; ok {
				before[path] = file
			}
		}
	}
	assigned, err := d.assigned(ctx, before, after)
	return describe.CompareAt(before, after, assigned), err
}

// sign makes a signed commit on main and pushes it. A commit that turned out
// unsigned is taken back.
func (a *approver) sign(ctx context.Context, c *clone.Clone, make func() error) error {
	if err := onMain(ctx, c); err != nil {
		return err
	}
	if !signs(ctx, c) {
		return refuse(howToSign, "git is not set up to sign commits, and an approval without a signature is none")
	}
	before, err := c.Resolve(ctx, "HEAD")
	if err != nil {
		return err
	}
	if err := make(); err != nil {
		return err
	}
	after, err := c.Resolve(ctx, "HEAD")
	if err != nil {
		return err
	}
	if signed, err := c.Signed(ctx, after); err != nil || !signed || after == before {
		_, resetErr := c.Git(ctx, "reset", "--quiet", "--keep", before)
		return refuse(howToSign, "git made no signed commit (taken back: %v)", resetErr == nil)
	}
	return push(ctx, a.options, c, a.noPush)
}

// signs tells whether git has a key to sign with.
func signs(ctx context.Context, c *clone.Clone) bool {
	for _, key := range []string{"user.signingKey", "gpg.ssh.defaultKeyCommand"} {
		if value, err := c.Git(ctx, "config", "--get", key); err == nil && value != "" {
			return true
		}
	}
	return false
}

const howToSign = `Tell git which key to sign with, for an SSH key:
  git config --global gpg.format ssh
  git config --global user.signingKey ~/.ssh/id_ed25519.pub
or for an OpenPGP key: git config --global user.signingKey <key ID>
Then have its public half listed among the reviewers of the GitSource.`
