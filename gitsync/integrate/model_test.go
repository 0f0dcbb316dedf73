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
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/repo"
)

// world is a repository with its writers: a tenant, people, a reviewer, and a
// hub that can die between any two pushes.
type world struct {
	intent  repo.Tree
	intents []repo.Tree // all there were, for cherry-picks
	mains   []mainCommit
	bases   []baseCommit
	review  *review // the branch; nil without one
	pins    map[string]leaves
	trace   []string
	wrong   []string // found where nothing can fail

	reviewed bool // the tenant needs review
	atomic   bool // the server offers atomic pushes
	counter  int
}

type mainCommit struct {
	id   int
	tree repo.Tree
}

// baseCommit names the main commit it belongs to.
type baseCommit struct {
	tree repo.Tree
	main int
}

type review struct {
	proposed map[string][]byte
	intent   repo.Tree // at the paths it changes
	parent   repo.Tree // main that it was made from
	closed   bool
}

func newWorld(reviewed, atomic bool) *world {
	return &world{
		intent: repo.Tree{}, mains: []mainCommit{{tree: repo.Tree{}}}, bases: []baseCommit{{tree: repo.Tree{}}},
		pins: map[string]leaves{}, reviewed: reviewed, atomic: atomic,
	}
}

func (w *world) log(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fail(t *rapid.T, format string, args ...any) {
	t.Helper()
	t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace, "\n"))
}

func (w *world) main() repo.Tree { return w.mains[len(w.mains)-1].tree }

func (w *world) next() int { w.counter++; return w.counter }

// base is the newest base commit whose main commit is reachable from main.
func (w *world) base() repo.Tree {
	landed := map[int]bool{}
	for _, c := range w.mains {
		landed[c.id] = true
	}
	for n := len(w.bases) - 1; ; n-- {
		if landed[w.bases[n].main] {
			return w.bases[n].tree
		}
	}
}

func (w *world) input() Input {
	in := Input{Tenant: tenant, Intent: w.intent, Base: w.base(), Main: w.main(), Decided: len(decided(w.base())), Review: w.reviewed}
	if w.review != nil {
		in.Proposed, in.Closed = w.review.intent, w.review.closed
	}
	return in
}

func equalTrees(a, b repo.Tree) bool { return maps.EqualFunc(a, b, sameFile) }

// narrow hands in only what differs, as the caller does.
func narrow(in Input) Input {
	full := in
	in.Intent, in.Base, in.Main = repo.Tree{}, repo.Tree{}, repo.Tree{}
	for _, path := range paths(full.Intent, full.Base, full.Main) {
		if same(full.Intent, full.Base, path) && same(full.Base, full.Main, path) {
			continue
		}
		for _, side := range []struct{ from, to repo.Tree }{{full.Intent, in.Intent}, {full.Base, in.Base}, {full.Main, in.Main}} {
			if file, ok := side.from[path]; ok {
				side.to[path] = file
			}
		}
	}
	return in
}

// hub takes one step and dies after some of its pushes. between runs after the
// first one, if the server is not atomic. It reports whether everything landed.
func (w *world) hub(pushes int, between func()) (Input, Result, bool) {
	in := w.input()
	result := Integrate(narrow(in))
	parent := w.mains[len(w.mains)-1]
	main, base := apply(w.main(), result.Main), apply(w.base(), result.Base)
	commit := mainCommit{id: parent.id, tree: main}
	if len(result.Main) > 0 {
		commit.id = w.next()
	}
	lost := false
	pushMain := func() {
		if lost = w.mains[len(w.mains)-1].id != parent.id; !lost && len(result.Main) > 0 {
			w.mains = append(w.mains, commit)
		}
	}
	pushBase := func() {
		if len(result.Main)+len(result.Base) > 0 {
			w.bases = append(w.bases, baseCommit{base, commit.id})
		}
	}
	steps := []func(){pushBase, pushMain, func() { w.pushReview(in, result, main, lost) }}
	if w.atomic {
		steps = []func(){func() { pushBase(); pushMain() }, steps[2]}
	}
	defer func() {
		if equalTrees(w.base(), base) {
			w.pinElements(result.Held)
		}
	}()
	for n, push := range steps {
		if n >= pushes {
			w.log("hub died after %d of %d pushes", n, len(steps))
			return in, result, false
		}
		push()
		if n == 0 && between != nil {
			between()
		}
	}
	w.log("hub: intent %s\n     base %s\n  -> main %s\n     base %s\n     review %s held %v pending %v", show(w.intent), show(in.Base), show(w.main()), show(w.base()), show(apply(nil, result.Review)), result.Held, result.Pending)
	return in, result, !lost
}

func (w *world) pushReview(in Input, result Result, main repo.Tree, lost bool) {
	if lost {
		return
	}
	if len(result.Review) == 0 {
		w.review = nil
		return
	}
	if w.review != nil && !w.review.closed && maps.EqualFunc(w.review.proposed, result.Review, func(a, b []byte) bool { return string(a) == string(b) }) {
		return // unchanged: its commit stays, and with it the intent version
	}
	proposal := apply(main, result.Review)
	w.review = &review{proposed: result.Review, parent: main, intent: Behind(tenant, main, proposal, w.base())}
	w.reviewOf(in, result, proposal)
}

