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
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// A server that refuses forced pushes, as `git init --shared` makes it, keeps no
// tenant from its answers: the status branch grows.
func TestAServerThatRefusesForcedPushesIsToldAllTheSame(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprintf("shared %v", shared), func(t *testing.T) {
			b := newIdleBench(t)
			b.initMain()
			// A hub that was started in such a millisecond writes commit number 100 next.
			millis := 599
			b.clock = func() time.Time {
				return time.Now().Truncate(time.Second).Add(time.Duration(millis) * time.Millisecond)
			}
			b.start()
			a := b.tenant("acme")
			if !shared {
				a = b.apart("alice")
			}
			a.own.native(a.own.bare, "config", "receive.denyNonFastForwards", "true")
			a.push(a.whole("web", 80))
			a.hasPorts("web", 80)
			a.settled()
			first := a.own.head("status/" + a.name)
			b.restart()
			port := int32(80)
			change := func() {
				t.Helper()
				port++
				a.push(map[string]repo.Object{a.path("web"): a.balancer("web", port)})
				a.hasPorts("web", port)
				a.told(a.statePath(), a.tip.String())
			}
			says := func() {
				t.Helper()
				eventually(t, "the Tenant says it once", func() string {
					n := 0
					for _, p := range a.problems() {
						if p.Reason == v1alpha1.ReasonStatusBranchGrows && p.Remedy != "" {
							n++
						}
					}
					if n != 1 || len(a.problems()) != 1 {
						return fmt.Sprintf("problems are %v", a.problems())
					}
					return ""
				})
			}
			change()
			says()
			change()
			if log := a.own.native(a.own.bare, "log", "--format=%H", "status/"+a.name); !strings.Contains(log, first) {
				t.Errorf("the branch lost its first commit %s: %s", first, log)
			}
			for _, p := range a.state().Status.Problems {
				t.Errorf("the tenant itself is told %v", p)
			}
			b.halt()
			millis = 999 // where the server is asked again
			b.start()
			change()
			says()
		})
	}
}
