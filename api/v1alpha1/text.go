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
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The longest texts of a Problem that reach a status, in bytes. A longer text is
// cut; it ends in "...".
const (
	// MaxMessage bounds Problem.message and Problem.remedy.
	MaxMessage = 1024
	// MaxObject bounds Problem.object and Problem.field.
	MaxObject = 512
	// MaxFileProblems is how many problems of one file or object are told; the last
	// one counts the rest.
	MaxFileProblems = 16
	// MaxName bounds the name of a person, such as a commit's author.
	MaxName = 256
)

// Printable returns text that neither a terminal nor a log line nor a parser of
// lines takes for anything but text. A rune that is not printable (control
// characters, line and paragraph separators, marks that change the direction of
// writing) becomes \u and four hexadecimal digits, or \U and eight; a byte that
// is not UTF-8 becomes \x and two. A result of more than limit bytes is cut
// between two runes and ends in "..."; limit must be at least 3.
func Printable(text string, limit int) string {
	if len(text) <= limit && utf8.ValidString(text) && strings.IndexFunc(text, notPrintable) < 0 {
		return text
	}
	var b strings.Builder
	cut := 0 // the longest prefix that leaves room for "..."
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		var piece string
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, text[i])
		case !notPrintable(r):
			piece = text[i : i+size]
		case r > 0xffff:
			piece = fmt.Sprintf(`\U%08x`, r)
		default:
			piece = fmt.Sprintf(`\u%04x`, r)
		}
		if b.Len()+len(piece) > limit {
			return b.String()[:cut] + "..."
		}
		b.WriteString(piece)
		if b.Len() <= limit-3 {
			cut = b.Len()
		}
		i += size
	}
	return b.String()
}

func notPrintable(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }

// Bounded returns the problem with every text printable and no longer than a
// status takes: see MaxMessage and MaxObject.
func (p Problem) Bounded() Problem {
	p.Path = Printable(p.Path, MaxObject)
	p.Object = Printable(p.Object, MaxObject)
	p.Field = Printable(p.Field, MaxObject)
	p.Message = Printable(p.Message, MaxMessage)
	p.Remedy = Printable(p.Remedy, MaxMessage)
	return p
}

// FileProblems returns the problems of one file or object as they are told: each
// bounded, and no more than MaxFileProblems, of which the last one says how many
// there are besides. more is the number of those that are not among the problems.
func FileProblems(problems []Problem, more int) []Problem {
	if len(problems) > MaxFileProblems || more > 0 && len(problems) == MaxFileProblems {
		more += len(problems) - (MaxFileProblems - 1)
		problems = problems[:MaxFileProblems-1]
	}
	var out []Problem
	for _, p := range problems {
		out = append(out, p.Bounded())
	}
	if more > 0 {
		rest := Problem{Reason: ReasonInvalid, Message: fmt.Sprintf("%d more mistakes are not listed", more), Remedy: "correct those that are listed first"}
		if n := len(out); n > 0 {
			rest.Path, rest.Object = out[n-1].Path, out[n-1].Object
		}
		out = append(out, rest)
	}
	return out
}

// maxListedBytes bounds the texts of all problems in one status: it is a file of
// a status branch, and files have a limit.
const maxListedBytes = 64 << 10

// FirstProblems returns as many of the problems as a status lists: at most
// MaxListed, of at most 64 KiB of text together. The status counts them all.
func FirstProblems(all []Problem) []Problem {
	var out []Problem
	size := 0
	for _, p := range all {
		p = p.Bounded()
		size += len(p.Path) + len(p.Object) + len(p.Field) + len(p.Reason) + len(p.Message) + len(p.Remedy)
		if len(out) == MaxListed || size > maxListedBytes {
			break
		}
		out = append(out, p)
	}
	return out
}
