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
	"slices"
	"strings"
	"sync"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"

	"k8s.io/apimachinery/pkg/types"
)

// content is what the intent branch shall have, per source object, and where it
// may differ from what the branch has: a change of one Service costs one
// rendering and an edit of its paths.
type content struct {
	tenant string

	mu        sync.Mutex
	documents map[string][]byte // by path
	behind    map[string]bool   // paths to compare with the branch
	services  map[types.NamespacedName]*record
	deleted   map[string]bool // paths of wishes whose Service is seen being deleted
}

// record is what is known of one Service.
type record struct {
	uid      types.UID
	paths    []string // of its documents
	problems []v1alpha1.Problem
	// guarded: the Service has our finalizer, so new intents may be pushed.
	guarded bool
	// settled: the branch has (or no longer has) the documents of this very
	// Service since the generation.
	settled    bool
	generation int64
	// gone: there is no such object any more.
	gone bool
}

func newContent(tenant string) *content {
	return &content{
		tenant: tenant, documents: map[string][]byte{}, behind: map[string]bool{},
		services: map[types.NamespacedName]*record{}, deleted: map[string]bool{},
	}
}

// rendered is a Service as it was rendered.
type rendered struct {
	uid       types.UID
	guarded   bool
	deleting  bool // it is seen with a deletion timestamp
	documents []render.Document
	problems  []v1alpha1.Problem
}

// put notes what a Service is rendered to. It reports whether its problems are
// others than before.
func (c *content) put(name types.NamespacedName, r rendered) (problems bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wish, fact := render.ServicePaths(c.tenant, name.Namespace, name.Name)
	old := c.services[name]
	now := &record{uid: r.uid, guarded: r.guarded, problems: r.problems}
	for _, d := range r.documents {
		now.paths = append(now.paths, d.Path)
	}
	if old != nil && old.uid == now.uid && len(old.paths) == len(now.paths) {
		now.settled, now.generation = old.settled, old.generation
	} else {
		c.behind[wish.String()], c.behind[fact.String()] = true, true
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
		c.deleted[wish.String()] = true
	} else {
		delete(c.deleted, wish.String())
	}
	c.services[name] = now
	return old == nil && len(now.problems) > 0 || old != nil && !slices.Equal(old.problems, now.problems)
}

// remove notes that there is no such Service any more.
func (c *content) remove(name types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.services[name]
	if old == nil {
		return
	}
	for _, path := range old.paths {
		c.write(path, nil)
	}
	if old.settled && len(old.paths) == 0 {
		delete(c.services, name)
		return
	}
	c.services[name] = &record{guarded: true, gone: true}
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
// their Services are being deleted.
func (c *content) edits(file func(path string) (repo.File, bool, error)) (edits map[string][]byte, done []string, deletes int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edits = map[string][]byte{}
	for path := range c.behind {
		want, wanted := c.documents[path]
		have, exists, err := file(path)
		if err != nil {
			return nil, nil, 0, err
		}
		switch {
		case wanted && !exists && !c.guarded(path):
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

func (c *content) guarded(path string) bool {
	name, ok := serviceOf(path)
	if !ok {
		return true
	}
	r := c.services[name]
	return r != nil && r.guarded
}

// settle notes that the branch agrees with the paths as of a generation. It
// returns the Services that this is news for.
func (c *content) settle(done []string, generation int64) []types.NamespacedName {
	c.mu.Lock()
	defer c.mu.Unlock()
	var news []types.NamespacedName
	for _, path := range done {
		delete(c.behind, path)
		delete(c.deleted, path)
	}
	for _, path := range done {
		name, ok := serviceOf(path)
		r := c.services[name]
		if !ok || r == nil || r.settled || !c.clean(name) {
			continue
		}
		r.settled, r.generation = true, generation
		news = append(news, name)
		if r.gone {
			delete(c.services, name)
		}
	}
	return news
}

func (c *content) clean(name types.NamespacedName) bool {
	wish, fact := render.ServicePaths(c.tenant, name.Namespace, name.Name)
	return !c.behind[wish.String()] && !c.behind[fact.String()]
}

// lookup returns what is known of a Service.
func (c *content) lookup(name types.NamespacedName) (record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.services[name]
	if r == nil {
		return record{}, false
	}
	return *r, true
}

// managed counts the Services with intents by namespace.
func (c *content) managed() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for name, r := range c.services {
		if len(r.paths) > 0 {
			out[name.Namespace]++
		}
	}
	return out
}

// serviceOf returns the Service whose document or status is at a path.
func serviceOf(path string) (types.NamespacedName, bool) {
	p, err := repo.ParsePath(path)
	if err != nil || p.SourceKind != "service" {
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
	var services, removed []string
	for source, stays := range sources {
		switch {
		case !strings.HasPrefix(source, "Service "):
			words = append(words, source)
		case stays:
			services = append(services, source)
		default:
			removed = append(removed, source)
		}
	}
	slices.Sort(words)
	words = append(several(removed, " removed"), words...)
	words = append(several(services, ""), words...)
	if len(words) == 0 {
		return "taken over"
	}
	return strings.Join(words, ", ")
}
