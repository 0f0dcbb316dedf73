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
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/project"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	nodesFile = "addresses/default.yaml"
	webWish   = "loadbalancers/shop/web.service.yaml"
	webFact   = "backends/shop/web.service.yaml"
)

func (w *world) hasAddress(s *corev1.Service, want string) {
	w.Helper()
	w.eventually("address of "+s.Name, func() error {
		ingress := w.get(s).Status.LoadBalancer.Ingress
		have := ""
		if len(ingress) > 0 {
			have = ingress[0].IP
		}
		if have != want {
			return fmt.Errorf("%q, want %q", have, want)
		}
		return nil
	})
}

// hasCondition waits for a condition; without a reason, until it is gone.
func (w *world) hasCondition(s *corev1.Service, kind, reason string) *metav1.Condition {
	w.Helper()
	var c *metav1.Condition
	w.eventually("condition "+kind, func() error {
		c = apimeta.FindStatusCondition(w.get(s).Status.Conditions, kind)
		if c == nil && reason == "" || c != nil && c.Reason == reason {
			return nil
		}
		return fmt.Errorf("%+v, want reason %q", c, reason)
	})
	return c
}

func (w *world) gone(s *corev1.Service) {
	w.Helper()
	w.eventually("the end of "+s.Name, func() error {
		err := w.client.Get(w.Context(), client.ObjectKeyFromObject(s), &corev1.Service{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("still there"), err)
	})
}

// serving starts a CCM with a node and a Service that has an address.
func serving(t *testing.T, options ...func(*Options)) (*world, *run, *corev1.Service) {
	t.Helper()
	w := newWorld(t)
	w.node("one", "10.0.0.1", true)
	w.hub.say(t, write{set: []repo.Object{state(git.Commit{})}})
	ccm := w.start(options...)
	web := w.service("shop", "web")
	intent := w.intentHas(nodesFile, webWish, webFact)
	w.hub.say(t, write{set: []repo.Object{state(intent), loadBalancer(web, "192.0.2.7")}})
	w.hasAddress(web, "192.0.2.7")
	return w, ccm, web
}

func TestAServiceGoesToItsIntentBranchAndItsAddressComesBack(t *testing.T) {
	w := newWorld(t)
	w.node("one", "10.0.0.1", true)
	ccm := w.start()
	web := w.service("shop", "web")

	// Nothing is pushed before the repository is known.
	w.eventually("finalizer", func() error {
		if len(w.get(web).Finalizers) == 0 {
			return errors.New("none")
		}
		return nil
	})
	if commit, _ := w.hub.intent(t); !commit.Hash.IsZero() {
		t.Fatalf("pushed %s before the hub said which repository it is", commit.Hash)
	}
	w.hub.say(t, write{set: []repo.Object{state(git.Commit{})}})
	intent := w.intentHas(nodesFile, webWish, webFact)
	var system corev1.Namespace
	if err := w.client.Get(t.Context(), types.NamespacedName{Name: "kube-system"}, &system); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		repo.TrailerRepository: repositoryID, repo.TrailerBranch: "intent/acme", repo.TrailerTenant: tenant,
		repo.TrailerGeneration: "1", repo.TrailerEpoch: "0", repo.TrailerCluster: string(system.UID), repo.TrailerDeletes: "",
	} {
		if got := intent.Trailers.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	var secret corev1.Secret
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: "kubelb", Name: KeySecretName}, &secret); err != nil {
		t.Fatal(err)
	}
	key, err := git.ParsePublicKey(strings.TrimSpace(string(secret.Data["identity.pub"])))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := intent.Verify(key); err != nil {
		t.Errorf("signature: %v", err)
	}
	if want := "Service shop/web, nodes"; intent.Subject != want || intent.Author.Name != "kubelb-ccm acme" {
		t.Errorf("%q by %q, want %q", intent.Subject, intent.Author.Name, want)
	}

	w.hub.say(t, write{set: []repo.Object{state(intent), loadBalancer(web, "192.0.2.7")}})
	w.hasAddress(web, "192.0.2.7")
	w.hasEvent("shop", "web", project.ReasonAddress)
	w.hasCondition(web, project.ConditionReady, "Programmed")

	// A change of the address follows, also when nothing of ours is on its way.
	w.hub.say(t, write{set: []repo.Object{loadBalancer(web, "192.0.2.8")}})
	ccm.engine.observer.poke()
	w.hasAddress(web, "192.0.2.8")
}

