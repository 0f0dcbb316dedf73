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
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// commitMain commits on main as somebody who writes objects by hand.
func (x *exchange) commitMain(tree, author, message string) string {
	x.t.Helper()
	commit := x.git.object("commit", fmt.Appendf(nil, "tree %s\nparent %s\nauthor %s\ncommitter %s\n\n%s\n", tree, x.git.head("main"), author, fineIdent, message))
	x.git.ref("main", commit)
	return commit
}

func (x *exchange) mainTree() string {
	x.t.Helper()
	return x.git.native(x.git.bare, "rev-parse", "main^{tree}")
}

// sourceTells checks what the GitSource tells.
func (x *exchange) sourceTells(t *testing.T, words string) {
	t.Helper()
	var told []string
	for _, p := range x.gitSource().Status.Problems {
		if strings.Contains(p.Message, words) {
			return
		}
		told = append(told, p.Message)
	}
	t.Errorf("the GitSource does not tell of %q: %.1000q", words, told)
}

// TestBytesOfAPersonStayWithThatPerson goes through the places where what people
// write on main and on the hub's branches is read, with signatures that matter.
func TestBytesOfAPersonStayWithThatPerson(t *testing.T) {
	x := newExchange(t, 3)
	rev := x.person("rev")
	x.verify(v1alpha1.VerifyRequire, rev.reviewer(x.evil[0].name))
	what := ""
	broken := func(i int) string { return fmt.Sprintf("tenant %d after %s", i, what) }
	// unverified reports whether exactly these tenants are told of an unverified change.
	unverified := func(want ...bool) func(int, []v1alpha1.Problem) string {
		return func(i int, problems []v1alpha1.Problem) string {
			is := false
			for _, p := range problems {
				is = is || p.Reason == v1alpha1.ReasonUnverified || p.Reason == repo.ReasonMalformed
			}
			if is != want[i] {
				return fmt.Sprintf("told of a change on main: %v", is)
			}
			return ""
		}
	}
	x.goesOn(t, broken, unverified(false, false, false))

	what = "approvals of nothing"
	var message strings.Builder
	message.WriteString("Approve\n\nKubelb-Approves: 1111111111111111111111111111111111111111\n")
	blob := x.git.object("blob", []byte("no commit\n"))
	for _, bad := range append([]string{blob, x.mainTree(), "HEAD", strings.Repeat("1", 39), strings.Repeat("A", 40)}, badTexts[:40]...) {
		if !strings.ContainsAny(bad, "\r\n") {
			message.WriteString("Kubelb-Approves: " + bad[:min(len(bad), 100)] + "\n")
		}
	}
	rev.pull()
	file := filepath.Join(t.TempDir(), "message")
	must(t, os.WriteFile(file, []byte(message.String()), 0o600))
	rev.git("-c", "i18n.commitEncoding=UTF-8", "commit", "-q", "-S", "--allow-empty", "--cleanup=verbatim", "-F", file)
	rev.publish()
	x.goesOn(t, broken, unverified(false, false, false))
	x.sourceTells(t, "counts for nothing")

	what = "authors with bad names"
	shop := repo.TenantDir(x.evil[0].name) + "/loadbalancers/shop"
	for n, bad := range badTexts {
		content := x.git.object("blob", fmt.Appendf(nil, "# %d\n", n))
		tree := x.graft(x.mainTree(), shop, func(leaves []leaf) []leaf {
			return append([]leaf{{"100644", fmt.Sprintf("a%03d.service.yaml", 999-n), content}}, leaves...)
		})
		x.commitMain(tree, bad+" <"+bad+"> 1700000000 +0000", "Unsigned "+bad)
	}
	x.goesOn(t, broken, unverified(true, false, false))
	if n := int(x.evil[0].state().Status.ProblemCount); n < len(badTexts) {
		t.Errorf("%d problems of %d changes", n, len(badTexts))
	}

	what = "a file in a folder's place and a folder in a file's"
	tree := x.graft(x.mainTree(), repo.TenantDir(x.evil[1].name), func(leaves []leaf) []leaf {
		for i := range leaves {
			if leaves[i].name == "loadbalancers" {
				leaves[i] = leaf{"100644", "loadbalancers", blob}
			}
		}
		return leaves
	})
	x.commitMain(tree, fineIdent, "A file in the folder's place")
	tree = x.graft(x.mainTree(), repo.TenantDir(x.evil[2].name)+"/loadbalancers/shop", func([]leaf) []leaf {
		return []leaf{{"40000", "web.service.yaml", x.git.tree(leaf{"100644", "x", blob})}}
	})
	x.commitMain(tree, fineIdent, "A folder in the file's place")
	x.goesOn(t, broken, unverified(true, true, true))

	what = "a kubelb.yaml that nobody signed"
	tree = x.graft(x.mainTree(), "", func(leaves []leaf) []leaf {
		for i := range leaves {
			if leaves[i].name == repo.ConfigPath {
				leaves[i].hash = x.git.object("blob", []byte("repositoryID: \"\\x80\"\nlayout: 99\n"))
			}
		}
		return leaves
	})
	x.commitMain(tree, fineIdent, "Another repository")
	x.goesOn(t, broken, unverified(true, true, true))

	what = "a forged commit on base/main"
	x.git.ref("base/main", x.git.object("commit", fmt.Appendf(nil, "tree %s\nparent %s\nauthor %s\ncommitter %s\n\nbase of main\n\nKubelb-Generation: %d\nKubelb-Main: %s\n",
		x.mainTree(), x.git.head("base/main"), fineIdent, fineIdent, int64(math.MaxInt64), x.git.head("main"))))
	x.goesOn(t, broken, unverified(true, true, true))
	if got := x.gitSource().Status.BaseGeneration; got <= 0 || got > 1<<20 {
		t.Errorf("base/main has generation %d", got)
	}

	what = "review branches of people"
	for i, a := range x.evil {
		x.git.ref("review/"+a.name, a.raw(raw{tree: x.fine[i], author: badTexts[15] + " <> 1 +0000", trailers: map[string]string{
			repo.TrailerBranch: "review/" + a.name, repo.TrailerGeneration: "9223372036854775807", repo.TrailerMain: strings.Repeat("1", 40), repo.TrailerIntent: "\u0080",
		}}))
	}
	x.goesOn(t, broken, unverified(true, true, true))
}
