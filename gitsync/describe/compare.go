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

package describe

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// Action is what became of a document or a file.
type Action string

// What becomes of documents. Broken ones cannot be read any more: their last good
// version stays. Repaired ones could not be read before.
const (
	Created  Action = "created"
	Changed  Action = "changed"
	Deleted  Action = "deleted"
	Broken   Action = "broken"
	Repaired Action = "repaired"
)

// Summary says what changes between two trees.
type Summary struct {
	// Tenants that something changes for, by name.
	Tenants []Tenant `json:"tenants,omitempty"`
	// Files are the changed files outside the folders of tenants, by path.
	Files []File `json:"files,omitempty"`
	// Problems are why files cannot be used as they are after the change.
	Problems []v1alpha1.Problem `json:"problems,omitempty"`
	// Warnings name ports of changed load balancers that will not serve, because
	// the tenant's facts do not fit them.
	Warnings []v1alpha1.Problem `json:"warnings,omitempty"`
}

// Tenant is what changes for a tenant.
type Tenant struct {
	Name string `json:"name"`
	// Objects that change: wishes by path, then facts by path.
	Objects []Object `json:"objects"`
}

// Object is what changes of a document.
type Object struct {
	Path string `json:"path"`
	// Kind of the document, empty where the path is no place for one.
	Kind string `json:"kind,omitempty"`
	// Source names the source object: "Service shop/web".
	Source string `json:"source"`
	Action Action `json:"action"`
	// Fact: the tenant's cluster says so, nobody reviews it.
	Fact bool `json:"fact,omitempty"`
	// Addresses that are assigned, where the caller knows them.
	Addresses []string `json:"addresses,omitempty"`
	// Rows are what is different.
	Rows []Row `json:"rows,omitempty"`

	subject string // in one line, without the tenant
}

// Row is one thing that is different. Absent is an empty list.
type Row struct {
	// What kind of thing it is; Name tells it from others of its kind.
	What   What     `json:"what"`
	Name   string   `json:"name,omitempty"`
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
}

// What a row is about.
type What string

// The kinds of rows, in the order in which they are listed.
const (
	RowListener  What = "listener"
	RowHost      What = "host"
	RowRule      What = "rule"
	RowEndpoints What = "endpoints"
	RowSecret    What = "secret"
	RowNodes     What = "nodes"
	RowNodePort  What = "nodePort"
	RowField     What = "field"
)

// File is a changed file outside the folders of tenants.
type File struct {
	Path   string `json:"path"`
	Action Action `json:"action"`
}

// Compare describes the change of a tree to another one. The trees need to hold
// the changed files and, so that endpoints can be told, the facts of their
// tenants.
func Compare(before, after repo.Tree) Summary { return CompareAt(before, after, nil) }

// CompareAt is Compare for a caller who knows which addresses are assigned to
// load balancers, by the paths of their documents.
func CompareAt(before, after repo.Tree, assigned map[string][]string) Summary {
	c := comparison{before: newSide(before, repo.DecodeBase), after: newSide(after, repo.Decode), assigned: assigned, tenants: map[string][]Object{}}
	paths := maps.Clone(before)
	if paths == nil {
		paths = repo.Tree{}
	}
	maps.Copy(paths, after)
	for _, p := range paths.Paths() {
		c.path(p)
	}
	for _, name := range slices.Sorted(maps.Keys(c.tenants)) {
		objects := c.tenants[name]
		slices.SortStableFunc(objects, func(a, b Object) int { return number(a.Fact) - number(b.Fact) })
		c.out.Tenants = append(c.out.Tenants, Tenant{Name: name, Objects: objects})
	}
	return c.out
}

// Empty reports whether nothing changes.
func (s Summary) Empty() bool { return len(s.Tenants) == 0 && len(s.Files) == 0 }

