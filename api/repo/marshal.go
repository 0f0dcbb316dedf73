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
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v2"
)

// Marshal writes a document that is made of maps, lists and scalars, such as
// [Document] returns, as [Encode] would. Unlike sigs.k8s.io/yaml it does not go
// through JSON text, which YAML refuses to read where it holds control
// characters.
func Marshal(document map[string]any) ([]byte, error) {
	plain, err := plainNumbers(document)
	if err != nil {
		return nil, err
	}
	return yaml.Marshal(plain)
}

// encodeFile writes a struct as [Marshal] writes a document.
func encodeFile(value any) ([]byte, error) {
	m, err := toMap(value)
	if err != nil {
		return nil, err
	}
	return Marshal(m)
}

// plainNumbers returns a copy with numbers that the YAML library knows.
func plainNumbers(value any) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, child := range v {
			plain, err := plainNumbers(child)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			out[key] = plain
		}
		return out, nil
	case []any:
		out := make([]any, 0, len(v))
		for i, child := range v {
			plain, err := plainNumbers(child)
			if err != nil {
				return nil, fmt.Errorf("%d: %w", i, err)
			}
			out = append(out, plain)
		}
		return out, nil
	case json.Number:
		var number any
		err := yaml.Unmarshal([]byte(v), &number)
		return number, err
	}
	return value, nil
}
