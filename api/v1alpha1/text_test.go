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

package v1alpha1

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		name, text string
		limit      int
		want       string
	}{
		{"plain text stays", "Ann Author <ann@example.com>", 64, "Ann Author <ann@example.com>"},
		{"letters of every alphabet stay", "žluťoučký 木", 64, "žluťoučký 木"},
		{"an escape sequence is shown", "a\x1b[31mb", 64, `a\u001b[31mb`},
		{"C1 controls are shown", "a\u0080\u009fb", 64, `a\u0080\u009fb`},
		{"a line break is shown", "a\nb\rc\td", 64, `a\u000ab\u000dc\u0009d`},
		{"line and paragraph separators are shown", "a\u2028b\u2029", 64, `a\u2028b\u2029`},
		{"a change of direction is shown", "a\u202eb", 64, `a\u202eb`},
		{"bytes that are not UTF-8 are shown", "a\xff\xc3", 64, `a\xff\xc3`},
		{"a rune beyond four digits is shown", "a\U000e0001", 64, `a\U000e0001`},
		{"exactly the limit stays", "abcdef", 6, "abcdef"},
		{"one more is cut", "abcdefg", 6, "abc..."},
		{"a cut never divides a rune", "ab木木木", 8, "ab木..."},
		{"a cut never divides an escape", "ab\x1b\x1b", 9, "ab..."},
		{"an escape can make a short text too long", "\x1b\x1b\x1b", 12, `\u001b...`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Printable(c.text, c.limit); got != c.want {
				t.Errorf("Printable(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
			}
		})
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b\u2028\xff", 8)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = 3 + (limit&0xff+0x100)&0xff
		got := Printable(text, limit)
		if len(got) > limit {
			t.Errorf("%d bytes, at most %d allowed", len(got), limit)
		}
		if !utf8.ValidString(got) || strings.IndexFunc(got, notPrintable) >= 0 {
			t.Errorf("%q is not printable", got)
		}
		if again := Printable(got, limit); again != got {
			t.Errorf("the second time gives %q, not %q", again, got)
		}
	})
}

func TestBoundedProblem(t *testing.T) {
	long := strings.Repeat("\x1b", 1<<20)
	p := Problem{Path: long, Object: long, Field: long, Reason: ReasonInvalid, Message: long, Remedy: long}.Bounded()
	if n := len(p.Path) + len(p.Object) + len(p.Field) + len(p.Message) + len(p.Remedy); n > 3*MaxObject+2*MaxMessage {
		t.Errorf("the texts have %d bytes", n)
	}
}
