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

// Package forge tests reviews end to end on a real forge: hub, CCM, Envoy, and
// people who press Gitea's buttons through its API.
package forge

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	acme   = "acme"
	globex = "globex"
	// patience bounds every wait: a CCM that waits for review and hears of nothing
	// looks once a minute.
	patience = 2 * time.Minute
)

var system *testbed.System

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	var err error
	system, err = testbed.NewSystem(ctx, testbed.SystemOptions{
		Options:  testbed.Options{Name: "e2eforge", Tenants: []string{acme, globex}, Forge: true},
		Interval: 2 * time.Second,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := system.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// pullRequest is what the test reads of Gitea's.
type pullRequest struct {
	Number int
	State  string
	Merged bool
	Title  string
	Body   string
	URL    string `json:"html_url"`
	Head   struct{ Sha string }
}

type scene struct {
	*testing.T
	ctx    context.Context
	tenant string
	name   string // of the Service, in namespace default
	seen   int    // number of the pull request that was merged or closed last
}

func newScene(t *testing.T, tenant, name string) *scene {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(system.Tails())
		}
	})
	return &scene{T: t, ctx: ctx, tenant: tenant, name: name}
}

func (s *scene) eventually(what string, ask func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := testbed.Eventually(ctx, what, ask); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) api(as, method, path string, in, out any) {
	s.Helper()
	if err := system.Repository.API(s.ctx, as, method, path, in, out); err != nil {
		s.Fatal(err)
	}
}

// opened waits for the one open pull request, newer than all before, that speaks of
// some words and proposes the branch's tip.
func (s *scene) opened(words ...string) (pr pullRequest) {
	s.Helper()
	s.eventually(fmt.Sprintf("an open pull request of %q", words), func() error {
		var all []pullRequest
		if err := system.Repository.API(s.ctx, testbed.Reviewer, http.MethodGet, "/pulls?state=open", nil, &all); err != nil {
			return err
		}
		if len(all) != 1 || all[0].Number <= s.seen {
			return fmt.Errorf("open are %+v", all)
		}
		pr = all[0]
		for _, word := range words {
			if !strings.Contains(pr.Title+pr.Body, word) {
				return fmt.Errorf("it does not say %q: %s\n%s", word, pr.Title, pr.Body)
			}
		}
		if !strings.Contains(pr.Body, pr.Head.Sha) {
			return fmt.Errorf("its text is not of its commit %s: %s", pr.Head.Sha, pr.Body)
		}
		return nil
	})
	return pr
}

// merge presses the button.
func (s *scene) merge(pr pullRequest, style string) {
	s.Helper()
	s.eventually("the merge of "+pr.URL, func() error { // Gitea may still look for conflicts
		return system.Repository.API(s.ctx, testbed.Reviewer, http.MethodPost, fmt.Sprintf("/pulls/%d/merge", pr.Number), map[string]any{"Do": style}, nil)
	})
	s.seen = pr.Number
}

func (s *scene) set(pr pullRequest, state string) {
	s.Helper()
	s.api(testbed.Reviewer, http.MethodPatch, fmt.Sprintf("/pulls/%d", pr.Number), map[string]any{"state": state}, nil)
}

func (s *scene) service() *corev1.Service {
	s.Helper()
	var service corev1.Service
	if err := system.TenantClient(s.tenant).Get(s.ctx, client.ObjectKey{Namespace: "default", Name: s.name}, &service); err != nil {
		s.Fatal(err)
	}
	return &service
}

func (s *scene) ports(ports ...int32) {
	s.Helper()
	service := s.service()
	patch := client.MergeFrom(service.DeepCopy())
	service.Spec.Ports = servicePorts(ports)
	if err := system.TenantClient(s.tenant).Patch(s.ctx, service, patch); err != nil {
		s.Fatal(err)
	}
}

func servicePorts(ports []int32) (out []corev1.ServicePort) {
	for _, p := range ports {
		out = append(out, corev1.ServicePort{Name: fmt.Sprintf("p%d", p), Port: p})
	}
	return out
}

