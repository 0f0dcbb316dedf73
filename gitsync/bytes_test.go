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

package gitsync

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1" //nolint:gosec // Git's
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// badTexts are what a writer of bytes may put where a name, a number or a line
// belongs. They have no NUL and no line break, which end what they stand in.
var badTexts = []string{
	"", " ", "\x01", "\x07", "\x08", "\x0b", "\x0c", "\x1b[2J", "\x1b]0;t\x07", "\x7f", "\u0080", "\u0085", "\u008d", "\u009b31m", "\u009f", "a\u0080b", "\u00a0", "\u00ad",
	"\u061c", "\u200b", "\u200d", "\u200e", "\u2028", "\u2029", "\u202e", "\u2066", "\ufeff", "\ufffd", "\uffff", "\ue000", "\U000e0001", "\U0010ffff",
	"\xff", "\xc3\x28", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80", "\xc0\xaf", "a\rb", "a\tb", "a: b", "- a", "{{", "%s%n", "..", "...", ".git", "~", "'", "\"", "\\", "<a>", ">", "@team", "Fixes #1", "*", "null", "true", "=",
	"-1", "+1", "1e3", "0x10", "9223372036854775807", "9223372036854775808", "4611686018427387904", "-9223372036854775808", strings.Repeat("9", 400), "WEB", "web",
	strings.Repeat("a", 64<<10), strings.Repeat("\u0080", 32<<10), strings.Repeat("<", 64<<10), strings.Repeat("1", 1<<20),
}

// object puts an object into the server's repository as it is, valid or not.
func (s *server) object(kind string, data []byte) string {
	s.t.Helper()
	whole := append(fmt.Appendf(nil, "%s %d\x00", kind, len(data)), data...)
	hash := fmt.Sprintf("%x", sha1.Sum(whole)) //nolint:gosec // Git's
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err := z.Write(whole)
	must(s.t, err)
	must(s.t, z.Close())
	dir := filepath.Join(s.bare, "objects", hash[:2])
	must(s.t, os.MkdirAll(dir, 0o755))
	if err := os.WriteFile(filepath.Join(dir, hash[2:]), packed.Bytes(), 0o444); err != nil && !os.IsPermission(err) {
		s.t.Fatal(err)
	}
	return hash
}

// ref sets a branch, whatever it is set to.
func (s *server) ref(branch, hash string) {
	s.t.Helper()
	name := filepath.Join(s.bare, "refs", "heads", branch)
	must(s.t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(s.t, os.WriteFile(name, []byte(hash+"\n"), 0o644))
}

// leaf is an entry of a tree that is made as it is.
type leaf struct{ mode, name, hash string }

func (s *server) tree(leaves ...leaf) string {
	s.t.Helper()
	var b bytes.Buffer
	for _, l := range leaves {
		raw, err := hex.DecodeString(l.hash)
		must(s.t, err)
		b.WriteString(l.mode + " " + l.name + "\x00")
		b.Write(raw)
	}
	return s.object("tree", b.Bytes())
}

const fineIdent = "evil <evil@example.com> 1700000000 +0000"

// raw makes a commit of an intent branch, with any of its parts as it is.
type raw struct {
	tree, parent, author string
	trailers             map[string]string
	message              string
}

func (a *actor) raw(r raw) string {
	a.t.Helper()
	a.generation++
	trailers := map[string]string{
		repo.TrailerRepository: a.repository, repo.TrailerBranch: "intent/" + a.name, repo.TrailerTenant: a.name,
		repo.TrailerGeneration: fmt.Sprint(a.generation), repo.TrailerCluster: a.cluster, repo.TrailerEpoch: "0",
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", r.tree)
	if r.parent != "" {
		fmt.Fprintf(&b, "parent %s\n", r.parent)
	}
	if r.author == "" {
		r.author = fineIdent
	}
	if r.message == "" {
		r.message = "intents"
	}
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s\n\n", r.author, fineIdent, r.message)
	for key, value := range trailers {
		if other, ok := r.trailers[key]; ok {
			value = other
		}
		fmt.Fprintf(&b, "%s: %s\n", key, value)
	}
	for key, value := range r.trailers {
		if _, ok := trailers[key]; !ok {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	return a.own.object("commit", []byte(b.String()))
}

// exchange is a loop with many tenants, one of which is watched while the others
// write whatever they like.
type exchange struct {
	*stepper
	loop  *loop
	good  *actor
	evil  []*actor
	port  int32
	fine  []string // trees of the evil ones that are fine
	tips  []string // commits of that
	trees map[string][]leaf
}

func newExchange(t *testing.T, n int) *exchange {
	t.Helper()
	x := &exchange{stepper: newStepper(t), port: 1000, trees: map[string][]leaf{}}
	x.good = x.tenant("good")
	x.good.pushRaw(encoded(t, x.good.whole("web", x.port)))
	for i := range n {
		a := x.tenant(fmt.Sprintf("evil%d", i))
		a.push(a.whole("web", 80))
		x.evil = append(x.evil, a)
		x.tips = append(x.tips, a.tip.String())
		x.fine = append(x.fine, x.git.native(x.git.bare, "rev-parse", a.tip.String()+"^{tree}"))
	}
	x.cut.set(0, "", nil)
	x.loop = x.begin()
	t.Cleanup(func() { x.loop.end() })
	x.drive(t.Context(), x.loop)
	for _, a := range x.evil {
		if lb := a.lb("web"); lb == nil {
			t.Fatalf("%s is not served: %+v", a.name, x.loop.failed)
		}
	}
	return x
}

func encoded(t *testing.T, objects map[string]repo.Object) map[string][]byte {
	t.Helper()
	raw := map[string][]byte{}
	for path, object := range objects {
		content, err := repo.Encode(object)
		must(t, err)
		raw[path] = content
	}
	return raw
}

// told is what a tenant is told in the hub and on its branch.
func (x *exchange) told(a *actor) (problems []v1alpha1.Problem, text string) {
	x.t.Helper()
	for _, p := range a.state().Status.Problems {
		if p.Reason != v1alpha1.ReasonNoAllowedSigners {
			problems = append(problems, p)
			text += fmt.Sprintf("%s|%s|%s|%s\n", p.Path, p.Field, p.Reason, p.Message)
		}
	}
	return problems, text
}

// goesOn checks that the neighbour's next change is applied and reported by the
// loop that runs, within the time that it takes with nobody else, and by one that
// starts then, which finds the same of everybody. broken names what was written.
func (x *exchange) goesOn(t *testing.T, broken func(i int) string, check func(i int, problems []v1alpha1.Problem) string) {
	t.Helper()
	running := ""
	for round, what := range []string{"the hub that runs", "a hub that starts"} {
		x.port++
		x.good.pushRaw(encoded(t, map[string]repo.Object{x.good.path("web"): x.good.balancer("web", x.port)}))
		if round == 1 {
			x.loop.end()
			x.loop = x.begin()
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		began := x.clock
		x.loop.syncAt = x.clock
		x.drive(ctx, x.loop)
		cancel()
		if f := x.loop.failed; f != nil {
			t.Fatalf("%s: the GitSource fails: %s: %s%s", what, f.reason, f.message, x.culprits(broken, f.message))
		}
		if lb := x.good.lb("web"); lb == nil || len(lb.Spec.Ports) != 1 || lb.Spec.Ports[0].Port != x.port {
			t.Fatalf("%s: the neighbour's change is not applied", what)
		}
		if !strings.Contains(x.git.show("status/"+x.good.name, x.good.statePath()), x.good.tip.String()) {
			t.Fatalf("%s: the neighbour's change is not reported: %+v", what, x.loop.tenants[x.good.name].status)
		}
		if took := x.clock.Sub(began); took > 10*time.Second {
			t.Errorf("%s: it took %s", what, took)
		}
		all := ""
		for i, a := range x.evil {
			problems, text := x.told(a)
			all += fmt.Sprintf("%d %s\n", i, text)
			for _, p := range problems {
				if p != p.Bounded() {
					t.Errorf("%s: what %s is told is not fit to be shown: %.300q", what, broken(i), p)
				}
			}
			if lb := a.lb("web"); lb == nil {
				t.Errorf("%s: %s took away what was programmed", what, broken(i))
			}
			if wrong := check(i, problems); wrong != "" {
				t.Errorf("%s: of %s: %s; told %.300q", what, broken(i), wrong, text)
			}
		}
		if round == 0 {
			running = all
		} else if all != running {
			t.Errorf("a hub that starts says something else: %s", differ(running, all))
		}
	}
}

// culprits names what the tenants wrote that a message speaks of.
func (x *exchange) culprits(broken func(int) string, message string) (names string) {
	for i, a := range x.evil {
		if strings.Contains(message, a.name) {
			names += "\n  " + a.name + ": " + broken(i)
		}
	}
	return names
}

// heal sets the branches of all back to what is fine, with a new commit.
func (x *exchange) heal() {
	for i, a := range x.evil {
		a.generation += 2
		x.tips[i] = a.raw(raw{tree: x.fine[i], parent: x.tips[i]})
		x.git.ref("intent/"+a.name, x.tips[i])
	}
}

// takenOrTold: what is written is either taken, or the writer is told why not.
func (x *exchange) takenOrTold(tips []string) func(int, []v1alpha1.Problem) string {
	return func(i int, problems []v1alpha1.Problem) string {
		observed := x.evil[i].state().Status.ObservedIntent
		if taken := observed != nil && observed.Commit == tips[i]; !taken && len(problems) == 0 {
			return "it is not taken, and nobody is told"
		}
		return ""
	}
}

// TestBytesOfOneWriterStayWithThatWriter goes through the places where bytes of a
// tenant's CCM are read or repeated, as docs/design.md lists them: tenants with a
// bad value each, all in one look at the repository. Pure tables beside it go
// through all values at each place.
func TestBytesOfOneWriterStayWithThatWriter(t *testing.T) {
	const tenants = 20
	x := newExchange(t, tenants)
	round := 0
	text := func(i int) string { return badTexts[(round*tenants+i)%len(badTexts)] }
	value := func(i int) string { return fmt.Sprintf("%.40q", text(i)) }
	writes := func(make func(i int, a *actor, bad string) raw) {
		var tips []string
		for i, a := range x.evil {
			tips = append(tips, a.raw(make(i, a, text(i))))
			x.git.ref("intent/"+a.name, tips[i])
		}
		x.goesOn(t, value, x.takenOrTold(tips))
		x.heal()
		round++
	}
	// Every trailer with every value: see TestCheckIntentWithBadValues.
	keys := []string{repo.TrailerCluster, repo.TrailerEpoch, repo.TrailerGeneration, repo.TrailerDeletes, repo.TrailerTenant}
	writes(func(i int, _ *actor, bad string) raw {
		return raw{tree: x.fine[i], parent: x.tips[i], trailers: map[string]string{keys[i%len(keys)]: bad}}
	})
	writes(func(i int, a *actor, bad string) raw { // name, address, time, zone, subject and body
		x.port++
		content, err := repo.Encode(a.balancer("web", x.port))
		must(t, err)
		return raw{tree: x.shop(i, "web.service.yaml", content), parent: x.tips[i], author: bad + " <" + bad + "> " + bad + " " + bad, message: bad + "\n\n" + bad}
	})
	writes(func(i int, a *actor, bad string) raw { // a path, a document and texts in one
		lb := a.balancer("bad", 90)
		lb.Annotations = map[string]string{"kubelb.k8c.io/x": strings.ToValidUTF8(bad, "?")}
		if i%2 == 0 {
			lb.Spec.Ports[0].Name = strings.ToValidUTF8(bad, "?")
		}
		content, err := repo.Encode(lb)
		must(t, err)
		return raw{parent: x.tips[i], tree: x.shop(i, "bad.service.yaml", content, "whole.service.yaml", []byte(bad), bad[:min(len(bad), 3000)]+"-.service.yaml", []byte("x"))}
	})
	for i, a := range x.evil {
		x.git.ref("status/"+a.name, a.raw(raw{tree: x.fine[i], author: text(i) + " <> 1 +0000", message: text(i), trailers: map[string]string{repo.TrailerGeneration: text(i)}}))
	}
	x.goesOn(t, value, func(i int, _ []v1alpha1.Problem) string {
		if x.git.show("status/"+x.evil[i].name, x.evil[i].statePath()) == "" {
			return "the branch is not the hub's again"
		}
		return ""
	})
}

// shop is a tenant's fine tree with files of the folder loadbalancers/shop: names
// and contents by turns.
func (x *exchange) shop(i int, files ...any) string {
	x.t.Helper()
	set := map[string]string{}
	for n := 0; n < len(files); n += 2 {
		set[files[n].(string)] = x.git.object("blob", files[n+1].([]byte))
	}
	return x.graft(x.fine[i], repo.TenantDir(x.evil[i].name)+"/loadbalancers/shop", func(leaves []leaf) []leaf {
		for name, hash := range set {
			leaves = slices.DeleteFunc(leaves, func(l leaf) bool { return l.name == name })
			leaves = append(leaves, leaf{"100644", name, hash})
		}
		slices.SortFunc(leaves, func(a, b leaf) int { return strings.Compare(a.name, b.name) })
		return leaves
	})
}

// graft is a tree in which the entries of a folder are others.
func (x *exchange) graft(root, folder string, change func([]leaf) []leaf) string {
	x.t.Helper()
	leaves := x.leaves(root)
	if folder == "" {
		return x.git.tree(change(leaves)...)
	}
	name, rest, _ := strings.Cut(folder, "/")
	for i, l := range leaves {
		if l.name == name {
			leaves[i].hash = x.graft(l.hash, rest, change)
		}
	}
	return x.git.tree(leaves...)
}

// leaves reads a tree object.
func (x *exchange) leaves(hash string) (leaves []leaf) {
	x.t.Helper()
	if known, ok := x.trees[hash]; ok {
		return slices.Clone(known)
	}
	out := x.git.native(x.git.bare, "ls-tree", "-z", hash)
	for line := range strings.SplitSeq(strings.TrimRight(out, "\x00"), "\x00") {
		head, name, ok := strings.Cut(line, "\t")
		if parts := strings.Fields(head); ok {
			leaves = append(leaves, leaf{strings.TrimLeft(parts[0], "0"), name, parts[2]})
		}
	}
	x.trees[hash] = leaves
	return slices.Clone(leaves)
}
