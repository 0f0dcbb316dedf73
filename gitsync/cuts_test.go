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
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cutCase is something that tenants and people do, which the hub is cut off in
// the middle of deciding, at every exchange in turn.
type cutCase struct {
	name string
	// both: main and base change, in two pushes where the server is not atomic.
	both bool
	// begin prepares the tenant, once.
	begin func(p *play)
	// change is what happens before the hub is started. It may run the hub itself.
	change func(p *play)
	// back undoes it, for the next time.
	back func(p *play)
	// check looks at the outcome of a run that nothing cut.
	check func(p *play) string
}

// play is one case on its way.
type play struct {
	*stepper
	acme *actor
	ada  *clone
}

// settle lets the hub do everything there is to do.
func (p *play) settle() {
	p.t.Helper()
	p.run(0, "")
}

func (p *play) web(ports ...int32) {
	p.acme.push(map[string]repo.Object{p.acme.path("web"): p.acme.balancer("web", ports...)})
}

// main brings the person's clone to main.
func (p *play) main() {
	p.ada.git("fetch", "-q", "origin")
	p.ada.git("reset", "-q", "--hard", "origin/main")
}

// edit changes text of web's document and pushes it.
func (p *play) edit(old, replacement string) {
	p.t.Helper()
	p.main()
	text := p.ada.read(p.acme.path("web"))
	if !strings.Contains(text, old) {
		p.t.Fatalf("no %q in %s", old, text)
	}
	p.ada.write(p.acme.path("web"), strings.Replace(text, old, replacement, 1))
	p.ada.push("Edit web")
}

// release takes over what the tenant asks for.
func (p *play) release() {
	p.t.Helper()
	p.main()
	content := p.git.show("intent/"+p.acme.name, p.acme.path("web"))
	if content == p.ada.read(p.acme.path("web")) {
		return
	}
	p.ada.write(p.acme.path("web"), content)
	p.ada.push("Release web")
}

func (p *play) annotateTenant(key, value string) {
	var tenant v1alpha1.Tenant
	must(p.t, p.client.Get(p.t.Context(), client.ObjectKey{Name: p.acme.name}, &tenant))
	p.annotate(&tenant, key, value)
}

// held are the fields that are held, and by whom.
func (p *play) held() (fields []string) {
	for _, h := range p.acme.state().Status.Held {
		fields = append(fields, h.Field+" by "+h.Author)
	}
	return fields
}

// expect compares web's ports and what is held with what they should be.
func (p *play) expect(ports, held string) string {
	lb, got := p.acme.lb("web"), "none"
	if lb != nil {
		var numbers []int32
		for _, port := range lb.Spec.Ports {
			numbers = append(numbers, port.Port)
		}
		slices.Sort(numbers)
		got = fmt.Sprint(numbers)
	}
	if fields := fmt.Sprint(p.held()); got != ports || fields != held {
		return fmt.Sprintf("ports %s, held %s; want %s, %s", got, fields, ports, held)
	}
	return ""
}

