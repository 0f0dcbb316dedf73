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

package render_test

import (
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestInScope(t *testing.T) {
	ours, foreign := render.Class, "example.com/other"
	now := metav1.Now()
	for name, c := range map[string]struct {
		kind     corev1.ServiceType
		class    *string
		deleted  *metav1.Time
		any, own bool // in scope by default, with UseLoadBalancerClass
	}{
		"a load balancer":                {kind: corev1.ServiceTypeLoadBalancer, any: true},
		"of our class":                   {kind: corev1.ServiceTypeLoadBalancer, class: &ours, any: true, own: true},
		"of another class":               {kind: corev1.ServiceTypeLoadBalancer, class: &foreign},
		"on its way out":                 {kind: corev1.ServiceTypeLoadBalancer, class: &ours, deleted: &now},
		"a NodePort Service":             {kind: corev1.ServiceTypeNodePort},
		"a ClusterIP Service":            {kind: corev1.ServiceTypeClusterIP},
		"an ExternalName Service":        {kind: corev1.ServiceTypeExternalName},
		"of our class, no load balancer": {kind: corev1.ServiceTypeClusterIP, class: &ours},
	} {
		t.Run(name, func(t *testing.T) {
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: c.deleted}, Spec: corev1.ServiceSpec{Type: c.kind, LoadBalancerClass: c.class}}
			if got := render.InScope(service, render.Options{}); got != c.any {
				t.Errorf("by default: %v, want %v", got, c.any)
			}
			if got := render.InScope(service, render.Options{UseLoadBalancerClass: true}); got != c.own {
				t.Errorf("with the class asked for: %v, want %v", got, c.own)
			}
		})
	}
}

func TestNamesOfAnyLengthGiveValidDocuments(t *testing.T) {
	for _, length := range []int{1, 63, 64, 180, 181, 253} {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: strings.Repeat("a", length)},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer,
				Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}}},
		}
		documents, problems := render.Service(service, render.Options{Tenant: "acme"})
		if len(documents) != 2 || len(problems) != 0 {
			t.Fatalf("length %d: %d documents, problems %v", length, len(documents), problems)
		}
		for _, d := range documents {
			object, problems := repo.Decode(d.Path, repo.NewFile(d.Data))
			if len(problems) > 0 {
				t.Errorf("length %d: %v", length, problems)
				continue
			}
			if namespace, name, _ := repo.Origin(object); namespace != "shop" || name != service.Name {
				t.Errorf("length %d: origin %s/%s", length, namespace, name)
			}
		}
	}
}

func TestTwoServicesNeverShareADocument(t *testing.T) {
	paths := map[string]string{}
	for _, name := range [][2]string{{"a", "b-c"}, {"a-b", "c"}, {"a", "b"}, {"b", "a"}} {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: name[0], Name: name[1]},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}}},
		}
		documents, _ := render.Service(service, render.Options{Tenant: "acme"})
		for _, d := range documents {
			if other, taken := paths[d.Path]; taken {
				t.Errorf("%s is that of %v and of %s", d.Path, name, other)
			}
			paths[d.Path] = name[0] + "/" + name[1]
		}
	}
}
