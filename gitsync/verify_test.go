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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// person is somebody with a working copy and a key of their own.
type person struct {
	*clone
	name   string
	signer *git.Signer
	key    string // file
}

func (b *bench) person(name string) *person {
	b.t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		b.t.Skip("git signs with ssh-keygen, which is not installed")
	}
	signer, err := git.GenerateKey()
	must(b.t, err)
	pem, err := signer.PEM()
	must(b.t, err)
	p := &person{clone: b.git.clone(), name: name, signer: signer, key: filepath.Join(b.t.TempDir(), "key")}
	must(b.t, os.WriteFile(p.key, pem, 0o600))
	must(b.t, os.WriteFile(p.key+".pub", []byte(signer.PublicKey().String()+"\n"), 0o600))
	for _, option := range [][2]string{{"gpg.format", "ssh"}, {"user.signingkey", p.key}} {
		p.git("config", option[0], option[1])
	}
	return p
}

func (p *person) reviewer(tenants ...string) v1alpha1.Reviewer {
	return v1alpha1.Reviewer{Name: p.name, PublicKey: p.signer.PublicKey().String() + " " + p.name, Tenants: tenants}
}

// signs has the person's commits signed from now on, or not.
func (p *person) signs(yes bool) { p.git("config", "commit.gpgsign", fmt.Sprint(yes)) }

// port changes a port in a file of the working copy.
func (p *person) port(path string, from, to int) {
	p.server.t.Helper()
	if p.git("status", "--porcelain") == "" {
		p.pull()
	}
	old := p.read(path)
	now := strings.ReplaceAll(old, fmt.Sprintf("port: %d", from), fmt.Sprintf("port: %d", to))
	if now == old {
		p.server.t.Fatalf("%s has no port %d:\n%s", path, from, old)
	}
	p.write(path, now)
}

// verify changes spec.verify.
func (b *bench) verify(mode v1alpha1.VerifyMode, reviewers ...v1alpha1.Reviewer) {
	b.t.Helper()
	source := b.gitSource()
	patch := client.MergeFrom(source.DeepCopy())
	source.Spec.Verify, source.Spec.Reviewers = mode, reviewers
	must(b.t, b.client.Patch(b.t.Context(), source, patch))
}

