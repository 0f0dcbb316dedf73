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

package command

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"
)

// object reads a NAMESPACE/NAME and, where it is given, the kind of a source object.
func parseObject(text string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", usage("Write it as NAMESPACE/NAME of the source object, such as shop/web.", "%q names no object", text)
	}
	return namespace, repo.FileName(name), nil
}

// findWish returns the path of a wish that one of some commits has.
func findWish(ctx context.Context, c *clone.Clone, tenant, object, kind string, commits ...string) (repo.Path, error) {
	namespace, name, err := parseObject(object)
	if err != nil {
		return repo.Path{}, err
	}
	if !repo.ValidTenant(tenant) {
		return repo.Path{}, usage("", "%q is not a tenant's name", tenant)
	}
	var found []repo.Path
	for _, commit := range slices.DeleteFunc(commits, func(commit string) bool { return commit == "" }) {
		out, err := c.Git(ctx, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, repo.TenantDir(tenant)+"/")
		if err != nil {
			return repo.Path{}, err
		}
		for _, path := range strings.Split(out, "\x00") {
			p, err := repo.ParsePath(path)
			if err != nil || p.Fact() || p.Namespace != namespace || p.Name != name || kind != "" && p.SourceKind != strings.ToLower(kind) {
				continue
			}
			if !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 0:
		return repo.Path{}, refuse("See what there is with: git ls-tree -r --name-only "+c.Remote+"/"+c.Main+" "+repo.TenantDir(tenant)+"/",
			"tenant %s has no %s %s, neither on %s nor on intent/%s", tenant, cmp.Or(kind, "object"), object, c.Main, tenant)
	case 1:
		return found[0], nil
	}
	var kinds []string
	for _, p := range found {
		kinds = append(kinds, p.SourceKind)
	}
	return repo.Path{}, usage("Name one with --kind.", "there are several %s: %s", object, strings.Join(kinds, ", "))
}
