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
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// plaintexts are all contents of Secrets that tests made.
var plaintexts struct {
	sync.Mutex
	list []string
}

// plaintext makes content that occurs nowhere else.
func plaintext() string {
	text := rand.Text()
	plaintexts.Lock()
	defer plaintexts.Unlock()
	plaintexts.list = append(plaintexts.list, text)
	return text
}

// labelled creates a Secret of a tenant that goes to the hub.
func (s *scene) labelled(tenant, name string, data map[string]string, changes ...func(*corev1.Secret)) {
	s.Helper()
	c := system.TenantClient(tenant)
	err := c.Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		s.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name, Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}},
		StringData: data,
	}
	for _, change := range changes {
		change(secret)
	}
	if err := c.Create(s.ctx, secret); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) secret(tenant, name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
}

// rewrite replaces the content of a tenant's Secret.
func (s *scene) rewrite(tenant, name string, data map[string]string) {
	s.Helper()
	secret := s.secret(tenant, name)
	if err := system.TenantClient(tenant).Get(s.ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
		s.Fatal(err)
	}
	secret.Data, secret.StringData = nil, data
	if err := system.TenantClient(tenant).Update(s.ctx, secret); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) inHub(tenant, name string) client.ObjectKey {
	return client.ObjectKey{Namespace: v1alpha1.TenantNamespace(tenant), Name: repo.ObjectName(s.namespace, name)}
}

// holds waits until the hub has a tenant's Secret with this content.
func (s *scene) holds(tenant, name string, data map[string]string) *corev1.Secret {
	s.Helper()
	var secret corev1.Secret
	s.eventually(fmt.Sprintf("Secret %s/%s of %s in the hub", s.namespace, name, tenant), func() error {
		if err := system.HubClient.Get(s.ctx, s.inHub(tenant, name), &secret); err != nil {
			return err
		}
		have := map[string]string{}
		for key, value := range secret.Data {
			have[key] = string(value)
		}
		if !maps.Equal(have, data) {
			return errors.New("it has other content")
		}
		return nil
	})
	return &secret
}

