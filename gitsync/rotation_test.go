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

package gitsync

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// keys reads the Secret with the hub's keys.
func (b *bench) keys() *corev1.Secret {
	b.t.Helper()
	var secret corev1.Secret
	must(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: hubNamespace, Name: KeysSecret}, &secret))
	return &secret
}

// signedBy waits until the tip of a branch is signed with a key.
func (b *bench) signedBy(branch string, key git.PublicKey) {
	b.t.Helper()
	remote, err := git.NewRemote(b.git.url, git.Options{})
	must(b.t, err)
	defer remote.Close()
	eventually(b.t, branch+" is signed with "+key.Fingerprint(), func() string {
		tip, err := git.ParseHash(b.git.head(branch))
		if err != nil {
			return "there is no such branch"
		}
		store := git.NewStore()
		must(b.t, remote.Fetch(b.t.Context(), store, git.Want{Tip: tip}))
		commit, err := store.Commit(tip)
		must(b.t, err)
		if _, err := commit.Verify(key); err != nil {
			return err.Error()
		}
		return ""
	})
}

// announces waits until a tenant is told of exactly these keys.
func (a *actor) announces(keys ...git.PublicKey) {
	a.t.Helper()
	var want []string
	for _, key := range keys {
		want = append(want, "- "+key.String())
	}
	eventually(a.t, "announced keys", func() string {
		state := a.git.show("status/"+a.name, repo.TenantDir(a.name)+"/tenantstate.yaml")
		_, list, _ := strings.Cut(state, "hubKeys:\n")
		var got []string
		for line := range strings.Lines(list) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "- ssh-") {
				break
			}
			got = append(got, line)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("%v, want %v", got, want)
		}
		return ""
	})
}

// rotating returns the key that the hub signs with and one that may follow it,
// which is in the Secret's format, too.
func rotating(t *testing.T, secret *corev1.Secret) (old, next *git.Signer, pem []byte) {
	t.Helper()
	old, err := git.ParsePrivateKey(secret.Data[v1alpha1.HubKeyIdentity])
	must(t, err)
	next, err = git.GenerateKey()
	must(t, err)
	pem, err = next.PEM()
	must(t, err)
	return old, next, pem
}

func TestTheHubsKeyIsRotatedWithoutAGap(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	secret := b.keys()
	old, next, pem := rotating(t, secret)
	acme.announces(old.PublicKey())

	secret.Data[v1alpha1.HubKeyNext], secret.Data[v1alpha1.HubKeyNextPublic] = pem, []byte(next.PublicKey().String()+"\n")
	must(t, b.client.Update(t.Context(), secret))
	acme.announces(old.PublicKey(), next.PublicKey())
	b.signedBy("status/"+acme.name, old.PublicKey())

	// A broken Secret changes nothing.
	secret = b.keys()
	secret.Data[v1alpha1.HubKeyIdentity] = []byte("broken")
	must(t, b.client.Update(t.Context(), secret))
	b.look()
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 81)})
	acme.hasPorts("web", 81)
	acme.decided()
	b.signedBy("base/main", old.PublicKey())

	secret = b.keys()
	secret.Data[v1alpha1.HubKeyIdentity], secret.Data[v1alpha1.HubKeyIdentityPublic] = pem, secret.Data[v1alpha1.HubKeyNextPublic]
	secret.Data[v1alpha1.HubKeyPreviousPublic] = []byte("# until today\n" + old.PublicKey().String() + " hub\n")
	delete(secret.Data, v1alpha1.HubKeyNext)
	delete(secret.Data, v1alpha1.HubKeyNextPublic)
	must(t, b.client.Update(t.Context(), secret))
	acme.announces(next.PublicKey())
	b.signedBy("status/"+acme.name, next.PublicKey())
	b.signedBy("base/main", next.PublicKey())

	// What the old key signed is the hub's: no hold, no person.
	b.restart()
	b.look()
	acme.push(map[string]repo.Object{acme.path("web"): acme.balancer("web", 82)})
	acme.hasPorts("web", 82)
	b.verify(v1alpha1.VerifyRequire)
	b.look()
	acme.unverified()
	b.reason("Succeeded")
	acme.becomes("Succeeded")
}