var cutCases = []cutCase{
	{
		name:   "a tenant's change",
		both:   true,
		change: func(p *play) { p.web(81) },
		check:  func(p *play) string { return p.expect("[81]", "[]") },
		back:   func(p *play) { p.web(80); p.settle() },
	},
	{
		name: "a person's revert",
		change: func(p *play) {
			p.web(80, 81)
			p.settle()
			p.main()
			p.ada.git("revert", "--no-edit", "HEAD")
			p.ada.publish()
		},
		check: func(p *play) string { return p.expect("[80]", "[spec.ports[p81] by Ada]") },
		back:  func(p *play) { p.release(); p.settle(); p.web(80); p.settle() },
	},
	{
		name: "an edit, and the tenant changes another field",
		both: true,
		change: func(p *play) {
			p.edit("  type: LoadBalancer\n", "  loadBalancerSourceRanges: [192.0.2.0/24]\n  type: LoadBalancer\n")
			p.web(81)
		},
		check: func(p *play) string { return p.expect("[81]", "[spec.loadBalancerSourceRanges by Ada]") },
		back:  func(p *play) { p.release(); p.settle(); p.web(80); p.settle() },
	},
	{
		name: "an edit, and the tenant changes the same field",
		change: func(p *play) {
			p.edit("  type: LoadBalancer\n", "  loadBalancerSourceRanges: [192.0.2.0/24]\n  type: LoadBalancer\n")
			lb := p.acme.balancer("web", 80)
			lb.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
			p.acme.push(map[string]repo.Object{p.acme.path("web"): lb})
		},
		check: func(p *play) string { return p.expect("[80]", "[spec.loadBalancerSourceRanges by Ada]") },
		back:  func(p *play) { p.release(); p.settle(); p.web(80); p.settle() },
	},
	{
		name: "a deletion",
		change: func(p *play) {
			p.acme.push(map[string]repo.Object{p.acme.path("web"): nil, p.acme.backendPath("web"): nil})
		},
		check: func(p *play) string { return p.expect("none", "[]") },
		back:  func(p *play) { p.acme.push(p.acme.whole("web", 80)); p.settle() },
	},
	{
		name: "a person's deletion and its revert",
		change: func(p *play) {
			p.main()
			p.ada.git("rm", "-q", p.acme.path("web"))
			p.ada.push("Remove web")
			p.settle()
			p.main()
			p.ada.git("revert", "--no-edit", "HEAD")
			p.ada.publish()
		},
		check: func(p *play) string { return p.expect("[80]", "[]") },
		back:  func(*play) {},
	},
	{
		name: "a confirmation",
		begin: func(p *play) {
			p.acme.push(p.many())
			p.settle()
		},
		change: func(p *play) {
			gone := p.many()
			for path := range gone {
				gone[path] = nil
			}
			p.acme.push(gone)
			p.settle()
			if p.acme.lb("web0") == nil || p.acme.ready() != v1alpha1.ReasonApplyGuarded {
				p.t.Fatal("the removals were not guarded: " + p.acme.ready())
			}
			p.annotateTenant(v1alpha1.AnnotationConfirm, p.acme.tip.String())
		},
		check: func(p *play) string {
			if p.acme.lb("web0") != nil {
				return "web0 is there"
			}
			return p.expect("[80]", "[]")
		},
		back: func(p *play) { p.acme.push(p.many()); p.settle() },
	},
	{
		name: "a rewritten main that is accepted",
		change: func(p *play) {
			p.main()
			p.ada.git("checkout", "-q", "--orphan", "anew")
			text := p.ada.read(p.acme.path("web"))
			p.ada.write(p.acme.path("web"), strings.Replace(text, "  type: LoadBalancer\n", "  loadBalancerSourceRanges: [192.0.2.0/24]\n  type: LoadBalancer\n", 1))
			p.ada.git("add", "-A")
			p.ada.git("commit", "-q", "-m", "History begins anew")
			p.ada.git("push", "-q", "-f", "origin", "HEAD:main")
			p.ada.git("checkout", "-q", "main")
			p.ada.git("branch", "-q", "-D", "anew")
			p.settle()
			p.annotate(p.gitSource(), v1alpha1.AnnotationAcceptRewrite, p.git.head("main"))
		},
		check: func(p *play) string { return p.expect("[80]", "[spec.loadBalancerSourceRanges by Ada]") },
		back:  func(p *play) { p.release(); p.settle() },
	},
	{
		name: "a tenant that is deleted",
		both: true,
		change: func(p *play) {
			ctx, namespace := p.t.Context(), client.InNamespace(v1alpha1.TenantNamespace(p.acme.name))
			for _, object := range appliedKinds() {
				must(p.t, p.client.DeleteAllOf(ctx, object, namespace))
			}
			var tenant v1alpha1.Tenant
			must(p.t, p.client.Get(ctx, client.ObjectKey{Name: p.acme.name}, &tenant))
			must(p.t, p.client.Delete(ctx, &tenant))
		},
		check: func(p *play) string {
			var tenant v1alpha1.Tenant
			if err := p.client.Get(p.t.Context(), client.ObjectKey{Name: p.acme.name}, &tenant); !apierrors.IsNotFound(err) {
				return fmt.Sprintf("the Tenant is there: %v", err)
			}
			for _, branch := range []string{"main", "base/main"} {
				if left := p.git.native(p.git.bare, "ls-tree", "-r", "--name-only", branch, "tenants", "integrated"); left != "" {
					return branch + " has " + left
				}
			}
			if p.git.head("intent/"+p.acme.name) != "" {
				return "the intent branch is there"
			}
			return ""
		},
		back: func(p *play) {
			for _, ref := range strings.Fields(p.git.native(p.git.bare, "for-each-ref", "--format=%(refname)", repo.ArchivePrefix)) {
				p.git.native(p.git.bare, "update-ref", "-d", ref)
			}
			p.makeTenant(p.acme.name)
			p.acme.tip = git.Hash{}
			p.acme.push(p.acme.whole("web", 80))
			p.settle()
		},
	},
}

