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
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// pushed is a repository with one commit on main, and a store that knows it.
func pushed(t *testing.T) (*server, *Remote, *Store, Hash) {
	t.Helper()
	srv := newServer(t)
	r, s := srv.remote(Options{}), NewStore()
	tip := commitOn(t, s, Hash{}, map[string]string{"README.md": "hello"})
	mustPush(t, r, s, main, Hash{}, tip)
	return srv, r, s, tip
}

func TestPushSendsOnlyWhatIsNew(t *testing.T) {
	srv, r, s, tip := pushed(t)
	files := map[string]string{}
	for i := range 10_000 {
		files[fmt.Sprintf("tenants/t%d/loadbalancers/default/s%d.yaml", i/10, i%10)] = fmt.Sprint(i)
	}
	big := commitOn(t, s, tip, files)
	mustPush(t, r, s, main, tip, big)

	before := s.Stats().Objects
	next := commitOn(t, s, big, map[string]string{"tenants/t500/loadbalancers/default/s1.yaml": "changed"})
	// One file, five directories, one commit.
	if made := s.Stats().Objects - before; made != 7 {
		t.Errorf("an edit made %d objects", made)
	}
	objects, err := s.unsentBelow([]Hash{next})
	if err != nil || len(objects) != 7 {
		t.Errorf("to send: %d objects, %v", len(objects), err)
	}
	mustPush(t, r, s, main, big, next)
	if objects, err = s.unsentBelow([]Hash{next}); err != nil || len(objects) != 0 {
		t.Errorf("left to send: %d objects, %v", len(objects), err)
	}
	srv.fsck()
}

func TestPushLosesTheRace(t *testing.T) {
	srv, r, s, tip := pushed(t)
	theirs := srv.clone().push("theirs", "1")
	ours := commitOn(t, s, tip, map[string]string{"ours": "1"})
	results, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: tip, New: ours}}, false)
	var rejected *RejectedError
	if !errors.Is(err, ErrRejected) || len(results) != 1 || !errors.As(results[0].Err, &rejected) || rejected.Ref != main {
		t.Fatalf("%v, %v", results, err)
	}
	if got := srv.head("main"); got != theirs {
		t.Errorf("main is at %s", got)
	}
	// The other way round: what must not exist does.
	if _, err = r.Push(t.Context(), s, []RefUpdate{{Name: main, New: ours}}, false); !errors.Is(err, ErrRejected) {
		t.Errorf("creating what exists: %v", err)
	}
	// On top of theirs it goes through, and carries what was not taken before.
	mustFetch(t, r, s, Want{Tip: theirs, Have: tip})
	again := commitOn(t, s, theirs, map[string]string{"ours": "1"})
	mustPush(t, r, s, main, theirs, again)
	srv.fsck()
}

func TestPushSeveralRefs(t *testing.T) {
	srv, r, s, tip := pushed(t)
	a := commitOn(t, s, tip, map[string]string{"a": "1"})
	b := commitOn(t, s, tip, map[string]string{"b": "2"})
	c := commitOn(t, s, Hash{}, map[string]string{"c": "1"})
	updates := []RefUpdate{
		{Name: "refs/heads/status/a", Old: Hash{}, New: a},
		{Name: "refs/heads/status/b", Old: a, New: b}, // does not exist
		{Name: "refs/heads/status/c", Old: Hash{}, New: c},
	}
	results, err := r.Push(t.Context(), s, updates, false)
	if !errors.Is(err, ErrRejected) || results[0].Err != nil || !errors.Is(results[1].Err, ErrRejected) || results[2].Err != nil {
		t.Fatalf("%v, %v", results, err)
	}
	// What was refused counts as not sent.
	if objects, err := s.unsentBelow([]Hash{a, b, c}); err != nil || len(objects) != 3 {
		t.Errorf("left to send: %d, %v", len(objects), err)
	}
	updates[1].Old = Hash{}
	if _, err = r.Push(t.Context(), s, updates[1:2], false); err != nil {
		t.Error(err)
	}
	if srv.head("status/b") != b {
		t.Error("status/b is missing")
	}
	srv.fsck()
}

