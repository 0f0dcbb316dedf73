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
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reviewed makes a tenant whose changes wait for review.
func (b *bench) reviewed(name string) *actor {
	b.t.Helper()
	a := b.actor(name)
	must(b.t, b.client.Create(b.t.Context(), a.object(v1alpha1.ReviewRequired)))
	b.makeNamespace(a.name)
	return a
}

func (a *actor) object(review v1alpha1.ReviewPolicy) *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{}
	t.Name = a.name
	t.Spec.Git.SourceRef = &v1alpha1.LocalReference{Name: a.source}
	t.Spec.Git.Review = review
	return t
}

// stored is the Tenant as it is in the hub.
func (a *actor) stored() *v1alpha1.Tenant {
	a.t.Helper()
	var tenant v1alpha1.Tenant
	must(a.t, a.client.Get(a.t.Context(), client.ObjectKey{Name: a.name}, &tenant))
	return &tenant
}

func (a *actor) setReview(mode v1alpha1.ReviewPolicy) {
	a.t.Helper()
	must(a.t, a.client.Patch(a.t.Context(), a.stored(), client.RawPatch(mergePatch, fmt.Appendf(nil, `{"spec":{"git":{"review":%q}}}`, mode))))
}

func (a *actor) review() string { return "review/" + a.name }

// proposes waits until the review branch has a document with these ports, and
// returns its tip.
func (a *actor) proposes(name string, ports ...int32) string {
	a.t.Helper()
	tip := ""
	eventually(a.t, fmt.Sprintf("a proposal of %s with ports %v", name, ports), func() string {
		if tip = a.git.head(a.review()); tip == "" {
			return fmt.Sprintf("there is no branch; problems %v", a.state().Status.Problems)
		}
		if got := portsOf(a.git.show(tip, a.path(name))); !slices.Equal(got, ports) {
			return fmt.Sprintf("it has %v", got)
		}
		if review := a.state().Status.Review; review == nil || review.Commit != tip {
			return fmt.Sprintf("the tenant is told of %+v, not of %s", review, tip)
		}
		return ""
	})
	return tip
}

// portsOf reads the numbers of ports from a document.
func portsOf(document string) (ports []int32) {
	for line := range strings.Lines(document) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "- ")
		if number, ok := strings.CutPrefix(line, "port: "); ok {
			ports = append(ports, int32(atoi(number)))
		}
	}
	slices.Sort(ports)
	return ports
}

// over waits until nothing is proposed and nothing is pending.
func (a *actor) over() {
	a.t.Helper()
	eventually(a.t, "the review is over", func() string {
		if head := a.git.head(a.review()); head != "" {
			return "the branch is there: " + head
		}
		if s := a.state().Status; s.Review != nil || len(s.Pending) > 0 {
			return fmt.Sprintf("status has %+v and %v", s.Review, s.Pending)
		}
		return ""
	})
	a.look()
}

func (a *actor) held(want int) {
	a.t.Helper()
	eventually(a.t, fmt.Sprintf("%d held fields", want), func() string {
		if held := a.state().Status.Held; len(held) != want {
			return fmt.Sprintf("held %v, pending %v", held, a.state().Status.Pending)
		}
		return ""
	})
}

// begun is a reviewed tenant whose first proposal was merged.
func begun(t *testing.T) (*bench, *actor, *clone) {
	t.Helper()
	b := newBench(t)
	acme := b.reviewed("acme")
	acme.push(acme.whole("web", 80))
	acme.proposes("web", 80)
	ada := b.git.clone()
	ada.mergeReview(acme)
	acme.hasPorts("web", 80)
	acme.over()
	ada.pull()
	return b, acme, ada
}

// mergeReview merges a review branch as a person does with Git alone.
func (c *clone) mergeReview(a *actor) {
	c.server.t.Helper()
	c.git("fetch", "-q", "origin")
	c.git("checkout", "-q", "-B", "main", "origin/main")
	c.git("merge", "-q", "--no-ff", "-m", "Merge "+a.review(), "origin/"+a.review())
	c.publishMain()
}

func (c *clone) publishMain() {
	c.server.t.Helper()
	c.git("push", "-q", "origin", "HEAD:main")
}

