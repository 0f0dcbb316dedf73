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
	"cmp"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// late makes an app's Service while something is wrong, and returns what waits
// until it is served after all.
func (s *scene) late(tenant string, app testbed.App) (served func() string) {
	s.Helper()
	ctx := s.ctx
	if err := system.Deploy(ctx, tenant, app); err != nil {
		s.Fatal(err)
	}
	if err := system.TenantClient(tenant).Create(ctx, app.NewService()); err != nil {
		s.Fatal(err)
	}
	return func() string {
		s.Helper()
		address, err := system.Address(ctx, tenant, s.namespace, app.Name)
		if err != nil {
			s.Fatal(err)
		}
		s.answers(address, 8080, app)
		return address
	}
}

// told waits for an Event about the whole tenant, on the CCM's ConfigMap.
func (s *scene) told(cluster, reason string, words ...string) {
	s.Helper()
	s.eventually(fmt.Sprintf("Event %s in cluster %s", reason, cluster), func() error {
		var events corev1.EventList
		if err := system.TenantClient(cluster).List(s.ctx, &events); err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			if e.InvolvedObject.Name != "kubelb-ccm-state" {
				continue
			}
			seen = append(seen, e.Reason+": "+e.Message)
			if e.Reason == reason && containsAll(e.Message, words) {
				s.Logf("Event %s: %s", e.Reason, e.Message)
				return nil
			}
		}
		return fmt.Errorf("there are %q", seen)
	})
}

func TestGitAnswersSlowly(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.settled(acme)
	system.Git.SetDelay(10 * time.Second)
	t.Cleanup(func() { system.Git.SetDelay(0) })
	served := s.late(acme, s.app("late"))
	timeout(s, &metav1.Duration{Duration: 2 * time.Second})
	t.Cleanup(func() {
		last := *s
		last.ctx = context.Background()
		timeout(&last, nil)
	})
	s.sourceSays(v1alpha1.ReasonGitUnavailable, "everything stays as it is")
	// What needs no Git is not slower: traffic, and a proxy that has to be made anew.
	s.answers(address, 8080, app)
	if err := system.KillEnvoy(); err != nil {
		t.Fatal(err)
	}
	s.answers(address, 8080, app)
	system.Git.SetDelay(0)
	served()
	s.sourceReady()
}

// timeout sets the GitSource's timeout.
func timeout(s *scene, value *metav1.Duration) {
	source, err := s.source()
	if err != nil {
		s.Fatal(err)
	}
	patch := client.MergeFrom(source.DeepCopy())
	source.Spec.Timeout = value
	if err := system.HubClient.Patch(s.ctx, source, patch); err != nil {
		s.Fatal(err)
	}
}

func TestPushesWhoseAnswersAreLost(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.settled(acme)
	before := s.git("rev-parse", "main")
	system.Git.CutNextPushes(4) // of the CCM, of the hub, and one again
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)
	s.settled(acme)
	system.Git.CutNextPushes(0)
	if commits := s.git("rev-list", "--count", before+"..main", "--", s.path(acme, "web")); commits != "1" {
		t.Errorf("the change was integrated in %s commits", commits)
	}
	s.sourceReady()
}

func TestTheGitServersDiskIsFull(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.settled(acme)
	system.Git.SetDiskFull(true)
	t.Cleanup(func() { system.Git.SetDiskFull(false) })
	served := s.late(acme, s.app("late"))
	s.told(acme, "PushRefused", "unpack")
	s.serviceCondition(acme, "late", "Problem", metav1.ConditionTrue, "disk")
	s.answers(address, 8080, app)
	dora := s.person("dora") // reading goes on
	if dora.git("rev-parse", "HEAD") != s.git("rev-parse", "main") {
		t.Error("the clone is not main")
	}
	system.Git.SetDiskFull(false)
	served()
	s.serviceCondition(acme, "late", "Problem", metav1.ConditionFalse)
	s.settled(acme)

	// The hub's pushes alone: the intent is there already.
	system.KillHub()
	served = s.late(acme, s.app("later"))
	s.eventually("the intent", func() error {
		if s.git("ls-tree", "--name-only", "intent/acme", s.path(acme, "later")) == "" {
			return errors.New("it is not pushed")
		}
		return nil
	})
	system.Git.SetDiskFull(true)
	if err := system.StartHub(); err != nil {
		t.Fatal(err)
	}
	s.sourceSays(v1alpha1.ReasonPushFailed, "disk")
	s.answers(address, 8080, app)
	system.Git.SetDiskFull(false)
	served()
	s.sourceReady()
}

