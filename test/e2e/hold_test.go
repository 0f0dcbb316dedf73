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
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func reaches(address string, port int) bool {
	return testbed.Reaches(fmt.Sprintf("%s:%d", address, port))
}

func TestAnEditAndTheTenantsChanges(t *testing.T) {
	s := newScene(t)
	app := s.app("web", tcp("http", 8080), tcp("alt", 8443))
	address := s.up(acme, app)
	bob := s.person("bob")

	silent := s.silent(acme)
	bob.replace(s.path(acme, "web"), "port: 8080", "port: 7070")
	bob.push()
	edit := bob.git("rev-parse", "HEAD")
	s.answers(address, 7070, app)
	s.shows(acme, "web", "spec.ports[http].port", edit, "bob")
	silent()

	// Another field: both are live.
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[1].Port = 9443 })
	s.answers(address, 9443, app)
	s.answers(address, 7070, app)
	s.closed(address, 8443)
	s.shows(acme, "web", "spec.ports[http].port", edit, "bob")

	// The same field: it is held.
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 6060 })
	s.eventually("the change to be decided", func() error {
		tip := s.git("rev-parse", "intent/acme")
		var tenant v1alpha1.Tenant
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: acme}, &tenant); err != nil {
			return err
		}
		if s.git("show", tip+":"+s.path(acme, "web")) == s.git("show", "main:"+s.path(acme, "web")) || tenant.Status.Git == nil || tenant.Status.Git.Intent != tip {
			return fmt.Errorf("intent %s, decided %+v", tip, tenant.Status.Git)
		}
		return nil
	})
	s.answers(address, 7070, app)
	s.shows(acme, "web", "spec.ports[http].port", edit, "bob")
	if reaches(address, 6060) {
		s.Error("the held port follows the tenant")
	}

	// The tenant's next change of the held field changes nothing either, and an
	// edit to what the tenant asks for ends the hold.
	bob.pull()
	bob.replace(s.path(acme, "web"), "port: 7070", "port: 6060")
	bob.push()
	s.answers(address, 6060, app)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionFalse)
	s.event(acme, "web", "Released")
	s.metric("kubelb_manager_held_fields", acme, 0, held)

	// So does kubelbctl release, in a clone.
	bob.pull()
	bob.replace(s.path(acme, "web"), "port: 6060", "port: 5050")
	bob.push()
	s.answers(address, 5050, app)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "bob")
	bob.pull()
	if out, code := bob.ctl("release", acme, s.namespace+"/web", "--field", "spec.ports[http].port"); code != 0 || !strings.Contains(out, "6060/TCP") {
		s.Fatalf("kubelbctl release: exit %d\n%s", code, out)
	}
	s.answers(address, 6060, app)
	s.closed(address, 5050)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionFalse)
}

func TestWhatIsHeldInWords(t *testing.T) {
	s := newScene(t)
	app := s.app("web", tcp("http", 8080), tcp("alt", 8443))
	address := s.up(acme, app)
	s.answers(address, 8080, app)
	s.heldColumn(acme, "web", "")
	frank := s.person("frank")
	var edits []string
	for _, edit := range []struct{ old, replacement, held string }{
		{"port: 8080", "port: 7070", "spec.ports[http].port"},
		{"port: 8443", "port: 7443", "spec.ports[alt].port and spec.ports[http].port"},
		{"  type: LoadBalancer\n", "  loadBalancerSourceRanges:\n  - 127.0.0.0/8\n  type: LoadBalancer\n", "spec.loadBalancerSourceRanges and 2 more"},
	} {
		frank.pull()
		frank.replace(s.path(acme, "web"), edit.old, edit.replacement)
		frank.push()
		edits = append(edits, frank.git("rev-parse", "HEAD"))
		s.heldColumn(acme, "web", edit.held)
	}
	for _, commit := range slices.Backward(edits) {
		frank.revert(commit)
	}
	s.answers(address, 8080, app)
	s.heldColumn(acme, "web", "")
}

func TestACommentIsNoChange(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	carol := s.person("carol")
	s.ports(acme, "web", "8080/TCP")
	before, err := s.loadBalancer(acme, "web")
	if err != nil {
		t.Fatal(err)
	}
	silent := s.silent(acme)
	carol.replace(s.path(acme, "web"), "  ports:\n", "  # the shop's front door\n  ports:\n")
	carol.push()
	comment := carol.git("rev-parse", "HEAD")
	s.eventually("the comment to be seen", func() error {
		var source v1alpha1.GitSource
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: testbed.SourceName}, &source); err != nil {
			return err
		}
		if source.Status.Revision != comment {
			return fmt.Errorf("revision %s", source.Status.Revision)
		}
		return nil
	})
	after, err := s.loadBalancer(acme, "web")
	if err != nil || after.Generation != before.Generation {
		t.Errorf("generation %d, then %d (%v)", before.Generation, after.Generation, err)
	}
	if after.Status.Git != nil && len(after.Status.Git.Held) > 0 {
		t.Errorf("held: %+v", after.Status.Git.Held)
	}
	if s.git("rev-parse", "main") != comment {
		t.Error("the hub answered with a commit on main")
	}
	silent()
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app) // the tenant goes on
}

