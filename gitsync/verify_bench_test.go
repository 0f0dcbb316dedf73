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

package gitsync

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
)

// BenchmarkJudgeMain judges 1,000 commits of reviewers on a main with 10,000
// files, each of which changes one.
func BenchmarkJudgeMain(b *testing.B) {
	const commits, tenants, each = 1000, 1000, 10
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	hub, err := git.GenerateKey()
	must(err)
	ada, err := git.GenerateKey()
	must(err)
	store := git.NewStore()
	path := func(i int) string {
		return fmt.Sprintf("tenants/t%d/loadbalancers/shop/s%d.service.yaml", i%tenants, i/tenants)
	}
	edits := map[string][]byte{repo.ConfigPath: []byte("repositoryID: r\nlayout: 1\n")}
	for i := range tenants * each {
		edits[path(i)] = fmt.Appendf(nil, "number: %d\n", i)
	}
	tree, err := store.Edit(git.Hash{}, edits)
	must(err)
	commit := func(signer *git.Signer, tree git.Hash, message string, trailers git.Trailers, parents ...git.Hash) git.Commit {
		h, err := store.NewCommit(git.CommitSpec{
			Tree: tree, Parents: parents, Message: message, Trailers: trailers, Signer: signer,
			Author: git.Ident{Name: "Ada", Email: "ada@example.com", When: time.Unix(1_700_000_000, 0)},
		})
		must(err)
		c, err := store.Commit(h)
		must(err)
		return c
	}
	first := commit(nil, tree, "Begin", nil)
	base := commit(hub, tree, "base", git.Trailers{{Key: repo.TrailerMain, Value: first.Hash.String()}, {Key: repo.TrailerRepository, Value: "r"}})
	main := first
	for i := range commits {
		tree, err := store.Edit(main.Tree, map[string][]byte{path(i): fmt.Appendf(nil, "number: -%d\n", i)})
		must(err)
		main = commit(ada, tree, "edit", nil, main.Hash)
	}
	l := &loop{
		store: store, log: logr.Discard(), keys: &identity{signer: hub}, signer: hub, main: main, refs: map[string]git.Hash{},
		base: loopBase(base), source: &v1alpha1.GitSource{Spec: v1alpha1.GitSourceSpec{Verify: v1alpha1.VerifyRequire, Reviewers: []v1alpha1.Reviewer{
			{Name: "ada", PublicKey: ada.PublicKey().String()},
		}}},
	}
	for b.Loop() {
		l.truth = truth{}
		now, err := l.judge(b.Context())
		must(err)
		if len(now.overrides) > 0 || now.followed != main.Tree {
			b.Fatalf("%d files do not count", len(now.overrides))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/commits, "µs/commit")
}

func loopBase(c git.Commit) base { return base{tip: c.Hash, commit: c, tree: c.Tree} }
