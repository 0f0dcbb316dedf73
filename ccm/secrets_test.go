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
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/project"
	"github.com/kubelb/gitops/ccm/render"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const certFile = "syncsecrets/shop/cert.secret.yaml"

// vault is a hub's sealing key.
type vault struct{ identity, recipient string }

func newVault(t *testing.T) vault {
	t.Helper()
	identity, recipient, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return vault{identity, recipient}
}

// recipients has a status name them.
func recipients(vaults ...vault) func(*v1alpha1.TenantStateStatus) {
	return func(s *v1alpha1.TenantStateStatus) {
		for _, v := range vaults {
			s.Recipients = append(s.Recipients, v.recipient)
		}
	}
}

// secret creates a Secret that is labelled for the hub.
func (w *world) secret(namespace, name string, changes ...func(*corev1.Secret)) *corev1.Secret {
	w.Helper()
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace(namespace), Name: name, Labels: map[string]string{v1alpha1.LabelManagedBy: "kubelb"}},
		Data:       map[string][]byte{"token": []byte("s3cr3t of " + name)},
	}
	for _, change := range changes {
		change(s)
	}
	if err := w.client.Create(w.Context(), s); err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) updateSecret(s *corev1.Secret, change func(*corev1.Secret)) {
	w.Helper()
	w.eventually("the update of "+s.Name, func() error {
		if err := w.client.Get(w.Context(), client.ObjectKeyFromObject(s), s); err != nil {
			return err
		}
		change(s)
		return w.client.Update(w.Context(), s)
	})
}

// sealed reads the SyncSecret at a path of the intent branch.
func (w *world) sealed(path string) *v1alpha1.SyncSecret {
	w.Helper()
	_, files := w.hub.intent(w.T)
	full := repo.TenantDir(tenant) + "/" + path
	object, problems := repo.Decode(full, files[full])
	if len(problems) > 0 {
		w.Fatalf("the hub would refuse %s: %v", path, problems)
	}
	return object.(*v1alpha1.SyncSecret)
}

// opens waits until a path of the intent branch has what the hub can open to a
// Secret's content.
func (w *world) opens(v vault, path string, s *corev1.Secret) *v1alpha1.SyncSecret {
	w.Helper()
	var sync *v1alpha1.SyncSecret
	w.eventually(path+" to hold the Secret", func() error {
		_, files := w.hub.intent(w.T)
		full := repo.TenantDir(tenant) + "/" + path
		file, ok := files[full]
		if !ok {
			return errors.New("there is no such file")
		}
		object, problems := repo.Decode(full, file)
		if len(problems) > 0 {
			return fmt.Errorf("the hub would refuse it: %v", problems)
		}
		sync = object.(*v1alpha1.SyncSecret)
		envelope, err := seal.Open([]string{v.identity}, sync.Sealed)
		if err != nil {
			return err
		}
		if err := envelope.Check(tenant, s.Namespace, s.Name); err != nil {
			return err
		}
		if !maps.EqualFunc(envelope.Data, s.Data, bytes.Equal) || envelope.Type != s.Type || sync.Type != s.Type {
			return fmt.Errorf("it holds a %s with %d values", envelope.Type, len(envelope.Data))
		}
		return nil
	})
	return sync
}

// sealing starts a CCM with a node and a Secret that is sealed.
func sealing(t *testing.T, options ...func(*Options)) (*world, *run, vault, *corev1.Secret) {
	t.Helper()
	w := newWorld(t)
	w.node("one", "10.0.0.1", true)
	v := newVault(t)
	w.hub.say(t, write{set: []repo.Object{state(git.Commit{}, recipients(v))}})
	ccm := w.start(options...)
	cert := w.secret("shop", "cert")
	w.intentHas(nodesFile, certFile)
	w.opens(v, certFile, cert)
	return w, ccm, v, cert
}

