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

package testbed

import (
	"errors"
	"testing"
	"time"

	"github.com/kubelb/gitops/gitsync/git"
)

func TestGitOverSSH(t *testing.T) {
	server, repository, _ := newGit(t, "ccm-acme", "refs/heads/intent/acme")
	identity, err := server.AddKey("ccm-acme")
	if err != nil {
		t.Fatal(err)
	}
	remote := func(identity string) *git.Remote {
		options, err := git.ReadSecret(repository.SSHURL(), map[string][]byte{"identity": []byte(identity), "known_hosts": []byte(server.KnownHosts())})
		if err != nil {
			t.Fatal(err)
		}
		r, err := git.NewRemote(repository.SSHURL(), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	r, store := remote(identity), git.NewStore()
	change := func(parent git.Hash, text string) git.Hash {
		tree, err := store.Edit(git.Hash{}, map[string][]byte{"a": []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		spec := git.CommitSpec{Tree: tree, Message: "change", Author: git.Ident{Name: "CCM", Email: "ccm@example.com", When: time.Unix(1, 0)}}
		if !parent.IsZero() {
			spec.Parents = []git.Hash{parent}
		}
		commit, err := store.NewCommit(spec)
		if err != nil {
			t.Fatal(err)
		}
		return commit
	}
	push := func(ref string, from, to git.Hash) error {
		_, err := r.Push(t.Context(), store, []git.RefUpdate{{Name: ref, Old: from, New: to}}, false)
		return err
	}
	var told []PushEvent
	repository.OnPush(func(e PushEvent) { told = append(told, e) })

	first := change(git.Hash{}, "1")
	if err := push("refs/heads/intent/acme", git.Hash{}, first); err != nil {
		t.Fatal(err)
	}
	if err := push("refs/heads/intent/other", git.Hash{}, first); !errors.Is(err, git.ErrRejected) {
		t.Errorf("a branch of another: %v", err)
	}
	second := change(first, "2")
	server.CutNextPushes(1)
	if err := push("refs/heads/intent/acme", first, second); !errors.Is(err, git.ErrUnknownOutcome) {
		t.Errorf("a push whose answer is cut: %v", err)
	}
	refs, err := r.ListRefs(t.Context(), "refs/heads/")
	if err != nil || refs["refs/heads/intent/acme"] != second || !refs["refs/heads/intent/other"].IsZero() {
		t.Errorf("refs %v, %v", refs, err)
	}
	if len(told) != 2 || told[1].User != "ccm-acme" || told[1].Refs[0].New != second.String() {
		t.Errorf("webhooks heard %+v", told)
	}

	if _, err := server.AddKey("ccm-acme"); err != nil {
		t.Fatal(err)
	}
	if _, err := remote(identity).ListRefs(t.Context()); !errors.Is(err, git.ErrUnauthorized) {
		t.Errorf("a key that was replaced: %v", err)
	}
	if err := server.ReplaceHostKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ListRefs(t.Context()); !errors.Is(err, git.ErrHostKey) {
		t.Errorf("a host key that was replaced: %v", err)
	}
}
