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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestADeletedIntentIsGoneEverywhere(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.push(acme.whole("api", 81))
	acme.hasPorts("web", 80)
	acme.hasPorts("api", 81)
	acme.push(map[string]repo.Object{acme.path("web"): nil, acme.backendPath("web"): nil})
	acme.decided()
	status := repo.StatusRef(acme.name)
	eventually(t, "web is gone", func() string {
		for _, branch := range []string{"main", "base/main", status} {
			if b.git.show(branch, acme.path("web")) != "" {
				return "not from " + branch
			}
		}
		if acme.lb("web") != nil {
			return "not from the hub"
		}
		return ""
	})
	acme.hasPorts("api", 81)
}

func TestARevertOnMainIsHeldWithCommitAndAuthor(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443)})
	acme.hasPorts("web", 80, 443)

	ada := b.git.clone()
	ada.git("revert", "--no-edit", "HEAD")
	ada.publish()
	revert := ada.git("rev-parse", "HEAD")
	acme.hasPorts("web", 80)
	held := func(lb *v1alpha1.LoadBalancer) string {
		if lb.Status.Git == nil || len(lb.Status.Git.Held) != 1 {
			return fmt.Sprintf("status.git is %+v", lb.Status.Git)
		}
		if h := lb.Status.Git.Held[0]; h.Commit != revert || h.Author != "Ada" || h.Field == "" {
			return fmt.Sprintf("held is %+v, want commit %s by Ada", h, revert)
		}
		if got := revisionOf(lb); got != revert {
			return "revision is " + got
		}
		return ""
	}
	eventually(t, "the load balancer is held", func() string { return held(acme.lb("web")) })
	eventually(t, "the tenant is told", func() string {
		if !strings.Contains(b.git.show(repo.StatusRef(acme.name), repo.TenantDir(acme.name)+"/tenantstate.yaml"), "author: Ada") {
			return "its tenantstate.yaml does not say so"
		}
		return ""
	})

	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 80, 443, 8080)})
	acme.decided()
	acme.hasPorts("web", 80, 8080)

	content, err := repo.Encode(acme.balancer("web", 80, 443, 8080))
	must(t, err)
	ada.pull()
	ada.write(acme.path("web"), string(content))
	ada.push("Let it follow again")
	acme.hasPorts("web", 80, 443, 8080)
	eventually(t, "the hold ends", func() string {
		if git := acme.lb("web").Status.Git; git != nil {
			return fmt.Sprintf("status.git is %+v", git)
		}
		return ""
	})
}

func TestAnEditOnMainIsAppliedAndHeld(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	ada := b.git.clone()
	ada.write(acme.path("web"), ada.read(acme.path("web"))+"  loadBalancerSourceRanges: [192.0.2.0/24]\n")
	edit := ada.push("Only our network")
	eventually(t, "the edit", func() string {
		lb := acme.lb("web")
		if len(lb.Spec.LoadBalancerSourceRanges) != 1 {
			return "is not applied"
		}
		if lb.Status.Git == nil || len(lb.Status.Git.Held) != 1 || lb.Status.Git.Held[0].Commit != edit {
			return fmt.Sprintf("is not held: %+v", lb.Status.Git)
		}
		return ""
	})
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 8080)})
	acme.hasPorts("web", 8080)
	if len(acme.lb("web").Spec.LoadBalancerSourceRanges) != 1 {
		t.Error("the tenant's next change removed the edit")
	}
}

