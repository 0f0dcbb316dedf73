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

package git

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Ident says who did something, and when.
type Ident struct {
	Name, Email string
	When        time.Time
}

// SignatureKind says what kind of signature a commit carries.
type SignatureKind string

// The kinds of signatures.
const (
	Unsigned SignatureKind = ""
	SSH      SignatureKind = "SSH"
	OpenPGP  SignatureKind = "OpenPGP"
	X509     SignatureKind = "X.509"
)

// Commit is a commit, taken apart.
type Commit struct {
	Hash, Tree        Hash
	Parents           []Hash
	Author, Committer Ident
	// Subject is the first paragraph on one line, Body what follows without
	// the Trailers.
	Subject, Body string
	Trailers      Trailers
	Signature     SignatureKind

	signed  []byte // what the signature is over
	armored []byte // the signature
}

// Commit returns the commit h.
func (s *Store) Commit(h Hash) (Commit, error) {
	o, err := s.get(h, plumbing.CommitObject)
	if err != nil {
		return Commit{}, err
	}
	c, err := parseCommit(h, o.data)
	if err != nil {
		return Commit{}, fmt.Errorf("commit %s: %w", h, err)
	}
	return c, nil
}

// FirstParents walks from the commit tip along first parents: the history of a
// branch as it was pushed or merged. The walk ends after a commit without
// parents, or with [ErrMissing] where the store does not know more.
func (s *Store) FirstParents(tip Hash) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		for h := tip; ; {
			c, err := s.Commit(h)
			if !yield(c, err) || err != nil || len(c.Parents) == 0 {
				return
			}
			h = c.Parents[0]
		}
	}
}

// Reaches reports whether the commit target is tip or an ancestor of it, over
// all parents. Where it is not found and the store does not hold the whole
// history, the error is [ErrMissing].
func (s *Store) Reaches(tip, target Hash) (bool, error) {
	seen := map[Hash]bool{tip: true}
	var missing error
	for todo := []Hash{tip}; len(todo) > 0; todo = todo[1:] {
		if todo[0] == target {
			return true, nil
		}
		c, err := s.Commit(todo[0])
		if errors.Is(err, ErrMissing) {
			missing = err
			continue
		}
		if err != nil {
			return false, err
		}
		for _, p := range c.Parents {
			if !seen[p] {
				seen[p] = true
				todo = append(todo, p)
			}
		}
	}
	return false, missing
}

// parseCommit decodes a commit object. The links must be right; names and
// dates are taken as they come, because many programs have written commits.
func parseCommit(h Hash, data []byte) (Commit, error) {
	c := Commit{Hash: h}
	rest := data
	var signature, signed bytes.Buffer
	lastKey := ""
	for {
		line, tail, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return Commit{}, fmt.Errorf("%w: header does not end", ErrMalformed)
		}
		raw := rest[:len(line)+1]
		rest = tail
		if len(line) == 0 {
			break
		}
		key, value, _ := strings.Cut(string(line), " ")
		if key == "" { // a line that continues the one before
			key = lastKey
			if key == "gpgsig" {
				signature.WriteString(value + "\n")
			}
		} else {
			if key == "gpgsig" && signature.Len() > 0 {
				return Commit{}, fmt.Errorf("%w: two signatures", ErrMalformed)
			}
			if err := c.header(lastKey, key, value, &signature); err != nil {
				return Commit{}, err
			}
		}
		if key != "gpgsig" && key != "gpgsig-sha256" {
			signed.Write(raw)
		}
		lastKey = key
	}
	if c.Tree.IsZero() {
		return Commit{}, fmt.Errorf("%w: no tree", ErrMalformed)
	}
	c.Subject, c.Body, c.Trailers = splitMessage(string(rest))
	if signature.Len() > 0 {
		signed.WriteByte('\n')
		signed.Write(rest)
		c.signed, c.armored = signed.Bytes(), signature.Bytes()
		c.Signature = signatureKind(c.armored)
	}
	return c, nil
}