// reviewOf tests what a new review says of itself: the intent version that it
// was made from, and how to take its rejection back.
func (w *world) reviewOf(in Input, result Result, proposal repo.Tree) {
	for path := range result.Review {
		if want, got := leavesOf(in.Intent[path]), leavesOf(w.review.intent[path]); !result.Guarded && !want.broken() && !maps.Equal(want, got) {
			w.wrong = append(w.wrong, fmt.Sprintf("%s: the review was made from %v, it says %v", path, want, got))
		}
	}
	rejected := apply(w.base(), nil)
	maps.Copy(rejected, w.review.intent)
	reopened := Behind(tenant, proposal, w.review.parent, rejected)
	for path := range result.Review {
		again := Integrate(Input{Tenant: tenant, Intent: in.Intent, Base: swap(rejected, reopened, path), Main: w.review.parent, Decided: 99, Review: true})
		if data, ok := again.Review[path]; !result.Guarded && !leavesOf(in.Intent[path]).broken() && (!ok || string(data) != string(result.Review[path])) {
			w.wrong = append(w.wrong, fmt.Sprintf("%s: reopened, the review proposes %q instead of %q", path, data, result.Review[path]))
		}
	}
}

// swap returns a tree that has another one's file at a path.
func swap(tree, from repo.Tree, path string) repo.Tree {
	out := maps.Clone(tree)
	delete(out, path)
	if file, ok := from[path]; ok {
		out[path] = file
	}
	return out
}

// check takes a whole step and tests everything that is promised of it.
func (w *world) check(t *rapid.T) {
	in, result, _ := w.hub(99, nil)
	w.judge(t, in, result)
}

func (w *world) judge(t *rapid.T, in Input, result Result) {
	checkEdits(t, in, result)
	if len(w.wrong) > 0 {
		w.fail(t, "%s", strings.Join(w.wrong, "\n"))
	}
	w.rejected(in)
	w.unpin(in)
	main, base := apply(in.Main, result.Main), apply(in.Base, result.Base)
	for path, pins := range w.pins {
		is := leavesOf(w.main()[path])
		for leaf, value := range pins {
			if is[leaf] != value {
				w.fail(t, "a person set %s of %s to %q, main has %q", leaf, path, value, is[leaf])
			}
		}
	}
	for _, held := range result.Held {
		if !w.pinned(held.Path, base, main) {
			w.fail(t, "%v is held, but by no person: %v", held, w.pins)
		}
	}
	for _, path := range decided(w.intent) {
		tip, on := leavesOf(w.intent[path]), leavesOf(w.main()[path])
		if !w.reviewed && len(w.pins[path]) == 0 && !tip.broken() && !maps.Equal(tip, on) {
			w.fail(t, "%s did not converge", path)
		}
	}
	for path, data := range result.Main {
		p, _ := repo.ParsePath(path)
		if w.reviewed && !p.Fact() && data != nil {
			w.fail(t, "%s changed on main without review", path)
		}
	}
	for path, file := range w.intent {
		if p, _ := repo.ParsePath(path); p.Fact() && !same(w.main(), repo.Tree{path: file}, path) {
			w.fail(t, "%s is not what the tip says", path)
		}
	}
	if _, ok := in.Base[addressesPath]; ok && w.main()[addressesPath].Data == nil {
		w.fail(t, "the nodes vanished")
	}
}

func history(reviewed, atomic, people bool) func(*rapid.T) {
	return func(t *rapid.T) {
		w := newWorld(reviewed, atomic)
		who := []string{"tenant", "tenant", "hub", "hub", "crash"}
		if people {
			who = append(who, "person")
		}
		if reviewed {
			who = append(who, "reviewer")
		}
		if rapid.IntRange(0, 3).Draw(t, "begun") > 0 {
			w.tenant(t)
			w.hub(99, nil)
			w.mergeReview(func(string) bool { return true })
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom(who).Draw(t, "who") {
			case "tenant":
				w.tenant(t)
			case "person":
				w.person(t)
			case "reviewer":
				w.reviewer(t)
			case "hub":
				w.check(t)
			case "crash":
				var between func()
				if people && !atomic && rapid.Bool().Draw(t, "person in between") {
					between = func() { w.person(t) }
				}
				in, result, _ := w.hub(rapid.IntRange(0, 2).Draw(t, "pushes"), between)
				if between == nil && equalTrees(w.main(), apply(in.Main, result.Main)) && equalTrees(w.base(), apply(in.Base, result.Base)) {
					w.judge(t, in, result) // it landed
				}
			}
		}
		w.check(t)
		w.check(t)
	}
}

func TestHistoryOfTenantAlone(t *testing.T) { rapid.Check(t, history(false, true, false)) }
func TestHistoryWithPeople(t *testing.T)    { rapid.Check(t, history(false, true, true)) }
func TestHistoryWithReview(t *testing.T)    { rapid.Check(t, history(true, true, true)) }
func TestHistoryOfReviewAlone(t *testing.T) { rapid.Check(t, history(true, true, false)) }
func TestHistoryBaseFirst(t *testing.T)     { rapid.Check(t, history(false, false, true)) }
func TestHistoryBaseFirstWithReview(t *testing.T) {
	rapid.Check(t, history(true, false, true))
}

// TestReviewConverges: with a reviewer who always merges, main becomes the intent.
func TestReviewConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(true, rapid.Bool().Draw(t, "atomic"))
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"tenant", "tenant", "hub", "merge", "crash"}).Draw(t, "who") {
			case "tenant":
				w.tenant(t)
			case "hub":
				w.hub(99, nil)
			case "merge":
				w.mergeReview(func(string) bool { return rapid.Bool().Draw(t, "take") })
			case "crash":
				w.hub(rapid.IntRange(0, 2).Draw(t, "pushes"), nil)
			}
		}
		for range 3 {
			w.hub(99, nil)
			w.mergeReview(func(string) bool { return true })
		}
		_, result, _ := w.hub(99, nil)
		for _, path := range decided(w.intent) {
			if leavesOf(w.intent[path]).broken() {
				return
			}
		}
		if len(result.Held)+len(result.Pending)+len(result.Review) > 0 {
			w.fail(t, "held %v, pending %v, proposed %v", result.Held, result.Pending, result.Review)
		}
	})
}
