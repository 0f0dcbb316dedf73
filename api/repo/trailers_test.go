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

package repo_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

const aHash, aUID = "1111111111111111111111111111111111111111", "3f0c3f4e-6d0e-4b58-9f0a-0d8f6c1b2a3d"

func TestTrailersHaveATypeALengthAndARange(t *testing.T) {
	good := map[string][]string{
		repo.TrailerRepository: {"4f7d1c9e", "11111111-2222-3333-4444-555555555555", strings.Repeat("a", repo.MaxRepositoryID)},
		repo.TrailerBranch:     {"intent/acme", "main"},
		repo.TrailerTenant:     {"acme", strings.Repeat("a", repo.MaxTenantLength)},
		repo.TrailerGeneration: {"1", strconv.Itoa(repo.MaxGeneration)},
		repo.TrailerCluster:    {aUID},
		repo.TrailerEpoch:      {"0", "2147483647"},
		repo.TrailerDeletes:    {"0", "1048576"},
		repo.TrailerMain:       {aHash}, repo.TrailerIntent: {aHash}, repo.TrailerConfirms: {aHash}, repo.TrailerReview: {aHash}, repo.TrailerAccepts: {aHash},
	}
	// Of each kind: control characters of both sets, separators, direction marks,
	// what is not UTF-8, other white space, other digits, sizes, ranges, types.
	bad := []string{
		"", " ", "\x00", "\x01", "\x07", "\x1b[2J", "\x7f", "\u0080", "\u0085", "\u009b31m", "\u009f", "ab\u0080", "\u00a0", "\u00ad", "\u200b", "\u200e", "\u2028", "\u2029", "\u202e",
		"\ufeff", "\ufffd", "\uffff", "\U000e0001", "\U0010ffff", "\xff", "\xc3\x28", "\xed\xa0\x80", "\n", "a\nb", "a\rb", "a\tb", "a: b", "%n%s", "../..", "/", "'", "\"", "\\", "<a>", "{}", "[]", "null!", "~",
		"-1", "+1", "1.0", "1e3", "0x10", "1_000", "١", "９", "9223372036854775807", "9223372036854775808", "18446744073709551616", "4611686018427387904", "-9223372036854775808",
		strings.Repeat("9", 400), strings.Repeat("a", 64<<10), strings.Repeat("\u0080", 64<<10), strings.Repeat("1", 1<<20), strings.ToUpper(aUID), aUID + "0", "{" + aUID + "}", strings.ToUpper(strings.Repeat("a", 40)), aHash[1:], aHash + "1",
	}
	if len(bad) < 60 {
		t.Fatalf("only %d bad values", len(bad))
	}
	names := []string{repo.TrailerRepository, repo.TrailerTenant, repo.TrailerBranch} // a bad number can be a good name
	for key, values := range good {
		for _, value := range values {
			if wrong := repo.CheckTrailer(key, value); wrong != "" {
				t.Errorf("%s: %s: %s", key, value, wrong)
			}
		}
		for _, value := range bad {
			wrong := repo.CheckTrailer(key, value)
			if wrong == "" && (!slices.Contains(names, key) || v1alpha1.Printable(value, 255) != value) {
				t.Errorf("%s takes %.60q", key, value)
			}
			if len(wrong) > 300 || wrong != v1alpha1.Printable(wrong, 300) {
				t.Errorf("%s: what is said of %.60q is not fit to be shown: %.300q", key, value, wrong)
			}
			if n := repo.TrailerNumber(key, value); n < 0 || n > repo.MaxGeneration || n+1 < 0 {
				t.Errorf("%s: %.60q counts as %d", key, value, n)
			}
		}
	}
}

func TestWhatBaseSaysCanAlwaysBeWritten(t *testing.T) {
	for _, text := range []string{"\x00", "\x1b", "\x7f", "\u0080", "\u009f", "\u2028", "\xff", "a: b", "- a", "'\"", "", "{", strings.Repeat("\u0080", 1000), "\ufeff", "true", "1e3"} {
		data, err := repo.EncodeRefused(repo.Refused{Commit: aHash, Author: text, Why: text, Newest: aHash})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if r, err := repo.DecodeRefused(data); err != nil || r.Author != strings.ToValidUTF8(text, "\ufffd") {
			t.Errorf("%q is read as %q, %v", text, r.Author, err)
		}
		if data, err = repo.EncodeIntegrated(repo.Integrated{Commit: aHash, Cluster: text}); err != nil {
			t.Errorf("%q: %v", text, err)
		} else if i, err := repo.DecodeIntegrated(data); err != nil || i.Cluster != "" {
			t.Errorf("%q is read as %+v, %v", text, i, err)
		}
	}
	for _, generation := range []int64{-1, repo.MaxGeneration + 1, math.MaxInt64, math.MinInt64} {
		data, err := repo.EncodeIntegrated(repo.Integrated{Commit: aHash, Generation: generation, Epoch: generation, ReviewGeneration: generation})
		if err != nil {
			t.Fatal(err)
		}
		if i, err := repo.DecodeIntegrated(data); err != nil || i.Generation != 0 || i.Epoch != 0 || i.ReviewGeneration != 0 {
			t.Errorf("%d: %+v, %v", generation, i, err)
		}
	}
}

func TestAnIDOfARepositoryFitsATrailer(t *testing.T) {
	for _, id := range []string{"\u0080", "a b", "a\nb", strings.Repeat("a", 65), "-"} {
		data, err := repo.EncodeConfig(repo.Config{RepositoryID: id, Layout: 1})
		if err != nil {
			continue
		}
		if _, err := repo.ReadConfig(repo.NewFile(data), true); err == nil {
			t.Errorf("%.60q is taken", id)
		}
	}
}