func TestALabelledSecretTravelsSealedAndNothingElseOfIt(t *testing.T) {
	w, _, v, cert := sealing(t)
	intent, files := w.hub.intent(t)
	if want := "Secret shop/cert"; !strings.Contains(intent.Subject, want) {
		t.Errorf("subject %q, want %q", intent.Subject, want)
	}
	text := string(files[repo.TenantDir(tenant)+"/"+certFile].Data)
	for _, word := range []string{"s3cr3t", "czNjcjN0", "\ndata", "stringData", "token", "immutable"} {
		if strings.Contains(text, word) {
			t.Errorf("the document has %q:\n%s", word, text)
		}
	}
	if len(cert.Finalizers) > 0 {
		t.Errorf("finalizers %v", cert.Finalizers)
	}

	yes := true
	tls := w.secret("shop", "tls", func(s *corev1.Secret) {
		s.Type, s.Immutable, s.Annotations = corev1.SecretTypeTLS, &yes, map[string]string{"kubelb.k8c.io/note": "s3cr3t"}
		s.Data = map[string][]byte{"tls.crt": []byte("certificate"), "tls.key": []byte("private")}
	})
	sync := w.opens(v, "syncsecrets/shop/tls.secret.yaml", tls)
	if sync.Immutable == nil || !*sync.Immutable || len(sync.Annotations) > 0 {
		t.Errorf("the document is %+v", sync)
	}
	w.secret("shop", "unlabelled", func(s *corev1.Secret) { s.Labels = nil })
	long := w.secret("shop", strings.Repeat("long.", 40)+"name")
	w.opens(v, "syncsecrets/shop/"+repo.FileName(long.Name)+".secret.yaml", long)
	w.intentHas(nodesFile, certFile, "syncsecrets/shop/tls.secret.yaml", "syncsecrets/shop/"+repo.FileName(long.Name)+".secret.yaml")
}

func TestAnUnchangedSecretMakesNoCommitAlsoAfterARestart(t *testing.T) {
	w, ccm, v, cert := sealing(t)
	before := w.sealed(certFile)
	first, _ := w.hub.intent(t)
	w.updateSecret(cert, func(s *corev1.Secret) { s.Annotations = map[string]string{"example.com/touched": "yes"} })
	ccm.stop()
	ccm = w.start()
	web := w.service("shop", "web")
	second := w.intentHas(nodesFile, certFile, webWish, webFact)
	if second.Parents[0] != first.Hash || second.Subject != "Service shop/web" {
		t.Errorf("%q on %s, want the Service alone on %s", second.Subject, second.Parents[0], first.Hash)
	}
	// Deleted and made anew with the same content it is the same, too.
	if err := w.client.Delete(t.Context(), cert); err != nil {
		t.Fatal(err)
	}
	w.intentHas(nodesFile, webWish, webFact)
	w.secret("shop", "cert")
	w.intentHas(nodesFile, certFile, webWish, webFact)

	// What has changed is sealed anew, once.
	w.updateSecret(w.secretNamed("shop", "cert"), func(s *corev1.Secret) { s.Data["token"] = []byte("another") })
	third := w.opens(v, certFile, w.secretNamed("shop", "cert"))
	if third.Sealed == before.Sealed {
		t.Error("a changed Secret has its old age file")
	}
	// Without its memory everything is sealed once more, and then no more.
	ccm.stop()
	tip, _ := w.hub.intent(t)
	if err := w.client.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: DigestsName}}); err != nil {
		t.Fatal(err)
	}
	ccm = w.start()
	w.eventually("one commit", func() error {
		now, _ := w.hub.intent(t)
		if len(now.Parents) == 0 || now.Parents[0] != tip.Hash {
			return fmt.Errorf("the tip is %s", now.Hash)
		}
		return nil
	})
	w.opens(v, certFile, w.secretNamed("shop", "cert"))
	tip, _ = w.hub.intent(t)
	ccm.stop()
	w.start()
	w.patch(web, `{"spec":{"ports":[{"name":"http","port":81}]}}`)
	w.eventually("the Service's commit", func() error {
		now, _ := w.hub.intent(t)
		if now.Hash == tip.Hash || now.Parents[0] != tip.Hash || now.Subject != "Service shop/web" {
			return fmt.Errorf("%q on %v", now.Subject, now.Parents)
		}
		return nil
	})
}

