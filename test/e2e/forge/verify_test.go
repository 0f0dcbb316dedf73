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

package forge

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reviewer is somebody with a clone and a key of their own, who may push to main.
type reviewer struct {
	*scene
	clone *testbed.Clone
}

func (s *scene) reviewer() (r *reviewer, publicKey string) {
	s.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		s.Skip("git signs with ssh-keygen, which is not installed")
	}
	clone, err := system.Repository.Clone(s.ctx, testbed.Reviewer)
	if err != nil {
		s.Fatal(err)
	}
	file := filepath.Join(s.TempDir(), "id_ed25519")
	if out, err := exec.CommandContext(s.ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		s.Fatal(err)
	}
	r = &reviewer{s, clone}
	r.git("config", "gpg.format", "ssh")
	r.git("config", "user.signingkey", file+".pub")
	return r, string(public)
}

func (r *reviewer) git(args ...string) string {
	r.Helper()
	text, err := r.clone.Git(r.ctx, args...)
	if err != nil {
		r.Fatal(err)
	}
	return text
}

// path is that of the Service's wish.
func (s *scene) path() string {
	return repo.Path{Tenant: s.tenant, Kind: v1alpha1.KindLoadBalancer, Namespace: "default", Name: s.name, SourceKind: "service"}.String()
}

// approves approves the newest change of the Service's file on main.
func (r *reviewer) approves() {
	r.Helper()
	r.eventually("the push of an approval", func() error {
		r.git("fetch", "--quiet")
		r.git("checkout", "--quiet", "--detach", "origin/main")
		commit := r.git("log", "-1", "--format=%H", "--", r.path())
		r.git("commit", "--quiet", "-S", "--allow-empty", "-m", "Approve", "-m", "Kubelb-Approves: "+commit)
		_, err := r.clone.Git(r.ctx, "push", "--quiet", "origin", "HEAD:main")
		return err
	})
}

// alters has a person add a commit to the review branch, without a signature.
func (r *reviewer) alters(from, to string) {
	r.Helper()
	r.git("fetch", "--quiet")
	r.git("checkout", "--quiet", "--detach", "origin/review/"+r.tenant)
	text, err := os.ReadFile(filepath.Join(r.clone.Dir, r.path()))
	if err != nil || !strings.Contains(string(text), from) {
		r.Fatalf("%v: no %q in\n%s", err, from, text)
	}
	if err := r.clone.Write(r.path(), strings.ReplaceAll(string(text), from, to)); err != nil {
		r.Fatal(err)
	}
	r.git("commit", "--quiet", "--all", "--message", "better so")
	r.git("push", "--quiet", "origin", "HEAD:review/"+r.tenant)
}

// verify changes what counts on main.
func (s *scene) verify(ctx context.Context, mode v1alpha1.VerifyMode, forge bool, keys ...string) {
	s.Helper()
	var source v1alpha1.GitSource
	if err := system.HubClient.Get(ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: testbed.SourceName}, &source); err != nil {
		s.Fatal(err)
	}
	patch := client.MergeFrom(source.DeepCopy())
	source.Spec.Verify, source.Spec.TrustForgeApproval, source.Spec.Reviewers = mode, forge, nil
	for i, key := range keys {
		source.Spec.Reviewers = append(source.Spec.Reviewers, v1alpha1.Reviewer{Name: fmt.Sprintf("ada%d", i), PublicKey: key})
	}
	if err := system.HubClient.Patch(ctx, &source, patch); err != nil {
		s.Fatal(err)
	}
}

// moved waits until the forge has seen a person's commit on a review branch.
func (s *scene) moved(pr pullRequest) {
	s.Helper()
	s.eventually("the forge to see a person's commit", func() error {
		var now pullRequest
		err := system.Repository.API(s.ctx, testbed.Reviewer, http.MethodGet, fmt.Sprintf("/pulls/%d", pr.Number), nil, &now)
		if err == nil && now.Head.Sha == pr.Head.Sha {
			err = fmt.Errorf("it is at %s", now.Head.Sha)
		}
		return err
	})
}

