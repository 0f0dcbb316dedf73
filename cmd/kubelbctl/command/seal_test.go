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
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const secretText = `apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: shop}
type: kubernetes.io/tls
data: {tls.crt: Q0VSVA==}
stringData: {tls.key: PRIVATE}
`

func TestSealAndUnseal(t *testing.T) {
	w := fleet(t)
	identity, recipient, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	w.write(w.home, "key.txt", "# a comment\n"+identity+"\n")
	w.write(w.home, "secret.yaml", secretText)
	secret, key := filepath.Join(w.home, "secret.yaml"), filepath.Join(w.home, "key.txt")
	const path = "tenants/acme/syncsecrets/shop/cert.secret.yaml"
	if code := w.run(w.home, "seal", "-f", secret, "--tenant", "acme", "--recipient", recipient); code != 0 {
		t.Fatalf("exit %d: %s", code, w.lastErr)
	}
	sealed := w.lastOut
	if _, problems := repo.Decode(path, repo.NewFile([]byte(sealed))); len(problems) > 0 {
		t.Errorf("the hub refuses it: %+v", problems)
	}
	for _, plain := range []string{"PRIVATE", "UFJJVkFURQ", "CERT", "Q0VSVA"} {
		if strings.Contains(sealed, plain) {
			t.Errorf("%s is in it", plain)
		}
	}
	if code := w.run(w.ada, "seal", "-f", secret, "--tenant", "acme", "--recipient", recipient, "--write"); code != 0 || w.lastOut != "wrote "+path+"; commit and push it\n" {
		t.Fatalf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	if code := w.run(w.ada, "validate"); code != 0 {
		t.Errorf("not valid: %s", w.lastOut)
	}
	written := filepath.Join(w.ada, path)
	if code := w.run(w.ada, "unseal", "-f", written, "-i", key); code != 0 {
		t.Fatalf("exit %d: %s", code, w.lastErr)
	}
	var back corev1.Secret
	if err := yaml.Unmarshal([]byte(w.lastOut), &back); err != nil || string(back.Data["tls.key"]) != "PRIVATE" || string(back.Data["tls.crt"]) != "CERT" {
		t.Errorf("unsealed %+v: %v", back, err)
	}
	// The age file alone does as well; a copy elsewhere does not.
	text, err := os.ReadFile(written)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Sealed string `json:"sealed"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	w.write(w.home, "cert.age", doc.Sealed)
	if code := w.run(w.home, "unseal", "-f", filepath.Join(w.home, "cert.age"), "-i", key); code != 0 {
		t.Errorf("exit %d: %s", code, w.lastErr)
	}
	w.write(w.home, "copy.yaml", strings.ReplaceAll(string(text), "tenant-acme", "tenant-globex"))
	w.golden("unseal-copy", 1, w.home, "unseal", "-f", filepath.Join(w.home, "copy.yaml"), "-i", key)
	other, _, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	w.write(w.home, "other.txt", other)
	w.golden("unseal-other-key", 1, w.home, "unseal", "-f", filepath.Join(w.home, "cert.age"), "-i", filepath.Join(w.home, "other.txt"))
	w.golden("seal-nobody", 2, w.home, "seal", "-f", secret, "--tenant", "acme")
	w.write(w.home, "token.yaml", strings.ReplaceAll(secretText, "kubernetes.io/tls", "kubernetes.io/service-account-token"))
	w.golden("seal-token", 1, w.home, "seal", "-f", filepath.Join(w.home, "token.yaml"), "--tenant", "acme", "--recipient", someone)
	w.write(w.home, "broken.yaml", secretText+"PRIVATE: [\n")
	w.golden("seal-broken", 1, w.home, "seal", "-f", filepath.Join(w.home, "broken.yaml"), "--tenant", "acme", "--recipient", someone)
}

// someone is a recipient whose identity nobody needs.
const someone = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// TestSealWithTheAgeCommandLine: what one seals the other opens.
func TestSealWithTheAgeCommandLine(t *testing.T) {
	if _, err := exec.LookPath("age"); err != nil {
		t.Skip("age is not installed")
	}
	w := newWorld(t)
	identity, recipient, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	w.write(w.home, "key.txt", identity)
	w.write(w.home, "secret.yaml", secretText)
	if code := w.run(w.home, "seal", "-f", filepath.Join(w.home, "secret.yaml"), "--tenant", "acme", "--recipient", recipient); code != 0 {
		t.Fatalf("exit %d: %s", code, w.lastErr)
	}
	var doc struct {
		Sealed string `json:"sealed"`
	}
	if err := yaml.Unmarshal([]byte(w.lastOut), &doc); err != nil {
		t.Fatal(err)
	}
	age := func(stdin string, args ...string) string {
		cmd := exec.Command("age", args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("age %q: %v", args, err)
		}
		return string(out)
	}
	var envelope seal.Envelope
	plain := age(doc.Sealed, "--decrypt", "--identity", filepath.Join(w.home, "key.txt"))
	if err := json.Unmarshal([]byte(plain), &envelope); err != nil || string(envelope.Data["tls.key"]) != "PRIVATE" {
		t.Errorf("age opens %q: %v", plain, err)
	}
	w.write(w.home, "by-age", age(plain, "--encrypt", "--armor", "--recipient", recipient))
	if code := w.run(w.home, "unseal", "-f", filepath.Join(w.home, "by-age"), "-i", filepath.Join(w.home, "key.txt")); code != 0 || !strings.Contains(w.lastOut, "name: cert") {
		t.Errorf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
}

// TestSealTrustsRecipientsThatTheHubSigned and no others: the Git server could
// put its own there.
func TestSealTrustsRecipientsThatTheHubSigned(t *testing.T) {
	w := fleet(t)
	identity, recipient, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	w.write(w.home, "key.txt", identity)
	w.write(w.home, "secret.yaml", secretText)
	args := func(key string) []string {
		return []string{"seal", "-f", filepath.Join(w.home, "secret.yaml"), "--tenant", "acme", "--recipients-from-status", "--fetch", "--hub-key", key}
	}
	public := w.signing(w.hub, "hub")
	state := "apiVersion: kubelb.k8c.io/v1alpha1\nkind: TenantState\nmetadata: {name: default, namespace: tenant-acme}\nstatus:\n  recipients: [" + recipient + "]\n"
	publish := func(trailer string, more ...string) {
		w.git(w.hub, "checkout", "--quiet", "status/acme")
		w.write(w.hub, "tenants/acme/tenantstate.yaml", state)
		w.git(w.hub, "add", "--all")
		w.git(w.hub, append([]string{"commit", "--quiet", "--allow-empty", "-m", "status", "--trailer", trailer}, more...)...)
		w.git(w.hub, "push", "--quiet", "origin", "status/acme")
	}
	publish("Kubelb-Branch: status/acme", "--gpg-sign")
	if code := w.run(w.ada, args(public)...); code != 0 {
		t.Fatalf("exit %d: %s", code, w.lastErr)
	}
	w.write(w.home, "sealed.yaml", w.lastOut)
	if code := w.run(w.home, "unseal", "-f", filepath.Join(w.home, "sealed.yaml"), "-i", filepath.Join(w.home, "key.txt")); code != 0 {
		t.Errorf("sealed to somebody else: %s", w.lastErr)
	}
	if code := w.run(w.ada, args(filepath.Join(w.home, "hub_key.pub"))...); code != 0 {
		t.Errorf("a file with the key: exit %d: %s", code, w.lastErr)
	}
	stranger := w.signing(w.ada, "stranger")
	w.golden("seal-other-hub", 1, w.ada, args(filepath.Join(w.home, "stranger_key.pub"))...)
	w.golden("seal-no-hub-key", 2, w.ada, args("")...)
	for name, publish := range map[string]func(){
		"unsigned":          func() { publish("Kubelb-Branch: status/acme") },
		"of another branch": func() { publish("Kubelb-Branch: status/globex", "--gpg-sign") },
	} {
		publish()
		if code := w.run(w.ada, args(public)...); code != 1 || strings.Contains(w.lastOut, "sealed") {
			t.Errorf("%s: exit %d\n%s%s", name, code, w.lastOut, w.lastErr)
		}
	}
	w.git(w.home, "-C", w.ada, "config", "gpg.ssh.allowedSignersFile", filepath.Join(w.home, "everybody"))
	w.write(w.home, "everybody", "* "+stranger+"\n")
	w.git(w.hub, "config", "user.signingKey", filepath.Join(w.home, "stranger_key.pub"))
	publish("Kubelb-Branch: status/acme", "--gpg-sign")
	if code := w.run(w.ada, args(public)...); code != 1 {
		t.Errorf("the person's own list of signers counts: exit %d\n%s", code, w.lastOut)
	}
}