func TestTheStatusBranchMayBeginAnew(t *testing.T) {
	w, ccm, web := serving(t)
	intent, _ := w.hub.intent(t)
	w.hub.say(t, write{anew: true, set: []repo.Object{state(intent), loadBalancer(web, "192.0.2.9")}})
	ccm.engine.observer.poke()
	w.hasAddress(web, "192.0.2.9")
	w.hub.say(t, write{set: []repo.Object{loadBalancer(web, "192.0.2.10")}})
	ccm.engine.observer.poke()
	w.hasAddress(web, "192.0.2.10")
}

func TestNoChangeNoCommit(t *testing.T) {
	w, ccm, web := serving(t)
	first, _ := w.hub.intent(t)

	// What does not travel changes nothing, nor does a restart.
	w.patch(web, `{"metadata":{"annotations":{"example.com/mine":"new"}}}`)
	ccm.stop()
	w.start()
	w.service("blog", "web", func(s *corev1.Service) { s.Spec.Ports[0].Name = "" })
	second := w.intentHas(nodesFile, webWish, webFact, "loadbalancers/blog/web.service.yaml", "backends/blog/web.service.yaml")
	if len(second.Parents) != 1 || second.Parents[0] != first.Hash {
		t.Errorf("parents %v, want only %s", second.Parents, first.Hash)
	}
	if got := second.Trailers.Number(repo.TrailerGeneration); got != first.Trailers.Number(repo.TrailerGeneration)+1 {
		t.Errorf("generation %d after %d", got, first.Trailers.Number(repo.TrailerGeneration))
	}
	if want := "Service blog/web"; second.Subject != want {
		t.Errorf("subject %q, want %q", second.Subject, want)
	}
	w.hasAddress(web, "192.0.2.7")
}

func TestAChangeOfAServiceFollows(t *testing.T) {
	w, _, web := serving(t)
	w.patch(web, `{"spec":{"ports":[{"name":"http","port":81}]},"metadata":{"annotations":{"kubelb.k8c.io/proxy-protocol":"v2"}}}`)
	w.eventually("the new port", func() error {
		_, files := w.hub.intent(t)
		text := string(files[repo.TenantDir(tenant)+"/"+webWish].Data)
		if !strings.Contains(text, "port: 81\n") || !strings.Contains(text, "kubelb.k8c.io/proxy-protocol: v2\n") {
			return errors.New(text)
		}
		return nil
	})
	w.hasAddress(web, "192.0.2.7")
}

func TestAStatusThatTheHubDidNotMeanForUsIsNotBelieved(t *testing.T) {
	stranger, err := git.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]write{
		"unsigned":           {unsigned: true},
		"by another key":     {signer: stranger},
		"another branch":     {trailers: map[string]string{repo.TrailerBranch: "status/umbrella"}},
		"another tenant":     {trailers: map[string]string{repo.TrailerTenant: "umbrella"}},
		"another repository": {trailers: map[string]string{repo.TrailerRepository: "other"}},
		"set back":           {trailers: map[string]string{repo.TrailerGeneration: "1"}},
		"of the same age":    {trailers: map[string]string{repo.TrailerGeneration: "2"}},
		"no generation":      {trailers: map[string]string{repo.TrailerGeneration: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, ccm, web := serving(t)
			forge.set = []repo.Object{loadBalancer(web, "203.0.113.66")}
			forged := w.hub.say(t, forge)
			ccm.engine.observer.poke()
			w.hasCondition(web, project.ConditionProblem, ReasonStatusRefused)
			w.hasEvent("kubelb", StateName, ReasonStatusRefused)
			w.hasAddress(web, "192.0.2.7")

			// The hub's next commit is believed again.
			w.hub.say(t, write{set: []repo.Object{loadBalancer(web, "192.0.2.9")}, force: forged})
			ccm.engine.observer.poke()
			w.hasAddress(web, "192.0.2.9")
			w.hasCondition(web, project.ConditionProblem, "")
		})
	}
}

