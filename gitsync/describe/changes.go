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
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// Change is one field, or one element of a list, that is not as it was.
type Change struct {
	// Field such as spec.ports[http].port or spec.ports[http]; empty for a whole
	// document.
	Field string
	// Before and After are the values: scalars and lists of scalars as text,
	// everything else as JSON, sealed data as nothing. Empty means absent.
	Before, After string
	// Text says it in words: "port http: 80 → 8080".
	Text string

	renamed string // the port that only has another name
}

// Changes lists what is different between two versions of a document: its ports
// first, labels and annotations last, each in order of fields. Either may be nil.
func Changes(before, after repo.Object) []Change {
	switch {
	case before == nil && after == nil:
		return nil
	case before == nil:
		return []Change{{Text: "created"}}
	case after == nil:
		return []Change{{Text: "deleted"}}
	}
	names, renamed := labels(before, after)
	d := differ{before: flatten(called(before, names)), after: flatten(after)}
	d.renames(renamed)
	d.elements()
	for _, field := range d.fields() {
		if !d.told(field) {
			d.field(field)
		}
	}
	slices.SortStableFunc(d.out, func(a, b Change) int { return strings.Compare(rank(a.Field), rank(b.Field)) })
	return d.out
}

// rank puts what clients notice first, and what is written on a document last.
func rank(field string) string {
	switch {
	case strings.HasPrefix(field, "spec.ports"):
		return "0" + field
	case strings.HasPrefix(field, "metadata"):
		return "2" + field
	}
	return "1" + field
}

// flat is a document without its nesting.
type flat struct {
	kind     string
	leaves   map[string]any            // by field
	elements map[string]map[string]any // of keyed lists, by field: spec.ports[http]
}

// flatten enters maps and keyed lists; other lists are leaves.
func flatten(object repo.Object) flat {
	out := flat{leaves: map[string]any{}, elements: map[string]map[string]any{}}
	doc, err := repo.Document(object)
	if err != nil { // no document of ours: it has nothing to tell
		return out
	}
	out.kind, _ = doc["kind"].(string)
	keys := v1alpha1.MergeKeys(out.kind)
	var walk func(schema, field string, v any)
	walk = func(schema, field string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				walk(join(schema, key), label(field, key), value)
			}
			return
		case []any:
			keyed := keys[schema]
			if strings.HasSuffix(schema, ".addresses") && !plain(v) {
				keyed = []string{"ip", "hostname"} // whichever it has
			}
			if keyed != nil {
				for _, e := range v {
					element, _ := e.(map[string]any)
					at := field + "[" + elementKey(element, keyed) + "]"
					out.elements[at] = element
					walk(schema, at, element)
				}
				return
			}
		}
		out.leaves[field] = v
	}
	walk("", "", doc)
	return out
}

// elementKey is the name of an element in its list; an unnamed one is called
// default.
func elementKey(element map[string]any, keyed []string) string {
	var parts []string
	for _, key := range keyed {
		if value := element[key]; value != nil {
			parts = append(parts, fmt.Sprint(value))
		}
	}
	return cmp.Or(strings.Join(parts, "/"), "default")
}

