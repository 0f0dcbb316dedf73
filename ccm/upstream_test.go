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

package ccm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/ccm/project"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/test/harm"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func (w *world) credentials(name string, data map[string]string) {
	w.Helper()
	object := metav1.ObjectMeta{Namespace: "kubelb", Name: name}
	_ = w.client.Delete(w.Context(), &corev1.Secret{ObjectMeta: object})
	if err := w.client.Create(w.Context(), &corev1.Secret{ObjectMeta: object, StringData: data}); err != nil {
		w.Fatal(err)
	}
}

func TestCredentialsThatAreCorrectedHeal(t *testing.T) {
	w, ccm, web := serving(t, func(o *Options) { o.GitSecret = "kubelb-git" })
	blog := w.service("blog", "web")
	w.hasCondition(blog, project.ConditionProblem, "")
	open := func(password string) { w.git.password.Store(&password) }
	heals := func(step string) {
		w.Helper()
		ccm.engine.observer.poke()
		w.eventually(step, func() error {
			if problems := ccm.engine.notices.of(false); len(problems) > 0 {
				return fmt.Errorf("%+v", problems)
			}
			return nil
		})
	}
	fails := func(reason, text string) {
		w.Helper()
		ccm.engine.observer.poke()
		w.eventually(reason, func() error {
			for _, p := range ccm.engine.notices.of(false) {
				if p.Reason == reason && strings.Contains(p.Message, text) && p.Remedy != "" {
					if strings.Contains(p.Message, "s3cr3t") {
						t.Fatalf("a problem tells the password: %s", p.Message)
					}
					return nil
				}
			}
			return fmt.Errorf("%+v, want %s with %q", ccm.engine.notices.of(false), reason, text)
		})
	}

	open("s3cr3t-1")
	fails(ReasonGitUnauthorized, "refuses the credentials")
	w.hasCondition(w.service("blog", "new"), project.ConditionProblem, ReasonGitUnauthorized)
	w.credentials("kubelb-git", map[string]string{"username": "ccm"})
	fails(ReasonGitUnauthorized, "kubelb/kubelb-git: key password is missing")
	w.credentials("kubelb-git", map[string]string{"username": "ccm", "password": "s3cr3t-1"})
	heals("the first credentials")
	open("s3cr3t-2")
	fails(ReasonGitUnauthorized, "refuses the credentials")
	w.credentials("kubelb-git", map[string]string{"username": "ccm", "password": "s3cr3t-2"})
	heals("the second credentials")
	w.hasAddress(web, "192.0.2.7")
}

func TestProblemsOfTheRepositoryNameTheirRemedy(t *testing.T) {
	for reason, err := range map[string]error{
		ReasonGitUnauthorized: fmt.Errorf("fetch: %w", git.ErrUnauthorized),
		ReasonGitHostKey:      &git.HostKeyError{Host: "git.example.com", Shown: "ssh-ed25519 SHA256:abc"},
		ReasonGitUnreachable:  errors.New("no route to host"),
	} {
		if p := gitProblem(err); p.Reason != reason || p.Message == "" || p.Remedy == "" {
			t.Errorf("%v: %+v, want %s", err, p, reason)
		}
	}
	if p := gitProblem(&git.HostKeyError{Host: "git.example.com", Shown: "ssh-ed25519 SHA256:abc"}); !strings.Contains(p.Message, "SHA256:abc") {
		t.Errorf("%+v does not show the fingerprint", p)
	}
}

func TestDamagedCopiesOfBranchesHeal(t *testing.T) {
	w, ccm, web := serving(t)
	w.hasCondition(web, project.ConditionProblem, "")
	intents, statuses := ccm.engine.publisher.store, ccm.engine.observer.store
	lose := func(store *git.Store, branch, folder string) {
		w.Helper()
		out, err := exec.Command("git", "-C", w.git.dir, "rev-parse", branch+":"+folder).Output()
		if err != nil {
			t.Fatal(err)
		}
		h, err := git.ParseHash(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		if !harm.Lose(store, h) {
			t.Fatalf("there is no tree of %s, so the test shows nothing", folder)
		}
	}
	renewed := func(branch string) float64 {
		var m dto.Metric
		if err := storeRenewals.WithLabelValues(branch).Write(&m); err != nil {
			t.Fatal(err)
		}
		return m.GetCounter().GetValue()
	}
	before, beforeStatus := renewed("intent"), renewed("status")
	folder := repo.TenantDir(tenant) + "/loadbalancers"
	lose(intents, "intent/"+tenant, folder)
	blog := w.service("blog", "web")
	intent := w.intentHas(nodesFile, webWish, webFact, "loadbalancers/blog/web.service.yaml", "backends/blog/web.service.yaml")
	if got := renewed("intent"); got != before+1 {
		t.Errorf("intents were read anew %v times", got-before)
	}

	// The status loses what one Service was told, and says something to another.
	lose(statuses, "status/"+tenant, folder)
	w.hub.say(t, write{set: []repo.Object{state(intent), loadBalancer(blog, "192.0.2.8")}, remove: []string{webWish}})
	ccm.engine.observer.poke()
	w.hasAddress(blog, "192.0.2.8")
	w.eventually("what is gone", func() error {
		if a := ccm.engine.answers.of(client.ObjectKeyFromObject(web)); a.loadBalancer != nil {
			return errors.New("it is still known")
		}
		return nil
	})
	if got := renewed("status"); got != beforeStatus+1 {
		t.Errorf("the status was read anew %v times", got-beforeStatus)
	}
}

// What a push that is refused again and again wrote does not pile up.
func TestRefusedPushesLeaveNothing(t *testing.T) {
	w, ccm, _ := serving(t)
	store := ccm.engine.publisher.store
	hook := filepath.Join(w.git.dir, "hooks", "pre-receive")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ncase \"$(cat)\" in *intent*) exit 1;; esac\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := store.Stats().Objects
	for i := range 20 {
		pushes := w.git.requests.Load()
		w.clock.add(time.Minute) // a commit of its own each time
		if i == 0 {
			w.service("blog", "web")
		}
		w.eventually("another attempt", func() error {
			ccm.engine.publisher.retry()
			if w.git.requests.Load() < pushes+3 {
				return errors.New("none")
			}
			return nil
		})
	}
	w.eventually("a store without leftovers", func() error {
		if n := store.Stats().Objects; n > before+10 {
			return fmt.Errorf("%d objects, %d before", n, before)
		}
		return nil
	})
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	ccm.engine.publisher.retry()
	w.intentHas(nodesFile, webWish, webFact, "loadbalancers/blog/web.service.yaml", "backends/blog/web.service.yaml")
}

// The remedy names the Secret, since people look for objects, not for flags.
func TestARemedyNamesTheSecret(t *testing.T) {
	for _, err := range []error{git.ErrUnauthorized, &git.HostKeyError{Host: "git.example.com", Shown: "ssh-ed25519 SHA256:abc"}} {
		if got := withSecret(gitProblem(err), "kubelb", "git-credentials").Remedy; !strings.Contains(got, "the Secret kubelb/git-credentials (--git-secret)") {
			t.Errorf("%v: %s", err, got)
		}
		if got := withSecret(gitProblem(err), "kubelb", "").Remedy; !strings.Contains(got, "--git-secret names") {
			t.Errorf("%v: %s", err, got)
		}
	}
}