func TestBadFilesOnMainAreProblemsAndNeverApplied(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	ada := b.git.clone()
	dir := repo.TenantDir(acme.name)
	ada.write(acme.path("web"), strings.Replace(ada.read(acme.path("web")), "kind: LoadBalancer", "kind: Secret", 1))
	ada.write(dir+"/secrets/shop/web.secret.yaml", "apiVersion: v1\nkind: Secret\n")
	ada.write(dir+"/loadbalancers/shop/two.service.yaml", "a: 1\n---\nb: 2\n")
	ada.write(dir+"/loadbalancers/shop/binary.service.yaml", "\xff\xfe\x00")
	ada.git("config", "core.symlinks", "true")
	ada.git("update-index", "--add", "--cacheinfo", "120000,"+ada.git("hash-object", "-w", "README.md")+","+dir+"/loadbalancers/shop/link.service.yaml")
	good := acme.balancer("good", 90)
	content, err := repo.Encode(good)
	must(t, err)
	ada.write(acme.path("good"), string(content))
	ada.git("add", dir+"/loadbalancers/shop/web.service.yaml", dir+"/secrets", dir+"/loadbalancers/shop/two.service.yaml", dir+"/loadbalancers/shop/binary.service.yaml", acme.path("good"))
	ada.git("commit", "-q", "-m", "Break some things")
	ada.publish()

	acme.hasPorts("good", 90)
	want := []string{"web.service.yaml", "secrets/shop/web.secret.yaml", "two.service.yaml", "binary.service.yaml", "link.service.yaml"}
	eventually(t, "the problems", func() string {
		problems := acme.state().Status.Problems
		for _, path := range want {
			found := false
			for _, p := range problems {
				found = found || strings.HasSuffix(p.Path, path) && p.Remedy != ""
			}
			if !found {
				return fmt.Sprintf("none for %s in %+v", path, problems)
			}
		}
		return ""
	})
	acme.hasPorts("web", 80)
	for _, name := range []string{"two", "binary", "link"} {
		if acme.lb(name) != nil {
			t.Errorf("%s was applied", name)
		}
	}

	bob := b.git.clone()
	bob.git("revert", "--no-edit", "HEAD")
	bob.publish()
	eventually(t, "the problems end", func() string {
		if problems := acme.state().Status.Problems; len(problems) > 0 {
			return fmt.Sprintf("%+v", problems)
		}
		return ""
	})
	acme.hasPorts("web", 80)
}

func TestTenantsWithTheSameNamesDoNotMeet(t *testing.T) {
	b := newBench(t)
	acme, globex := b.tenant("acme"), b.tenant("globex")
	acme.push(acme.whole("web", 80))
	globex.push(globex.whole("web", 90))
	acme.hasPorts("web", 80)
	globex.hasPorts("web", 90)

	// A tenant that writes into another one's folder changes nothing there.
	evil := globex.balancer("web", 666)
	evil.Namespace = v1alpha1.TenantNamespace(acme.name)
	globex.push(map[string]repo.Object{acme.path("web"): evil})
	globex.decided()
	acme.hasPorts("web", 80)

	globex.push(map[string]repo.Object{globex.path("web"): nil})
	eventually(t, "globex's is gone", func() string {
		if globex.lb("web") != nil {
			return "it is there"
		}
		return ""
	})
	acme.hasPorts("web", 80)
}

func TestHandEditsInTheHubArePutBack(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	lb := acme.hasPorts("web", 80)
	uid := lb.UID

	by := client.FieldOwner("kubectl-edit")
	lb.Spec.Ports[0].Port = 8080
	lb.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"}
	lb.Annotations[v1alpha1.AnnotationProxyProtocol] = "v2"
	lb.Annotations["example.com/note"] = "mine"
	must(t, b.client.Update(t.Context(), lb, by))
	eventually(t, "the edit is put back", func() string {
		lb := acme.lb("web")
		if lb.Spec.Ports[0].Port != 80 || len(lb.Spec.LoadBalancerSourceRanges) > 0 || lb.Annotations[v1alpha1.AnnotationProxyProtocol] != "" {
			return fmt.Sprintf("%+v %v", lb.Spec, lb.Annotations)
		}
		return ""
	})
	if acme.lb("web").Annotations["example.com/note"] != "mine" {
		t.Error("an annotation without meaning was removed")
	}

	must(t, b.client.Delete(t.Context(), acme.lb("web")))
	eventually(t, "it is made again", func() string {
		if lb := acme.lb("web"); lb == nil || lb.UID == uid {
			return "it is not"
		}
		return ""
	})

	var tenant v1alpha1.Tenant
	must(t, b.client.Get(t.Context(), client.ObjectKey{Name: acme.name}, &tenant))
	tenant.Spec.Suspend = true
	must(t, b.client.Update(t.Context(), &tenant))
	eventually(t, "the suspension is seen", func() string {
		if acme.ready() != v1alpha1.ReasonSuspended {
			return acme.ready()
		}
		return ""
	})
	lb = acme.lb("web")
	lb.Spec.Ports[0].Port = 8080
	must(t, b.client.Update(t.Context(), lb, by))
	b.look()
	acme.hasPorts("web", 8080)
	must(t, b.client.Get(t.Context(), client.ObjectKey{Name: acme.name}, &tenant))
	tenant.Spec.Suspend = false
	must(t, b.client.Update(t.Context(), &tenant))
	acme.hasPorts("web", 80)
}

