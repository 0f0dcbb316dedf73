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

package repo_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// TestAFileMakesFewAndShortProblems: whatever a file of the size that is read
// holds, what is said of it fits a status.
func TestAFileMakesFewAndShortProblems(t *testing.T) {
	const path = "tenants/acme/loadbalancers/shop/web.service.yaml"
	head := "apiVersion: kubelb.k8c.io/v1alpha1\nkind: LoadBalancer\nmetadata:\n  name: shop.web\n  namespace: tenant-acme\n"
	many := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			if strings.Contains(format, "%") {
				fmt.Fprintf(&b, format, i)
			} else {
				b.WriteString(format)
			}
		}
		return b.String()
	}
	long := strings.Repeat("a", 100<<10)
	for _, c := range []struct {
		name, text string
		count      int // of problems; 0: any
	}{
		{"one key 14,000 times", head + many("k: 1\n", 14000), 1},
		{"21,000 ports without a name", head + "spec:\n  ports:\n" + many("  - port: 1\n", 21000), 16},
		{"ports out of range", head + "spec:\n  ports:\n" + many("  - {name: n%d, port: 0}\n", 9000), 16},
		{"unknown fields", head + "spec:\n" + many("  f%d: 1\n", 15000), 16},
		{"metadata that servers make", strings.TrimSuffix(head, "\n") + "\n" + many("  m%d: 1\n", 15000) + "spec: {}\n", 16},
		{"labels that are none", strings.Replace(head, "metadata:\n", "metadata:\n  labels:\n"+many("    l%d: '!'\n", 9000), 1) + "spec: {}\n", 16},
		{"addresses that are none", head + "spec:\n  endpoints:\n  - addresses:\n" + many("    - ip: x\n", 15000), 16},
		{"networks that are none", head + "spec:\n  loadBalancerSourceRanges:\n" + many("  - x\n", 30000), 16},
		{"a name of 100 KiB with 5,000 ports", head + "spec:\n  endpoints:\n  - name: " + long + "\n    ports:\n" + many("    - port: 0\n", 5000), 16},
		{"a value of 100 KiB", head + "spec:\n  hostname: " + long + "!\n", 0},
		{"a value of 60,000 control characters", head + "spec:\n  hostname: \"" + many("\\e", 60000) + "\"\n", 0},
		{"a kind of 100 KiB", strings.Replace(head, "LoadBalancer", long, 1), 0},
		{"a key of 100 KiB", head + long + ": 1\n", 0},
		{"an annotation's key of 100 KiB", strings.Replace(head, "metadata:\n", "metadata:\n  annotations:\n    \""+long+"\": x\n", 1), 0},
		{"a type that is none, of 100 KiB", head + "spec:\n  type: " + long + "\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.text) > repo.MaxFileSize {
				t.Fatalf("the file has %d bytes", len(c.text))
			}
			object, problems := repo.Decode(path, repo.NewFile([]byte(c.text)))
			if object != nil || len(problems) == 0 {
				t.Fatal("it is taken")
			}
			size := 0
			for _, p := range problems {
				size += len(p.Path) + len(p.Object) + len(p.Field) + len(p.Message) + len(p.Remedy)
				if p != p.Bounded() {
					t.Errorf("not fit for a status: %.200q", p)
				}
				if p.Path != path || p.Reason == "" || p.Remedy == "" {
					t.Errorf("it does not say where or what to do: %.300q", p)
				}
			}
			if len(problems) > v1alpha1.MaxFileProblems || c.count > 0 && len(problems) != c.count || size > 32<<10 {
				t.Errorf("%d problems of %d bytes", len(problems), size)
			}
			if last := problems[len(problems)-1]; c.count == 16 && !strings.Contains(last.Message, "more mistakes are not listed") {
				t.Errorf("the rest is not counted: %+v", last)
			}
		})
	}
	route := "apiVersion: kubelb.k8c.io/v1alpha1\nkind: Route\nmetadata: {name: shop.web.ingress, namespace: tenant-acme}\n" +
		"spec: {source: {kubernetes: {resource: {apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: web}, x: [" + many("1,", 100_000) + "1]}}}}\n"
	_, problems := repo.Decode("tenants/acme/routes/shop/web.ingress.yaml", repo.NewFile([]byte(route)))
	if len(problems) != 1 || problems[0].Reason != repo.ReasonTooLarge {
		t.Errorf("a document that grows over the limit when it is written out: %v", problems)
	}
	long = strings.Repeat("\u0080", 64<<10)
	if _, problems := repo.Decode("tenants/acme/"+long, repo.NewFile(nil)); len(problems) != 1 || problems[0] != problems[0].Bounded() {
		t.Errorf("of a long path: %.300q", problems)
	}
}
