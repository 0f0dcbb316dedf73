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

package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocumentedOutputIsReal: each console block of docs/kubelbctl.md is what a
// command of the golden files printed.
func TestDocumentedOutputIsReal(t *testing.T) {
	text, err := os.ReadFile("../../../docs/kubelbctl.md")
	if err != nil {
		t.Fatal(err)
	}
	real := map[string]bool{}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		output, _, _ := strings.Cut(string(data), "\nexit ")
		real[output] = true
	}
	blocks := strings.Split(string(text), "```console\n")[1:]
	if len(blocks) < 5 {
		t.Errorf("only %d blocks", len(blocks))
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "\n```")
		if !real[block] {
			t.Errorf("nothing printed this:\n%s", block)
		}
	}
}