// A loop that begins after a rotation signs nothing with the key that the hub began
// with, also if the Secret cannot be read at that moment.
func TestALoopThatBeginsLateSignsWithTheNewKey(t *testing.T) {
	s := newStepper(t)
	fresh, err := git.GenerateKey()
	must(t, err)
	stale := s.supervisor.keys
	s.supervisor.keys = &identity{signer: fresh, version: "0"} // as the hub began
	away := errors.New("the API server is away")
	c, err := client.NewWithWatch(plane, client.Options{Scheme: clientgoscheme.Scheme})
	must(t, err)
	s.supervisor.live = interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.Secret); ok && away != nil {
				return away
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	before := s.git.all()
	l := newLoop(client.ObjectKey{Namespace: hubNamespace, Name: s.source}, s.supervisor, newInbox())
	defer l.end()
	turn := func() {
		l.inbox.wakeUp()
		l.turn(t.Context(), l.inbox.take())
	}
	turn()
	if l.failed == nil || s.git.all() != before {
		t.Errorf("%+v; it signed:\n%s", l.failed, s.git.all())
	}
	away = nil
	turn()
	s.signedBy("base/main", stale.signer.PublicKey())
	away = errors.New("away again")
	if next := l.anew(s.supervisor); !next.signer.PublicKey().Equal(stale.signer.PublicKey()) || next.renewal != l.renewal {
		t.Error("the loop that takes its place does not have its keys")
	}
}

// toldKeys waits until the Tenant says that its branch announces exactly these keys.
func (a *actor) toldKeys(keys ...git.PublicKey) {
	a.t.Helper()
	var want []string
	for _, key := range keys {
		want = append(want, key.String())
	}
	eventually(a.t, "the keys of the branch", func() string {
		if git := a.tenantObject().Status.Git; git == nil || !slices.Equal(git.HubKeys, want) {
			return fmt.Sprintf("%+v, want %v", git, want)
		}
		return ""
	})
}

func TestAKeyIsToldWhenItIsOnTheBranch(t *testing.T) {
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("web", 80))
	acme.hasPorts("web", 80)
	acme.settled()
	secret := b.keys()
	old, next, pem := rotating(t, secret)
	acme.toldKeys(old.PublicKey())
	before := b.git.head("status/" + acme.name)

	var closed atomic.Bool
	closed.Store(true)
	b.git.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		refuse := closed.Load() && strings.Contains(r.URL.String(), "receive-pack")
		if refuse {
			http.Error(w, "closed", http.StatusServiceUnavailable)
		}
		return refuse
	})
	secret.Data[v1alpha1.HubKeyNext], secret.Data[v1alpha1.HubKeyNextPublic] = pem, []byte(next.PublicKey().String()+"\n")
	must(t, b.client.Update(t.Context(), secret))
	eventually(t, "the hub notes the key", func() string {
		if keys := acme.state().Status.HubKeys; len(keys) != 2 {
			return fmt.Sprint(keys)
		}
		return ""
	})
	acme.toldKeys(old.PublicKey())
	closed.Store(false)
	acme.toldKeys(old.PublicKey(), next.PublicKey())

	// The branch does not begin anew before those who were away had a chance.
	said := b.git.native(b.git.bare, "log", "-1", "--format=%P %(trailers:key="+repo.TrailerGeneration+",valueonly)",
		"-S"+next.PublicKey().String(), "status/"+acme.name)
	var generation int
	var parent string
	if _, err := fmt.Sscan(said, &parent, &generation); err != nil || generation%anewEvery != 1 || parent != before {
		t.Errorf("the announcement is on %s with generation %d (%v), want it on %s and as far from a new beginning as can be", parent, generation, err, before)
	}
	b.restart()
	b.look()
	acme.toldKeys(old.PublicKey(), next.PublicKey())
}
