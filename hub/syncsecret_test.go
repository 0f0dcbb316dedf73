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

package hub_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// recipients waits for what tenants seal to, other than before.
func (b *bed) recipients(tenant string, before ...string) []string {
	b.Helper()
	state := waitFor(b, "recipients are published", b.state(tenant), func(s *v1alpha1.TenantState) bool {
		return len(s.Status.Recipients) == 1 && !slices.Equal(s.Status.Recipients, before)
	})
	return state.Status.Recipients
}

// keyring is the Secret with the hub's identities.
func (b *bed) keyring() (*corev1.Secret, seal.Keyring) {
	b.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: seal.KeysSecret}}
	if err := b.Get(b.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
		b.Fatal(err)
	}
	keys, bad := seal.ParseKeyring(secret.Data)
	if len(bad) > 0 {
		b.Fatalf("bad keys %v", bad)
	}
	return secret, keys
}

func data(pairs ...string) map[string][]byte {
	out := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = []byte(pairs[i+1])
	}
	return out
}

func (b *bed) seal(recipients []string, e seal.Envelope) string {
	b.Helper()
	armored, err := seal.Seal(recipients, e)
	if err != nil {
		b.Fatal(err)
	}
	return armored
}

func envelope(tenant, name string, pairs ...string) seal.Envelope {
	return seal.Envelope{Tenant: tenant, Namespace: "shop", Name: name, Data: data(pairs...)}
}

// syncSecret makes a SyncSecret of a tenant's Secret in namespace shop.
func (b *bed) syncSecret(tenant, name, sealed string, how ...func(*v1alpha1.SyncSecret)) *v1alpha1.SyncSecret {
	b.Helper()
	s := &v1alpha1.SyncSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-" + tenant, Name: "shop." + name, Labels: map[string]string{
			v1alpha1.LabelOriginNS: "shop", v1alpha1.LabelOriginName: name, v1alpha1.LabelOriginKind: "Secret",
		}},
		Type: corev1.SecretTypeOpaque, Sealed: sealed,
	}
	for _, f := range how {
		f(s)
	}
	b.create(s)
	return s
}

func secretOf(s *v1alpha1.SyncSecret) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
}

// holds waits until the hub has a Secret with this content.
func (b *bed) holds(s *v1alpha1.SyncSecret, want map[string][]byte) *corev1.Secret {
	b.Helper()
	return waitFor(b, s.Name+" is a Secret", secretOf(s), func(secret *corev1.Secret) bool {
		return maps.EqualFunc(secret.Data, want, slices.Equal) && secret.DeletionTimestamp.IsZero()
	})
}

func (b *bed) syncCondition(s *v1alpha1.SyncSecret, status, reason string) metav1.Condition {
	b.Helper()
	var c metav1.Condition
	waitFor(b, fmt.Sprintf("%s is Ready=%s %s", s.Name, status, reason), s, func(s *v1alpha1.SyncSecret) bool {
		if ready := apimeta.FindStatusCondition(s.Status.Conditions, "Ready"); ready != nil {
			c = *ready
		}
		stalled := apimeta.IsStatusConditionTrue(s.Status.Conditions, "Stalled")
		return string(c.Status) == status && c.Reason == reason && stalled == (status == "False") && s.Status.ObservedGeneration == s.Generation
	})
	return c
}

func (b *bed) hasNoSecret(s *v1alpha1.SyncSecret) {
	b.Helper()
	if err := b.Get(b.Context(), client.ObjectKeyFromObject(s), &corev1.Secret{}); !apierrors.IsNotFound(err) {
		b.Errorf("there is a Secret %s: %v", s.Name, err)
	}
}

func TestASealedSecretBecomesASecretOfItsTypeAndGoesWithIt(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	to := b.recipients("acme")
	e := envelope("acme", "cert", "tls.crt", "certificate", "tls.key", "private")
	e.Type = corev1.SecretTypeTLS
	s := b.syncSecret("acme", "cert", b.seal(to, e), func(s *v1alpha1.SyncSecret) { s.Type = corev1.SecretTypeTLS })
	secret := b.holds(s, e.Data)
	if secret.Type != corev1.SecretTypeTLS || secret.Labels[v1alpha1.LabelManagedBy] != "kubelb" || secret.Labels[v1alpha1.LabelOriginName] != "cert" ||
		secret.Labels[v1alpha1.LabelTenant] != "acme" || metav1.GetControllerOf(secret) == nil || metav1.GetControllerOf(secret).UID != s.UID {
		t.Errorf("the Secret is %s with %v and owners %v", secret.Type, secret.Labels, secret.OwnerReferences)
	}
	b.syncCondition(s, "True", v1alpha1.ReasonSynced)
	if s.Status.Phase != v1alpha1.SyncSynced {
		t.Errorf("phase %s", s.Status.Phase)
	}

	e.Data = data("tls.crt", "another", "tls.key", "private")
	change(b, s, func(s *v1alpha1.SyncSecret) { s.Sealed = b.seal(to, e) })
	b.holds(s, e.Data)
	b.remove(s)
	b.waitUntilGone(secret)
}

