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
	"fmt"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestRevertStaysAndShowsAsHeld(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)

	alice := s.person("alice")
	alice.git("revert", "--no-edit", s.lastChange(acme, "web"))
	alice.push()
	s.answers(address, 8080, app)
	s.closed(address, 9090)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "spec.ports", "alice")
	s.eventually("the hold in the hub", func() error {
		lb, err := s.loadBalancer(acme, "web")
		if err == nil && (lb.Status.Git == nil || len(lb.Status.Git.Held) == 0 || lb.Status.Git.Held[0].Author == "") {
			err = fmt.Errorf("status.git is %+v", lb.Status.Git)
		}
		return err
	})

	// The tenant's other changes go on, the held field stays.
	intents := s.git("rev-parse", "intent/acme")
	s.edit(acme, "web", func(service *corev1.Service) {
		service.Spec.LoadBalancerSourceRanges = []string{"127.0.0.0/8"}
	})
	s.eventually("the other change", func() error {
		lb, err := s.loadBalancer(acme, "web")
		if err == nil && len(lb.Spec.LoadBalancerSourceRanges) == 0 {
			err = fmt.Errorf("no source ranges yet; intent was %s", intents)
		}
		return err
	})
	s.answers(address, 8080, app)

	// The revert of the revert ends the hold.
	alice.pull()
	alice.git("revert", "--no-edit", alice.git("log", "-1", "--format=%H", "--author=alice"))
	alice.push()
	s.answers(address, 9090, app)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionFalse)
}

func TestEditOnMainStays(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	bob := s.person("bob")
	bob.replace(s.path(acme, "web"), "port: 8080", "port: 7070")
	bob.push()
	s.answers(address, 7070, app)
	s.closed(address, 8080)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "bob")

	intents := s.git("rev-list", "--count", "intent/acme")
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 6060 })
	s.eventually("the tenant's change on its branch", func() error {
		if now := s.git("rev-list", "--count", "intent/acme"); now == intents {
			return fmt.Errorf("still %s commits", now)
		}
		return nil
	})
	s.answers(address, 7070, app)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "bob")
}

func TestReleaseByACommitTakesWhatTheTenantAsksFor(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	bob := s.person("bob")
	bob.replace(s.path(acme, "web"), "port: 8080", "port: 7070")
	bob.push()
	s.answers(address, 7070, app)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "bob")

	bob.pull()
	bob.git("checkout", "--quiet", "origin/intent/acme", "--", s.path(acme, "web"))
	bob.git("commit", "--quiet", "--message", "release web")
	bob.push()
	s.answers(address, 8080, app)
	s.closed(address, 7070)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionFalse)

	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)
}

func TestDeletionOnMainStays(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	bob := s.person("bob")
	bob.git("rm", "--quiet", s.path(acme, "web"))
	bob.git("commit", "--quiet", "--message", "remove web")
	bob.push()
	s.closed(address, 8080)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "bob")

	bob.pull()
	bob.git("revert", "--no-edit", "HEAD")
	bob.push()
	s.answers(address, 8080, app)
}

func TestHostileFilesAreProblemsAndNeverApplied(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	mallory := s.person("mallory")
	for path, text := range map[string]string{
		"tenants/acme/loadbalancers/" + s.namespace + "/foreign.service.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: kube-system}\n",
		"tenants/acme/loadbalancers/" + s.namespace + "/broken.service.yaml":  "{ not yaml",
		"tenants/acme/unknown/thing.yaml":                                     "a: b\n",
		"tenants/acme/loadbalancers/" + s.namespace + "/other.service.yaml":   "apiVersion: kubelb.k8c.io/v1alpha1\nkind: LoadBalancer\nmetadata: {name: a.b, namespace: tenant-globex}\nspec: {}\n",
	} {
		if err := mallory.clone.Write(path, text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mallory.clone.Commit(s.ctx, "hostile"); err != nil {
		t.Fatal(err)
	}
	mallory.push()
	s.eventually("four problems of the tenant", func() error {
		var tenant v1alpha1.Tenant
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: acme}, &tenant); err != nil {
			return err
		}
		if tenant.Status.Git == nil || tenant.Status.Git.ProblemCount < 4 {
			return fmt.Errorf("status.git: %+v", tenant.Status.Git)
		}
		for _, problem := range tenant.Status.Git.Problems {
			if problem.Path == "" || problem.Message == "" || problem.Remedy == "" {
				return testbed.Final(fmt.Errorf("a problem without path, message or remedy: %+v", problem))
			}
		}
		return nil
	})
	var secrets corev1.SecretList
	if err := system.HubClient.List(s.ctx, &secrets, client.InNamespace("kube-system")); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets.Items {
		if secret.Name == "x" {
			t.Error("a foreign object was applied")
		}
	}
	s.answers(address, 8080, app)

	// Neighbours go on while the files are there.
	neighbour := s.app("neighbour")
	s.answers(s.up(acme, neighbour), 8080, neighbour)
	mallory.pull()
	mallory.git("revert", "--no-edit", mallory.git("log", "-1", "--format=%H", "--author=mallory"))
	mallory.push()
}
