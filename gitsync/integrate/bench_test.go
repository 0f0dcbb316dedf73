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

package integrate

import (
	"fmt"
	"testing"

	"github.com/kubelb/gitops/api/repo"
)

// BenchmarkIntegrateNewDocuments is a burst: all of these Services are new.
func BenchmarkIntegrateNewDocuments(b *testing.B) {
	tree := repo.Tree{}
	for i := range 200 {
		for path, text := range documents(i) {
			tree[path] = repo.NewFile([]byte(text))
		}
	}
	for b.Loop() {
		r := Integrate(Input{Tenant: "acme", Intent: tree, Base: repo.Tree{}, Main: repo.Tree{}})
		if len(r.Main) != len(tree) || len(r.Problems) > 0 {
			b.Fatalf("%d of %d documents went to main; %v", len(r.Main), len(tree), r.Problems)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(tree)), "µs/document")
}

func documents(i int) map[string]string {
	name := fmt.Sprintf("web-%d", i)
	labels := fmt.Sprintf("{kubelb.k8c.io/origin-name: %s, kubelb.k8c.io/origin-ns: shop, kubelb.k8c.io/origin-resource-kind: Service}", name)
	return map[string]string{
		"tenants/acme/loadbalancers/shop/" + name + ".service.yaml": fmt.Sprintf(`apiVersion: kubelb.k8c.io/v1alpha1
kind: LoadBalancer
metadata:
  labels: %s
  name: shop.%s
  namespace: tenant-acme
spec:
  endpoints:
  - addressesReference: {name: default}
    backendReference: {name: shop.%s}
    name: default
  ports:
  - {name: http, port: 80, protocol: TCP}
  type: LoadBalancer
`, labels, name, name),
		"tenants/acme/backends/shop/" + name + ".service.yaml": fmt.Sprintf(`apiVersion: kubelb.k8c.io/v1alpha1
kind: Backend
metadata:
  labels: %s
  name: shop.%s
  namespace: tenant-acme
spec:
  ports:
  - {name: http, port: 80, protocol: TCP, nodePort: 30080}
`, labels, name),
	}
}
