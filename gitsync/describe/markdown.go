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
	"fmt"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// Markdown writes the summary for a pull request on GitHub, GitLab or Gitea. What
// tenants wrote stands in code, where a forge sees no markup, mention or
// reference; nothing that they write ends it.
func (s Summary) Markdown() string {
	b := &page{}
	if s.Empty() {
		b.add("No change.\n")
	}
	left := maxMarkdown
	for _, t := range s.Tenants {
		left = b.tenant(t, left)
	}
	if len(s.Files) > 0 {
		var items []string
		for _, f := range s.Files {
			items = append(items, fmt.Sprintf("- %s %s\n", code(f.Path), f.Action))
		}
		b.items("\n**Other files**\n\n", items)
	}
	b.problems("**Problems**: these are not applied, their last good version stays.", s.Problems)
	b.problems("**Warnings**: these will not serve.", s.Warnings)
	return b.String()
}

// page is Markdown of bounded size.
type page struct{ strings.Builder }

// reserve is kept for the sentences that say how much is left out.
const reserve = 4_000

// add writes a piece if there is room for it.
func (b *page) add(piece string) bool {
	if b.Len()+len(piece) > maxBytes-reserve {
		return false
	}
	b.WriteString(piece)
	return true
}

// close writes a short piece into the reserve, as long as that lasts.
func (b *page) close(piece string) {
	if b.Len()+len(piece) <= maxBytes {
		b.WriteString(piece)
	}
}

// tenant writes the objects of a tenant, at most left of them in full, and
// returns how many more may be.
func (b *page) tenant(t Tenant, left int) int {
	b.add(fmt.Sprintf("\n### %s\n\n%s\n", code(t.Name), counts(t.Objects)))
	for n, o := range t.Objects {
		if left == 0 || !b.add(o.markdown()) {
			rest := t.Objects[n:]
			b.close(fmt.Sprintf("\nand %d more: %s\n", len(rest), counts(rest)))
			return left
		}
		left--
	}
	return left
}

func (o Object) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n#### %s %s", code(o.Source), o.Action)
	for n, a := range o.Addresses {
		b.WriteString([]string{" at ", ", "}[min(n, 1)] + code(a))
	}
	b.WriteString("\n")
	if len(o.Rows) > 0 {
		b.WriteString("\n| | before | after |\n|---|---|---|\n")
	}
	rows := o.Rows[:min(len(o.Rows), maxRows)]
	for _, r := range rows {
		before, after := r.sides()
		name := string(r.What)
		if r.What == RowField {
			name = code(cut(r.Name))
		} else if r.Name != "" {
			name += " " + code(cut(r.Name))
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, before.markdown(), after.markdown())
	}
	if rest := len(o.Rows) - len(rows); rest > 0 {
		fmt.Fprintf(&b, "\nand %d more rows\n", rest)
	}
	return b.String()
}

func (c cell) markdown() string {
	if len(c.values) == 0 {
		return absent
	}
	parts := make([]string, len(c.values))
	for n, v := range c.values {
		parts[n] = code(v)
	}
	text := strings.Join(parts, ", ")
	if c.more > 0 {
		text += fmt.Sprintf(" and %d more", c.more)
	}
	return text
}

func (b *page) problems(title string, problems []v1alpha1.Problem) {
	if len(problems) == 0 {
		return
	}
	var items []string
	for _, p := range problems {
		item := "- " + code(cut(p.Path))
		if p.Field != "" {
			item += " " + code(cut(p.Field))
		}
		item += ": " + code(cut(p.Message))
		if p.Remedy != "" {
			item += "; remedy: " + code(cut(p.Remedy))
		}
		items = append(items, item+"\n")
	}
	b.items("\n"+title+"\n\n", items)
}

func (b *page) items(title string, items []string) {
	b.add(title)
	for n, item := range items {
		if n == maxListed || !b.add(item) {
			b.close(fmt.Sprintf("- and %d more\n", len(items)-n))
			return
		}
	}
}

// code writes text as code that stays code, in a table too. Where it holds
// nothing but harmless characters it is a code span; else an element in which
// everything else is a character reference, which Markdown never takes for
// markup.
func code(text string) string {
	text = Visible(text)
	if text == "" {
		return absent
	}
	if strings.TrimSpace(text) == text && strings.IndexFunc(text, func(r rune) bool { return !harmless(r) }) < 0 {
		return "`" + text + "`"
	}
	var b strings.Builder
	b.WriteString("<code>")
	for _, r := range text {
		if alphanumeric(r) || r == ' ' {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "&#%d;", r)
	}
	b.WriteString("</code>")
	return b.String()
}

// harmless characters neither end a code span or a cell nor mean anything in
// one.
func harmless(r rune) bool {
	return alphanumeric(r) || r > 127 || strings.ContainsRune(" .,:;/_-+=()[]{}%?!@#'\"*~^$", r)
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
