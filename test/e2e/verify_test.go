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
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// key gives a person an SSH key to sign with, as docs/trust.md says, and returns
// its public half.
func (p *person) key() string {
	p.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		p.Skip("git signs with ssh-keygen, which is not installed")
	}
	file := filepath.Join(p.TempDir(), "id_ed25519")
	if out, err := exec.CommandContext(p.ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", p.name, "-f", file).CombinedOutput(); err != nil {
		p.Fatalf("%v: %s", err, out)
	}
	p.git("config", "gpg.format", "ssh")
	p.git("config", "user.signingkey", file+".pub")
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		p.Fatal(err)
	}
	return strings.TrimSpace(string(public))
}

// ctl runs kubelbctl in the person's clone, without the hub.
func (p *person) ctl(args ...string) (string, int) {
	p.Helper()
	return p.ctlIn(p.clone.Dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.TempDir(), "GIT_CONFIG_NOSYSTEM=1"}, args...)
}

// approves runs kubelbctl approve.
func (p *person) approves(what string, words ...string) {
	p.Helper()
	out, code := p.ctl("approve", what, "--fetch")
	if code != 0 || !containsAll(out, words) {
		p.Fatalf("kubelbctl approve %s: exit %d, want the words %q\n%s", what, code, words, out)
	}
}

// verify has the hub take only what counts of main, until the test ends.
func (s *scene) verify(mode v1alpha1.VerifyMode, reviewers ...v1alpha1.Reviewer) {
	s.Helper()
	source, err := s.source()
	if err != nil {
		s.Fatal(err)
	}
	patch := client.MergeFrom(source.DeepCopy())
	source.Spec.Verify, source.Spec.Reviewers = mode, reviewers
	if err := system.HubClient.Patch(s.ctx, source, patch); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		_, err := system.Kubectl(context.Background(), "--namespace", testbed.HubNamespace, "patch", "gitsource", testbed.SourceName,
			"--type", "merge", "--patch", `{"spec":{"verify":"Off","reviewers":null}}`)
		if err != nil {
			s.Error(err)
		}
	})
}

// seen waits until the hub has looked at a commit of main.
func (s *scene) seen(commit string) {
	s.Helper()
	s.eventually("the hub to look at "+commit, func() error {
		source, err := s.source()
		if err != nil {
			return err
		}
		if _, err := system.Repository.Git(s.ctx, "merge-base", "--is-ancestor", commit, source.Status.Revision); err != nil {
			return fmt.Errorf("it is at %s", source.Status.Revision)
		}
		return nil
	})
}

var remedy = regexp.MustCompile("kubelbctl approve ([0-9a-f]{40})")

// remedies waits until everybody concerned is told that a tenant's Service has a
// change on main that does not count, and returns the commit to approve.
func (s *scene) remedies(tenant, name string, words ...string) (commit string) {
	s.Helper()
	words = append([]string{"Unverified", s.path(tenant, name)}, words...)
	s.eventually("kubectl describe and kubelbctl status to tell", func() error {
		described, err := system.Kubectl(s.ctx, "describe", "tenant", tenant)
		if err != nil {
			return err
		}
		status, _ := s.ctl("status", tenant)
		for _, text := range []string{described, status} {
			plain := strings.Join(strings.Fields(text), " ")
			if !containsAll(plain, words) {
				return fmt.Errorf("not all of %q is in\n%s", words, text)
			}
			found := remedy.FindStringSubmatch(plain)
			if found == nil {
				return fmt.Errorf("what to run is not in\n%s", text)
			}
			commit = found[1]
		}
		return nil
	})
	s.serviceCondition(tenant, name, "Problem", metav1.ConditionTrue, append(words[2:], "kubelbctl approve")...)
	return commit
}

// unverified waits until the metric counts so many files.
func (s *scene) unverified(n int) {
	s.Helper()
	line := fmt.Sprintf("kubelb_manager_unverified_paths{gitsource=%q} %d\n", testbed.HubNamespace+"/"+testbed.SourceName, n)
	s.eventually(strings.TrimSpace(line), func() error {
		text, err := system.Metrics(s.ctx)
		if err == nil && !strings.Contains(text, line) {
			err = fmt.Errorf("the metrics do not say so")
		}
		return err
	})
}