func (w *world) secretNamed(namespace, name string) *corev1.Secret {
	w.Helper()
	var s corev1.Secret
	if err := w.client.Get(w.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &s); err != nil {
		w.Fatal(err)
	}
	return &s
}

func TestOtherRecipientsSealEverythingAnewInOneCommit(t *testing.T) {
	w, ccm, v, cert := sealing(t)
	others := []*corev1.Secret{cert}
	paths := []string{nodesFile, certFile}
	for i := range 5 {
		s := w.secret("shop", fmt.Sprintf("s%d", i))
		others = append(others, s)
		paths = append(paths, "syncsecrets/shop/"+s.Name+".secret.yaml")
	}
	before := w.intentHas(paths...)
	next := newVault(t)
	w.hub.say(t, write{set: []repo.Object{state(before, recipients(next))}})
	ccm.engine.observer.poke()
	for i, s := range others {
		w.opens(next, paths[i+1], s)
		if _, err := seal.Open([]string{v.identity}, w.sealed(paths[i+1]).Sealed); !errors.Is(err, seal.ErrCannotOpen) {
			t.Errorf("%s is sealed to the old key as well: %v", s.Name, err)
		}
	}
	after, _ := w.hub.intent(t)
	if after.Parents[0] != before.Hash || after.Subject != "6 Secrets" {
		t.Errorf("%q on %s, want one commit on %s", after.Subject, after.Parents[0], before.Hash)
	}
	// Both at a time.
	w.hub.say(t, write{set: []repo.Object{state(after, recipients(next, v))}})
	ccm.engine.observer.poke()
	w.opens(v, certFile, cert)
	w.opens(next, certFile, cert)
}

func TestWithoutRecipientsSecretsWaitAndServicesDoNot(t *testing.T) {
	w := newWorld(t)
	w.node("one", "10.0.0.1", true)
	w.hub.say(t, write{set: []repo.Object{state(git.Commit{})}})
	ccm := w.start()
	cert := w.secret("shop", "cert")
	web := w.service("shop", "web")
	intent := w.intentHas(nodesFile, webWish, webFact)
	w.hasEvent("kubelb", StateName, ReasonNoRecipients)
	w.hasCondition(web, project.ConditionProblem, "")
	for _, bad := range []string{"age1nonsense", "AGE-SECRET-KEY-1X"} {
		w.hub.say(t, write{set: []repo.Object{state(intent, func(s *v1alpha1.TenantStateStatus) { s.Recipients = []string{bad} })}})
		ccm.engine.observer.poke()
		w.hasEvent("kubelb", StateName, ReasonBadRecipients)
	}
	v := newVault(t)
	w.hub.say(t, write{set: []repo.Object{state(intent, recipients(v))}})
	ccm.engine.observer.poke()
	w.opens(v, certFile, cert)
	w.hasEvent("kubelb", StateName, ReasonBadRecipients+"Solved")

	// Recipients that went away take nothing away, also over a restart.
	tip, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{state(tip)}})
	ccm.engine.observer.poke()
	ccm.stop()
	w.start()
	w.service("blog", "web")
	w.intentHas(nodesFile, webWish, webFact, certFile, "loadbalancers/blog/web.service.yaml", "backends/blog/web.service.yaml")
}

func TestRecipientsOfAForgedStatusAreNotSealedTo(t *testing.T) {
	w, ccm, v, cert := sealing(t)
	stranger, err := git.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	tip, _ := w.hub.intent(t)
	forged := w.hub.say(t, write{set: []repo.Object{state(tip, recipients(newVault(t)))}, signer: stranger})
	ccm.engine.observer.poke()
	w.hasEvent("kubelb", StateName, ReasonStatusRefused)
	w.updateSecret(cert, func(s *corev1.Secret) { s.Data["token"] = []byte("changed") })
	w.opens(v, certFile, cert)
	next := newVault(t)
	w.hub.say(t, write{set: []repo.Object{state(tip, recipients(next))}, force: forged})
	ccm.engine.observer.poke()
	w.opens(next, certFile, cert)
}

