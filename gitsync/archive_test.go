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
	"github.com/kubelb/gitops/gitsync/git"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// maybe is the actor's Tenant, nil if there is none.
func (a *actor) maybe() *v1alpha1.Tenant {
	a.t.Helper()
	var tenant v1alpha1.Tenant
	err := a.client.Get(a.t.Context(), client.ObjectKey{Name: a.name}, &tenant)
	if apierrors.IsNotFound(err) {
		return nil
	}
	must(a.t, err)
	return &tenant
}

// finalize adds or removes the hub's finalizer, as its Tenant controller does.
func (a *actor) finalize(change func(client.Object, string) bool) {
	a.t.Helper()
	tenant := a.maybe()
	before := tenant.DeepCopy()
	change(tenant, v1alpha1.Finalizer)
	must(a.t, a.client.Patch(a.t.Context(), tenant, client.MergeFrom(before)))
}

// drain does what the hub does with a deleted Tenant.
func (a *actor) drain() {
	a.t.Helper()
	for _, object := range append(appliedKinds(), &v1alpha1.TenantState{}) {
		must(a.t, a.client.DeleteAllOf(a.t.Context(), object, client.InNamespace(v1alpha1.TenantNamespace(a.name))))
	}
	a.finalize(controllerutil.RemoveFinalizer)
}

func (a *actor) archived(reason, words string) {
	a.t.Helper()
	eventually(a.t, "condition Archived with "+reason, func() string {
		tenant := a.maybe()
		if tenant == nil {
			return "the Tenant is gone"
		}
		c := apimeta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionArchived)
		if c == nil || c.Reason != reason || !strings.Contains(c.Message, words) {
			return fmt.Sprintf("it is %+v", c)
		}
		return ""
	})
}

func (a *actor) gone() {
	a.t.Helper()
	eventually(a.t, "the Tenant is gone", func() string {
		if tenant := a.maybe(); tenant != nil {
			return fmt.Sprintf("finalizers %v, conditions %+v", tenant.Finalizers, tenant.Status.Conditions)
		}
		return ""
	})
}

func TestADeletedTenantIsArchived(t *testing.T) {
	b := newBench(t)
	acme, other := b.tenant("acme"), b.tenant("other")
	acme.finalize(controllerutil.AddFinalizer)
	acme.push(acme.whole("web", 80))
	other.push(other.whole("web", 90))
	acme.hasPorts("web", 80)
	other.hasPorts("web", 90)
	acme.settled()
	other.settled()
	folder := b.git.native(b.git.bare, "ls-tree", "-r", "main", repo.TenantDir(acme.name))
	before := b.git.all()

	must(t, b.client.Delete(t.Context(), acme.maybe()))
	acme.archived(v1alpha1.ReasonDraining, "drained")
	if now := b.git.all(); now != before {
		t.Fatalf("something moved before the load balancers drained:\n%s\n%s", before, now)
	}
	status := b.git.head("status/" + acme.name)
	commits := b.git.count("main")
	acme.drain()
	acme.gone()

	if n := atoi(b.git.count("main")) - atoi(commits); n != 1 {
		t.Errorf("the folder left main in %d commits", n)
	}
	for _, branch := range []string{"main", "base/main"} {
		if left := b.git.native(b.git.bare, "ls-tree", "-r", "--name-only", branch, repo.TenantDir(acme.name), repo.IntegratedPath(acme.name)); left != "" {
			t.Errorf("%s still has %s", branch, left)
		}
	}
	archive := map[string]string{}
	for _, line := range strings.Split(b.git.native(b.git.bare, "for-each-ref", "--format=%(refname) %(objectname)", repo.ArchivePrefix+acme.name+"/"), "\n") {
		ref, hash, _ := strings.Cut(line, " ")
		archive[ref[strings.LastIndex(ref, "/")+1:]] = hash
	}
	if len(archive) != 2 || archive["intent"] != acme.tip.String() || archive["status"] != status {
		t.Errorf("archived %v, want intent %s and status %s", archive, acme.tip, status)
	}
	if b.git.head("intent/"+acme.name) != "" {
		t.Error("the intent branch is there")
	}
	farewell := b.git.native(b.git.bare, "ls-tree", "-r", "--name-only", "status/"+acme.name)
	if text := b.git.show("status/"+acme.name, farewell); !strings.HasSuffix(farewell, "tenantstate.yaml") || !strings.Contains(text, v1alpha1.ReasonTenantDeleted) {
		t.Errorf("the last word is in %s: %s", farewell, text)
	}
	other.hasPorts("web", 90)

	// The commit can be reverted; without a Tenant the folder is nobody's.
	ada := b.git.clone()
	ada.git("revert", "--no-edit", "HEAD")
	ada.publish()
	if back := b.git.native(b.git.bare, "ls-tree", "-r", "main", repo.TenantDir(acme.name)); back != folder {
		t.Errorf("the revert brought back %s instead of %s", back, folder)
	}
	eventually(t, "the stray folder is told of", func() string {
		for _, p := range b.gitSource().Status.Problems {
			if p.Reason == v1alpha1.ReasonTenantMissing && p.Path == repo.TenantDir(acme.name) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", b.gitSource().Status.Problems)
	})
	if acme.lb("web") != nil {
		t.Error("a stray folder was applied")
	}
	ada.git("revert", "--no-edit", "HEAD")
	ada.publish()

	// A Tenant of the same name starts cleanly, also with the CCM that goes on.
	b.makeTenant(acme.name)
	must(t, b.client.Create(t.Context(), &v1alpha1.TenantState{ObjectMeta: acme.nodes().ObjectMeta}))
	acme.tip = git.Hash{}
	acme.push(acme.whole("web", 81))
	acme.hasPorts("web", 81)
	acme.settled()
	if state := acme.state().Status; state.HeldCount+state.PendingCount+state.ProblemCount != 0 {
		t.Errorf("it begins with %+v", state)
	}
}

func TestATenantThatCannotBeArchivedSaysWhy(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.finalize(controllerutil.AddFinalizer)
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	b.git.hook("update", `case "$1" in refs/heads/archive/*) echo "no archive here" >&2; exit 1;; esac`)
	must(t, b.client.Delete(t.Context(), acme.maybe()))
	acme.drain()
	acme.archived(v1alpha1.ReasonArchiveFailed, "no archive here")
	if b.git.head("intent/"+acme.name) == "" || b.git.show("main", acme.path("web")) == "" {
		t.Error("something was removed that is not archived")
	}
	b.git.away(true)
	acme.archived(v1alpha1.ReasonGitUnavailable, b.git.url)
	b.git.away(false)
	// Only the removal of the intent branch is refused: the Tenant goes.
	b.git.hook("update", `case "$1" in refs/heads/intent/*) test "$3" != 0000000000000000000000000000000000000000;; esac`)
	acme.gone()
	if b.git.head("intent/"+acme.name) == "" {
		t.Error("the intent branch went against the server's rules")
	}
}

func TestADeletedTenantWithoutARepositoryGoes(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	must(t, b.client.Delete(t.Context(), b.gitSource()))
	must(t, b.client.Delete(t.Context(), acme.maybe()))
	acme.gone()
}
