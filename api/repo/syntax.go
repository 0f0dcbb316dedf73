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
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkSyntax refuses what strict conversion alone would let through: more than
// one document, aliases and anchors, no document at all.
func checkSyntax(data []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the file is empty")
		}
		return fmt.Errorf("not YAML: %w", err)
	}
	if err := checkNode(&document, 0); err != nil {
		return err
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.New("the file has more than one document")
	}
	return nil
}

const maxDepth = 64

func checkNode(node *yaml.Node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("line %d: nested more than %d deep", node.Line, maxDepth)
	}
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		return fmt.Errorf("line %d: anchors and aliases are not allowed", node.Line)
	case node.Style&yaml.TaggedStyle != 0:
		return fmt.Errorf("line %d: tags are not allowed", node.Line)
	}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && !isPlainKey(child) {
			return fmt.Errorf("line %d: a key is not a string; put it in quotes", child.Line)
		}
		if err := checkNode(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// isPlainKey reports whether every reader of YAML takes a key for a string. Two
// keys that become equal only when they are read (1 and "1") would leave it to
// chance which one counts.
func isPlainKey(key *yaml.Node) bool {
	if key.Kind != yaml.ScalarNode {
		return false
	}
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle
	return key.Style&quoted != 0 || key.ShortTag() == "!!str" && !oldBooleans[strings.ToLower(key.Value)]
}

// oldBooleans are strings to YAML 1.2 and booleans to YAML 1.1, which Kubernetes
// reads.
var oldBooleans = map[string]bool{"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true}
