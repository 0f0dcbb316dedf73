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
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// refusal is a file that must not be read, and the reasons and fields of all
// problems with it, as "Reason field".
type refusal struct {
	path string // webPath if empty
	file repo.File
	want []string
}

func TestRefusals(t *testing.T) {
	text := func(data []byte) repo.File { return repo.NewFile(data) }
	doc := func(old, new string) repo.File { return text(replaced(t, old, new)) }
	add := func(lines string) repo.File { return text([]byte(web + lines)) }
	in := func(path, kind, name, rest string) refusal {
		return refusal{path: path, file: text([]byte(fmt.Sprintf("apiVersion: kubelb.k8c.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: tenant-acme}\n%s", kind, name, rest)))}
	}
	with := func(r refusal, want ...string) refusal { r.want = want; return r }
	cases := map[string]refusal{
		"a symbolic link":                   {file: repo.File{Mode: repo.Symlink, Size: 9}, want: []string{"NotAFile"}},
		"a submodule":                       {file: repo.File{Mode: repo.Submodule}, want: []string{"NotAFile"}},
		"a file too large to be loaded":     {file: repo.File{Size: repo.MaxFileSize + 1}, want: []string{"TooLarge"}},
		"a file too large":                  {file: text([]byte(web + strings.Repeat("#\n", repo.MaxFileSize/2))), want: []string{"TooLarge"}},
		"not UTF-8":                         {file: add("# \xff\n"), want: []string{"NotText"}},
		"a NUL byte":                        {file: add("# \x00\n"), want: []string{"NotText"}},
		"UTF-16":                            {file: text([]byte("\xff\xfea\x00:\x00")), want: []string{"NotText"}},
		"an empty file":                     {file: text(nil), want: []string{"Malformed"}},
		"only comments":                     {file: text([]byte("# nothing\n")), want: []string{"Malformed"}},
		"no YAML":                           {file: text([]byte("a: [")), want: []string{"Malformed"}},
		"a list":                            {file: text([]byte("- a\n")), want: []string{"Malformed"}},
		"a word":                            {file: text([]byte("web\n")), want: []string{"Malformed"}},
		"null":                              {file: text([]byte("null\n")), want: []string{"ForeignKind apiVersion", "ForeignKind kind", "AddressMismatch metadata.namespace", "AddressMismatch metadata.name"}},
		"a second document":                 {file: add("---\n" + web), want: []string{"Malformed"}},
		"a second document that is broken":  {file: add("---\na: [\n"), want: []string{"Malformed"}},
		"an anchor":                         {file: doc("  type: LoadBalancer\n", "  type: &a LoadBalancer\n"), want: []string{"Malformed"}},
		"a merge of keys":                   {file: doc("  name: shop.web\n  namespace", "  <<: {name: shop.web}\n  namespace"), want: []string{"Malformed"}},
		"a tag":                             {file: doc("  type: LoadBalancer\n", "  type: !!binary TG9hZEJhbGFuY2Vy\n"), want: []string{"Malformed"}},
		"a key twice":                       {file: add("spec: {}\n"), want: []string{"Malformed"}},
		"a key that is a number":            {file: doc("    kubelb.k8c.io/origin-name: web\n", "    kubelb.k8c.io/origin-name: web\n    1: a\n"), want: []string{"Malformed"}},
		"a key that old YAML takes for yes": {file: doc("    kubelb.k8c.io/origin-name: web\n", "    kubelb.k8c.io/origin-name: web\n    on: a\n"), want: []string{"Malformed"}},
		"a key that is a list":              {file: add("? [a]\n: b\n"), want: []string{"Malformed"}},
		"nested too deep":                   {file: add("x: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n"), want: []string{"Malformed"}},
		"nested without end":                {file: text([]byte(strings.Repeat("[", 200000))), want: []string{"Malformed"}},
		"a bomb of aliases":                 {file: text(bomb()), want: []string{"Malformed"}},

		"another API":               {file: doc("kubelb.k8c.io/v1alpha1", "apps/v1"), want: []string{"ForeignKind apiVersion"}},
		"another version":           {file: doc("kubelb.k8c.io/v1alpha1", "kubelb.k8c.io/v1"), want: []string{"ForeignKind apiVersion"}},
		"another kind of ours":      {file: doc("kind: LoadBalancer", "kind: Backend"), want: []string{"ForeignKind kind"}},
		"a Tenant":                  {file: doc("kind: LoadBalancer", "kind: Tenant"), want: []string{"ForeignKind kind"}},
		"a kind in capitals":        {file: doc("kind: LoadBalancer", "KIND: LoadBalancer"), want: []string{"ForeignKind kind"}},
		"another name":              {file: doc("  name: shop.web\n  namespace", "  name: shop.api\n  namespace"), want: []string{"AddressMismatch metadata.name"}},
		"another tenant":            {file: doc("tenant-acme", "tenant-globex"), want: []string{"AddressMismatch metadata.namespace"}},
		"no namespace":              {file: doc("  namespace: tenant-acme\n", ""), want: []string{"AddressMismatch metadata.namespace"}},
		"several of these":          {file: text([]byte("kind: LoadBalancer\nmetadata: {name: shop.web}\n")), want: []string{"ForeignKind apiVersion", "AddressMismatch metadata.namespace"}},
		"at the path of another":    {path: "tenants/acme/loadbalancers/shop/api.service.yaml", file: text([]byte(web)), want: []string{"AddressMismatch metadata.name"}},
		"at the path of a fact":     {path: "tenants/acme/backends/shop/web.service.yaml", file: text([]byte(web)), want: []string{"ForeignKind kind"}},
		"in the folder of another":  {path: "tenants/globex/loadbalancers/shop/web.service.yaml", file: text([]byte(web)), want: []string{"AddressMismatch metadata.namespace"}},
		"at no path of ours":        {path: "tenants/acme/kustomization.yaml", file: text([]byte(web)), want: []string{"UnknownPath"}},
		"an origin of another name": {file: doc("origin-name: web", "origin-name: api"), want: []string{"AddressMismatch metadata.labels"}},
		"an origin of another kind": {file: doc("origin-resource-kind: Service", "origin-resource-kind: Ingress"), want: []string{"AddressMismatch metadata.labels"}},

		"an unknown field":             {file: add("  loadBalancerIP: 192.0.2.1\n"), want: []string{"Malformed spec.loadBalancerIP"}},
		"several unknown fields":       {file: add("  a: 1\n  b: 1\nc: 1\n"), want: []string{"Malformed c", "Malformed spec.a", "Malformed spec.b"}},
		"a field in other letters":     {file: doc("    port: 80\n", "    Port: 80\n"), want: []string{"Malformed spec.ports[0].Port"}},
		"a number that is a word":      {file: doc("port: 80", "port: http"), want: []string{"Malformed spec.ports.port"}},
		"a number that is none":        {file: doc("port: 80", "port: 80.5"), want: []string{"Malformed spec.ports.port"}},
		"a number too large":           {file: doc("port: 80", "port: 99999999999999999999"), want: []string{"Malformed spec.ports.port"}},
		"a name that is a boolean":     {file: doc("name: http", "name: y"), want: []string{"Malformed spec.ports.name"}},
		"a status":                     {file: add("status: {addresses: [192.0.2.1]}\n"), want: []string{"ForbiddenContent status"}},
		"an empty status":              {file: add("status: {}\n"), want: []string{"ForbiddenContent status"}},
		"a status in capitals":         {file: add("Status: {}\n"), want: []string{"Malformed Status"}},
		"finalizers":                   {file: doc("  namespace", "  finalizers: [kubelb.k8c.io/cleanup]\n  namespace"), want: []string{"ForbiddenContent metadata.finalizers"}},
		"what a server makes, and all": {file: doc("  namespace", "  uid: u\n  ownerReferences: []\n  resourceVersion: \"1\"\n  namespace"), want: []string{"ForbiddenContent metadata.ownerReferences", "ForbiddenContent metadata.resourceVersion", "ForbiddenContent metadata.uid"}},
		"a time that is null":          {file: doc("  namespace", "  creationTimestamp: null\n  namespace"), want: []string{"ForbiddenContent metadata.creationTimestamp"}},
		"what Validate refuses":        {file: doc("port: 80", "port: 0"), want: []string{"Invalid spec.ports[http].port"}},

		"a TenantState": with(in("tenants/acme/tenantstate.yaml", "TenantState", "default", ""), "UnknownPath"),
		"a secret in plaintext": with(in("tenants/acme/syncsecrets/shop/cert.secret.yaml", "SyncSecret", "shop.cert", "data: {a: YQ==}\nstringData: {b: b}\n"),
			"ForbiddenContent data", "ForbiddenContent stringData"),
		"a secret in plaintext beside a sealed one": with(in("tenants/acme/syncsecrets/shop/cert.secret.yaml", "SyncSecret", "shop.cert",
			"sealed: |\n  -----BEGIN AGE ENCRYPTED FILE-----\n  YWdl\n  -----END AGE ENCRYPTED FILE-----\nstringData: {b: b}\n"), "ForbiddenContent stringData"),
		"a secret in plaintext for sealed": with(in("tenants/acme/syncsecrets/shop/cert.secret.yaml", "SyncSecret", "shop.cert", "sealed: password\n"), "Invalid sealed"),
		"a secret without content":         with(in("tenants/acme/syncsecrets/shop/cert.secret.yaml", "SyncSecret", "shop.cert", "type: Opaque\n"), "Invalid sealed"),
		"a token of a service account": with(in("tenants/acme/syncsecrets/shop/cert.secret.yaml", "SyncSecret", "shop.cert",
			"type: kubernetes.io/service-account-token\nsealed: |\n  -----BEGIN AGE ENCRYPTED FILE-----\n  YWdl\n  -----END AGE ENCRYPTED FILE-----\n"), "Invalid type"),
		"no nodes": with(in("tenants/acme/addresses/default.yaml", "Addresses", "default", "spec: {addresses: []}\n"), "Invalid spec.addresses"),
		"a route to something else": with(in("tenants/acme/routes/shop/web.ingress.yaml", "Route", "shop.web.ingress",
			"spec: {source: {kubernetes: {resource: {apiVersion: v1, kind: Pod, metadata: {name: x}}}}}\n"), "Invalid spec.source.kubernetes.resource.kind"),
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.path == "" {
				c.path = webPath
			}
			object, problems := repo.Decode(c.path, c.file)
			if object != nil {
				t.Errorf("it was read as %+v", object)
			}
			var got []string
			for _, p := range problems {
				got = append(got, strings.TrimSpace(p.Reason+" "+p.Field))
				if p.Path != c.path || p.Message == "" || p.Remedy == "" || p.Reason != repo.ReasonUnknownPath && p.Object == "" {
					t.Errorf("problem %+v lacks something", p)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("problems %q, want %q\n%+v", got, c.want, problems)
			}
		})
	}
}