func TestAReviewedChangeWaitsForItsMerge(t *testing.T) {
	b, acme, ada := begun(t)
	main := b.git.head("main")
	intent := acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	tip := acme.proposes("web", 80, 443)
	acme.decided()
	acme.hasPorts("web", 80)
	if b.git.head("main") != main {
		t.Error("main moved")
	}
	message := b.git.native(b.git.bare, "log", "-1", "--format=%P%n%B", acme.review())
	for _, want := range []string{
		main, acme.name + ": Service shop/web: port", repo.TrailerRepository + ": " + repositoryID, repo.TrailerBranch + ": " + acme.review(),
		repo.TrailerTenant + ": " + acme.name, repo.TrailerGeneration + ": 2", repo.TrailerIntent + ": " + intent.String(), repo.TrailerMain + ": " + main,
	} {
		if !strings.Contains(message, want) {
			t.Errorf("the review commit lacks %q:\n%s", want, message)
		}
	}
	state := acme.state().Status
	if len(state.Pending) != 1 || state.Pending[0].Reason != v1alpha1.PendingReview || state.Review.Intent != intent.String() {
		t.Errorf("pending %v, review %+v", state.Pending, state.Review)
	}
	if review := acme.stored().Status.Git.Review; review == nil || review.Commit != tip {
		t.Errorf("the Tenant says %+v", review)
	}

	ada.mergeReview(acme)
	acme.hasPorts("web", 80, 443)
	acme.over()
	if log := b.git.native(b.git.bare, "log", "--format=%B", "base/main"); !strings.Contains(log, repo.TrailerReview+": "+tip) {
		t.Error("base/main does not record the review")
	}
	acme.held(0)
}

func TestHowAReviewIsMergedDoesNotMatter(t *testing.T) {
	for name, merge := range map[string]func(*clone, *actor){
		"fast-forward": func(c *clone, a *actor) { c.git("merge", "-q", "--ff-only", "origin/"+a.review()) },
		"squash": func(c *clone, a *actor) {
			c.git("merge", "-q", "--squash", "origin/"+a.review())
			c.git("commit", "-q", "-m", "Squashed")
		},
		"rebase": func(c *clone, a *actor) {
			c.write("README.md", "main moved on\n")
			c.git("commit", "-q", "-am", "Main moves on")
			c.git("cherry-pick", "origin/main..origin/"+a.review())
		},
		"by hand": func(c *clone, a *actor) {
			c.write(a.path("web"), "# as they asked\n"+c.git("show", "origin/"+a.review()+":"+a.path("web"))+"\n")
			c.git("commit", "-q", "-am", "By hand")
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, acme, ada := begun(t)
			acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
			acme.proposes("web", 80, 443)
			acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 8443)})
			acme.proposes("web", 80, 8443)
			ada.git("fetch", "-q", "origin")
			ada.git("checkout", "-q", "-B", "main", "origin/main")
			merge(ada, acme)
			ada.publishMain()
			acme.hasPorts("web", 80, 8443)
			acme.over()
			acme.held(0)
			acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80)})
			acme.proposes("web", 80)
			acme.hasPorts("web", 80, 8443)
		})
	}
}

func TestFactsAndRemovalsDoNotWaitForReview(t *testing.T) {
	b, acme, _ := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 8080)})
	tip := acme.proposes("web", 8080)
	acme.push(map[string]repo.Object{acme.backendPath("web"): acme.backend("web", 30081), acme.nodesPath(): acme.nodes("10.0.0.9")})
	eventually(t, "the facts are on main", func() string {
		if main := b.git.show("main", acme.backendPath("web")) + b.git.show("main", acme.nodesPath()); !strings.Contains(main, "30081") || !strings.Contains(main, "10.0.0.9") {
			return main
		}
		return ""
	})
	acme.decided()
	if head := b.git.head(acme.review()); head != tip {
		t.Errorf("the review moved from %s to %s because main did", tip, head)
	}
	acme.push(map[string]repo.Object{acme.path("web"): nil, acme.backendPath("web"): nil})
	eventually(t, "web is gone", func() string {
		if acme.lb("web") != nil {
			return "it is not"
		}
		return ""
	})
	acme.over()
}

func TestARefreshNeverForces(t *testing.T) {
	b, acme, ada := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	first := acme.proposes("web", 80, 443)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 444)})
	second := acme.proposes("web", 80, 444)
	if parents := b.git.native(b.git.bare, "log", "-1", "--format=%P", second); parents != first {
		t.Errorf("the refresh has parents %s, not %s\n%s", parents, first, b.git.native(b.git.bare, "log", "-p", "-5", second))
	}

	// A person changes the same document: main is merged into the branch.
	ada.write(acme.path("web"), ada.read(acme.path("web"))+"  loadBalancerSourceRanges: [192.0.2.0/24]\n")
	edit := ada.push("Only our network")
	eventually(t, "main is merged into the review", func() string {
		if parents := b.git.native(b.git.bare, "log", "-1", "--format=%P", acme.review()); parents != second+" "+edit {
			return "its parents are " + parents
		}
		return ""
	})
	third := acme.proposes("web", 80, 444)
	if !strings.Contains(b.git.show(acme.review(), acme.path("web")), "192.0.2.0/24") {
		t.Error("the proposal takes the person's edit back")
	}
	b.restart()
	b.look()
	if head := b.git.head(acme.review()); head != third {
		t.Errorf("the branch moved from %s to %s without news", third, head)
	}
	ada.mergeReview(acme)
	acme.hasPorts("web", 80, 444)
	if len(acme.lb("web").Spec.LoadBalancerSourceRanges) != 1 {
		t.Error("the person's edit is lost")
	}
	acme.over()
	acme.held(1)
}