// many are more wishes than can vanish unasked.
func (p *play) many() map[string]repo.Object {
	edits := map[string]repo.Object{}
	for i := range 7 {
		name := fmt.Sprintf("web%d", i)
		edits[p.acme.path(name)] = p.acme.balancer(name, int32(90+i))
	}
	return edits
}

// TestAHubCutOffBetweenAnyTwoStepsDecidesNothingTwice plays what takes a minute
// or two; CUTS=all plays every case in every manner, with either kind of server.
func TestAHubCutOffBetweenAnyTwoStepsDecidesNothingTwice(t *testing.T) {
	all := os.Getenv("CUTS") == "all"
	for _, atomic := range []bool{true, false} {
		for i, c := range cutCases {
			manners := []manner{killed}
			if all || i == 0 {
				manners = append(manners, refused, lost)
			}
			if !all && (testing.Short() && i > 0 || !atomic && !c.both) {
				continue
			}
			t.Run(fmt.Sprintf("%s, atomic %v", c.name, atomic), func(t *testing.T) {
				s := newStepper(t)
				if !atomic {
					s.git.native(s.git.bare, "config", "receive.advertiseAtomic", "false")
				}
				p := &play{stepper: s, acme: s.tenant("acme")}
				p.acme.push(p.acme.whole("web", 80))
				p.settle()
				p.ada = s.git.clone()
				if c.begin != nil {
					c.begin(p)
				}
				p.cutEverywhere(c, atomic, manners)
			})
		}
	}
}

// cutEverywhere plays a case once whole, and then again and again with a cut
// after the first exchange, the second, and so on until there is none left.
func (p *play) cutEverywhere(c cutCase, atomic bool, manners []manner) {
	whole := p.playOnce(c, 0, "")
	if wrong := c.check(p); wrong != "" {
		p.t.Fatalf("without a cut: %s", wrong)
	}
	p.t.Logf("%d exchanges: %v", len(p.cut.calls), p.cut.calls)
	c.back(p)
	for _, m := range manners {
		for at := 1; ; at++ {
			if at > 200 {
				p.t.Fatal("the exchanges do not end")
			}
			cut := p.playOnce(c, at, m)
			where := fmt.Sprintf("%s at exchange %d (%s)", m, at, cut.where)
			if cut.picture != whole.picture {
				p.t.Fatalf("%s: the outcome differs: %s", where, differ(whole.picture, cut.picture))
			}
			if fmt.Sprint(cut.main) != fmt.Sprint(whole.main) {
				p.t.Errorf("%s: main got %q instead of %q", where, cut.main, whole.main)
			}
			spare := 0
			if !atomic {
				spare = 1 // a base commit whose main commit never arrived
			}
			if len(cut.base) > len(whole.base)+spare || cut.empty > whole.empty+spare {
				p.t.Errorf("%s: base/main got %q instead of %q, %d without a change", where, cut.base, whole.base, cut.empty)
			}
			c.back(p)
			if cut.where == "" {
				break
			}
		}
	}
}

// played is what came of a play.
type played struct {
	where      string // the exchange that was cut; empty if there was none
	picture    string
	main, base []string // new commits
	empty      int      // commits that change nothing, on main, base and status
}

func (p *play) playOnce(c cutCase, at int, m manner) (out played) {
	p.t.Helper()
	c.change(p)
	before := p.heads()
	p.run(at, m)
	var cut bool
	out.where, cut = p.cut.happened()
	if cut && m == killed {
		p.run(0, "")
	}
	out.picture = p.picture(p.acme)
	var empty [3]int
	out.main, empty[0] = p.since("main", before["main"])
	out.base, empty[1] = p.since("base/main", before["base/main"])
	_, empty[2] = p.since("status/"+p.acme.name, before["status/"+p.acme.name])
	out.empty = empty[0] + empty[1] + empty[2]
	if cut && m == killed {
		heads, versions := p.git.all(), p.acme.versions()
		p.run(0, "")
		if now := p.git.all(); now != heads {
			p.t.Errorf("%s at exchange %d (%s): another start moved refs:\n%s\n%s", m, at, out.where, heads, now)
		}
		if now := p.acme.versions(); now != versions {
			p.t.Errorf("%s at exchange %d (%s): another start wrote objects:\n%s\n%s", m, at, out.where, versions, now)
		}
		p.cut.at = at // for the report
	}
	return out
}
