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

package manager_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs builds the programs as the Makefile does, as version v9.8.7.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-ldflags", "-X github.com/kubelb/gitops/cmd/internal/version.version=v9.8.7", "-o", dir+"/", "./cmd/...")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestPrograms(t *testing.T) {
	dir := programs(t)
	for _, program := range []string{"hub", "ccm", "kubelbctl"} {
		t.Run(program+" says its version", func(t *testing.T) {
			out, err := exec.Command(filepath.Join(dir, program), "--version").Output()
			if err != nil || !strings.Contains(string(out), "v9.8.7") || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%q (%v)", out, err)
			}
		})
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	none := filepath.Join(dir, "no-kubeconfig")
	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	quiet := []string{"--metrics-addr=0", "--health-probe-bind-address=0"}
	for name, args := range map[string][]string{
		"hub without a cluster":      append([]string{"hub", "--kubeconfig", none}, quiet...),
		"hub with an absent cluster": append([]string{"hub", "--kubeconfig", config, "--state-dir", dir}, quiet...),
		"ccm without a cluster":      append([]string{"ccm", "--kubeconfig", none, "--cluster-name", "acme"}, quiet...),
		"ccm without a key":          append([]string{"ccm", "--kubeconfig", config, "--cluster-name", "acme", "--git-url", "https://git.example.com/x.git"}, quiet...),
		"ccm with a bad name":        append([]string{"ccm", "--kubeconfig", config, "--cluster-name", "A_B"}, quiet...),
		"ccm with a port in use":     {"ccm", "--kubeconfig", config, "--cluster-name", "acme", "--metrics-addr=0", "--health-probe-bind-address", taken.Addr().String()},
		"kubelbctl without a hub":    {"kubelbctl", "--kubeconfig", none, "status"},
	} {
		t.Run(name+" says so in a sentence", func(t *testing.T) {
			cmd := exec.Command(filepath.Join(dir, args[0]), args[1:]...)
			cmd.Env = append(os.Environ(), "KUBECONFIG="+none, "HOME="+dir)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("it ended well")
			}
			noTrace(t, string(out))
			if !strings.Contains(string(out), args[0]+": ") {
				t.Errorf("no sentence of %s:\n%s", args[0], out)
			}
		})
	}
}

func noTrace(t *testing.T, text string) {
	t.Helper()
	for _, sign := range []string{".go:", "goroutine ", "\n\t", "stacktrace"} {
		if strings.Contains(text, sign) {
			t.Errorf("a stack trace (%q):\n%.1500s", sign, text)
			return
		}
	}
}

// kubeconfig names a cluster that nobody serves.
var kubeconfig = fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://%s"}}]
users: [{name: u}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, "127.0.0.1:1")
