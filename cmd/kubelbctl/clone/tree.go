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

package clone

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kubelb/gitops/api/repo"
)

// Tree returns the files of a commit, below the given folders or all.
func (c *Clone) Tree(ctx context.Context, commit string, dirs ...string) (repo.Tree, error) {
	args := []string{"ls-tree", "-r", "-z", "--full-tree", commit}
	if len(dirs) > 0 {
		args = append(append(args, "--"), dirs...)
	}
	out, err := c.run(c.command(ctx, args...), args)
	if err != nil {
		return nil, err
	}
	found := entries{}
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if line == "" {
			continue
		}
		head, path, _ := strings.Cut(line, "\t")
		parts := strings.Fields(head) // mode, type, hash
		if len(parts) != 3 {
			return nil, fmt.Errorf("git ls-tree printed %q", line)
		}
		found[path] = entry{mode: parts[0], hash: parts[2]}
	}
	return c.read(ctx, found)
}

// Changed returns the files that two commits do not have in common, from each of
// them, below the given folders or all. An empty first commit has no files.
func (c *Clone) Changed(ctx context.Context, from, to string, dirs ...string) (before, after repo.Tree, err error) {
	if from == "" {
		after, err = c.Tree(ctx, to, dirs...)
		return repo.Tree{}, after, err
	}
	args := append([]string{"diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", from, to, "--"}, dirs...)
	out, err := c.run(c.command(ctx, args...), args)
	if err != nil {
		return nil, nil, err
	}
	was, now := entries{}, entries{}
	fields := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	for n := 0; n+1 < len(fields); n += 2 {
		parts := strings.Fields(strings.TrimPrefix(fields[n], ":")) // modes, hashes, status
		if len(parts) != 5 {
			return nil, nil, fmt.Errorf("git diff-tree printed %q", fields[n])
		}
		if parts[0] != absent {
			was[fields[n+1]] = entry{mode: parts[0], hash: parts[2]}
		}
		if parts[1] != absent {
			now[fields[n+1]] = entry{mode: parts[1], hash: parts[3]}
		}
	}
	if before, err = c.read(ctx, was); err != nil {
		return nil, nil, err
	}
	after, err = c.read(ctx, now)
	return before, after, err
}

// File returns a file of a commit.
func (c *Clone) File(ctx context.Context, commit, path string) (repo.File, bool, error) {
	tree, err := c.Tree(ctx, commit, path)
	file, ok := tree[path]
	return file, ok, err
}

// entry is what a tree says of a file.
type entry struct{ mode, hash string }

type entries map[string]entry

// Modes as git writes them.
const (
	absent        = "000000"
	modeSymlink   = "120000"
	modeSubmodule = "160000"
)

// read reads the contents with one git. Files that are too large to be read have
// a size only.
func (c *Clone) read(ctx context.Context, found entries) (repo.Tree, error) {
	tree := repo.Tree{}
	var paths []string
	for path, e := range found {
		switch e.mode {
		case modeSymlink:
			tree[path] = repo.File{Mode: repo.Symlink}
		case modeSubmodule:
			tree[path] = repo.File{Mode: repo.Submodule}
		default:
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return tree, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := c.command(ctx, "cat-file", "--batch")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		w := bufio.NewWriter(in)
		for _, path := range paths {
			_, _ = w.WriteString(found[path].hash + "\n") // a git that ended shows below
		}
		_ = w.Flush()
		_ = in.Close()
	}()
	r := bufio.NewReader(out)
	for _, path := range paths {
		file, err := readBlob(r)
		if err != nil {
			cancel()
			_ = cmd.Wait()
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		tree[path] = file
	}
	return tree, cmd.Wait()
}

// readBlob reads one answer of git cat-file --batch: hash, type and size in a
// line, the content, an end of line.
func readBlob(r *bufio.Reader) (repo.File, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return repo.File{}, err
	}
	parts := strings.Fields(line)
	if len(parts) != 3 {
		return repo.File{}, fmt.Errorf("git says %q", strings.TrimSpace(line))
	}
	size, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return repo.File{}, err
	}
	file := repo.File{Size: size}
	if size > repo.MaxFileSize {
		_, err = io.CopyN(io.Discard, r, size+1)
		return file, err
	}
	content := make([]byte, size+1)
	if _, err := io.ReadFull(r, content); err != nil {
		return file, err
	}
	file.Data = content[:size]
	return file, nil
}

// WorkingTree returns the files of the working tree as a commit of all of them
// would have them: without those that are ignored.
func (c *Clone) WorkingTree(ctx context.Context) (repo.Tree, error) {
	args := []string{"ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--full-name"}
	out, err := c.run(c.command(ctx, args...), args)
	if err != nil {
		return nil, err
	}
	tree := repo.Tree{}
	for _, path := range strings.Split(string(out), "\x00") {
		if path == "" {
			continue
		}
		file, err := readFile(filepath.Join(c.Dir, filepath.FromSlash(path)))
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			return nil, err
		}
		tree[strings.TrimSuffix(path, "/")] = file
	}
	return tree, nil
}

func readFile(name string) (repo.File, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return repo.File{}, err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return repo.File{Mode: repo.Symlink}, nil
	case info.IsDir(): // a repository in the repository
		return repo.File{Mode: repo.Submodule}, nil
	case info.Size() > repo.MaxFileSize:
		return repo.File{Size: info.Size()}, nil
	}
	data, err := os.ReadFile(name)
	return repo.NewFile(data), err
}
