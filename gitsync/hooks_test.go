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
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/webhook"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const hookKey = "hmac key"

// counted counts what a Git server is asked.
func (s *server) counted() *atomic.Int64 {
	n := &atomic.Int64{}
	s.intercept(func(http.ResponseWriter, *http.Request) bool {
		n.Add(1)
		return false
	})
	return n
}

// telling makes a GitSource listen to a forge's webhook, and to little else.
func telling(source *v1alpha1.GitSource, kind v1alpha1.WebhookType) {
	source.Spec.Interval = metav1.Duration{Duration: time.Hour}
	source.Spec.Webhook = &v1alpha1.GitWebhook{Type: kind, SecretRef: v1alpha1.LocalReference{Name: source.Name}}
}

func (b *bench) hookSecret(name string) {
	b.t.Helper()
	must(b.t, b.client.Create(b.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: name}, Data: map[string][]byte{"token": []byte(hookKey + "\n")},
	}))
}

// tell sends an event of a forge to the receiver and returns the answer.
func (b *bench) tell(source string, body string, headers map[string]string) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "http://"+b.hook+"/hook/"+hubNamespace+"/"+source, strings.NewReader(body))
	must(b.t, err)
	r.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	must(b.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	must(b.t, err)
	return response.StatusCode, string(text)
}

func giteaPush(url, ref string) (body string, headers map[string]string) {
	body = fmt.Sprintf(`{"ref": %q, "repository": {"full_name": "acme/repo", "clone_url": %q}}`, ref, url)
	return body, map[string]string{
		"X-Gitea-Event": "push", "X-Gitea-Signature": strings.TrimPrefix(webhook.Sign([]byte(hookKey), []byte(body)), "sha256="),
	}
}

func TestAForgesEventTriggersItsGitSourceOnly(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	other := newServer(t)
	(&bench{t: t, git: other}).initMain()
	ctx := t.Context()
	source := b.gitSource()
	telling(source, v1alpha1.WebhookGitea)
	must(t, b.client.Update(ctx, source))
	neighbour := &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source + "-2"}, Spec: v1alpha1.GitSourceSpec{URL: other.url},
	}
	telling(neighbour, v1alpha1.WebhookGitLab)
	must(t, b.client.Create(ctx, neighbour))
	t.Cleanup(func() { _ = b.client.Delete(context.Background(), neighbour) })
	b.hookSecret(b.source)
	b.hookSecret(neighbour.Name)
	b.start()
	acme := b.tenant("acme")
	acme.settledFirst()
	eventually(t, "the other GitSource", func() string {
		must(t, b.client.Get(ctx, client.ObjectKeyFromObject(neighbour), neighbour))
		if neighbour.Status.Revision == "" {
			return "has no revision"
		}
		return ""
	})
	acme.push(acme.whole("web", 80))
	mine, others := b.git.counted(), other.counted()

	wants := func(what string, code int, said string, want int, says string) {
		t.Helper()
		if code != want || !strings.Contains(said, says) {
			t.Errorf("%s: %d %q, want %d with %q", what, code, said, want, says)
		}
	}
	body, headers := giteaPush(strings.Replace(b.git.url, "repo.git", "foreign.git", 1), "refs/heads/main")
	body = strings.Replace(body, "acme/repo", "acme/foreign", 1)
	headers["X-Gitea-Signature"] = strings.TrimPrefix(webhook.Sign([]byte(hookKey), []byte(body)), "sha256=")
	code, said := b.tell(b.source, body, headers)
	wants("another repository", code, said, http.StatusForbidden, "acme/foreign")
	body, headers = giteaPush(b.git.url, "refs/heads/status/acme")
	code, said = b.tell(b.source, body, headers)
	wants("the hub's own push", code, said, http.StatusOK, "nobody waits")
	code, said = b.tell(b.source, body, map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": hookKey})
	wants("another forge's event", code, said, http.StatusUnauthorized, "X-Gitea-Signature")
	if n := mine.Load(); n != 0 || acme.lb("web") != nil {
		t.Fatalf("the repository was looked at %d times without news", n)
	}
	body, headers = giteaPush(b.git.url, "refs/heads/"+"intent/"+acme.name)
	code, said = b.tell(b.source, body, headers)
	wants("a push", code, said, http.StatusOK, "ok")
	acme.hasPorts("web", 80)
	code, said = b.tell(b.source, body, headers)
	wants("a replay", code, said, http.StatusOK, "heard before")
	if n := others.Load(); n != 0 {
		t.Errorf("the other repository was looked at %d times", n)
	}
	body = fmt.Sprintf(`{"ref": "refs/heads/main", "project": {"path_with_namespace": "acme/repo", "git_http_url": %q}}`, other.url)
	code, said = b.tell(neighbour.Name, body, map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": hookKey})
	wants("a push to the other", code, said, http.StatusOK, "ok")
	eventually(t, "the look at the other repository", func() string {
		if others.Load() == 0 {
			return "has not come"
		}
		return ""
	})
	for result, want := range map[webhook.Result]float64{webhook.Triggered: 1, webhook.Replayed: 1, webhook.Foreign: 1, webhook.Ignored: 1, webhook.Unverified: 1} {
		var m dto.Metric
		must(t, hooks.WithLabelValues(hubNamespace+"/"+b.source, string(result)).Write(&m))
		if got := m.GetCounter().GetValue(); got != want {
			t.Errorf("the metric counts %v of %s, want %v", got, result, want)
		}
	}
}

func TestAWebhooksTokenCanBeReplaced(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	source := b.gitSource()
	telling(source, v1alpha1.WebhookGitea)
	must(t, b.client.Update(t.Context(), source))
	b.start()
	body, headers := giteaPush(b.git.url, "refs/heads/main")
	eventually(t, "the webhook's source", func() string {
		code, _ := b.tell(b.source, body, headers)
		return map[bool]string{false: fmt.Sprint(code)}[code == http.StatusUnauthorized] // there is no Secret yet
	})
	b.hookSecret(b.source)
	eventually(t, "the token of the new Secret", func() string {
		code, _ := b.tell(b.source, body, headers)
		return map[bool]string{false: fmt.Sprint(code)}[code == http.StatusOK]
	})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source}, Data: map[string][]byte{"token": []byte("another")}}
	must(t, b.client.Update(t.Context(), secret))
	eventually(t, "the end of the old token", func() string {
		code, _ := b.tell(b.source, body, headers)
		return map[bool]string{false: fmt.Sprint(code)}[code == http.StatusUnauthorized]
	})
}

