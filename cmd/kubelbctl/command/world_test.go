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
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops/cmd/kubelbctl/command"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

var update = flag.Bool("update", false, "write the golden files anew")

// world is a fleet's repository, written by a hub and CCMs of the test with real
// git, and the clone of a person, Ada.
type world struct {
	t                *testing.T
	home, remote     string
	hub, ada         string // clones
	ccm              string
	lastOut, lastErr string
}

// newWorld isolates git from whoever runs the tests.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, home: t.TempDir()}
	for key, value := range map[string]string{
		"HOME": w.home, "XDG_CONFIG_HOME": w.home, "GIT_CONFIG_GLOBAL": filepath.Join(w.home, "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1",
		"GIT_CONFIG_SYSTEM": filepath.Join(w.home, "none"), "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_AUTH_SOCK": "", "GITHUB_ACTIONS": "", "GITEA_ACTIONS": "",
		"KUBECONFIG": filepath.Join(w.home, "none"), "LC_ALL": "C", "TZ": "Asia/Tokyo",
		"GIT_AUTHOR_NAME": "", "GIT_AUTHOR_EMAIL": "", "GIT_COMMITTER_NAME": "", "GIT_COMMITTER_EMAIL": "",
	} {
		t.Setenv(key, value)
		if value == "" {
			_ = os.Unsetenv(key) // restored by Setenv's cleanup
		}
	}
	w.date("12:00:00")
	w.git(w.home, "init", "--quiet", "--bare", "--initial-branch=main", "fleet.git")
	w.remote = filepath.Join(w.home, "fleet.git")
	return w
}

// date fixes the time of the commits that follow.
func (w *world) date(clock string) {
	for _, key := range []string{"GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"} {
		w.t.Setenv(key, "2026-01-02T"+clock+"Z")
	}
}

func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) clone(name, email string) string {
	w.t.Helper()
	dir := filepath.Join(w.home, strings.ToLower(name))
	w.git(w.home, "clone", "--quiet", w.remote, dir)
	w.git(dir, "config", "user.name", name)
	w.git(dir, "config", "user.email", email)
	return dir
}

