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
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/forge"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hall stands in for a forge over the bench's repository: pull requests follow
// its branches as those of Gitea do.
type hall struct {
	git   *server
	token string

	mu      sync.Mutex
	pulls   []*forge.PullRequest
	heads   map[int64]string // branches
	writes  int
	failing error
}

func (h *hall) open(o forge.Options) (forge.Forge, error) {
	return &visitor{hall: h, token: o.Token}, nil
}

type visitor struct {
	hall  *hall
	token string
}

// enter takes the lock, and says why the visitor is turned away.
func (v *visitor) enter() (*hall, error) {
	h := v.hall
	h.mu.Lock()
	switch {
	case h.failing != nil:
		return h, h.failing
	case v.token != h.token:
		return h, fmt.Errorf("%w: 401", forge.ErrUnauthorized)
	}
	for _, pr := range h.pulls {
		if tip := h.git.head(h.heads[pr.Number]); tip != "" {
			pr.HeadCommit = tip // also of one that was closed: Gitea says no more
		} else if pr.State == forge.Open {
			pr.State = forge.Closed // its branch was deleted
		}
	}
	return h, nil
}

func (v *visitor) Newest(_ context.Context, head, _ string) (forge.PullRequest, bool, error) {
	h, err := v.enter()
	defer h.mu.Unlock()
	if err != nil {
		return forge.PullRequest{}, false, err
	}
	for i := len(h.pulls) - 1; i >= 0; i-- {
		if h.heads[h.pulls[i].Number] == head {
			return *h.pulls[i], true, nil
		}
	}
	return forge.PullRequest{}, false, nil
}

func (v *visitor) Create(_ context.Context, p forge.Proposal) (forge.PullRequest, error) {
	h, err := v.enter()
	defer h.mu.Unlock()
	if err != nil {
		return forge.PullRequest{}, err
	}
	if h.git.head(p.Head) == "" {
		return forge.PullRequest{}, fmt.Errorf("%w: no branch %s", forge.ErrInvalid, p.Head)
	}
	h.writes++
	number := int64(len(h.pulls) + 1)
	pr := &forge.PullRequest{
		Number: number, URL: fmt.Sprintf("https://forge.example.com/pulls/%d", number), State: forge.Open,
		HeadCommit: h.git.head(p.Head), Title: p.Title, Body: p.Body,
	}
	h.pulls, h.heads[number] = append(h.pulls, pr), p.Head
	return *pr, nil
}

func (v *visitor) Update(_ context.Context, number int64, title, body string) (forge.PullRequest, error) {
	h, err := v.enter()
	defer h.mu.Unlock()
	if err != nil {
		return forge.PullRequest{}, err
	}
	h.writes++
	h.pulls[number-1].Title, h.pulls[number-1].Body = title, body
	return *h.pulls[number-1], nil
}

func (v *visitor) Close(_ context.Context, number int64) error {
	h, err := v.enter()
	defer h.mu.Unlock()
	if err == nil && h.pulls[number-1].State == forge.Open {
		h.writes++
		h.pulls[number-1].State = forge.Closed
	}
	return err
}

// set is what people do with a pull request.
func (h *hall) set(number int, state forge.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pulls[number-1].State = state
}

func (h *hall) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing = err
}

// pull waits for a pull request in a state whose text has some words.
func (h *hall) pull(number int, state forge.State, words ...string) forge.PullRequest {
	h.git.t.Helper()
	var pr forge.PullRequest
	eventually(h.git.t, fmt.Sprintf("pull request %d is %s and speaks of %q", number, state, words), func() string {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.pulls) != number {
			return fmt.Sprintf("there are %d", len(h.pulls))
		}
		pr = *h.pulls[number-1]
		for _, word := range words {
			if !strings.Contains(pr.Title+"\n"+pr.Body, word) {
				return fmt.Sprintf("it does not speak of %q:\n%s\n%s", word, pr.Title, pr.Body)
			}
		}
		if pr.State != state {
			return "it is " + string(pr.State)
		}
		return ""
	})
	return pr
}

