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

package report_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/report"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden renders the objects of each folder of testdata, as an API server
// returns them, and compares with the folder want.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got := map[string]string{}
			files, err := filepath.Glob(filepath.Join(dir, "objects", "*.yaml"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no objects: %v", err)
			}
			for _, file := range files {
				object := decode(t, file)
				before := object.DeepCopyObject()
				path, content, err := report.File(object)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(object, before) {
					t.Errorf("%s: the object was changed", file)
				}
				if _, again, _ := report.File(object); string(again) != string(content) {
					t.Errorf("%s: other bytes the second time", file)
				}
				if _, problems := repo.DecodeStatus(path, repo.NewFile(content)); len(problems) > 0 {
					t.Errorf("%s cannot be read: %+v", path, problems)
				}
				got[path] = string(content)
			}
			want := filepath.Join(dir, "want")
			if *update {
				write(t, want, got)
			}
			if files := read(t, want); !reflect.DeepEqual(files, got) {
				t.Errorf("want %v\ngot %v", files, got)
			}
		})
	}
}

func decode(t *testing.T, file string) repo.Object {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var head metav1.TypeMeta
	if err := yaml.Unmarshal(data, &head); err != nil {
		t.Fatal(err)
	}
	object := map[string]repo.Object{
		v1alpha1.KindLoadBalancer: &v1alpha1.LoadBalancer{}, v1alpha1.KindTenantState: &v1alpha1.TenantState{},
		v1alpha1.KindBackend: &v1alpha1.Backend{}, v1alpha1.KindAddresses: &v1alpha1.Addresses{},
	}[head.Kind]
	if err := yaml.UnmarshalStrict(data, object); err != nil {
		t.Fatal(err)
	}
	return object
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[filepath.ToSlash(strings.TrimPrefix(path, dir+string(filepath.Separator)))] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for path, content := range files {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnObjectThatFitsNoPathHasNoFile(t *testing.T) {
	for _, meta := range []metav1.ObjectMeta{
		{Namespace: "default", Name: "shop.web"},
		{Namespace: "tenant-acme", Name: "shop.web", Labels: map[string]string{v1alpha1.LabelOriginNS: "shop", v1alpha1.LabelOriginName: "api"}},
	} {
		if path, _, err := report.File(&v1alpha1.LoadBalancer{ObjectMeta: meta}); err == nil {
			t.Errorf("%v has the path %s", meta, path)
		}
	}
}

// version is a file and what it was made of.
type version struct {
	content []byte
	object  repo.Object
}

func TestUrgency(t *testing.T) {
	balancer := func(change func(*v1alpha1.LoadBalancer)) version {
		lb := &v1alpha1.LoadBalancer{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "shop.web"}}
		change(lb)
		return version{render(t, lb), lb}
	}
	state := func(change func(*v1alpha1.TenantState)) version {
		s := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "default"}}
		change(s)
		return version{render(t, s), s}
	}
	var none version
	const lbPath, statePath = "tenants/acme/loadbalancers/shop/web.service.yaml", "tenants/acme/tenantstate.yaml"
	plain := balancer(func(*v1alpha1.LoadBalancer) {})
	addressed := balancer(func(lb *v1alpha1.LoadBalancer) {
		lb.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	})
	assigned := balancer(func(lb *v1alpha1.LoadBalancer) { lb.Status.Addresses = []string{"192.0.2.1"} })
	quiet := state(func(*v1alpha1.TenantState) {})
	for _, c := range []struct {
		reason, path string
		old, new     version
		want         report.Urgency
	}{
		{"never there", lbPath, none, none, report.None},
		{"the same", lbPath, plain, plain, report.None},
		{"new without an address", lbPath, none, plain, report.Later},
		{"new with an address", lbPath, none, addressed, report.Now},
		{"published", lbPath, plain, addressed, report.Now},
		{"withdrawn", lbPath, addressed, plain, report.Now},
		{"assigned only", lbPath, plain, assigned, report.Later},
		{"another address", lbPath, addressed, balancer(func(lb *v1alpha1.LoadBalancer) {
			lb.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
		}), report.Now},
		{"more of it, the same address", lbPath, addressed, balancer(func(lb *v1alpha1.LoadBalancer) {
			lb.Status.LoadBalancer.Ingress, lb.Status.Ports = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}, "80/TCP"
		}), report.Later},
		{"gone", lbPath, addressed, none, report.Now},
		{"unreadable before", lbPath, version{content: []byte("{")}, addressed, report.Now},
		{"the first word to a tenant", statePath, none, quiet, report.Decided},
		{"decided", statePath, quiet, state(func(s *v1alpha1.TenantState) {
			s.Status.ObservedIntent = &v1alpha1.ObservedIntent{Commit: "c", Generation: 1}
		}), report.Decided},
		{"other recipients", statePath, quiet, state(func(s *v1alpha1.TenantState) { s.Status.Recipients = []string{"age1a"} }), report.Decided},
		{"applied", statePath, quiet, state(func(s *v1alpha1.TenantState) { s.Status.AppliedRevision = "r" }), report.Later},
		{"only the time of the last update", statePath, quiet, state(func(s *v1alpha1.TenantState) {
			s.Status.LastUpdated = metav1.NewTime(time.Unix(1, 0))
		}), report.None},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if got := report.UrgencyOf(c.path, c.old.content, c.new.content, c.new.object); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func render(t *testing.T, object repo.Object) []byte {
	t.Helper()
	_, content, err := report.File(object)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
