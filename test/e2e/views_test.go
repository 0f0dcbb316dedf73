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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// step runs a part of a test in the test's namespace.
func (s *scene) step(name string, do func(s *scene)) {
	s.Helper()
	s.Run(name, func(t *testing.T) {
		part := *s
		part.T = t
		do(&part)
	})
}

// silent notes the tip of a tenant's intent branch; what it returns fails the
// test if the CCM has committed anything since.
func (s *scene) silent(tenant string) func() {
	s.Helper()
	tip := s.git("rev-parse", "intent/"+tenant)
	return func() {
		s.Helper()
		if now := s.git("rev-parse", "intent/"+tenant); now != tip {
			s.Errorf("the CCM answered with a commit:\n%s", s.git("log", "--stat", tip+".."+now))
		}
	}
}

// event waits for an Event on a Service, with words in its message.
func (s *scene) event(tenant, name, reason string, words ...string) {
	s.Helper()
	s.eventually(fmt.Sprintf("Event %s on Service %s", reason, name), func() error {
		var events corev1.EventList
		if err := system.TenantClient(tenant).List(s.ctx, &events, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			if e.InvolvedObject.Name != name || e.InvolvedObject.Kind != "Service" {
				continue
			}
			seen = append(seen, e.Reason+": "+e.Message)
			if e.Reason == reason && containsAll(e.Message, words) {
				return nil
			}
		}
		return fmt.Errorf("there are %q", seen)
	})
}

func containsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// shows looks at a held field wherever people look: the Service's condition and
// Event, kubectl in the hub, the status branch and the metrics.
func (s *scene) shows(tenant, name, field, commit, author string) {
	s.Helper()
	words := []string{field, commit[:12], author}
	s.serviceCondition(tenant, name, "Held", metav1.ConditionTrue, words...)
	s.event(tenant, name, "Held", words...)
	s.heldColumn(tenant, name, field)
	s.eventually("the status branch", func() error {
		text := s.git("show", "status/"+tenant+":"+repo.TenantDir(tenant)+"/tenantstate.yaml")
		if !containsAll(text, []string{"field: " + field, "commit: " + commit, "author: " + author}) {
			return fmt.Errorf("it says %s", text)
		}
		return nil
	})
	s.metric("kubelb_manager_held_fields", tenant, 1, held)
}

// heldColumn waits for what kubectl prints of a load balancer in the column HELD.
func (s *scene) heldColumn(tenant, name, want string) {
	s.Helper()
	s.eventually(fmt.Sprintf("%q held in kubectl get loadbalancers", want), func() error {
		column, err := s.column("loadbalancers", v1alpha1.TenantNamespace(tenant), repo.ObjectName(s.namespace, name), "HELD")
		if err == nil && column != want {
			err = fmt.Errorf("HELD is %q", column)
		}
		return err
	})
}

// metric waits until a gauge of a tenant is what its Tenant says, and that is not
// too little.
func (s *scene) metric(name, tenant string, least int32, count func(*v1alpha1.TenantGitStatus) int32) {
	s.Helper()
	s.eventually(fmt.Sprintf("%s of %s, at least %d", name, tenant, least), func() error {
		var object v1alpha1.Tenant
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: tenant}, &object); err != nil {
			return err
		}
		if object.Status.Git == nil || count(object.Status.Git) < least {
			return fmt.Errorf("status.git is %+v", object.Status.Git)
		}
		line := fmt.Sprintf("%s{tenant=%q} %d", name, tenant, count(object.Status.Git))
		text, err := system.Metrics(s.ctx)
		if err == nil && !strings.Contains(text, line+"\n") {
			err = fmt.Errorf("there is no %q", line)
		}
		return err
	})
}

func held(s *v1alpha1.TenantGitStatus) int32     { return s.Held }
func problems(s *v1alpha1.TenantGitStatus) int32 { return s.ProblemCount }

// column is what kubectl prints of an object in a column.
func (s *scene) column(resource, namespace, name, header string) (string, error) {
	args := []string{"get", resource, name}
	if namespace != "" {
		args = append(args, "--namespace", namespace)
	}
	text, err := system.Kubectl(s.ctx, args...)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	at := strings.Index(lines[0], header)
	if len(lines) != 2 || at < 0 || at > len(lines[1]) {
		return "", fmt.Errorf("kubectl printed %q", text)
	}
	value, _, _ := strings.Cut(lines[1][at:], "   ") // which is between columns, and in none
	return value, nil
}

// ports waits until the hub's load balancer has the ports, as kubectl prints
// them.
func (s *scene) ports(tenant, name, want string) {
	s.Helper()
	s.eventually(fmt.Sprintf("ports %s of %s", want, name), func() error {
		lb, err := s.loadBalancer(tenant, name)
		if err == nil && lb.Status.Ports != want {
			err = fmt.Errorf("they are %s", lb.Status.Ports)
		}
		return err
	})
}

// commit waits until main has a commit on a Service's wish whose subject has the
// words, and returns it.
func (s *scene) commit(tenant, name string, words ...string) (hash string) {
	s.Helper()
	s.eventually(fmt.Sprintf("a commit with %q on main", words), func() error {
		line := s.git("log", "-1", "--format=%H %s", "main", "--", s.path(tenant, name))
		var subject string
		hash, subject, _ = strings.Cut(line, " ")
		if !containsAll(subject, words) {
			return fmt.Errorf("the newest is %q", subject)
		}
		return nil
	})
	return hash
}