// forged is a bench with a forge, and a reviewed tenant that has web on port 80.
func forged(t *testing.T) (*bench, *hall, *actor, *clone) {
	t.Helper()
	b := newIdleBench(t)
	h := &hall{git: b.git, token: "good", heads: map[int64]string{}}
	b.forge = h.open
	b.initMain()
	b.setToken("good\n")
	source := b.gitSource()
	source.Spec.Forge = &v1alpha1.GitForge{Kind: v1alpha1.ForgeGitea, SecretRef: v1alpha1.LocalReference{Name: b.source + "-forge"}}
	must(t, b.client.Update(t.Context(), source))
	b.start()
	acme := b.reviewed("acme")
	acme.push(acme.whole("web", 80))
	acme.proposes("web", 80)
	h.pull(1, forge.Open, acme.name+": Service shop/web created", "10.0.0.1:30080", "Close")
	ada := b.git.clone()
	ada.mergeReview(acme)
	h.set(1, forge.Merged)
	acme.hasPorts("web", 80)
	acme.over()
	ada.pull()
	return b, h, acme, ada
}

func (b *bench) setToken(token string) {
	b.t.Helper()
	must(b.t, b.client.Create(b.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source + "-forge"}, Data: map[string][]byte{"token": []byte(token)},
	}))
}

// shows waits until the tenant is told of a pull request.
func (a *actor) shows(url string) {
	a.t.Helper()
	eventually(a.t, "the tenant is told of "+url, func() string {
		if review := a.state().Status.Review; review == nil || review.URL != url {
			return fmt.Sprintf("it is told of %+v", review)
		}
		return ""
	})
}

func TestAPullRequestFollowsTheReview(t *testing.T) {
	b, h, acme, ada := forged(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.proposes("web", 80, 443)
	pr := h.pull(2, forge.Open, "443/TCP")
	acme.shows(pr.URL)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 8443)})
	tip := acme.proposes("web", 80, 8443)
	h.pull(2, forge.Open, "8443/TCP", tip)
	h.mu.Lock()
	writes := h.writes
	h.mu.Unlock()
	b.restart()
	acme.shows(pr.URL)
	b.look()
	h.mu.Lock()
	if h.writes != writes {
		t.Errorf("a restart wrote %d times to the forge", h.writes-writes)
	}
	h.mu.Unlock()

	// Squashed, while main had moved on in the same document.
	ada.git("fetch", "-q", "origin")
	ada.git("checkout", "-q", "-B", "main", "origin/main")
	ada.git("merge", "-q", "--squash", "origin/"+acme.review())
	ada.write(acme.path("web"), ada.read(acme.path("web"))+"  loadBalancerSourceRanges: [192.0.2.0/24]\n")
	ada.git("commit", "-q", "-am", "Squashed, and only our network")
	h.set(2, forge.Merged)
	ada.publishMain()
	acme.hasPorts("web", 80, 8443)
	acme.over()
	acme.held(1)
}

func TestAClosedPullRequestIsRejectedAndAReopenedOneProposed(t *testing.T) {
	b, h, acme, ada := forged(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	tip := acme.proposes("web", 80, 443)
	h.pull(2, forge.Open)
	h.set(2, forge.Closed)
	acme.held(1)
	eventually(t, "nothing is pending", func() string {
		if s := acme.state().Status; s.Review != nil || len(s.Pending) > 0 {
			return fmt.Sprintf("%+v %v", s.Review, s.Pending)
		}
		return ""
	})
	b.restart()
	b.look()
	h.pull(2, forge.Closed)
	if b.git.head(acme.review()) != tip {
		t.Fatal("the branch does not wait to be reopened")
	}

	h.set(2, forge.Open)
	acme.shows("https://forge.example.com/pulls/2")
	acme.held(0)
	b.restart()
	acme.shows("https://forge.example.com/pulls/2")
	h.pull(2, forge.Open)
	acme.hasPorts("web", 80)

	h.set(2, forge.Closed)
	acme.held(1)
	// A later change gets a pull request of its own, without what was rejected.
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443, 8080)})
	acme.proposes("web", 80, 8080)
	h.pull(3, forge.Open, "8080/TCP")
	ada.mergeReview(acme)
	h.set(3, forge.Merged)
	acme.hasPorts("web", 80, 8080)
	acme.over()
	acme.held(1)
}

