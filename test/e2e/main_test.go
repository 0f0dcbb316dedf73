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
	"context"
	"errors"
	"fmt"
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
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	acme   = "acme"
	globex = "globex"
	// foreignPool has addresses that this machine has not: Envoy cannot bind them.
	foreignPool = "192.0.2.0/29"
	foreign     = "192.0.2.1"
	// patience bounds every wait; it is never what a test asserts on.
	patience = time.Minute
)

var system *testbed.System

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	system, err = testbed.NewSystem(ctx, testbed.SystemOptions{
		Options: testbed.Options{Name: "e2e", Tenants: []string{acme, globex}, Progress: func(step string, took time.Duration) {
			fmt.Printf("%s: %s\n", step, took)
		}},
		Interval: 2 * time.Second,
		Config: func(c *v1alpha1.Config) {
			c.Spec.AddressPools = append(c.Spec.AddressPools, v1alpha1.AddressPool{Name: "foreign", CIDRs: []string{foreignPool}})
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := searchAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := system.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// searchAll looks for the content of Secrets in all that the tests left behind.
func searchAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found, err := search(ctx, plaintexts.list)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("plaintext of Secrets is in %v", found)
	}
	return err
}

// scene is one test's view of the system.
type scene struct {
	*testing.T
	ctx       context.Context
	namespace string
}

// newScene gives a test a namespace named after it.
func newScene(t *testing.T) *scene {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	s := &scene{T: t, ctx: ctx, namespace: namespaceOf(t.Name())}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(system.Tails())
		}
	})
	return s
}

func namespaceOf(test string) string {
	name := strings.ToLower(strings.TrimPrefix(test, "Test"))
	return "t-" + strings.Trim(name[:min(len(name), 40)], "-")
}

func (s *scene) app(name string, ports ...corev1.ServicePort) testbed.App {
	return testbed.App{Namespace: s.namespace, Name: name, Replicas: 2, Ports: ports}
}

// up deploys an app and exposes it.
func (s *scene) up(tenant string, app testbed.App) (address string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := system.Deploy(ctx, tenant, app); err != nil {
		s.Fatal(err)
	}
	address, err := system.Expose(ctx, tenant, app)
	if err != nil {
		s.Fatal(err)
	}
	return address
}

// eventually waits for an answer of nil.
func (s *scene) eventually(what string, ask func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := testbed.Eventually(ctx, what, ask); err != nil {
		s.Fatal(err)
	}
}

// answers waits for a response of an app through address:port.
func (s *scene) answers(address string, port int, app testbed.App) (reply testbed.Reply) {
	s.Helper()
	target := fmt.Sprintf("%s:%d", address, port)
	s.eventually("a response of "+target, func() (err error) {
		reply, err = testbed.AskHTTP(s.ctx, target)
		if err == nil && (reply.Namespace != app.Namespace || !strings.HasPrefix(reply.Pod, app.Name+"-")) {
			err = fmt.Errorf("answered by pod %s/%s", reply.Namespace, reply.Pod)
		}
		return err
	})
	return reply
}

// closed waits until nothing listens on address:port.
func (s *scene) closed(address string, port int) {
	s.Helper()
	target := fmt.Sprintf("%s:%d", address, port)
	s.eventually(target+" to be closed", func() error {
		if testbed.Reaches(target) {
			return errors.New("it accepts connections")
		}
		return nil
	})
}

func (s *scene) service(tenant, name string) *corev1.Service {
	s.Helper()
	var service corev1.Service
	if err := system.TenantClient(tenant).Get(s.ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, &service); err != nil {
		s.Fatal(err)
	}
	return &service
}

// edit patches a Service of the tenant.
func (s *scene) edit(tenant, name string, change func(*corev1.Service)) {
	s.Helper()
	service := s.service(tenant, name)
	patch := client.MergeFrom(service.DeepCopy())
	change(service)
	if err := system.TenantClient(tenant).Patch(s.ctx, service, patch); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) delete(tenant, name string) {
	s.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	if err := system.TenantClient(tenant).Delete(s.ctx, service); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) loadBalancer(tenant, name string) (*v1alpha1.LoadBalancer, error) {
	var lb v1alpha1.LoadBalancer
	key := client.ObjectKey{Namespace: v1alpha1.TenantNamespace(tenant), Name: repo.ObjectName(s.namespace, name)}
	return &lb, system.HubClient.Get(s.ctx, key, &lb)
}