func TestCredentialsRevokedAndReplaced(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.settled(acme)
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(system.SetHubCredentials(ctx), system.SetCCMCredentials(ctx, acme)); err != nil {
			t.Error(err)
		}
	})
	system.Git.AddUser("hub", "")
	system.Git.AddUser("ccm-"+acme, "")
	served := s.late(acme, s.app("late"))
	s.sourceSays(v1alpha1.ReasonAuthFailed, "fleet-git")
	s.told(acme, "GitUnauthorized")
	s.serviceCondition(acme, "late", "Problem", metav1.ConditionTrue, "credentials")
	s.answers(address, 8080, app)
	if err := system.SetHubCredentials(s.ctx); err != nil {
		t.Fatal(err)
	}
	if err := system.SetCCMCredentials(s.ctx, acme); err != nil {
		t.Fatal(err)
	}
	served() // without a restart
	s.sourceReady()
	s.serviceCondition(acme, "late", "Problem", metav1.ConditionFalse)
}

func TestForcePushedBranchesOfATenant(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.settled(acme)
	admin, err := system.Repository.Clone(s.ctx, testbed.Admin)
	if err != nil {
		t.Fatal(err)
	}
	// force sets a branch back, over whatever the hub pushes meanwhile.
	force := func(branch, to string) (old string) {
		s.Helper()
		s.eventually("the force-push of "+branch, func() (err error) {
			if _, err = admin.Git(s.ctx, "fetch", "--quiet", "origin", branch); err != nil {
				return err
			}
			if old, err = admin.Git(s.ctx, "rev-parse", cmp.Or(to, "FETCH_HEAD~1")); err == nil {
				_, err = admin.Git(s.ctx, "push", "--quiet", "--force", "origin", old+":refs/heads/"+branch)
			}
			return err
		})
		return old
	}

	s.step("intent", func(s *scene) {
		old := s.git("rev-parse", "intent/acme")
		s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
		s.answers(address, 9090, app)
		s.settled(acme)
		force("intent/acme", old)
		s.told(acme, v1alpha1.ReasonStaleWriter, "generation")
		s.settled(acme) // the CCM has written it again
		s.answers(address, 9090, app)
		if text := s.git("show", "intent/acme:"+s.path(acme, "web")); !containsAll(text, []string{"9090"}) {
			s.Errorf("the branch says %s", text)
		}
		s.serviceCondition(acme, "web", "Problem", metav1.ConditionFalse)
	})

	s.step("intent removed", func(s *scene) {
		if _, err := admin.Git(s.ctx, "push", "--quiet", "origin", ":refs/heads/intent/acme"); err != nil {
			s.Fatal(err)
		}
		s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 8080 })
		s.answers(address, 8080, app) // nothing was removed meanwhile, and it is back
		s.settled(acme)
	})

	s.step("status", func(s *scene) {
		s.eventually("two status commits", func() error {
			if s.git("rev-list", "--count", "status/acme") == "1" {
				s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 8080 })
				return errors.New("there is one")
			}
			return nil
		})
		old := force("status/acme", "")
		s.told(acme, "StatusRefused", "generation")
		// The hub says everything again with its next look, and is believed.
		s.eventually("the hub's answer", func() error {
			now := s.git("rev-parse", "status/acme")
			text := s.git("show", now+":"+repo.TenantDir(acme)+"/tenantstate.yaml") + s.git("show", now+":"+s.path(acme, "web"))
			if now == old || !containsAll(text, []string{"commit: " + s.git("rev-parse", "intent/acme"), address}) {
				return fmt.Errorf("%s says %s", now, text)
			}
			return nil
		})
		s.serviceCondition(acme, "web", "Problem", metav1.ConditionFalse)
		s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
		s.answers(address, 9090, app)
	})
}

func TestADamagedObjectInTheRepository(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.settled(acme)
	blob := s.git("rev-parse", "main:"+s.path(acme, "web"))
	system.KillHub()
	repair, err := system.Repository.Damage(blob)
	if err != nil {
		t.Fatal(err)
	}
	repaired := false
	t.Cleanup(func() {
		if !repaired {
			_ = repair()
		}
	})
	if err := system.StartHub(); err != nil { // it knows nothing and has to fetch
		t.Fatal(err)
	}
	s.eventually("the GitSource to say so", func() error {
		source, err := s.source()
		if err != nil {
			return err
		}
		if err := hasCondition(source.Status.Conditions, "Ready", metav1.ConditionFalse); err != nil {
			return err
		}
		for _, c := range source.Status.Conditions {
			t.Logf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
		return nil
	})
	s.answers(address, 8080, app)
	if _, err := s.loadBalancer(acme, "web"); err != nil {
		t.Errorf("the load balancer: %v", err)
	}
	if err := repair(); err != nil {
		t.Fatal(err)
	}
	repaired = true
	s.sourceReady()
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)
}
