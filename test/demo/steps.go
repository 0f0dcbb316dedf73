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

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// demo is one run.
type demo struct {
	*testbed.System
	begin   time.Time
	section time.Time // when the present section's change was made
	address string
	changed string // the commit of main that the port change became
}

var app = testbed.App{Namespace: "shop", Name: "web", Replicas: 2}

const (
	firstPort  = 8080
	secondPort = 9090
	person     = "alice"
)

func (d *demo) title(format string, args ...any) {
	fmt.Printf("\n%s\n", fmt.Sprintf(format, args...))
}

func (d *demo) say(format string, args ...any) {
	fmt.Printf("  %7.2f s  %s\n", time.Since(d.begin).Seconds(), fmt.Sprintf(format, args...))
}

// stage says what was seen and how long after the section's change.
func (d *demo) stage(at time.Time, what, detail string) {
	fmt.Printf("  %+6.0f ms  %-34s %s\n", float64(at.Sub(d.section).Microseconds())/1000, what, detail)
}

func (d *demo) deploy(ctx context.Context) error {
	d.title("An app in the tenant cluster: Deployment %s/%s with %d replicas", app.Namespace, app.Name, app.Replicas)
	if err := d.Deploy(ctx, tenant, app); err != nil {
		return err
	}
	d.say("pods are ready")
	return nil
}

// expose makes the Service and shows every stage of its way.
func (d *demo) expose(ctx context.Context) error {
	d.title("kubectl expose: Service %s/%s of type LoadBalancer, port %d", app.Namespace, app.Name, firstPort)
	d.section = time.Now()
	if err := d.TenantClient(tenant).Create(ctx, app.NewService()); err != nil {
		return err
	}
	if err := d.way(ctx, testbed.StageProgrammed); err != nil {
		return err
	}
	mark, err := d.wait(ctx, testbed.StageAddressed)
	if err != nil {
		return err
	}
	if d.address, err = d.Address(ctx, tenant, app.Namespace, app.Name); err != nil {
		return err
	}
	d.stage(mark.At, "kubectl get svc", fmt.Sprintf("%s   LoadBalancer   EXTERNAL-IP %s", app.Name, d.address))
	return d.ask(ctx, firstPort)
}

// change moves the Service to another port.
func (d *demo) change(ctx context.Context) error {
	d.title("kubectl edit: the tenant moves the Service to port %d", secondPort)
	d.section = time.Now()
	var service corev1.Service
	if err := d.TenantClient(tenant).Get(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name}, &service); err != nil {
		return err
	}
	patch := client.MergeFrom(service.DeepCopy())
	service.Spec.Ports[0].Port = secondPort
	if err := d.TenantClient(tenant).Patch(ctx, &service, patch); err != nil {
		return err
	}
	if err := d.way(ctx, testbed.StageIntegrated); err != nil {
		return err
	}
	var err error
	path := repo.Path{Tenant: tenant, Kind: v1alpha1.KindLoadBalancer, Namespace: app.Namespace, Name: app.Name, SourceKind: "service"}.String()
	if d.changed, err = d.Repository.Git(ctx, "log", "-1", "--format=%H", "main", "--", path); err != nil {
		return err
	}
	return d.ask(ctx, secondPort)
}

// revert takes the change back on main, as a person would.
func (d *demo) revert(ctx context.Context) error {
	d.title("git revert %.10s on main, by %s", d.changed, person)
	d.Git.AddUser(person, "")
	d.Repository.Allow(person, repo.Main)
	clone, err := d.Repository.Clone(ctx, person)
	if err != nil {
		return err
	}
	if _, err := clone.Git(ctx, "revert", "--no-edit", d.changed); err != nil {
		return err
	}
	d.section = time.Now()
	if _, err := clone.Git(ctx, "push", "--quiet", "origin", "HEAD:main"); err != nil {
		return err
	}
	d.stage(time.Now(), "pushed to main", d.subject(ctx, "main"))
	if err := d.ask(ctx, firstPort); err != nil {
		return err
	}
	return d.held(ctx)
}

