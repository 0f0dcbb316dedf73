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
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// thief is a server that notes every credential that it is sent.
type thief struct {
	*httptest.Server
	mu    sync.Mutex
	asked int
	heard []string
}

func newThief(t *testing.T) *thief {
	x := &thief{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.asked++
		if _, password, ok := r.BasicAuth(); ok {
			x.heard = append(x.heard, password)
		} else if r.Header.Get("Authorization") != "" {
			x.heard = append(x.heard, r.Header.Get("Authorization"))
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *thief) knows() (asked int, heard string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked, strings.Join(x.heard, " ")
}

// sourceIn makes a GitSource in a namespace. Where the API server refuses its
// references into other namespaces, they lose the namespace.
func (b *bench) sourceIn(namespace, name string, spec v1alpha1.GitSourceSpec) *v1alpha1.GitSource {
	b.t.Helper()
	b.ignoreExisting(b.client.Create(b.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	source := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
	err := b.client.Create(b.t.Context(), source)
	if apierrors.IsInvalid(err) {
		for _, ref := range []*v1alpha1.LocalReference{spec.SecretRef, spec.ProxySecretRef} {
			if ref != nil {
				ref.Namespace = ""
			}
		}
		if spec.Forge != nil {
			spec.Forge.SecretRef.Namespace = ""
		}
		source.Spec = spec
		err = b.client.Create(b.t.Context(), source)
	}
	must(b.t, err)
	b.t.Cleanup(func() { _ = b.client.Delete(context.Background(), source) })
	return source
}

// sourceSays waits for a reason of the condition Ready of a GitSource.
func (b *bench) sourceSays(source *v1alpha1.GitSource, reason string) *metav1.Condition {
	b.t.Helper()
	var ready *metav1.Condition
	eventually(b.t, "GitSource "+source.Name+" "+reason, func() string {
		must(b.t, b.client.Get(b.t.Context(), client.ObjectKeyFromObject(source), source))
		if ready = apimeta.FindStatusCondition(source.Status.Conditions, "Ready"); ready == nil || ready.Reason != reason {
			return "it says something else"
		}
		return ""
	})
	return ready
}

// Somebody who may only write GitSources in a namespace of his own neither gets the
// hub to send him a Secret nor takes Tenants away from the GitSource that they have.
func TestAGitSourceOfANeighbourIsLeftAlone(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	must(t, b.client.Patch(t.Context(), acme.tenantObject(), client.RawPatch(mergePatch, []byte(`{"spec":{"git":{"sourceRef":null}}}`))))
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	b.secret("git", map[string]string{"username": "hub", "password": "s3cr3t-1"})
	b.secret("admin", map[string]string{"token": "s3cr3t-2"})
	thief := newThief(t)
	evil := b.sourceIn("neighbour", "evil-"+b.prefix, v1alpha1.GitSourceSpec{
		URL: thief.URL + "/x/y.git", Interval: metav1.Duration{Duration: 100 * time.Millisecond},
		SecretRef: &v1alpha1.LocalReference{Namespace: hubNamespace, Name: "git" + b.prefix},
		Forge: &v1alpha1.GitForge{
			Kind: v1alpha1.ForgeGitea, URL: thief.URL, SecretRef: v1alpha1.LocalReference{Namespace: hubNamespace, Name: "admin" + b.prefix},
		},
	})
	defer func() {
		if asked, heard := thief.knows(); asked > 0 || heard != "" {
			t.Errorf("the neighbour's server was asked %d times and told %q", asked, heard)
		}
	}()
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 81)})
	acme.hasPorts("web", 81)
	says := b.sourceSays(evil, v1alpha1.ReasonNamespaceNotFollowed)
	if !strings.Contains(says.Message, "--gitsource-namespaces") {
		t.Errorf("the condition names no next step: %s", says.Message)
	}
	b.restart()
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 82)})
	acme.hasPorts("web", 82)

	must(t, b.client.Patch(t.Context(), acme.tenantObject(), client.RawPatch(mergePatch,
		[]byte(`{"spec":{"git":{"sourceRef":{"name":"`+evil.Name+`","namespace":"neighbour"}}}}`))))
	acme.hasProblem(v1alpha1.ReasonSourceNotFound, "neighbour/"+evil.Name, "--gitsource-namespaces")
	must(t, b.client.Patch(t.Context(), acme.tenantObject(), client.RawPatch(mergePatch,
		[]byte(`{"spec":{"git":{"sourceRef":{"name":"`+b.source+`","namespace":null},"intentSourceRef":{"name":"`+evil.Name+`","namespace":"neighbour"}}}}`))))
	acme.hasProblem(v1alpha1.ReasonNamespaceNotFollowed, "spec.git.intentSourceRef", "--gitsource-namespaces")
}

// hasProblem waits for a problem of a Tenant that has some words in it.
func (a *actor) hasProblem(reason string, words ...string) {
	a.t.Helper()
	eventually(a.t, "the problem "+reason, func() string {
		for _, p := range a.problems() {
			text := p.Field + " " + p.Message + " " + p.Remedy
			if p.Reason != reason {
				continue
			}
			for _, word := range words {
				if !strings.Contains(text, word) {
					return text
				}
			}
			return ""
		}
		return "there is none"
	})
}

