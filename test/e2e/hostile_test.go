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
	"io"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// forger is who runs the Git server: it writes every ref as it likes, and has no
// key but its own.
type forger struct {
	*scene
	signer *git.Signer
	remote *git.Remote
	store  *git.Store
}

func newForger(s *scene) *forger {
	s.Helper()
	signer, err := git.GenerateKey()
	if err != nil {
		s.Fatal(err)
	}
	remote, err := git.NewRemote(system.Repository.URLFor(testbed.Admin), git.Options{})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(remote.Close)
	return &forger{s, signer, remote, git.NewStore()}
}

// at is what a branch is at.
func (f *forger) at(branch string) string {
	f.Helper()
	return f.git("rev-parse", "refs/heads/"+branch)
}

// set moves a branch anywhere, without a word.
func (f *forger) set(branch, commit string) string {
	f.Helper()
	f.git("update-ref", "refs/heads/"+branch, commit)
	return commit
}

// forge makes a commit on top of one with the same trailers and the next
// generation, signed with the forger's key, and sets a branch to it.
func (f *forger) forge(branch, on string, edits map[string][]byte, trailers map[string]string) string {
	f.Helper()
	parent, err := git.ParseHash(on)
	if err != nil {
		f.Fatal(err)
	}
	if err := f.remote.Fetch(f.ctx, f.store, git.Want{Tip: parent}); err != nil {
		f.Fatal(err)
	}
	commit, err := f.store.Commit(parent)
	if err != nil {
		f.Fatal(err)
	}
	tree, err := f.store.Edit(commit.Tree, edits)
	if err != nil {
		f.Fatal(err)
	}
	said := map[string]string{}
	for _, t := range commit.Trailers {
		said[t.Key] = t.Value
	}
	generation, _ := strconv.Atoi(said[repo.TrailerGeneration])
	said[repo.TrailerGeneration] = strconv.Itoa(generation + 1)
	maps.Copy(said, trailers)
	spec := git.CommitSpec{
		Tree: tree, Parents: []git.Hash{parent}, Message: commit.Subject, Signer: f.signer,
		Author: git.Ident{Name: commit.Author.Name, Email: commit.Author.Email, When: time.Now()},
	}
	for key, value := range said {
		spec.Trailers = append(spec.Trailers, git.Trailer{Key: key, Value: value})
	}
	forged, err := f.store.NewCommit(spec)
	if err != nil {
		f.Fatal(err)
	}
	const park = "refs/heads/forged"
	refs, err := f.remote.ListRefs(f.ctx, park)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := f.remote.Push(f.ctx, f.store, []git.RefUpdate{{Name: park, Old: refs[park], New: forged}}, false); err != nil {
		f.Fatal(err)
	}
	f.set(branch, forged.String())
	return forged.String()
}

// file reads a file of a branch.
func (f *forger) file(branch, path string) string {
	f.Helper()
	return f.git("show", "refs/heads/"+branch+":"+path) + "\n"
}

// toldInGit waits until a tenant was told, which may be over a moment later.
func (f *forger) toldInGit(tenant, reason, commit string) {
	f.Helper()
	f.eventually("word of commit "+commit, func() error {
		path := repo.TenantDir(tenant) + "/tenantstate.yaml"
		told := f.git("log", "-S"+commit, "-p", "--format=", "status/"+tenant, "--", path)
		if !strings.Contains(told, commit) || !strings.Contains(told, reason) {
			return errors.New("there is none on the status branch")
		}
		return nil
	})
}

// allowSigners lets the hub take only what a tenant's CCM has signed.
func (s *scene) allowSigners(tenant string) {
	s.Helper()
	var secret corev1.Secret
	if err := system.TenantClient(tenant).Get(s.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: "kubelb-ccm-key"}, &secret); err != nil {
		s.Fatal(err)
	}
	var t v1alpha1.Tenant
	if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: tenant}, &t); err != nil {
		s.Fatal(err)
	}
	patch := client.MergeFrom(t.DeepCopy())
	t.Spec.Git.AllowedSigners = []string{string(secret.Data["identity.pub"])}
	if err := system.HubClient.Patch(s.ctx, &t, patch); err != nil {
		s.Fatal(err)
	}
}