func TestRemovalsByPeopleAreGuarded(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	edits := acme.whole("web0", 80)
	for i := range 8 {
		edits[acme.path(fmt.Sprintf("web%d", i))] = acme.balancer(fmt.Sprintf("web%d", i), int32(80+i))
	}
	acme.push(edits)
	acme.hasPorts("web7", 87)

	ada := b.git.clone()
	for i := range 7 {
		ada.git("rm", "-q", acme.path(fmt.Sprintf("web%d", i)))
	}
	removal := ada.push("Clean up")
	eventually(t, "the guard", func() string {
		if acme.ready() != v1alpha1.ReasonApplyGuarded {
			return acme.ready()
		}
		return ""
	})
	for i := range 8 {
		acme.hasPorts(fmt.Sprintf("web%d", i), int32(80+i))
	}
	b.restart()
	b.look()
	acme.hasPorts("web0", 80)

	var tenant v1alpha1.Tenant
	must(t, b.client.Get(t.Context(), client.ObjectKey{Name: acme.name}, &tenant))
	b.annotate(&tenant, v1alpha1.AnnotationConfirm, removal)
	eventually(t, "the confirmed removal", func() string {
		for i := range 7 {
			if acme.lb(fmt.Sprintf("web%d", i)) != nil {
				return fmt.Sprintf("web%d is there", i)
			}
		}
		must(t, b.client.Get(t.Context(), client.ObjectKey{Name: acme.name}, &tenant))
		if tenant.Annotations[v1alpha1.AnnotationConfirm] != "" {
			return "the annotation stays"
		}
		return ""
	})
	acme.hasPorts("web7", 87)
}

// A hub that dies before it carried out what was confirmed needs no second
// confirmation.
func TestAConfirmationOutlivesAHubThatDies(t *testing.T) {
	s := newStepper(t)
	acme := s.tenant("acme")
	acme.push(acme.many(8))
	s.run(0, "")
	ada := s.git.clone()
	for i := range 7 {
		ada.git("rm", "-q", acme.path(fmt.Sprintf("web%d", i)))
	}
	removal := ada.push("Clean up")
	s.run(0, "")
	if acme.ready() != v1alpha1.ReasonApplyGuarded {
		t.Fatalf("the removals are not guarded: %s", acme.ready())
	}
	s.annotate(acme.tenantObject(), v1alpha1.AnnotationConfirm, removal)
	for at := 1; ; at++ {
		s.run(at, killed)
		where, cut := s.cut.happened()
		if !cut {
			t.Fatal("nothing was removed")
		}
		if strings.HasPrefix(where, "delete ") {
			break
		}
	}
	s.run(0, "")
	for i := range 7 {
		if name := fmt.Sprintf("web%d", i); acme.lb(name) != nil {
			t.Errorf("%s is there: %s", name, acme.ready())
		}
	}
	if left := acme.tenantObject().Annotations[v1alpha1.AnnotationConfirm]; left != "" {
		t.Errorf("the annotation %s stays", left)
	}
}

// ready returns the reason of a tenant's condition Ready.
func (a *actor) ready() string {
	for _, c := range a.state().Status.Conditions {
		if c.Type == "Ready" {
			return c.Reason
		}
	}
	return "none"
}

// look has the loop look at the repository and waits until it has.
func (b *bench) look() {
	b.t.Helper()
	b.looks++
	token := fmt.Sprintf("%s-%d", b.prefix, b.looks)
	b.annotate(b.gitSource(), v1alpha1.AnnotationReconcile, token)
	eventually(b.t, "a look at the repository", func() string {
		if got := b.gitSource().Status.LastHandledReconcileAt; got != token {
			return "the last one was " + got
		}
		return ""
	})
}
