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
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
	"github.com/kubelb/gitops/gitsync/describe"
)

func newDiff(o *Options) *cobra.Command {
	var output, tenant string
	cmd := &cobra.Command{
		Use:     "diff [REV | REV..REV]",
		GroupID: groupClone,
		Short:   "Say in words what changes between two revisions, or what is held and pending",
		Long: `Says what changes between two revisions as a pull request of the hub says it:
listeners, hosts, endpoints, policies, before and after.

Without a revision it says what is held (people changed it on main, so it does not
follow the tenant) and what is pending (the tenant asks for it, it is not decided
yet), as the branches were when they were fetched last.
With one revision it says how the working tree differs from it.`,
		Example: `  kubelbctl diff --fetch                   # what is held and pending
  kubelbctl diff --tenant acme
  kubelbctl diff HEAD                      # what I am about to commit
  kubelbctl diff v1..origin/main -o markdown
  kubelbctl diff origin/main...my-branch   # since they parted`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: o.completeRevision,
		RunE: func(cmd *cobra.Command, args []string) error {
			if tenant != "" && !repo.ValidTenant(tenant) {
				return usage("", "%q is not a tenant's name", tenant)
			}
			c, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			d := differ{clone: c, tenant: tenant}
			if len(args) == 0 {
				return o.diffPeople(cmd.Context(), d, output)
			}
			s, err := d.between(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return o.printSummary(s, output)
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant")
	_ = cmd.RegisterFlagCompletionFunc("tenant", o.completeTenantFlag) // fails only for unknown flags
	o.addFetch(cmd)
	addOutput(cmd, &output, outputText, outputMarkdown, outputJSON, outputYAML)
	return cmd
}

func (o *Options) printSummary(s describe.Summary, output string) (err error) {
	switch output {
	case outputText:
		_, err = fmt.Fprint(o.Out, s.Text())
	case outputMarkdown:
		_, err = fmt.Fprint(o.Out, s.Markdown())
	default:
		err = encode(o.Out, output, s)
	}
	return err
}

// people are the differences that base/main is for.
type people struct {
	// Held is how main differs from what tenants asked for when it was decided.
	Held describe.Summary `json:"held"`
	// Pending is how what tenants ask for differs from what was decided last.
	Pending describe.Summary `json:"pending"`
}

func (o *Options) diffPeople(ctx context.Context, d differ, output string) error {
	p, err := d.people(ctx, o)
	if err != nil {
		return err
	}
	switch output {
	case outputText:
		o.say("HELD: people changed this on %s; it does not follow the tenant.\n%s\nPENDING: tenants ask for this; it is not decided.\n%s", d.clone.Main, p.Held.Text(), p.Pending.Text())
	case outputMarkdown:
		o.say("## Held\n\nPeople changed this on `%s`; it does not follow the tenant.\n%s\n## Pending\n\nTenants ask for this; it is not decided.\n%s", d.clone.Main, p.Held.Markdown(), p.Pending.Markdown())
	default:
		return encode(o.Out, output, p)
	}
	return nil
}

// differ compares trees of a clone.
type differ struct {
	clone  *clone.Clone
	tenant string
}

func (d differ) dirs() []string {
	if d.tenant != "" {
		return []string{repo.TenantDir(d.tenant)}
	}
	return nil
}

// baseOf is the branch that says what was decided.
func baseOf(c *clone.Clone) string {
	return strings.TrimPrefix(repo.BaseRef(repo.RefPrefix+c.Main), repo.RefPrefix)
}

// people compares main and every intent branch with base.
func (d differ) people(ctx context.Context, o *Options) (people, error) {
	main, err := o.tip(ctx, d.clone)
	if err != nil {
		return people{}, err
	}
	baseBranch := baseOf(d.clone)
	base := d.clone.Ref(ctx, baseBranch)
	if base == "" {
		return people{}, usage(fmt.Sprintf("Fetch all branches: git fetch %s. To compare two revisions, name them: REV..REV.", d.clone.Remote),
			"this clone has no branch %s of the remote %s, which says what was decided", baseBranch, d.clone.Remote)
	}
	dirs := d.dirs()
	if dirs == nil {
		dirs = []string{repo.TenantsDir}
	}
	var p people
	if p.Held, err = d.commits(ctx, base, main, dirs); err != nil {
		return p, err
	}
	tenants, err := d.clone.Branches(ctx, "intent/")
	if err != nil {
		return p, err
	}
	before, after := repo.Tree{}, repo.Tree{}
	for _, tenant := range tenants {
		if !repo.ValidTenant(tenant) || d.tenant != "" && tenant != d.tenant {
			continue
		}
		was, now, err := d.trees(ctx, base, d.clone.Ref(ctx, "intent/"+tenant), []string{repo.TenantDir(tenant)})
		if err != nil {
			return p, err
		}
		maps.Copy(before, was)
		maps.Copy(after, now)
	}
	assigned, err := d.assigned(ctx, before, after)
	p.Held, p.Pending = p.Held.Wishes(), describe.CompareAt(before, after, assigned).Wishes()
	return p, err
}

// between compares what a range names.
func (d differ) between(ctx context.Context, revs string) (describe.Summary, error) {
	from, to, two := strings.Cut(revs, "..")
	if !two {
		return d.workingTree(ctx, revs)
	}
	sinceParted := strings.HasPrefix(to, ".")
	to = strings.TrimPrefix(to, ".")
	var ends [2]string
	for n, rev := range []string{from, to} {
		if rev == "" {
			rev = "HEAD"
		}
		var err error
		if ends[n], err = d.clone.Resolve(ctx, rev); err != nil {
			return describe.Summary{}, usage("", "%v", err)
		}
	}
	if sinceParted {
		parted, err := d.clone.Git(ctx, "merge-base", ends[0], ends[1])
		if err != nil {
			return describe.Summary{}, usage("", "%s and %s have no commit in common", from, to)
		}
		ends[0] = parted
	}
	return d.commits(ctx, ends[0], ends[1], d.dirs())
}

func (d differ) workingTree(ctx context.Context, rev string) (describe.Summary, error) {
	commit, err := d.clone.Resolve(ctx, rev)
	if err != nil {
		return describe.Summary{}, usage("", "%v", err)
	}
	before, err := d.clone.Tree(ctx, commit, d.dirs()...)
	if err != nil {
		return describe.Summary{}, err
	}
	after, err := d.clone.WorkingTree(ctx)
	if err != nil {
		return describe.Summary{}, err
	}
	if d.tenant != "" {
		after = after.Under(repo.TenantDir(d.tenant))
	}
	assigned, err := d.assigned(ctx, before, after)
	return describe.CompareAt(before, after, assigned), err
}

func (d differ) commits(ctx context.Context, from, to string, dirs []string) (describe.Summary, error) {
	before, after, err := d.trees(ctx, from, to, dirs)
	if err != nil {
		return describe.Summary{}, err
	}
	assigned, err := d.assigned(ctx, before, after)
	return describe.CompareAt(before, after, assigned), err
}

// trees returns what two commits do not have in common, and the facts of the
// tenants concerned.
func (d differ) trees(ctx context.Context, from, to string, dirs []string) (before, after repo.Tree, err error) {
	before, after, err = d.clone.Changed(ctx, from, to, dirs...)
	if err != nil {
		return nil, nil, err
	}
	var facts []string
	for _, tenant := range tenantsIn(before, after) {
		facts = append(facts, repo.TenantDir(tenant)+"/"+repo.DirAddresses, repo.TenantDir(tenant)+"/"+repo.DirBackends)
	}
	if len(facts) == 0 {
		return before, after, nil
	}
	for commit, tree := range map[string]repo.Tree{from: before, to: after} {
		if commit == "" {
			continue
		}
		more, err := d.clone.Tree(ctx, commit, facts...)
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(tree, more)
	}
	return before, after, nil
}

func tenantsIn(trees ...repo.Tree) []string {
	names := map[string]bool{}
	for _, tree := range trees {
		for path := range tree {
			if p, err := repo.ParsePath(path); err == nil {
				names[p.Tenant] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// assigned returns the addresses of load balancers in two trees, as far as the
// status branches of the clone know them.
func (d differ) assigned(ctx context.Context, trees ...repo.Tree) (map[string][]string, error) {
	out := map[string][]string{}
	for _, tenant := range tenantsIn(trees...) {
		status := d.clone.Ref(ctx, "status/"+tenant)
		if status == "" {
			continue
		}
		files, err := d.clone.Tree(ctx, status, repo.TenantDir(tenant)+"/"+repo.DirLoadBalancers)
		if err != nil {
			return nil, err
		}
		for path, file := range files {
			object, _ := repo.DecodeStatus(path, file)
			if lb, ok := object.(*v1alpha1.LoadBalancer); ok {
				out[path] = lb.Status.Addresses
			}
		}
	}
	return out, nil
}