func TestASecretThatWasDeletedWhileTheHubWasAwayGoes(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	e := envelope("acme", "token", "token", "secret")
	s := b.syncSecret("acme", "token", b.seal(b.recipients("acme"), e))
	secret := b.holds(s, e.Data)
	b.stopHub()
	b.remove(s)
	b.startHub()
	b.waitUntilGone(secret)
}

func TestWhatIsChangedByHandInASecretIsPutBack(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	e := envelope("acme", "token", "token", "secret")
	s := b.syncSecret("acme", "token", b.seal(b.recipients("acme"), e))
	for what, spoil := range map[string]func(*corev1.Secret){
		"a value":                 func(o *corev1.Secret) { o.Data["token"] = []byte("other") },
		"one more":                func(o *corev1.Secret) { o.Data["more"] = []byte("x") },
		"one less":                func(o *corev1.Secret) { delete(o.Data, "token") },
		"the owner":               func(o *corev1.Secret) { o.OwnerReferences = nil },
		"the label that we watch": func(o *corev1.Secret) { delete(o.Labels, v1alpha1.LabelManagedBy); o.Data = data("a", "b") },
	} {
		secret := b.holds(s, e.Data)
		version := secret.ResourceVersion
		change(b, secret, spoil)
		waitFor(b, what+" is put back", secretOf(s), func(o *corev1.Secret) bool {
			return o.ResourceVersion != version && maps.EqualFunc(o.Data, e.Data, slices.Equal) &&
				o.Labels[v1alpha1.LabelManagedBy] == "kubelb" && len(o.OwnerReferences) == 1
		})
	}
	b.remove(b.holds(s, e.Data))
	b.holds(s, e.Data)
}

func TestWhatASecretCannotChangeIsMadeAnew(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	to := b.recipients("acme")
	immutable := true
	e := envelope("acme", "token", "username", "a", "password", "b")
	s := b.syncSecret("acme", "token", b.seal(to, e), func(s *v1alpha1.SyncSecret) { s.Immutable = &immutable })
	first := b.holds(s, e.Data)
	if first.Immutable == nil || !*first.Immutable {
		t.Error("it is not immutable")
	}
	e.Data = data("username", "a", "password", "c")
	change(b, s, func(s *v1alpha1.SyncSecret) { s.Sealed = b.seal(to, e) })
	second := b.holds(s, e.Data)
	change(b, s, func(s *v1alpha1.SyncSecret) { s.Immutable = nil })
	waitFor(b, "it is mutable", secretOf(s), func(o *corev1.Secret) bool { return o.Immutable == nil })
	e.Type = corev1.SecretTypeBasicAuth
	change(b, s, func(s *v1alpha1.SyncSecret) { s.Type, s.Sealed = e.Type, b.seal(to, e) })
	waitFor(b, "it has the new type", secretOf(s), func(o *corev1.Secret) bool { return o.Type == e.Type })
	if second.UID == first.UID {
		t.Error("an immutable Secret was changed")
	}

	// What its type does not allow leaves the one that is there, and is not retried.
	bad := e
	bad.Type, bad.Data = corev1.SecretTypeTLS, data("password", "s3cr3t")
	change(b, s, func(s *v1alpha1.SyncSecret) { s.Type, s.Sealed = bad.Type, b.seal(to, bad) })
	c := b.syncCondition(s, "False", v1alpha1.ReasonSecretRefused)
	if !strings.Contains(c.Message, "data[tls.crt]") || !strings.Contains(c.Message, "stays as it was") || strings.Contains(c.Message, "s3cr3t") {
		t.Errorf("message %q", c.Message)
	}
	b.holds(s, e.Data)
}