func TestServicesAreToldWhyTheHubDoesNotFollowTheCluster(t *testing.T) {
	w, ccm, web := serving(t)
	say := func(reason, message string) {
		commit, _ := w.hub.intent(t)
		ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: reason, Message: message, LastTransitionTime: metav1.Now()}
		if reason == "Succeeded" {
			ready.Status = metav1.ConditionTrue
		}
		w.hub.say(t, write{set: []repo.Object{state(commit, func(s *v1alpha1.TenantStateStatus) { s.Conditions = []metav1.Condition{ready} })}})
		ccm.engine.observer.poke()
	}
	says := func(words string) {
		w.eventually("the Service says "+words, func() error {
			service := w.get(web)
			for _, c := range service.Status.Conditions {
				if c.Type == project.ConditionProblem && strings.Contains(c.Message, words) {
					return nil
				}
			}
			return fmt.Errorf("it says %+v", service.Status.Conditions)
		})
	}
	say(v1alpha1.ReasonUntrusted, "the commit is not signed")
	w.hasCondition(web, project.ConditionProblem, v1alpha1.ReasonUntrusted)
	says("not signed")
	w.hasEvent("kubelb", StateName, v1alpha1.ReasonUntrusted)
	w.hasAddress(web, "192.0.2.7")
	say(v1alpha1.ReasonUntrusted, "the key is unknown")
	says("key is unknown")
	say("Succeeded", "followed")
	w.hasCondition(web, project.ConditionProblem, "")
}

func TestABranchThatWasSetBackIsWrittenAgain(t *testing.T) {
	w, ccm, web := serving(t)
	first, _ := w.hub.intent(t)
	w.patch(web, `{"spec":{"ports":[{"name":"http","port":9090,"targetPort":8080}]}}`)
	var last git.Commit
	w.eventually("another commit", func() error {
		if last, _ = w.hub.intent(t); last.Hash == first.Hash {
			return errors.New("there is none")
		}
		return nil
	})
	w.hub.setIntent(t, first.Hash)
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonStaleWriter, Message: "its generation is too low", LastTransitionTime: metav1.Now()}
	w.hub.say(t, write{set: []repo.Object{state(last, func(s *v1alpha1.TenantStateStatus) { s.Conditions = []metav1.Condition{ready} })}})
	ccm.engine.observer.poke()
	w.eventually("the branch to have a newer commit", func() error {
		now, files := w.hub.intent(t)
		if now.Trailers.Number(repo.TrailerGeneration) <= last.Trailers.Number(repo.TrailerGeneration) || !strings.Contains(string(files[repo.TenantDir(tenant)+"/"+webWish].Data), "9090") {
			return fmt.Errorf("generation %d", now.Trailers.Number(repo.TrailerGeneration))
		}
		return nil
	})
}

func TestAReplayIsRefusedAlsoAfterARestart(t *testing.T) {
	w, ccm, web := serving(t)
	old := w.hub.tip
	w.hub.say(t, write{set: []repo.Object{loadBalancer(web, "192.0.2.9")}})
	ccm.engine.observer.poke()
	w.hasAddress(web, "192.0.2.9")
	ccm.stop()
	w.hub.reset(t, old)
	w.start()
	w.hasCondition(web, project.ConditionProblem, ReasonStatusRefused)
	w.hasAddress(web, "192.0.2.9")
}

