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

package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	web     = "tenants/acme/loadbalancers/shop/web.service.yaml"
	api     = "tenants/acme/loadbalancers/shop/api.service.yaml"
	foreign = "tenants/acme-2/loadbalancers/shop/web.service.yaml"
	id      = "kubelb.yaml"
)

var (
	hub     = Signer{Hub: true}
	nobody  = Signer{Why: "it is not signed"}
	ada     = Signer{Reviewer: "ada"}
	bob     = Signer{Reviewer: "bob", Tenants: []string{"acme"}}
	forger  = Signer{Why: "its signature is not valid", Bad: true}
	changed = func(path, old, now string) Change { return Change{path, Blob(old), Blob(now)} }
)

func commit(hash string, by Signer, changes ...Change) Commit {
	return Commit{Hash: hash, Author: "author of " + hash, Signer: by, Changes: changes}
}

func step(hash string, by Signer, changes ...Change) Step {
	return Step{Commit: commit(hash, by, changes...)}
}

func (s Step) bringing(side ...Commit) Step { s.Side = side; return s }

func (s Step) approving(hashes ...string) Step { s.Approves = hashes; return s }

func (s Step) carrying(files map[string]Blob) Step { s.Reviews = append(s.Reviews, files); return s }

// says writes overrides down: path, what is trusted, what main has, whose fault
// it is and what to approve.
func says(overrides map[string]Override) string {
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(overrides)) {
		o := overrides[path]
		name := map[string]string{web: "web", api: "api", foreign: "else", id: "id"}[path]
		lines = append(lines, fmt.Sprintf("%s=%s not %s (%s/%s)", name, o.Trusted, o.Main, o.Refused.Commit, o.Refused.Newest))
	}
	return strings.Join(lines, ", ")
}

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   Input
		want string
	}{
		{"the hub's own changes count", Input{Steps: []Step{step("1", hub, changed(web, "", "a"))}}, ""},
		{"a reviewer's changes count", Input{Steps: []Step{step("1", ada, changed(web, "a", "b"), changed(id, "i", "j"))}}, ""},
		{"unsigned changes do not, neighbours go on",
			Input{Steps: []Step{step("1", nobody, changed(web, "a", "b")), step("2", hub, changed(api, "a", "b"))}}, "web=a not b (1/1)"},
		{"an addition and a deletion", Input{Steps: []Step{step("1", nobody, changed(web, "", "b"), changed(api, "a", ""))}}, "api=a not  (1/1), web= not b (1/1)"},
		{"a reviewer counts for the own tenants only",
			Input{Steps: []Step{step("1", bob, changed(web, "a", "b"), changed(foreign, "a", "b"), changed(id, "i", "j"))}},
			"id=i not j (1/1), else=a not b (1/1)"},
		{"the last good version is the last signed one",
			Input{Steps: []Step{step("1", ada, changed(web, "a", "b")), step("2", nobody, changed(web, "b", "c")), step("3", nobody, changed(web, "c", "d"))}},
			"web=b not d (3/3)"},
		{"the hub's later commit vouches for nothing",
			Input{Steps: []Step{step("1", nobody, changed(web, "a", "b")), step("2", hub, changed(web, "b", "bc"))}}, "web=a not bc (1/2)"},
		{"an unsigned revert to what counts needs nobody",
			Input{Steps: []Step{step("1", nobody, changed(web, "a", "b")), step("2", nobody, changed(web, "b", "a"))}}, ""},
		{"an unsigned revert to what counted once does not count",
			Input{Steps: []Step{step("1", ada, changed(web, "a", "b")), step("2", nobody, changed(web, "b", "a"))}}, "web=b not a (2/2)"},
		{"a signed change ends it", Input{Steps: []Step{step("1", nobody, changed(web, "a", "b")), step("2", bob, changed(web, "b", "c"))}}, ""},
		{"an earlier verdict stands",
			Input{Before: map[string]Override{web: {Main: "b", Trusted: "a"}}, Steps: []Step{step("2", hub, changed(api, "a", "b"))}}, "web=a not b (/)"},
		{"a bad signature does not count", Input{Steps: []Step{step("1", forger, changed(web, "a", "b"))}}, "web=a not b (1/1)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := says(Judge(tc.in)); got != tc.want {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

func TestMerges(t *testing.T) {
	merge := func(by Signer) Step { return step("m", by, changed(web, "a", "b"), changed(api, "a", "b")) }
	for _, tc := range []struct {
		name  string
		steps []Step
		want  string
	}{
		{"a signed merge vouches for what it brings", []Step{merge(ada).bringing(commit("s", nobody, changed(web, "a", "b"), changed(api, "a", "b")))}, ""},
		{"what came unchanged from a signed commit counts",
			[]Step{merge(nobody).bringing(commit("s", bob, changed(web, "a", "b")), commit("r", nobody, changed(api, "a", "b")))}, "api=a not b (m/m)"},
		{"what the merge changed does not", []Step{merge(nobody).bringing(commit("s", bob, changed(web, "a", "x"), changed(api, "a", "b")))}, "web=a not b (m/m)"},
		{"the hub's commits on main count also on the second side (git pull)",
			[]Step{merge(nobody).bringing(commit("s", hub, changed(web, "a", "b")), commit("r", hub, changed(api, "a", "b")))}, ""},
		{"but not on top of an unsigned one",
			[]Step{merge(nobody).bringing(commit("s", nobody, changed(web, "a", "x")), commit("r", hub, changed(web, "x", "b"), changed(api, "a", "b")))}, "web=a not b (m/m)"},
		{"nor where the path is refused already",
			[]Step{step("1", nobody, changed(web, "0", "a")), merge(nobody).bringing(commit("r", hub, changed(web, "x", "b"), changed(api, "a", "b")))}, "web=0 not b (m/m)"},
		{"a proposal is no approval",
			[]Step{merge(nobody).bringing(commit("s", Signer{Why: "it is a proposal of the hub"}, changed(web, "a", "b"), changed(api, "a", "b")))},
			"api=a not b (m/m), web=a not b (m/m)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := says(Judge(Input{Steps: tc.steps})); got != tc.want {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

func TestApprovals(t *testing.T) {
	bad := step("1", nobody, changed(web, "a", "b"), changed(api, "a", "b"), changed(foreign, "a", "b"))
	approved := map[string]Commit{"1": bad.Commit, "2": commit("2", hub, changed(web, "b", "bc"))}
	for _, tc := range []struct {
		name  string
		steps []Step
		want  string
	}{
		{"by a reviewer of all", []Step{bad, step("2", ada).approving("1")}, ""},
		{"by a reviewer of some", []Step{bad, step("2", bob).approving("1")}, "else=a not b (1/1)"},
		{"by nobody", []Step{bad, step("2", nobody).approving("1")}, "else=a not b (1/1), api=a not b (1/1), web=a not b (1/1)"},
		{"by the hub", []Step{bad, step("2", hub).approving("1")}, "else=a not b (1/1), api=a not b (1/1), web=a not b (1/1)"},
		{"not of what was changed since", []Step{bad, step("2", hub, changed(web, "b", "bc")), step("3", ada).approving("1")}, "web=a not bc (1/2)"},
		{"of the hub's commit on top", []Step{bad, step("2", hub, changed(web, "b", "bc")), step("3", ada).approving("2")}, "else=a not b (1/1), api=a not b (1/1)"},
		{"of both", []Step{bad, step("2", hub, changed(web, "b", "bc")), step("3", ada).approving("1", "2")}, ""},
		{"not before the change", []Step{step("0", ada).approving("1"), bad}, "else=a not b (1/1), api=a not b (1/1), web=a not b (1/1)"},
		{"that came with the merge", []Step{func() Step {
			s := step("m", nobody, bad.Changes...).bringing(bad.Commit, commit("2", ada))
			s.Side[1].Approves = []string{"1"}
			return s
		}()}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := says(Judge(Input{Steps: tc.steps, Approved: approved})); got != tc.want {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

func TestForgesApproveButNeverAlter(t *testing.T) {
	proposal := map[string]Blob{web: "b", api: "b"}
	merged := step("m", nobody, changed(web, "a", "b"), changed(api, "a", "b")).carrying(proposal)
	altered := step("m", nobody, changed(web, "a", "b"), changed(api, "a", "x")) // so it is not complete
	more := step("m", nobody, changed(web, "a", "b"), changed(api, "a", "b"), changed(foreign, "a", "b")).carrying(proposal)
	bit := step("1", nobody, changed(web, "a", "b"))
	rest := step("2", nobody, changed(api, "a", "b")).carrying(proposal)
	pretended := merged
	pretended.Signer = forger
	for _, tc := range []struct {
		name  string
		trust bool
		steps []Step
		want  string
	}{
		{"carried out", true, []Step{merged}, ""},
		{"without the permission", false, []Step{merged}, "api=a not b (m/m), web=a not b (m/m)"},
		{"altered", true, []Step{altered}, "api=a not x (m/m), web=a not b (m/m)"},
		{"with something more", true, []Step{more}, "else=a not b (m/m)"},
		{"commit by commit (rebase)", true, []Step{bit, rest}, ""},
		{"with a forged signature", true, []Step{pretended}, "api=a not b (m/m), web=a not b (m/m)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := says(Judge(Input{Steps: tc.steps, ForgeApproves: tc.trust})); got != tc.want {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

func TestAReviewerListedLaterCounts(t *testing.T) {
	before := Judge(Input{Steps: []Step{step("1", nobody, changed(web, "a", "b")), step("2", nobody, changed(api, "a", "b"))}})
	again := []Step{step("1", ada, changed(web, "a", "b")), step("2", nobody, changed(api, "a", "b")), step("0", ada, changed(api, "x", "b"))}
	if got, want := says(Judge(Input{Before: before, Again: again})), "api=a not b (2/2)"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if got := says(before); !strings.Contains(got, "web=a") {
		t.Errorf("the input was changed: %s", got)
	}
}

func TestEveryRefusalSaysWhy(t *testing.T) {
	in := Input{Steps: []Step{step("1", bob, changed(foreign, "a", "b")), step("2", Signer{}, changed(web, "a", "b")), step("3", forger, changed(api, "a", "b"))}}
	got := Judge(in)
	for path, want := range map[string]string{foreign: "bob", web: "not signed", api: "not valid"} {
		if r := got[path].Refused; !strings.Contains(r.Why, want) || !strings.HasPrefix(r.Author, "author of ") {
			t.Errorf("%s: %+v does not say %q", path, r, want)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	var in Input
	for i := range 1000 {
		by := hub
		if i%3 == 0 {
			by = nobody
		}
		in.Steps = append(in.Steps, step(fmt.Sprint(i), by, changed(fmt.Sprintf("tenants/t%d/loadbalancers/a/%d.service.yaml", i%50, i%200), "a", fmt.Sprint(i))))
	}
	for b.Loop() {
		Judge(in)
	}
}
