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

package git

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	intentBranch = "refs/heads/intent/acme"
	statusBranch = "refs/heads/status/acme"
	// liveFiles is how many files each branch has all the time.
	liveFiles = 64
)

// grow writes n commits, each of which changes one of the files, and returns
// them, oldest first.
func (s *server) grow(n int) []string {
	s.t.Helper()
	var in bytes.Buffer
	for i := range n {
		fmt.Fprintf(&in, "commit refs/scratch/all\ncommitter Hub <hub@example.com> %d +0000\ndata 6\nstatus\n", 1_700_000_000+i)
		files := []int{i % liveFiles}
		if i == 0 {
			files = files[:0]
			for f := range liveFiles {
				files = append(files, f)
			}
		}
		for _, f := range files {
			content := fmt.Sprintf("status: %d of %d\n", i, f)
			fmt.Fprintf(&in, "M 100644 inline tenants/acme/loadbalancers/shop/f%d.yaml\ndata %d\n%s\n", f, len(content), content)
		}
		in.WriteString("\n")
	}
	cmd := exec.Command("git", "-C", s.bare, "fast-import", "--quiet")
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("fast-import: %v\n%s", err, out)
	}
	return strings.Fields(s.git(s.bare, "rev-list", "--reverse", "refs/scratch/all"))
}

// set moves a branch at the server, without a process for it.
func (s *server) set(ref, commit string) {
	s.t.Helper()
	path := filepath.Join(s.bare, ref)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path+".next", []byte(commit+"\n"), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		s.t.Fatal(err)
	}
}

// ages has a CCM and a hub live through n commits: the CCM fetches each commit
// of its status branch and pushes one of its intents, which the hub fetches, as
// their loops do. It returns what each store held at most after its sweeps.
func ages(t testing.TB, n int) (status, intent, hub Stats) {
	srv := newServer(t)
	commits := srv.grow(n + 1)
	remote, err := NewRemote(srv.url, Options{Timeout: 10 * time.Minute}) // however busy the machine is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.Close)
	reader, writer, follower := NewStore(), NewStore(), NewStore()
	files := map[string]string{}
	for f := range liveFiles {
		files[fmt.Sprintf("tenants/acme/loadbalancers/shop/f%d.yaml", f)] = "spec: 0\n"
	}
	var seen, pushed, followed Hash
	var kept int
	most := func(most *Stats, now Stats) {
		*most = Stats{max(most.Objects, now.Objects), max(most.Bytes, now.Bytes)}
	}
	for i, commit := range commits {
		srv.set(statusBranch, commit)
		refs, err := remote.ListRefs(t.Context(), statusBranch)
		if err != nil {
			t.Fatal(err)
		}
		tip := refs[statusBranch]
		mustFetch(t, remote, reader, Want{Tip: tip, Have: seen})
		if changed := changedFiles(t, reader, seen, tip); i > 0 && changed != 1 {
			t.Fatalf("commit %d changed %d files", i, changed)
		}
		seen = tip
		reader.Retain(seen)
		most(&status, reader.Stats())

		next := commitOn(t, writer, pushed, files)
		mustPush(t, remote, writer, intentBranch, pushed, next)
		pushed = next
		files = map[string]string{fmt.Sprintf("tenants/acme/loadbalancers/shop/f%d.yaml", i%liveFiles): fmt.Sprintf("spec: %d\n", i+1)}
		if i%64 == 0 {
			writer.Retain(pushed)
		}
		most(&intent, writer.Stats())

		mustFetch(t, remote, follower, Want{Tip: pushed, Have: followed})
		followed = pushed
		if follower.Stats().Objects >= 2*kept+1000 {
			follower.Retain(followed)
			kept = follower.Stats().Objects
		}
		most(&hub, follower.Stats())
	}
	return status, intent, hub
}

func changedFiles(t testing.TB, s *Store, before, after Hash) (n int) {
	t.Helper()
	trees := [2]Hash{}
	for i, h := range []Hash{before, after} {
		if h.IsZero() {
			continue
		}
		c, err := s.Commit(h)
		if err != nil {
			t.Fatal(err)
		}
		trees[i] = c.Tree
	}
	if err := s.Diff(trees[0], trees[1], "", func(Change) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStoresStayBounded(t *testing.T) {
	// A commit, its directories and its files.
	const live = 1 + 5 + liveFiles
	status, intent, hub := ages(t, 250)
	if status.Objects > live {
		t.Errorf("status: %v for a tree of %d objects", status, live)
	}
	if intent.Objects > live+64*7 { // swept after 64 pushes
		t.Errorf("intents: %v for a tree of %d objects", intent, live)
	}
	if hub.Objects > 2*live+1000+7 { // swept when doubled
		t.Errorf("hub: %v for a tree of %d objects", hub, live)
	}
}

// BenchmarkTenThousandFetches is how long clones live: run it with
// -benchtime 10000x.
func BenchmarkTenThousandFetches(b *testing.B) {
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	status, intent, hub := ages(b, b.N)
	b.ReportMetric(float64(status.Objects), "status-objects")
	b.ReportMetric(float64(status.Bytes), "status-bytes")
	b.ReportMetric(float64(intent.Objects), "intent-objects")
	b.ReportMetric(float64(hub.Objects), "hub-objects")
	b.ReportMetric(float64(hub.Bytes), "hub-bytes")
	b.ReportMetric(heap()-before, "heap-growth-bytes")
}

// BenchmarkPushOfMain is what one change costs on a main branch of 1,000
// tenants, whose list is one large directory.
func BenchmarkPushOfMain(b *testing.B) {
	s := NewStore()
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("tenants/tenant-%04d/loadbalancers/shop/web.service.yaml", i)] = fmt.Sprintf("spec: %d\n", i)
	}
	tip := commitOn(b, s, Hash{}, files)
	s.pushed(tip)
	var size int
	for i := 0; b.Loop(); i++ {
		tip = commitOn(b, s, tip, map[string]string{"tenants/tenant-0500/loadbalancers/shop/web.service.yaml": fmt.Sprintf("spec: new %d\n", i)})
		objects, err := s.newBelow([]Hash{tip}, true)
		if err != nil {
			b.Fatal(err)
		}
		pack, err := writePack(objects)
		if err != nil {
			b.Fatal(err)
		}
		size = len(pack)
		s.pushed(tip)
	}
	b.ReportMetric(float64(size), "pack-bytes")
}