func TestDeleting(t *testing.T) {
	t.Run("goes when the hub confirms", func(t *testing.T) {
		w, ccm, web := serving(t)
		if err := w.client.Delete(t.Context(), web); err != nil {
			t.Fatal(err)
		}
		intent := w.intentHas(nodesFile)
		if got := intent.Trailers.Get(repo.TrailerDeletes); got != "1" {
			t.Errorf("%s: %q, want 1", repo.TrailerDeletes, got)
		}
		if want := "Service shop/web removed"; intent.Subject != want {
			t.Errorf("subject %q, want %q", intent.Subject, want)
		}
		// Decided, but proxies still serve it.
		w.hub.say(t, write{set: []repo.Object{state(intent)}})
		w.eventually("the observer", func() error {
			if got := ccm.engine.answers.observed(); got != intent.Trailers.Number(repo.TrailerGeneration) {
				return fmt.Errorf("at %d", got)
			}
			return nil
		})
		if len(w.get(web).Finalizers) == 0 {
			t.Fatal("the finalizer went while proxies still serve the Service")
		}
		w.hub.say(t, write{remove: []string{webWish, webFact}})
		ccm.engine.observer.poke()
		w.gone(web)
	})
	t.Run("goes after a minute without the hub", func(t *testing.T) {
		w, _, web := serving(t)
		if err := w.client.Delete(t.Context(), web); err != nil {
			t.Fatal(err)
		}
		w.intentHas(nodesFile)
		if len(w.get(web).Finalizers) == 0 {
			t.Fatal("the finalizer went at once")
		}
		w.clock.add(departureTimeout)
		w.patch(web, `{"metadata":{"annotations":{"example.com/look":"again"}}}`)
		w.gone(web)
		w.hasEvent("shop", "web", ReasonNotConfirmed)
	})
	t.Run("while the CCM was down", func(t *testing.T) {
		w, ccm, web := serving(t)
		ccm.stop()
		if err := w.client.Delete(t.Context(), web); err != nil {
			t.Fatal(err)
		}
		w.start()
		intent := w.intentHas(nodesFile)
		if got := intent.Trailers.Get(repo.TrailerDeletes); got != "1" {
			t.Errorf("%s: %q, want 1", repo.TrailerDeletes, got)
		}
		w.hub.say(t, write{set: []repo.Object{state(intent)}, remove: []string{webWish, webFact}})
		w.gone(web)
	})
	t.Run("a Service that never reached Git", func(t *testing.T) {
		w, ccm, web := serving(t)
		w.git.away.Store(true)
		other := w.service("blog", "web")
		w.eventually("finalizer", func() error {
			if len(w.get(other).Finalizers) == 0 {
				return errors.New("none")
			}
			return nil
		})
		if err := w.client.Delete(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		w.eventually("the publisher", func() error {
			ccm.engine.publisher.retry()
			if r, known := ccm.engine.content.lookup(serviceOrigin(client.ObjectKeyFromObject(other))); !known || len(r.paths) > 0 {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
		w.git.away.Store(false)
		w.gone(other)
		w.intentHas(nodesFile, webWish, webFact)
		w.hasAddress(web, "192.0.2.7")
	})
}

func TestLeavingTheScope(t *testing.T) {
	w, ccm, web := serving(t)
	w.patch(web, `{"spec":{"type":"ClusterIP","externalTrafficPolicy":null,"ports":[{"name":"http","port":80,"nodePort":null}]}}`)
	intent := w.intentHas(nodesFile)
	if got := intent.Trailers.Get(repo.TrailerDeletes); got != "" {
		t.Errorf("%s: %q; nobody deleted anything", repo.TrailerDeletes, got)
	}
	w.eventually("a clear status", func() error {
		if s := w.get(web).Status; len(s.LoadBalancer.Ingress) > 0 || len(s.Conditions) > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	w.hub.say(t, write{set: []repo.Object{state(intent)}, remove: []string{webWish, webFact}})
	ccm.engine.observer.poke()
	w.eventually("no finalizer", func() error {
		if f := w.get(web).Finalizers; len(f) > 0 {
			return fmt.Errorf("%v", f)
		}
		return nil
	})
	// And back.
	w.patch(web, `{"spec":{"type":"LoadBalancer"}}`)
	w.intentHas(nodesFile, webWish, webFact)
}

func TestPortsThatCannotBeServedAreSaid(t *testing.T) {
	w, _, _ := serving(t)
	sig := w.service("telco", "sig", func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "m3ua", Port: 2905, Protocol: corev1.ProtocolSCTP}, {Name: "http", Port: 80}}
	})
	no := false
	bare := w.service("telco", "bare", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = &no })
	c := w.hasCondition(sig, project.ConditionProblem, "UnsupportedProtocol")
	if !strings.Contains(c.Message, "spec.ports[m3ua].protocol") || !strings.Contains(c.Message, "remedy") {
		t.Errorf("message %q", c.Message)
	}
	w.hasEvent("telco", "sig", "UnsupportedProtocol")
	c = w.hasCondition(bare, project.ConditionProblem, "NoNodePort")
	if !strings.Contains(c.Message, "allocateLoadBalancerNodePorts") {
		t.Errorf("message %q", c.Message)
	}
	intent := w.intentHas(nodesFile, webWish, webFact, "loadbalancers/telco/sig.service.yaml", "backends/telco/sig.service.yaml")
	w.hub.say(t, write{set: []repo.Object{state(intent), loadBalancer(sig, "192.0.2.10")}})
	w.hasAddress(sig, "192.0.2.10")
	w.hasCondition(sig, project.ConditionProblem, "UnsupportedProtocol")
}

func TestAHoldIsShown(t *testing.T) {
	w, ccm, web := serving(t)
	hold := v1alpha1.HeldField{Path: repo.TenantDir(tenant) + "/" + webWish, Field: "spec.ports[http].port",
		Commit: strings.Repeat("ab", 20), Author: "Jane <jane@example.com>"}
	intent, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{state(intent, func(s *v1alpha1.TenantStateStatus) { s.Held = []v1alpha1.HeldField{hold} })}})
	ccm.engine.observer.poke()
	c := w.hasCondition(web, project.ConditionHeld, project.ReasonHeld)
	for _, word := range []string{hold.Field, "abababababab", hold.Author} {
		if !strings.Contains(c.Message, word) {
			t.Errorf("%q does not name %s", c.Message, word)
		}
	}
	w.hasEvent("shop", "web", project.ReasonHeld)
	w.hub.say(t, write{set: []repo.Object{state(intent)}})
	ccm.engine.observer.poke()
	w.hasCondition(web, project.ConditionHeld, "")
	w.hasEvent("shop", "web", project.ReasonReleased)
}