func TestConfirmingRemovals(t *testing.T) {
	s := newScene(t)
	keep := s.app("web-0")
	addresses := map[string]string{"web-0": s.up(globex, keep)}
	const count = 7
	for i := 1; i < count; i++ {
		app := s.app(fmt.Sprintf("web-%d", i))
		app.Service = func(service *corev1.Service) { service.Spec.Selector = map[string]string{"app": "web-0"} }
		address, err := system.Expose(s.ctx, globex, app)
		if err != nil {
			t.Fatal(err)
		}
		addresses[app.Name] = address
	}
	dave := s.person("dave")
	for i := range count {
		dave.git("rm", "--quiet", s.path(globex, fmt.Sprintf("web-%d", i)))
	}
	dave.git("commit", "--quiet", "--message", "clean up")
	dave.push()
	removal := dave.git("rev-parse", "HEAD")
	var tenant v1alpha1.Tenant
	guarded := func() error {
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: globex}, &tenant); err != nil {
			return err
		}
		if tenant.Status.Git != nil {
			for _, p := range tenant.Status.Git.Problems {
				if p.Reason == v1alpha1.ReasonApplyGuarded && containsAll(p.Remedy, []string{v1alpha1.AnnotationConfirm, removal}) {
					return nil
				}
			}
		}
		return fmt.Errorf("status.git: %+v", tenant.Status.Git)
	}
	s.eventually("the guard", guarded)
	s.metric("kubelb_manager_problems", globex, 1, problems)
	for _, address := range addresses {
		s.answers(address, 8080, keep)
	}

	// A confirmation of anything else is void.
	s.confirm(globex, s.git("rev-parse", removal+"~1"))
	s.answers(addresses["web-3"], 8080, keep)
	if err := guarded(); err != nil {
		t.Error(err)
	}
	s.confirm(globex, removal)
	for _, address := range addresses {
		s.closed(address, 8080)
	}
	s.eventually("the annotation to be taken away", func() error {
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: globex}, &tenant); err != nil {
			return err
		}
		if tenant.Annotations[v1alpha1.AnnotationConfirm] != "" {
			return errors.New("it stays")
		}
		return nil
	})
	s.metric("kubelb_manager_problems", globex, 0, problems)
}

// confirm annotates a Tenant with kubectl.
func (s *scene) confirm(tenant, commit string) {
	s.Helper()
	if _, err := system.Kubectl(s.ctx, "annotate", "--overwrite", "tenant", tenant, v1alpha1.AnnotationConfirm+"="+commit); err != nil {
		s.Fatal(err)
	}
}

func TestARewrittenMain(t *testing.T) {
	s := newScene(t)
	app, late := s.app("web"), s.app("late")
	address := s.up(acme, app)
	if err := system.Deploy(s.ctx, acme, late); err != nil {
		t.Fatal(err)
	}
	erin := s.person("erin")
	system.Repository.Allow("erin", repo.Main)
	old := s.git("rev-parse", "main")

	erin.git("checkout", "--quiet", "--orphan", "anew")
	erin.git("commit", "--quiet", "--message", "history begins anew")
	erin.replace(s.path(acme, "web"), "port: 8080", "port: 7070")
	erin.git("push", "--quiet", "--force", "origin", "HEAD:main")
	s.sourceSays(v1alpha1.ReasonMainRewritten, v1alpha1.AnnotationAcceptRewrite)
	if err := system.TenantClient(acme).Create(s.ctx, late.NewService()); err != nil {
		t.Fatal(err)
	}
	s.answers(address, 8080, app) // what is programmed stays

	// Pushed back, everything goes on by itself.
	erin.git("push", "--quiet", "--force", "origin", old+":main")
	s.sourceReady()
	arrived, err := system.Address(s.ctx, acme, s.namespace, "late")
	if err != nil {
		t.Fatal(err)
	}
	s.answers(arrived, 8080, late)

	// Accepted, the difference is held.
	erin.git("fetch", "--quiet")
	erin.git("checkout", "--quiet", "--orphan", "again", "origin/main")
	erin.git("commit", "--quiet", "--message", "history begins once more")
	erin.replace(s.path(acme, "web"), "port: 8080", "port: 7070")
	rewritten := erin.git("rev-parse", "HEAD")
	erin.git("push", "--quiet", "--force", "origin", "HEAD:main")
	s.sourceSays(v1alpha1.ReasonMainRewritten, rewritten)
	s.does([]string{"accepted main of GitSource " + testbed.SourceName, rewritten}, "accept-rewrite", testbed.SourceName)
	s.sourceReady()
	s.answers(address, 7070, app)
	s.shows(acme, "web", "spec.ports[http].port", rewritten, "erin")
	s.answers(arrived, 8080, late)
}

// source reads the GitSource.
func (s *scene) source() (*v1alpha1.GitSource, error) {
	var source v1alpha1.GitSource
	return &source, system.HubClient.Get(s.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: testbed.SourceName}, &source)
}

// sourceSays waits for a reason of the GitSource's Ready=False, with words in its message.
func (s *scene) sourceSays(reason string, words ...string) {
	s.Helper()
	s.eventually("the GitSource to say "+reason, func() error {
		source, err := s.source()
		if err != nil {
			return err
		}
		for _, c := range source.Status.Conditions {
			if c.Type == "Ready" && c.Status == metav1.ConditionFalse && c.Reason == reason && containsAll(c.Message, words) {
				s.Logf("GitSource: %s: %s", c.Reason, c.Message)
				return nil
			}
		}
		return fmt.Errorf("conditions: %+v", source.Status.Conditions)
	})
}

func (s *scene) sourceReady() {
	s.Helper()
	s.eventually("the GitSource to be ready", func() error {
		source, err := s.source()
		if err != nil {
			return err
		}
		return hasCondition(source.Status.Conditions, "Ready", metav1.ConditionTrue)
	})
}
