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
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
	"github.com/kubelb/gitops/gitsync/describe"
	"github.com/kubelb/gitops/gitsync/integrate"
)

func newRelease(o *Options) *cobra.Command {
	r := releaser{options: o}
	cmd := &cobra.Command{
		Use:     "release TENANT NAMESPACE/NAME",
		GroupID: groupClone,
		Short:   "Let a held load balancer follow its tenant again",
		Long: `Takes over what the tenant asks for, with a commit of yours on the main branch that
is checked out, and pushes it. With --field only that field is taken over; the
others stay held.

Fetch first: what the tenant asks for is the tip of intent/TENANT as this clone
knows it. The working tree may have changes of other files; they are not committed.`,
		Example: `  kubelbctl release acme shop/web
  kubelbctl release acme shop/web --field 'spec.ports[https]'
  kubelbctl release acme shop/web --no-push`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: o.completeObject,
		RunE:              func(cmd *cobra.Command, args []string) error { return r.run(cmd.Context(), args[0], args[1]) },
	}
	cmd.Flags().StringVar(&r.field, "field", "", "only this field, as 'kubelbctl diff' and conditions name it")
	cmd.Flags().StringVar(&r.kind, "kind", "", "kind of the source object, where there are several of the name: service, ingress, ...")
	cmd.Flags().BoolVar(&r.noPush, "no-push", false, "only commit")
	o.addFetch(cmd)
	return cmd
}

type releaser struct {
	options     *Options
	field, kind string
	noPush      bool
}

func (r *releaser) run(ctx context.Context, tenant, object string) error {
	c, err := r.options.open(ctx)
	if err != nil {
		return err
	}
	if err := onMain(ctx, c); err != nil {
		return err
	}
	intent := c.Ref(ctx, "intent/"+tenant)
	path, err := findWish(ctx, c, tenant, object, r.kind, "HEAD", intent)
	if err != nil {
		return err
	}
	if intent == "" {
		return usage(fmt.Sprintf("Fetch all branches: git fetch %s.", c.Remote), "this clone has no branch intent/%s", tenant)
	}
	name := path.String()
	if dirty, err := c.Git(ctx, "status", "--porcelain", "--", ":(top,literal)"+name); err != nil || dirty != "" {
		return refuse("Commit or restore it first.", "%s has changes that are not committed", name)
	}
	was, err := filePtr(c.File(ctx, "HEAD", name))
	if err != nil {
		return err
	}
	now, err := filePtr(c.File(ctx, intent, name))
	if err != nil {
		return err
	}
	content, problems := integrate.Release(name, was, now, r.field)
	if len(problems) > 0 {
		p := problems[0]
		return refuse("What to do: "+describe.Visible(p.Remedy)+".", "%s: %s", path.Source(), describe.Visible(p.Message))
	}
	summary, err := released(ctx, c, tenant, name, was, repo.NewFile(content))
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(c.Dir, filepath.FromSlash(name)), content); err != nil {
		return err
	}
	subject := tenant + ": " + path.Source() + " released"
	if r.field != "" {
		subject += ": " + r.field
	}
	if _, err := c.Git(ctx, "add", "--", ":(top,literal)"+name); err != nil {
		return err
	}
	if err := c.Talk(ctx, "commit", "--quiet", "--message", subject, "--only", "--", ":(top,literal)"+name); err != nil {
		return err
	}
	r.options.say("%s", summary.Text())
	return push(ctx, r.options, c, r.noPush)
}

// released describes what the release changes.
func released(ctx context.Context, c *clone.Clone, tenant, name string, was *repo.File, now repo.File) (describe.Summary, error) {
	before, err := c.Tree(ctx, "HEAD", repo.TenantDir(tenant)+"/"+repo.DirAddresses, repo.TenantDir(tenant)+"/"+repo.DirBackends)
	if err != nil {
		return describe.Summary{}, err
	}
	after := maps.Clone(before)
	after[name] = now
	if was != nil {
		before[name] = *was
	}
	return describe.Compare(before, after), nil
}

func filePtr(file repo.File, ok bool, err error) (*repo.File, error) {
	if err != nil || !ok {
		return nil, err
	}
	return &file, nil
}

func writeFile(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}

// onMain makes sure that the main branch is checked out and has what the remote
// has.
func onMain(ctx context.Context, c *clone.Clone) error {
	branch, err := c.Git(ctx, "symbolic-ref", "--quiet", "--short", "HEAD")
	if err != nil || branch != c.Main {
		return refuse(fmt.Sprintf("Check it out: git checkout %s.", c.Main), "the branch %s is not checked out", c.Main)
	}
	tip := c.Ref(ctx, c.Main)
	if _, err := c.Git(ctx, "merge-base", "--is-ancestor", tip, "HEAD"); tip != "" && err != nil {
		return refuse(fmt.Sprintf("Bring it up to date: git pull --rebase %s %s.", c.Remote, c.Main), "the branch %s here is behind %s/%s", c.Main, c.Remote, c.Main)
	}
	return nil
}

// push pushes what was committed on main.
func push(ctx context.Context, o *Options, c *clone.Clone, no bool) error {
	commit, err := c.Resolve(ctx, "HEAD")
	if err != nil {
		return err
	}
	if no {
		o.say("committed %.12s, not pushed: git push %s HEAD:%s\n", commit, c.Remote, c.Main)
		return nil
	}
	if err := c.Talk(ctx, "push", "--quiet", c.Remote, "HEAD:"+repo.RefPrefix+c.Main); err != nil {
		return &Refusal{
			What: fmt.Sprintf("committed %.12s, but it could not be pushed: %v", commit, err), Code: ExitFailed,
			Remedy: fmt.Sprintf("If %s moved on: git pull --rebase %s %s && git push %s HEAD:%s. If the branch is protected, push to another one and open a pull request.", c.Main, c.Remote, c.Main, c.Remote, c.Main),
		}
	}
	o.say("pushed %.12s to %s\n", commit, c.Main)
	return nil
}