func TestPushAtomic(t *testing.T) {
	srv, r, s, tip := pushed(t)
	if ok, err := r.SupportsAtomic(t.Context()); !ok || err != nil {
		t.Fatalf("atomic: %v, %v", ok, err)
	}
	next := commitOn(t, s, tip, map[string]string{"a": "1"})
	updates := []RefUpdate{{Name: main, Old: tip, New: next}, {Name: "refs/heads/base/main", Old: tip, New: next}}
	results, err := r.Push(t.Context(), s, updates, true)
	if !errors.Is(err, ErrRejected) || !errors.Is(results[0].Err, ErrRejected) || !errors.Is(results[1].Err, ErrRejected) {
		t.Fatalf("%v, %v", results, err)
	}
	if srv.head("main") != tip {
		t.Error("main moved")
	}
	updates[1].Old = Hash{}
	if results, err = r.Push(t.Context(), s, updates, true); err != nil {
		t.Fatalf("%v, %v", results, err)
	}
	if srv.head("main") != next || srv.head("base/main") != next {
		t.Error("not moved")
	}

	srv.git(srv.bare, "config", "receive.advertiseAtomic", "false")
	plain := srv.remote(Options{})
	if ok, err := plain.SupportsAtomic(t.Context()); ok || err != nil {
		t.Errorf("atomic: %v, %v", ok, err)
	}
	if _, err := plain.Push(t.Context(), s, []RefUpdate{{Name: main, Old: next, New: tip}}, true); !errors.Is(err, ErrNoAtomic) {
		t.Errorf("%v", err)
	}
}

func TestPushCreatesMovesAndDeletes(t *testing.T) {
	srv, r, s, tip := pushed(t)
	const ref = "refs/heads/status/acme"
	a := commitOn(t, s, Hash{}, map[string]string{"a": "1"})
	b := commitOn(t, s, Hash{}, map[string]string{"a": "2"}) // no child of a
	mustPush(t, r, s, ref, Hash{}, a)
	mustPush(t, r, s, ref, a, b)
	mustPush(t, r, s, ref, b, tip) // nothing to send
	mustPush(t, r, s, ref, tip, Hash{})
	if refs, err := r.ListRefs(t.Context(), ref); err != nil || len(refs) != 0 {
		t.Errorf("%v, %v", refs, err)
	}
	srv.fsck()
}

func TestPushRefusedByHook(t *testing.T) {
	for _, hook := range []string{"pre-receive", "update"} {
		srv, r, s, tip := pushed(t)
		srv.hook(hook, "echo 'only reviewed changes, please' >&2; printf '\\033[31mred' >&2; exit 1")
		next := commitOn(t, s, tip, map[string]string{"a": "1"})
		_, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: tip, New: next}}, false)
		if !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "only reviewed changes, please") ||
			!strings.Contains(err.Error(), "hook declined") || strings.Contains(err.Error(), "\033") {
			t.Errorf("%s: %v", hook, err)
		}
	}
}

func TestPushWhatTheServerRefusesToUnpack(t *testing.T) {
	srv, r, s, tip := pushed(t)
	srv.git(srv.bare, "config", "receive.maxInputSize", "1000")
	var big strings.Builder
	for i := range 3000 {
		fmt.Fprint(&big, i*i*i)
	}
	next := commitOn(t, s, tip, map[string]string{"a": big.String()})
	_, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: tip, New: next}}, false)
	if !errors.Is(err, ErrRejected) && !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("%v", err)
	}
	if srv.head("main") != tip {
		t.Error("main moved")
	}
}

// The server pruned an object that it had once: it is sent again.
func TestPushAfterTheServerForgot(t *testing.T) {
	srv, r, s, tip := pushed(t)
	const ref = "refs/heads/status/acme"
	a := commitOn(t, s, Hash{}, map[string]string{"dir/a": "only here"})
	mustPush(t, r, s, ref, Hash{}, a)
	mustPush(t, r, s, ref, a, Hash{})
	srv.git(srv.bare, "gc", "-q", "--prune=now")
	again := commitOn(t, s, tip, map[string]string{"dir/a": "only here"})
	mustPush(t, r, s, main, tip, again)
	srv.fsck()
}