func TestAClosedPullRequestWhoseBranchIsDeletedIsRejected(t *testing.T) {
	b, h, acme, _ := forged(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.proposes("web", 80, 443)
	h.pull(2, forge.Open)
	b.git.native(b.git.bare, "update-ref", "-d", "refs/heads/"+acme.review())
	acme.over()
	acme.held(1)
	h.pull(2, forge.Closed)
}

func TestAnAnnotationAndAWithdrawalClosePullRequests(t *testing.T) {
	b, h, acme, _ := forged(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	tip := acme.proposes("web", 80, 443)
	h.pull(2, forge.Open)
	b.annotate(acme.stored(), v1alpha1.AnnotationReject, tip)
	h.pull(2, forge.Closed)
	acme.over()
	acme.held(1)

	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443, 8080)})
	acme.proposes("web", 80, 8080)
	h.pull(3, forge.Open)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	h.pull(3, forge.Closed)
	acme.over()
	acme.held(1)

	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 90)})
	acme.proposes("web", 90)
	h.pull(4, forge.Open)
	acme.setReview(v1alpha1.ReviewOff)
	acme.hasPorts("web", 90)
	h.pull(4, forge.Closed)
	acme.over()
}

func TestAForgeThatFailsKeepsNothingElseWaiting(t *testing.T) {
	b, h, acme, _ := forged(t)
	for i, c := range []struct {
		reason string
		err    error
	}{{reasonForgeUnavailable, fmt.Errorf("%w: 502", forge.ErrUnavailable)}, {reasonForgeUnauthorized, fmt.Errorf("%w: 403", forge.ErrUnauthorized)}} {
		h.fail(c.err)
		if i == 0 {
			acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443), acme.nodesPath(): acme.nodes("10.0.0.7")})
			acme.proposes("web", 80, 443)
			acme.decided()
		}
		eventually(t, c.reason, func() string {
			for _, problems := range [][]v1alpha1.Problem{b.gitSource().Status.Problems, acme.state().Status.Problems} {
				if len(problems) != 1 || problems[0].Reason != c.reason || problems[0].Remedy == "" {
					return fmt.Sprintf("%+v", problems)
				}
			}
			return ""
		})
	}
	b.reason("Succeeded")
	h.fail(nil)
	pr := h.pull(2, forge.Open, "443/TCP")
	acme.shows(pr.URL)
	eventually(t, "the problems end", func() string {
		if problems := append(acme.state().Status.Problems, b.gitSource().Status.Problems...); len(problems) > 0 {
			return fmt.Sprintf("%+v", problems)
		}
		return ""
	})
}

func TestADeletedTenantLeavesNoPullRequest(t *testing.T) {
	b, h, acme, _ := forged(t)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.proposes("web", 80, 443)
	pr := h.pull(2, forge.Open)
	acme.shows(pr.URL)
	must(t, b.client.Delete(t.Context(), acme.stored()))
	h.pull(2, forge.Closed)
	eventually(t, "the branch is gone", func() string { return b.git.head(acme.review()) })
}

func TestEveryErrorOfAForgeHasAReason(t *testing.T) {
	for err, want := range map[error]string{
		forge.ErrUnavailable: reasonForgeUnavailable, forge.ErrUnauthorized: reasonForgeUnauthorized,
		forge.ErrNotFound: reasonForgeNotFound, forge.ErrInvalid: reasonForgeInvalid, context.DeadlineExceeded: reasonForgeUnavailable,
	} {
		if p := forgeProblem("acme", fmt.Errorf("open: %w", err)); p.Reason != want || p.Remedy == "" || !strings.Contains(p.Message, err.Error()) {
			t.Errorf("%v is %+v", err, p)
		}
	}
}

func TestADeskAsksNoMoreThanItsRate(t *testing.T) {
	h := &hall{git: newServer(t), token: "good", heads: map[int64]string{}}
	f, _ := h.open(forge.Options{Token: "good"})
	told := make(chan string, 1000)
	d := newDesk(func(tenant string, _ answer) { told <- tenant }, func(err error, tenant string) { t.Errorf("%s: %v", tenant, err) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.run(ctx) }()
	d.use("main", 0, f)
	for i := range 3 * forgeBurst {
		d.want(fmt.Sprintf("t%02d", i), wish{stance: watch})
	}
	for range forgeBurst {
		<-told
	}
	if left := d.limit.Tokens(); left >= 1 {
		t.Errorf("%v calls are left of the rate", left)
	}
	cancel()
	<-done
	d.want("t00", wish{stance: shut}) // what changes goes before what is only looked at
	if tenant, f, _, _ := d.next(time.Now().Add(time.Hour)); tenant != "t00" || !f.dirty {
		t.Errorf("%s is next", tenant)
	}
}