func (s *scene) hasNoSecret(tenant, name string) {
	s.Helper()
	s.eventually(fmt.Sprintf("the end of Secret %s/%s of %s in the hub", s.namespace, name, tenant), func() error {
		err := system.HubClient.Get(s.ctx, s.inHub(tenant, name), &corev1.Secret{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
}

func (s *scene) syncSecret(tenant, name string) (*v1alpha1.SyncSecret, error) {
	var sync v1alpha1.SyncSecret
	return &sync, system.HubClient.Get(s.ctx, s.inHub(tenant, name), &sync)
}

// stalled waits for a SyncSecret's reason not to be ready.
func (s *scene) stalled(tenant, name, reason string) {
	s.Helper()
	s.eventually(reason+" of "+name, func() error {
		sync, err := s.syncSecret(tenant, name)
		if err != nil {
			return err
		}
		for _, c := range sync.Status.Conditions {
			if c.Type == "Stalled" && c.Status == metav1.ConditionTrue && c.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", sync.Status.Conditions)
	})
}

// secretPath is the path of a Secret's wish.
func (s *scene) secretPath(tenant, name string) string {
	return repo.Path{Tenant: tenant, Kind: v1alpha1.KindSyncSecret, Namespace: s.namespace, Name: name, SourceKind: "secret"}.String()
}

// sealedOn reads the age file at a path of a branch.
func (s *scene) sealedOn(branch, path string) (string, error) {
	text, err := system.Repository.Git(s.ctx, "show", branch+":"+path)
	if err != nil {
		return "", err
	}
	object, problems := repo.Decode(path, repo.NewFile([]byte(text+"\n")))
	if len(problems) > 0 {
		return "", fmt.Errorf("%+v", problems)
	}
	return object.(*v1alpha1.SyncSecret).Sealed, nil
}

// keyring is the hub's Secret with sealing keys.
func (s *scene) keyring() (*corev1.Secret, seal.Keyring) {
	s.Helper()
	var secret corev1.Secret
	if err := system.HubClient.Get(s.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: seal.KeysSecret}, &secret); err != nil {
		s.Fatal(err)
	}
	keys, bad := seal.ParseKeyring(secret.Data)
	if len(bad) > 0 || len(keys) == 0 {
		s.Fatalf("%d keys, bad %v", len(keys), bad)
	}
	return &secret, keys
}

// rotate does what kubelbctl keys rotate does.
func (s *scene) rotate() seal.Key {
	s.Helper()
	secret, keys := s.keyring()
	key, err := keys.NewKey(time.Now())
	if err != nil {
		s.Fatal(err)
	}
	patch := client.MergeFrom(secret.DeepCopy())
	secret.Data[key.Name] = key.File()
	if err := system.HubClient.Patch(s.ctx, secret, patch); err != nil {
		s.Fatal(err)
	}
	return key
}

// sealedTo waits until an age file on a branch is for a key.
func (s *scene) sealedTo(branch, path string, key seal.Key) {
	s.Helper()
	s.eventually(path+" on "+branch+" to be for the key "+key.Name, func() error {
		sealed, err := s.sealedOn(branch, path)
		if err == nil {
			_, err = seal.Open([]string{key.Identity}, sealed)
		}
		return err
	})
}

func TestASecretGoesSealedThroughGitIntoTheHub(t *testing.T) {
	s := newScene(t)
	first := map[string]string{"username": plaintext(), "password": plaintext()}
	s.labelled(acme, "login", first, func(o *corev1.Secret) { o.Type = corev1.SecretTypeBasicAuth })
	secret := s.holds(acme, "login", first)
	if secret.Type != corev1.SecretTypeBasicAuth || secret.Labels[v1alpha1.LabelOriginName] != "login" {
		t.Errorf("it is a %s with labels %v", secret.Type, secret.Labels)
	}
	// Another tenant's Secret of the same name is another Secret.
	theirs := map[string]string{"token": plaintext()}
	s.labelled(globex, "login", theirs)
	s.holds(globex, "login", theirs)

	second := map[string]string{"username": first["username"], "password": plaintext()}
	s.rewrite(acme, "login", second)
	s.holds(acme, "login", second)
	s.holds(globex, "login", theirs)

	if err := system.TenantClient(acme).Delete(s.ctx, s.secret(acme, "login")); err != nil {
		t.Fatal(err)
	}
	s.hasNoSecret(acme, "login")
	s.eventually("the file on main to go", func() error {
		if text := s.git("ls-tree", "-r", "--name-only", "main", "--", s.secretPath(acme, "login")); text != "" {
			return errors.New("it is there")
		}
		return nil
	})
	s.holds(globex, "login", theirs)

	// So does one whose label is taken off, while the CCM is away.
	system.KillCCM(globex)
	unlabel := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":null}}`))
	if err := system.TenantClient(globex).Patch(s.ctx, s.secret(globex, "login"), unlabel); err != nil {
		t.Fatal(err)
	}
	if err := system.StartCCM(s.ctx, globex); err != nil {
		t.Fatal(err)
	}
	s.hasNoSecret(globex, "login")
}

func TestUnchangedSecretsMakeNoCommitOverRestarts(t *testing.T) {
	s := newScene(t)
	same, other := map[string]string{"a": plaintext()}, map[string]string{"b": plaintext()}
	s.labelled(acme, "same", same)
	s.labelled(acme, "other", other)
	s.holds(acme, "same", same)
	s.holds(acme, "other", other)
	tip := s.git("rev-parse", "intent/acme")

	system.KillCCM(acme)
	system.KillHub()
	if err := system.StartHub(); err != nil {
		t.Fatal(err)
	}
	if err := system.StartCCM(s.ctx, acme); err != nil {
		t.Fatal(err)
	}
	other["b"] = plaintext()
	s.rewrite(acme, "other", other)
	s.holds(acme, "other", other)
	s.holds(acme, "same", same)
	changed := strings.Fields(s.git("log", "--format=", "--name-only", tip+"..intent/acme"))
	if !slices.Equal(changed, []string{s.secretPath(acme, "other")}) {
		t.Errorf("after the restart commits changed %v", changed)
	}
}

func TestKeysRotateAndOldFilesStillOpen(t *testing.T) {
	s := newScene(t)
	first := map[string]string{"token": plaintext()}
	s.labelled(acme, "token", first)
	s.holds(acme, "token", first)
	path := s.secretPath(acme, "token")
	_, keys := s.keyring()
	old, _ := keys.Newest()
	s.sealedTo("main", path, old)
	born := s.git("log", "-1", "--format=%H", "main", "--", path)

	tip := s.git("rev-parse", "intent/acme")
	fresh := s.rotate()
	s.sealedTo("main", path, fresh)
	if sealed, err := s.sealedOn("main", path); err != nil {
		t.Error(err)
	} else if _, err := seal.Open([]string{old.Identity}, sealed); !errors.Is(err, seal.ErrCannotOpen) {
		t.Errorf("it is sealed to the old key as well: %v", err)
	}
	if commits := s.git("rev-list", "--count", tip+"..intent/acme"); commits != "1" {
		t.Errorf("%s commits for new keys, want 1", commits)
	}
	s.holds(acme, "token", first)
	second := map[string]string{"token": plaintext()}
	s.rewrite(acme, "token", second)
	s.holds(acme, "token", second)
	if commits := s.git("rev-list", "--count", tip+"..intent/acme"); commits != "2" {
		t.Errorf("%s commits for new keys and one change, want 2", commits)
	}

	// What a person brings back from before the rotation opens, and stays.
	carol := s.person("carol")
	carol.git("revert", "--no-edit", s.git("log", "-1", "--format=%H", "main", "--", path))
	carol.push()
	s.holds(acme, "token", first)
	carol.pull()
	carol.git("checkout", "--quiet", born, "--", path)
	carol.git("commit", "--quiet", "--message", "the token as it was")
	carol.push()
	s.sealedTo("main", path, old)
	s.holds(acme, "token", first)
	s.eventually("the hold in the hub", func() error {
		sync, err := s.syncSecret(acme, "token")
		if err == nil && (sync.Status.Git == nil || len(sync.Status.Git.Held) == 0 || sync.Status.Git.Held[0].Field != "sealed") {
			err = fmt.Errorf("status.git is %+v", sync.Status.Git)
		}
		return err
	})
	s.eventually("the Event on the Secret", func() error {
		return s.hasEvent(acme, "token", "NotFollowed", "carol")
	})
	third := map[string]string{"token": plaintext()}
	s.rewrite(acme, "token", third)
	s.eventually("the tenant's change on its branch", func() error {
		sealed, err := s.sealedOn("intent/acme", path)
		if err != nil {
			return err
		}
		envelope, err := seal.Open([]string{fresh.Identity}, sealed)
		if err == nil && string(envelope.Data["token"]) != third["token"] {
			err = errors.New("it has the content before")
		}
		return err
	})
	s.holds(acme, "token", first)

	// Released by the person's own commit, the tenant's content comes.
	s.eventually("the release", func() error {
		if _, err := carol.clone.Git(s.ctx, "pull", "--quiet", "--rebase"); err != nil {
			return err
		}
		if _, err := carol.clone.Git(s.ctx, "checkout", "--quiet", "origin/intent/acme", "--", path); err != nil {
			return err
		}
		if _, err := carol.clone.Git(s.ctx, "commit", "--quiet", "--message", "release the token"); err != nil {
			return err
		}
		_, err := carol.clone.Git(s.ctx, "push", "--quiet", "origin", "HEAD:main")
		return err
	})
	s.holds(acme, "token", third)
}

// hasEvent looks for an Event about a Secret whose note has a word.
func (s *scene) hasEvent(tenant, name, reason, word string) error {
	var list corev1.EventList
	if err := system.TenantClient(tenant).List(s.ctx, &list, client.InNamespace(s.namespace)); err != nil {
		return err
	}
	var seen []string
	for _, e := range list.Items {
		if e.InvolvedObject.Name == name && e.Reason == reason && strings.Contains(e.Message, word) {
			return nil
		}
		seen = append(seen, e.InvolvedObject.Name+" "+e.Reason+" "+e.Message)
	}
	return fmt.Errorf("Events: %v", seen)
}

func TestACopiedAgeFileOpensNowhereElse(t *testing.T) {
	s := newScene(t)
	content := map[string]string{"token": plaintext()}
	s.labelled(acme, "token", content)
	s.holds(acme, "token", content)
	sealed, err := s.sealedOn("main", s.secretPath(acme, "token"))
	if err != nil {
		t.Fatal(err)
	}
	mallory := s.person("mallory")
	document := func(tenant, name string) string {
		return fmt.Sprintf("apiVersion: kubelb.k8c.io/v1alpha1\nkind: SyncSecret\nmetadata: {name: %s, namespace: %s}\ntype: Opaque\nsealed: |\n  %s\n",
			repo.ObjectName(s.namespace, name), v1alpha1.TenantNamespace(tenant), strings.ReplaceAll(strings.TrimSpace(sealed), "\n", "\n  "))
	}
	plain := plaintext()
	for path, text := range map[string]string{
		s.secretPath(globex, "token"): document(globex, "token"),
		s.secretPath(acme, "copy"):    document(acme, "copy"),
	} {
		if err := mallory.clone.Write(path, text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mallory.clone.Commit(s.ctx, "copy a secret"); err != nil {
		t.Fatal(err)
	}
	mallory.push()
	s.stalled(globex, "token", v1alpha1.ReasonAddressMismatch)
	s.stalled(acme, "copy", v1alpha1.ReasonAddressMismatch)
	s.hasNoSecret(globex, "token")
	s.hasNoSecret(acme, "copy")
	s.eventually("the reason on the status branch of globex", func() error {
		text, err := system.Repository.Git(s.ctx, "show", "status/globex:"+s.secretPath(globex, "token"))
		if err == nil && !strings.Contains(text, v1alpha1.ReasonAddressMismatch) {
			err = errors.New(text)
		}
		return err
	})
	s.holds(acme, "token", content)
	mallory.pull()
	mallory.git("rm", "--quiet", s.secretPath(globex, "token"), s.secretPath(acme, "copy"))
	mallory.git("commit", "--quiet", "--message", "remove the copies")
	mallory.push()
	s.eventually("the copies to go", func() error {
		if _, err := s.syncSecret(globex, "token"); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("still there"), err)
		}
		return nil
	})

	// By hand in the hub, as with KubeLB.
	manual := &v1alpha1.SyncSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.TenantNamespace(acme), Name: repo.ObjectName(s.namespace, "manual")},
		Sealed:     s.sealFor(acme, "manual", plain),
	}
	if err := system.HubClient.Create(s.ctx, manual); err != nil {
		t.Fatal(err)
	}
	s.holds(acme, "manual", map[string]string{"token": plain})
	if err := system.HubClient.Delete(s.ctx, manual); err != nil {
		t.Fatal(err)
	}
	s.hasNoSecret(acme, "manual")
}

// sealFor does what kubelbctl seal does.
func (s *scene) sealFor(tenant, name, token string) string {
	s.Helper()
	_, keys := s.keyring()
	sealed, err := seal.Seal(keys.Recipients(), seal.Envelope{Tenant: tenant, Namespace: s.namespace, Name: name, Data: map[string][]byte{"token": []byte(token)}})
	if err != nil {
		s.Fatal(err)
	}
	return sealed
}

// TestNothingOfASecretIsAnywhereElse looks through all that there is after a
// secret came, changed, was refused and went. TestMain looks once more when all
// tests are done.
func TestNothingOfASecretIsAnywhereElse(t *testing.T) {
	s := newScene(t)
	stays, goes := map[string]string{"token": plaintext()}, map[string]string{"token": plaintext()}
	s.labelled(acme, "stays", stays)
	s.labelled(acme, "goes", goes)
	s.labelled(acme, "robot", map[string]string{"token": plaintext()}, func(o *corev1.Secret) { o.Type = corev1.SecretTypeBootstrapToken })
	s.labelled(acme, "large", map[string]string{"token": plaintext() + strings.Repeat("x", 200<<10)})
	s.holds(acme, "stays", stays)
	s.holds(acme, "goes", goes)
	s.rewrite(acme, "stays", map[string]string{"token": plaintext()})
	if err := system.TenantClient(acme).Delete(s.ctx, s.secret(acme, "goes")); err != nil {
		t.Fatal(err)
	}
	s.hasNoSecret(acme, "goes")
	s.eventually("the Events", func() error {
		return errors.Join(s.hasEvent(acme, "robot", "UnsupportedSecretType", ""), s.hasEvent(acme, "large", "TooLarge", ""))
	})
	// The search finds what is there.
	for _, place := range []string{"git", "log", "object"} {
		if found, err := search(s.ctx, []string{s.namespace}); err != nil {
			t.Fatal(err)
		} else if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, place) }) {
			t.Errorf("the namespace is found in no %s, so a leak would not be either: %v", place, found)
		}
	}
	if found, err := search(s.ctx, plaintexts.list); err != nil || len(found) > 0 {
		t.Errorf("plaintext found: %v, %v", found, err)
	}
}

