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
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
)

func TestManyAtOnceAreFewCommits(t *testing.T) {
	const n = 200
	b := newBench(t)
	acme := b.tenant("acme")
	acme.push(acme.whole("first", 80))
	acme.hasPorts("first", 80)
	acme.settled()
	before := atoi(b.git.count("main"))
	edits := map[string]repo.Object{}
	for i := range n {
		name := fmt.Sprintf("web%d", i)
		edits[acme.path(name)], edits[acme.backendPath(name)] = acme.balancer(name, 80), acme.backend(name, int32(30000+i))
	}
	start := time.Now()
	acme.push(edits)
	acme.hasPorts(fmt.Sprintf("web%d", n-1), 80)
	acme.decided()
	t.Logf("%d load balancers are applied and decided after %v", n, time.Since(start))
	if made := atoi(b.git.count("main")) - before; made != 2 {
		t.Errorf("%d commits on main, want one with facts and one with wishes", made)
	}
	acme.settled()
	t.Logf("everything is told after %v, in %s status commits", time.Since(start), b.git.count("status/"+acme.name))
}