func TestPushCutOffReply(t *testing.T) {
	srv, r, s, tip := pushed(t)
	reply := func(req *http.Request) []byte {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		resp, err := http.Post(srv.url+"/git-receive-pack?direct", req.Header.Get("Content-Type"), bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return nil
		}
		defer func() { _ = resp.Body.Close() }()
		if body, err = io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
		return body
	}
	for i, cut := range []func([]byte) []byte{
		func([]byte) []byte { return nil },                                    // empty
		func(b []byte) []byte { return b[:10] },                               // within a packet
		func([]byte) []byte { return []byte("0000") },                         // an end without a report
		func([]byte) []byte { return []byte("0013\x01000eunpack ok\n") },      // no word about the ref
		func([]byte) []byte { return []byte("<html>bad gateway") },            // not Git
		func([]byte) []byte { return []byte("0017\x03unexpected death0000") }, // the server died
	} {
		srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodPost || req.URL.RawQuery != "" {
				return false
			}
			w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
			_, _ = w.Write(cut(reply(req)))
			return true
		})
		next := commitOn(t, s, tip, map[string]string{"a": fmt.Sprint(i)})
		results, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: tip, New: next}}, false)
		if !errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrRejected) {
			t.Errorf("case %d: %v, %v", i, results, err)
		}
		if srv.head("main") != next {
			t.Errorf("case %d: the push did not happen", i)
		}
		// Who looks finds it, and goes on from there.
		srv.intercept(nil)
		mustFetch(t, r, s, Want{Tip: next, Have: tip})
		if objects, err := s.unsentBelow([]Hash{next}); err != nil || len(objects) != 0 {
			t.Errorf("case %d: left to send: %d, %v", i, len(objects), err)
		}
		tip = next
	}
}

func TestPushFailuresThatChangedNothing(t *testing.T) {
	srv, r, s, tip := pushed(t)
	next := commitOn(t, s, tip, map[string]string{"a": "1"})
	for code, want := range map[int]error{
		401: ErrUnauthorized, 403: ErrUnauthorized, 404: ErrNotFound, 429: ErrUnavailable,
		204: ErrUnknownOutcome, 500: ErrUnknownOutcome, 502: ErrUnknownOutcome, 504: ErrUnknownOutcome,
	} {
		srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodPost {
				w.WriteHeader(code)
			}
			return req.Method == http.MethodPost
		})
		if _, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: tip, New: next}}, false); !errors.Is(err, want) {
			t.Errorf("status %d: %v, want %v", code, err, want)
		}
	}
	srv.intercept(nil)
	if srv.head("main") != tip {
		t.Error("main moved")
	}
	if _, err := r.Push(t.Context(), s, []RefUpdate{{Name: "main", Old: tip, New: next}}, false); !errors.Is(err, ErrMalformed) {
		t.Errorf("ref name: %v", err)
	}
	if _, err := r.Push(t.Context(), s, []RefUpdate{{Name: main, Old: tip, New: Hash{1}}}, false); !errors.Is(err, ErrMissing) {
		t.Errorf("unknown commit: %v", err)
	}
	if results, err := r.Push(t.Context(), s, nil, true); results != nil || err != nil {
		t.Errorf("nothing to push: %v, %v", results, err)
	}
}

func TestConcurrentPushesFromOneStore(t *testing.T) {
	srv, r, s, tip := pushed(t)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			ref, old := fmt.Sprintf("refs/heads/intent/t%d", i), Hash{}
			for n := range 3 {
				next := commitOn(t, s, tip, map[string]string{"shared": fmt.Sprint(n), fmt.Sprintf("t%d", i): fmt.Sprint(n)})
				if _, err := r.Push(t.Context(), s, []RefUpdate{{Name: ref, Old: old, New: next}}, false); err != nil {
					t.Error(err)
				}
				old = next
			}
		})
	}
	wait.Wait()
	srv.fsck()
}

func TestPackRoundTrip(t *testing.T) {
	s := NewStore()
	tip := commitOn(t, s, Hash{}, map[string]string{"a": "", "b": "1", "c": strings.Repeat("x", 70_000)})
	objects, err := s.unsentBelow([]Hash{tip})
	if err != nil {
		t.Fatal(err)
	}
	pack, err := writePack(whole(objects))
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(Hash) *object { return nil }
	got, err := readPack(bytes.NewReader(pack), nothing, 1<<20)
	if err != nil || len(got) != len(objects) {
		t.Fatalf("%d objects, %v", len(got), err)
	}
	for h, o := range s.objects {
		if !bytes.Equal(got[h].data, o.data) || got[h].kind != o.kind {
			t.Errorf("%s differs", h)
		}
	}
	for i := range pack {
		broken := bytes.Clone(pack)
		broken[i] ^= 0x10
		if _, err := readPack(bytes.NewReader(broken), nothing, 1<<20); err == nil {
			t.Errorf("byte %d of %d: the damage was not seen", i, len(pack))
		}
		if _, err := readPack(bytes.NewReader(pack[:i]), nothing, 1<<20); err == nil {
			t.Errorf("the cut after %d of %d bytes was not seen", i, len(pack))
		}
	}
}
