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
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/cmd/kubelbctl/clone"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// What kubelbctl exits with.
const (
	ExitOK = 0
	// ExitRefused: what was asked for is refused, or problems were found.
	ExitRefused = 1
	// ExitFailed: it could not be done or found out: wrong arguments, no clone, no
	// cluster.
	ExitFailed = 2
)

// The groups of verbs in the help.
const (
	groupClone = "clone"
	groupHub   = "hub"
)

// verbs are all verbs. One that is added needs a line here and a file of its own.
var verbs = []func(*Options) *cobra.Command{
	newInit, newDiff, newValidate, newLog, newRelease, newApprove, newSeal, newUnseal,
	newStatus, newTenant, newConfirm, newReject, newAcceptRewrite, newReleaseAddress, newKeys,
}

// Options are what all verbs share.
type Options struct {
	genericiooptions.IOStreams
	// Config are kubectl's flags: --kubeconfig, --context, -n and others.
	Config *genericclioptions.ConfigFlags

	dir, remote, main string
	fetch             bool
}

// Refusal is a mistake of the user.
type Refusal struct {
	// What is wrong.
	What string
	// Remedy says what to do; it may have several lines.
	Remedy string
	// Code to exit with; ExitRefused if 0.
	Code int
}

// Error says what is wrong.
func (r *Refusal) Error() string { return r.What }

func refuse(remedy, format string, args ...any) error {
	return &Refusal{What: fmt.Sprintf(format, args...), Remedy: remedy}
}

func usage(remedy, format string, args ...any) error {
	return &Refusal{What: fmt.Sprintf(format, args...), Remedy: remedy, Code: ExitFailed}
}

// silent ends with an exit code after everything was said.
type silent int

func (s silent) Error() string { return fmt.Sprintf("exit %d", int(s)) }

// Run runs a command line and returns what to exit with: 0 if all is well, 1 if
// what was asked for is refused or problems were found, 2 if it could not be done
// or found out.
func Run(ctx context.Context, args []string, version string, streams genericiooptions.IOStreams) int {
	root := New(args[0], version, streams)
	root.SetArgs(args[1:])
	err := root.ExecuteContext(ctx)
	var quiet silent
	var refusal *Refusal
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &quiet):
		return int(quiet)
	}
	complain := func(format string, args ...any) { _, _ = fmt.Fprintf(streams.ErrOut, format, args...) }
	complain("%s: %v\n", root.DisplayName(), err)
	switch {
	case errors.As(err, &refusal):
		if refusal.Remedy != "" {
			complain("%s\n", refusal.Remedy)
		}
		if refusal.Code != 0 {
			return refusal.Code
		}
		return ExitRefused
	case errors.Is(err, clone.ErrNoClone):
		complain("Run it in a clone of the repository, or name one with -C.\n")
	}
	return ExitFailed
}

// New returns the root command for a program that is called by a name.
func New(program, version string, streams genericiooptions.IOStreams) *cobra.Command {
	o := &Options{IOStreams: streams, Config: genericclioptions.NewConfigFlags(true)}
	root := &cobra.Command{
		Use:   "kubelbctl",
		Short: "Load balancers of a fleet, in Git",
		Long: `Reads, checks and changes the load balancers of a fleet in a clone of their
repository, and talks to the hub.

Exit codes: 0 all is well; 1 what was asked for is refused, or problems were found;
2 it could not be done or found out.`,
		Version: version, SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	if strings.HasPrefix(filepath.Base(program), "kubectl-") {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl kubelb"}
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Sprintf("See '%s --help'.", cmd.CommandPath()), "%v", err)
	})
	root.AddGroup(&cobra.Group{ID: groupClone, Title: "In a clone of the repository:"}, &cobra.Group{ID: groupHub, Title: "In the hub:"})
	flags := root.PersistentFlags()
	flags.StringVarP(&o.dir, "directory", "C", ".", "folder in the clone of the repository")
	flags.StringVar(&o.remote, "remote", "origin", "remote of the clone that the hub follows")
	flags.StringVar(&o.main, "branch", "main", "main branch of the hub: GitSource spec.branch")
	for _, verb := range verbs {
		root.AddCommand(checked(verb(o)))
	}
	return root
}

// checked makes wrong arguments a usage error that names the way out.
func checked(cmd *cobra.Command) *cobra.Command {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(fmt.Sprintf("Usage: %s\nSee '%s --help'.", cmd.UseLine(), cmd.CommandPath()), "%v", err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checked(sub)
	}
	return cmd
}

// say prints for the person. One who no longer listens is told nothing.
func (o *Options) say(format string, args ...any) { _, _ = fmt.Fprintf(o.Out, format, args...) }

// open opens the clone, and fetches if --fetch was given.
func (o *Options) open(ctx context.Context) (*clone.Clone, error) {
	c, err := clone.Open(ctx, o.dir, o.remote, o.main)
	if err != nil {
		return nil, err
	}
	c.Interactive = o.streams()
	if o.fetch {
		err = c.Fetch(ctx)
	}
	return c, err
}

func (o *Options) streams() *clone.Streams { return &clone.Streams{In: o.In, Err: o.ErrOut} }

func (o *Options) addFetch(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.fetch, "fetch", false, "fetch from the remote first")
}

// tip returns the tip of the hub's main branch as it was fetched last.
func (o *Options) tip(ctx context.Context, c *clone.Clone) (string, error) {
	if tip := c.Ref(ctx, c.Main); tip != "" {
		return tip, nil
	}
	return "", usage(fmt.Sprintf("Fetch it: git fetch %s. Other names are given with --remote and --branch.", c.Remote),
		"this clone knows no branch %s of the remote %s", c.Main, c.Remote)
}

// addHub makes a verb one of those that ask the hub, with kubectl's flags.
func (o *Options) addHub(cmd *cobra.Command) {
	cmd.GroupID = groupHub
	o.Config.AddFlags(cmd.Flags())
}

// formats lists formats for a usage line and an error.
func formats(names ...string) string { return strings.Join(names, "|") }

// addOutput adds -o with the formats that a verb knows, the first one for people.
func addOutput(cmd *cobra.Command, output *string, names ...string) {
	cmd.Flags().StringVarP(output, "output", "o", names[0], "how to print: "+formats(names...))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)) // fails only for unknown flags
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(names, *output) {
			return usage("", "unknown output format %q: use one of %s", *output, formats(names...))
		}
		return run(cmd, args)
	}
}
