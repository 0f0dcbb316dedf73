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

// Package operating runs the commands of docs/operating.md.
package operating

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/test/testbed"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
)

// patience bounds the whole test.
const patience = 10 * time.Minute

// operator is somebody who follows the page, and what stands in for their
// machine: systemd, and the controllers and nodes that the bed has not.
type operator struct {
	*testing.T
	*testbed.Bed
	ctx  context.Context
	root string // of the checkout
	dir  string // where the page's folders are
}

// TestThePageWorksFromNothing runs every command of docs/operating.md, in one
// shell, with nothing but the values at its beginning replaced.
func TestThePageWorksFromNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir() // goes after the bed
	root, err := testbed.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	bed, err := testbed.New(ctx, testbed.Options{Name: "operating", Tenants: []string{"acme"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	o := &operator{T: t, Bed: bed, ctx: ctx, root: root, dir: dir}
	beside, stop := context.WithCancel(ctx)
	failures := make(chan error, 3)
	for _, part := range []func(context.Context) error{o.systemd, o.tokens, o.nodes} {
		go func() {
			err := part(beside)
			if beside.Err() != nil {
				err = nil
			}
			failures <- err
		}()
	}
	out, err := o.run(o.script())
	stop()
	for range cap(failures) {
		if failed := <-failures; failed != nil {
			t.Error(failed)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"ssh-ed25519 ", "gitsource.kubelb.k8c.io/fleet condition met", "service/hello condition met", "default.hello"} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing printed %q:\n%s", want, out)
		}
	}
	o.checkUnit()
	if rest, err := o.git("status", "--porcelain", "--", "ccm-password", "acme-ccm.yaml"); err != nil || rest != "" {
		t.Errorf("keys are left in the checkout: %s (%v)", rest, err)
	}
}

var block = regexp.MustCompile("(?ms)^```bash\n(.*?)^```$")

// script is what the page has, with values of the bed.
func (o *operator) script() string {
	o.Helper()
	text, err := os.ReadFile(filepath.Join(o.root, "docs", "operating.md"))
	if err != nil {
		o.Fatal(err)
	}
	var script []string
	for _, match := range block.FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(match[1], "# values\n") {
			script = append(script, o.values(match[1]))
			continue
		}
		script = append(script, match[1])
	}
	if len(script) < 10 {
		o.Fatalf("the page has only %d blocks of commands", len(script))
	}
	return strings.Join(script, "\n")
}

// values are the exports for this bed; they have the names that the page has.
func (o *operator) values(page string) string {
	o.Helper()
	o.Repository.Allow("hub", repo.RefPrefix+"main", repo.RefPrefix+"base/*", repo.RefPrefix+"status/*", repo.RefPrefix+"review/*", repo.ArchivePrefix+"*")
	o.Repository.Allow("ccm-acme", repo.IntentRef("acme"))
	values := map[string]string{
		"HUB_KUBECONFIG": o.Hub.Kubeconfig, "TENANT_KUBECONFIG": o.Tenant("acme").Kubeconfig,
		"GIT_URL": o.Repository.URL(), "HUB_PASSWORD": o.Git.AddUser("hub", ""), "CCM_PASSWORD": o.Git.AddUser("ccm-acme", ""),
		"POOL": o.LoadBalancerCIDR().String(), "METRICS": "0", "PROBES": "0", "XDS": o.address(), "WEBHOOK": o.address(),
		"BIN": o.path("bin"), "ETC": o.path("etc"), "STATE": o.path("state"), "UNITS": o.path("units"),
	}
	names := regexp.MustCompile(`\b([A-Z_]+)=`).FindAllStringSubmatch(page, -1)
	var script strings.Builder
	for _, name := range names {
		value, ok := values[name[1]]
		if !ok {
			o.Fatalf("the page has a value %s that this test has not", name[1])
		}
		fmt.Fprintf(&script, "export %s='%s'\n", name[1], value)
	}
	if len(names) != len(values) {
		o.Fatalf("the page has %d values, want %d", len(names), len(values))
	}
	return script.String()
}

func (o *operator) path(name string) string { return filepath.Join(o.dir, name) }

