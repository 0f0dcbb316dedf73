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
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/report"
	"github.com/kubelb/gitops/gitsync/webhook"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pushes reports whether a request pushes to a ref, and leaves its body readable.
func pushesTo(r *http.Request, ref string) bool {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/git-receive-pack") {
		return false
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return bytes.Contains(body[:min(len(body), 2000)], []byte(" "+ref))
}

// objects are everything that was applied for a tenant.
func (a *actor) objects() (objects []repo.Object) {
	a.t.Helper()
	for _, list := range []client.ObjectList{&v1alpha1.LoadBalancerList{}, &v1alpha1.AddressesList{}, &v1alpha1.BackendList{}} {
		must(a.t, a.client.List(a.t.Context(), list, client.InNamespace(v1alpha1.TenantNamespace(a.name))))
		objects = append(objects, objectsOf(list)...)
	}
	return objects
}

// versions are the resource versions of everything that the loop writes for a tenant.
func (a *actor) versions() string {
	a.t.Helper()
	var out []string
	for _, object := range append(a.objects(), a.state()) {
		out = append(out, object.GetName()+"@"+object.GetResourceVersion())
	}
	return strings.Join(out, " ")
}

// settled waits until the tenant has been told everything.
func (a *actor) settled() {
	a.t.Helper()
	a.decided()
	eventually(a.t, "everything is told", func() string {
		for _, object := range append(a.objects(), a.state()) {
			path, content, err := report.File(object)
			must(a.t, err)
			if a.own.show(repo.StatusRef(a.name), path) != string(content) {
				return path + " is not"
			}
			if object.GetName() != v1alpha1.DefaultName && revisionOf(object) == "" {
				return path + " has no revision"
			}
		}
		return ""
	})
	a.look()
}

// TestWhatIsAsAskedForHasNoStatusOfGitsync holds the cost of an object: it is
// applied, and no second write says what the first one did.
func TestWhatIsAsAskedForHasNoStatusOfGitsync(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	b.look()
	objects := acme.objects()
	if len(objects) != 3 {
		t.Fatalf("%d objects", len(objects))
	}
	for _, object := range objects {
		for _, m := range object.GetManagedFields() {
			if m.Manager == fieldManager && m.Subresource != "" {
				t.Errorf("%s: %s wrote %s", object.GetName(), m.Manager, m.FieldsV1)
			}
		}
	}
}

func TestNothingIsWrittenWhenNothingChanged(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	refs, versions := b.git.all(), acme.versions()
	for range 5 {
		b.look()
	}
	b.restart()
	for range 3 {
		b.look()
	}
	if now := b.git.all(); now != refs {
		t.Errorf("refs moved:\n%s\n%s", refs, now)
	}
	if now := acme.versions(); now != versions {
		t.Errorf("objects were written:\n%s\n%s", versions, now)
	}
}

func TestAPushInBetweenIsNeverLost(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	ada := b.git.clone()
	ada.write("README.md", "changed\n")
	ada.git("commit", "-q", "-am", "In between")
	var raced atomic.Bool
	b.git.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if pushesTo(r, repo.Main) && raced.CompareAndSwap(false, true) {
			if out, err := b.git.try(ada.dir, "push", "-q", "origin", "HEAD:main"); err != nil {
				t.Errorf("push in between: %v: %s", err, out)
			}
		}
		return false
	})
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 8080)})
	acme.hasPorts("web", 8080)
	if !raced.Load() {
		t.Fatal("there was no race")
	}
	if b.git.show("main", "README.md") != "changed\n" {
		t.Error("the person's change is lost")
	}
}

func TestAHubKilledBetweenBaseAndMainGoesOn(t *testing.T) {
	b := newIdleBench(t)
	b.git.native(b.git.bare, "config", "receive.advertiseAtomic", "false")
	b.initMain()
	b.start()
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	var refused atomic.Bool
	b.git.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if pushesTo(r, repo.Main) {
			refused.Store(true)
			http.Error(w, "killed", http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	base := b.git.head("base/main")
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 8080)})
	eventually(t, "base is ahead of main", func() string {
		if !refused.Load() || b.git.head("base/main") == base {
			return "it is not"
		}
		return ""
	})
	b.halt()
	b.git.intercept(nil)
	// Meanwhile a person edits the same document.
	ada := b.git.clone()
	ada.write(acme.path("web"), ada.read(acme.path("web"))+"  loadBalancerSourceRanges: [192.0.2.0/24]\n")
	ada.push("Only our network")
	b.start()
	acme.hasPorts("web", 8080)
	acme.decided()
	if len(acme.lb("web").Spec.LoadBalancerSourceRanges) != 1 {
		t.Error("the person's edit is lost")
	}
}

