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
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// says waits until the GitSource is not ready for a reason, in words.
func (b *bench) says(reason string, words ...string) {
	b.t.Helper()
	eventually(b.t, "the condition "+reason, func() string {
		for _, c := range b.gitSource().Status.Conditions {
			if c.Type != "Ready" {
				continue
			}
			for _, word := range append(words, reason) {
				if !strings.Contains(c.Reason+" "+c.Message, word) {
					return c.Reason + ": " + c.Message + "; want " + word
				}
			}
			if strings.Contains(c.Message, "s3cr3t") {
				b.t.Fatalf("the condition tells the password: %s", c.Message)
			}
			return ""
		}
		return "there is none"
	})
}

// secret writes a Secret beside the GitSources.
func (b *bench) secret(name string, data map[string]string) {
	b.t.Helper()
	name += b.prefix
	_ = b.client.Delete(b.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: name}})
	must(b.t, b.client.Create(b.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: name}, StringData: data}))
}

func (b *bench) changeSource(change func(*v1alpha1.GitSourceSpec)) {
	b.t.Helper()
	source := b.gitSource()
	before := source.DeepCopy()
	change(&source.Spec)
	must(b.t, b.client.Patch(b.t.Context(), source, client.MergeFrom(before)))
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	must(t, c.Write(&m))
	return m.GetCounter().GetValue()
}

func TestCredentialsThatAreCorrectedHeal(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	var want atomic.Pointer[string]
	var asked atomic.Int64
	open := func(password string) { want.Store(&password) }
	open("s3cr3t-1")
	b.git.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		asked.Add(1)
		user, password, _ := r.BasicAuth()
		if user == "hub" && password == *want.Load() {
			return false
		}
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return true
	})
	b.changeSource(func(s *v1alpha1.GitSourceSpec) { s.SecretRef = &v1alpha1.LocalReference{Name: "git" + b.prefix} })
	b.start()
	b.says(v1alpha1.ReasonAuthFailed, "kubelb/git"+b.prefix, "does not exist")
	b.secret("git", map[string]string{"identity": "s3cr3t-1"})
	b.says(v1alpha1.ReasonAuthFailed, "kubelb/git"+b.prefix, "key username is missing", "ssh:// URL")
	b.secret("git", map[string]string{"username": "hub"})
	b.says(v1alpha1.ReasonAuthFailed, "key password is missing")
	if n := asked.Load(); n > 0 {
		t.Errorf("the server was asked %d times with Secrets that are of no use", n)
	}
	b.secret("git", map[string]string{"username": "hub", "password": "s3cr3t-0"})
	b.says(v1alpha1.ReasonAuthFailed, "refuses the credentials", "who are you?", "kubelb/git"+b.prefix)
	b.secret("git", map[string]string{"username": "hub", "password": "s3cr3t-1"})
	b.says("Succeeded")

	open("s3cr3t-2") // revoked
	b.says(v1alpha1.ReasonAuthFailed, "refuses the credentials")
	b.changeSource(func(s *v1alpha1.GitSourceSpec) { s.Interval = metav1.Duration{Duration: time.Hour} })
	failed := passes.WithLabelValues(client.ObjectKeyFromObject(b.gitSource()).String(), "failed")
	eventually(t, "the look with the new interval", func() string {
		if b.gitSource().Status.ObservedGeneration != b.gitSource().Generation {
			return "not yet"
		}
		return ""
	})
	before, looks := asked.Load(), counted(t, failed)
	eventually(t, "another look at the Secret", func() string {
		if counted(t, failed) == looks {
			return "none"
		}
		return ""
	})
	if asked.Load() != before {
		t.Error("the server was asked again with credentials that it refused just now")
	}
	b.secret("git", map[string]string{"username": "hub", "password": "s3cr3t-2"})
	b.says("Succeeded")
}

func TestProxySecretsAreChecked(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	b.changeSource(func(s *v1alpha1.GitSourceSpec) { s.ProxySecretRef = &v1alpha1.LocalReference{Name: "proxy" + b.prefix} })
	b.start()
	b.says(v1alpha1.ReasonAuthFailed, "spec.proxySecretRef", "does not exist")
	b.secret("proxy", map[string]string{"address": "proxy.example.com:3128"})
	b.says(v1alpha1.ReasonAuthFailed, "spec.proxySecretRef", "key address")
	b.changeSource(func(s *v1alpha1.GitSourceSpec) { s.ProxySecretRef = nil })
	b.says("Succeeded")
}
