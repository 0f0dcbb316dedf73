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
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
)

// Completion asks the clone only: it works without a cluster, and is quick.

const noFiles = cobra.ShellCompDirectiveNoFileComp

// completeTenant completes a first argument with the names of tenants.
func (o *Options) completeTenant(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	return o.tenants(cmd.Context()), noFiles
}

// completeTenantFlag completes the value of --tenant.
func (o *Options) completeTenantFlag(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return o.tenants(cmd.Context()), noFiles
}

// completeObject completes TENANT NAMESPACE/NAME.
func (o *Options) completeObject(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return o.tenants(cmd.Context()), noFiles
	case 1:
		return o.objects(cmd.Context(), args[0]), noFiles
	}
	return nil, noFiles
}

// completeRevision completes branches.
func (o *Options) completeRevision(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := clone.Open(cmd.Context(), o.dir, o.remote, o.main)
	if err != nil || len(args) > 0 {
		return nil, noFiles
	}
	out, err := c.Git(cmd.Context(), "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags")
	if err != nil {
		return nil, noFiles
	}
	return strings.Fields(out), noFiles | cobra.ShellCompDirectiveNoSpace
}

func (o *Options) tenants(ctx context.Context) []string {
	c, err := clone.Open(ctx, o.dir, o.remote, o.main)
	if err != nil {
		return nil
	}
	return tenantsOf(ctx, c)
}

// tenantsOf lists the tenants that a clone knows: from branches, and from the
// folders of main.
func tenantsOf(ctx context.Context, c *clone.Clone) []string {
	names, _ := c.Branches(ctx, "intent/") // nothing to complete is no failure
	if tip := c.Ref(ctx, c.Main); tip != "" {
		out, _ := c.Git(ctx, "ls-tree", "-z", "--name-only", "-d", tip, repo.TenantsDir+"/")
		for dir := range strings.SplitSeq(out, "\x00") {
			names = append(names, strings.TrimPrefix(dir, repo.TenantsDir+"/"))
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !repo.ValidTenant(name) })
	slices.Sort(names)
	return slices.Compact(names)
}

func (o *Options) objects(ctx context.Context, tenant string) []string {
	c, err := clone.Open(ctx, o.dir, o.remote, o.main)
	if err != nil || !repo.ValidTenant(tenant) {
		return nil
	}
	var names []string
	for _, commit := range []string{c.Ref(ctx, c.Main), c.Ref(ctx, "intent/"+tenant)} {
		if commit == "" {
			continue
		}
		out, _ := c.Git(ctx, "ls-tree", "-r", "-z", "--name-only", commit, repo.TenantDir(tenant)+"/")
		for path := range strings.SplitSeq(out, "\x00") {
			if p, err := repo.ParsePath(path); err == nil && p.Namespace != "" && !p.Fact() {
				names = append(names, p.Namespace+"/"+p.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