func TestHostileGitServerForgesIntents(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	neighbour := s.up(globex, s.app("web"))
	s.allowSigners(acme)
	s.allowSigners(globex)
	f := newForger(s)
	true1 := f.at("intent/acme")
	port := 8080
	proceeds := func() {
		s.Helper()
		port++
		s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = int32(port) })
		s.answers(address, port, app)
	}
	for _, trick := range []struct {
		name, reason string
		play         func(tip string) string
	}{
		{"forged", v1alpha1.ReasonUntrusted, func(tip string) string {
			text := strings.ReplaceAll(f.file("intent/acme", s.path(acme, "web")), "port: "+strconv.Itoa(port), "port: 6666")
			return f.forge("intent/acme", tip, map[string][]byte{s.path(acme, "web"): []byte(text)}, nil)
		}},
		{"of another tenant", v1alpha1.ReasonUntrusted, func(string) string { return f.set("intent/acme", f.at("intent/globex")) }},
		{"of another branch", v1alpha1.ReasonUntrusted, func(string) string { return f.set("intent/acme", f.at("status/acme")) }},
		{"replayed", v1alpha1.ReasonStaleWriter, func(string) string { return f.set("intent/acme", true1) }},
		{"emptied", v1alpha1.ReasonUntrusted, func(tip string) string {
			return f.forge("intent/acme", tip, map[string][]byte{repo.TenantDir(acme): nil}, map[string]string{repo.TrailerDeletes: "1000"})
		}},
	} {
		t.Run(trick.name, func(*testing.T) {
			if trick.name == "replayed" && f.at("intent/acme") == true1 {
				t.Fatal("there is nothing older to replay")
			}
			s.settled(acme)
			main := s.lastChange(acme, "web")
			played := trick.play(f.at("intent/acme"))
			f.toldInGit(acme, trick.reason, played[:7])
			if now := s.lastChange(acme, "web"); now != main {
				t.Errorf("main has the forgery: %s", now)
			}
			s.answers(address, port, app)
			s.closed(address, 6666)
			s.answers(neighbour, 8080, s.app("web"))
			s.eventually("the CCM's own branch", func() error {
				if f.at("intent/acme") == played {
					return errors.New("not yet")
				}
				return nil
			})
			proceeds()
			s.eventually("the end of the trouble", func() error {
				if strings.Contains(f.file("status/acme", repo.TenantDir(acme)+"/tenantstate.yaml"), played[:7]) {
					return errors.New("the tenant is still told of it")
				}
				return nil
			})
		})
	}
	// Withheld: a branch that is not shown removes nothing.
	s.git("config", "--add", "uploadpack.hideRefs", "refs/heads/intent/acme")
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9999 })
	s.answers(address, port, app)
	s.git("config", "--unset-all", "uploadpack.hideRefs")
	s.answers(address, 9999, app)
	port = 9999

	// Cut off: packs that end too soon are not believed.
	system.Git.CutNextFetches(4)
	for range 8 {
		proceeds()
	}
	if n := system.Git.FetchesToCut(); n > 0 {
		t.Errorf("%d fetches were not cut", n)
	}
}