// way waits for the stages up to the last one and says when each was seen.
func (d *demo) way(ctx context.Context, last testbed.Stage) error {
	for _, s := range []struct {
		stage testbed.Stage
		what  string
	}{
		{testbed.StagePushed, "intent on intent/" + tenant},
		{testbed.StageIntegrated, "integrated on main"},
		{testbed.StageApplied, "applied in the hub"},
		{testbed.StageProgrammed, "acknowledged by Envoy"},
	} {
		mark, err := d.wait(ctx, s.stage)
		if err != nil {
			return err
		}
		detail := mark.Object
		if mark.Commit != "" && mark.Object == "" {
			detail = d.subject(ctx, mark.Commit)
		}
		d.stage(mark.At, s.what, detail)
		if s.stage == last {
			return nil
		}
	}
	return nil
}

func (d *demo) wait(ctx context.Context, stage testbed.Stage) (testbed.Mark, error) {
	name := repo.ObjectName(app.Namespace, app.Name)
	return d.Trail.Wait(ctx, string(stage), d.section, func(m testbed.Mark) bool {
		return m.Stage == stage && (m.Object == "" || m.Object == name)
	})
}

func (d *demo) subject(ctx context.Context, commit string) string {
	text, err := d.Repository.Git(ctx, "log", "-1", "--format=%h %an: %s", commit)
	if err != nil {
		return commit
	}
	return text
}

// ask waits for a response through the external address.
func (d *demo) ask(ctx context.Context, port int) error {
	target := fmt.Sprintf("%s:%d", d.address, port)
	return testbed.Eventually(ctx, "a response of http://"+target, func() error {
		reply, err := testbed.AskHTTP(ctx, target)
		if err == nil {
			d.stage(time.Now(), "curl http://"+target, fmt.Sprintf("answered by pod %s on node %s", reply.Pod, reply.Node))
		}
		return err
	})
}

// held waits until the Service says that a person holds its port.
func (d *demo) held(ctx context.Context) error {
	return testbed.Eventually(ctx, "the hold in the conditions of the Service", func() error {
		var service corev1.Service
		if err := d.TenantClient(tenant).Get(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name}, &service); err != nil {
			return err
		}
		for _, c := range service.Status.Conditions {
			if strings.HasSuffix(c.Type, "Held") && c.Status == metav1.ConditionTrue {
				if !strings.Contains(c.Message, person) {
					return fmt.Errorf("the condition %s does not name %s: %s", c.Type, person, c.Message)
				}
				d.stage(time.Now(), "the Service shows "+c.Type, c.Message)
				return nil
			}
		}
		return errors.New("no such condition")
	})
}

// explain adds the ends of the programs' logs to an error.
func (d *demo) explain(err error) error {
	return fmt.Errorf("%w%s", err, d.Tails())
}

func (d *demo) next() {
	kubectl, _ := testbed.Tool("kubectl")
	hub, acme := d.Hub.Kubeconfig, d.Tenant(tenant).Kubeconfig
	fmt.Printf(`
It stays up. To try next, in another terminal:

  kubectl=%[1]s
  $kubectl --kubeconfig %[2]s get loadbalancers -A              # in the hub
  $kubectl --kubeconfig %[2]s get gitsources,tenants -A
  $kubectl --kubeconfig %[3]s -n shop get svc                    # in the tenant
  $kubectl --kubeconfig %[3]s -n shop describe svc web
  $kubectl --kubeconfig %[3]s -n shop scale deployment web --replicas 4
  curl http://%[4]s:%[5]d

  git clone %[6]s fleet && cd fleet
  git config user.name %[8]s && git config user.email %[8]s@example.com
  git log --format='%%h %%an: %%s' main                 # who changed which load balancer
  git diff origin/base/main origin/main -- tenants     # what people hold
  git revert --no-edit HEAD && git push                # ends the hold: the revert of the revert

Logs and state: %[7]s
Ctrl-C stops everything and cleans up.
`, kubectl, hub, acme, d.address, firstPort, d.Repository.URLFor(person), filepath.Clean(d.Dir), person)
}