// required has the tenant's changes wait for people.
func (s *scene) required() {
	s.Helper()
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: s.tenant}}
	required := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"git":{"review":"Required"}}}`))
	if err := system.HubClient.Patch(s.ctx, tenant, required); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) create(ports ...int32) {
	s.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: s.name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: servicePorts(ports)},
	}
	if err := system.TenantClient(s.tenant).Create(s.ctx, service); err != nil {
		s.Fatal(err)
	}
}

// pending waits until the Service says where it waits, or that it does not.
func (s *scene) pending(url string) {
	s.Helper()
	s.eventually("the Service to wait at "+url, func() error {
		c := meta.FindStatusCondition(s.service().Status.Conditions, "kubelb.k8c.io/Pending")
		if url == "" && c == nil || url != "" && c != nil && strings.Contains(c.Message, url) {
			return nil
		}
		return fmt.Errorf("it says %+v", c)
	})
}

// toldOnce waits for the Event with the pull request's URL: what waits is said in
// one Event, and in another at most where people decide it.
func (s *scene) toldOnce(url string) {
	s.Helper()
	s.eventually("the Events", func() error {
		var events corev1.EventList
		if err := system.TenantClient(acme).List(s.ctx, &events, client.InNamespace("default")); err != nil {
			return err
		}
		var told []string
		what, where := 0, false
		for _, e := range events.Items {
			if e.InvolvedObject.Kind != "Service" || e.Reason != "PendingReview" {
				continue
			}
			told = append(told, e.Message)
			where = where || strings.Contains(e.Message, url)
			if strings.Contains(e.Message, "waits for review") {
				what++
			}
		}
		if what > 1 || len(told) > 2 {
			return testbed.Final(fmt.Errorf("there are %q", told))
		}
		if what == 0 || !where {
			return fmt.Errorf("there are %q", told)
		}
		s.Logf("Events: %q", told)
		return nil
	})
}

// lives waits until the hub serves exactly these ports and the tenant holds this
// many fields.
func (s *scene) lives(held int, ports ...int32) {
	s.Helper()
	s.eventually(fmt.Sprintf("ports %v, %d held", ports, held), func() error {
		var lb v1alpha1.LoadBalancer
		key := client.ObjectKey{Namespace: v1alpha1.TenantNamespace(s.tenant), Name: repo.ObjectName("default", s.name)}
		if err := system.HubClient.Get(s.ctx, key, &lb); err != nil {
			return err
		}
		is := map[int32]bool{}
		for _, p := range lb.Spec.Ports {
			is[p.Port] = true
		}
		for _, p := range ports {
			if !is[p] {
				return fmt.Errorf("it has %v", is)
			}
		}
		var tenant v1alpha1.Tenant
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: s.tenant}, &tenant); err != nil {
			return err
		}
		if len(is) != len(ports) || tenant.Status.Git == nil || int(tenant.Status.Git.Held) != held {
			return fmt.Errorf("it has %v; the tenant %+v", is, tenant.Status.Git)
		}
		if len(lb.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("it has no address: %+v", lb.Status.Conditions)
		}
		return nil
	})
}

func TestReviewOnGitea(t *testing.T) {
	s := newScene(t, acme, "web")
	s.required()
	s.create(8080)
	pr := s.opened("acme: Service default/web created", "8080/TCP")
	s.pending(pr.URL)
	s.toldOnce(pr.URL)
	s.merge(pr, "merge")
	s.pending("")
	s.lives(0, 8080)

	s.ports(8080, 8081)
	pr = s.opened("8081/TCP")
	s.ports(8080, 8082)
	if again := s.opened("8082/TCP"); again.Number != pr.Number {
		t.Errorf("a refresh made pull request %d beside %d", again.Number, pr.Number)
	}
	s.merge(pr, "squash")
	s.pending("")
	s.lives(0, 8080, 8082)

	s.ports(8080, 8083)
	pr = s.opened("8083/TCP")
	s.merge(pr, "rebase")
	s.pending("")
	s.lives(0, 8080, 8083)

	s.ports(8080, 8084)
	pr = s.opened("8084/TCP")
	s.pending(pr.URL)
	s.set(pr, "closed")
	s.pending("")
	s.lives(2, 8080, 8083) // 8084 is not added, 8083 is not removed
	s.set(pr, "open")
	s.pending(pr.URL)
	s.lives(0, 8080, 8083)
	s.set(pr, "closed")
	s.lives(2, 8080, 8083)
	s.seen = pr.Number
	s.ports(8080, 8084, 8085)
	pr = s.opened("8085/TCP")
	s.pending(pr.URL)
	s.merge(pr, "merge")
	s.pending("")
	s.lives(2, 8080, 8083, 8085)
}