func TestWhatCannotBeOpenedSaysWhyAndLeavesTheSecretAsItIs(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	b.tenant("globex")
	to := b.recipients("acme")
	_, foreign, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	good := envelope("acme", "token", "token", "s3cr3t")
	sealed := b.seal(to, good)
	tls := good
	tls.Type = corev1.SecretTypeTLS
	s := b.syncSecret("acme", "token", sealed)
	for _, c := range []struct{ what, sealed, reason, word string }{
		{"sealed to another hub", b.seal([]string{foreign}, good), v1alpha1.ReasonCannotOpen, seal.KeysSecret},
		{"damaged", strings.Replace(sealed, sealed[200:204], "AAAA", 1), v1alpha1.ReasonMalformed, "seal it again"},
		{"not an age file", "s3cr3t", v1alpha1.ReasonInvalid, "armored age file"},
		{"of another tenant", b.seal(to, envelope("globex", "token", "token", "s3cr3t")), v1alpha1.ReasonAddressMismatch, "another tenant"},
		{"of another name", b.seal(to, envelope("acme", "other", "token", "s3cr3t")), v1alpha1.ReasonAddressMismatch, "another name"},
		{"of another namespace", b.seal(to, seal.Envelope{Tenant: "acme", Namespace: "blog", Name: "token", Data: data("token", "s3cr3t")}), v1alpha1.ReasonAddressMismatch, "another namespace"},
		{"of another type", b.seal(to, tls), v1alpha1.ReasonTypeMismatch, "type"},
		{"too large", "-----BEGIN AGE ENCRYPTED FILE-----\n" + strings.Repeat(strings.Repeat("YWdl", 16)+"\n", 4000) + "YWdl\n-----END AGE ENCRYPTED FILE-----\n", v1alpha1.ReasonTooLarge, "smaller"},
	} {
		b.holds(s, good.Data)
		change(b, s, func(s *v1alpha1.SyncSecret) { s.Sealed = c.sealed })
		condition := b.syncCondition(s, "False", c.reason)
		if !strings.Contains(condition.Message, c.word) || !strings.Contains(condition.Message, "stays as it was") {
			t.Errorf("%s: message %q", c.what, condition.Message)
		}
		if len(s.Status.Problems) != 1 || s.Status.Problems[0].Path != "tenants/acme/syncsecrets/shop/token.secret.yaml" || s.Status.Problems[0].Remedy == "" || s.Status.Phase != v1alpha1.SyncFailed {
			t.Errorf("%s: status %+v", c.what, s.Status)
		}
		if strings.Contains(fmt.Sprintf("%+v", s.Status), "s3cr3t") {
			t.Errorf("%s: the status quotes the plaintext", c.what)
		}
		b.holds(s, good.Data)
		change(b, s, func(s *v1alpha1.SyncSecret) { s.Sealed = sealed })
		b.syncCondition(s, "True", v1alpha1.ReasonSynced)
	}

	// Copied to another tenant it makes nothing, and its neighbour is none the worse.
	copied := b.syncSecret("globex", "token", sealed)
	b.syncCondition(copied, "False", v1alpha1.ReasonAddressMismatch)
	b.hasNoSecret(copied)
	own := envelope("globex", "own", "a", "b")
	b.holds(b.syncSecret("globex", "own", b.seal(to, own)), own.Data)
}

func TestAPlainSyncSecretOfTheHubWorksAsBefore(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	s := b.syncSecret("acme", "plain", "", func(s *v1alpha1.SyncSecret) {
		s.Name, s.Labels, s.Data, s.StringData = "6f1c", nil, data("a", "1", "b", "2"), map[string]string{"b": "3"}
	})
	b.holds(s, data("a", "1", "b", "3"))
	b.syncCondition(s, "True", v1alpha1.ReasonSynced)
}

func TestTokensOfTheClusterAreRefused(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	s := b.syncSecret("acme", "token", "", func(s *v1alpha1.SyncSecret) { s.Type, s.Data = corev1.SecretTypeServiceAccountToken, data("a", "1") })
	b.syncCondition(s, "False", v1alpha1.ReasonInvalid)
	b.hasNoSecret(s)
}

func TestSomebodyElsesSecretIsNotTouched(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	to := b.recipients("acme")
	e := envelope("acme", "mine", "a", "b")
	s := &v1alpha1.SyncSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "shop.mine"}}
	mine := secretOf(s)
	mine.Data = data("mine", "all mine")
	b.create(mine)
	s = b.syncSecret("acme", "mine", b.seal(to, e))
	b.syncCondition(s, "False", v1alpha1.ReasonNameTaken)
	b.holds(s, mine.Data)
	b.remove(s)
	b.waitUntilGone(s)
	b.holds(s, mine.Data)

	outside := &v1alpha1.SyncSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop.mine"}, Data: data("a", "b")}
	b.create(outside)
	b.syncCondition(outside, "False", v1alpha1.ReasonTenantNotReady)
	b.hasNoSecret(outside)
}

func TestASecretWhoseDeletionWasRevertedIsNotMade(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	e := envelope("acme", "gone", "a", "b")
	s := b.syncSecret("acme", "gone", b.seal(b.recipients("acme"), e))
	b.holds(s, e.Data)
	changeStatus(b, b.state("acme"), func(state *v1alpha1.TenantState) {
		state.Status.SourceGone = []string{"tenants/acme/syncsecrets/shop/gone.secret.yaml"}
	})
	b.syncCondition(s, "False", v1alpha1.ReasonSourceGone)
	b.waitUntilGone(secretOf(s))
	changeStatus(b, b.state("acme"), func(state *v1alpha1.TenantState) { state.Status.SourceGone = nil })
	b.holds(s, e.Data)
}

