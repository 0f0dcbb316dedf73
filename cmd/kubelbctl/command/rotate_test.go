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

package command_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// plane is the API server of a hub that does nothing.
type plane struct {
	*world
	client.Client
	config string // a kubeconfig
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set")
	}
	environment := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "..", "deploy", "crds")}, ErrorIfCRDPathMissing: true}
	config, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := v1alpha1.AddToScheme(clientgoscheme.Scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{world: newWorld(t), Client: c, config: filepath.Join(t.TempDir(), "kubeconfig")}
	if err := os.WriteFile(p.config, environment.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	p.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kubelb"}})
	return p
}

func (p *plane) make(object client.Object) {
	p.t.Helper()
	if err := p.Create(context.Background(), object); err != nil {
		p.t.Fatal(err)
	}
}

// tells writes the status of an object, as the hub does.
func (p *plane) tells(object client.Object, change func()) {
	p.t.Helper()
	if err := p.Get(context.Background(), client.ObjectKeyFromObject(object), object); err != nil {
		p.t.Fatal(err)
	}
	change()
	if err := p.Status().Update(context.Background(), object); err != nil {
		p.t.Fatal(err)
	}
}

// says runs a verb and checks what it exits with and says.
func (p *plane) says(code int, words string, args ...string) {
	p.t.Helper()
	if got := p.run(p.home, append(args, "--kubeconfig", p.config)...); got != code || !strings.Contains(p.lastOut+p.lastErr, words) {
		p.t.Errorf("kubelbctl %s: exit %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, code, words, p.lastOut, p.lastErr)
	}
}

// The key that is announced signs only when every tenant can have heard of it.
func TestTheSigningKeyIsNotChangedBeforeAllAreTold(t *testing.T) {
	p := newPlane(t)
	old := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBKRH8hxfSCe0LaAOmgd0ChZGVSOhJc0pgNWYLgAZTvU"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: v1alpha1.SecretHubKeys}, Data: map[string][]byte{
		v1alpha1.HubKeyIdentity: []byte("old"), v1alpha1.HubKeyIdentityPublic: []byte(old + "\n"),
	}}
	p.make(secret)
	source := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: "fleet"}, Spec: v1alpha1.GitSourceSpec{URL: "https://git.example.com/fleet.git"}}
	p.make(source)
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme"}}
	p.make(tenant)
	finish := []string{"keys", "rotate", "--signing", "--finish"}

	p.says(1, "no new key is announced", finish...)
	p.says(0, "announced ssh-ed25519", "keys", "rotate", "--signing")
	p.says(1, "announced already", "keys", "rotate", "--signing")
	p.says(1, "not told yet: acme", finish...)
	if err := p.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
		t.Fatal(err)
	}
	next := strings.TrimSpace(string(secret.Data[v1alpha1.HubKeyNextPublic]))
	p.tells(tenant, func() { tenant.Status.Git = &v1alpha1.TenantGitStatus{HubKeys: []string{old}} })
	p.says(1, "not told yet: acme", finish...)
	p.tells(tenant, func() { tenant.Status.Git.HubKeys = []string{old, next + " announced"} })
	p.says(1, "GitSource kubelb/fleet is not Ready", finish...)
	p.tells(source, func() {
		source.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Succeeded", LastTransitionTime: metav1.Now()}}
	})
	p.says(0, "the hub signs with "+next, finish...)
	if err := p.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
		t.Fatal(err)
	}
	if len(secret.Data[v1alpha1.HubKeyNext]) > 0 || strings.TrimSpace(string(secret.Data[v1alpha1.HubKeyPreviousPublic])) != old {
		t.Errorf("the Secret is %q", secret.Data)
	}
}