// TestAnUnsignedEditWaitsForItsReviewer follows an edit that nobody entitled has
// signed, from main to traffic.
func TestAnUnsignedEditWaitsForItsReviewer(t *testing.T) {
	s := newScene(t)
	web, shop := s.app("web", tcp("http", 8080), tcp("alt", 8443)), s.app("shop")
	address, neighbour := s.up(acme, web), s.up(globex, shop)
	s.settled(acme)
	s.settled(globex)
	ada, bob, mallory := s.person("ada"), s.person("bob"), s.person("mallory")
	s.verify(v1alpha1.VerifyRequire,
		v1alpha1.Reviewer{Name: "ada", PublicKey: ada.key(), Tenants: []string{acme}},
		v1alpha1.Reviewer{Name: "bob", PublicKey: bob.key(), Tenants: []string{globex}})
	s.unverified(0)

	mallory.replace(s.path(acme, "web"), "port: 8080", "port: 6666")
	mallory.push()
	edit := mallory.git("rev-parse", "HEAD")
	if got := s.remedies(acme, "web", edit[:12], "mallory", "not signed", "ada"); got != edit {
		t.Errorf("to be approved is %s, want %s", got, edit)
	}
	s.event(acme, "web", v1alpha1.ReasonUnverified, edit[:12])
	s.unverified(1)
	s.eventually("kubectl get tenants to count it", func() error {
		column, err := s.column("tenants", "", acme, "PROBLEMS")
		if err == nil && (column == "0" || column == "") {
			err = fmt.Errorf("PROBLEMS is %q", column)
		}
		return err
	})
	s.answers(address, 8080, web)
	s.closed(address, 6666)

	// The tenant goes on in the same document, its neighbour in its own.
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[1].Port = 9443 })
	s.answers(address, 9443, web)
	s.answers(address, 8080, web)
	s.edit(globex, "shop", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(neighbour, 9090, shop)

	// The same signature of somebody whose tenants are others changes nothing.
	newest := s.lastChange(acme, "web")
	if newest == edit {
		t.Fatal("the tenant's change is not on main")
	}
	s.eventually("the newest commit to be named", func() error {
		if got := s.remedies(acme, "web", "mallory"); got != newest {
			return fmt.Errorf("it is %s, want %s", got, newest)
		}
		return nil
	})
	bob.pull()
	bob.approves(newest, "6666/TCP", "pushed ")
	s.seen(bob.git("rev-parse", "HEAD"))
	s.remedies(acme, "web", edit[:12], "ada")
	s.answers(address, 8080, web)
	s.closed(address, 6666)

	ada.pull()
	ada.approves(newest, "8080/TCP → 6666/TCP", "pushed ")
	s.answers(address, 6666, web)
	s.answers(address, 9443, web)
	s.closed(address, 8080)
	s.unverified(0)
	s.serviceCondition(acme, "web", "Problem", metav1.ConditionFalse)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue, "spec.ports[http].port", "mallory")
	s.answers(neighbour, 9090, shop)
}

// TestAProposalIsApprovedWithASignature merges a review branch, first without a
// signature.
func TestAProposalIsApprovedWithASignature(t *testing.T) {
	s := newScene(t)
	web := s.app("web")
	address := s.up(acme, web)
	s.settled(acme)
	ada, mallory := s.person("ada"), s.person("mallory")
	s.verify(v1alpha1.VerifyRequire, v1alpha1.Reviewer{Name: "ada", PublicKey: ada.key()})
	s.review(acme, v1alpha1.ReviewRequired)
	propose := func(port int32) {
		s.Helper()
		s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = port })
		s.eventually(fmt.Sprintf("the proposal of port %d", port), func() error {
			text, err := system.Repository.Git(s.ctx, "show", "review/acme:"+s.path(acme, "web"))
			if err == nil && !strings.Contains(text, fmt.Sprintf("port: %d", port)) {
				err = fmt.Errorf("it is %s", text)
			}
			return err
		})
	}

	propose(9090)
	mallory.git("fetch", "--quiet")
	mallory.git("merge", "--quiet", "--no-ff", "--no-edit", "origin/review/acme")
	mallory.git("push", "--quiet", "origin", "HEAD:main")
	newest := s.remedies(acme, "web", "ada")
	s.answers(address, 8080, web)
	s.closed(address, 9090)
	ada.pull()
	ada.approves(newest, "9090/TCP", "pushed ")
	s.answers(address, 9090, web)
	s.closed(address, 8080)
	s.unverified(0)

	propose(9091)
	ada.pull()
	ada.approves(acme, "9091/TCP", "pushed ")
	s.answers(address, 9091, web)
	s.closed(address, 9090)
	s.unverified(0)
	s.serviceCondition(acme, "web", "Pending", metav1.ConditionFalse)
	s.serviceCondition(acme, "web", "Held", metav1.ConditionFalse)

	// What an operator rejects does not come.
	propose(9092)
	proposal := s.git("rev-parse", "review/acme")
	s.eventually("the rejection", func() error {
		if out, code := s.ctl("reject", acme); code != 0 || !strings.Contains(out, "rejected proposal "+proposal) {
			return fmt.Errorf("exit %d\n%s", code, out)
		}
		return nil
	})
	s.serviceCondition(acme, "web", "Held", metav1.ConditionTrue)
	s.serviceCondition(acme, "web", "Pending", metav1.ConditionFalse)
	s.answers(address, 9091, web)
	s.closed(address, 9092)
}

// review sets spec.git.review until the test ends.
func (s *scene) review(tenant string, mode v1alpha1.ReviewPolicy) {
	s.Helper()
	set := func(mode v1alpha1.ReviewPolicy) error {
		_, err := system.Kubectl(context.Background(), "patch", "tenant", tenant, "--type", "merge", "-p", fmt.Sprintf(`{"spec":{"git":{"review":%q}}}`, mode))
		return err
	}
	if err := set(mode); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := set(v1alpha1.ReviewOff); err != nil {
			s.Error(err)
		}
	})
}