func TestEncodingsAreFoundAtEveryAlignment(t *testing.T) {
	const text = "a plaintext of some length"
	for _, before := range []string{"", "x", "xy", "xyz"} {
		for _, after := range []string{"", "x", "xy"} {
			whole := before + text + after
			for _, encoded := range []string{
				whole, base64.StdEncoding.EncodeToString([]byte(whole)), hex.EncodeToString([]byte(whole)),
				base64.StdEncoding.EncodeToString([]byte(before + base64.StdEncoding.EncodeToString([]byte(whole)) + after)),
			} {
				if !slices.ContainsFunc(needles(text), func(n []byte) bool { return bytes.Contains([]byte(encoded), n) }) {
					t.Errorf("not found in %s", encoded)
				}
			}
		}
	}
}

// needles are a text as it stands, in hexadecimal, in base64 at each alignment,
// and the latter in base64 once more.
func needles(text string) [][]byte {
	out := [][]byte{[]byte(text), []byte(hex.EncodeToString([]byte(text)))}
	for _, once := range aligned(text) {
		out = append(out, []byte(once))
		for _, twice := range aligned(once) {
			out = append(out, []byte(twice))
		}
	}
	return out
}

// aligned are the parts of a text's base64 that do not depend on what is before
// and after it.
func aligned(text string) (out []string) {
	for offset := range 3 {
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, offset), text...))
		begin, end := (offset*8+5)/6, (offset+len(text))*8/6
		out = append(out, encoded[begin:end])
	}
	return out
}