// condition waits for a condition of a LoadBalancer.
func (s *scene) condition(tenant, name, kind string, status metav1.ConditionStatus, words ...string) {
	s.Helper()
	s.eventually(fmt.Sprintf("condition %s=%s of %s/%s", kind, status, s.namespace, name), func() error {
		lb, err := s.loadBalancer(tenant, name)
		if err != nil {
			return err
		}
		return hasCondition(lb.Status.Conditions, kind, status, words...)
	})
}

// serviceCondition waits for a condition of a Service, by the end of its type.
func (s *scene) serviceCondition(tenant, name, suffix string, status metav1.ConditionStatus, words ...string) {
	s.Helper()
	s.eventually(fmt.Sprintf("condition %s=%s of Service %s/%s", suffix, status, s.namespace, name), func() error {
		conditions := s.service(tenant, name).Status.Conditions
		for _, c := range conditions {
			if strings.HasSuffix(c.Type, suffix) {
				return hasCondition(conditions, c.Type, status, words...)
			}
		}
		if status == metav1.ConditionFalse {
			return nil
		}
		return fmt.Errorf("no such condition among %v", conditions)
	})
}

func hasCondition(conditions []metav1.Condition, kind string, status metav1.ConditionStatus, words ...string) error {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status != status {
		return fmt.Errorf("it is %+v", c)
	}
	for _, word := range words {
		if !strings.Contains(c.Message, word) {
			return fmt.Errorf("its message does not say %q: %s", word, c.Message)
		}
	}
	return nil
}

// path is the path of a Service's wish on main.
func (s *scene) path(tenant, name string) string {
	return repo.Path{Tenant: tenant, Kind: v1alpha1.KindLoadBalancer, Namespace: s.namespace, Name: name, SourceKind: "service"}.String()
}

// git runs git in the bare repository.
func (s *scene) git(args ...string) string {
	s.Helper()
	text, err := system.Repository.Git(s.ctx, args...)
	if err != nil {
		s.Fatal(err)
	}
	return text
}

// lastChange is the newest commit of main that changed a Service's wish.
func (s *scene) lastChange(tenant, name string) string {
	return s.git("log", "-1", "--format=%H", "main", "--", s.path(tenant, name))
}

// person is somebody with a clone of main.
type person struct {
	*scene
	name  string
	clone *testbed.Clone
}

func (s *scene) person(name string) *person {
	s.Helper()
	system.Git.AddUser(name, "")
	system.Repository.Allow(name, repo.Main)
	clone, err := system.Repository.Clone(s.ctx, name)
	if err != nil {
		s.Fatal(err)
	}
	return &person{scene: s, name: name, clone: clone}
}

// git runs git in the person's clone.
func (p *person) git(args ...string) string {
	p.Helper()
	text, err := p.clone.Git(p.ctx, args...)
	if err != nil {
		p.Fatal(err)
	}
	return text
}

// pull brings the clone up to date, push pushes it, over the hub's own pushes.
func (p *person) pull() { p.Helper(); p.git("pull", "--quiet", "--rebase") }

func (p *person) push() {
	p.Helper()
	p.eventually("the push of "+p.name, func() error {
		if _, err := p.clone.Git(p.ctx, "pull", "--quiet", "--rebase"); err != nil {
			return err
		}
		_, err := p.clone.Git(p.ctx, "push", "--quiet", "origin", "HEAD:main")
		return err
	})
}

// replace changes text in a file of the clone and commits it.
func (p *person) replace(path, old, replacement string) {
	p.Helper()
	text, err := os.ReadFile(p.clone.Dir + "/" + path)
	if err != nil {
		p.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		p.Fatalf("%s does not contain %q:\n%s", path, old, text)
	}
	if err := p.clone.Write(path, strings.ReplaceAll(string(text), old, replacement)); err != nil {
		p.Fatal(err)
	}
	if _, err := p.clone.Commit(p.ctx, "edit "+path); err != nil {
		p.Fatal(err)
	}
}
