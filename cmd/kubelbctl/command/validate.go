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
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
	"github.com/kubelb/gitops/gitsync/check"
	"github.com/kubelb/gitops/gitsync/describe"
)

func newValidate(o *Options) *cobra.Command {
	var output, against string
	var strict bool
	cmd := &cobra.Command{
		Use:     "validate [REV]",
		GroupID: groupClone,
		Short:   "Check files as the hub would",
		Long: `Checks the working tree, or a revision, as the hub would, and prints each problem
with its path, object, field and remedy. Problems are of files that the hub refuses:
their last good version stays. Warnings are of what it accepts and what will not
serve, such as a port that its backend has not.

With --against only what changes since that revision is blamed, as a check of a
pull request should; a REV is merged into it first.

Exit codes: 0 no problem (with --strict: no warning either); 1 problems; 2 it could
not be checked.`,
		Example: `  kubelbctl validate                              # what I have here
  kubelbctl validate origin/main
  kubelbctl validate --against origin/main        # what I change
  kubelbctl validate --against origin/main HEAD   # the merge of what I committed
  kubelbctl validate -o github                    # as annotations of a workflow`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: o.completeRevision,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			rev := ""
			if len(args) > 0 {
				rev = args[0]
			}
			result, err := validate(cmd.Context(), c, rev, against)
			if err != nil {
				return err
			}
			if output == outputText && os.Getenv("GITHUB_ACTIONS") == "true" && os.Getenv("GITEA_ACTIONS") == "" {
				output = outputGitHub
			}
			if err := o.printResult(result, output); err != nil {
				return err
			}
			if len(result.Problems) > 0 || strict && len(result.Warnings) > 0 {
				return silent(ExitRefused)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&against, "against", "", "blame only what changes since this revision")
	cmd.Flags().BoolVar(&strict, "strict", false, "take warnings for problems")
	_ = cmd.RegisterFlagCompletionFunc("against", o.completeRevision) // fails only for unknown flags
	o.addFetch(cmd)
	addOutput(cmd, &output, outputText, outputJSON, outputYAML, outputGitHub)
	return cmd
}

func validate(ctx context.Context, c *clone.Clone, rev, against string) (check.Result, error) {
	commits := map[string]string{}
	for _, r := range []string{rev, against} {
		if r == "" {
			continue
		}
		hash, err := c.Resolve(ctx, r)
		if err != nil {
			return check.Result{}, usage("Fetch it, or correct the name. A shallow clone has few revisions: git fetch --unshallow.", "%v", err)
		}
		commits[r] = hash
	}
	after, before := commits[rev], commits[against]
	if rev != "" && against != "" {
		var err error
		if after, err = merged(ctx, c, before, after); err != nil {
			return check.Result{}, err
		}
	}
	var tree repo.Tree
	var err error
	if rev == "" {
		tree, err = c.WorkingTree(ctx)
		if before != "" && err == nil {
			if parted, baseErr := c.Git(ctx, "merge-base", before, "HEAD"); baseErr == nil {
				before = parted
			}
		}
	} else {
		tree, err = c.Tree(ctx, after)
	}
	if err != nil || against == "" {
		return check.Tree(tree), err
	}
	was, err := c.Tree(ctx, before)
	return check.Change(was, tree), err
}

// merged returns the tree of the merge of a commit into main.
func merged(ctx context.Context, c *clone.Clone, main, commit string) (string, error) {
	if parted, err := c.Git(ctx, "merge-base", main, commit); err == nil && parted == main {
		return commit, nil
	}
	tree, err := c.Git(ctx, "merge-tree", "--write-tree", main, commit)
	if err != nil {
		return "", refuse("Merge or rebase it first.", "%.12s does not merge into %.12s without a conflict", commit, main)
	}
	return strings.TrimSpace(tree), nil
}

func (o *Options) printResult(r check.Result, output string) error {
	switch output {
	case outputText:
		o.printProblems("", r)
		return nil
	case outputGitHub:
		o.printProblems("", r)
		for _, p := range r.Problems {
			o.say("%s\n", annotation("error", p))
		}
		for _, p := range r.Warnings {
			o.say("%s\n", annotation("warning", p))
		}
		return nil
	}
	return encode(o.Out, output, r)
}

func (o *Options) printProblems(indent string, r check.Result) {
	for n, list := range [][]v1alpha1.Problem{r.Problems, r.Warnings} {
		for _, p := range list {
			o.say("%s%s: %s: %s\n", indent, cmp.Or(describe.Visible(p.Path), repo.TenantsDir), []string{"problem", "warning"}[n], describe.Visible(p.Message))
			for _, line := range [][2]string{{"object", p.Object}, {"field", p.Field}, {"remedy", p.Remedy}} {
				if line[1] != "" {
					o.say("%s    %-7s %s\n", indent, line[0]+":", describe.Visible(line[1]))
				}
			}
		}
	}
	o.say("%s%s good, %s, %s", indent, plural(r.Documents, "document"), plural(len(r.Problems), "problem"), plural(len(r.Warnings), "warning"))
	if r.Elsewhere > 0 {
		o.say(" (and %s in files that are not changed)", plural(r.Elsewhere, "problem"))
	}
	o.say("\n")
}

// annotation is a workflow command of GitHub.
func annotation(level string, p v1alpha1.Problem) string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	title := p.Reason
	if p.Field != "" {
		title += " " + p.Field
	}
	message := p.Message
	if p.Remedy != "" {
		message += ". Remedy: " + p.Remedy
	}
	return fmt.Sprintf("::%s file=%s,title=%s::%s", level, property.Replace(p.Path), property.Replace(title), data.Replace(message))
}
