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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

const releasePath = "tenants/acme/loadbalancers/shop/web.service.yaml"

func balancer(rest string) *repo.File {
	file := repo.NewFile([]byte(`apiVersion: kubelb.k8c.io/v1alpha1
kind: LoadBalancer
metadata:
  labels: {kubelb.k8c.io/origin-name: web, kubelb.k8c.io/origin-ns: shop, kubelb.k8c.io/origin-resource-kind: Service}
  name: shop.web
  namespace: tenant-acme
spec:
  endpoints:
  - addressesReference: {name: default}
    backendReference: {name: shop.web}
` + rest))
	return &file
}

// TestReleaseEndsTheHoldOfThatFieldAlone: what Release writes is what integrate
// takes for a released field, and no other field moves.
func TestReleaseEndsTheHoldOfThatFieldAlone(t *testing.T) {
	base := balancer("  ports: [{name: http, port: 80}, {name: https, port: 443}, {name: old, port: 90}]\n")
	intent := balancer("  ports: [{name: http, port: 8080}, {name: https, port: 443}]\n  lbPolicy: Random\n")
	main := balancer("  ports: [{name: http, port: 81}, {name: admin, port: 9000}]\n  lbPolicy: LeastRequest\n  loadBalancerSourceRanges: [192.0.2.0/24]\n")
	for _, c := range []struct {
		field, reason string
		// held are the fields that are held afterwards.
		held []string
	}{
		{field: "spec.ports[http].port", held: []string{"spec.lbPolicy", "spec.loadBalancerSourceRanges", "spec.ports[admin]", "spec.ports[https]"}},
		{field: "spec.ports[https]", held: []string{"spec.lbPolicy", "spec.loadBalancerSourceRanges", "spec.ports[admin]", "spec.ports[http].port"}},
		{field: "spec.ports[443/TCP]", held: []string{"spec.lbPolicy", "spec.loadBalancerSourceRanges", "spec.ports[admin]", "spec.ports[http].port"}},
		{field: "spec.ports[81/TCP].port", held: []string{"spec.lbPolicy", "spec.loadBalancerSourceRanges", "spec.ports[admin]", "spec.ports[https]"}},
		{field: "spec.ports[admin]", held: []string{"spec.lbPolicy", "spec.loadBalancerSourceRanges", "spec.ports[http].port", "spec.ports[https]"}},
		{field: "spec.ports", held: []string{"spec.lbPolicy", "spec.loadBalancerSourceRanges"}},
		{field: "spec.lbPolicy", held: []string{"spec.loadBalancerSourceRanges", "spec.ports[admin]", "spec.ports[http].port", "spec.ports[https]"}},
		{field: "spec.loadBalancerSourceRanges", held: []string{"spec.lbPolicy", "spec.ports[admin]", "spec.ports[http].port", "spec.ports[https]"}},
		{field: "spec"},
		{field: ""},
		{field: "spec.ports[https].port", reason: ReasonNotHeld},
		{field: "spec.ports[http].name", reason: ReasonNotHeld},
		{field: "spec.type", reason: ReasonNotHeld},
		{field: "spec.port", reason: ReasonNotHeld},
		{field: "nonsense", reason: ReasonNotHeld},
	} {
		t.Run("field "+c.field, func(t *testing.T) {
			data, problems := Release(releasePath, main, intent, c.field)
			if c.reason != "" {
				if len(problems) != 1 || problems[0].Reason != c.reason || problems[0].Remedy == "" || data != nil {
					t.Errorf("problems %+v, want %s", problems, c.reason)
				}
				return
			}
			if len(problems) > 0 {
				t.Fatalf("problems %+v", problems)
			}
			result := Integrate(Input{
				Tenant: "acme", Decided: 1,
				Intent: repo.Tree{releasePath: *intent}, Base: repo.Tree{releasePath: *base}, Main: repo.Tree{releasePath: repo.NewFile(data)},
			})
			var held []string
			for _, h := range result.Held {
				held = append(held, h.Field)
			}
			if got, want := strings.Join(held, " "), strings.Join(c.held, " "); got != want {
				t.Errorf("held %s, want %s", got, want)
			}
		})
	}
}

func TestReleaseRefusesWhatIsNotHeld(t *testing.T) {
	web := balancer("  ports: [{name: http, port: 80}]\n")
	broken := repo.NewFile([]byte("kind: ["))
	clash := balancer("  ports: [{name: other, port: 81}, {name: http, port: 80}]\n")
	moved := balancer("  ports: [{name: other, port: 80}, {name: http, port: 8080}]\n")
	for _, c := range []struct {
		name, path, field string
		main, intent      *repo.File
		reason            string
	}{
		{"the same", releasePath, "", web, web, ReasonNotHeld},
		{"the source is gone", releasePath, "", web, nil, v1alpha1.ReasonSourceGone},
		{"a field of a document that is not there", releasePath, "spec.type", nil, web, ReasonNotHeld},
		{"a field of a broken document", releasePath, "spec.type", &broken, web, ReasonNotHeld},
		{"a broken intent", releasePath, "", web, &broken, repo.ReasonMalformed},
		{"a fact", "tenants/acme/addresses/default.yaml", "", web, web, repo.ReasonUnknownPath},
		{"no path", "README.md", "", web, web, repo.ReasonUnknownPath},
		{"two ports of one name", releasePath, "spec.ports[http].name", clash, moved, v1alpha1.ReasonInvalid},
	} {
		data, problems := Release(c.path, c.main, c.intent, c.field)
		if len(problems) == 0 || problems[0].Reason != c.reason || problems[0].Remedy == "" || data != nil {
			t.Errorf("%s: problems %+v, want %s", c.name, problems, c.reason)
		}
	}
	for _, main := range []*repo.File{nil, &broken} {
		if data, problems := Release(releasePath, main, web, ""); len(problems) > 0 || len(data) == 0 {
			t.Errorf("a deleted or broken document cannot be released: %+v", problems)
		}
	}
}
