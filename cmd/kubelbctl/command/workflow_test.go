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
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubelb/gitops"

	"sigs.k8s.io/yaml"
)

// scripts are the shell scripts of a workflow of the template, in order.
func scripts(t *testing.T, name string) (out []string) {
	t.Helper()
	data, err := gitops.Template.ReadFile(gitops.TemplateDir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct {
				Run string `json:"run"`
			} `json:"steps"`
		} `json:"jobs"`
		Validate struct {
			Script []string `json:"script"`
		} `json:"validate"`
	}
	if err := yaml.Unmarshal(data, &workflow); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, step := range workflow.Jobs["validate"].Steps {
		if step.Run != "" {
			out = append(out, step.Run)
		}
	}
	return append(out, workflow.Validate.Script...)
}

// TestWorkflowsOfTheTemplate runs what they run: kubelbctl is downloaded and
// checked, a good change passes and a bad one does not.
func TestWorkflowsOfTheTemplate(t *testing.T) {
	for _, program := range []string{"curl", "sha256sum", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	program := filepath.Join(t.TempDir(), "kubelbctl")
	build := exec.Command("go", "build", "-o", program, "github.com/kubelb/gitops/cmd/kubelbctl")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	w := fleet(t)
	base := w.git(w.ada, "rev-parse", "HEAD")
	w.git(w.ada, "branch", "good")
	w.git(w.ada, "branch", "bad")
	good := w.commit(w.ada, "good", "Good", map[string]string{webPath: balancer("web", http)})
	bad := w.commit(w.ada, "bad", "Bad", map[string]string{webPath: balancer("web", http) + "  turbo: true\n"})
	for _, name := range []string{".github/workflows/kubelb.yaml", ".gitea/workflows/kubelb.yaml", ".gitlab-ci.yml"} {
		for _, c := range []struct {
			what, base, head, sum string
			passes                bool
		}{
			{"a good change", base, good, hex.EncodeToString(sum[:]), true},
			{"a bad change", base, bad, hex.EncodeToString(sum[:]), false},
			{"a branch that is new", strings.Repeat("0", 40), good, hex.EncodeToString(sum[:]), true},
			{"another program than was meant", base, good, strings.Repeat("0", 64), false},
		} {
			w.git(w.ada, "checkout", "--quiet", c.head)
			temp := t.TempDir()
			passed := true
			for _, script := range scripts(t, name) {
				cmd := exec.Command("sh", "-c", strings.ReplaceAll(script, "/tmp/bin", temp+"/bin"))
				cmd.Dir = w.ada
				cmd.Env = append(os.Environ(), "RUNNER_TEMP="+temp, "GITHUB_STEP_SUMMARY="+filepath.Join(temp, "summary"), "BASE="+c.base, "CI_MERGE_REQUEST_DIFF_BASE_SHA="+c.base,
					"KUBELBCTL_URL=file://"+program, "KUBELBCTL_SHA256="+c.sum)
				out, err := cmd.CombinedOutput()
				if passed = err == nil; !passed {
					if c.passes {
						t.Errorf("%s, %s: %v\n%s", name, c.what, err, out)
					}
					break
				}
			}
			if passed != c.passes {
				t.Errorf("%s, %s: passes: %t", name, c.what, passed)
			}
			if strings.HasPrefix(name, ".github") && c.passes && c.base == base {
				if summary, err := os.ReadFile(filepath.Join(temp, "summary")); err != nil || !strings.Contains(string(summary), "#### `Service shop/web` changed") {
					t.Errorf("the summary is %q: %v", summary, err)
				}
			}
		}
	}
}