func TestASecretThatGoesTakesItsIntentAlong(t *testing.T) {
	t.Run("deleted", func(t *testing.T) {
		w, _, _, cert := sealing(t)
		if err := w.client.Delete(t.Context(), cert); err != nil {
			t.Fatal(err)
		}
		intent := w.intentHas(nodesFile)
		if got := intent.Trailers.Get(repo.TrailerDeletes); got != "1" || intent.Subject != "Secret shop/cert removed" {
			t.Errorf("%q with %s deletes", intent.Subject, got)
		}
	})
	t.Run("its label taken off", func(t *testing.T) {
		w, _, _, cert := sealing(t)
		w.updateSecret(cert, func(s *corev1.Secret) { s.Labels = nil })
		if got := w.intentHas(nodesFile).Trailers.Get(repo.TrailerDeletes); got != "" {
			t.Errorf("%s deletes; nobody deleted anything", got)
		}
		w.updateSecret(cert, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelManagedBy: "kubelb"} })
		w.intentHas(nodesFile, certFile)
	})
	t.Run("deleted while the CCM was down", func(t *testing.T) {
		w, ccm, _, cert := sealing(t)
		ccm.stop()
		if err := w.client.Delete(t.Context(), cert); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.intentHas(nodesFile)
	})
	t.Run("held by a finalizer", func(t *testing.T) {
		w, _, _, _ := sealing(t)
		kept := w.secret("shop", "kept", func(s *corev1.Secret) { s.Finalizers = []string{"example.com/kept"} })
		w.intentHas(nodesFile, certFile, "syncsecrets/shop/kept.secret.yaml")
		if err := w.client.Delete(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
		if got := w.intentHas(nodesFile, certFile).Trailers.Get(repo.TrailerDeletes); got != "1" {
			t.Errorf("%s deletes", got)
		}
		w.updateSecret(kept, func(s *corev1.Secret) { s.Finalizers = nil })
	})
}

