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

package integrate

import (
	"cmp"
	"fmt"
	"maps"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// leaves are what a LoadBalancer says, by field, read without the code under
// test. "!" marks that a document or an element is there.
type leaves map[string]string

func (l leaves) broken() bool { return l["!"] == "broken" }

func leavesOf(file repo.File) leaves {
	if read, ok := leavesRead[string(file.Data)]; ok {
		return read
	}
	read := readLeaves(file)
	leavesRead[string(file.Data)] = read
	return read
}

var leavesRead = map[string]leaves{} // decoding is most of a history's time

func readLeaves(file repo.File) leaves {
	out := leaves{}
	if file.Data == nil {
		return out
	}
	object, problems := repo.DecodeBase(wishPath("one"), file) // not validated: base holds parts of documents
	if len(problems) > 0 {
		if object, problems = repo.DecodeBase(wishPath("two"), file); len(problems) > 0 {
			return leaves{"!": "broken"}
		}
	}
	lb := object.(*v1alpha1.LoadBalancer)
	out["!"] = "there"
	set := func(leaf, value, implied string) {
		if value != "" && value != implied {
			out[leaf] = value
		}
	}
	set("spec.externalTrafficPolicy", string(lb.Spec.ExternalTrafficPolicy), "Cluster")
	set("spec.loadBalancerSourceRanges", strings.Join(lb.Spec.LoadBalancerSourceRanges, ","), "")
	set("labels.x", lb.Labels["x"], "")
	set("labels.y", lb.Labels["y"], "")
	for _, port := range lb.Spec.Ports {
		at := "spec.ports[" + port.Name + "]"
		out[at+"!"] = "there"
		if port.Port != 0 { // decided; the protocol is with it
			out[at+".port"] = fmt.Sprintf("%d/%s", port.Port, cmp.Or(port.Protocol, "TCP"))
		}
	}
	return out
}

// universe is every leaf that there can be.
var universe = func() []string {
	out := []string{"!", "spec.externalTrafficPolicy", "spec.loadBalancerSourceRanges", "labels.x", "labels.y"}
	for _, name := range []string{"a", "b", "c"} {
		at := "spec.ports[" + name + "]"
		out = append(out, at+"!", at+".port")
	}
	return out
}()

// element returns the mark of the element that a leaf belongs to.
func element(leaf string) string {
	if n := strings.IndexByte(leaf, ']'); n >= 0 && !strings.HasSuffix(leaf, "!") {
		return leaf[:n+1] + "!"
	}
	return ""
}

// pin remembers what a person changed: with an element or a document that came
// or went, everything in it.
func (w *world) pin(path string, before, after leaves) {
	for _, leaf := range universe {
		whole := element(leaf)
		if before[leaf] != after[leaf] || before["!"] != after["!"] || whole != "" && before[whole] != after[whole] {
			w.setPin(path, leaf, after[leaf])
		}
	}
}

func (w *world) setPin(path, leaf, value string) {
	if w.pins[path] == nil {
		w.pins[path] = leaves{}
	}
	w.pins[path][leaf] = value
}

// pinElements pins all of an element that a person's edit kept on main when the
// tenant removed it: from then on it is that person's whole.
func (w *world) pinElements(held []v1alpha1.HeldField) {
	for _, h := range held {
		on := leavesOf(w.main()[h.Path])
		for _, leaf := range universe {
			if element(leaf) == h.Field+"!" && on[h.Field+"!"] != "" {
				w.setPin(h.Path, leaf, on[leaf])
			}
		}
	}
}

// rejected pins what main has instead of a closed proposal: closing is an act of
// a person. Base is what was rejected from then on.
func (w *world) rejected(in Input) {
	if !in.Closed {
		return
	}
	for path, file := range in.Proposed {
		on, proposed := leavesOf(in.Main[path]), leavesOf(file)
		for _, leaf := range universe {
			if on[leaf] != proposed[leaf] {
				w.setPin(path, leaf, on[leaf])
			}
		}
	}
}

// unpin forgets the holds that ended, judged by the trees that the step saw:
// the source is gone, or intent, the review's intent or base agree with main. A
// tree without the element that a leaf belongs to says nothing about the leaf.
func (w *world) unpin(in Input) {
	base := maps.Clone(in.Base)
	trees := []repo.Tree{w.intent, base}
	if in.Closed {
		maps.Copy(base, in.Proposed)
	} else {
		trees = append(trees, in.Proposed)
	}
	for path, pins := range w.pins {
		_, intended := w.intent[path]
		_, known := base[path]
		_, proposed := in.Proposed[path]
		if !intended && (known || proposed) {
			delete(w.pins, path)
			continue
		}
		on := leavesOf(in.Main[path])
		if on.broken() {
			continue
		}
		for leaf, value := range pins {
			for n, tree := range trees {
				there, whole := leavesOf(tree[path]), element(leaf)
				if whole != "" && there[whole] != on[whole] {
					continue
				}
				if !there.broken() && there[leaf] == value && on[leaf] == value && (len(there) > 0 || len(on) == 0 && n < 2) {
					delete(pins, leaf)
				}
			}
		}
	}
}

// pinned reports whether a person is behind any difference of base and main.
func (w *world) pinned(path string, base, main repo.Tree) bool {
	b, m := leavesOf(base[path]), leavesOf(main[path])
	pins := w.pins[path]
	for _, leaf := range universe {
		if b[leaf] == m[leaf] {
			continue
		}
		for _, by := range []string{leaf, "!", element(leaf)} {
			if _, ok := pins[by]; ok {
				return true
			}
		}
	}
	return false
}
