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

package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// zeroHash stands for "no such ref" in a push.
const zeroHash = "0000000000000000000000000000000000000000"

// RefUpdate is one ref of a push.
type RefUpdate struct {
	Name string `json:"name"`
	Old  string `json:"old"` // zeros when the ref is new
	New  string `json:"new"` // zeros when the ref is deleted
}

// pushRequest is the beginning of a push: what it wants, before the objects.
type pushRequest struct {
	updates      []RefUpdate
	capabilities []string
}

// parsePush reads the commands of a git-receive-pack request.
func parsePush(body []byte) (pushRequest, error) {
	var request pushRequest
	for {
		line, rest, err := pktLine(body)
		if err != nil {
			return request, err
		}
		if line == nil { // flush
			return request, nil
		}
		body = rest
		text := strings.TrimSuffix(string(line), "\n")
		if strings.HasPrefix(text, "shallow ") {
			continue
		}
		command, capabilities, first := strings.Cut(text, "\x00")
		if first {
			request.capabilities = strings.Fields(capabilities)
		}
		words := strings.SplitN(command, " ", 3)
		if len(words) != 3 || len(words[0]) != len(zeroHash) || len(words[1]) != len(zeroHash) {
			return request, fmt.Errorf("the Git server does not understand the push command %q", command)
		}
		request.updates = append(request.updates, RefUpdate{Old: words[0], New: words[1], Name: words[2]})
	}
}

// pktLine takes the first pkt-line off body; a flush is a nil line.
func pktLine(body []byte) (line, rest []byte, err error) {
	if len(body) < 4 {
		return nil, nil, errors.New("the push ends before its commands do")
	}
	size, err := strconv.ParseUint(string(body[:4]), 16, 16)
	if err != nil || (size > 0 && size < 4) || int(size) > len(body) {
		return nil, nil, fmt.Errorf("the push has a malformed pkt-line %q", body[:4])
	}
	if size == 0 {
		return nil, body[4:], nil
	}
	return body[4:size:size], body[size:], nil
}

func pkt(text string) string { return fmt.Sprintf("%04x%s", len(text)+4, text) }

// refuse answers a push as a server does whose pre-receive hook declines it:
// no ref moves, and the client learns why.
func refuse(w http.ResponseWriter, request pushRequest, user string, refused []string) {
	answer := refusal(request, user, refused)
	if answer == nil {
		http.Error(w, refusalReason(user, refused), http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(answer)
}

func refusalReason(user string, refused []string) string {
	return fmt.Sprintf("user %s may not write %s", user, strings.Join(refused, ", "))
}

// refusal is the report that declines a push; nil where none is wanted.
func refusal(request pushRequest, user string, refused []string) []byte {
	if !slices.ContainsFunc(request.capabilities, func(c string) bool { return strings.HasPrefix(c, "report-status") }) {
		return nil
	}
	var report bytes.Buffer
	report.WriteString(pkt("unpack ok\n"))
	for _, update := range request.updates {
		report.WriteString(pkt("ng " + update.Name + " pre-receive hook declined\n"))
	}
	report.WriteString("0000")
	if !slices.Contains(request.capabilities, "side-band-64k") {
		return report.Bytes()
	}
	var answer bytes.Buffer
	answer.WriteString(pkt("\x02" + refusalReason(user, refused) + "\n"))
	for chunk := range slices.Chunk(report.Bytes(), 60000) {
		answer.WriteString(pkt("\x01" + string(chunk)))
	}
	answer.WriteString("0000")
	return answer.Bytes()
}
