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

// Package describe says what a change means, in the words of the people who
// made it: as the subject of a commit, as lines of a pull request or of a diff.
//
//	describe.Subject("acme", path, before, after)
//	// acme: Service shop/web: port 443 added, externalTrafficPolicy Cluster → Local
//
// [Compare] does so for two trees, with tables of what was and what will be:
//
//	s := describe.Compare(main, proposed)
//	s.Title()    // one line
//	s.Markdown() // the body of a pull request
//	s.Text()     // for a terminal; the JSON form of s has everything
//
// It is pure, and what it says of equal changes is equal. It shows no sealed
// data and refuses nothing: where it has no words for a field it says that the
// field changed. Whatever tenants write stays text: subjects and titles mean
// nothing to a forge, Markdown has it as code.
package describe

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// maxSubject is about as many characters as tools show of a subject.
const maxSubject = 100

// Subject describes the change of one document in one line. before is nil if it
// was created, after if it was deleted.
func Subject(tenant, path string, before, after repo.Object) string {
	subject := tenant + ": " + source(path)
	switch {
	case after == nil:
		return fit(subject + " deleted")
	case before == nil:
		return fit(list(subject+" created", gist(after)))
	}
	changes := Changes(before, after)
	if len(changes) == 0 {
		return fit(subject + ": rewritten without a change")
	}
	texts := make([]string, len(changes))
	for n, change := range changes {
		texts[n] = change.Text
	}
	return fit(list(subject, texts))
}

// Facts describes a change of facts: how many nodes came, went or changed, and
// of how many Services the backend did.
func Facts(tenant string, nodes, backends int) string {
	var parts []string
	for _, part := range []struct {
		n    int
		noun string
	}{{nodes, "node"}, {backends, "backend"}} {
		if part.n == 1 {
			parts = append(parts, "1 "+part.noun)
		} else if part.n > 1 {
			parts = append(parts, strconv.Itoa(part.n)+" "+part.noun+"s")
		}
	}
	if len(parts) == 0 {
		return tenant + ": facts rewritten without a change"
	}
	return tenant + ": " + strings.Join(parts, ", ") + " changed"
}

// Nodes counts the nodes that only one of two Addresses lists. Either may be nil.
func Nodes(before, after repo.Object) int {
	seen := map[v1alpha1.EndpointAddress]int{}
	count := func(object repo.Object, n int) {
		if addresses, ok := object.(*v1alpha1.Addresses); ok {
			for _, address := range addresses.Spec.Addresses {
				seen[address] += n
			}
		}
	}
	count(before, 1)
	count(after, -1)
	n := 0
	for _, surplus := range seen {
		n += max(surplus, -surplus)
	}
	return n
}

func source(path string) string {
	p, err := repo.ParsePath(path)
	if err != nil {
		return path
	}
	return p.Source()
}

// gist says of a new document what one wants to know first.
func gist(object repo.Object) []string {
	var out []string
	switch o := object.(type) {
	case *v1alpha1.LoadBalancer:
		for _, port := range o.Spec.Ports {
			out = append(out, fmt.Sprintf("%d/%s", port.Port, protocol(port.Protocol)))
		}
	case *v1alpha1.SyncSecret:
		if o.Type != "" {
			out = append(out, string(o.Type))
		}
	}
	return out
}

// list appends as many whole texts as a subject has room for, and says how many
// it left out.
func list(subject string, texts []string) string {
	separator := ": "
	for n, text := range texts {
		more := ""
		if rest := len(texts) - n - 1; rest > 0 {
			more = fmt.Sprintf(" and %d more", rest)
		}
		if n > 0 && utf8.RuneCountInString(subject+separator+text+more) > maxSubject {
			return fmt.Sprintf("%s and %d more", subject, len(texts)-n)
		}
		subject += separator + text
		separator = ", "
	}
	return subject
}

// fit cuts a subject that is too long even for its first text, and takes from it
// what would mean something to a forge.
func fit(subject string) string {
	runes := []rune(plainWords(strings.Join(strings.Fields(subject), " ")))
	if len(runes) <= maxSubject+20 {
		return string(runes)
	}
	return string(runes[:maxSubject+19]) + "…"
}
