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
first commit is pushed. Then it says what to do on the forge.

Run it again when something went wrong, or to push later: it goes on where it was and
makes nothing twice.`,
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
	if err := i.identified(ctx, where); err != nil {
		return err
	}
	c, err := i.prepare(ctx, where)
	if err != nil {
		return err
	}
	if err := i.begin(ctx, c, where); err != nil {
		return err
	}
	if err := i.connect(ctx, c, isURL(where)); err != nil {
		return err
	}
	i.options.say("\n%s", steps(i.forge, c.Main))
	return nil
}

// identified refuses to begin where git could not commit for want of a name.
func (i *initer) identified(ctx context.Context, where string) error {
	c := &clone.Clone{Dir: i.options.dir}
	if dir := i.folder(where); isRepository(dir) {
		c.Dir = dir
	}
	for _, who := range []string{"GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"} {
		if _, err := c.Git(ctx, "var", who); err != nil {
			return refuse("Tell it: git config --global user.name 'Your Name'; git config --global user.email you@example.com. Then run this again.",
				"git does not know in whose name to commit")
		}
	}
	return nil
}

// begin makes the first commit, unless it is there from an earlier run.
func (i *initer) begin(ctx context.Context, c *clone.Clone, where string) error {
	if head, err := c.Resolve(ctx, "HEAD"); err == nil {
		file, ok, err := c.File(ctx, head, repo.ConfigPath)
		if err != nil {
			return err
		}
		config, err := repo.ReadConfig(file, ok)
		if err != nil {
			return refuse("Name an empty repository: the hub takes over a repository only as kubelbctl init makes it.", "%s has commits already, and not those of kubelbctl init", where)
		}
		i.options.say("the repository in %s is made already, repositoryID %s\n", c.Dir, config.RepositoryID)
		return nil
	}
	files, err := templateFiles(i.forge)
	if err != nil {
		return err
	}
	id := rand.Text()
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
		return refuse("Mend that and run this again: it goes on from there.", "the files are in %s, but they could not be committed: %v", c.Dir, err)
	}
	i.options.say("made the repository in %s, repositoryID %s\n", c.Dir, id)
	return nil
}

// connect pushes if that is asked for, and leaves main with its upstream and the
// remote with its HEAD, as a clone of the pushed repository would have them.
func (i *initer) connect(ctx context.Context, c *clone.Clone, remote bool) error {
	if !remote {
		if _, err := c.Git(ctx, "config", "--get", "remote."+c.Remote+".url"); err != nil {
			if i.push {
				return usage("Add one: git -C "+c.Dir+" remote add "+c.Remote+" URL. Then run this again.", "there is no remote %s to push to", c.Remote)
			}
			i.options.say("not pushed yet: git -C %s remote add %s URL && kubelbctl init %s --push\n", c.Dir, c.Remote, c.Dir)
			return nil
		}
	}
	for _, args := range [][]string{
		{"config", "branch." + c.Main + ".remote", c.Remote},
		{"config", "branch." + c.Main + ".merge", repo.RefPrefix + c.Main},
		{"symbolic-ref", "refs/remotes/" + c.Remote + "/HEAD", "refs/remotes/" + c.Remote + "/" + c.Main},
	} {
		if _, err := c.Git(ctx, args...); err != nil {
			return err
		}
	}
	if pushed := c.Ref(ctx, c.Main); pushed != "" {
		if _, err := c.Git(ctx, "merge-base", "--is-ancestor", "HEAD", "refs/remotes/"+c.Remote+"/"+c.Main); err == nil {
			return nil
		}
	}
	if i.push {
		return push(ctx, i.options, c, false)
	}
	i.options.say("not pushed yet: git -C %s push %s HEAD:%s\n", c.Dir, c.Remote, c.Main)
	return nil
}

// folder is where the repository will be.
func (i *initer) folder(where string) string {
	switch {
	case isURL(where):
		return filepath.Join(i.options.dir, strings.TrimSuffix(filepath.Base(strings.TrimSuffix(strings.ReplaceAll(where, ":", "/"), "/")), ".git"))
	case filepath.IsAbs(where):
		return where
	}
	return filepath.Join(i.options.dir, where)
}

// prepare makes or clones the repository, or finds what an earlier run left of it.
func (i *initer) prepare(ctx context.Context, where string) (*clone.Clone, error) {
	o, dir := i.options, i.folder(where)
	begun := isRepository(dir)
	if !begun {
		if err := empty(dir); err != nil {
			return nil, err
		}
		if err := i.make(ctx, where, dir); err != nil {
			return nil, err
		}
	}
	c, err := clone.Open(ctx, dir, o.remote, o.main)
	if err != nil {
		return nil, err
	}
	c.Interactive = o.streams()
	if begun && isURL(where) {
		if url, err := c.Git(ctx, "config", "--get", "remote."+c.Remote+".url"); err != nil || url != where {
			return nil, refuse("Move it away, or run this in another folder.", "the folder %s is a repository of something else", dir)
		}
	}
	if _, err := c.Resolve(ctx, "HEAD"); err == nil {
		return c, nil
	}
	if refs, err := c.Git(ctx, "for-each-ref", "--count=1", "refs/heads", "refs/remotes/"+c.Remote+"/*"); err != nil || refs != "" {
		return nil, refuse("Name an empty repository: the hub takes over a repository only as kubelbctl init makes it.", "%s has commits already", where)
	}
	if err := onlyTemplate(dir); err != nil {
		return nil, err
	}
	_, err = c.Git(ctx, "symbolic-ref", "HEAD", repo.RefPrefix+c.Main)
	return c, err
}

// make clones a URL, or makes a folder a repository.
func (i *initer) make(ctx context.Context, where, dir string) error {
	if isURL(where) {
		at := &clone.Clone{Dir: i.options.dir, Interactive: i.options.streams()}
		return at.Talk(ctx, "clone", "--quiet", "--origin", i.options.remote, "--", where, absolute(dir))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, err := (&clone.Clone{Dir: dir}).Git(ctx, "init", "--quiet")
	return err
}

// isRepository reports whether a folder is the top of a working tree.
func isRepository(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, ".git"))
	return err == nil
}

// onlyTemplate refuses a repository without a commit that has files of somebody
// else: they would be in the first commit.
func onlyTemplate(dir string) error {
	files, err := templateFiles("")
	if err != nil {
		return err
	}
	known := map[string]bool{".git": true, repo.ConfigPath: true}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		known[top] = true
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range found {
		if !known[e.Name()] {
			return refuse("Name a new or an empty folder.", "the folder %s is not empty: it has %s", dir, e.Name())
		}
	}
	return nil
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

// empty refuses a folder with anything in it.
func empty(dir string) error {
	found, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return refuse("Name a new or an empty folder.", "the folder %s is not empty: it has %s", dir, found[0].Name())
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
