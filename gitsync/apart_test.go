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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// poison puts a commit on one of the tenant's branches whose pack no reader of
// limited memory can take: a difference to a file of 9 MiB. It is 200 KiB.
func (a *actor) poison(branch, salt string) {
	a.t.Helper()
	c := a.own.clone()
	c.git("fetch", "-q", "origin", "refs/heads/"+branch)
	c.git("checkout", "-q", "FETCH_HEAD")
	var text strings.Builder
	block := strings.Repeat("0123456789abcdef", 256)
	for i := 0; text.Len() < 9<<20; i++ {
		fmt.Fprintf(&text, "%s %d\n%s", salt, i, block)
	}
	c.write("a", text.String())
	c.write("b", text.String()+"x")
	c.git("add", "-A")
	c.git("commit", "-q", "-m", "Two files of 9 MiB")
	c.git("push", "-q", "origin", "HEAD:refs/heads/"+branch)
}

func (a *actor) toldOf(reason string) {
	a.t.Helper()
	eventually(a.t, "the tenant is told", func() string {
		for _, p := range a.problems() {
			if p.Reason == reason && strings.Contains(p.Message, "cannot be fetched") {
				return ""
			}
		}
		return fmt.Sprintf("problems are %v", a.problems())
	})
}

// What one tenant's branch holds keeps no other's from being fetched, and a hub
// that starts finds the same.
func TestWhatCannotBeFetchedOfOneTenantStopsNobodyElse(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprintf("shared %v", shared), func(t *testing.T) {
			b := newBench(t)
			evil, neighbour := b.tenant("evil"), b.tenant("neighbour")
			if !shared { // both in one repository of theirs, beside main's
				evil = b.apart("evil2")
				neighbour = b.actor("neighbour2")
				must(t, b.client.Create(t.Context(), &v1alpha1.Tenant{
					ObjectMeta: metav1.ObjectMeta{Name: neighbour.name}, Spec: v1alpha1.TenantSpec{Git: evil.tenantObject().Spec.Git},
				}))
				b.makeNamespace(neighbour.name)
				neighbour.meetAt(evil.own, evil.ownSource)
			}
			for _, a := range []*actor{evil, neighbour} {
				a.push(a.whole("web", 80))
				a.hasPorts("web", 80)
				a.settled()
			}
			port := int32(80)
			neighbours := func() {
				t.Helper()
				port++
				neighbour.push(map[string]repo.Object{neighbour.path("web"): neighbour.balancer("web", port)})
				neighbour.hasPorts("web", port)
				neighbour.settled()
				neighbour.told(neighbour.statePath(), neighbour.tip.String())
			}
			evil.poison("intent/"+evil.name, "first")
			neighbours()
			evil.toldOf(repo.ReasonMalformed)
			evil.told(evil.statePath(), "cannot be fetched")
			evil.hasPorts("web", 80)
			b.restart()
			neighbours()
			evil.toldOf(repo.ReasonMalformed)
			evil.hasPorts("web", 80)
			if got := b.gitSource().Status.Conditions; len(got) == 0 || got[0].Status != "True" {
				t.Errorf("GitSource: %v", got)
			}
			// Another commit on top is no better; the neighbour does not wait for it.
			evil.poison("intent/"+evil.name, "again")
			neighbours()
			evil.toldOf(repo.ReasonMalformed)

			evil.own.native(evil.own.bare, "update-ref", "refs/heads/intent/"+evil.name, evil.tip.String())
			evil.push(map[string]repo.Object{evil.path("web"): evil.balancer("web", 443)})
			evil.hasPorts("web", 443)
			evil.settled()
			if got := evil.problems(); len(got) != 0 {
				t.Errorf("problems are left: %v", got)
			}
		})
	}
}

// Branches that only the hub writes are written over, and a review that cannot be
// read waits for people.
func TestAHubsBranchThatCannotBeFetchedIsWrittenOver(t *testing.T) {
	b := newBench(t)
	evil, neighbour := b.tenant("evil"), b.tenant("neighbour")
	for _, a := range []*actor{evil, neighbour} {
		a.push(a.whole("web", 80))
		a.hasPorts("web", 80)
		a.settled()
	}
	before := counted(t, renewals.WithLabelValues(hubNamespace+"/"+b.source))
	evil.poison("status/"+evil.name, "")
	eventually(t, "the status branch is the hub's again", func() string {
		if text := b.git.show("status/"+evil.name, evil.statePath()); !strings.Contains(text, evil.tip.String()) || b.git.show("status/"+evil.name, "a") != "" {
			return "it is not"
		}
		return ""
	})
	neighbour.push(map[string]repo.Object{neighbour.path("web"): neighbour.balancer("web", 443)})
	neighbour.hasPorts("web", 443)
	neighbour.settled()
	if now := counted(t, renewals.WithLabelValues(hubNamespace+"/"+b.source)); now != before {
		t.Errorf("the copy of the repository was read anew %v times", now-before)
	}
}

// A tenant whose branches cannot be fetched can be deleted all the same.
func TestATenantThatCannotBeFetchedIsArchived(t *testing.T) {
	b := newBench(t)
	evil := b.tenant("evil")
	evil.push(evil.whole("web", 80))
	evil.hasPorts("web", 80)
	evil.settled()
	evil.poison("intent/"+evil.name, "again")
	evil.toldOf(repo.ReasonMalformed)
	poisoned := b.git.head("intent/" + evil.name)
	evil.finalize(controllerutil.AddFinalizer)
	must(t, b.client.Delete(t.Context(), evil.tenantObject()))
	evil.drain()
	evil.gone()
	if all := b.git.all(); !strings.Contains(all, poisoned) {
		t.Errorf("the branch is not archived: %s", all)
	}
}
