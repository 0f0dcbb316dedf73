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
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
)

func TestCheckIntent(t *testing.T) {
	ours, theirs := mustKey(t), mustKey(t)
	fine := map[string]string{
		repo.TrailerRepository: "r", repo.TrailerBranch: "intent/acme", repo.TrailerTenant: "acme",
		repo.TrailerGeneration: "8", repo.TrailerCluster: clusterOf("one"), repo.TrailerEpoch: "3",
	}
	last := repo.Integrated{Commit: "before", Generation: 7, Epoch: 3, Cluster: clusterOf("one")}
	for _, c := range []struct {
		reason   string
		trailers map[string]string
		signer   *git.Signer
		expect   func(*expected)
		want     string // reason of the problem, "" for none
	}{
		{reason: "all fits"},
		{reason: "the first one", expect: func(e *expected) { e.last = repo.Integrated{} }},
		{reason: "another repository", trailers: map[string]string{repo.TrailerRepository: "x"}, want: v1alpha1.ReasonUntrusted},
		{reason: "another branch", trailers: map[string]string{repo.TrailerBranch: "intent/globex"}, want: v1alpha1.ReasonUntrusted},
		{reason: "another tenant", trailers: map[string]string{repo.TrailerTenant: "globex"}, want: v1alpha1.ReasonUntrusted},
		{reason: "no trailer", trailers: map[string]string{repo.TrailerRepository: ""}, want: v1alpha1.ReasonUntrusted},
		{reason: "the same generation in another commit", trailers: map[string]string{repo.TrailerGeneration: "7"}, want: v1alpha1.ReasonStaleWriter},
		{reason: "a generation that goes backwards", trailers: map[string]string{repo.TrailerGeneration: "6"}, want: v1alpha1.ReasonStaleWriter},
		{reason: "a confirmation does not stand for a cluster's UID", trailers: map[string]string{repo.TrailerCluster: "\u0080"},
			expect: func(e *expected) { e.confirmed = true }, want: v1alpha1.ReasonUntrusted},
		{reason: "a lower epoch", trailers: map[string]string{repo.TrailerEpoch: "2"}, want: v1alpha1.ReasonStaleWriter},
		{reason: "a higher epoch", trailers: map[string]string{repo.TrailerEpoch: "4"}},
		{reason: "another cluster", trailers: map[string]string{repo.TrailerCluster: clusterOf("two")}, want: v1alpha1.ReasonForeignCluster},
		{reason: "another cluster that took over", trailers: map[string]string{repo.TrailerCluster: clusterOf("two"), repo.TrailerEpoch: "0"},
			expect: func(e *expected) { e.continues = true }},
		{reason: "another cluster that an operator confirmed", trailers: map[string]string{repo.TrailerCluster: clusterOf("two")},
			expect: func(e *expected) { e.confirmed = true }},
		{reason: "signed by an allowed key", signer: ours, expect: func(e *expected) { e.signers = []git.PublicKey{theirs.PublicKey(), ours.PublicKey()} }},
		{reason: "signed by another key", signer: theirs, expect: func(e *expected) { e.signers = []git.PublicKey{ours.PublicKey()} }, want: v1alpha1.ReasonUntrusted},
		{reason: "not signed", expect: func(e *expected) { e.signers = []git.PublicKey{ours.PublicKey()} }, want: v1alpha1.ReasonUntrusted},
		{reason: "a confirmation does not stand for a signature", expect: func(e *expected) {
			e.signers, e.confirmed = []git.PublicKey{ours.PublicKey()}, true
		}, want: v1alpha1.ReasonUntrusted},
		{reason: "an allowed signer that is no key", signer: ours, expect: func(e *expected) { e.signers = []git.PublicKey{{}} }, want: v1alpha1.ReasonUntrusted},
	} {
		t.Run(c.reason, func(t *testing.T) {
			var trailers git.Trailers
			for key, value := range fine {
				if changed, ok := c.trailers[key]; ok {
					value = changed
				}
				trailers = append(trailers, git.Trailer{Key: key, Value: value})
			}
			e := expected{repository: "r", tenant: "acme", last: last}
			if c.expect != nil {
				c.expect(&e)
			}
			problem := checkIntent(commitWith(t, trailers, c.signer), e)
			if got := reasonOf(problem); got != c.want {
				t.Errorf("got %q (%+v), want %q", got, problem, c.want)
			}
			if problem != nil && (problem.Remedy == "" || problem.Path != "tenants/acme") {
				t.Errorf("it does not say where or what to do: %+v", problem)
			}
		})
	}
}