func TestAPushOfUnknownOutcomeIsLookedAt(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	commits := b.git.count("main")
	var cut atomic.Bool
	b.git.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !pushesTo(r, repo.Main) || !cut.CompareAndSwap(false, true) {
			return false
		}
		b.git.backend.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 8080)})
	acme.hasPorts("web", 8080)
	acme.decided()
	if !cut.Load() || b.git.count("main") != fmt.Sprint(atoi(commits)+1) {
		t.Errorf("main has %s commits after %s", b.git.count("main"), commits)
	}
}

func atoi(text string) (n int) {
	_, _ = fmt.Sscan(text, &n)
	return n
}

func TestARewrittenMainStopsEverythingUntilItIsAccepted(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	ada := b.git.clone()
	ada.git("checkout", "-q", "--orphan", "new")
	ada.write(acme.path("web"), strings.Replace(ada.read(acme.path("web")), "port: 80\n", "port: 81\n", 1))
	ada.git("add", "-A")
	ada.git("commit", "-q", "-m", "History begins anew")
	ada.git("push", "-q", "-f", "origin", "HEAD:main")
	rewritten := ada.git("rev-parse", "HEAD")
	b.reason(v1alpha1.ReasonMainRewritten)
	if got := b.gitSource().Status.AcceptRewrite; got != rewritten {
		t.Errorf("status.acceptRewrite is %q, want %s", got, rewritten)
	}
	acme.push(map[string]repo.Object{acme.path("api"): acme.balancer("api", 90)})
	b.look()
	acme.hasPorts("web", 80)
	if acme.lb("api") != nil || b.git.head("main") != rewritten {
		t.Fatal("something was integrated or applied")
	}
	b.restart()
	b.look()
	acme.hasPorts("web", 80)

	b.annotate(b.gitSource(), v1alpha1.AnnotationAcceptRewrite, rewritten)
	b.reason("Succeeded")
	if got := b.gitSource().Status.AcceptRewrite; got != "" {
		t.Errorf("status.acceptRewrite is still %s", got)
	}
	acme.hasPorts("api", 90)
	acme.hasPorts("web", 81)
	eventually(t, "the difference is held", func() string {
		if lb := acme.lb("web"); lb.Status.Git == nil || len(lb.Status.Git.Held) == 0 {
			return fmt.Sprintf("status.git is %+v", lb.Status.Git)
		}
		if b.gitSource().Annotations[v1alpha1.AnnotationAcceptRewrite] != "" {
			return "the annotation stays"
		}
		return ""
	})
	if !strings.Contains(b.git.native(b.git.bare, "log", "--format=%B", "base/main"), repo.TrailerAccepts+": "+rewritten) {
		t.Error("base/main does not record it")
	}
}

func TestGitAwayAndBack(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	b.git.away(true)
	b.reason(v1alpha1.ReasonGitUnavailable)
	for _, c := range b.gitSource().Status.Conditions {
		if c.Type == "Ready" && !strings.Contains(c.Message, b.git.url) {
			t.Errorf("the message does not name the URL: %s", c.Message)
		}
	}
	lb := acme.hasPorts("web", 80)
	lb.Spec.Ports[0].Port = 8080
	must(t, b.client.Update(t.Context(), lb, client.FieldOwner("kubectl-edit")))
	acme.hasPorts("web", 80) // put back without Git
	acme.publishAddress("web", "192.0.2.7")
	b.git.away(false)
	b.look()
	b.reason("Succeeded")
	eventually(t, "the address is told", func() string {
		if !strings.Contains(b.git.show(repo.StatusRef(acme.name), acme.path("web")), "192.0.2.7") {
			return "it is not"
		}
		return ""
	})
}

// publishAddress does what the hub does when a proxy has acknowledged.
func (a *actor) publishAddress(name, ip string) {
	a.t.Helper()
	lb := a.lb(name)
	lb.Status.Addresses = []string{ip}
	lb.Status.LoadBalancer = corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: ip}}}
	must(a.t, a.client.Status().Update(a.t.Context(), lb, client.FieldOwner(hubManager)))
}

func TestWithoutMainTheSourceIsStalled(t *testing.T) {
	b := newIdleBench(t)
	b.start()
	b.reason(v1alpha1.ReasonBranchNotFound)
	b.initMain()
	b.reason("Succeeded")
	if b.git.head("base/main") == "" {
		t.Error("there is no base")
	}
	if parents := b.git.native(b.git.bare, "log", "-1", "--format=%P", "base/main"); parents != "" {
		t.Errorf("the first base has parents %s", parents)
	}
}

func TestARefusedPushSaysWhy(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	b.look()
	b.git.hook("update", `case "$1" in refs/heads/main) echo "main is protected" >&2; exit 1;; esac`)
	acme.push(acme.whole("web", 80))
	eventually(t, "the condition", func() string {
		for _, c := range b.gitSource().Status.Conditions {
			if c.Type == "Ready" && c.Reason == v1alpha1.ReasonPushFailed && strings.Contains(c.Message, "main is protected") {
				return ""
			}
		}
		return fmt.Sprintf("%+v", b.gitSource().Status.Conditions)
	})
	b.git.hook("update", "exit 0")
	acme.hasPorts("web", 80)
}