func TestAnAnnotationRejectsAReview(t *testing.T) {
	b, acme, _ := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	tip := acme.proposes("web", 80, 443)
	main := b.git.head("main")
	b.annotate(acme.stored(), v1alpha1.AnnotationReject, strings.Repeat("1", 40))
	b.look()
	if b.git.head(acme.review()) != tip {
		t.Fatal("another commit's rejection counts")
	}
	b.annotate(acme.stored(), v1alpha1.AnnotationReject, tip)
	acme.over()
	acme.held(1)
	eventually(t, "the annotation goes", func() string { return acme.stored().Annotations[v1alpha1.AnnotationReject] })
	if !strings.Contains(b.git.native(b.git.bare, "log", "-1", "--format=%B", "base/main"), repo.TrailerReview+": "+tip) || b.git.head("main") != main {
		t.Error("base/main does not record it, or main moved")
	}
	acme.hasPorts("web", 80)
	b.restart()
	b.look()
	if head := b.git.head(acme.review()); head != "" {
		t.Fatal("it is proposed again after a restart")
	}
	// What the tenant changes later is proposed, and what was rejected is not.
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443, 8080)})
	acme.proposes("web", 80, 8080)
	acme.hasPorts("web", 80)
}

func TestWhatPeopleCommitOnTheBranchStays(t *testing.T) {
	b, acme, ada := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.proposes("web", 80, 443)
	ada.git("fetch", "-q", "origin")
	ada.git("checkout", "-q", "-B", "work", "origin/"+acme.review())
	ada.write(acme.path("web"), strings.Replace(ada.read(acme.path("web")), "port: 443\n", "port: 8443\n", 1))
	ada.git("commit", "-q", "-am", "Another port")
	ada.git("push", "-q", "origin", "HEAD:"+acme.review())
	edited := ada.git("rev-parse", "HEAD")

	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443, 9000)})
	eventually(t, "the hub says that it leaves the branch alone", func() string {
		for _, p := range acme.state().Status.Problems {
			if p.Reason == reasonReviewEdited && p.Remedy != "" {
				return ""
			}
		}
		return fmt.Sprintf("%v", acme.state().Status.Problems)
	})
	b.restart()
	b.look()
	if head := b.git.head(acme.review()); head != edited {
		t.Fatalf("the branch is %s, not the person's %s", head, edited)
	}
	ada.mergeReview(acme)
	acme.hasPorts("web", 80, 8443)
	// What the person changed is held; what came later is proposed.
	acme.proposes("web", 80, 8443, 9000)
	acme.held(1)
	ada.mergeReview(acme)
	acme.hasPorts("web", 80, 8443, 9000)
	acme.over()
	acme.held(1)
}

func TestASquashWithPeoplesCommitsIsTheirDecision(t *testing.T) {
	_, acme, ada := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.proposes("web", 80, 443)
	ada.git("fetch", "-q", "origin")
	ada.git("checkout", "-q", "-B", "work", "origin/"+acme.review())
	ada.write(acme.path("web"), strings.Replace(ada.read(acme.path("web")), "port: 443\n", "port: 8443\n", 1))
	ada.git("commit", "-q", "-am", "Another port")
	ada.git("push", "-q", "origin", "HEAD:"+acme.review())
	ada.git("fetch", "-q", "origin")
	ada.git("checkout", "-q", "-B", "main", "origin/main")
	ada.git("merge", "-q", "--squash", "origin/"+acme.review())
	ada.git("commit", "-q", "-m", "Squashed")
	ada.publishMain()
	acme.hasPorts("web", 80, 8443)
	acme.over()
	acme.held(1)
}

func TestPartOfAReviewIsTaken(t *testing.T) {
	_, acme, ada := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 8080), acme.path("api"): acme.balancer("api", 90)})
	acme.proposes("web", 8080)
	acme.proposes("api", 90)
	ada.git("fetch", "-q", "origin")
	ada.git("checkout", "-q", "origin/"+acme.review(), "--", acme.path("api"))
	ada.git("commit", "-q", "-m", "Only the api")
	ada.publishMain()
	acme.hasPorts("api", 90)
	acme.proposes("web", 8080)
	acme.hasPorts("web", 80)
	ada.mergeReview(acme)
	acme.hasPorts("web", 8080)
	acme.hasPorts("api", 90)
	acme.over()
	acme.held(0)
}

