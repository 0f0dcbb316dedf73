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
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// How much is written in full. The JSON form of a Summary has everything.
const (
	maxText     = 500       // objects in Text
	maxMarkdown = 50        // objects in Markdown
	maxBytes    = 60_000    // of Markdown: forges take 65,536 characters
	maxRows     = 60        // of an object
	maxValues   = 8         // of a row's side
	maxValue    = 160       // runes of a value
	maxListed   = 50        // problems, warnings, files
	absent      = "–"       // stands for nothing
	arrow       = " → "     // between before and after
	indent      = "       " // of what follows a problem
)

// Title says the change in one line, fit for the subject of a commit or a pull
// request: nothing in it is more than words to a forge. It speaks of facts only
// where nothing else changes.
func (s Summary) Title() string {
	if s.Empty() {
		return "no change"
	}
	tenants := s.wishes()
	if len(tenants) == 0 {
		tenants = s.Tenants
	}
	n := Summary{Tenants: tenants}.Objects()
	var names []string
	switch {
	case n == 0:
		return fit(list("repository", fileTexts(s.Files)))
	case n == 1:
		return fit(tenants[0].Name + ": " + tenants[0].Objects[0].subject)
	case len(tenants) == 1:
		for _, o := range tenants[0].Objects {
			names = append(names, o.Source+" "+string(o.Action))
		}
		return fit(list(fmt.Sprintf("%s: %d changes", tenants[0].Name, n), names))
	}
	for _, t := range tenants {
		names = append(names, t.Name)
	}
	return fit(list(fmt.Sprintf("%d changes in %d tenants", n, len(names)), names))
}

// Wishes returns the summary without facts and files outside the folders of
// tenants.
func (s Summary) Wishes() Summary {
	return Summary{Tenants: s.wishes(), Problems: s.Problems, Warnings: s.Warnings}
}

// wishes returns the tenants that a wish changes for, without their facts.
func (s Summary) wishes() (out []Tenant) {
	for _, t := range s.Tenants {
		objects := slices.DeleteFunc(slices.Clone(t.Objects), func(o Object) bool { return o.Fact })
		if len(objects) > 0 {
			out = append(out, Tenant{t.Name, objects})
		}
	}
	return out
}

func fileTexts(files []File) (out []string) {
	for _, f := range files {
		out = append(out, f.Path+" "+string(f.Action))
	}
	return out
}