func TestEventsAboutWhatLastsAreRenewed(t *testing.T) {
	w, ccm, web := serving(t)
	intent, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{state(intent, func(s *v1alpha1.TenantStateStatus) {
		s.Held = []v1alpha1.HeldField{{Path: "tenants/acme/" + webWish, Field: "spec.ports", Commit: strings.Repeat("a", 40), Author: "Ada"}}
		s.HeldCount = 1
	}), loadBalancer(web, "192.0.2.7")}})
	ccm.engine.observer.poke()
	w.hasCondition(web, project.ConditionHeld, project.ReasonHeld)
	ccm.engine.notices.set(noticeNodes, v1alpha1.Problem{Reason: "NoNodeAddress", Message: "none"})
	w.hasEvent("shop", "web", project.ReasonHeld)
	w.hasEvent("kubelb", StateName, "NoNodeAddress")

	// The next day nothing is left of them, and then there are new ones.
	for _, namespace := range []string{"shop", "kubelb"} {
		if err := w.client.DeleteAllOf(t.Context(), &corev1.Event{}, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
	}
	version := w.get(web).ResourceVersion
	w.eventually("the Events again", func() error {
		w.clock.add(project.RemindEvery)
		ccm.engine.statuses.add(client.ObjectKeyFromObject(web))
		ccm.engine.observer.poke()
		var list corev1.EventList
		if err := w.client.List(t.Context(), &list); err != nil {
			return err
		}
		found := map[string]bool{}
		for _, e := range list.Items {
			found[e.InvolvedObject.Name+" "+e.Reason] = true
		}
		if !found["web Held"] || !found[StateName+" NoNodeAddress"] {
			return fmt.Errorf("only %v", found)
		}
		return nil
	})
	if now := w.get(web).ResourceVersion; now != version {
		t.Error("the Service was written")
	}
}

func TestAServiceIsWrittenOnlyWhenItsStatusDiffers(t *testing.T) {
	w, ccm, web := serving(t)
	w.hasCondition(web, project.ConditionReady, "Programmed")
	version := w.get(web).ResourceVersion
	// A node comes; the hub has seen it and writes what says the same.
	w.node("two", "10.0.0.2", true)
	var intent git.Commit
	w.eventually("the node on the branch", func() error {
		var files repo.Tree
		intent, files = w.hub.intent(t)
		if data := files["tenants/acme/"+nodesFile].Data; !strings.Contains(string(data), "10.0.0.2") {
			return fmt.Errorf("not in %q", data)
		}
		return nil
	})
	same := loadBalancer(web, "192.0.2.7")
	same.Status.ObservedGeneration = 7
	same.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Add(time.Minute))
	w.hub.say(t, write{set: []repo.Object{state(intent), same}})
	ccm.engine.observer.poke()
	w.eventually("the answer", func() error {
		if got, want := ccm.engine.answers.observed(), intent.Trailers.Number(repo.TrailerGeneration); got != want {
			return fmt.Errorf("generation %d, want %d", got, want)
		}
		return nil
	})
	// What differs comes after it, so the other was looked at.
	other := w.service("shop", "other")
	intent = w.intentHas(nodesFile, webWish, webFact, "loadbalancers/shop/other.service.yaml", "backends/shop/other.service.yaml")
	w.hub.say(t, write{set: []repo.Object{state(intent), loadBalancer(other, "192.0.2.8")}})
	w.hasAddress(other, "192.0.2.8")
	if now := w.get(web).ResourceVersion; now != version {
		t.Errorf("the Service was written although nothing of it changed: version %s, was %s", now, version)
	}
}

