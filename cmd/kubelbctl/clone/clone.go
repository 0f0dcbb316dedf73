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

// Package clone works in a person's clone of the repository, with the git of the
// command line: the person's configuration, signing keys, credential helpers and
// agents apply. It never asks a cluster.
package clone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kubelb/gitops/api/repo"
)

// Clone is a clone, or a bare repository.
type Clone struct {
	// Dir is the top of the working tree.
	Dir string
	// Remote is the name of the remote that the hub follows, such as origin.
	Remote string
	// Main is the short name of the hub's main branch.
	Main string
	// Interactive is where git may talk to the person; nil keeps it silent.
	Interactive *Streams
}

// Streams are a person's terminal. What git says is for Err, whatever git calls it.
type Streams struct {
	In  io.Reader
	Err io.Writer
}

// shared is a writer for both outputs of a process.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// ErrNoClone says that a folder is in no clone.
var ErrNoClone = errors.New("not in a clone of the repository")

// Open finds the clone that a folder is in.
func Open(ctx context.Context, dir, remote, main string) (*Clone, error) {
	c := &Clone{Dir: dir, Remote: remote, Main: main}
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fmt.Errorf("git is not installed: %w", err)
	}
	top, err := c.Git(ctx, "rev-parse", "--show-toplevel")
	if err == nil {
		c.Dir = filepath.FromSlash(top)
		return c, nil
	}
	if bare, bareErr := c.Git(ctx, "rev-parse", "--is-bare-repository"); bareErr == nil && bare == "true" {
		return c, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrNoClone, err)
}

// Error is a git that failed.
type Error struct {
	Args   []string
	Stderr string
	Code   int
	err    error
}

// Error says what git said.
func (e *Error) Error() string {
	text := strings.TrimSpace(e.Stderr)
	if text == "" {
		text = e.err.Error()
	}
	return fmt.Sprintf("git %s: %s", e.Args[0], text)
}

// Unwrap returns the error of the process.
func (e *Error) Unwrap() error { return e.err }

// command prepares a git whose output does not depend on the person's language
// or colours.
func (c *Clone) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", c.Dir}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_LITERAL_PATHSPECS=")
	return cmd
}

// Git runs a git command that asks nothing and returns what it prints, without
// the end of the last line.
func (c *Clone) Git(ctx context.Context, args ...string) (string, error) {
	out, err := c.run(c.command(ctx, args...), args)
	return strings.TrimRight(string(out), "\n"), err
}

// Talk runs a git command that may ask the person for a passphrase and the like,
// and shows what it says.
func (c *Clone) Talk(ctx context.Context, args ...string) error {
	cmd := c.command(ctx, args...)
	var stderr bytes.Buffer
	if s := c.Interactive; s != nil {
		out := &shared{w: s.Err}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, out, io.MultiWriter(out, &stderr)
	} else {
		cmd.Stderr = &stderr
	}
	return failed(cmd.Run(), args, &stderr)
}

func (c *Clone) run(cmd *exec.Cmd, args []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := failed(cmd.Run(), args, &stderr)
	return stdout.Bytes(), err
}

func failed(err error, args []string, stderr *bytes.Buffer) error {
	if err == nil {
		return nil
	}
	e := &Error{Args: args, Stderr: stderr.String(), err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e.Code = exit.ExitCode()
	}
	return e
}

// Resolve returns the commit that a revision names.
func (c *Clone) Resolve(ctx context.Context, rev string) (string, error) {
	if strings.HasPrefix(rev, "-") {
		return "", fmt.Errorf("%q is not a revision", rev)
	}
	hash, err := c.Git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%q names no commit of this clone", rev)
	}
	return hash, nil
}

// Ref returns the tip of a branch as the remote had it when it was fetched last,
// in a bare repository that of the branch itself. It is empty if there is none.
func (c *Clone) Ref(ctx context.Context, branch string) string {
	for _, ref := range []string{"refs/remotes/" + c.Remote + "/" + branch, repo.RefPrefix + branch} {
		if hash, err := c.Git(ctx, "rev-parse", "--verify", "--quiet", ref+"^{commit}"); err == nil {
			return hash
		}
	}
	return ""
}

// Branches lists the remote's branches below a prefix such as "intent/", without
// it.
func (c *Clone) Branches(ctx context.Context, prefix string) ([]string, error) {
	roots := []string{"refs/remotes/" + c.Remote + "/" + prefix, repo.RefPrefix + prefix}
	out, err := c.Git(ctx, "for-each-ref", "--format=%(refname)", roots[0], roots[1])
	if err != nil {
		return nil, err
	}
	var names []string
	for _, ref := range strings.Fields(out) {
		for _, root := range roots {
			if name, ok := strings.CutPrefix(ref, root); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Fetch brings what the remote has.
func (c *Clone) Fetch(ctx context.Context) error {
	return c.Talk(ctx, "fetch", "--quiet", "--prune", c.Remote)
}