// A namespace that the flag names is followed, with the Secrets that are in it and
// for the Tenants that name its GitSource.
func TestAGitSourceOfANamedNamespaceIsFollowed(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	b.namespaces = []string{"team"}
	b.start()
	acme, other := b.tenant("acme"), b.tenant("other")
	must(t, b.client.Patch(t.Context(), other.tenantObject(), client.RawPatch(mergePatch, []byte(`{"spec":{"git":{"sourceRef":null}}}`))))
	own := newServer(t)
	b.initMainOf(own, "teams")
	open, _ := own.guarded()
	open("s3cr3t-team")
	source := b.sourceIn("team", "team-"+b.prefix, v1alpha1.GitSourceSpec{
		URL: own.url, Interval: metav1.Duration{Duration: 150 * time.Millisecond}, SecretRef: &v1alpha1.LocalReference{Name: "git" + b.prefix},
	})
	b.secret("git", map[string]string{"username": "hub", "password": "s3cr3t-team"}) // the hub's own namespace has one of that name
	b.sourceSays(source, v1alpha1.ReasonAuthFailed)
	must(t, b.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "git" + b.prefix}, StringData: map[string]string{"username": "hub", "password": "s3cr3t-team"},
	}))
	must(t, b.client.Patch(t.Context(), acme.tenantObject(), client.RawPatch(mergePatch,
		[]byte(`{"spec":{"git":{"sourceRef":{"name":"`+source.Name+`","namespace":"team"}}}}`))))
	acme.meetAt(own, source.Name)
	acme.repository = "teams"
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	other.push(other.whole("web", 90)) // names none: it is the hub's own GitSource's
	other.hasPorts("web", 90)
}

// A key with an option is not a key without it: nobody is believed with it, and
// the Tenant says why.
func TestASignerWithAnOptionMatchesNobody(t *testing.T) {
	signer, err := git.GenerateKey()
	must(t, err)
	store := git.NewStore()
	tree, err := store.Edit(git.Hash{}, map[string][]byte{"a": []byte("1")})
	must(t, err)
	commit, err := store.NewCommit(git.CommitSpec{Tree: tree, Message: "x", Author: git.Ident{Name: "ccm", Email: "ccm@example.com", When: time.Unix(1, 0)}, Signer: signer})
	must(t, err)
	c, err := store.Commit(commit)
	must(t, err)
	for line, counts := range map[string]bool{
		"": true, `valid-before="20200101" `: false, `namespaces="file" `: false, "cert-authority ": false,
	} {
		tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme"}}
		tenant.Spec.Git.AllowedSigners = []string{line + signer.PublicKey().String()}
		keys := signers(tenant)
		if _, err := c.Verify(keys...); (err == nil) != counts || len(keys) != 1 {
			t.Errorf("%q: %v", line, err)
		}
		if problems := mistakesOfTenant(tenant); (len(problems) == 0) != counts || !counts && problems[0].Field != "spec.git.allowedSigners[0]" {
			t.Errorf("%q: %+v", line, problems)
		}
	}
}

// What is wrong with a GitSource is said on it, also where the API server let it in
// before its schema was as strict as now: nothing of it is used.
func TestAGitSourceThatIsNotValidIsNotFollowed(t *testing.T) {
	elsewhere := v1alpha1.LocalReference{Namespace: "kube-system", Name: "x"}
	for field, change := range map[string]func(*v1alpha1.GitSourceSpec){
		"spec.secretRef.namespace":      func(s *v1alpha1.GitSourceSpec) { s.SecretRef = &elsewhere },
		"spec.proxySecretRef.namespace": func(s *v1alpha1.GitSourceSpec) { s.ProxySecretRef = &elsewhere },
		"spec.url":                      func(s *v1alpha1.GitSourceSpec) { s.URL = "https://ada:pa55word@git.example.com/x.git" },
		"spec.branch":                   func(s *v1alpha1.GitSourceSpec) { s.Branch = "status/acme" },
	} {
		source := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: "fleet"}, Spec: v1alpha1.GitSourceSpec{URL: "https://git.example.com/x.git"}}
		change(&source.Spec)
		err := mistakesOf(source).refused()
		if err == nil || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "pa55word") {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, change := range map[string]func(*v1alpha1.GitSourceSpec){
		"spec.forge.secretRef.namespace": func(s *v1alpha1.GitSourceSpec) {
			s.Forge = &v1alpha1.GitForge{Kind: v1alpha1.ForgeGitea, SecretRef: elsewhere}
		},
		"spec.webhook.secretRef.namespace": func(s *v1alpha1.GitSourceSpec) { s.Webhook = &v1alpha1.GitWebhook{SecretRef: elsewhere} },
		"spec.reviewers[ada].publicKey": func(s *v1alpha1.GitSourceSpec) {
			s.Reviewers = []v1alpha1.Reviewer{{Name: "ada", PublicKey: "cert-authority ssh-ed25519 AAAA"}}
		},
	} {
		source := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: "fleet"}, Spec: v1alpha1.GitSourceSpec{URL: "https://git.example.com/x.git"}}
		change(&source.Spec)
		m := mistakesOf(source)
		if m.refused() != nil {
			t.Errorf("%s stops the whole GitSource: %v", field, m.refused())
		}
		if all := append(append(m.forge, m.webhook...), m.others...); len(all) != 1 || all[0].Field != field || all[0].Remedy == "" {
			t.Errorf("%s: %+v", field, all)
		}
	}
}
