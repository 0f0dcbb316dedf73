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
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Of the branches of many writers come all but those that cannot be fetched; as
// long as all can it is one request.
func TestFetchEachBringsWhatCanBeFetched(t *testing.T) {
	protocols(t, func(t *testing.T, srv *server) {
		native := srv.clone()
		needed := native.push("main", "1")
		var wants []Want
		for i := range 9 {
			native.git("checkout", "-q", "--orphan", fmt.Sprintf("tenant%d", i))
			native.git("rm", "-rfq", ".")
			native.write("f", strings.Repeat(fmt.Sprintf("tenant %d ", i), 10))
			if i == 3 || i == 4 {
				native.write("f", strings.Repeat(fmt.Sprint(i), 30_000))
			}
			tip := native.commit("tenant")
			native.git("push", "-q", "origin", fmt.Sprintf("HEAD:refs/heads/intent/t%d", i))
			wants = append(wants, Want{Tip: tip})
		}
		r, s := srv.remote(Options{}), NewStore()
		srv.asked()
		failed, err := r.FetchEach(t.Context(), s, []Want{{Tip: needed}}, wants)
		if posts := slices.DeleteFunc(srv.asked(), func(q string) bool { return strings.HasPrefix(q, "GET ") }); err != nil || len(failed) != 0 || len(posts) != 1 {
			t.Fatalf("usually: %v, %v, %q", failed, err, posts)
		}
		r.packLimit, s = 20_000, NewStore()
		failed, err = r.FetchEach(t.Context(), s, []Want{{Tip: needed}}, wants)
		if err != nil || len(failed) != 2 || !OfContent(failed[wants[3].Tip]) || !OfContent(failed[wants[4].Tip]) {
			t.Fatalf("with two that are too large: %v, %v", failed, err)
		}
		for i, w := range append(wants, Want{Tip: needed}) {
			if want := i != 3 && i != 4; s.Has(w.Tip) != want {
				t.Errorf("branch %d is there: %v", i, !want)
			}
		}
		// Who is alone is told from a server that fails.
		if failed, err = r.FetchEach(t.Context(), s, nil, wants[3:4]); err != nil || len(failed) != 1 {
			t.Errorf("alone: %v, %v", failed, err)
		}
		srv.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return true
		})
		if failed, err = r.FetchEach(t.Context(), NewStore(), nil, wants); err == nil || failed != nil {
			t.Errorf("a server that fails: %v, %v", failed, err)
		}
	})
}

// A file that is too large to be kept costs something all the same: a few bytes
// inflate to a thousand times as many.
func TestLargeFilesCountTowardsTheLimit(t *testing.T) {
	srv := newServer(t)
	tip := srv.clone().push("zeros", strings.Repeat("0", 9<<20))
	r := srv.remote(Options{})
	r.packLimit = 1 << 20
	if err := r.Fetch(t.Context(), NewStore(), Want{Tip: tip}); !OfContent(err) {
		t.Errorf("%v", err)
	}
}
