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

package forge

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxTitle is what the forges take, in bytes.
const maxTitle = 250

func cutTitle(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) <= maxTitle {
		return text
	}
	return cutAt(text, maxTitle-len("...")) + "..."
}

// cutBody shortens a text to whole lines and says so. Forges count characters,
// this counts bytes, which are never fewer.
func cutBody(text string, limit int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= limit {
		return text
	}
	note := fmt.Sprintf("\n\n*The rest was cut: this forge takes %d characters. `kubelbctl diff` shows all of it.*\n", limit)
	const fence = "```"
	kept := cutAt(text, limit-len(note)-len("\n"+fence))
	if end := strings.LastIndexByte(kept, '\n'); end > 0 {
		kept = kept[:end]
	}
	if strings.Count("\n"+kept, "\n"+fence)%2 == 1 { // the note is no part of a code block
		kept += "\n" + fence
	}
	return kept + note
}

// cutAt keeps at most n bytes, and whole characters.
func cutAt(text string, n int) string {
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
