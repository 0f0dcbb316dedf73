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

package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tool finds a program that `make tools` installs: kube-apiserver, etcd,
// kube-controller-manager, kubectl, envoy, gitea. Ready-made ones are honoured:
// ENVOY names Envoy and GITEA Gitea, KUBEBUILDER_ASSETS a folder with the others.
func Tool(name string) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".tools", "bin", name)
	if name == "envoy" || name == "gitea" {
		variable := strings.ToUpper(name)
		if given := os.Getenv(variable); given != "" && given != path {
			return executable(given, variable)
		}
	} else if folder := os.Getenv("KUBEBUILDER_ASSETS"); folder != "" {
		path, err := executable(filepath.Join(folder, name), "KUBEBUILDER_ASSETS")
		if err == nil || name != "kube-controller-manager" { // envtest's downloads lack this one
			return path, err
		}
	}
	if _, err := executable(path, ""); err != nil {
		return "", fmt.Errorf("%s is not installed: run `make tools`", name)
	}
	return path, nil
}

func executable(path, variable string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s is set, but %s is not an executable file: correct it, or unset it and run `make tools`", variable, path)
	}
	return path, nil
}

// ModuleRoot is the folder of this project's go.mod, found from the working
// directory.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/kubelb/gitops\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the test bed runs inside a checkout of github.com/kubelb/gitops; the working directory is in none")
		}
		dir = parent
	}
}

// Build builds commands of this module (such as "./cmd/hub") into a folder and
// returns their paths in the order given.
func Build(ctx context.Context, folder string, commands ...string) ([]string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", append([]string{"build", "-o", folder + "/"}, commands...)...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", strings.Join(commands, " "), err, out)
	}
	paths := make([]string, len(commands))
	for i, command := range commands {
		paths[i] = filepath.Join(folder, filepath.Base(command))
	}
	return paths, nil
}
