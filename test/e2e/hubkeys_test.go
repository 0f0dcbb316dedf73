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
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// hubSigner is the key that the hub signs with, which nobody but the hub should have.
func (s *scene) hubSigner() *git.Signer {
	s.Helper()
	var secret corev1.Secret
	if err := system.HubClient.Get(s.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: v1alpha1.SecretHubKeys}, &secret); err != nil {
		s.Fatal(err)
	}
	signer, err := git.ParsePrivateKey(secret.Data[v1alpha1.HubKeyIdentity])
	if err != nil {
		s.Fatal(err)
	}
	return signer
}

// signed waits until the tip of a branch is signed with a key.
func (f *forger) signed(branch string, key git.PublicKey) {
	f.Helper()
	f.eventually(branch+" to be signed with "+key.Fingerprint(), func() error { return f.signature(f.at(branch), key) })
}

// signature is an error unless a commit is signed with a key.
func (f *forger) signature(hash string, key git.PublicKey) error {
	tip, err := git.ParseHash(hash)
	if err != nil {
		return err
	}
	if err := f.remote.Fetch(f.ctx, f.store, git.Want{Tip: tip}); err != nil {
		return err
	}
	commit, err := f.store.Commit(tip)
	if err == nil {
		_, err = commit.Verify(key)
	}
	return err
}

// announcement is the newest commit of a tenant's status branch that brought or
// took a key.
func (f *forger) announcement(tenant string, key git.PublicKey) string {
	f.Helper()
	return f.git("log", "-1", "--format=%H", "-S"+key.String(), "status/"+tenant, "--", repo.TenantDir(tenant)+"/tenantstate.yaml")
}

// TestTheHubsSigningKeyIsRotated changes the hub's key as docs/trust.md says,
// while one tenant's CCM runs and the other's is away the whole time.
func TestTheHubsSigningKeyIsRotated(t *testing.T) {
	s := newScene(t)
	web, shop := s.app("web"), s.app("shop")
	addresses := map[string]string{acme: s.up(acme, web), globex: s.up(globex, shop)}
	s.settled(acme)
	s.settled(globex)
	old, f := s.hubSigner(), newForger(s)
	f.signed("status/acme", old.PublicKey())
	witnesses := []*witness{s.witness(acme, "web", addresses[acme]), s.witness(globex, "shop", addresses[globex])}
	refused := func(code int, word string, args ...string) {
		s.Helper()
		if out, got := s.ctl(append([]string{"keys", "rotate"}, args...)...); got != code || !strings.Contains(out, word) {
			t.Fatalf("kubelbctl keys rotate %v: exit %d, want %d and %q:\n%s", args, got, code, word, out)
		}
	}
	refused(2, "--signing --finish", "--finish")
	refused(1, "no new key is announced", "--signing", "--finish")

	// While Git is away nobody can be told, whatever the hub has noted to tell.
	system.KillCCM(globex)
	system.Git.Stop()
	out := s.does([]string{"announced ssh-ed25519 ", "kubelbctl keys rotate --signing --finish"}, "keys", "rotate", "--signing")
	announced, _, _ := strings.Cut(strings.TrimPrefix(out, "announced "), "\n")
	next, err := git.ParsePublicKey(announced)
	if err != nil {
		t.Fatal(err)
	}
	refused(1, "is announced already", "--signing")
	s.eventually("the hub to note the key", func() error {
		var state v1alpha1.TenantState
		err := system.HubClient.Get(s.ctx, client.ObjectKey{Namespace: v1alpha1.TenantNamespace(acme), Name: v1alpha1.DefaultName}, &state)
		if err == nil && len(state.Status.HubKeys) != 2 {
			err = fmt.Errorf("keys %v", state.Status.HubKeys)
		}
		return err
	})
	refused(1, "not told yet: ", "--signing", "--finish")
	if err := system.Git.Start(); err != nil {
		t.Fatal(err)
	}
	s.eventually("kubectl to show that both were told", func() error {
		out, err := system.Kubectl(s.ctx, "get", "tenants", acme, globex, "-o", "custom-columns=TENANT:.metadata.name,KEYS:.status.git.hubKeys")
		if err == nil && strings.Count(out, announced) != 2 {
			err = errors.New(out)
		}
		return err
	})
	s.suspend(true)
	s.sourceSays(v1alpha1.ReasonSuspended)
	refused(1, "GitSource kubelb/fleet is not Ready: ", "--signing", "--finish")
	s.suspend(false)
	s.eventually("the end of the rotation", func() error {
		if out, code := s.ctl("keys", "rotate", "--signing", "--finish"); code != 0 || !strings.Contains(out, "the hub signs with "+announced) {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	for _, tenant := range []string{acme, globex} {
		told := f.announcement(tenant, next)
		if told == "" {
			t.Fatalf("%s was not told before the end", tenant)
		}
		if err := f.signature(told, old.PublicKey()); err != nil {
			t.Errorf("the announcement to %s, %s: %v", tenant, told, err)
		}
		f.signed("status/"+tenant, next)
	}
	f.signed("base/main", next)

	// What runs goes on.
	late := s.app("late")
	s.answers(s.up(acme, late), 8080, late)
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(addresses[acme], 9090, web)
	if err := f.signature(s.lastChange(acme, "web"), next); err != nil {
		t.Errorf("the newest commit on main: %v", err)
	}
	// So does what was away from before the announcement and was given the old key.
	s.edit(globex, "shop", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	if err := system.RestartCCM(globex); err != nil {
		t.Fatal(err)
	}
	s.answers(addresses[globex], 9090, shop)
	s.settled(acme)
	s.settled(globex)
	s.stolen(f, old, addresses[acme])
	for _, w := range witnesses {
		w.check(t)
	}
	refused(1, "no new key is announced", "--signing", "--finish")
	s.sourceReady()
}

// suspend sets spec.suspend of the GitSource.
func (s *scene) suspend(yes bool) {
	s.Helper()
	_, err := system.Kubectl(s.ctx, "--namespace", testbed.HubNamespace, "patch", "gitsource", testbed.SourceName,
		"--type", "merge", "--patch", fmt.Sprintf(`{"spec":{"suspend":%t}}`, yes))
	if err != nil {
		s.Fatal(err)
	}
}

// stolen has a thief of the old key write a status, which a CCM that has seen the
// end of the rotation does not believe. The hub puts the branch right.
func (s *scene) stolen(f *forger, old *git.Signer, address string) {
	s.Helper()
	genuine := f.at("status/acme")
	system.KillHub()
	f.signer = old
	path := s.path(acme, "web")
	f.forge("status/acme", genuine, map[string][]byte{path: []byte(strings.ReplaceAll(f.file("status/acme", path), address, "203.0.113.66"))}, nil)
	s.poke(acme)
	s.serviceCondition(acme, "web", "Problem", metav1.ConditionTrue, "unknown key")
	if err := system.StartHub(); err != nil {
		s.Fatal(err)
	}
	s.serviceCondition(acme, "web", "Problem", metav1.ConditionFalse)
	s.eventually("the hub's own word", func() error {
		if strings.Contains(f.file("status/acme", path), "203.0.113.66") {
			return errors.New("the thief's is there")
		}
		return nil
	})
}

// poke makes a tenant's CCM ask for an answer, so that it looks at its status
// branch soon.
func (s *scene) poke(tenant string) {
	s.Helper()
	if err := system.TenantClient(tenant).Create(s.ctx, s.app("asks").NewService()); err != nil {
		s.Fatal(err)
	}
}
