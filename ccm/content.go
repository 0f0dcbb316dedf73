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

package ccm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"

	"k8s.io/apimachinery/pkg/types"
)

// The kinds of source objects, as they stand in paths.
const (
	kindService = "service"
	kindSecret  = "secret"
)

// origin names a source object.
type origin struct {
	kind string
	types.NamespacedName
}

func serviceOrigin(name types.NamespacedName) origin { return origin{kindService, name} }
func secretOrigin(name types.NamespacedName) origin  { return origin{kindSecret, name} }

// paths returns where the documents of a source object are, the wish first.
func (o origin) paths(tenant string) []string {
	if o.kind == kindSecret {
		return []string{render.SecretPath(tenant, o.Namespace, o.Name).String()}
	}
	wish, fact := render.ServicePaths(tenant, o.Namespace, o.Name)
	return []string{wish.String(), fact.String()}
}

// content is what the intent branch shall have, per source object, and where it
// may differ from what the branch has: a change of one object costs one
// rendering and an edit of its paths.
type content struct {
	tenant string

	mu        sync.Mutex
	documents map[string][]byte // by path
	behind    map[string]bool   // paths to compare with the branch
	records   map[origin]*record
	owners    map[string]origin // of paths, where there is a record
	deleted   map[string]bool   // paths of wishes whose object is seen being deleted
}

// record is what is known of one source object.
type record struct {
	uid      types.UID
	paths    []string // of its documents
	problems []v1alpha1.Problem
	// guarded: the object has our finalizer or needs none, so new intents may be
	// pushed.
	guarded bool
	// waiting: its documents cannot be made yet; what the branch has stays.
	waiting bool
	// settled: the branch has (or no longer has) the documents of this very
	// object since the generation.
	settled    bool
	generation int64
	// gone: there is no such object any more.
	gone bool
}

func newContent(tenant string) *content {
	return &content{
		tenant: tenant, documents: map[string][]byte{}, behind: map[string]bool{},
		records: map[origin]*record{}, owners: map[string]origin{}, deleted: map[string]bool{},
	}
}

// rendered is a source object as it was rendered.
type rendered struct {
	uid       types.UID
	guarded   bool
	waiting   bool // the documents before it stay
	deleting  bool // it is seen with a deletion timestamp
	documents []render.Document
	problems  []v1alpha1.Problem
}

// put notes what a source object is rendered to. It reports whether its problems
// are others than before.
func (c *content) put(o origin, r rendered) (problems bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	paths := o.paths(c.tenant)
	old := c.records[o]
	now := &record{uid: r.uid, guarded: r.guarded, waiting: r.waiting, problems: r.problems}
	for _, d := range r.documents {
		now.paths = append(now.paths, d.Path)
	}
	if r.waiting && old != nil {
		now.paths = old.paths
	}
	if old != nil && old.uid == now.uid && len(old.paths) == len(now.paths) {
		now.settled, now.generation = old.settled, old.generation
	} else {
		for _, path := range paths {
			c.behind[path] = true
		}
	}
	if old != nil {
		for _, path := range old.paths {
			if !slices.Contains(now.paths, path) {
				c.write(path, nil)
			}
		}
	}
	for _, d := range r.documents {
		c.write(d.Path, d.Data)
	}
	if r.deleting {
		c.deleted[paths[0]] = true
	} else {
		delete(c.deleted, paths[0])
	}
	c.remember(o, now)
	return old == nil && len(now.problems) > 0 || old != nil && !slices.Equal(old.problems, now.problems)
}

// remove notes that there is no such source object any more, and whether it is
// known to have been deleted.
func (c *content) remove(o origin, deleted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.records[o]
	if old == nil {
		return
	}
	for _, path := range old.paths {
		c.write(path, nil)
	}
	if deleted && len(old.paths) > 0 {
		c.deleted[old.paths[0]] = true
	}
	if old.settled && len(old.paths) == 0 {
		c.forget(o)
		return
	}
	c.remember(o, &record{guarded: true, gone: true})
}

func (c *content) remember(o origin, r *record) {
	c.records[o] = r
	for _, path := range o.paths(c.tenant) {
		c.owners[path] = o
	}
}

func (c *content) forget(o origin) {
	delete(c.records, o)
	for _, path := range o.paths(c.tenant) {
		delete(c.owners, path)
	}
}

// write changes one document, nil removes it.
func (c *content) write(path string, data []byte) {
	old, ok := c.documents[path]
	switch {
	case data == nil && ok:
		delete(c.documents, path)
		c.behind[path] = true
	case data != nil && !bytes.Equal(old, data):
		c.documents[path] = data
		c.behind[path] = true
	}
}

// putNodes notes what the nodes are rendered to. Without documents the last
// stay.
func (c *content) putNodes(documents []render.Document) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range documents {
		c.write(d.Path, d.Data)
	}
}