// counts says how many of which action there are: "2 created, 1 deleted".
func counts(objects []Object) string {
	var parts []string
	for _, action := range []Action{Created, Changed, Repaired, Deleted, Broken} {
		n := 0
		for _, o := range objects {
			if o.Action == action {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	return strings.Join(parts, ", ")
}

// Text writes the summary for a terminal.
func (s Summary) Text() string {
	var b strings.Builder
	if s.Empty() {
		b.WriteString("no change\n")
	}
	shown := 0
	for _, t := range s.Tenants {
		fmt.Fprintf(&b, "%s: %s\n", Visible(t.Name), counts(t.Objects))
		full := t.Objects[:min(len(t.Objects), maxText-shown)]
		shown += len(full)
		for _, o := range full {
			o.text(&b)
		}
		if rest := t.Objects[len(full):]; len(rest) > 0 {
			fmt.Fprintf(&b, "  and %d more: %s\n", len(rest), counts(rest))
		}
	}
	if len(s.Files) > 0 {
		b.WriteString("other files:\n")
	}
	for _, f := range s.Files[:min(len(s.Files), maxListed)] {
		fmt.Fprintf(&b, "  %s %s\n", Visible(f.Path), f.Action)
	}
	more(&b, "  ", len(s.Files))
	problemText(&b, "problems: these are not applied, their last good version stays", s.Problems)
	problemText(&b, "warnings: these will not serve", s.Warnings)
	return b.String()
}

func (o Object) text(b *strings.Builder) {
	fmt.Fprintf(b, "  %s %s", Visible(o.Source), o.Action)
	if len(o.Addresses) > 0 {
		fmt.Fprintf(b, " (%s)", Visible(strings.Join(o.Addresses, ", ")))
	}
	b.WriteString("\n")
	rows := o.Rows[:min(len(o.Rows), maxRows)]
	width := 0
	for _, r := range rows {
		width = max(width, utf8.RuneCountInString(Visible(r.label())))
	}
	for _, r := range rows {
		before, after := r.sides()
		label := Visible(r.label())
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(label))
		fmt.Fprintf(b, "    %s%s  %s%s%s\n", label, pad, Visible(before.join()), arrow, Visible(after.join()))
	}
	if rest := len(o.Rows) - len(rows); rest > 0 {
		fmt.Fprintf(b, "    and %d more\n", rest)
	}
}

func problemText(b *strings.Builder, title string, problems []v1alpha1.Problem) {
	if len(problems) > 0 {
		fmt.Fprintf(b, "%s\n", title)
	}
	for _, p := range problems[:min(len(problems), maxListed)] {
		fmt.Fprintf(b, "  %s", Visible(p.Path))
		if p.Field != "" {
			fmt.Fprintf(b, " %s", Visible(p.Field))
		}
		fmt.Fprintf(b, ": %s\n", Visible(p.Message))
		if p.Remedy != "" {
			fmt.Fprintf(b, "%s%s\n", indent, Visible(p.Remedy))
		}
	}
	more(b, "  ", len(problems))
}

func more(b *strings.Builder, indent string, n int) {
	if n > maxListed {
		fmt.Fprintf(b, "%sand %d more\n", indent, n-maxListed)
	}
}

// label is what a row is called: the name alone for fields, which speak for
// themselves.
func (r Row) label() string {
	if r.What == RowField {
		return r.Name
	}
	return strings.TrimSpace(string(r.What) + " " + r.Name)
}

// cell is one side of a row, as much of it as is shown.
type cell struct {
	values []string
	more   int
}

func (c cell) join() string {
	if len(c.values) == 0 {
		return absent
	}
	text := strings.Join(c.values, ", ")
	if c.more > 0 {
		text += fmt.Sprintf(" and %d more", c.more)
	}
	return text
}

// sides returns what is shown of a row: where values are many, first those that
// only one side has; where they are long, from where they begin to differ.
func (r Row) sides() (before, after cell) {
	if len(r.Before) == 1 && len(r.After) == 1 {
		was, now := window(r.Before[0], r.After[0])
		return cell{values: []string{was}}, cell{values: []string{now}}
	}
	return oneSide(r.Before, r.After), oneSide(r.After, r.Before)
}

func oneSide(values, other []string) cell {
	if len(values) > maxValues && len(other) > 0 {
		has := map[string]bool{}
		for _, v := range other {
			has[v] = true
		}
		values = slices.Clone(values)
		slices.SortStableFunc(values, func(a, b string) int { return number(has[a]) - number(has[b]) })
	}
	var c cell
	for _, v := range values[:min(len(values), maxValues)] {
		c.values = append(c.values, cut(v))
	}
	c.more = len(values) - len(c.values)
	return c
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// window cuts two long values so that what is different shows.
func window(was, now string) (string, string) {
	if utf8.RuneCountInString(was) <= maxValue && utf8.RuneCountInString(now) <= maxValue {
		return was, now
	}
	a, b := []rune(was), []rune(now)
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	const before = 20
	if same <= before {
		return cut(was), cut(now)
	}
	return cut("…" + string(a[same-before:])), cut("…" + string(b[same-before:]))
}

func cut(value string) string {
	runes := []rune(value)
	if len(runes) <= maxValue {
		return value
	}
	return string(runes[:maxValue-1]) + "…"
}

// Visible shows what would not show, or would do something to a terminal:
// control characters and those that change the direction of writing. Nothing is
// cut.
func Visible(text string) string {
	const longest = 10 // of what stands for one byte or rune
	return v1alpha1.Printable(text, longest*len(text)+longest)
}
