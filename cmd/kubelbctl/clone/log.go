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
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Commit is what is told of a commit.
type Commit struct {
	Hash string
	// Parent is the first one, empty for a root.
	Parent                    string
	Author, AuthorEmail       string
	Committer, CommitterEmail string
	When                      time.Time
	Subject                   string
	Signed                    bool
	// Verdict is git's letter for the signature (%G?), and Signer whom it names. For
	// SSH it needs gpg.ssh.allowedSignersFile.
	Verdict, Signer string
}

// Log lists the newest commits along first parents that changed any of the paths.
// signers is a file of allowed signers, empty for what git is set up with.
func (c *Clone) Log(ctx context.Context, tip string, limit int, signers string, pathspecs ...string) ([]Commit, error) {
	args := append([]string{"rev-list", "--first-parent", "--max-count=" + strconv.Itoa(limit), tip, "--"}, pathspecs...)
	out, err := c.Git(ctx, args...)
	if err != nil || out == "" {
		return nil, err
	}
	hashes := strings.Fields(out)
	// NUL is the one byte that no field of a commit holds: git ends texts there.
	const fields = 10
	format := strings.Join([]string{"%H", "%P", "%an", "%ae", "%cn", "%ce", "%ct", "%s", "%G?", "%GS"}, "%x00") + "%x00"
	args = []string{}
	if signers != "" {
		args = append(args, "-c", "gpg.ssh.allowedSignersFile="+signers)
	}
	args = append(append(args, "log", "--no-walk=unsorted", "--no-show-signature", "--no-color", "--format="+format), hashes...)
	if out, err = c.Git(ctx, args...); err != nil {
		return nil, err
	}
	signed, err := c.signed(ctx, hashes)
	if err != nil {
		return nil, err
	}
	texts := strings.Split(out, "\x00")
	if texts[len(texts)-1] != "" || len(texts)-1 != fields*len(hashes) {
		return nil, fmt.Errorf("git log printed %d fields of %d commits", len(texts)-1, len(hashes))
	}
	var commits []Commit
	for i, hash := range hashes {
		parts := texts[i*fields : (i+1)*fields]
		if got := strings.TrimPrefix(parts[0], "\n"); got != hash {
			return nil, fmt.Errorf("git log printed commit %q in place of %s", got, hash)
		}
		seconds, err := strconv.ParseInt(parts[6], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("commit %s: %w", hash, err)
		}
		commit := Commit{
			Hash: hash, Author: parts[2], AuthorEmail: parts[3], Committer: parts[4], CommitterEmail: parts[5],
			When: time.Unix(seconds, 0).UTC(), Subject: parts[7], Signed: signed[hash],
			Verdict: parts[8], Signer: parts[9],
		}
		commit.Parent, _, _ = strings.Cut(parts[1], " ")
		commits = append(commits, commit)
	}
	return commits, nil
}

// signed tells which commits have a signature, whether it can be checked or not.
func (c *Clone) signed(ctx context.Context, hashes []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, hash := range hashes {
		text, err := c.Git(ctx, "cat-file", "commit", hash)
		if err != nil {
			return nil, err
		}
		head, _, _ := strings.Cut(text, "\n\n")
		out[hash] = strings.Contains("\n"+head, "\ngpgsig")
	}
	return out, nil
}

// Signed tells whether a commit has a signature.
func (c *Clone) Signed(ctx context.Context, hash string) (bool, error) {
	signed, err := c.signed(ctx, []string{hash})
	return signed[hash], err
}

// SignedBy tells whether a commit has a good SSH signature of a key, written as in
// an authorized_keys file.
func (c *Clone) SignedBy(ctx context.Context, hash, key string) (bool, error) {
	parts := strings.Fields(key)
	if len(parts) < 2 || strings.ContainsAny(key, "\n\r") {
		return false, errors.New("the key is not one line: type and key, as in an authorized_keys file")
	}
	file, err := os.CreateTemp("", "kubelbctl-signers-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = fmt.Fprintf(file, "signer namespaces=\"git\" %s %s\n", parts[0], parts[1])
	if err = errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	out, err := c.Git(ctx, "-c", "gpg.ssh.allowedSignersFile="+file.Name(), "-c", "gpg.ssh.revocationFile=", "-c", "gpg.minTrustLevel=undefined",
		"log", "--no-walk", "--no-color", "--no-show-signature", "--format=%G?%x00%GS", hash)
	if err != nil {
		return false, err
	}
	verdict, signer, _ := strings.Cut(out, "\x00")
	return verdict == "G" && signer == "signer", nil
}