// A webhook that can believe nobody says so, with the Secret by name, and no more
// once it can.
func TestAWebhookWithoutASecretSaysSo(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	says := func(status metav1.ConditionStatus, reason, word string) {
		t.Helper()
		eventually(t, "WebhookReady "+reason, func() string {
			c := apimeta.FindStatusCondition(b.gitSource().Status.Conditions, v1alpha1.ConditionWebhookReady)
			if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, word) {
				return fmt.Sprintf("%+v", c)
			}
			return ""
		})
	}
	b.changeSource(func(s *v1alpha1.GitSourceSpec) {
		s.Webhook = &v1alpha1.GitWebhook{Type: v1alpha1.WebhookGitea, SecretRef: v1alpha1.LocalReference{Name: "hook" + b.prefix}}
	})
	says(metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, hubNamespace+"/hook"+b.prefix)
	b.secret("hook", map[string]string{"password": "s3cr3t"})
	says(metav1.ConditionFalse, v1alpha1.ReasonTokenMissing, "token")
	b.secret("hook", map[string]string{"token": "s3cr3t"})
	says(metav1.ConditionTrue, "Succeeded", hubNamespace+"/hook"+b.prefix)
	b.changeSource(func(s *v1alpha1.GitSourceSpec) { s.Webhook = nil })
	eventually(t, "the condition goes with the webhook", func() string {
		if apimeta.FindStatusCondition(b.gitSource().Status.Conditions, v1alpha1.ConditionWebhookReady) != nil {
			return "it is there"
		}
		return ""
	})

	heard := func(status metav1.ConditionStatus) {
		t.Helper()
		eventually(t, "Heard "+string(status), func() string {
			tenant := acme.tenantObject()
			c := apimeta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionHeard)
			if c == nil || c.Status != status || (tenant.Status.Git.IntentTime != nil) != (status == metav1.ConditionTrue) {
				return fmt.Sprintf("%+v %+v", c, tenant.Status.Git)
			}
			return ""
		})
	}
	heard(metav1.ConditionFalse)
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	heard(metav1.ConditionTrue)
	before := acme.tenantObject().Status.Git.IntentTime
	if short := acme.tenantObject().Status.Git.ShortRevision; len(short) != 12 || b.gitSource().Status.ShortRevision != b.git.head("main")[:12] {
		t.Errorf("the short revision is %q", short)
	}
	b.restart()
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 81)})
	acme.hasPorts("web", 81)
	acme.settled()
	if now := acme.tenantObject().Status.Git.IntentTime; now == nil || now.Before(before) {
		t.Errorf("the last intent was at %v, before %v", now, before)
	}
}
