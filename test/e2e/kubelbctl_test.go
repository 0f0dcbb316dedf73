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
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ctl runs kubelbctl with the hub's kubeconfig. It returns what it printed, on
// both streams, and what it exited with.
func (s *scene) ctl(args ...string) (string, int) {
	s.Helper()
	return s.ctlIn("", append(os.Environ(), "KUBECONFIG="+system.Hub.Kubeconfig), args...)
}

// ctlIn runs kubelbctl in a folder.
func (s *scene) ctlIn(dir string, environment []string, args ...string) (string, int) {
	s.Helper()
	root, err := testbed.ModuleRoot()
	if err != nil {
		s.Fatal(err)
	}
	programs, err := testbed.Build(s.ctx, filepath.Join(root, ".tools", "bin"), "./cmd/kubelbctl")
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.CommandContext(s.ctx, programs[0], args...)
	cmd.Dir, cmd.Env = dir, environment
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		s.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// does runs kubelbctl and wants success and words.
func (s *scene) does(words []string, args ...string) string {
	s.Helper()
	out, code := s.ctl(args...)
	if code != 0 {
		s.Fatalf("kubelbctl %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			s.Errorf("kubelbctl %s does not say %q:\n%s", strings.Join(args, " "), word, out)
		}
	}
	return out
}

func TestStatusShowsFleetTenantAndObject(t *testing.T) {
	s := newScene(t)
	address := s.up(acme, s.app("web"))
	s.condition(acme, "web", "Ready", metav1.ConditionTrue)
	s.does([]string{"kubelb/fleet", acme, globex, "LAG"}, "status")
	s.does([]string{"Tenant acme", s.namespace + "/web", address, "8080/TCP"}, "status", acme)
	s.does([]string{"INTENT"}, "status", "-o", "wide")
	s.does([]string{"Programmed:", "AddressAssigned:", address}, "status", acme, s.namespace+"/web")
	var tenant struct {
		Name    string `json:"name"`
		Objects []struct{ Name, Address, Ready string }
	}
	if err := json.Unmarshal([]byte(s.does(nil, "status", acme, "-o", "json")), &tenant); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, object := range tenant.Objects {
		found = found || object.Name == s.namespace+"/web" && object.Address == address && object.Ready == "True"
	}
	if tenant.Name != acme || !found {
		t.Errorf("JSON has %+v", tenant)
	}
	if out, code := s.ctl("status", "nobody"); code != 1 || !strings.Contains(out, "Tenant nobody does not exist") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestTenantAddInstallsACCM follows the instructions that kubelbctl prints, to
// the first address; then a person removes most of the tenant's load balancers.
func TestTenantAddInstallsACCM(t *testing.T) {
	const hooli = "hooli"
	s := newScene(t)
	if err := system.AddCluster(s.ctx, hooli); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(system.Git.AddUser("ccm-hooli", "")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	system.Repository.Allow("ccm-hooli", "refs/heads/intent/hooli")
	file := filepath.Join(t.TempDir(), "ccm.yaml")
	s.does([]string{"tenant/hooli created", "kubectl apply -f " + file},
		"tenant", "add", hooli, "--username", "ccm-hooli", "--password-file", token, "-f", file)
	if out, code := s.ctl("tenant", "add", hooli, "-f", file+".2"); code != 1 || !strings.Contains(out, "the hub has a Tenant hooli") {
		t.Errorf("a second time: exit %d\n%s", code, out)
	}
	s.allowLoopback(hooli)
	kubectl, err := testbed.Tool("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(s.ctx, kubectl, "--kubeconfig", system.Tenant(hooli).Kubeconfig, "apply", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var deployment appsv1.Deployment
	if err := system.TenantClient(hooli).Get(s.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: "kubelb-ccm"}, &deployment); err != nil {
		t.Fatal(err)
	}
	args := deployment.Spec.Template.Spec.Containers[0].Args
	if err := system.RunCCM(hooli, args); err != nil {
		t.Fatal(err)
	}
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	for _, name := range names[1:] {
		if err := system.Deploy(s.ctx, hooli, s.app(name)); err != nil {
			t.Fatal(err)
		}
		if err := system.TenantClient(hooli).Create(s.ctx, s.app(name).NewService()); err != nil {
			t.Fatal(err)
		}
	}
	address := s.up(hooli, s.app("a"))
	s.answers(address, 8080, s.app("a"))
	for _, name := range names {
		s.condition(hooli, name, "Ready", metav1.ConditionTrue)
	}

	ada := s.person("ada-" + hooli)
	for _, name := range names[1:] {
		ada.git("rm", "--quiet", s.path(hooli, name))
	}
	ada.git("commit", "--quiet", "--message", "remove six of seven")
	ada.push()
	s.eventually("the guard", func() error {
		out, _ := s.ctl("status", hooli)
		if !strings.Contains(out, "RemovalsNeedConfirmation") {
			return fmt.Errorf("status says:\n%s", out)
		}
		return nil
	})
	if _, err := s.loadBalancer(hooli, "b"); err != nil {
		t.Fatalf("nothing is removed before it is confirmed: %v", err)
	}
	s.does([]string{"confirmed commit " + s.git("rev-parse", "main")}, "confirm", hooli)
	s.gone(hooli, "b")
	s.answers(address, 8080, s.app("a"))
	if out, code := s.ctl("confirm", hooli); code != 1 || !strings.Contains(out, "nothing of tenant hooli waits") {
		t.Errorf("a second time: exit %d\n%s", code, out)
	}
	if out, code := s.ctl("reject", hooli); code != 1 || !strings.Contains(out, "proposes nothing") {
		t.Errorf("nothing to reject: exit %d\n%s", code, out)
	}
	if out, code := s.ctl("accept-rewrite", testbed.SourceName); code != 1 || !strings.Contains(out, "was not rewritten") {
		t.Errorf("nothing to accept: exit %d\n%s", code, out)
	}
}

func (s *scene) allowLoopback(tenant string) {
	s.Helper()
	var object v1alpha1.Tenant
	if err := system.HubClient.Get(s.ctx, client.ObjectKey{Name: tenant}, &object); err != nil {
		s.Fatal(err)
	}
	patch := client.MergeFrom(object.DeepCopy())
	object.Spec.AllowedEndpointCIDRs = []string{"127.0.0.0/8"}
	if err := system.HubClient.Patch(s.ctx, &object, patch); err != nil {
		s.Fatal(err)
	}
}

// gone waits until the hub has a load balancer no more.
func (s *scene) gone(tenant, name string) {
	s.Helper()
	s.eventually("the end of LoadBalancer "+name, func() error {
		_, err := s.loadBalancer(tenant, name)
		if err == nil {
			return fmt.Errorf("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

func TestKeysRotateAndAreBackedUp(t *testing.T) {
	s := newScene(t)
	token := map[string]string{"token": "sealed to the new recipient"}
	s.labelled(acme, "token", token)
	s.holds(acme, "token", token)
	out := s.does([]string{"new recipient age1"}, "keys", "rotate")
	recipient, _, _ := strings.Cut(strings.TrimPrefix(out, "new recipient "), "\n")
	s.eventually("the new recipient at the tenant", func() error {
		var state v1alpha1.TenantState
		if err := system.HubClient.Get(s.ctx, client.ObjectKey{Namespace: v1alpha1.TenantNamespace(acme), Name: v1alpha1.DefaultName}, &state); err != nil {
			return err
		}
		if len(state.Status.Recipients) != 1 || state.Status.Recipients[0] != recipient {
			return fmt.Errorf("recipients %v, want %s", state.Status.Recipients, recipient)
		}
		return nil
	})

	identity, public, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, file := filepath.Join(dir, "key.txt"), filepath.Join(dir, "keys.age")
	if err := os.WriteFile(key, []byte(identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.does([]string{"kubelb-hub-keys", "kubelb-sealing-keys", "kubelb-xds-ca", "fleet-git"}, "keys", "backup", file, "--recipient", public)
	saved, err := os.ReadFile(file)
	if err != nil || bytes.Contains(saved, []byte("kubelb")) {
		t.Fatalf("the backup is not encrypted (%v)", err)
	}
	if out, code := s.ctl("keys", "backup", file, "--recipient", public); code != 1 || !strings.Contains(out, "exists") {
		t.Errorf("over a backup: exit %d\n%s", code, out)
	}
	s.does([]string{"secret/kubelb-hub-keys unchanged"}, "keys", "restore", file, "--identity", key)
	s.does([]string{"secret/kubelb-hub-keys created"}, "keys", "restore", file, "--identity", key, "-n", "elsewhere")
	if err := system.HubClient.Delete(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}}); err != nil {
		t.Error(err)
	}
	if out, code := s.ctl("keys", "restore", file); code != 2 || !strings.Contains(out, "--identity") {
		t.Errorf("without the identity: exit %d\n%s", code, out)
	}
}