// TestCheckIntentWithBadValues: every trailer with every bad value is refused with
// words that can be shown, or says what a good one says.
func TestCheckIntentWithBadValues(t *testing.T) {
	fine := map[string]string{
		repo.TrailerRepository: "r", repo.TrailerBranch: "intent/acme", repo.TrailerTenant: "acme",
		repo.TrailerGeneration: "8", repo.TrailerCluster: clusterOf("one"), repo.TrailerEpoch: "3", repo.TrailerDeletes: "1",
	}
	if len(badTexts) < 60 {
		t.Fatalf("only %d bad values", len(badTexts))
	}
	for key := range fine {
		for _, bad := range badTexts {
			c := git.Commit{Hash: git.Hash{1}}
			for k, value := range fine {
				if k == key {
					value = bad
				}
				c.Trailers = append(c.Trailers, git.Trailer{Key: k, Value: value})
			}
			for _, confirmed := range []bool{false, true} {
				p := checkIntent(c, expected{repository: "r", tenant: "acme", last: repo.Integrated{Generation: 7, Epoch: 3, Cluster: clusterOf("one")}, confirmed: confirmed})
				switch {
				case p == nil && (key != repo.TrailerDeletes || bad != ""):
					t.Errorf("%s with %.40q is taken", key, bad)
				case p != nil && (*p != p.Bounded() || p.Remedy == ""):
					t.Errorf("%s with %.40q: not fit to be told: %.200q", key, bad, *p)
				}
			}
			record := repo.Integrated{Generation: c.Trailers.Number(repo.TrailerGeneration), Epoch: c.Trailers.Number(repo.TrailerEpoch), Cluster: clusterIn(c)}
			if data, err := repo.EncodeIntegrated(record); err != nil || len(data) > 200 || record.Generation+1 < 1 || record.Epoch+1 < 1 {
				t.Errorf("%s with %.40q is recorded as %+v, %v", key, bad, record, err)
			}
		}
	}
}

// TestAuthorsWithBadNames: whoever an intent names as its author, main's commit can
// be made, and its author is short and printable.
func TestAuthorsWithBadNames(t *testing.T) {
	hub := git.Ident{Name: "hub", Email: "hub@kubelb.local", When: time.Unix(1_700_000_000, 0)}
	store := git.NewStore()
	tree, err := store.Edit(git.Hash{}, nil)
	must(t, err)
	for _, bad := range badTexts {
		for _, when := range []time.Time{{}, time.Unix(-1, 0), time.Unix(1, 0), time.Unix(1<<40, 0), time.Unix(1<<62, 0)} {
			author := authorOf(git.Commit{Author: git.Ident{Name: bad, Email: bad, When: when}}, "acme", hub)
			h, err := store.NewCommit(git.CommitSpec{Tree: tree, Author: author, Committer: hub, Message: "m"})
			if err != nil {
				t.Errorf("%.40q at %s: %v", bad, when, err)
				continue
			}
			c, err := store.Commit(h)
			must(t, err)
			for _, text := range []string{c.Author.Name, c.Author.Email} {
				if text != v1alpha1.Printable(text, v1alpha1.MaxName) || c.Author.Name == "" {
					t.Errorf("%.40q is repeated as %.100q", bad, text)
				}
			}
			if c.Author.When.Unix() < 1 || c.Author.When.After(hub.When.Add(25*time.Hour)) {
				t.Errorf("the time %s is repeated as %s", when, c.Author.When)
			}
		}
	}
}

func TestTheIntegratedCommitIsNotJudgedAgain(t *testing.T) {
	c := commitWith(t, git.Trailers{
		{Key: repo.TrailerRepository, Value: "r"}, {Key: repo.TrailerBranch, Value: "intent/acme"}, {Key: repo.TrailerTenant, Value: "acme"},
	}, nil)
	e := expected{repository: "r", tenant: "acme", last: repo.Integrated{Commit: c.Hash.String(), Generation: 7}}
	if problem := checkIntent(c, e); problem != nil {
		t.Errorf("%+v", problem)
	}
}

func reasonOf(p *v1alpha1.Problem) string {
	if p == nil {
		return ""
	}
	return p.Reason
}

func mustKey(t *testing.T) *git.Signer {
	t.Helper()
	key, err := git.GenerateKey()
	must(t, err)
	return key
}

func commitWith(t *testing.T, trailers git.Trailers, signer *git.Signer) git.Commit {
	t.Helper()
	store := git.NewStore()
	tree, err := store.Edit(git.Hash{}, nil)
	must(t, err)
	h, err := store.NewCommit(git.CommitSpec{
		Tree: tree, Message: "intents", Trailers: trailers, Signer: signer, Author: git.Ident{Name: "ccm", Email: "ccm@kubelb.local", When: time.Unix(1, 0)},
	})
	must(t, err)
	c, err := store.Commit(h)
	must(t, err)
	return c
}