// address is one of this machine that nobody listens on.
func (o *operator) address() string {
	o.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		o.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// run runs a script in the checkout, as somebody with a name and an account on
// the Git server.
func (o *operator) run(script string) (string, error) {
	o.Helper()
	stubs := o.path("stubs")
	if err := os.MkdirAll(stubs, 0o755); err != nil {
		o.Fatal(err)
	}
	systemctl := "#!/bin/sh\necho \"$@\" >> '" + o.path("systemctl") + "'\n"
	if err := os.WriteFile(filepath.Join(stubs, "systemctl"), []byte(systemctl), 0o755); err != nil {
		o.Fatal(err)
	}
	config := fmt.Sprintf("[user]\n\tname = Operator\n\temail = operator@example.com\n[url %q]\n\tinsteadOf = %s\n", o.Repository.URLFor(testbed.Admin), o.Repository.URL())
	if err := os.WriteFile(o.path("gitconfig"), []byte(config), 0o600); err != nil {
		o.Fatal(err)
	}
	cmd := exec.CommandContext(o.ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = o.root
	cmd.Env = append(os.Environ(), "PATH="+stubs+":"+filepath.Join(o.root, ".tools", "bin")+":"+os.Getenv("PATH"),
		"BUILDFLAGS=", // what the tests have compiled need not be compiled again
		"GIT_CONFIG_GLOBAL="+o.path("gitconfig"), "GIT_TERMINAL_PROMPT=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (o *operator) git(args ...string) (string, error) {
	out, err := exec.CommandContext(o.ctx, "git", append([]string{"-C", o.root}, args...)...).Output()
	return strings.TrimSpace(string(out)), err
}

func (o *operator) unit() (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(o.path("units"), "kubelb-hub.service"))
	settings := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		settings[key] = value
	}
	return settings, err
}

// systemd starts the unit when it is enabled.
func (o *operator) systemd(ctx context.Context) error {
	return until(ctx, func() (bool, error) {
		called, _ := os.ReadFile(o.path("systemctl")) // not there yet: nobody called
		if !strings.Contains(string(called), "daemon-reload\nenable --now kubelb-hub\n") {
			return false, nil
		}
		settings, err := o.unit()
		if err != nil {
			return false, err
		}
		command := strings.Fields(settings["ExecStart"])
		if len(command) == 0 {
			return false, errors.New("the unit starts nothing")
		}
		_, err = o.Start(testbed.Command{Name: "hub", Path: command[0], Args: command[1:]})
		return true, err
	})
}

// checkUnit holds the unit to what the hub needs of systemd.
func (o *operator) checkUnit() {
	o.Helper()
	settings, err := o.unit()
	if err != nil {
		o.Fatal(err)
	}
	for key, want := range map[string]string{"KillMode": "process", "Restart": "always", "WantedBy": "multi-user.target"} {
		if settings[key] != want {
			o.Errorf("the unit has %s=%s, want %s", key, settings[key], want)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // the machine has no systemd
	}
	out, err := exec.CommandContext(o.ctx, analyze, "verify", filepath.Join(o.path("units"), "kubelb-hub.service")).CombinedOutput()
	if strings.Contains(string(out), "kubelb-hub.service") {
		o.Errorf("systemd has something against the unit (%v):\n%s", err, out)
	}
}

// tokens does what the token controller of a cluster does.
func (o *operator) tokens(ctx context.Context) error {
	core := o.Hub.Clients.CoreV1()
	return until(ctx, func() (bool, error) {
		secret, err := core.Secrets(testbed.HubNamespace).Get(ctx, "kubelb-hub-token", metav1.GetOptions{})
		if err != nil {
			return false, nil //nolint:nilerr // the page has not come to it
		}
		account := secret.Annotations[corev1.ServiceAccountNameKey]
		token, err := core.ServiceAccounts(testbed.HubNamespace).CreateToken(ctx, account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3600)},
		}, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		secret.Data = map[string][]byte{"token": []byte(token.Status.Token), "ca.crt": o.Hub.Config.CAData}
		_, err = core.Secrets(testbed.HubNamespace).Update(ctx, secret, metav1.UpdateOptions{})
		return true, err
	})
}

// nodes allows the bed's nodes, which have loopback addresses, as endpoints, and
// runs the CCM that the tenant's cluster is told to run.
func (o *operator) nodes(ctx context.Context) error {
	kubectl, err := testbed.Tool("kubectl")
	if err != nil {
		return err
	}
	tenant := o.Tenant("acme")
	var deployment *appsv1.Deployment
	if err := until(ctx, func() (bool, error) {
		deployment, err = tenant.Clients.AppsV1().Deployments(testbed.HubNamespace).Get(ctx, "kubelb-ccm", metav1.GetOptions{})
		return err == nil, nil
	}); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, kubectl, "--kubeconfig", o.Hub.Kubeconfig, "patch", "tenant", "acme", "--type=merge",
		"--patch", `{"spec":{"allowedEndpointCIDRs":["127.0.0.0/8"]}}`).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	_, config, err := tenant.AddUser("system:serviceaccount:" + testbed.HubNamespace + ":kubelb-ccm")
	if err != nil {
		return err
	}
	args := append([]string{"--kubeconfig", config, "--metrics-addr", "0", "--enable-leader-election=false"},
		deployment.Spec.Template.Spec.Containers[0].Args...)
	args = append(args, "--health-probe-bind-address", "0")
	_, err = o.Start(testbed.Command{Name: "ccm-acme", Path: filepath.Join(o.path("bin"), "ccm"), Args: args})
	return err
}

// until asks until it is done, has failed or the context ends.
func until(ctx context.Context, done func() (bool, error)) error {
	return wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (bool, error) { return done() })
}