// bomb is small and would become large if its aliases were followed.
func bomb() []byte {
	var b bytes.Buffer
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 12 {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	return b.Bytes()
}

func TestAMessageSaysWhereAndWhat(t *testing.T) {
	_, problems := repo.Decode(webPath, repo.NewFile(replaced(t, "port: 80", "port: http")))
	want := v1alpha1.Problem{
		Path: webPath, Object: "Service shop/web", Field: "spec.ports.port", Reason: repo.ReasonMalformed,
		Message: "spec.ports.port is a string where a int32 belongs", Remedy: "correct the field; docs/repository.md lists them",
	}
	if len(problems) != 1 || problems[0] != want {
		t.Errorf("%+v, want %+v", problems, want)
	}
}

func TestBaseNeedsNoValidWhole(t *testing.T) {
	data := replaced(t, "  - name: http\n    port: 80\n    protocol: TCP\n", "  - name: http\n")
	if _, problems := repo.Decode(webPath, repo.NewFile(data)); len(problems) == 0 {
		t.Fatal("a port without a number is valid")
	}
	object, problems := repo.DecodeBase(webPath, repo.NewFile(data))
	if len(problems) > 0 || object == nil {
		t.Errorf("%+v", problems)
	}
	for name, data := range map[string][]byte{"an unknown field": []byte(web + "x: 1\n"), "a status": []byte(web + "status: {}\n")} {
		if object, problems := repo.DecodeBase(webPath, repo.NewFile(data)); len(problems) == 0 || object != nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestAHandMadeDocumentNeedsNoLabels(t *testing.T) {
	data := replaced(t, `  labels:
    kubelb.k8c.io/origin-name: web
    kubelb.k8c.io/origin-ns: shop
    kubelb.k8c.io/origin-resource-kind: Service
`, "")
	if _, problems := repo.Decode(webPath, repo.NewFile(data)); len(problems) > 0 {
		t.Errorf("%+v", problems)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(webPath, []byte(web))
	for _, object := range everything() {
		path, _ := repo.PathOf(object)
		data, err := repo.Encode(object)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(path, data)
	}
	f.Add(webPath, bomb())
	f.Add(webPath, []byte("a: &a [*a]"))
	f.Add(webPath, []byte(web+"---\n"))
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		object, problems := repo.Decode(path, repo.NewFile(data))
		if (object == nil) != (len(problems) > 0) {
			t.Fatalf("object %v and problems %+v", object, problems)
		}
		if object == nil {
			return
		}
		if again, err := repo.PathOf(object); err != nil || again != path {
			t.Fatalf("read from %s it belongs at %s (%v)", path, again, err)
		}
		first, err := repo.Encode(object)
		if err != nil {
			t.Fatal(err)
		}
		back, problems := repo.Decode(path, repo.NewFile(first))
		if len(problems) > 0 {
			t.Fatalf("what was written cannot be read: %+v\n%s", problems, first)
		}
		second, err := repo.Encode(back)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("written twice it is\n%s\nand\n%s(%v)", first, second, err)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, path := range []string{webPath, "tenants/acme/addresses/default.yaml", "tenants/acme/tenantstate.yaml", "tenants/acme/routes/a/b.httproute.yaml", "../../etc/passwd"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p, err := repo.ParsePath(path)
		if err != nil {
			return
		}
		if p.String() != path {
			t.Fatalf("%q is %q", path, p.String())
		}
		if strings.Contains(path, "..") || strings.HasPrefix(path, "/") || len(p.ObjectName()) > repo.MaxNameLength {
			t.Fatalf("%q is taken", path)
		}
	})
}