func TestAnotherClustersBranchIsNotTouchedUnlessAdopted(t *testing.T) {
	w := newWorld(t)
	w.node("one", "10.0.0.1", true)
	const another = "0b9a4c66-9d5f-4f4e-8a54-1f3f3f0a7c11"
	foreign := w.hub.intentBy(t, nil, another, 41, 0)
	w.hub.say(t, write{set: []repo.Object{state(git.Commit{
		Hash: foreign, Trailers: git.Trailers{{Key: repo.TrailerGeneration, Value: "41"}},
	})}})
	ccm := w.start()
	web := w.service("shop", "web")
	c := w.hasCondition(web, project.ConditionProblem, ReasonForeignCluster)
	if !strings.Contains(c.Message, another) || !strings.Contains(c.Message, "--adopt") {
		t.Errorf("message %q", c.Message)
	}
	w.hasEvent("kubelb", StateName, ReasonForeignCluster)
	if tip, _ := w.hub.intent(t); tip.Hash != foreign {
		t.Fatalf("pushed %s over another cluster's %s", tip.Hash, foreign)
	}
	ccm.stop()

	w.start(func(o *Options) { o.Adopt = true })
	intent := w.intentHas(nodesFile, webWish, webFact)
	if got := intent.Trailers.Number(repo.TrailerGeneration); got != 42 {
		t.Errorf("generation %d, want the one after 41", got)
	}
	w.hasCondition(web, project.ConditionProblem, "")
}

func TestALeaderThatWasReplacedStandsDown(t *testing.T) {
	w, ccm, _ := serving(t)
	tip, _ := w.hub.intent(t)
	newer := w.hub.intentBy(t, ccm.engine.publisher.signer, tip.Trailers.Get(repo.TrailerCluster), tip.Trailers.Number(repo.TrailerGeneration)+1, 7)
	w.service("blog", "web")
	select {
	case err := <-ccm.ended:
		if !errors.Is(err, errSuperseded) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("still running")
	}
	if tip, _ := w.hub.intent(t); tip.Hash != newer {
		t.Error("pushed over a newer leader's commit")
	}
}

// TestWhatNobodyOfThisClusterSignedSaysNothingOfGenerations: anybody who may push
// the branch can write any number into a commit.
func TestWhatNobodyOfThisClusterSignedSaysNothingOfGenerations(t *testing.T) {
	w, ccm, _ := serving(t)
	for _, forged := range []struct {
		what, cluster     string
		generation, epoch int64
	}{
		{"the last number there is", "", math.MaxInt64, 0},
		{"the last number that is believed", "", repo.MaxGeneration, 0},
		{"a higher epoch of this cluster", "own", 50, math.MaxInt32},
		{"a cluster that is none", "\u0080", 50, 0},
	} {
		tip, _ := w.hub.intent(t)
		if forged.cluster == "own" {
			forged.cluster = tip.Trailers.Get(repo.TrailerCluster)
		}
		w.hub.intentBy(t, newKey(t), forged.cluster, forged.generation, forged.epoch)
		ccm.engine.publisher.doubt()
		w.eventually(forged.what+" is written over", func() error {
			now, _ := w.hub.intent(t)
			if want := tip.Trailers.Number(repo.TrailerGeneration) + 1; now.Trailers.Number(repo.TrailerGeneration) != want || !ccm.engine.publisher.wrote(now) {
				return fmt.Errorf("generation %q instead of %d, %v", now.Trailers.Get(repo.TrailerGeneration), want, now.Trailers)
			}
			return nil
		})
	}
}

