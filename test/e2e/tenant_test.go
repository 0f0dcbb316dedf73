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
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestATenantWithATwinAndItsEnd(t *testing.T) {
	s := newScene(t)
	const umbrella, twin = "umbrella", "umbrella-twin"
	app := s.app("web")
	if err := system.AddTenant(s.ctx, umbrella); err != nil {
		t.Fatal(err)
	}
	address := s.up(umbrella, app)
	s.answers(address, 8080, app)
	s.settled(umbrella)

	s.step("a second cluster with its name writes nothing", func(s *scene) {
		silent := s.silent(umbrella)
		if err := system.AddTwin(s.ctx, twin, umbrella); err != nil {
			s.Fatal(err)
		}
		if err := system.Deploy(s.ctx, twin, app); err != nil {
			s.Fatal(err)
		}
		if err := system.TenantClient(twin).Create(s.ctx, app.NewService()); err != nil {
			s.Fatal(err)
		}
		s.told(twin, "ForeignCluster", "another cluster")
		s.serviceCondition(twin, "web", "Problem", metav1.ConditionTrue, "--adopt")
		s.answers(address, 8080, app)
		silent()
	})

	s.step("with --adopt it takes over, and the first stands down", func(s *scene) {
		tip := s.git("rev-parse", "intent/"+umbrella)
		system.KillCCM(twin)
		if err := system.StartCCM(s.ctx, twin, "--adopt"); err != nil {
			s.Fatal(err)
		}
		s.eventually("the twin's commit", func() error {
			if s.git("rev-parse", "intent/"+umbrella) == tip {
				return errors.New("there is none")
			}
			return nil
		})
		again, err := system.Address(s.ctx, twin, s.namespace, "web")
		if err != nil || again != address {
			s.Errorf("the Service got %q (%v) in the twin, it had %s", again, err, address)
		}
		s.settled(umbrella)
		silent := s.silent(umbrella)
		s.edit(umbrella, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
		s.told(umbrella, "ForeignCluster", "another cluster")
		s.serviceCondition(umbrella, "web", "Problem", metav1.ConditionTrue, "another cluster")
		silent()
		s.answers(address, 8080, app)
		system.KillCCM(umbrella) // else it would begin the branch anew, when it is archived
	})

	s.step("its Tenant is deleted", func(s *scene) {
		intent := s.git("rev-parse", "intent/"+umbrella)
		commits := s.git("rev-list", "--count", "main", "--", repo.TenantDir(umbrella))
		if _, err := system.Kubectl(s.ctx, "delete", "tenant", umbrella, "--wait=false"); err != nil {
			s.Fatal(err)
		}
		s.eventually("the Tenant to be gone", func() error {
			var tenant v1alpha1.Tenant
			err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: umbrella}, &tenant)
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.Join(err, fmt.Errorf("finalizers %v, conditions %+v", tenant.Finalizers, tenant.Status.Conditions))
		})
		s.closed(address, 8080)
		if left := s.git("ls-tree", "-r", "--name-only", "main", repo.TenantDir(umbrella)); left != "" {
			s.Errorf("main still has %s", left)
		}
		if now := s.git("rev-list", "--count", "main", "--", repo.TenantDir(umbrella)); atoi(now) != atoi(commits)+1 {
			s.Errorf("the folder had %s commits, then %s", commits, now)
		}
		refs := s.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads/archive/"+umbrella, "refs/heads/intent/"+umbrella)
		if !strings.Contains(refs, "/intent "+intent) || !strings.Contains(refs, "/status ") || strings.Contains(refs, "heads/intent/") {
			s.Errorf("the branches are %s", refs)
		}
		// The tenant hears of it.
		s.withdrawn(twin, "web")
		s.serviceCondition(twin, "web", "Problem", metav1.ConditionTrue, "was deleted in the hub")
		s.told(twin, v1alpha1.ReasonTenantDeleted)
	})

	s.step("a Tenant of its name starts cleanly, with the address that it had", func(s *scene) {
		system.KillHub() // with what it has in memory
		if err := system.StartHub(); err != nil {
			s.Fatal(err)
		}
		tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: umbrella}, Spec: v1alpha1.TenantSpec{AllowedEndpointCIDRs: []string{"127.0.0.0/8"}}}
		if err := system.HubClient.Create(s.ctx, tenant); err != nil {
			s.Fatal(err)
		}
		s.edit(twin, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 7070 })
		again, err := system.Address(s.ctx, twin, s.namespace, "web")
		if err != nil || again != address {
			s.Fatalf("it got %q (%v), it had %s", again, err, address)
		}
		s.answers(again, 7070, app)
		s.serviceCondition(twin, "web", "Problem", metav1.ConditionFalse)
	})
	system.KillCCM(twin)
}

func atoi(text string) (n int) {
	_, _ = fmt.Sscan(text, &n)
	return n
}