func (w *world) write(dir, path, text string) {
	w.t.Helper()
	name := filepath.Join(dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// commit writes files on a branch of a clone and pushes it. An empty text removes.
func (w *world) commit(dir, branch, subject string, files map[string]string) string {
	w.t.Helper()
	if w.git(dir, "branch", "--list", branch) == "" {
		if w.git(dir, "branch", "--list", "--remotes", "origin/"+branch) != "" {
			w.git(dir, "checkout", "--quiet", branch)
		} else {
			w.git(dir, "checkout", "--quiet", "--orphan", branch)
			w.git(dir, "rm", "-rfq", "--ignore-unmatch", ".")
		}
	} else {
		w.git(dir, "checkout", "--quiet", branch)
	}
	for path, text := range files {
		if text == "" {
			w.git(dir, "rm", "--quiet", path)
			continue
		}
		w.write(dir, path, text)
	}
	w.git(dir, "add", "--all")
	w.git(dir, "commit", "--quiet", "--allow-empty", "--message", subject)
	w.git(dir, "push", "--quiet", "origin", branch)
	return w.git(dir, "rev-parse", "HEAD")
}

// commitHere commits a file in a repository without a remote.
func (w *world) commitHere(dir, path, text string) {
	w.t.Helper()
	w.write(dir, path, text)
	w.git(dir, "add", "--all")
	w.git(dir, "commit", "--quiet", "-m", "Theirs")
}

// run runs kubelbctl in a folder and returns what it exits with.
func (w *world) run(dir string, args ...string) int {
	w.t.Helper()
	var out, errOut bytes.Buffer
	args = append([]string{"kubelbctl", "-C", dir}, args...)
	code := command.Run(context.Background(), args, "test", genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut})
	w.lastOut, w.lastErr = out.String(), errOut.String()
	return code
}

// golden runs kubelbctl and compares what it prints with testdata/<name>.txt.
func (w *world) golden(name string, code int, dir string, args ...string) {
	w.t.Helper()
	got := w.run(dir, args...)
	text := fmt.Sprintf("$ kubelbctl %s\n%s%sexit %d\n", strings.Join(args, " "), w.lastOut, w.lastErr, got)
	text = strings.ReplaceAll(text, w.home, "/home/ada")
	if got != code {
		w.t.Errorf("%s: exit %d, want %d\n%s", name, got, code, text)
	}
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if string(want) != text {
		w.t.Errorf("%s: want\n%s\ngot\n%s", name, want, text)
	}
}

const (
	webPath  = "tenants/acme/loadbalancers/shop/web.service.yaml"
	apiPath  = "tenants/acme/loadbalancers/shop/api.service.yaml"
	backPath = "tenants/acme/backends/shop/web.service.yaml"
	nodePath = "tenants/acme/addresses/default.yaml"
	config   = "repositoryID: TESTREPOSITORY\nlayout: 1\n"
	nodes    = "apiVersion: kubelb.k8c.io/v1alpha1\nkind: Addresses\nmetadata: {name: default, namespace: tenant-acme}\nspec:\n  addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]\n"
	backend  = `apiVersion: kubelb.k8c.io/v1alpha1
kind: Backend
metadata:
  labels: {kubelb.k8c.io/origin-name: web, kubelb.k8c.io/origin-ns: shop, kubelb.k8c.io/origin-resource-kind: Service}
  name: shop.web
  namespace: tenant-acme
spec:
  ports:
  - {name: http, port: 80, protocol: TCP, nodePort: 30080}
  - {name: https, port: 443, protocol: TCP, nodePort: 30443}
`
	status = `apiVersion: kubelb.k8c.io/v1alpha1
kind: LoadBalancer
metadata: {name: shop.web, namespace: tenant-acme}
status:
  addresses: [192.0.2.7]
`
)

// balancer is a document of shop/<name> that uses the backend of web.
func balancer(name, rest string) string {
	return strings.ReplaceAll(`apiVersion: kubelb.k8c.io/v1alpha1
kind: LoadBalancer
metadata:
  labels: {kubelb.k8c.io/origin-name: NAME, kubelb.k8c.io/origin-ns: shop, kubelb.k8c.io/origin-resource-kind: Service}
  name: shop.NAME
  namespace: tenant-acme
spec:
  endpoints:
  - addressesReference: {name: default}
    backendReference: {name: shop.web}
    name: default
  type: LoadBalancer
`, "NAME", name) + rest
}

const (
	http      = "  ports:\n  - {name: http, port: 80, protocol: TCP}\n"
	httpHTTPS = "  ports:\n  - {name: http, port: 80, protocol: TCP}\n  - {name: https, port: 443, protocol: TCP}\n"
)

// fleet is a repository with one tenant: web was made, got a port, and Ada
// reverted that and limited it to a network; the tenant then asked for a policy of
// web and for api, which nobody decided yet.
func fleet(t *testing.T) *world {
	w := newWorld(t)
	w.hub = w.clone("kubelb-hub", "hub@kubelb.local")
	w.ccm = w.clone("kubelb-ccm acme", "acme@kubelb.local")
	asCCM := func(subject string, files map[string]string) {
		w.t.Setenv("GIT_AUTHOR_NAME", "kubelb-ccm acme")
		w.t.Setenv("GIT_AUTHOR_EMAIL", "acme@kubelb.local")
		w.commit(w.hub, "main", subject, files)
		_ = os.Unsetenv("GIT_AUTHOR_NAME")
		_ = os.Unsetenv("GIT_AUTHOR_EMAIL")
	}
	w.commit(w.hub, "main", "Begin the repository of the fleet", map[string]string{"kubelb.yaml": config, "CODEOWNERS": "* @ada\n"})
	w.date("12:01:00")
	asCCM("acme: 1 node, 1 backend changed", map[string]string{nodePath: nodes, backPath: backend})
	w.date("12:02:00")
	asCCM("acme: Service shop/web created: 80/TCP", map[string]string{webPath: balancer("web", http)})
	w.date("12:03:00")
	asCCM("acme: Service shop/web: port 443 added", map[string]string{webPath: balancer("web", httpHTTPS)})
	w.commit(w.hub, "base/main", "base of main: acme", map[string]string{"integrated/acme.yaml": "commit: x\n", nodePath: nodes, backPath: backend, webPath: balancer("web", httpHTTPS)})
	w.commit(w.hub, "status/acme", "status", map[string]string{webPath: status})
	w.date("12:04:00")
	w.commit(w.ccm, "intent/acme", "intent", map[string]string{
		nodePath: nodes, backPath: backend, webPath: balancer("web", httpHTTPS+"  lbPolicy: Random\n"), apiPath: balancer("api", "  ports:\n  - {name: http, port: 8080, protocol: TCP}\n"),
	})
	w.ada = w.clone("Ada", "ada@example.com")
	w.date("12:05:00")
	w.git(w.ada, "revert", "--no-edit", "HEAD")
	w.date("12:06:00")
	w.commit(w.ada, "main", "Only our network", map[string]string{webPath: balancer("web", http+"  loadBalancerSourceRanges: [192.0.2.0/24]\n")})
	return w
}

func (w *world) sshKeygen(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}