func TestSecretsThatCannotTravelAreSaid(t *testing.T) {
	w, _, v, cert := sealing(t)
	w.secret("shop", "robot", func(s *corev1.Secret) {
		s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken, map[string]string{corev1.ServiceAccountNameKey: "default"}
	})
	w.secret("shop", "bootstrap", func(s *corev1.Secret) { s.Type = corev1.SecretTypeBootstrapToken })
	big := w.secret("shop", "big", func(s *corev1.Secret) { s.Data["token"] = bytes.Repeat([]byte{'x'}, 200<<10) })
	for name, reason := range map[string]string{"robot": render.ReasonSecretType, "bootstrap": render.ReasonSecretType, "big": render.ReasonTooLarge} {
		w.hasEvent("shop", name, reason)
	}
	w.hasEvent("kubelb", StateName, render.ReasonTooLarge)
	for _, name := range []string{"robot", "bootstrap"} { // for one reason, and yet two
		w.hasEvent("kubelb", StateName, render.ReasonSecretType, "shop/"+name)
	}
	w.eventually("the CCM's own keys", func() error {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: KeySecretName}}
		return w.client.Patch(t.Context(), s, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"kubelb.k8c.io/managed-by":"kubelb"}}}`)))
	})
	w.hasEvent("kubelb", KeySecretName, render.ReasonSecretType)

	// The neighbours go on, and what becomes small enough goes, too.
	w.updateSecret(cert, func(s *corev1.Secret) { s.Data["token"] = []byte("changed") })
	w.opens(v, certFile, cert)
	w.intentHas(nodesFile, certFile)
	w.updateSecret(big, func(s *corev1.Secret) { s.Data["token"] = []byte("small") })
	w.opens(v, "syncsecrets/shop/big.secret.yaml", big)
	// What becomes too large leaves what there was.
	small := w.sealed("syncsecrets/shop/big.secret.yaml").Sealed
	w.updateSecret(big, func(s *corev1.Secret) { s.Data["token"] = bytes.Repeat([]byte{'x'}, 200<<10) })
	w.updateSecret(cert, func(s *corev1.Secret) { s.Data["token"] = []byte("changed again") })
	w.opens(v, certFile, cert)
	if got := w.sealed("syncsecrets/shop/big.secret.yaml").Sealed; got != small {
		t.Error("the last good content did not stay")
	}
}

func TestWhatTheHubSaysOfASecretIsAnEventOnIt(t *testing.T) {
	w, ccm, v, _ := sealing(t)
	answer := func(status metav1.ConditionStatus, reason string) *v1alpha1.SyncSecret {
		s := &v1alpha1.SyncSecret{ObjectMeta: metav1.ObjectMeta{Name: "shop.cert"}}
		s.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: status, Reason: reason, Message: "says the hub", LastTransitionTime: metav1.Now()}}
		return s
	}
	tip, _ := w.hub.intent(t)
	w.hub.say(t, write{set: []repo.Object{state(tip, recipients(v)), answer(metav1.ConditionFalse, v1alpha1.ReasonCannotOpen)}})
	ccm.engine.observer.poke()
	w.hasEvent("shop", "cert", v1alpha1.ReasonCannotOpen)
	w.hub.say(t, write{set: []repo.Object{answer(metav1.ConditionTrue, v1alpha1.ReasonSynced)}})
	ccm.engine.observer.poke()
	w.hasEvent("shop", "cert", v1alpha1.ReasonSynced)
	w.hub.say(t, write{set: []repo.Object{state(tip, recipients(v), func(s *v1alpha1.TenantStateStatus) {
		s.Held = []v1alpha1.HeldField{{Path: repo.TenantDir(tenant) + "/" + certFile, Field: "sealed", Commit: strings.Repeat("ab", 20), Author: "Jane"}}
	})}})
	ccm.engine.observer.poke()
	w.hasEvent("shop", "cert", ReasonNotFollowed)
}

func TestAForeignAgeFileOnTheBranchIsReplaced(t *testing.T) {
	w, ccm, v, cert := sealing(t)
	before := w.sealed(certFile)
	ccm.stop()
	// Whoever can write the branch puts an older file there, or one of their own.
	other := seal.Envelope{Tenant: tenant, Namespace: "shop", Name: "cert", Data: map[string][]byte{"token": []byte("theirs")}}
	armored, err := seal.Seal([]string{v.recipient}, other)
	if err != nil {
		t.Fatal(err)
	}
	forged := before.DeepCopy()
	forged.Sealed = armored
	data, err := repo.Encode(forged)
	if err != nil {
		t.Fatal(err)
	}
	tip, _ := w.hub.intent(t)
	w.hub.writeIntent(t, map[string][]byte{repo.TenantDir(tenant) + "/" + certFile: data}, tip)
	w.start()
	w.opens(v, certFile, cert)
}

// writeIntent pushes an edit of the intent branch in its writer's name.
func (h *fakeHub) writeIntent(t *testing.T, edits map[string][]byte, tip git.Commit) {
	t.Helper()
	ref := repo.IntentRef(tenant)
	store := git.NewStore()
	if err := h.remote.Fetch(t.Context(), store, git.Want{Tip: tip.Hash}); err != nil {
		t.Fatal(err)
	}
	trailers := map[string]string{}
	for _, key := range []string{repo.TrailerCluster, repo.TrailerEpoch, repo.TrailerGeneration} {
		trailers[key] = tip.Trailers.Get(key)
	}
	commit := h.commit(t, store, tip.Hash, edits, trailers, write{})
	if _, err := h.remote.Push(t.Context(), store, []git.RefUpdate{{Name: ref, Old: tip.Hash, New: commit}}, false); err != nil {
		t.Fatal(err)
	}
}

func TestDigestsKeepWhatTheBranchCanHave(t *testing.T) {
	names := []string{}
	d := newDigests(nil, nil, client.ObjectKey{})
	for _, name := range []string{"a", "b", "c"} {
		d.set(client.ObjectKey{Namespace: "shop", Name: name}, "digest of "+name)
	}
	d.set(client.ObjectKey{Namespace: "shop", Name: "c"}, "")
	d.retain(map[client.ObjectKey]bool{{Namespace: "shop", Name: "a"}: true, {Namespace: "shop", Name: "new"}: false})
	for key := range d.values {
		names = append(names, key)
	}
	if !slices.Equal(names, []string{"shop.a"}) || !d.dirty {
		t.Errorf("kept %v", names)
	}
}
