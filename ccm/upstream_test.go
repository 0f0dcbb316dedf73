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
	"strings"
	"testing"

	"github.com/kubelb/gitops/ccm/project"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
