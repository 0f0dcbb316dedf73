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

package repo

import (
	"fmt"
	"slices"
	"strings"
)

// normalizer gives what means the same the same form.
type normalizer struct {
	defaults map[string]string
	keys     map[string][]string
}

// fields drops what only says what its absence says as well.
func (n normalizer) fields(at string, m map[string]any) {
	for key, value := range m {
		path := join(at, key)
		switch v := value.(type) {
		case map[string]any:
			n.fields(path, v)
		case []any:
			if keys := n.keys[path]; keys != nil {
				n.list(path, v, keys)
			}
		default:
			if fallback, ok := n.defaults[path]; ok && v == fallback && !n.shown(at, key) {
				delete(m, key)
			}
		}
	}
}

// list sorts a keyed list and writes those defaults of its elements that a
// reader would miss.
func (n normalizer) list(at string, list []any, keys []string) {
	for _, element := range list {
		m, ok := element.(map[string]any)
		if !ok {
			continue
		}
		n.fields(at, m)
		for path, fallback := range n.defaults {
			key, ok := strings.CutPrefix(path, at+".")
			if ok && m[key] == nil && n.shown(at, key) {
				m[key] = fallback
			}
		}
	}
	order := func(element any) string {
		m, _ := element.(map[string]any)
		var parts []string
		for _, key := range keys {
			parts = append(parts, fmt.Sprint(m[key]))
		}
		return strings.Join(parts, "/")
	}
	slices.SortStableFunc(list, func(x, y any) int { return strings.Compare(order(x), order(y)) })
}

// shown reports whether a field is written although it is a default.
func (n normalizer) shown(at, key string) bool {
	return key == "protocol" || slices.Contains(n.keys[at], key)
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}