func TestReviewIsSwitchedOffAndOn(t *testing.T) {
	_, acme, _ := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.proposes("web", 80, 443)
	acme.setReview(v1alpha1.ReviewOff)
	acme.hasPorts("web", 80, 443)
	acme.over()
	acme.setReview(v1alpha1.ReviewRequired)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80)})
	acme.proposes("web", 80)
	acme.hasPorts("web", 80, 443)
}

func TestDeletingTheReviewBranchDecidesNothing(t *testing.T) {
	b, acme, _ := begun(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	tip := acme.proposes("web", 80, 443)
	b.git.native(b.git.bare, "update-ref", "-d", "refs/heads/"+acme.review())
	eventually(t, "it is proposed again", func() string {
		if head := b.git.head(acme.review()); head == "" || head == tip {
			return "it is " + head
		}
		return ""
	})
	acme.proposes("web", 80, 443)
}

func TestABranchThatTheHubDidNotMakeIsLeft(t *testing.T) {
	b, acme, ada := begun(t)
	ada.write("README.md", "mine\n")
	ada.git("commit", "-q", "-am", "Mine")
	ada.git("push", "-q", "origin", "HEAD:"+acme.review())
	mine := ada.git("rev-parse", "HEAD")
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	eventually(t, "the hub says so", func() string {
		for _, p := range acme.state().Status.Problems {
			if p.Reason == reasonReviewForeign && p.Remedy != "" {
				return ""
			}
		}
		return fmt.Sprintf("%v", acme.state().Status.Problems)
	})
	if b.git.head(acme.review()) != mine {
		t.Error("the branch was overwritten")
	}
	b.git.native(b.git.bare, "update-ref", "-d", "refs/heads/"+acme.review())
	acme.proposes("web", 80, 443)
}

// TestEveryCutOfAReview refuses each push of a review's life once, restarts the
// hub there, and expects the same outcome.
func TestEveryCutOfAReview(t *testing.T) {
	for _, ref := range []string{"refs/heads/base/main", "refs/heads/main", "refs/heads/review/"} {
		for _, atomicPush := range []string{"true", "false"} {
			t.Run(strings.TrimPrefix(ref, "refs/heads/")+", atomic "+atomicPush, func(t *testing.T) {
				b := newIdleBench(t)
				b.git.native(b.git.bare, "config", "receive.advertiseAtomic", atomicPush)
				b.initMain()
				b.start()
				acme := b.reviewed("acme")
				cut := func(do func()) {
					var refused atomic.Bool
					b.git.intercept(func(w http.ResponseWriter, r *http.Request) bool {
						if pushesTo(r, ref) {
							refused.Store(true)
							http.Error(w, "killed", http.StatusServiceUnavailable)
							return true
						}
						return false
					})
					do()
					if ref != "refs/heads/main" { // only facts and removals push that
						eventually(t, "the push is refused", func() string {
							if !refused.Load() {
								return "it is not"
							}
							return ""
						})
					}
					b.halt()
					b.git.intercept(nil)
					b.start()
				}
				cut(func() { acme.push(acme.whole("web", 80)) })
				acme.proposes("web", 80)
				ada := b.git.clone()
				cut(func() { ada.mergeReview(acme) })
				acme.hasPorts("web", 80)
				acme.over()
				cut(func() { acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)}) })
				tip := acme.proposes("web", 80, 443)
				cut(func() { b.annotate(acme.stored(), v1alpha1.AnnotationReject, tip) })
				acme.over()
				acme.held(1)
				eventually(t, "the annotation goes", func() string { return acme.stored().Annotations[v1alpha1.AnnotationReject] })
				acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443, 8080)})
				acme.proposes("web", 80, 8080)
				ada.mergeReview(acme)
				acme.hasPorts("web", 80, 8080)
				acme.over()
				acme.held(1)
			})
		}
	}
}

func TestARefusedReviewBranchKeepsNobodyWaiting(t *testing.T) {
	b := newBench(t)
	acme, globex := b.reviewed("acme"), b.tenant("globex")
	b.git.hook("update", `case "$1" in refs/heads/review/*) echo "review is protected" >&2; exit 1;; esac`)
	acme.push(acme.whole("web", 80))
	globex.push(globex.whole("web", 90))
	globex.hasPorts("web", 90)
	eventually(t, "the tenant is told", func() string {
		for _, p := range acme.state().Status.Problems {
			if p.Reason == reasonReviewRefused && strings.Contains(p.Message, "review is protected") {
				return ""
			}
		}
		return fmt.Sprintf("%v", acme.state().Status.Problems)
	})
	b.reason("Succeeded")
	b.git.hook("update", "exit 0")
	acme.proposes("web", 80)
}
