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

package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTenantsThatCannotReadEachOther(t *testing.T) {
	s := newScene(t)
	const first, second = "apart", "alone"
	own, err := system.AddTenantApart(s.ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := system.AddTenantApart(s.ctx, second); err != nil {
		t.Fatal(err)
	}
	web := s.app("web")
	address, other := s.up(first, web), s.up(second, web)
	s.answers(address, 8080, web)
	s.answers(other, 8080, web)
	if refs := s.git("for-each-ref", "refs/heads/intent/"+first, "refs/heads/status/"+first); refs != "" {
		t.Errorf("the fleet's repository has %s", refs)
	}
	refs, err := own.Git(s.ctx, "for-each-ref", "--format=%(refname)")
	if err != nil {
		t.Fatal(err)
	}
	if want := "refs/heads/intent/" + first + "\nrefs/heads/status/" + first; refs != want {
		t.Errorf("the tenant's repository has %q, want %q", refs, want)
	}
	if files, err := own.Git(s.ctx, "grep", "-l", "tenant-"+second, "status/"+first); err == nil {
		t.Errorf("the tenant can read of the other one in %s", files)
	}

	s.edit(first, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, web)
	ada := s.person("ada")
	ada.git("revert", "--no-edit", ada.git("log", "-1", "--format=%H", "--", s.path(first, "web")))
	ada.push()
	s.answers(address, 8080, web)
	s.closed(address, 9090)
	s.serviceCondition(first, "web", "Held", metav1.ConditionTrue, "ada")
	s.answers(other, 8080, web)

	s.does([]string{"intentSourceRef:", "name: intents-" + first, "--git-url\n        - " + own.URL()},
		"tenant", "add", "another", "--intent-source", "intents-"+first, "--dry-run")
	if out, code := s.ctl("tenant", "add", "another", "--intent-source", "intents-another", "--dry-run"); code != 1 || !strings.Contains(out, "no GitSource intents-another") {
		t.Errorf("a source that there is not: exit %d\n%s", code, out)
	}
}
