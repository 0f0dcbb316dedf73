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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestPathsOfDocuments(t *testing.T) {
	for path, want := range map[string]struct {
		path         repo.Path
		name, source string
		fact         bool
	}{
		"tenants/acme/loadbalancers/shop/web.service.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "LoadBalancer", Namespace: "shop", Name: "web", SourceKind: "service"}, name: "shop.web", source: "Service shop/web"},
		"tenants/acme/loadbalancers/shop/web.v2.service.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "LoadBalancer", Namespace: "shop", Name: "web.v2", SourceKind: "service"}, name: "shop.web.v2", source: "Service shop/web.v2"},
		"tenants/acme/backends/shop/web.service.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "Backend", Namespace: "shop", Name: "web", SourceKind: "service"}, name: "shop.web", source: "Service shop/web", fact: true},
		"tenants/acme/routes/shop/web.httproute.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "Route", Namespace: "shop", Name: "web", SourceKind: "httproute"}, name: "shop.web.httproute", source: "HTTPRoute shop/web"},
		"tenants/acme/routes/shop/web.ingress.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "Route", Namespace: "shop", Name: "web", SourceKind: "ingress"}, name: "shop.web.ingress", source: "Ingress shop/web"},
		"tenants/acme/syncsecrets/shop/cert.secret.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "SyncSecret", Namespace: "shop", Name: "cert", SourceKind: "secret"}, name: "shop.cert", source: "Secret shop/cert"},
		"tenants/acme/addresses/default.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "Addresses"}, name: "default", source: "Addresses", fact: true},
		"tenants/acme/tenantstate.yaml": {
			path: repo.Path{Tenant: "acme", Kind: "TenantState"}, name: "default", source: "TenantState"},
	} {
		got, err := repo.ParsePath(path)
		if err != nil || got != want.path {
			t.Errorf("%s is %+v (%v), want %+v", path, got, err, want.path)
			continue
		}
		if got.String() != path || got.ObjectName() != want.name || got.Source() != want.source || got.Fact() != want.fact {
			t.Errorf("%s: path %s, object %s, source %s, fact %v", path, got, got.ObjectName(), got.Source(), got.Fact())
		}
	}
}

func TestPathsThatAreNone(t *testing.T) {
	for _, path := range []string{
		"", "/", "tenants", "tenants/acme", "tenants/acme/", "kubelb.yaml", "README.md",
		"tenants/Acme/addresses/default.yaml",
		"tenants/-acme/addresses/default.yaml",
		"tenants/../addresses/default.yaml",
		"tenants/" + strings.Repeat("a", 57) + "/addresses/default.yaml",
		"tenant/acme/addresses/default.yaml",
		"tenants/acme/addresses/other.yaml",
		"tenants/acme/addresses/default.yml",
		"tenants/acme/addresses/shop/default.yaml",
		"tenants/acme/kustomization.yaml",
		"tenants/acme/loadbalancers/web.service.yaml",
		"tenants/acme/loadbalancers/shop/more/web.service.yaml",
		"tenants/acme/loadbalancers/shop/web.yaml",
		"tenants/acme/loadbalancers/shop/.service.yaml",
		"tenants/acme/loadbalancers/shop/web.service.yml",
		"tenants/acme/loadbalancers/shop/web.service.yaml.bak",
		"tenants/acme/loadbalancers/shop/web.ingress.yaml",
		"tenants/acme/loadbalancers/shop/Web.service.yaml",
		"tenants/acme/loadbalancers/shop/web_1.service.yaml",
		"tenants/acme/loadbalancers/shop/web..service.yaml",
		"tenants/acme/loadbalancers/sh.op/web.service.yaml",
		"tenants/acme/loadbalancers/../web.service.yaml",
		"tenants/acme/loadbalancers/shop/..service.yaml",
		"tenants/acme/loadbalancers/shop/" + strings.Repeat("a", 181) + ".service.yaml",
		"tenants/acme/routes/shop/web.service.yaml",
		"tenants/acme/syncsecrets/shop/web.service.yaml",
		"tenants/acme/secrets/shop/web.secret.yaml",
		"tenants/acme/loadbalancers/shop/web.service.yaml/",
		"./tenants/acme/addresses/default.yaml",
		"tenants//acme/addresses/default.yaml",
	} {
		if p, err := repo.ParsePath(path); err == nil {
			t.Errorf("%q is taken for %+v", path, p)
		}
	}
}

