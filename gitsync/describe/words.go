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

package describe

import (
	"regexp"
	"strings"
)

// Forges read commit subjects and titles: "Fixes #1" closes an issue, "@team"
// calls people. What tenants wrote stands in one only as far as it cannot mean
// such a thing.

// word is a value that can stand in a sentence: no blanks, no signs of a
// reference or markup, no address of a page.
var word = regexp.MustCompile(`^[A-Za-z0-9*]([A-Za-z0-9._:/=+*-]|, )*$`)

var reference = regexp.MustCompile(`(?i)\bgh-[0-9]|://|www\.`)

func harmlessWord(value string) bool {
	return value == "" || word.MatchString(value) && !reference.MatchString(value)
}

// plainWords replaces what must not stand in a subject.
func plainWords(text string) string {
	text = reference.ReplaceAllStringFunc(text, func(m string) string { return strings.Repeat("?", len(m)) })
	return strings.Map(func(r rune) rune {
		if alphanumeric(r) || strings.ContainsRune(" ._:/[]()+-,*=–…→", r) {
			return r
		}
		return '?'
	}, text)
}