// recheck has everything compared with a branch that has the given files.
func (c *content) recheck(files repo.Tree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := render.NodesPath(c.tenant).String()
	for path := range files {
		if path != nodes {
			c.behind[path] = true
		}
	}
	for path := range c.documents {
		c.behind[path] = true
	}
}

// edits compares what may differ with the branch. It returns what to write, the
// paths that are dealt with when that is written, and how many wishes go because
// their source objects are being deleted.
func (c *content) edits(file func(path string) (repo.File, bool, error)) (edits map[string][]byte, done []string, deletes int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edits = map[string][]byte{}
	for path := range c.behind {
		want, wanted := c.documents[path]
		owner := c.records[c.owners[path]] // nil for the nodes, and for what nobody has
		if owner != nil && owner.waiting && !wanted {
			continue
		}
		have, exists, err := file(path)
		if err != nil {
			return nil, nil, 0, err
		}
		switch {
		case wanted && !exists && owner != nil && !owner.guarded:
			continue // waits for the finalizer
		case !wanted && exists:
			edits[path] = nil
			if c.deleted[path] {
				deletes++
			}
		case wanted && (!exists || have.Mode != repo.Regular || !bytes.Equal(have.Data, want)):
			edits[path] = want
		}
		done = append(done, path)
	}
	return edits, done, deletes, nil
}

// settle notes that the branch agrees with the paths as of a generation. It
// returns the source objects that this is news for.
func (c *content) settle(done []string, generation int64) []origin {
	c.mu.Lock()
	defer c.mu.Unlock()
	var news []origin
	for _, path := range done {
		delete(c.behind, path)
		delete(c.deleted, path)
	}
	for _, path := range done {
		o, ok := c.owners[path]
		r := c.records[o]
		if !ok || r == nil || r.settled || !c.clean(o) {
			continue
		}
		r.settled, r.generation = true, generation
		news = append(news, o)
		if r.gone {
			c.forget(o)
		}
	}
	return news
}

func (c *content) clean(o origin) bool {
	for _, path := range o.paths(c.tenant) {
		if c.behind[path] {
			return false
		}
	}
	return true
}

// lookup returns what is known of a source object.
func (c *content) lookup(o origin) (record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.records[o]
	if r == nil {
		return record{}, false
	}
	return *r, true
}

// of returns the source objects of a kind that are not gone.
func (c *content) of(kind string) []types.NamespacedName {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []types.NamespacedName
	for o, r := range c.records {
		if o.kind == kind && !r.gone {
			out = append(out, o.NamespacedName)
		}
	}
	return out
}

// owner returns the source object whose document is, or was, at a path.
func (c *content) owner(path string) (origin, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.owners[path]
	return o, ok
}

// document returns the document at a path, nil if there is none.
func (c *content) document(path string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.documents[path]
}

// managed counts the source objects of a kind with intents by namespace.
func (c *content) managed(kind string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for o, r := range c.records {
		if o.kind == kind && len(r.paths) > 0 {
			out[o.Namespace]++
		}
	}
	return out
}

// serviceOf returns the Service whose document or status is at a path.
func serviceOf(path string) (types.NamespacedName, bool) {
	p, err := repo.ParsePath(path)
	if err != nil || p.SourceKind != kindService {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, true
}

// subject says in the user's words what a commit changes.
func subject(edits map[string][]byte) string {
	sources := map[string]bool{} // whether something of it stays
	for path, data := range edits {
		source := "other files"
		if p, err := repo.ParsePath(path); err == nil {
			source = p.Source()
			if p.Kind == v1alpha1.KindAddresses {
				source = "nodes"
			}
		}
		sources[source] = sources[source] || data != nil
	}
	var words []string
	for _, removed := range []bool{false, true} {
		for _, kind := range []string{"Service", "Secret"} {
			words = append(words, several(kind, sources, removed)...)
		}
	}
	var others []string
	for source := range sources {
		if !strings.HasPrefix(source, "Service ") && !strings.HasPrefix(source, "Secret ") {
			others = append(others, source)
		}
	}
	slices.Sort(others)
	words = append(words, others...)
	if len(words) == 0 {
		return "taken over"
	}
	return strings.Join(words, ", ")
}

// several names the one source object of a kind that stays or is removed, or
// counts many.
func several(kind string, sources map[string]bool, removed bool) []string {
	var of []string
	for source, stays := range sources {
		if strings.HasPrefix(source, kind+" ") && stays != removed {
			of = append(of, source)
		}
	}
	what := ""
	if removed {
		what = " removed"
	}
	switch len(of) {
	case 0:
		return nil
	case 1:
		return []string{of[0] + what}
	}
	return []string{fmt.Sprintf("%d %ss%s", len(of), kind, what)}
}
