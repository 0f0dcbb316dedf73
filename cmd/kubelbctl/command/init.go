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
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops"
	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
)

func newInit(o *Options) *cobra.Command {
	i := initer{options: o}
	cmd := &cobra.Command{
		Use:     "init DIRECTORY | URL",
		GroupID: groupClone,
		Short:   "Make the repository of a fleet",
		Long: `Makes the repository from the template: a fresh repositoryID, CODEOWNERS, a workflow
that checks pull requests, and the first commit on main, signed if your git signs.

A DIRECTORY that does not exist or is empty becomes a new repository. A URL names an
empty repository on a forge: it is cloned into a folder of its name; with --push the
first commit is pushed. Then it says what to do on the forge.`,
		Example: `  kubelbctl init fleet --forge gitea
  kubelbctl init https://github.com/example/fleet.git --forge github --push`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return i.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&i.forge, "forge", "", "only the workflow of this forge: "+formats(forges...)+"; all of them if empty")
	cmd.Flags().BoolVar(&i.push, "push", false, "push the first commit")
	_ = cmd.RegisterFlagCompletionFunc("forge", cobra.FixedCompletions(forges, noFiles)) // fails only for unknown flags
	return cmd
}

var forges = []string{"github", "gitlab", "gitea"}

// workflows are the files of the template that only one forge reads.
var workflows = map[string]string{".github/": "github", ".gitlab-ci.yml": "gitlab", ".gitea/": "gitea"}

type initer struct {
	options *Options
	forge   string
	push    bool
}

func (i *initer) run(ctx context.Context, where string) error {
	if i.forge != "" && !slices.Contains(forges, i.forge) {
		return usage("", "unknown forge %q: use one of %s", i.forge, strings.Join(forges, ", "))
	}
	c, err := i.prepare(ctx, where)
	if err != nil {
		return err
	}
	id := rand.Text()
	files, err := templateFiles(i.forge)
	if err != nil {
		return err
	}
	if files[repo.ConfigPath], err = repo.EncodeConfig(repo.Config{RepositoryID: id, Layout: repo.LayoutVersion}); err != nil {
		return err
	}
	for name, content := range files {
		if err := writeFile(filepath.Join(c.Dir, filepath.FromSlash(name)), content); err != nil {
			return err
		}
	}
	if _, err := c.Git(ctx, "add", "--all"); err != nil {
		return err
	}
	if err := c.Talk(ctx, "commit", "--quiet", "--message", "Begin the repository of the fleet"); err != nil {
		return fmt.Errorf("the files are in %s, but they could not be committed: %w", c.Dir, err)
	}
	i.options.say("made the repository in %s, repositoryID %s\n", c.Dir, id)
	if i.push {
		if err := push(ctx, i.options, c, false); err != nil {
			return err
		}
	} else {
		i.options.say("not pushed yet: git -C %s push %s HEAD:%s\n", c.Dir, c.Remote, c.Main)
	}
	i.options.say("\n%s", steps(i.forge, c.Main))
	return nil
}

// prepare makes or clones the repository, which must have no commit yet.
func (i *initer) prepare(ctx context.Context, where string) (*clone.Clone, error) {
	o := i.options
	var dir string
	if isURL(where) {
		dir = filepath.Join(o.dir, strings.TrimSuffix(filepath.Base(strings.TrimSuffix(strings.ReplaceAll(where, ":", "/"), "/")), ".git"))
		if err := empty(dir); err != nil {
			return nil, err
		}
		at := &clone.Clone{Dir: o.dir, Interactive: o.streams()}
		if err := at.Talk(ctx, "clone", "--quiet", "--origin", o.remote, "--", where, absolute(dir)); err != nil {
			return nil, err
		}
	} else {
		if dir = filepath.Join(o.dir, where); filepath.IsAbs(where) {
			dir = where
		}
		if err := empty(dir); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if _, err := (&clone.Clone{Dir: dir}).Git(ctx, "init", "--quiet"); err != nil {
			return nil, err
		}
	}
	c, err := clone.Open(ctx, dir, o.remote, o.main)
	if err != nil {
		return nil, err
	}
	c.Interactive = o.streams()
	if refs, err := c.Git(ctx, "for-each-ref", "--count=1"); err != nil || refs != "" {
		return nil, refuse("Name an empty repository: the hub takes over a repository only as kubelbctl init makes it.", "%s has commits already", where)
	}
	_, err = c.Git(ctx, "symbolic-ref", "HEAD", repo.RefPrefix+c.Main)
	return c, err
}

func isURL(where string) bool {
	if strings.Contains(where, "://") {
		return true
	}
	host, _, ok := strings.Cut(where, ":") // git@host:owner/name.git
	return ok && strings.Contains(host, "@") && !strings.Contains(host, "/")
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// empty refuses a folder with anything but an empty repository in it.
func empty(dir string) error {
	found, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range found {
		if e.Name() != ".git" {
			return refuse("Name a new or an empty folder.", "the folder %s is not empty: it has %s", dir, e.Name())
		}
	}
	return nil
}

// templateFiles are the files of a new repository, without the workflows of other
// forges.
func templateFiles(forge string) (map[string][]byte, error) {
	files := map[string][]byte{}
	root, err := fs.Sub(gitops.Template, gitops.TemplateDir)
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		for prefix, of := range workflows {
			if forge != "" && of != forge && strings.HasPrefix(path, prefix) {
				return nil
			}
		}
		files[path], err = fs.ReadFile(root, path)
		return err
	})
	return files, err
}
