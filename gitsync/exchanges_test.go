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
	"slices"
	"testing"

	"github.com/kubelb/gitops/api/repo"
)

// asked are the requests to the Git server up to the first push.
func (p *play) asked() (calls []string) {
	for _, call := range p.cut.calls {
		if call == "POST git-receive-pack" {
			break
		}
		if call == "POST git-upload-pack" {
			calls = append(calls, call)
		}
	}
	return calls
}

// A hub that starts asks for the refs, for what they are at and for recent
// history, in a request each, and pushes. How many tenants changed something
// meanwhile, and what people did, does not matter.
func TestAHubThatStartsAsksThreeTimesBeforeItsFirstPush(t *testing.T) {
	s := newStepper(t)
	p := &play{stepper: s, acme: s.tenant("acme")}
	others := []*actor{s.tenant("b"), s.tenant("c"), s.tenant("d")}
	all := append(others, p.acme)
	for _, a := range all {
		a.push(a.whole("web", 80))
	}
	p.settle()
	p.ada = s.git.clone()
	p.edit("  type: LoadBalancer\n", "  loadBalancerSourceRanges: [192.0.2.0/24]\n  type: LoadBalancer\n")
	p.settle()
	if held := p.held(); len(held) != 1 {
		t.Fatalf("held: %v", held)
	}
	for _, a := range all {
		for port := range int32(3) {
			a.push(map[string]repo.Object{a.path("web"): a.balancer("web", 90+port)})
		}
	}
	p.main()
	p.ada.write("README.md", "Load balancers.\n")
	p.ada.push("Say more")
	p.settle()
	if calls := p.asked(); len(calls) > 3 {
		t.Errorf("%d requests before the first push: %q", len(calls), slices.Compact(p.cut.calls))
	}
	if held := p.held(); len(held) != 1 {
		t.Errorf("held: %v", held)
	}
	for _, a := range all {
		a.hasPorts("web", 92)
	}
}