// Objects counts the documents that change.
func (s Summary) Objects() (n int) {
	for _, t := range s.Tenants {
		n += len(t.Objects)
	}
	return n
}

type comparison struct {
	before, after *side
	assigned      map[string][]string
	tenants       map[string][]Object
	out           Summary
}

// path describes what is at a path before and after.
func (c *comparison) path(name string) {
	was, had := c.before.tree[name]
	now, has := c.after.tree[name]
	if had && has && was.Mode == now.Mode && was.Size == now.Size && bytes.Equal(was.Data, now.Data) && (was.Data != nil || was.Size == 0) {
		return
	}
	rest, ok := strings.CutPrefix(name, repo.TenantsDir+"/")
	tenant, _, inside := strings.Cut(rest, "/")
	if !ok || !inside || ignored(name) {
		c.out.Files = append(c.out.Files, File{Path: name, Action: action(had, has)})
		return
	}
	if o, ok := c.object(name, tenant, had, has); ok {
		o.Addresses = c.assigned[name]
		c.tenants[tenant] = append(c.tenants[tenant], o)
	}
}

func action(had, has bool) Action {
	switch {
	case !had:
		return Created
	case !has:
		return Deleted
	}
	return Changed
}

// ignored are the files that people keep beside documents.
func ignored(name string) bool {
	base := path.Base(name)
	return base == "README.md" || base == ".gitkeep"
}

// object describes a document. It is not ok if nothing that counts is different.
func (c *comparison) object(name, tenant string, had, has bool) (Object, bool) {
	p, err := repo.ParsePath(name)
	o := Object{Path: name, Source: source(name), Kind: p.Kind, Fact: err == nil && p.Fact(), Action: action(had, has)}
	if p.Kind == v1alpha1.KindBackend {
		o.Source = "Backend " + p.Namespace + "/" + p.Name
	}
	was, bad := c.before.decode(name)
	now, problems := c.after.decode(name)
	c.out.Problems = append(c.out.Problems, problems...)
	switch {
	case has && len(problems) > 0:
		o.Action, o.subject = Broken, o.Source+" cannot be read"
		return o, true
	case had && len(bad) > 0 && has:
		o.Action = Repaired
	case len(bad) > 0: // a broken file goes: it said nothing
		o.subject = o.Source + " deleted"
		return o, true
	}
	names, _ := labels(was, now)
	same, _ := labels(now, now)
	o.Rows = rows(view(was, c.before.facts(tenant), names), view(now, c.after.facts(tenant), same))
	o.Rows = append(o.Rows, fieldRows(was, now)...)
	if o.Action == Changed && len(o.Rows) == 0 {
		return o, false
	}
	if now != nil {
		c.out.Warnings = append(c.out.Warnings, c.after.facts(tenant).unfit(name, now)...)
	}
	o.subject = strings.TrimPrefix(Subject(tenant, name, was, now), tenant+": ")
	if o.Action == Repaired {
		o.subject = o.Source + " repaired"
	}
	return o, true
}

// side is one of the two trees, with what was read of it.
type side struct {
	tree repo.Tree
	// read is [repo.Decode], or [repo.DecodeBase] where what was valid is not
	// asked.
	read  func(string, repo.File) (repo.Object, []v1alpha1.Problem)
	known map[string]*facts
}

func newSide(tree repo.Tree, read func(string, repo.File) (repo.Object, []v1alpha1.Problem)) *side {
	return &side{tree: tree, read: read, known: map[string]*facts{}}
}

// decode returns nothing where there is no file.
func (s *side) decode(name string) (repo.Object, []v1alpha1.Problem) {
	file, ok := s.tree[name]
	if !ok {
		return nil, nil
	}
	return s.read(name, file)
}

// facts returns those of a tenant.
func (s *side) facts(tenant string) *facts {
	f := s.known[tenant]
	if f == nil {
		f = &facts{side: s, tenant: tenant}
		s.known[tenant] = f
	}
	return f
}