func TestPathOf(t *testing.T) {
	long := strings.Repeat("long-", 60)[:253-1] + "g"
	for name, c := range map[string]struct {
		object repo.Object
		want   string // empty: an error
	}{
		"by labels":            {named(&v1alpha1.LoadBalancer{}, "shop.web", labels("shop", "web", "Service")), "tenants/acme/loadbalancers/shop/web.service.yaml"},
		"by name":              {named(&v1alpha1.LoadBalancer{}, "shop.web.v2", nil), "tenants/acme/loadbalancers/shop/web.v2.service.yaml"},
		"of a backend":         {named(&v1alpha1.Backend{}, "shop.web", nil), "tenants/acme/backends/shop/web.service.yaml"},
		"of a secret":          {named(&v1alpha1.SyncSecret{}, "shop.cert", nil), "tenants/acme/syncsecrets/shop/cert.secret.yaml"},
		"of a route by labels": {named(&v1alpha1.Route{}, "shop.web.httproute", labels("shop", "web", "HTTPRoute.gateway.networking.k8s.io")), "tenants/acme/routes/shop/web.httproute.yaml"},
		"of a route by name":   {named(&v1alpha1.Route{}, "shop.web.ingress", nil), "tenants/acme/routes/shop/web.ingress.yaml"},
		"of nodes":             {named(&v1alpha1.Addresses{}, "default", nil), "tenants/acme/addresses/default.yaml"},
		"of a tenant's state":  {named(&v1alpha1.TenantState{}, "default", nil), "tenants/acme/tenantstate.yaml"},
		"by annotation where labels are cut": {annotated(named(&v1alpha1.LoadBalancer{}, repo.ObjectName("shop", long), labels("shop", long, "Service")), "shop/"+long),
			"tenants/acme/loadbalancers/shop/" + repo.FileName(long) + ".service.yaml"},

		"labels against the name":             {named(&v1alpha1.LoadBalancer{}, "shop.web", labels("shop", "api", "Service")), ""},
		"cut labels without annotation":       {named(&v1alpha1.LoadBalancer{}, repo.ObjectName("shop", long), labels("shop", long, "Service")), ""},
		"a name without namespace":            {named(&v1alpha1.LoadBalancer{}, "web", nil), ""},
		"a route without kind":                {named(&v1alpha1.Route{}, "shop.web", nil), ""},
		"a route of a foreign kind":           {named(&v1alpha1.Route{}, "shop.web.policy", labels("shop", "web", "Policy")), ""},
		"an annotation that splits otherwise": {annotated(named(&v1alpha1.LoadBalancer{}, "shop.web.v2", nil), "shop.web/v2"), ""},
		"an annotation that leaves":           {annotated(named(&v1alpha1.LoadBalancer{}, "shop.web", nil), "../shop.web"), ""},
		"a kind that has no file":             {named(&v1alpha1.Config{}, "default", nil), ""},
		"another namespace":                   {inNamespace(named(&v1alpha1.LoadBalancer{}, "shop.web", nil), "kubelb"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := repo.PathOf(c.object)
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("%q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func named[T repo.Object](object T, name string, labels map[string]string) T {
	object.SetName(name)
	object.SetNamespace("tenant-acme")
	object.SetLabels(labels)
	return object
}

func annotated[T repo.Object](object T, origin string) T {
	object.SetAnnotations(map[string]string{v1alpha1.AnnotationOrigin: origin})
	return object
}

func inNamespace[T repo.Object](object T, namespace string) T {
	object.SetNamespace(namespace)
	return object
}

func labels(namespace, name, kind string) map[string]string {
	return map[string]string{
		v1alpha1.LabelOriginNS: namespace, v1alpha1.LabelOriginName: repo.LabelValue(name), v1alpha1.LabelOriginKind: kind,
	}
}

func TestLongNamesAreCut(t *testing.T) {
	const digits = 10
	for _, name := range []string{strings.Repeat("a", 253), strings.Repeat("a", 168) + strings.Repeat(".b", 42), strings.Repeat("a-", 126) + "a"} {
		file := repo.FileName(name)
		if len(file) > repo.MaxNameLength || file == name || file[len(file)-digits-1] != '-' {
			t.Errorf("the file name of %s is %s", name, file)
		}
		if _, err := repo.ParsePath("tenants/acme/loadbalancers/shop/" + file + ".service.yaml"); err != nil {
			t.Error(err)
		}
		object := repo.ObjectName("shop", name)
		if why := validation.IsDNS1123Subdomain(object); len(why) > 0 || len(object) > repo.MaxNameLength {
			t.Errorf("%s is no name of an object: %v", object, why)
		}
		if object != repo.ObjectName("shop", file) {
			t.Errorf("%s has another object than its file %s", name, file)
		}
		label := repo.LabelValue(name)
		if why := validation.IsValidLabelValue(label); len(why) > 0 {
			t.Errorf("%s is no label: %v", label, why)
		}
	}
	if a, b := strings.Repeat("a", 252)+"b", strings.Repeat("a", 252)+"c"; repo.ObjectName("shop", a) == repo.ObjectName("shop", b) {
		t.Error("two long names became one")
	}
	if got := repo.ObjectName("shop", strings.Repeat("a", 175)); len(got) != 180 {
		t.Errorf("%s was cut", got)
	}
	if got, want := repo.FileName(strings.Repeat("a", 181)), strings.Repeat("a", 169)+"-9ce4e58a8e"; got != want {
		t.Errorf("%s, want %s: a name that is cut otherwise makes another object", got, want)
	}
}

func TestBranches(t *testing.T) {
	for got, want := range map[string]string{
		repo.IntentRef("acme"):          "refs/heads/intent/acme",
		repo.StatusRef("acme"):          "refs/heads/status/acme",
		repo.ReviewRef("acme"):          "refs/heads/review/acme",
		repo.BaseRef(repo.Main):         "refs/heads/base/main",
		repo.BaseRef("refs/heads/prod"): "refs/heads/base/prod",
		repo.IntegratedPath("acme"):     "integrated/acme.yaml",
		repo.TenantDir("acme"):          "tenants/acme",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for ref, ok := range map[string]bool{
		"refs/heads/intent/acme": true, "refs/heads/intent/acme/x": false, "refs/heads/intent/": false, "refs/heads/intent/..": false, "refs/heads/main": false,
	} {
		if tenant, got := repo.IntentTenant(ref); got != ok {
			t.Errorf("%s is the intent of %q: %v, want %v", ref, tenant, got, ok)
		}
	}
}

func TestSmallDocuments(t *testing.T) {
	config := repo.Config{RepositoryID: "r-1", Layout: repo.LayoutVersion}
	data, err := repo.EncodeConfig(config)
	if back, errBack := repo.DecodeConfig(data); err != nil || errBack != nil || back != config {
		t.Errorf("%+v became %+v (%v, %v)", config, back, err, errBack)
	}
	if _, err := repo.DecodeConfig([]byte("repositoryID: a\nlayout: 1\nmore: true\n")); err == nil {
		t.Error("an unknown field is taken")
	}
	integrated := repo.Integrated{Commit: "c", Generation: 7, Epoch: 2, Cluster: "3f0c3f4e-6d0e-4b58-9f0a-0d8f6c1b2a3d"}
	data, err = repo.EncodeIntegrated(integrated)
	if back, errBack := repo.DecodeIntegrated(data); err != nil || errBack != nil || back != integrated {
		t.Errorf("%+v became %+v (%v, %v)", integrated, back, err, errBack)
	}
}

func TestTrees(t *testing.T) {
	tree := repo.Tree{"b": {}, "tenants/acme/x": {}, "tenants/acme-two/x": {}, "tenants/acme/y/z": {}}
	if got := strings.Join(tree.Paths(), " "); got != "b tenants/acme-two/x tenants/acme/x tenants/acme/y/z" {
		t.Errorf("paths %s", got)
	}
	if got := strings.Join(tree.Under("tenants/acme").Paths(), " "); got != "tenants/acme/x tenants/acme/y/z" {
		t.Errorf("under tenants/acme: %s", got)
	}
}