func TestAPushOfUnknownOutcomeIsContinued(t *testing.T) {
	w, _, _ := serving(t)
	first, _ := w.hub.intent(t)
	w.git.cutPush.Store(true)
	w.service("blog", "web")
	blog := []string{"loadbalancers/blog/web.service.yaml", "backends/blog/web.service.yaml"}
	second := w.intentHas(append(blog, nodesFile, webWish, webFact)...)
	w.service("news", "web")
	third := w.intentHas(append(blog, nodesFile, webWish, webFact, "loadbalancers/news/web.service.yaml", "backends/news/web.service.yaml")...)
	if second.Parents[0] != first.Hash || third.Parents[0] != second.Hash {
		t.Errorf("%s, %s, %s are not one line", first.Hash, second.Hash, third.Hash)
	}
}

func TestGitAwayAndBack(t *testing.T) {
	w, ccm, web := serving(t)
	w.git.away.Store(true)
	blog := w.service("blog", "web")
	w.hasCondition(blog, project.ConditionProblem, ReasonGitUnreachable)
	w.hasEvent("kubelb", StateName, ReasonGitUnreachable)
	if got := gaugeValue(t, gitConnected.WithLabelValues()); got != 0 {
		t.Errorf("connected %v while Git is away", got)
	}
	w.hasAddress(web, "192.0.2.7")
	w.hasCondition(web, project.ConditionProblem, "")

	w.git.away.Store(false)
	ccm.engine.observer.poke()
	w.intentHas(nodesFile, webWish, webFact, "loadbalancers/blog/web.service.yaml", "backends/blog/web.service.yaml")
	w.hasCondition(blog, project.ConditionProblem, "")
	if got := gaugeValue(t, gitConnected.WithLabelValues()); got != 1 {
		t.Errorf("connected %v while Git is there", got)
	}
}

func TestADeletedIntentBranchIsMadeAnew(t *testing.T) {
	w, _, _ := serving(t)
	old, _ := w.hub.intent(t)
	w.hub.dropIntent(t)
	w.service("blog", "web")
	intent := w.intentHas(nodesFile, webWish, webFact, "loadbalancers/blog/web.service.yaml", "backends/blog/web.service.yaml")
	if intent.Trailers.Number(repo.TrailerGeneration) <= old.Trailers.Number(repo.TrailerGeneration) {
		t.Errorf("generation %d after %d", intent.Trailers.Number(repo.TrailerGeneration), old.Trailers.Number(repo.TrailerGeneration))
	}
}

func TestManyServicesTakeFewCommits(t *testing.T) {
	w, _, _ := serving(t)
	first, _ := w.hub.intent(t)
	paths := []string{nodesFile, webWish, webFact}
	for i := range 30 {
		name := fmt.Sprintf("web-%d", i)
		w.service("many", name)
		paths = append(paths, "loadbalancers/many/"+name+".service.yaml", "backends/many/"+name+".service.yaml")
	}
	last := w.intentHas(paths...)
	if commits := last.Trailers.Number(repo.TrailerGeneration) - first.Trailers.Number(repo.TrailerGeneration); commits > 10 {
		t.Errorf("%d commits for 30 Services", commits)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	w, ccm, _ := serving(t)
	addresses := func(want ...string) {
		t.Helper()
		w.eventually("the nodes", func() error {
			_, files := w.hub.intent(t)
			text := string(files[repo.TenantDir(tenant)+"/"+nodesFile].Data)
			if strings.Count(text, "- ip: ") != len(want) {
				return errors.New(text)
			}
			for _, ip := range want {
				if !strings.Contains(text, "- ip: "+ip+"\n") {
					return errors.New(text)
				}
			}
			return nil
		})
	}
	w.node("two", "10.0.0.2", true)
	addresses("10.0.0.1", "10.0.0.2")
	w.node("three", "10.0.0.3", false) // never was ready
	w.node("two", "10.0.0.2", false)
	w.node("four", "10.0.0.4", true)
	addresses("10.0.0.1", "10.0.0.2", "10.0.0.4")
	w.clock.add(nodeGrace)
	ccm.engine.publisher.markNodes()
	addresses("10.0.0.1", "10.0.0.4")
}