// unverified waits until exactly these files are told as unverified.
func (a *actor) unverified(paths ...string) (problems []v1alpha1.Problem) {
	a.t.Helper()
	eventually(a.t, fmt.Sprintf("unverified %v", paths), func() string {
		problems = nil
		var got []string
		for _, p := range a.state().Status.Problems {
			if p.Reason == v1alpha1.ReasonUnverified {
				problems, got = append(problems, p), append(got, p.Path)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(paths) {
			return fmt.Sprint(got)
		}
		return ""
	})
	return problems
}

func TestRequireKeepsTheLastGoodVersion(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	edits := acme.whole("web", 80)
	edits[acme.path("api")] = acme.balancer("api", 81)
	acme.push(edits)
	acme.hasPorts("web", 80)
	acme.hasPorts("api", 81)
	acme.settled()
	ada, mallory := b.person("ada"), b.person("mallory")
	b.verify(v1alpha1.VerifyRequire, ada.reviewer())
	b.look()

	mallory.port(acme.path("web"), 80, 666)
	commit := mallory.push("Mine")
	problem := acme.unverified(acme.path("web"))[0]
	for _, want := range []string{commit[:12], "Ada", "not signed"} {
		if !strings.Contains(problem.Message, want) {
			t.Errorf("the message does not say %q: %s", want, problem.Message)
		}
	}
	if !strings.Contains(problem.Remedy, "ada") || !strings.Contains(problem.Remedy, "kubelbctl approve "+commit) || problem.Object == "" {
		t.Errorf("%+v", problem)
	}
	// The tenant goes on: with the neighbour, and with the same document.
	acme.push(map[string]repo.Object{acme.path("api"): acme.balancer("api", 82), acme.path("web"): acme.balancer("web", 80, 443)})
	acme.hasPorts("api", 82)
	acme.hasPorts("web", 80, 443)
	if main := b.git.show("main", acme.path("web")); !strings.Contains(main, "port: 666") || !strings.Contains(main, "port: 443") {
		t.Errorf("main does not have the edit and the tenant's change:\n%s", main)
	}
	if acme.lb("web").Status.Git != nil && len(acme.lb("web").Status.Git.Held) > 0 {
		t.Errorf("what does not count holds: %+v", acme.lb("web").Status.Git.Held)
	}
	b.restart()
	b.look()
	acme.hasPorts("web", 80, 443)
	acme.unverified(acme.path("web"))

	// Approved, it is what a person's edit is: taken and held.
	ada.pull()
	ada.signs(true)
	newest := ada.git("log", "-1", "--format=%H", "--", acme.path("web"))
	ada.git("commit", "-q", "--allow-empty", "-m", "Fine", "-m", repo.TrailerApproves+": "+newest)
	ada.publish()
	acme.hasPorts("web", 443, 666)
	acme.unverified()
	eventually(t, "the hold", func() string {
		if git := acme.lb("web").Status.Git; git == nil || len(git.Held) == 0 {
			return "none"
		}
		return ""
	})
	eventually(t, "base/main forgets", func() string {
		return b.git.native(b.git.bare, "ls-tree", "--name-only", "base/main", "trusted", "refused")
	})
}

func TestSignedEditsCountForTheirTenants(t *testing.T) {
	b := newBench(t)
	acme, globex := b.tenant("acme"), b.tenant("globex")
	acme.push(acme.whole("web", 80))
	globex.push(globex.whole("web", 80))
	acme.hasPorts("web", 80)
	globex.hasPorts("web", 80)
	bob := b.person("bob")
	bob.signs(true)
	b.verify(v1alpha1.VerifyRequire, bob.reviewer(acme.name))
	b.look()
	bob.port(acme.path("web"), 80, 90)
	bob.port(globex.path("web"), 80, 90)
	bob.push("Both")
	acme.hasPorts("web", 90)
	if p := globex.unverified(globex.path("web"))[0]; !strings.Contains(p.Message, "bob") {
		t.Errorf("%+v", p)
	}
	globex.hasPorts("web", 80)
	acme.unverified()

	// Listed for all tenants, the same signature counts.
	b.verify(v1alpha1.VerifyRequire, bob.reviewer())
	globex.hasPorts("web", 90)
	globex.unverified()
	// What counted goes on to count when the reviewer leaves.
	b.verify(v1alpha1.VerifyRequire)
	b.restart()
	b.look()
	globex.hasPorts("web", 90)
	globex.unverified()
}

func TestUnsignedAdditionsAndDeletions(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	b.verify(v1alpha1.VerifyRequire)
	mallory := b.person("mallory")
	mallory.pull()
	mallory.git("rm", "-q", acme.path("web"))
	content, err := repo.Encode(acme.balancer("evil", 666))
	must(t, err)
	mallory.write(acme.path("evil"), string(content))
	mallory.write(repo.ConfigPath, "repositoryID: mine\nlayout: 1\n")
	mallory.push("Take over")
	acme.unverified(acme.path("evil"), acme.path("web"))
	b.reason("Succeeded")
	acme.hasPorts("web", 80)
	if acme.lb("evil") != nil {
		t.Error("an unsigned file was applied")
	}
	eventually(t, "the problem of kubelb.yaml", func() string {
		for _, p := range b.gitSource().Status.Problems {
			if p.Path == repo.ConfigPath && p.Reason == v1alpha1.ReasonUnverified {
				return ""
			}
		}
		return fmt.Sprint(b.gitSource().Status.Problems)
	})
	b.restart()
	b.look()
	acme.hasPorts("web", 80)
	mallory.git("revert", "--no-edit", "HEAD")
	mallory.publish()
	acme.unverified()
	acme.hasPorts("web", 80)
}

func TestWarnTakesAndTells(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	ada := b.person("ada")
	b.verify(v1alpha1.VerifyWarn, ada.reviewer())
	b.look()
	ada.port(acme.path("web"), 80, 90)
	ada.push("Unsigned")
	acme.hasPorts("web", 90)
	if p := acme.unverified(acme.path("web"))[0]; !strings.Contains(p.Message, "Warn") {
		t.Errorf("%+v", p)
	}
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.hasPorts("web", 90, 443)
	acme.unverified(acme.path("web"))
	// Require withholds just that; the tenant's own change stays.
	b.verify(v1alpha1.VerifyRequire, ada.reviewer())
	acme.hasPorts("web", 80, 443)
	b.verify(v1alpha1.VerifyOff)
	acme.hasPorts("web", 90, 443)
	acme.unverified()
}

func TestMergesOnMain(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	edits := acme.whole("web", 80)
	edits[acme.path("api")] = acme.balancer("api", 81)
	acme.push(edits)
	acme.hasPorts("web", 80)
	acme.settled()
	ada, carl := b.person("ada"), b.person("carl")
	b.verify(v1alpha1.VerifyRequire, ada.reviewer())
	b.look()

	// An unsigned merge brings a signed commit, and changes something itself.
	carl.pull()
	carl.git("checkout", "-q", "-b", "work")
	carl.write(acme.path("web"), strings.ReplaceAll(carl.read(acme.path("web")), "port: 80", "port: 90"))
	carl.git("-c", "user.signingkey="+ada.key, "commit", "-q", "-S", "-a", "-m", "Signed by ada")
	carl.git("checkout", "-q", "-")
	carl.git("merge", "-q", "--no-ff", "--no-commit", "work")
	carl.write(acme.path("api"), strings.ReplaceAll(carl.read(acme.path("api")), "port: 81", "port: 666"))
	carl.git("commit", "-q", "-a", "-m", "Merge")
	carl.git("push", "-q", "origin", "HEAD:main")
	acme.hasPorts("web", 90)
	acme.unverified(acme.path("api"))
	acme.hasPorts("api", 81)

	// A signed merge vouches for all that it brings.
	ada.pull()
	ada.git("checkout", "-q", "-b", "work")
	ada.write(acme.path("web"), strings.ReplaceAll(ada.read(acme.path("web")), "port: 90", "port: 91"))
	ada.git("commit", "-q", "-a", "-m", "Unsigned")
	ada.git("checkout", "-q", "-")
	ada.git("merge", "-q", "--no-ff", "-S", "-m", "Reviewed", "work")
	ada.git("push", "-q", "origin", "HEAD:main")
	acme.hasPorts("web", 91)
	acme.unverified(acme.path("api"))

	// git pull without a rebase puts the hub's commits on the second side.
	carl.git("fetch", "-q")
	carl.git("reset", "-q", "--hard", "origin/main")
	carl.write("README.md", "Read me.\n")
	carl.git("commit", "-q", "-a", "-m", "Docs")
	acme.push(map[string]repo.Object{acme.path("api"): acme.balancer("api", 81, 443), acme.path("new"): acme.balancer("new", 70)})
	acme.hasPorts("new", 70)
	carl.git("pull", "-q", "--no-rebase", "--no-edit", "origin", "main")
	carl.git("push", "-q", "origin", "HEAD:main")
	acme.unverified(acme.path("api"))
	acme.push(map[string]repo.Object{acme.path("new"): acme.balancer("new", 71)})
	acme.hasPorts("new", 71)
	acme.hasPorts("api", 81, 443)
	acme.unverified(acme.path("api"))
}

// TestAProposalOverARefusedVersion: what the tenant asks for is told from what
// counts, not from what somebody put on main.
func TestAProposalOverARefusedVersion(t *testing.T) {
	b, acme, _ := begun(t)
	ada, mallory := b.person("ada"), b.person("mallory")
	b.verify(v1alpha1.VerifyRequire, ada.reviewer())
	b.look()
	ada.signs(true)
	ada.port(acme.path("web"), 80, 90)
	ada.push("Held")
	acme.hasPorts("web", 90)
	acme.held(1)
	mallory.port(acme.path("web"), 90, 666)
	mallory.push("Mine")
	acme.unverified(acme.path("web"))

	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	proposal := acme.proposes("web", 90, 443)
	for range 2 {
		b.look()
	}
	acme.decided()
	acme.held(1)
	if now := b.git.head(acme.review()); now != proposal {
		t.Errorf("what nobody changed was proposed anew: %s, then %s", proposal, now)
	}
	ada.mergeReview(acme)
	acme.hasPorts("web", 90, 443)
	acme.unverified()
	acme.over()
	acme.held(1)
}

func TestARepositorySetBackIsNotFollowed(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	main, base := b.git.head("main"), b.git.head("base/main")
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 90)})
	acme.hasPorts("web", 90)
	eventually(t, "the generation is remembered", func() string {
		if want := b.git.native(b.git.bare, "log", "-1", "--format=%(trailers:key="+repo.TrailerGeneration+",valueonly)", "base/main"); fmt.Sprint(b.gitSource().Status.BaseGeneration) != want {
			return fmt.Sprint(b.gitSource().Status.BaseGeneration, " is not ", want)
		}
		return ""
	})
	b.halt()
	b.git.native(b.git.bare, "update-ref", repo.IntentRef(acme.name), b.git.native(b.git.bare, "rev-parse", repo.IntentRef(acme.name)+"~1"))
	b.git.native(b.git.bare, "update-ref", repo.Main, main)
	b.git.native(b.git.bare, "update-ref", repo.BaseRef(repo.Main), base)
	b.start()
	b.reason(v1alpha1.ReasonRolledBack)
	acme.hasPorts("web", 90)
	b.annotate(b.gitSource(), v1alpha1.AnnotationAcceptRewrite, main)
	acme.hasPorts("web", 80)
	b.reason("Succeeded")
	eventually(t, "the annotation goes", func() string { return b.gitSource().Annotations[v1alpha1.AnnotationAcceptRewrite] })
}

func TestBadReviewersAndUnguardedTenantsAreTold(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	b.verify(v1alpha1.VerifyWarn, v1alpha1.Reviewer{Name: "eve", PublicKey: "ssh-ed25519 nonsense"})
	eventually(t, "the problem of the key", func() string {
		for _, p := range b.gitSource().Status.Problems {
			if p.Field == "spec.reviewers" && strings.Contains(p.Message, "eve") {
				return ""
			}
		}
		return fmt.Sprint(b.gitSource().Status.Problems)
	})
	eventually(t, "the problem of the tenant", func() string {
		for _, p := range acme.state().Status.Problems {
			if p.Reason == v1alpha1.ReasonNoAllowedSigners {
				return ""
			}
		}
		return fmt.Sprint(acme.state().Status.Problems)
	})
	if ready := apimeta.FindStatusCondition(acme.state().Status.Conditions, "Ready"); ready == nil || ready.Reason != "Succeeded" {
		t.Errorf("the tenant is not ready: %+v", ready)
	}
}
