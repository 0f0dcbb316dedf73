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
	"compress/zlib"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRenewal(t *testing.T) {
	var r Renewal
	begin := at(0)
	for _, step := range []struct {
		after time.Duration // of the beginning
		want  bool
	}{
		{0, true}, {time.Second, false}, {59 * time.Second, false}, {time.Minute, true}, {2 * time.Minute, false}, {3 * time.Minute, true},
		{6 * time.Minute, false}, {7 * time.Minute, true}, {5 * time.Hour, true}, {5*time.Hour + 61*time.Second, true},
	} {
		if got := r.Begin(begin.Add(step.after)); got != step.want {
			t.Errorf("after %s: %v", step.after, got)
		}
	}
}

func TestDamageIsToldFromFaultsOfTheServer(t *testing.T) {
	srv, r, s, tip := pushed(t)
	next := srv.clone().push("b", "2")
	c, err := s.Commit(tip)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	delete(s.objects, c.Tree)
	s.mu.Unlock()
	if _, err := s.Files(c.Tree, ""); !Damaged(err) {
		t.Errorf("a tree that was lost: %v", err)
	}
	if Damaged(fmt.Errorf("list refs: %w", ErrUnavailable)) || Damaged(nil) {
		t.Error("a server that is away is no damage")
	}

	// The server lost a file, and has it again later.
	blob := srv.git(srv.bare, "rev-parse", next.String()+":b")
	object := filepath.Join(srv.bare, "objects", blob[:2], blob[2:])
	for name, content := range map[string][]byte{"lost": nil, "corrupt": []byte("x\x9cgarbage"), "of another": zipped(t, "blob 1\x00x")} {
		whole, err := os.ReadFile(object)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(object); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if err := os.WriteFile(object, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		other := NewStore()
		err = r.Fetch(t.Context(), other, Want{Tip: next})
		if !errors.Is(err, ErrUnavailable) || Damaged(err) || other.Has(next) || other.Stats().Objects > 0 {
			t.Errorf("%s: %v, %v", name, err, other.Stats())
		}
		_ = os.Remove(object)
		if err := os.WriteFile(object, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		mustFetch(t, r, other, Want{Tip: next})
		if got := textOf(t, other, next); got != "2" {
			t.Errorf("%s: %q after the repair", name, got)
		}
	}
}

func textOf(t *testing.T, s *Store, commit Hash) string { return content(t, s, commit, "b") }

// zipped is a loose object.
func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