// search looks for texts in every Git object, every log and every object but
// Secrets, and says where they are.
func search(ctx context.Context, texts []string) (found []string, err error) {
	var all [][]byte
	for _, text := range texts {
		all = append(all, needles(text)...)
	}
	look := func(place string, data []byte) {
		if slices.ContainsFunc(all, func(n []byte) bool { return bytes.Contains(data, n) }) {
			found = append(found, place)
		}
	}
	objects, err := system.Repository.Git(ctx, "cat-file", "--batch-all-objects", "--batch")
	if err != nil {
		return nil, err
	}
	look("git objects", []byte(objects))
	err = filepath.WalkDir(system.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".log") || strings.Contains(path, "etcd-data") {
			return nil //nolint:nilerr // files come and go
		}
		data, err := os.ReadFile(path)
		if err == nil {
			look("log "+path, data)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, plane := range map[string]*testbed.Plane{"hub": system.Hub, acme: system.Tenant(acme).Plane, globex: system.Tenant(globex).Plane} {
		c := system.HubClient
		if name != "hub" {
			c = system.TenantClient(name)
		}
		lists, err := plane.Clients.Discovery().ServerPreferredResources()
		if err != nil {
			return nil, err
		}
		for _, list := range lists {
			version, err := schema.ParseGroupVersion(list.GroupVersion)
			if err != nil {
				return nil, err
			}
			for _, resource := range list.APIResources {
				if !slices.Contains(resource.Verbs, "list") || resource.Kind == "Secret" {
					continue
				}
				var objects unstructured.UnstructuredList
				objects.SetGroupVersionKind(version.WithKind(resource.Kind + "List"))
				if err := c.List(ctx, &objects); err != nil {
					return nil, fmt.Errorf("list %s: %w", resource.Kind, err)
				}
				text, err := objects.MarshalJSON()
				if err != nil {
					return nil, err
				}
				look(fmt.Sprintf("objects of kind %s in %s", resource.Kind, name), text)
			}
		}
	}
	return found, nil
}
