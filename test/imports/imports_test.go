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

// Package imports holds the import rules of docs/design.md, section 7, against
// what the packages really depend on, directly or through others.
package imports

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/kubelb/gitops/"

// never lists, per package, what it must not depend on, even indirectly. A name
// that ends in "/" or "..." stands for everything below it.
var never = map[string][]string{
	"api/v1alpha1":      {"ours", "sigs.k8s.io/controller-runtime/..."},
	"api/repo":          {"ours but api/v1alpha1", goGit, clientGo, controllerRuntime},
	"api/seal":          {"ours", clientGo, goGit, controllerRuntime},
	"ccm/render":        {"ours but api/...", clientGo, goGit, controllerRuntime},
	"ccm/project":       {"ours but api/...", clientGo, goGit, controllerRuntime},
	"ccm":               {module + "hub/...", module + "xds/...", module + "gitsync/integrate", module + "gitsync/plan"},
	"gitsync/git":       {"ours but api/...", clientGo, controllerRuntime},
	"gitsync/integrate": {"ours but api/...", clientGo, goGit, controllerRuntime},
	"gitsync/plan":      {"ours but api/...", clientGo, goGit, controllerRuntime},
	"gitsync/report":    {"ours but api/...", clientGo, goGit, controllerRuntime},
	"gitsync/trust":     {"ours but api/...", clientGo, goGit, controllerRuntime},
	"gitsync/describe":  {"ours but api/...", clientGo, goGit, controllerRuntime},
	"gitsync/check":     {"ours but api/... gitsync/plan gitsync/describe", clientGo, goGit, controllerRuntime},
	"cmd/kubelbctl":     {goGit, module + "gitsync", module + "gitsync/git", module + "hub/...", module + "xds/...", module + "ccm/..."},
	"gitsync/forge":     {"ours", goGit, clientGo, controllerRuntime},
	"gitsync/webhook":   {"ours", goGit},
	"gitsync":           {module + "hub/...", module + "xds/...", module + "ccm/..."},
	"hub/assign":        {"ours but api/v1alpha1 xds/ir", clientGo, goControlPlane, controllerRuntime},
	"hub/build":         {"ours but api/v1alpha1 xds/ir", clientGo, goControlPlane, controllerRuntime},
	"hub/infra":         {module + "xds", module + "xds/translate"},
	"hub/pki":           {"ours", clientGo},
	"hub":               {goGit, goControlPlane, module + "gitsync/...", module + "xds", module + "xds/translate"},
	"xds/ir":            {"all but the standard library"},
	"xds/translate":     {"ours but xds/ir", kubernetes},
	"xds":               {"ours but xds/...", kubernetes},
}

const (
	goGit             = "github.com/go-git/go-git/..."
	goControlPlane    = "github.com/envoyproxy/go-control-plane/..."
	clientGo          = "k8s.io/client-go/..."
	controllerRuntime = "sigs.k8s.io/controller-runtime/..."
	kubernetes        = "k8s.io/..."
)

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	for pkg, rules := range never {
		t.Run(pkg, func(t *testing.T) {
			for _, dep := range dependencies(t, pkg) {
				for _, rule := range rules {
					if breaks(pkg, dep, rule) {
						t.Errorf("depends on %s, against the rule %q (docs/design.md, section 7)", dep, rule)
					}
				}
			}
		})
	}
}

func TestOnlyOnePackageKnowsGoGit(t *testing.T) {
	for _, pkg := range productPackages(t) {
		if imports(t, pkg, "github.com/go-git/") && pkg != module+"gitsync/git" {
			t.Errorf("%s imports go-git; only gitsync/git may", pkg)
		}
		if imports(t, pkg, module+"test/") {
			t.Errorf("%s imports a test package", pkg)
		}
	}
}

func breaks(pkg, dep, rule string) bool {
	ours := strings.HasPrefix(dep, module) && dep != module+pkg
	switch {
	case rule == "all but the standard library":
		first, _, _ := strings.Cut(dep, "/")
		return strings.Contains(first, ".") && dep != module+pkg
	case rule == "ours":
		return ours
	case strings.HasPrefix(rule, "ours but "):
		if !ours {
			return false
		}
		for _, allowed := range strings.Fields(strings.TrimPrefix(rule, "ours but ")) {
			if matches(dep, module+allowed) {
				return false
			}
		}
		return true
	}
	return matches(dep, rule)
}

func matches(dep, pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dep == prefix || strings.HasPrefix(dep, prefix+"/")
	}
	return dep == pattern
}

func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	return list(t, "-deps", module+pkg)
}

func productPackages(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pkg := range list(t, module+"...") {
		if !strings.HasPrefix(pkg, module+"test/") {
			out = append(out, pkg)
		}
	}
	return out
}

func imports(t *testing.T, pkg, prefix string) bool {
	t.Helper()
	for _, imported := range list(t, "-f", `{{join .Imports "\n"}}`, pkg) {
		if strings.HasPrefix(imported, prefix) {
			return true
		}
	}
	return false
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}