func TestARebuiltHubGetsItsAddressesBack(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.publishAddress("web", "192.0.2.7")
	eventually(t, "the address is told", func() string {
		if !strings.Contains(b.git.show(repo.StatusRef(acme.name), acme.path("web")), "192.0.2.7") {
			return "it is not"
		}
		return ""
	})
	b.halt()
	ctx := t.Context()
	namespace := client.InNamespace(v1alpha1.TenantNamespace(acme.name))
	for _, object := range append(appliedKinds(), &v1alpha1.TenantState{}) {
		must(t, b.client.DeleteAllOf(ctx, object, namespace))
	}
	must(t, b.client.Create(ctx, &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.TenantNamespace(acme.name), Name: v1alpha1.DefaultName}}))
	b.start()
	eventually(t, "the tenant is restored", func() string {
		for _, c := range acme.state().Status.Conditions {
			if c.Type == v1alpha1.ConditionRestored && c.Status == metav1.ConditionTrue {
				return ""
			}
		}
		return fmt.Sprintf("%+v", acme.state().Status.Conditions)
	})
	lb := acme.lb("web")
	if lb == nil || len(lb.Status.Addresses) != 1 || lb.Status.Addresses[0] != "192.0.2.7" || len(lb.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("restored %+v", lb)
	}
}

func TestAStatusBranchOfAnotherKeyIsNotTrusted(t *testing.T) {
	b := newBench(t)
	acme := b.actor("acme")
	stranger := &actor{bench: b, name: acme.name, store: acme.store, remote: acme.remote}
	tree, err := stranger.store.Edit(git.Hash{}, map[string][]byte{"x": []byte("x")})
	must(t, err)
	tip, err := stranger.store.NewCommit(git.CommitSpec{Tree: tree, Message: "forged", Author: git.Ident{Name: "x", Email: "x", When: time.Unix(1, 0)}})
	must(t, err)
	other := repo.StatusRef("nobody-of-ours")
	for _, ref := range []string{repo.StatusRef(acme.name), other} {
		_, err = stranger.remote.Push(t.Context(), stranger.store, []git.RefUpdate{{Name: ref, New: tip}}, false)
		must(t, err)
	}
	b.makeTenant(acme.name)
	b.makeNamespace(acme.name)
	eventually(t, "the tenant is not restored", func() string {
		for _, c := range acme.state().Status.Conditions {
			if c.Type == v1alpha1.ConditionRestored && c.Reason == reasonForeignKey {
				return ""
			}
		}
		return fmt.Sprintf("%+v", acme.state().Status.Conditions)
	})
	b.git.native(b.git.bare, "update-ref", "-d", repo.StatusRef(acme.name))
	eventually(t, "the tenant is told of itself", func() string {
		if head := b.git.head("status/" + acme.name); head == "" || head == tip.String() {
			return "it is not"
		}
		return ""
	})
	if b.git.native(b.git.bare, "rev-parse", other) != tip.String() {
		t.Error("the status branch of somebody else was touched")
	}
}

func TestAWebhookBringsNewsAtOnce(t *testing.T) {
	b := newIdleBench(t)
	b.initMain()
	ctx := t.Context()
	must(t, b.client.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source}, Data: map[string][]byte{"token": []byte("hmac key")},
	}))
	source := b.gitSource()
	source.Spec.Interval = metav1.Duration{Duration: time.Hour}
	source.Spec.Webhook = &v1alpha1.GitWebhook{SecretRef: v1alpha1.LocalReference{Name: b.source}}
	must(t, b.client.Update(ctx, source))
	b.start()
	acme := b.tenant("acme")
	acme.settledFirst()
	acme.push(acme.whole("web", 80))
	post := func(key string) int {
		body := []byte(`{"ref":"refs/heads/intent/acme"}`)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.hook+"/hook/"+hubNamespace+"/"+b.source, bytes.NewReader(body))
		must(t, err)
		r.Header.Set(webhook.Header, webhook.Sign([]byte(key), body))
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		must(t, resp.Body.Close())
		return resp.StatusCode
	}
	if code := post("another key"); code != http.StatusUnauthorized {
		t.Errorf("a wrong signature got %d", code)
	}
	if acme.lb("web") != nil {
		t.Fatal("the loop looked without a webhook")
	}
	if code := post("hmac key"); code != http.StatusOK {
		t.Errorf("a good signature got %d", code)
	}
	acme.hasPorts("web", 80)
}

// settledFirst waits for the tenant's first status.
func (a *actor) settledFirst() {
	a.t.Helper()
	eventually(a.t, "the first status", func() string {
		if !strings.Contains(a.own.show(repo.StatusRef(a.name), repo.TenantDir(a.name)+"/tenantstate.yaml"), repositoryID) {
			return "is missing"
		}
		return ""
	})
	a.look()
}
