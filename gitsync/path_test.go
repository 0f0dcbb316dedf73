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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
)

func TestAnIntentBecomesAnObjectAndAnAnswer(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	lb := acme.hasPorts("web", 80)
	acme.decided()

	if b.git.show("main", acme.path("web")) == "" || b.git.show("base/main", acme.path("web")) == "" {
		t.Error("main and base/main do not both have the document")
	}
	subjects := b.git.native(b.git.bare, "log", "--format=%an|%cn|%s", "main")
	if !strings.Contains(subjects, "kubelb-ccm "+acme.name+"|"+committerName+"|"+acme.name+": Service shop/web created") {
		t.Errorf("no commit in the user's words, by the tenant:\n%s", subjects)
	}
	if got := revisionOf(lb); got != b.git.native(b.git.bare, "log", "-1", "--format=%H", "main", "--", acme.path("web")) {
		t.Errorf("revision %s is not the commit that changed the file", got)
	}
	status := repo.StatusRef(acme.name)
	eventually(t, "the status branch", func() string {
		state := b.git.show(status, repo.TenantDir(acme.name)+"/tenantstate.yaml")
		if !strings.Contains(state, acme.tip.String()) || !strings.Contains(state, "repositoryID: "+repositoryID) {
			return "tenantstate.yaml is\n" + state
		}
		if file := b.git.show(status, acme.path("web")); !strings.Contains(file, "kind: LoadBalancer") || strings.Contains(file, "revision") {
			return "the load balancer's file is\n" + file
		}
		return ""
	})
}
