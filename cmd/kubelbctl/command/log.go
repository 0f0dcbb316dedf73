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
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
	"github.com/kubelb/gitops/gitsync/describe"
)

func newLog(o *Options) *cobra.Command {
	l := logger{options: o}
	cmd := &cobra.Command{
		Use:     "log [TENANT [NAMESPACE/NAME]]",
		GroupID: groupClone,
		Short:   "Who changed load balancers, when and how",
		Long: `Lists the commits of main (first parents, newest first) that changed load
balancers, routes or secrets: when, who, whether through the hub or by a person,
whether they are signed, and the change in words.

BY says hub where the committer is the hub: then the author is the tenant's agent.
Names prove nothing. SIGNED says by whom, where git can check it: give a file of
allowed signers with --signers or set gpg.ssh.allowedSignersFile.`,
		Example: `  kubelbctl log --fetch acme shop/web
  kubelbctl log acme --limit 10
  kubelbctl log acme shop/web -o json
  kubelbctl log --signers signers.txt         # lines such as: hub@kubelb.local ssh-ed25519 AAAA...`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: o.completeObject,
		RunE:              func(cmd *cobra.Command, args []string) error { return l.run(cmd.Context(), args) },
	}
	cmd.Flags().StringVar(&l.kind, "kind", "", "kind of the source object, where there are several of the name: service, ingress, ...")
	cmd.Flags().IntVar(&l.limit, "limit", 50, "how many commits at most")
	cmd.Flags().StringVar(&l.signers, "signers", "", "file of allowed signers, as ssh-keygen has it")
	cmd.Flags().BoolVar(&l.facts, "facts", false, "with changes of nodes and backends")
	o.addFetch(cmd)
	addOutput(cmd, &l.output, outputText, outputWide, outputJSON, outputYAML)
	return cmd
}

type logger struct {
	options               *Options
	kind, signers, output string
	limit                 int
	facts                 bool
}

// entry is a commit of the log.
type entry struct {
	Commit string    `json:"commit"`
	Time   time.Time `json:"time"`
	Author string    `json:"author"`
	Email  string    `json:"email"`
	// By is hub or person.
	By string `json:"by"`
	// Signature is unsigned, not checked, bad, expired, revoked or good.
	Signature string           `json:"signature"`
	Signer    string           `json:"signer,omitempty"`
	Subject   string           `json:"subject"`
	Change    string           `json:"change"`
	Summary   describe.Summary `json:"summary"`
}

func (l *logger) run(ctx context.Context, args []string) error {
	if l.limit < 1 {
		return usage("", "--limit is %d, at least one commit is needed", l.limit)
	}
	c, err := l.options.open(ctx)
	if err != nil {
		return err
	}
	tip, err := l.options.tip(ctx, c)
	if err != nil {
		return err
	}
	specs, err := l.pathspecs(args)
	if err != nil {
		return err
	}
	if l.signers != "" {
		if l.signers, err = filepath.Abs(l.signers); err != nil {
			return err
		}
	}
	commits, err := c.Log(ctx, tip, l.limit, l.signers, specs...)
	if err != nil {
		return err
	}
	entries := []entry{}
	for _, commit := range commits {
		e, err := l.entry(ctx, c, commit, specs)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 && l.output == outputText {
		return refuse("Names are those of the source object: NAMESPACE/NAME. --fetch gets the newest commits.", "no commit of %s/%s changed %s", c.Remote, c.Main, strings.Join(append([]string{"tenants"}, args...), " "))
	}
	return l.print(entries)
}

// pathspecs name the files that are asked for.
func (l *logger) pathspecs(args []string) ([]string, error) {
	tenant, object := "*", "*/*"
	if len(args) > 0 {
		if tenant = args[0]; !repo.ValidTenant(tenant) {
			return nil, usage("", "%q is not a tenant's name", tenant)
		}
	}
	if len(args) > 1 {
		namespace, name, err := parseObject(args[1])
		if err != nil {
			return nil, err
		}
		if strings.ContainsAny(namespace+name, "*?[\\") {
			return nil, usage("", "%q names no object", args[1])
		}
		object = namespace + "/" + name
	}
	kind := strings.ToLower(l.kind)
	if kind == "" {
		kind = "*"
	}
	dirs := []string{repo.DirLoadBalancers, repo.DirRoutes, repo.DirSyncSecrets}
	if l.facts {
		dirs = append(dirs, repo.DirBackends)
	}
	var specs []string
	for _, dir := range dirs {
		specs = append(specs, fmt.Sprintf(":(top,glob)%s/%s/%s/%s.%s.yaml", repo.TenantsDir, tenant, dir, object, kind))
	}
	if l.facts && len(args) < 2 {
		specs = append(specs, fmt.Sprintf(":(top,glob)%s/%s/%s/*.yaml", repo.TenantsDir, tenant, repo.DirAddresses))
	}
	return specs, nil
}

func (l *logger) entry(ctx context.Context, c *clone.Clone, commit clone.Commit, specs []string) (entry, error) {
	d := differ{clone: c}
	s, err := d.commits(ctx, commit.Parent, commit.Hash, specs)
	if err != nil {
		return entry{}, err
	}
	s.Warnings = nil // of that time
	if !l.facts {
		s = s.Wishes()
	}
	e := entry{
		Commit: commit.Hash, Time: commit.When, Author: commit.Author, Email: commit.AuthorEmail, By: "person",
		Subject: commit.Subject, Change: s.Title(), Summary: s,
	}
	if commit.Committer == repo.HubName && commit.CommitterEmail == repo.HubEmail {
		e.By = "hub"
	}
	e.Signature, e.Signer = signature(commit)
	return e, nil
}

func signature(commit clone.Commit) (state, signer string) {
	switch {
	case !commit.Signed:
		return "unsigned", ""
	case commit.Verdict == "G" || commit.Verdict == "U" && commit.Signer != "":
		return "good", commit.Signer
	case commit.Verdict == "B":
		return "bad", ""
	case commit.Verdict == "X" || commit.Verdict == "Y":
		return "expired", commit.Signer
	case commit.Verdict == "R":
		return "revoked", commit.Signer
	}
	return "not checked", ""
}

func (l *logger) print(entries []entry) error {
	if l.output != outputText && l.output != outputWide {
		return encode(l.options.Out, l.output, entries)
	}
	rows := [][]string{{"COMMIT", "TIME (UTC)", "AUTHOR", "BY", "SIGNED", "CHANGE"}}
	if l.output == outputWide {
		rows[0] = append(rows[0], "SUBJECT")
	}
	for _, e := range entries {
		signed := map[string]string{"unsigned": "no", "good": e.Signer}[e.Signature]
		if signed == "" {
			signed = e.Signature
		}
		row := []string{e.Commit[:12], e.Time.Format("2006-01-02 15:04"), e.Author, e.By, signed, e.Change}
		if l.output == outputWide {
			row = append(row, e.Subject)
		}
		for n := range row {
			row[n] = describe.Visible(row[n])
		}
		rows = append(rows, row)
	}
	return table(l.options.Out, rows)
}
