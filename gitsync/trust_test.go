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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func (a *actor) tenantObject() *v1alpha1.Tenant {
	a.t.Helper()
	var tenant v1alpha1.Tenant
	must(a.t, a.client.Get(a.t.Context(), client.ObjectKey{Name: a.name}, &tenant))
	return &tenant
}

// becomes waits for the reason of the tenant's condition Ready.
func (a *actor) becomes(reason string) {
	a.t.Helper()
	eventually(a.t, "tenant "+reason, func() string {
		if got := a.ready(); got != reason {
			return fmt.Sprintf("it is %s, problems %v", got, a.state().Status.Problems)
		}
		return ""
	})
}

func (a *actor) many(n int) map[string]repo.Object {
	edits := a.whole("web0", 80)
	for i := range n {
		edits[a.path(fmt.Sprintf("web%d", i))] = a.balancer(fmt.Sprintf("web%d", i), int32(80+i))
	}
	return edits
}

func (a *actor) without(n int) map[string]repo.Object {
	edits := map[string]repo.Object{}
	for i := range n {
		edits[a.path(fmt.Sprintf("web%d", i))] = nil
	}
	return edits
}

func TestVanishedIntentsAreGuardedUntilConfirmed(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.many(8))
	acme.hasPorts("web7", 87)
	removal := acme.push(acme.without(7))
	acme.becomes(v1alpha1.ReasonApplyGuarded)
	eventually(t, "the remedy names the commit", func() string {
		problems := acme.state().Status.Problems
		if len(problems) != 1 || !strings.Contains(problems[0].Remedy, v1alpha1.AnnotationConfirm+": "+removal.String()) {
			return fmt.Sprintf("problems are %+v", problems)
		}
		asks := acme.tenantObject().Status.Git.Confirm
		if len(asks) != 1 || asks[0] != (v1alpha1.Confirmation{Commit: removal.String(), Reason: v1alpha1.ReasonApplyGuarded}) {
			return fmt.Sprintf("status.git.confirm is %+v", asks)
		}
		return ""
	})
	acme.hasPorts("web0", 80)
	b.annotate(acme.tenantObject(), v1alpha1.AnnotationConfirm, removal.String())
	acme.decided()
	eventually(t, "they are gone", func() string {
		if acme.lb("web0") != nil || acme.tenantObject().Annotations[v1alpha1.AnnotationConfirm] != "" {
			return "not yet"
		}
		return ""
	})
	acme.becomes("Succeeded")
	if !strings.Contains(b.git.native(b.git.bare, "log", "--format=%B", "base/main"), repo.TrailerConfirms+": "+removal.String()) {
		t.Error("base/main does not record the confirmation")
	}
}

func TestRemovalsThatTheTenantVouchesForPass(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.many(8))
	acme.hasPorts("web7", 87)
	acme.settled()
	b.halt() // so that both commits are met together
	acme.push(map[string]repo.Object{acme.path("web0"): nil, acme.path("web1"): nil}, git.Trailer{Key: repo.TrailerDeletes, Value: "2"})
	acme.push(acme.without(7), git.Trailer{Key: repo.TrailerDeletes, Value: "5"})
	b.start()
	acme.decided()
	eventually(t, "they are gone", func() string {
		if acme.lb("web0") != nil || acme.lb("web6") != nil {
			return "not yet"
		}
		return ""
	})
	acme.hasPorts("web7", 87)
}

func TestAMissingIntentBranchRemovesNothing(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	main := b.git.head("main")
	b.git.native(b.git.bare, "update-ref", "-d", repo.IntentRef(acme.name))
	b.look()
	b.restart()
	b.look()
	acme.hasPorts("web", 80)
	if b.git.head("main") != main {
		t.Error("main moved")
	}
}