func (c *Commit) header(last, key, value string, signature *bytes.Buffer) (err error) {
	switch key {
	case "tree":
		if last != "" {
			return fmt.Errorf("%w: tree is not first", ErrMalformed)
		}
		c.Tree, err = ParseHash(value)
	case "parent":
		if last != "tree" && last != "parent" {
			return fmt.Errorf("%w: parent after %s", ErrMalformed, last)
		}
		var p Hash
		p, err = ParseHash(value)
		c.Parents = append(c.Parents, p)
	case "author":
		c.Author = parseIdent(value)
	case "committer":
		c.Committer = parseIdent(value)
	case "gpgsig":
		signature.WriteString(value + "\n")
	}
	return err
}

func signatureKind(armored []byte) SignatureKind {
	switch {
	case bytes.HasPrefix(armored, []byte(sshArmorBegin)):
		return SSH
	case bytes.HasPrefix(armored, []byte("-----BEGIN SIGNED MESSAGE-----")):
		return X509
	}
	return OpenPGP
}

func parseIdent(text string) Ident {
	name, rest, _ := strings.Cut(text, "<")
	email, when, _ := strings.Cut(rest, ">")
	id := Ident{Name: strings.TrimSpace(name), Email: strings.TrimSpace(email)}
	seconds, zone, _ := strings.Cut(strings.TrimSpace(when), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return id
	}
	id.When = time.Unix(n, 0).UTC()
	if z, err := strconv.Atoi(zone); err == nil && z != 0 && z > -2400 && z < 2400 {
		id.When = id.When.In(time.FixedZone("", (z/100*60+z%100)*60))
	}
	return id
}

func (id Ident) encode() (string, error) {
	if id.Name == "" || strings.ContainsAny(id.Name+id.Email, "<>\n\x00") {
		return "", fmt.Errorf("%w: person %q", ErrMalformed, id.Name+" <"+id.Email+">")
	}
	if id.When.Unix() < 0 {
		return "", fmt.Errorf("%w: person %q without a time", ErrMalformed, id.Name)
	}
	return fmt.Sprintf("%s <%s> %d %s", id.Name, id.Email, id.When.Unix(), id.When.Format("-0700")), nil
}

// CommitSpec describes a commit to make.
type CommitSpec struct {
	Tree    Hash
	Parents []Hash
	Author  Ident
	// Committer is the author where it is zero.
	Committer Ident
	// Message is the subject and, after an empty line, the body.
	Message  string
	Trailers Trailers
	// Signer signs the commit, unless it is nil.
	Signer *Signer
}

// NewCommit makes a commit. The same spec makes the same commit.
func (s *Store) NewCommit(spec CommitSpec) (Hash, error) {
	data, err := s.encodeCommit(spec)
	if err != nil {
		return Hash{}, fmt.Errorf("new commit: %w", err)
	}
	return s.put(plumbing.CommitObject, data), nil
}

func (s *Store) encodeCommit(spec CommitSpec) ([]byte, error) {
	if _, err := s.get(spec.Tree, plumbing.TreeObject); err != nil {
		return nil, err
	}
	if spec.Committer == (Ident{}) {
		spec.Committer = spec.Author
	}
	author, err := spec.Author.encode()
	if err != nil {
		return nil, err
	}
	committer, err := spec.Committer.encode()
	if err != nil {
		return nil, err
	}
	message, err := joinMessage(spec.Message, spec.Trailers)
	if err != nil {
		return nil, err
	}
	var head strings.Builder
	fmt.Fprintf(&head, "tree %s\n", spec.Tree)
	for _, p := range spec.Parents {
		fmt.Fprintf(&head, "parent %s\n", p)
	}
	fmt.Fprintf(&head, "author %s\ncommitter %s\n", author, committer)
	tail := "\n" + message
	if spec.Signer == nil {
		return []byte(head.String() + tail), nil
	}
	armored, err := spec.Signer.sign([]byte(head.String() + tail))
	if err != nil {
		return nil, err
	}
	lines := strings.ReplaceAll(strings.TrimRight(armored, "\n"), "\n", "\n ")
	return []byte(head.String() + "gpgsig " + lines + "\n" + tail), nil
}