func TestHostileGitServerForgesAnswers(t *testing.T) {
	s := newScene(t)
	app, late := s.app("web"), s.app("late")
	address := s.up(acme, app)
	s.up(globex, s.app("web"))
	f := newForger(s)
	older := f.at("status/acme")
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)
	s.eventually("a newer status", func() error {
		if f.at("status/acme") == older {
			return errors.New("not yet")
		}
		return nil
	})
	if err := system.Deploy(s.ctx, acme, late); err != nil {
		t.Fatal(err)
	}
	foreign, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	genuine := f.at("status/acme")

	// With the hub away only the forger answers the CCM, which waits for news.
	system.KillHub()
	defer func() {
		if !system.HubProcess().Alive() {
			_ = system.StartHub()
		}
	}()
	if err := system.TenantClient(acme).Create(s.ctx, late.NewService()); err != nil {
		t.Fatal(err)
	}
	statePath := repo.TenantDir(acme) + "/tenantstate.yaml"
	lies := &v1alpha1.LoadBalancer{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.TenantNamespace(acme), Name: repo.ObjectName(s.namespace, "late"), Labels: map[string]string{
			v1alpha1.LabelOriginName: "late", v1alpha1.LabelOriginNS: s.namespace, v1alpha1.LabelOriginKind: "Service",
		}},
		Status: v1alpha1.LoadBalancerStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.66"}}}},
	}
	content, err := repo.EncodeStatus(lies)
	if err != nil {
		t.Fatal(err)
	}
	state := "apiVersion: kubelb.k8c.io/v1alpha1\nkind: TenantState\nmetadata:\n  name: default\n  namespace: tenant-acme\nstatus:\n  hubKeys:\n  - " +
		f.signer.PublicKey().String() + "\n  recipients:\n  - " + foreign.Recipient().String() + "\n"
	for _, trick := range []struct {
		name, word string
		play       func()
	}{
		{"forged, with an address and a recipient of its own", "unknown key", func() {
			f.forge("status/acme", genuine, map[string][]byte{s.path(acme, "late"): content, statePath: []byte(state)}, nil)
		}},
		{"of another tenant", "for branch", func() { f.set("status/acme", f.at("status/globex")) }},
		{"of another branch", "for branch", func() { f.set("status/acme", f.at("base/main")) }},
		{"older", "generation", func() { f.set("status/acme", older) }},
	} {
		t.Run(trick.name, func(*testing.T) {
			trick.play()
			s.serviceCondition(acme, "late", "Problem", metav1.ConditionTrue, trick.word)
			for _, name := range []string{"web", "late"} {
				for _, ingress := range s.service(acme, name).Status.LoadBalancer.Ingress {
					if ingress.IP != address {
						t.Errorf("%s has the address %s", name, ingress.IP)
					}
				}
			}
			f.set("status/acme", genuine)
		})
	}
	// What is sealed meanwhile is not for the forger.
	f.forge("status/acme", genuine, map[string][]byte{statePath: []byte(state)}, nil)
	s.labelled(acme, "secret", map[string]string{"token": plaintext()})
	sealed := repo.Path{Tenant: acme, Kind: v1alpha1.KindSyncSecret, Namespace: s.namespace, Name: "secret", SourceKind: "secret"}.String()
	s.eventually("the sealed Secret", func() error {
		_, err := system.Repository.Git(s.ctx, "show", "refs/heads/intent/acme:"+sealed)
		return err
	})
	text := f.file("intent/acme", sealed)
	_, armored, _ := strings.Cut(text, "sealed: |")
	var lines []string
	for line := range strings.Lines(armored) {
		lines = append(lines, strings.TrimSpace(line))
	}
	file := strings.TrimSpace(strings.Join(lines, "\n"))
	if !strings.HasPrefix(file, armor.Header) {
		t.Fatalf("nothing is sealed in\n%s", text)
	}
	if end := strings.Index(file, armor.Footer); end > 0 {
		file = file[:end+len(armor.Footer)] + "\n"
	}
	var wrong *age.NoIdentityMatchError
	if opened, err := age.Decrypt(armor.NewReader(strings.NewReader(file)), foreign); err == nil {
		got, _ := io.ReadAll(opened)
		t.Errorf("the forger reads %d bytes", len(got))
	} else if !errors.As(err, &wrong) {
		t.Errorf("the sealed file cannot be read: %v", err)
	}
	s.answers(address, 9090, app)

	if err := system.StartHub(); err != nil {
		t.Fatal(err)
	}
	arrived, err := system.Address(s.ctx, acme, s.namespace, "late")
	if err != nil {
		t.Fatal(err)
	}
	s.answers(arrived, 8080, late)
	s.serviceCondition(acme, "late", "Problem", metav1.ConditionFalse)
}

func TestHostileGitServerRewritesMain(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	f := newForger(s)
	main, base := f.at("main"), f.at("base/main")
	text := strings.ReplaceAll(f.file("main", s.path(acme, "web")), "port: 8080", "port: 6666")
	edits := map[string][]byte{s.path(acme, "web"): []byte(text)}

	system.KillHub() // so that it meets each state as a whole
	alive := func() {
		s.Helper()
		if err := system.StartHub(); err != nil {
			t.Fatal(err)
		}
	}
	root := s.git("-c", "user.name=x", "-c", "user.email=x@example.com", "commit-tree", main+"^{tree}", "-m", "Begin again")
	f.forge("main", root, edits, nil)
	alive()
	s.sourceSays(v1alpha1.ReasonMainRewritten)
	s.answers(address, 8080, app)
	s.closed(address, 6666)
	f.set("main", main)
	s.sourceReady()

	// base/main by another key counts for nothing, also as if it were newer.
	f.forge("base/main", base, edits, nil)
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)
	newest := f.at("base/main")
	f.set("base/main", base)
	s.sourceSays(v1alpha1.ReasonRolledBack)
	s.answers(address, 9090, app)
	s.closed(address, 6666)
	f.set("base/main", newest)
	s.sourceReady()
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9091 })
	s.answers(address, 9091, app)
}