func TestAKeyThatIsAddedIsSealedToFromThenOnAndOldOnesOpen(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	first := b.recipients("acme")
	old := envelope("acme", "old", "a", "1")
	before := b.syncSecret("acme", "old", b.seal(first, old))
	b.holds(before, old.Data)

	secret, keys := b.keyring()
	key, err := keys.NewKey(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	change(b, secret, func(s *corev1.Secret) { s.Data[key.Name] = key.File() })
	second := b.recipients("acme", first...)
	if !slices.Equal(second, []string{key.Recipient}) {
		t.Errorf("recipients %v, want those of %s", second, key.Name)
	}
	late := envelope("acme", "late", "a", "2")
	b.holds(b.syncSecret("acme", "late", b.seal(second, late)), late.Data)
	reverted := envelope("acme", "reverted", "a", "3")
	b.holds(b.syncSecret("acme", "reverted", b.seal(first, reverted)), reverted.Data)

	// A tenant that comes later is told the same.
	b.tenant("globex")
	if got := b.recipients("globex"); !slices.Equal(got, second) {
		t.Errorf("globex is told %v", got)
	}
	// Without the key that it was sealed to it cannot be opened any more; with it
	// back it can.
	change(b, secret, func(s *corev1.Secret) {
		for name := range s.Data {
			if name != key.Name {
				delete(s.Data, name)
			}
		}
	})
	b.syncCondition(before, "False", v1alpha1.ReasonCannotOpen)
	b.holds(before, old.Data)
	change(b, secret, func(s *corev1.Secret) { s.Data["restored.txt"] = keys[0].File() })
	b.syncCondition(before, "True", v1alpha1.ReasonSynced)
}

func TestKeysRotateByAge(t *testing.T) {
	b := newBed(t)
	b.stopHub()
	old, err := seal.Keyring(nil).NewKey(time.Now().Add(-100 * 24 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if secret, keys := b.keyringIfAny(); keys != nil {
		b.remove(secret)
	}
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: seal.KeysSecret}, Data: map[string][]byte{old.Name: old.File(), "bad": []byte("x")}})
	config := &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}}
	change(b, config, func(c *v1alpha1.Config) { c.Spec.Sealing.RotateAfter = &metav1.Duration{} })
	b.startHub()
	b.tenant("acme")
	if got := b.recipients("acme"); !slices.Equal(got, []string{old.Recipient}) {
		t.Errorf("with rotation off tenants seal to %v", got)
	}
	change(b, config, func(c *v1alpha1.Config) { c.Spec.Sealing.RotateAfter = nil })
	fresh := b.recipients("acme", old.Recipient)
	e := envelope("acme", "token", "a", "b")
	b.holds(b.syncSecret("acme", "token", b.seal([]string{old.Recipient}, e)), e.Data)
	b.stopHub()
	b.startHub()
	e = envelope("acme", "later", "a", "b")
	b.holds(b.syncSecret("acme", "later", b.seal(fresh, e)), e.Data)
	if got := b.recipients("acme"); !slices.Equal(got, fresh) {
		t.Errorf("a restart rotated: %v", got)
	}
}

func (b *bed) keyringIfAny() (*corev1.Secret, seal.Keyring) {
	b.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: seal.KeysSecret}}
	if err := b.Get(b.Context(), client.ObjectKeyFromObject(secret), secret); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		b.Fatal(err)
	}
	return b.keyring()
}

func TestKeysThatAreDeletedArePutBackByARunningHub(t *testing.T) {
	b := newBed(t)
	b.tenant("acme")
	to := b.recipients("acme")
	secret, before := b.keyring()
	b.remove(secret)
	waitFor(b, "the keys are back", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: seal.KeysSecret}}, func(s *corev1.Secret) bool {
		keys, _ := seal.ParseKeyring(s.Data)
		return slices.Equal(keys, before)
	})
	e := envelope("acme", "token", "a", "b")
	b.holds(b.syncSecret("acme", "token", b.seal(to, e)), e.Data)
}

func TestReservationsAndRecipientsDoNotDisturbEachOther(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	to := b.recipients("acme")
	lb := b.service("acme", "web")
	b.address(lb)
	b.remove(lb)
	waitFor(b, "the address is reserved", b.state("acme"), func(s *v1alpha1.TenantState) bool { return len(s.Status.Reservations) == 1 })
	secret, keys := b.keyring()
	key, err := keys.NewKey(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	change(b, secret, func(s *corev1.Secret) { s.Data[key.Name] = key.File() })
	b.recipients("acme", to...)
	if state := b.state("acme"); b.Get(t.Context(), client.ObjectKeyFromObject(state), state) != nil || len(state.Status.Reservations) != 1 {
		t.Errorf("reservations %v", state.Status.Reservations)
	}
}