func TestAnotherClusterMustBeConfirmed(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	b.git.native(b.git.bare, "update-ref", "-d", repo.IntentRef(acme.name))
	acme.tip, acme.cluster, acme.store = git.Hash{}, clusterOf("another"), git.NewStore()
	tip := acme.push(acme.whole("web", 90))
	acme.becomes(v1alpha1.ReasonForeignCluster)
	acme.hasPorts("web", 80)
	b.annotate(acme.tenantObject(), v1alpha1.AnnotationConfirm, tip.String())
	acme.decided()
	acme.hasPorts("web", 90)
}

func TestOnlyAllowedSignersCount(t *testing.T) {
	b := newBench(t)
	acme, globex := b.tenant("acme"), b.tenant("globex")
	tenant := acme.tenantObject()
	tenant.Spec.Git.AllowedSigners = []string{acme.signer.PublicKey().String()}
	must(t, b.client.Update(t.Context(), tenant))
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.signer = globex.signer
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 666)})
	acme.becomes(v1alpha1.ReasonUntrusted)
	acme.hasPorts("web", 80)
	globex.push(globex.whole("web", 90))
	globex.hasPorts("web", 90)
}

func TestAFolderWaitsForItsTenant(t *testing.T) {
	b := newBench(t)
	acme := b.actor("acme")
	b.look()
	ada := b.git.clone()
	content, err := repo.Encode(acme.balancer("web", 80))
	must(t, err)
	ada.write(acme.path("web"), string(content))
	ada.push("By hand")
	eventually(t, "the problem", func() string {
		for _, p := range b.gitSource().Status.Problems {
			if p.Path == repo.TenantDir(acme.name) && p.Reason == v1alpha1.ReasonTenantMissing {
				return ""
			}
		}
		return fmt.Sprintf("%+v", b.gitSource().Status.Problems)
	})
	b.makeTenant(acme.name)
	b.look()
	b.makeNamespace(acme.name)
	acme.hasPorts("web", 80)
	eventually(t, "the problem ends", func() string {
		if n := b.gitSource().Status.ProblemCount; n != 0 {
			return fmt.Sprint(n)
		}
		return ""
	})
}

func TestWhatAnotherGitSourceAppliedIsLeftAlone(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	theirs := acme.balancer("web", 90)
	theirs.Labels[v1alpha1.LabelSource] = "kubelb.other"
	must(t, b.client.Create(t.Context(), theirs))
	edits := acme.whole("web", 80)
	edits[acme.path("api")] = acme.balancer("api", 81)
	acme.push(edits)
	acme.hasPorts("api", 81)
	eventually(t, "the problem", func() string {
		for _, p := range acme.state().Status.Problems {
			if p.Path == acme.path("web") && p.Reason == reasonClaimed {
				return ""
			}
		}
		return fmt.Sprintf("%+v", acme.state().Status.Problems)
	})
	acme.hasPorts("web", 90)
}

func TestApplyDisabledLeavesApplyingToOthers(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	source := b.gitSource()
	source.Spec.Apply = v1alpha1.ApplyDisabled
	must(t, b.client.Update(t.Context(), source))
	b.start()
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.decided()
	if acme.lb("web") != nil {
		t.Error("it was applied")
	}
	if b.git.show("main", acme.path("web")) == "" {
		t.Error("it was not integrated")
	}
}

func TestCredentialsComeFromTheSecret(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	b.git.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "hub" && password == "right" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return true
	})
	source := b.gitSource()
	source.Spec.SecretRef = &v1alpha1.LocalReference{Name: b.source}
	must(t, b.client.Update(t.Context(), source))
	b.start()
	b.reason(v1alpha1.ReasonAuthFailed)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source},
		StringData: map[string]string{"username": "hub", "password": "wrong"},
	}
	must(t, b.client.Create(t.Context(), secret))
	b.look()
	b.reason(v1alpha1.ReasonAuthFailed)
	secret.StringData = map[string]string{"password": "right"}
	must(t, b.client.Update(t.Context(), secret))
	b.reason("Succeeded")
	for _, c := range b.gitSource().Status.Conditions {
		if strings.Contains(c.Message, "wrong") || strings.Contains(c.Message, "right") {
			t.Errorf("the condition holds a password: %s", c.Message)
		}
	}
}
