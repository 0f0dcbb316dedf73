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

package integrate

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
)

// The lists whose elements belong together: a port of a group of endpoints is for
// the port of the load balancer that has its name.
const (
	portsPath      = "spec.ports"
	groupPortsPath = "spec.endpoints.ports"
)

// align returns versions of one document in which an element of a keyed list has
// the same key in all versions that have it, whatever it is called in each:
//
//   - a port of spec.ports is told by its number and protocol, else by its name
//     ([v1alpha1.PairPorts]);
//   - a port of a group of endpoints is the one that is for the same port of
//     spec.ports, else it is told as above;
//   - any other element is told by its name, else, of what is left, by being the
//     same in all but the name.
//
// So a rename changes a name. It is neither a removal, which would take along what
// people changed of the element, nor an addition, which would undo it. Elements of
// the first version are matched before those that only later ones have.
//
// The keys mean something only among the returned documents: [schema.canonical]
// gives a document those of [schema.fold] again.
func (s *schema) align(docs ...any) []any {
	a := alignment{schema: s, meant: make([]map[any]int, len(docs))}
	ports := make([]any, len(docs))
	for n, doc := range docs {
		document, _ := doc.(fields)
		spec, _ := document["spec"].(fields)
		ports[n] = spec["ports"]
		a.meant[n] = map[any]int{}
	}
	for id, row := range a.rows(portsPath, ports) {
		for n, element := range row {
			if element, ok := element.(fields); ok {
				a.meant[n][element["name"]] = id
			}
		}
	}
	return a.walk("", docs)
}

// canonical gives an aligned document the keys that [schema.fold] gives.
func (s *schema) canonical(at string, v any) any {
	out := map[string]any{}
	switch v := v.(type) {
	case fields:
		for key, value := range v {
			out[key] = s.canonical(join(at, key), value)
		}
		return fields(out)
	case items:
		for _, value := range v {
			element, _ := s.canonical(at, value).(fields)
			out[s.elementKey(at, element)] = element
		}
		return items(out)
	}
	return v
}

// isPorts reports whether a list has ports: elements with a protocol.
func (s *schema) isPorts(at string) bool {
	_, protocol := s.defaults[join(at, "protocol")]
	return protocol && s.keys[at] != nil
}

type alignment struct {
	schema *schema
	// meant is, by version, which port of spec.ports a name means.
	meant []map[any]int
}

// walk aligns what is at a path. Where a version has a leaf all are returned as
// they are: they are compared as one value.
func (a alignment) walk(at string, versions []any) []any {
	within, list := make([]map[string]any, len(versions)), false
	for n, v := range versions {
		of, isList := children(v)
		if v != nil && of == nil {
			return versions
		}
		within[n], list = of, list || isList
	}
	out := make([]map[string]any, len(versions))
	put := func(key string, values []any) {
		for n, value := range values {
			if value != nil {
				if out[n] == nil {
					out[n] = map[string]any{}
				}
				out[n][key] = value
			}
		}
	}
	if list {
		for id, row := range a.rows(at, versions) {
			put(fmt.Sprintf("%06d", id), a.walk(at, row))
		}
	} else {
		for _, key := range keys(within...) {
			values := make([]any, len(versions))
			for n, of := range within {
				values[n] = of[key]
			}
			put(key, a.walk(join(at, key), values))
		}
	}
	aligned := make([]any, len(versions))
	for n, of := range out {
		aligned[n] = node(of, list)
	}
	return aligned
}

// rows returns the elements of a keyed list: in each row one element as every
// version has it, nil where it is absent.
func (a alignment) rows(at string, versions []any) (rows [][]any) {
	for version, list := range versions {
		of, _ := children(list)
		var left []any
		for _, key := range keys(of) {
			left = append(left, of[key])
		}
		for earlier := range version {
			left = a.join(at, rows, left, version, earlier)
		}
		for _, element := range left {
			row := make([]any, len(versions))
			row[version] = element
			rows = append(rows, row)
		}
	}
	return rows
}

// join adds elements of a version to the rows that begin with an earlier one, and
// returns those that belong to none of them.
func (a alignment) join(at string, rows [][]any, elements []any, version, earlier int) (left []any) {
	var known []any
	var open [][]any
	for _, row := range rows {
		if first := slices.IndexFunc(row, func(e any) bool { return e != nil }); first == earlier && row[version] == nil {
			known, open = append(known, row[earlier]), append(open, row)
		}
	}
	p := pairing{from: elements, to: known, of: make([]int, len(elements)), taken: make([]bool, len(known))}
	for n := range p.of {
		p.of[n] = -1
	}
	switch {
	case !a.schema.isPorts(at):
		p.by(func(e fields, _ bool) any { return nameIn(e, a.schema.keys[at]) })
		p.by(func(e fields, _ bool) any { return fmt.Sprint(without(e, a.schema.keys[at])) })
	case at == groupPortsPath:
		p.by(func(e fields, to bool) any {
			of := a.meant[version]
			if to {
				of = a.meant[earlier]
			}
			if id, ok := of[e["name"]]; ok {
				return id
			}
			return nil
		})
		p.ports()
	default:
		p.ports()
	}
	for n, match := range p.of {
		if match < 0 {
			left = append(left, elements[n])
		} else {
			open[match][version] = elements[n]
		}
	}
	return left
}

// pairing is which element of one version is which of another; -1 is none.
type pairing struct {
	from, to []any
	of       []int
	taken    []bool
}

// by pairs those of what is left that have the same key. No key is nil.
func (p *pairing) by(key func(e fields, to bool) any) {
	left := map[any]int{}
	for n := len(p.to) - 1; n >= 0; n-- {
		element, _ := p.to[n].(fields)
		if k := key(element, true); k != nil && !p.taken[n] {
			left[k] = n
		}
	}
	for n := range p.from {
		element, _ := p.from[n].(fields)
		if k := key(element, false); k != nil && p.of[n] < 0 {
			if match, ok := left[k]; ok && !p.taken[match] {
				p.of[n], p.taken[match] = match, true
			}
		}
	}
}

// ports pairs what is left as [v1alpha1.PairPorts] says.
func (p *pairing) ports() {
	var from, to []v1alpha1.Port
	var ofFrom, ofTo []int
	for n, element := range p.from {
		if p.of[n] < 0 {
			from, ofFrom = append(from, portOf(element)), append(ofFrom, n)
		}
	}
	for n, element := range p.to {
		if !p.taken[n] {
			to, ofTo = append(to, portOf(element)), append(ofTo, n)
		}
	}
	for n, match := range v1alpha1.PairPorts(from, to) {
		if match >= 0 {
			p.of[ofFrom[n]], p.taken[ofTo[match]] = ofTo[match], true
		}
	}
}

// portOf reads a port. A number that is not decided is 0.
func portOf(element any) v1alpha1.Port {
	e, _ := element.(fields)
	number, _ := strconv.ParseInt(fmt.Sprint(e["port"]), 10, 32)
	protocol, _ := e["protocol"].(string)
	name, _ := e["name"].(string)
	return v1alpha1.Port{PortID: v1alpha1.NewPortID(int32(number), corev1.Protocol(protocol)), Name: name}
}

// nameIn is what an element is called: the values of its list's keys.
func nameIn(e fields, keyed []string) string {
	name := ""
	for n, key := range keyed {
		if n > 0 {
			name += "/"
		}
		name += fmt.Sprint(e[key])
	}
	return name
}

// without is an element without some of its fields.
func without(e fields, keyed []string) fields {
	out := fields{}
	for key, value := range e {
		if !slices.Contains(keyed, key) {
			out[key] = value
		}
	}
	return out
}
