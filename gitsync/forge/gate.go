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
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxAnswer is the largest answer that is read, in bytes after decompression.
	maxAnswer = 16 << 20
	// maxComplaint is how much of an error's text is repeated.
	maxComplaint = 300
)

// gate makes one kind of error of all forges' refusals, in one place: what the
// clients see is a good answer or an error that is one of ours.
type gate struct {
	next  http.RoundTripper
	token string // never in an error, also where the forge repeats it
}

func (g *gate) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := g.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 400 {
		response.Body = &bounded{ReadCloser: response.Body, left: maxAnswer}
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return nil, refusal(response, complaint(text, g.token))
}

// bounded is a body of a bounded size.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, newProblem(ErrUnavailable, "the answer is larger than %d MiB", maxAnswer>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// refusal says what an answer that is not good means.
func refusal(response *http.Response, text string) error {
	kind := ErrInvalid
	switch code := response.StatusCode; {
	case limited(response, text):
		return newProblem(ErrUnavailable, "it limits requests%s: %s: %s", retryAfter(response.Header), response.Status, text)
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		kind = ErrUnauthorized
	case code == http.StatusNotFound:
		kind = ErrNotFound
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return newProblem(ErrUnavailable, "%s%s: %s", response.Status, retryAfter(response.Header), text)
	}
	return newProblem(kind, "%s: %s", response.Status, text)
}

// limited reports whether the forge wants fewer requests. GitHub says so with
// 403, too.
func limited(response *http.Response, text string) bool {
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		return true
	case http.StatusForbidden:
		return response.Header.Get("Retry-After") != "" || response.Header.Get("X-RateLimit-Remaining") == "0" ||
			strings.Contains(strings.ToLower(text), "rate limit")
	}
	return false
}

// retryAfter says when to try again, if the forge does.
func retryAfter(header http.Header) string {
	if after := header.Get("Retry-After"); after != "" {
		if _, err := strconv.Atoi(after); err == nil {
			return ", try again after " + after + " s"
		}
		if at, err := http.ParseTime(after); err == nil {
			return ", try again after " + at.UTC().Format(time.RFC3339)
		}
		return ""
	}
	for _, name := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} {
		if seconds, err := strconv.ParseInt(header.Get(name), 10, 64); err == nil && seconds > 0 {
			return ", try again after " + time.Unix(seconds, 0).UTC().Format(time.RFC3339)
		}
	}
	return ""
}

// complaint finds what an error says: GitHub {"message", "errors": [{"message"}]},
// GitLab {"message": "..." or [...] or {...}} or {"error"}, Gitea {"message"}; else
// the beginning of the text. The token is taken out before it is cut, or half of it
// could stay.
func complaint(text []byte, token string) string {
	var answer struct {
		Message, Error, Errors json.RawMessage
	}
	said := string(text)
	if json.Unmarshal(text, &answer) == nil {
		var parts []string
		for _, part := range []json.RawMessage{answer.Message, answer.Error, answer.Errors} {
			var plain string
			switch {
			case len(part) == 0 || string(part) == "null" || string(part) == "[]":
			case json.Unmarshal(part, &plain) == nil:
				parts = append(parts, plain)
			default:
				parts = append(parts, string(part))
			}
		}
		if len(parts) > 0 {
			said = strings.Join(parts, " ")
		}
	}
	said = strings.ReplaceAll(strings.ToValidUTF8(said, "?"), token, "<token>")
	said = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || unicode.IsSpace(r) {
			return r
		}
		return -1
	}, said)
	said = strings.Join(strings.Fields(said), " ")
	if len(said) > maxComplaint {
		said = cutAt(said, maxComplaint) + "..."
	}
	return said
}

// problem is an error of the forge's with its kind.
type problem struct {
	kind error
	text string
}

func newProblem(kind error, format string, args ...any) *problem {
	return &problem{kind: kind, text: fmt.Sprintf(format, args...)}
}

func (p *problem) Error() string { return p.kind.Error() + ": " + p.text }

func (p *problem) Unwrap() error { return p.kind }

// fault makes any error of a client ours, without the token, also where the
// forge repeats it.
func (r *repository) fault(err error) error {
	if err == nil {
		return nil
	}
	clean := func(text string) string { return strings.ReplaceAll(text, r.token, "<token>") }
	var p *problem
	switch {
	case errors.As(err, &p):
		return &problem{kind: p.kind, text: clean(p.text)}
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(ErrUnavailable, "no answer within %s", r.timeout)
	case isDecoding(err):
		return newProblem(ErrUnavailable, "what came is no answer of its API, check the address: %s", clean(err.Error()))
	}
	return newProblem(ErrUnavailable, "%s", clean(err.Error()))
}

func isDecoding(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, io.ErrUnexpectedEOF)
}
