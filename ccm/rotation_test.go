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

package ccm

import (
	"fmt"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/project"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// announcing is a state that names the keys of the next status.
func announcing(intent git.Commit, keys ...*git.Signer) *v1alpha1.TenantState {
	return state(intent, func(s *v1alpha1.TenantStateStatus) {
		for _, key := range keys {
			s.HubKeys = append(s.HubKeys, key.PublicKey().String())
		}
	})
}

func newKey(t *testing.T) *git.Signer {
	t.Helper()
	key, err := git.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTheHubMayChangeItsKey(t *testing.T) {
	w, ccm, web := serving(t)
	old, next := w.hub.signer, newKey(t)
	intent, _ := w.hub.intent(t)
	say := func(signer *git.Signer, ip string, keys ...*git.Signer) git.Hash {
		tip := w.hub.say(t, write{set: []repo.Object{announcing(intent, keys...), loadBalancer(web, ip)}, signer: signer})
		ccm.engine.observer.poke()
		return tip
	}
	say(old, "192.0.2.8", old, next)
	w.hasAddress(web, "192.0.2.8")
	say(next, "192.0.2.9", next)
	w.hasAddress(web, "192.0.2.9")

	// The old key has had its time, also after a restart, although the CCM was
	// installed with it.
	forged := say(old, "192.0.2.66", old)
	w.hasCondition(web, project.ConditionProblem, ReasonStatusRefused)
	w.hasAddress(web, "192.0.2.9")
	ccm.stop()
	ccm = w.start()
	w.hasCondition(web, project.ConditionProblem, ReasonStatusRefused)
	w.hasAddress(web, "192.0.2.9")
	w.hub.say(t, write{set: []repo.Object{announcing(intent, next), loadBalancer(web, "192.0.2.10")}, signer: next, force: forged})
	ccm.engine.observer.poke()
	w.hasAddress(web, "192.0.2.10")
	w.hasCondition(web, project.ConditionProblem, "")
}

func TestAMissedChangeOfTheKeyIsFoundInTheBranch(t *testing.T) {
	w, ccm, web := serving(t)
	old, second, third := w.hub.signer, newKey(t), newKey(t)
	intent, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{announcing(intent, old)}})
	ccm.engine.observer.poke()
	w.eventually("the keys are remembered", func() error {
		if got := ccm.engine.memory.get().hubKeys; got != old.PublicKey().String() {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	ccm.stop()
	w.hub.say(t, write{set: []repo.Object{announcing(intent, old, second)}, signer: old})
	w.hub.say(t, write{set: []repo.Object{announcing(intent, second, third)}, signer: second})
	w.hub.say(t, write{set: []repo.Object{announcing(intent, third), loadBalancer(web, "192.0.2.9")}, signer: third})
	w.start()
	w.hasAddress(web, "192.0.2.9")
}

func TestAKeyThatIsNotAnnouncedIsNotBelieved(t *testing.T) {
	w, ccm, web := serving(t)
	old, foreign := w.hub.signer, newKey(t)
	intent, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{announcing(intent, old)}})
	ccm.engine.observer.poke()
	w.eventually("the keys are remembered", func() error {
		if ccm.engine.memory.get().hubKeys == "" {
			return fmt.Errorf("none")
		}
		return nil
	})
	w.hub.say(t, write{set: []repo.Object{announcing(intent, foreign)}, signer: foreign})
	w.hub.say(t, write{set: []repo.Object{announcing(intent, foreign), loadBalancer(web, "192.0.2.66")}, signer: foreign})
	ccm.engine.observer.poke()
	w.hasCondition(web, project.ConditionProblem, ReasonStatusRefused)
	w.hasAddress(web, "192.0.2.7")
	// Given to the CCM by hand it counts: the hub lost its key.
	ccm.stop()
	w.start(func(o *Options) { o.HubKeys = append(o.HubKeys, foreign.PublicKey().String()) })
	w.hasAddress(web, "192.0.2.66")
}

func TestAReplacedHubKeyDoesNotSilentlyLeaveTheOldOneInForce(t *testing.T) {
	w, ccm, web := serving(t)
	old, next := w.hub.signer, newKey(t)
	intent, _ := w.hub.intent(t)
	say := func(signer *git.Signer, ip string, parent git.Hash) git.Hash {
		tip := w.hub.say(t, write{set: []repo.Object{announcing(intent, signer), loadBalancer(web, ip)}, signer: signer, force: parent})
		ccm.engine.observer.poke()
		return tip
	}
	good := say(old, "192.0.2.8", git.Hash{})
	w.hasAddress(web, "192.0.2.8")
	ccm.stop()

	// The old key still counts, and everyone is told: also after what it signed.
	replaced := func(o *Options) { o.HubKeys = []string{next.PublicKey().String()} }
	ccm = w.start(replaced)
	both := []string{old.PublicKey().Fingerprint(), next.PublicKey().Fingerprint()}
	w.hasEvent("kubelb", StateName, ReasonHubKeyReplaced, both...)
	w.hasEvent("shop", "web", ReasonHubKeyReplaced, both...)
	good = say(old, "192.0.2.9", good)
	w.hasAddress(web, "192.0.2.9")
	w.hasCondition(web, project.ConditionProblem, ReasonHubKeyReplaced)

	// A status of the new key ends it.
	good = say(next, "192.0.2.10", good)
	w.hasAddress(web, "192.0.2.10")
	w.hasCondition(web, project.ConditionProblem, "")
	say(old, "192.0.2.66", good)
	w.hasCondition(web, project.ConditionProblem, ReasonStatusRefused)
}

func TestAdoptRevokesAnOldHubKeyAtOnce(t *testing.T) {
	w, ccm, web := serving(t)
	old, next := w.hub.signer, newKey(t)
	intent, _ := w.hub.intent(t)
	good := w.hub.say(t, write{set: []repo.Object{announcing(intent, old), loadBalancer(web, "192.0.2.8")}, signer: old})
	ccm.engine.observer.poke()
	w.hasAddress(web, "192.0.2.8")
	ccm.stop()
	w.hub.say(t, write{set: []repo.Object{announcing(intent, old), loadBalancer(web, "192.0.2.66")}, signer: old, force: good})
	ccm = w.start(func(o *Options) { o.HubKeys, o.Adopt = []string{next.PublicKey().String()}, true })
	w.hasCondition(web, project.ConditionProblem, ReasonStatusRefused)
	w.hasAddress(web, "192.0.2.8")
	w.hub.say(t, write{set: []repo.Object{announcing(intent, next), loadBalancer(web, "192.0.2.9")}, signer: next, force: good})
	ccm.engine.observer.poke()
	w.hasAddress(web, "192.0.2.9")
	w.hasCondition(web, project.ConditionProblem, "")
	if got := ccm.engine.memory.get(); got.hubKeys != next.PublicKey().String() {
		t.Errorf("believed from now on: %s", got.hubKeys)
	}
}

func TestTheCCMsOwnKeyMayBeReplaced(t *testing.T) {
	w, ccm, web := serving(t, func(o *Options) { o.keyEvery = 50 * time.Millisecond })
	before, _ := w.hub.intent(t)
	var secret corev1.Secret
	name := types.NamespacedName{Namespace: "kubelb", Name: KeySecretName}
	if err := w.client.Get(t.Context(), name, &secret); err != nil {
		t.Fatal(err)
	}
	next := newKey(t)
	pem, err := next.PEM()
	if err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{keyIdentity: pem, keyIdentityPublic: []byte(next.PublicKey().String())}
	if err := w.client.Update(t.Context(), &secret); err != nil {
		t.Fatal(err)
	}
	w.eventually("a commit with the new key", func() error {
		now, _ := w.hub.intent(t)
		if _, err := now.Verify(next.PublicKey()); err != nil {
			return err
		}
		if now.Tree != before.Tree || len(now.Parents) != 1 || now.Parents[0] != before.Hash {
			t.Errorf("it is not the same content on top of the old: %+v", now)
		}
		return nil
	})
	if got := ccm.engine.publisher.pushed(); got != before.Trailers.Number(repo.TrailerGeneration)+1 {
		t.Errorf("generation %d, want one commit after %d", got, before.Trailers.Number(repo.TrailerGeneration))
	}
	w.hasAddress(web, "192.0.2.7")
}

func TestAHubThatIsKeptFromSeeingIsNoticed(t *testing.T) {
	w, ccm, web := serving(t)
	intent, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{state(intent)}})
	w.patch(web, `{"spec":{"loadBalancerSourceRanges":["192.0.2.0/24"]}}`)
	w.eventually("the push", func() error {
		if now, _ := w.hub.intent(t); now.Hash == intent.Hash {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	w.eventually("the wait is noticed", func() error {
		w.clock.add(silence)
		ccm.engine.observer.poke()
		if !ccm.engine.notices.has(noticeSilence) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	w.hasCondition(web, project.ConditionProblem, ReasonHubSilent)
	w.hasEvent("kubelb", StateName, ReasonHubSilent)
	w.hasAddress(web, "192.0.2.7")
	now, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{state(now)}})
	ccm.engine.observer.poke()
	w.hasCondition(web, project.ConditionProblem, "")
}
