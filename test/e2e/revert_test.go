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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// revert reverts a commit of main as people do.
func (p *person) revert(commit string) (hash string) {
	p.Helper()
	p.pull()
	p.git("revert", "--no-edit", commit)
	p.push()
	return p.git("rev-parse", "HEAD")
}

func (s *scene) withdrawn(tenant, name string) {
	s.Helper()
	s.eventually("the address of "+name+" to be withdrawn", func() error {
		if got := s.service(tenant, name).Status.LoadBalancer.Ingress; len(got) > 0 {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

func (s *scene) deleted(tenant, name string) {
	s.Helper()
	s.delete(tenant, name)
	s.serviceGone(tenant, name)
}

func TestRevertsOfEveryKind(t *testing.T) {
	s := newScene(t)
	alice := s.person("alice")

	s.step("of a creation", func(s *scene) {
		app := s.app("created")
		address := s.up(acme, app)
		silent := s.silent(acme)
		revert := alice.revert(s.lastChange(acme, "created"))
		s.closed(address, 8080)
		s.withdrawn(acme, "created")
		s.serviceCondition(acme, "created", "Held", metav1.ConditionTrue, "the whole load balancer", revert[:12], "alice")
		s.event(acme, "created", "Held", revert[:12], "alice")
		alice.revert("HEAD")
		s.answers(address, 8080, app)
		s.serviceCondition(acme, "created", "Held", metav1.ConditionFalse)
		silent()
	})

	s.step("of a deletion", func(s *scene) {
		app := s.app("deleted")
		address := s.up(acme, app)
		s.deleted(acme, "deleted")
		silent := s.silent(acme)
		alice.revert(s.commit(acme, "deleted", "deleted"))
		s.condition(acme, "deleted", v1alpha1.ConditionAccepted, metav1.ConditionFalse)
		if reason, err := s.column("loadbalancers", v1alpha1.TenantNamespace(acme), s.namespace+".deleted", "READY"); err != nil || reason != "False" {
			s.Errorf("kubectl prints READY %q (%v)", reason, err)
		}
		s.heldColumn(acme, "deleted", "the whole document")
		s.closed(address, 8080)
		silent()
		// The tenant makes the Service again: it is met, with the address it had.
		if again, err := system.Expose(s.ctx, acme, app); err != nil || again != address {
			s.Fatalf("it got %q (%v), it had %s", again, err, address)
		}
		s.answers(address, 8080, app)
		s.serviceCondition(acme, "deleted", "Held", metav1.ConditionFalse)
	})

	s.step("of a port's removal whose NodePort is gone", func(s *scene) {
		app := s.app("ports", tcp("http", 8080), tcp("alt", 8443))
		address := s.up(acme, app)
		s.answers(address, 8443, app)
		s.edit(acme, "ports", func(service *corev1.Service) { service.Spec.Ports = service.Spec.Ports[:1] })
		s.closed(address, 8443)
		removal := s.commit(acme, "ports", "8443", "removed") // the port may close before the CCM has said so
		silent := s.silent(acme)
		revert := alice.revert(removal)
		s.shows(acme, "ports", "spec.ports[alt]", revert, "alice")
		s.serviceCondition(acme, "ports", "Problem", metav1.ConditionTrue, "8443")
		s.answers(address, 8080, app) // its neighbour goes on
		if reaches(address, 8443) {
			s.Error("a port without a NodePort is open")
		}
		silent()
		s.edit(acme, "ports", func(service *corev1.Service) {
			service.Spec.Ports = append(service.Spec.Ports, app.NewService().Spec.Ports[1])
		})
		s.answers(address, 8443, app) // through the new NodePort
		s.serviceCondition(acme, "ports", "Held", metav1.ConditionFalse)
		s.serviceCondition(acme, "ports", "Problem", metav1.ConditionFalse)
	})

	s.step("of a commit older than a re-creation", func(s *scene) {
		app := s.app("again")
		address := s.up(acme, app)
		s.edit(acme, "again", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
		s.answers(address, 9090, app)
		change := s.commit(acme, "again", "9090")
		old := s.service(acme, "again")
		s.deleted(acme, "again")
		app.Ports = []corev1.ServicePort{{Name: "http", Port: 9090}}
		if again, err := system.Expose(s.ctx, acme, app); err != nil || again != address {
			s.Fatalf("it got %q (%v), it had %s", again, err, address)
		}
		s.answers(address, 9090, app)
		if now := s.service(acme, "again"); now.UID == old.UID {
			s.Fatal("it was not made again")
		}
		silent := s.silent(acme)
		revert := alice.revert(change)
		s.answers(address, 8080, app) // the old port, the new NodePort
		s.closed(address, 9090)
		s.shows(acme, "again", "spec.ports[http].port", revert, "alice")
		silent()
		alice.revert("HEAD")
		s.answers(address, 9090, app)
	})
}

func TestCherryPicks(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	alice := s.person("alice")
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)
	change := s.commit(acme, "web", "9090")

	silent := s.silent(acme)
	alice.revert(change)
	s.answers(address, 8080, app)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "alice")

	// The tenant's commit picked again: main has what the tenant asks for.
	alice.pull()
	alice.git("cherry-pick", change)
	alice.push()
	s.answers(address, 9090, app)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionFalse)

	// A person's commit picked from a branch of theirs.
	alice.pull()
	alice.git("checkout", "--quiet", "-b", "idea", "HEAD~2")
	alice.replace(s.path(acme, "web"), "  type: LoadBalancer\n", "  loadBalancerSourceRanges:\n  - 127.0.0.0/8\n  type: LoadBalancer\n")
	idea := alice.git("rev-parse", "HEAD")
	alice.git("checkout", "--quiet", "main")
	alice.git("cherry-pick", idea)
	alice.push()
	pick := alice.git("rev-parse", "HEAD")
	s.shows(acme, "web", "spec.loadBalancerSourceRanges", pick, "alice")
	s.answers(address, 9090, app)
	silent()
	alice.git("branch", "--quiet", "-D", "idea")
}