func label(at, key string) string {
	if strings.ContainsAny(key, "./") {
		return at + "[" + key + "]"
	}
	return join(at, key)
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

type differ struct {
	before, after flat
	whole         []string // elements that came, went or were told as one
	out           []Change
}

func (d *differ) tell(c Change) { d.out = append(d.out, c) }

func (d *differ) told(field string) bool {
	return slices.ContainsFunc(d.whole, func(element string) bool { return strings.HasPrefix(field, element+".") })
}

func (d *differ) fields() []string {
	all := maps.Clone(d.before.leaves)
	maps.Copy(all, d.after.leaves)
	return slices.Sorted(maps.Keys(all))
}

// renames tells of ports that only have another name, which before has already.
func (d *differ) renames(renamed []rename) {
	for _, r := range renamed {
		at := "spec.ports[" + r.to + "]"
		number := port(d.after.elements[at], nil)
		d.tell(Change{Field: at, Before: r.from, After: r.to, Text: fmt.Sprintf("port %s renamed from %s to %s", number, r.from, r.to), renamed: number})
	}
}

// elements tells of elements that came and went, and of ports whose number or
// protocol changed.
func (d *differ) elements() {
	for _, at := range slices.Sorted(maps.Keys(d.after.elements)) {
		now := d.after.elements[at]
		was, had := d.before.elements[at]
		switch {
		case !had && !d.told(at):
			d.whole = append(d.whole, at)
			d.tell(Change{Field: at, After: text(now), Text: noun(at, now) + " added"})
		case had && isPort(now) && port(was, now) != port(now, was):
			d.whole = append(d.whole, at)
			d.tell(Change{Field: at, Before: port(was, now), After: port(now, was), Text: fmt.Sprintf("port %s: %s → %s", nameOf(at), port(was, now), port(now, was))})
		}
	}
	for _, at := range slices.Sorted(maps.Keys(d.before.elements)) {
		was := d.before.elements[at]
		if _, has := d.after.elements[at]; has || d.told(at) {
			continue
		}
		d.whole = append(d.whole, at)
		d.tell(Change{Field: at, Before: text(was), Text: noun(at, was) + " removed"})
	}
}

func isPort(element map[string]any) bool { return element["port"] != nil }

// port writes a port as 443 or 53/UDP, and as 443/TCP beside one of another
// protocol.
func port(element, beside map[string]any) string {
	is := protocol(element["protocol"])
	if is == "TCP" && (beside == nil || protocol(beside["protocol"]) == is) {
		return fmt.Sprint(element["port"])
	}
	return fmt.Sprintf("%v/%s", element["port"], is)
}

func protocol(p any) string {
	if s := fmt.Sprint(p); p != nil && s != "" {
		return s
	}
	return "TCP"
}

func nameOf(at string) string {
	return strings.TrimSuffix(at[strings.LastIndexByte(at, '[')+1:], "]")
}

func noun(at string, element map[string]any) string {
	switch {
	case isPort(element):
		return "port " + port(element, nil)
	case strings.HasPrefix(at, "spec.addresses["):
		return "node " + nameOf(at)
	case strings.Contains(at, ".addresses["):
		return "endpoint " + nameOf(at)
	}
	return short(at)
}

// field tells of one leaf.
func (d *differ) field(field string) {
	was, now := text(d.before.leaves[field]), text(d.after.leaves[field])
	absent := implied(d.after.kind, field)
	was, now = cmp.Or(was, absent), cmp.Or(now, absent)
	if was == now {
		return
	}
	c := Change{Field: field, Before: was, After: now}
	name := short(field)
	switch simple := plain(d.before.leaves[field]) && plain(d.after.leaves[field]); {
	case field == "sealed":
		c.Before, c.After, c.Text = "", "", "sealed again"
	case now == "":
		c.Text = name + " removed"
	case !simple || len(was)+len(now) > maxSubject/2 || !harmlessWord(was) || !harmlessWord(now):
		c.Text = name + " changed"
	case was == "":
		c.Text = name + " set to " + now
	default:
		c.Text = name + " " + was + " → " + now
	}
	d.tell(c)
}

// implied returns what a field means where it is absent.
func implied(kind, field string) string {
	return v1alpha1.Defaults(kind)[elementOf.ReplaceAllString(field, "")]
}

var elementOf = regexp.MustCompile(`\[[^]]*\]`)

// short is how a field is called in a sentence.
func short(field string) string {
	for prefix, noun := range map[string]string{"metadata.labels": "label ", "metadata.annotations": "annotation "} {
		if key, ok := strings.CutPrefix(field, prefix); ok {
			return noun + strings.Trim(key, ".[]")
		}
	}
	if element, rest, ok := strings.Cut(field, "]."); ok && strings.Contains(element, "ports[") {
		return "port " + nameOf(element) + ": " + rest
	}
	for _, prefix := range []string{"spec.source.kubernetes.resource.spec.", "spec.source.kubernetes.resource.", "spec.source.kubernetes.", "spec."} {
		if rest, ok := strings.CutPrefix(field, prefix); ok {
			return rest
		}
	}
	return field
}

// plain reports whether a value can stand in a sentence.
func plain(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return false
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { _, nested := e.(map[string]any); return nested })
	}
	return true
}

// text writes a value: scalars as they are, lists of them with commas, the rest
// as JSON.
func text(v any) string {
	switch list, ok := v.([]any); {
	case v == nil:
		return ""
	case ok && plain(v):
		parts := make([]string, len(list))
		for n, e := range list {
			parts[n] = fmt.Sprint(e)
		}
		return strings.Join(parts, ", ")
	case plain(v):
		return fmt.Sprint(v)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
