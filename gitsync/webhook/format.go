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

package webhook

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Type is the format that a sender speaks; the values are GitSource's.
type Type string

// The types.
const (
	Generic Type = "generic-hmac"
	GitHub  Type = "github"
	GitLab  Type = "gitlab"
	Gitea   Type = "gitea"
)

// Types are all that there are.
var Types = []Type{Generic, GitHub, GitLab, Gitea}

// Header carries the signature of generic-hmac.
const Header = "X-Signature"

// format is what differs between senders.
type format struct {
	verify     func(token, body []byte, header http.Header) bool
	unverified string
	// signed: the body is, so that a replay has the same.
	signed bool
	// eventHeader names the event; empty means that every one is news.
	eventHeader   string
	pushes, pulls string
	deliveries    []string // headers with the delivery's identifier
}

var formats = map[Type]*format{
	Generic: {
		verify:     func(token, body []byte, h http.Header) bool { return Verify(token, body, h.Get(Header)) },
		unverified: "the signature in " + Header + " does not fit", signed: true,
	},
	GitHub: {
		verify:     func(token, body []byte, h http.Header) bool { return Verify(token, body, h.Get("X-Hub-Signature-256")) },
		unverified: "the signature in X-Hub-Signature-256 does not fit: is the webhook's secret that of the source?", signed: true,
		eventHeader: "X-GitHub-Event", pushes: "push", pulls: "pull_request", deliveries: []string{"X-GitHub-Delivery"},
	},
	GitLab: {
		verify:      func(token, _ []byte, h http.Header) bool { return same(token, []byte(h.Get("X-Gitlab-Token"))) },
		unverified:  "the secret token in X-Gitlab-Token does not fit",
		eventHeader: "X-Gitlab-Event", pushes: "Push Hook", pulls: "Merge Request Hook",
		// X-Gitlab-Webhook-UUID names the webhook, not the delivery.
		deliveries: []string{"Idempotency-Key", "X-Gitlab-Event-UUID"},
	},
	Gitea: {
		verify: func(token, body []byte, h http.Header) bool {
			return Verify(token, body, "sha256="+h.Get("X-Gitea-Signature"))
		},
		unverified: "the signature in X-Gitea-Signature does not fit: is the webhook's secret that of the source?", signed: true,
		eventHeader: "X-Gitea-Event", pushes: "push", pulls: "pull_request", deliveries: []string{"X-Gitea-Delivery"},
	},
}

func (f *format) delivery(header http.Header) string {
	for _, name := range f.deliveries {
		if id := header.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// subject is what an event is about.
type subject struct {
	name  string   // of the repository, as the forge calls it
	paths []string // in the form of [path]
	ref   string   // of a push
}

// readEvent reads what the forges' events have in common: GitHub and Gitea call
// the repository "repository", GitLab "project".
func readEvent(body []byte) (subject, error) {
	type repository struct {
		FullName          string `json:"full_name"`
		PathWithNamespace string `json:"path_with_namespace"`
		CloneURL          string `json:"clone_url"`
		SSHURL            string `json:"ssh_url"`
		HTMLURL           string `json:"html_url"`
		GitHTTPURL        string `json:"git_http_url"`
		GitSSHURL         string `json:"git_ssh_url"`
		WebURL            string `json:"web_url"`
	}
	var payload struct {
		Ref        string     `json:"ref"`
		Repository repository `json:"repository"`
		Project    repository `json:"project"`
	}
	if err := json.Unmarshal(body, &payload); err != nil {
		return subject{}, fmt.Errorf("the body is not the JSON of an event: %w", err)
	}
	var s subject
	s.ref = payload.Ref
	for _, r := range []repository{payload.Project, payload.Repository} {
		s.name = cmp.Or(s.name, r.PathWithNamespace, r.FullName)
		for _, text := range []string{r.PathWithNamespace, r.FullName, r.CloneURL, r.SSHURL, r.HTMLURL, r.GitHTTPURL, r.GitSSHURL, r.WebURL} {
			if p := path(text); p != "" {
				s.paths = append(s.paths, p)
			}
		}
	}
	if s.name == "" || len(s.paths) == 0 {
		return s, errors.New("the body does not say which repository the event is about")
	}
	return s, nil
}

// isOf reports whether an event is about one of the names or addresses of a
// repository. Hosts are not compared: the hub may know the forge by another.
func (s subject) isOf(repositories []string) bool {
	for _, r := range repositories {
		for _, p := range s.paths {
			if p == path(r) {
				return true
			}
		}
	}
	return false
}

// path is what repositories are told apart by: of owner/name, of an URL and of
// git@host:owner/name.git it is owner/name, in lower case as forges compare it.
func path(text string) string {
	if u, err := url.Parse(text); err == nil && u.Scheme != "" && u.Host != "" {
		text = u.Path
	} else if _, after, ok := strings.Cut(text, ":"); ok {
		text = after
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(text, "/"), ".git"))
}

// Verify reports whether a signature header, sha256=<hex>, fits a body. An empty
// token fits nothing.
func Verify(token, body []byte, header string) bool {
	digits, ok := strings.CutPrefix(header, "sha256=")
	signature, err := hex.DecodeString(digits)
	return ok && err == nil && len(token) > 0 && hmac.Equal(signature, sum(token, body))
}

// Sign returns the signature header of a body.
func Sign(token, body []byte) string { return "sha256=" + hex.EncodeToString(sum(token, body)) }

func sum(token, body []byte) []byte {
	mac := hmac.New(sha256.New, token)
	mac.Write(body)
	return mac.Sum(nil)
}

// same compares secrets in constant time, whatever their lengths.
func same(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
