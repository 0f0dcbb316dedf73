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
	"slices"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// series are the names of the metrics that have a label of that value.
func series(t *testing.T, label, value string) (names []string) {
	t.Helper()
	families, err := metrics.Registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value && !slices.Contains(names, family.GetName()) {
					names = append(names, family.GetName())
				}
			}
		}
	}
	return names
}

func TestAGitSourceThatIsGoneLeavesNoMetrics(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	source := hubNamespace + "/" + b.source
	if of, tenants := series(t, "gitsource", source), series(t, "tenant", acme.name); len(of) < 8 || len(tenants) < 3 {
		t.Fatalf("there are only %v and %v", of, tenants)
	}
	must(t, b.client.Delete(t.Context(), &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source}}))
	eventually(t, "nothing is left", func() string {
		if left := append(series(t, "gitsource", source), series(t, "tenant", acme.name)...); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
}

func TestATenantThatIsHandedOverKeepsItsMetrics(t *testing.T) {
	before, after := newTenant("handed-over"), newTenant("handed-over")
	before.measure()
	after.measure()
	before.unmeasure()
	if got := series(t, "tenant", "handed-over"); len(got) != 3 {
		t.Errorf("the loop that had it before took away all but %v", got)
	}
	after.unmeasure()
	if got := series(t, "tenant", "handed-over"); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
}