// refused waits until the Service says that what is on main does not count.
func (s *scene) refused(words ...string) {
	s.Helper()
	s.eventually("the Service to say what does not count", func() error {
		c := meta.FindStatusCondition(s.service().Status.Conditions, "kubelb.k8c.io/Problem")
		if c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonUnverified {
			return fmt.Errorf("it says %+v", c)
		}
		for _, word := range append(words, "kubelbctl approve") {
			if !strings.Contains(c.Message, word) {
				return fmt.Errorf("it does not say %q: %s", word, c.Message)
			}
		}
		return nil
	})
}

// TestMergesOfTheForgeCountOnlyWhereItIsTrusted has a forge merge that signs
// nothing.
func TestMergesOfTheForgeCountOnlyWhereItIsTrusted(t *testing.T) {
	s := newScene(t, globex, "shop")
	s.required()
	ada, key := s.reviewer()
	s.verify(s.ctx, v1alpha1.VerifyRequire, false, key)
	t.Cleanup(func() { s.verify(context.Background(), v1alpha1.VerifyOff, false) })

	s.create(8080)
	s.merge(s.opened("globex: Service default/shop created"), "merge")
	s.refused("not signed", "left out")
	var lb v1alpha1.LoadBalancer
	err := system.HubClient.Get(s.ctx, client.ObjectKey{Namespace: v1alpha1.TenantNamespace(globex), Name: repo.ObjectName("default", "shop")}, &lb)
	if !apierrors.IsNotFound(err) {
		t.Fatalf("what nobody entitled has signed is applied (%v): %+v", err, lb.Spec)
	}
	ada.approves()
	s.lives(0, 8080)
	s.pending("")

	// An approval on the review branch comes with the merge.
	s.ports(8079)
	pr := s.opened("8079/TCP")
	ada.git("fetch", "--quiet")
	ada.git("checkout", "--quiet", "--detach", pr.Head.Sha)
	ada.git("commit", "--quiet", "-S", "--allow-empty", "-m", "Approve", "-m", "Kubelb-Approves: "+pr.Head.Sha)
	ada.git("push", "--quiet", "origin", "HEAD:review/"+globex)
	s.moved(pr)
	s.merge(pr, "merge")
	s.lives(0, 8079)
	s.pending("")

	s.ports(8081)
	s.merge(s.opened("8081/TCP"), "squash")
	s.refused("stays in force")
	s.lives(2, 8079) // what was merged is decided, and not in force
	ada.approves()
	s.lives(0, 8081)

	// Trusted from now on, each of its ways to merge counts, and nothing but the
	// proposal.
	s.verify(s.ctx, v1alpha1.VerifyRequire, true, key)
	for i, style := range []string{"merge", "squash", "rebase"} {
		port := int32(8082 + i)
		s.ports(port)
		s.merge(s.opened(fmt.Sprintf("%d/TCP", port)), style)
		s.lives(0, port)
		s.pending("")
	}
	s.ports(8085)
	pr = s.opened("8085/TCP")
	ada.alters("port: 8085", "port: 6666")
	s.moved(pr)
	s.merge(pr, "squash")
	s.refused("stays in force")
	s.lives(2, 8084)
	ada.approves()
	s.lives(1, 6666)

	// What was closed does not come back by a merge that nobody has signed.
	s.ports(8086)
	pr = s.opened("8086/TCP")
	s.set(pr, "closed")
	s.pending("")
	s.lives(2, 6666)
	ada.git("fetch", "--quiet")
	ada.git("checkout", "--quiet", "--detach", "origin/main")
	ada.git("merge", "--quiet", "--no-ff", "--no-edit", "origin/review/"+globex)
	ada.git("push", "--quiet", "origin", "HEAD:main")
	s.refused("not signed", "stays in force")
	s.lives(2, 6666)
}
