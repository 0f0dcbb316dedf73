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
	"strings"

	"github.com/kubelb/gitops/api/repo"
)

// Trailer is one "Key: value" line at the end of a commit message.
type Trailer struct{ Key, Value string }

// Trailers are in the order of the message.
type Trailers []Trailer

// Get returns the value of the last trailer of that key, in any case of
// letters, or "".
func (t Trailers) Get(key string) string {
	for i := len(t) - 1; i >= 0; i-- {
		if strings.EqualFold(t[i].Key, key) {
			return t[i].Value
		}
	}
	return ""
}

// Number returns the number that the last trailer of that key says, 0 where it is
// none that [repo.CheckTrailer] lets pass. Nothing else reads numbers of our
// trailers, so the hub and CCMs agree on each. What it says counts only if the
// commit verifies.
func (t Trailers) Number(key string) int64 { return repo.TrailerNumber(key, t.Get(key)) }

// splitMessage cuts a message into its subject (the first paragraph, on one
// line), its body and its trailers: the last paragraph, if it is not the
// first, and if all its lines are trailers, or if Git wrote one of them and at
// least a quarter are.
func splitMessage(message string) (subject, body string, trailers Trailers) {
	message = strings.TrimSpace(message)
	var paragraphs []string
	for _, p := range strings.Split(joinBlank(message), "\n\n") {
		if p = strings.Trim(p, "\n"); p != "" {
			paragraphs = append(paragraphs, p)
		}
	}
	if len(paragraphs) == 0 {
		return "", "", nil
	}
	subject = strings.Join(strings.Fields(paragraphs[0]), " ")
	rest := paragraphs[1:]
	if n := len(rest); n > 0 {
		if trailers = parseTrailers(rest[n-1]); len(trailers) > 0 {
			rest = rest[:n-1]
		}
	}
	return subject, strings.Join(rest, "\n\n"), trailers
}

// joinBlank empties lines of white space, so that they separate paragraphs.
func joinBlank(message string) string {
	lines := strings.Split(strings.ReplaceAll(message, "\r\n", "\n"), "\n")
	for i, l := range lines {
		if strings.TrimSpace(l) == "" {
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

func parseTrailers(paragraph string) Trailers {
	var found Trailers
	var byGit, others int
	continues := false // the line before can be continued
	for _, line := range strings.Split(paragraph, "\n") {
		key, value, ok := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			if !continues {
				others++
				continue
			}
			last := &found[len(found)-1]
			last.Value = strings.TrimSpace(last.Value + " " + strings.TrimSpace(line))
		case strings.HasPrefix(line, "(cherry picked from commit "):
			byGit++
			continues = false
		case ok && isTrailerKey(strings.TrimRight(key, " \t")):
			key = strings.TrimRight(key, " \t")
			found = append(found, Trailer{Key: key, Value: strings.TrimSpace(value)})
			if key == "Signed-off-by" {
				byGit++
			}
			continues = true
		default:
			others++
			continues = false
		}
	}
	if others > 0 && (byGit == 0 || len(found)*3 < others) {
		return nil
	}
	return found
}

func isTrailerKey(key string) bool {
	odd := strings.IndexFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
	return key != "" && odd < 0
}

// joinMessage writes a message that splitMessage takes apart again.
func joinMessage(message string, trailers Trailers) (string, error) {
	message = strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(message, "?"), "\x00", ""))
	if message == "" {
		return "", fmt.Errorf("%w: commit message is empty", ErrMalformed)
	}
	var b strings.Builder
	b.WriteString(message)
	b.WriteString("\n")
	for i, t := range trailers {
		if !isTrailerKey(t.Key) || strings.ContainsAny(t.Value, "\r\n\x00") {
			return "", fmt.Errorf("%w: trailer %q", ErrMalformed, t.Key+": "+t.Value)
		}
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s: %s\n", t.Key, strings.TrimSpace(t.Value))
	}
	return b.String(), nil
}
