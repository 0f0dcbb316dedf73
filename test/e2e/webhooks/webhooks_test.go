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

// Package webhooks tests that news of a real forge arrive without polling: the
// GitSource looks once an hour, so all that happens here a Gitea told of.
package webhooks

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	acme = "acme"
	// patience bounds every wait, and is far below the GitSource's interval.
	patience = time.Minute
)

// free is an address to listen on.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

type scene struct {
	*testing.T
	*testbed.System
	ctx      context.Context
	hub, ccm string // where metrics are
}

func newScene(t *testing.T) *scene {
	ctrl.SetLogger(logr.Discard())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	s := &scene{T: t, ctx: ctx, hub: free(t), ccm: free(t)}
	starting, started := context.WithTimeout(ctx, 4*time.Minute)
	defer started()
	var err error
	s.System, err = testbed.NewSystem(starting, testbed.SystemOptions{
		Options: testbed.Options{Name: "e2ehooks", Tenants: []string{acme}, Forge: true}, Interval: time.Hour,
		HubArgs: []string{"--metrics-addr", s.hub}, CCMArgs: []string{"--metrics-addr", s.ccm},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.Tails() + s.Forge.Tail())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) eventually(what string, ask func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	s.must(testbed.Eventually(ctx, what, ask))
}

// counted is how many webhook requests a program counted, by result.
func (s *scene) counted(address string) map[string]int {
	s.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	s.must(err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	s.must(err)
	out := map[string]int{}
	for _, found := range counts.FindAllSubmatch(text, -1) {
		if out[string(found[1])], err = strconv.Atoi(string(found[2])); err != nil {
			s.Fatal(err)
		}
	}
	return out
}

var counts = regexp.MustCompile(`(?m)^kubelb_(?:manager|ccm)_webhook_requests_total\{.*result="(.*)"\} (\d+)$`)

// followed waits until the hub applied the tip of main, or what it made of it.
func (s *scene) followed(what string, ask func(*v1alpha1.LoadBalancer) error) {
	s.Helper()
	s.eventually(what, func() error {
		var lb v1alpha1.LoadBalancer
		if err := s.HubClient.Get(s.ctx, client.ObjectKey{Namespace: v1alpha1.TenantNamespace(acme), Name: "default.web"}, &lb); err != nil {
			return err
		}
		return ask(&lb)
	})
}

func TestNewsOfAForgeArrivesByWebhook(t *testing.T) {
	s := newScene(t)
	s.must(s.TenantClient(acme).Create(s.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Name: "http", Port: 8080}}},
	}))
	s.followed("the CCM's push to be heard of", func(*v1alpha1.LoadBalancer) error { return nil })
	if n := s.counted(s.hub); n["triggered"] == 0 {
		s.Errorf("the hub counts %v", n)
	}
	s.eventually("the hub's push to be heard of by the CCM", func() error {
		if n := s.counted(s.ccm); n["triggered"] == 0 {
			return fmt.Errorf("it counts %v", n)
		}
		return nil
	})

	s.byHand()
	s.byPullRequest()
	s.strangers()
}

// byHand: a person pushes to main.
func (s *scene) byHand() {
	clone, err := s.Repository.Clone(s.ctx, testbed.Reviewer)
	s.must(err)
	const file = "tenants/acme/loadbalancers/default/web.service.yaml"
	_, err = clone.Git(s.ctx, "rm", "--quiet", file)
	s.must(err)
	_, err = clone.Commit(s.ctx, "Web is not for the world")
	s.must(err)
	_, err = clone.Git(s.ctx, "push", "--quiet", "origin", "HEAD:main")
	s.must(err)
	s.eventually("the person's push to be heard of", func() error {
		var lb v1alpha1.LoadBalancer
		err := s.HubClient.Get(s.ctx, client.ObjectKey{Namespace: v1alpha1.TenantNamespace(acme), Name: "default.web"}, &lb)
		if err == nil {
			return fmt.Errorf("the load balancer is there: %+v", lb.Status.Conditions)
		}
		return client.IgnoreNotFound(err)
	})
	_, err = clone.Git(s.ctx, "revert", "--no-edit", "HEAD")
	s.must(err)
	_, err = clone.Git(s.ctx, "push", "--quiet", "origin", "HEAD:main")
	s.must(err)
	s.followed("the revert to be heard of", func(*v1alpha1.LoadBalancer) error { return nil })
}

// byPullRequest: what happens to a pull request is news, though no branch moves.
func (s *scene) byPullRequest() {
	clone, err := s.Repository.Clone(s.ctx, testbed.Reviewer)
	s.must(err)
	s.must(clone.Write("NOTES.md", rand.Text()))
	_, err = clone.Commit(s.ctx, "Notes")
	s.must(err)
	_, err = clone.Git(s.ctx, "push", "--quiet", "origin", "HEAD:refs/heads/notes")
	s.must(err)
	var pr struct{ Number int }
	s.must(s.Repository.API(s.ctx, testbed.Reviewer, http.MethodPost, "/pulls",
		map[string]string{"head": "notes", "base": "main", "title": "Notes"}, &pr))
	before := s.counted(s.hub)["triggered"]
	s.must(s.Repository.API(s.ctx, testbed.Reviewer, http.MethodPatch, fmt.Sprintf("/pulls/%d", pr.Number), map[string]string{"state": "closed"}, nil))
	s.eventually("the closed pull request to be heard of", func() error {
		if n := s.counted(s.hub); n["triggered"] <= before {
			return fmt.Errorf("the hub counts %v, and %d before", n, before)
		}
		return nil
	})
}

// strangers: another repository of the same forge, with the same secret.
func (s *scene) strangers() {
	other, err := s.Forge.Create(s.ctx, "other")
	s.must(err)
	var secret corev1.Secret
	s.must(s.HubClient.Get(s.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: "fleet-webhook"}, &secret))
	var hooks []struct{ Config map[string]string }
	s.must(s.Repository.API(s.ctx, testbed.Admin, http.MethodGet, "/hooks", nil, &hooks))
	for _, hook := range hooks {
		s.must(s.Forge.AddWebhook(s.ctx, other, testbed.Webhook{URL: hook.Config["url"], Secret: string(secret.Data["token"])}))
	}
	clone, err := other.Clone(s.ctx, testbed.Admin)
	s.must(err)
	s.must(clone.Write("README.md", "Another"))
	_, err = clone.Commit(s.ctx, "Begin")
	s.must(err)
	_, err = clone.Git(s.ctx, "push", "--quiet", "origin", "HEAD:main")
	s.must(err)
	s.eventually("the other repository's push to be refused", func() error {
		if hub, ccm := s.counted(s.hub), s.counted(s.ccm); hub["foreign"] == 0 || ccm["foreign"] == 0 {
			return fmt.Errorf("hub and CCM count %v and %v", hub, ccm)
		}
		return nil
	})
}
