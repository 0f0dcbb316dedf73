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
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestServicesChangeWhileTheCCMIsDown(t *testing.T) {
	s := newScene(t)
	keep, gone := s.app("keep"), s.app("gone")
	kept, removed := s.up(acme, keep), s.up(acme, gone)
	system.KillCCM(acme)
	s.edit(acme, "keep", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.delete(acme, "gone")
	if err := system.TenantClient(acme).Create(s.ctx, s.app("new").NewService()); err != nil {
		t.Fatal(err)
	}
	s.answers(kept, 8080, keep) // nothing moves without the CCM
	if err := system.StartCCM(s.ctx, acme); err != nil {
		t.Fatal(err)
	}
	s.answers(kept, 9090, keep)
	s.closed(removed, 8080)
	if _, err := system.Address(s.ctx, acme, s.namespace, "new"); err != nil {
		t.Error(err)
	}
}

func TestIntentsArriveWhileTheHubIsDown(t *testing.T) {
	s := newScene(t)
	app, late := s.app("web"), s.app("late")
	address := s.up(acme, app)
	if err := system.Deploy(s.ctx, acme, late); err != nil {
		t.Fatal(err)
	}
	system.KillHub()
	s.answers(address, 8080, app) // Envoy outlives the hub
	tip := s.git("rev-parse", "intent/acme")
	if err := system.TenantClient(acme).Create(s.ctx, late.NewService()); err != nil {
		t.Fatal(err)
	}
	s.eventually("the intent, without the hub", func() error {
		if now := s.git("rev-parse", "intent/acme"); now == tip {
			return errors.New("the intent branch has not moved")
		}
		return nil
	})
	if err := system.StartHub(); err != nil {
		t.Fatal(err)
	}
	arrived, err := system.Address(s.ctx, acme, s.namespace, "late")
	if err != nil {
		t.Fatal(err)
	}
	s.answers(arrived, 8080, late)
	s.answers(address, 8080, app)
	if now := s.service(acme, "web").Status.LoadBalancer.Ingress[0].IP; now != address {
		t.Errorf("the address changed from %s to %s", address, now)
	}
}

func TestGitAway(t *testing.T) {
	s := newScene(t)
	app, late := s.app("web"), s.app("late")
	address := s.up(acme, app)
	if err := system.Deploy(s.ctx, acme, late); err != nil {
		t.Fatal(err)
	}
	system.Git.Stop()
	t.Cleanup(func() { _ = system.Git.Start() })
	if err := system.TenantClient(acme).Create(s.ctx, late.NewService()); err != nil {
		t.Fatal(err)
	}
	s.eventually("the GitSource to say that Git is away", func() error {
		var source v1alpha1.GitSource
		key := client.ObjectKey{Namespace: testbed.HubNamespace, Name: testbed.SourceName}
		if err := system.HubClient.Get(s.ctx, key, &source); err != nil {
			return err
		}
		if err := hasCondition(source.Status.Conditions, "Ready", metav1.ConditionFalse); err == nil {
			return nil
		}
		return fmt.Errorf("conditions: %+v", source.Status.Conditions)
	})
	s.answers(address, 8080, app)
	if err := system.Git.Start(); err != nil {
		t.Fatal(err)
	}
	arrived, err := system.Address(s.ctx, acme, s.namespace, "late")
	if err != nil {
		t.Fatal(err)
	}
	s.answers(arrived, 8080, late)
}

func TestEnvoyKilled(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	if err := system.KillEnvoy(); err != nil {
		t.Fatal(err)
	}
	s.answers(address, 8080, app)
	other := s.app("other")
	s.answers(s.up(acme, other), 8080, other)
	if got := s.service(acme, "web").Status.LoadBalancer.Ingress; len(got) == 0 || got[0].IP != address {
		t.Errorf("the published address became %v", got)
	}
}

func TestListenerThatEnvoyRejectsHurtsNobodyElse(t *testing.T) {
	s := newScene(t)
	good := s.app("good")
	address := s.up(acme, good)
	bad := s.app("bad")
	bad.Service = func(service *corev1.Service) { service.Spec.LoadBalancerIP = foreign }
	if err := system.TenantClient(acme).Create(s.ctx, bad.NewService()); err != nil {
		t.Fatal(err)
	}
	s.condition(acme, "bad", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, foreign)
	if got := s.service(acme, "bad").Status.LoadBalancer.Ingress; len(got) > 0 {
		t.Errorf("an address that no proxy serves was published: %v", got)
	}
	s.answers(address, 8080, good)
	after := s.app("after")
	s.answers(s.up(acme, after), 8080, after)
	s.delete(acme, "bad")
	s.eventually("the bad one to be gone", func() error {
		_, err := s.loadBalancer(acme, "bad")
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
}
