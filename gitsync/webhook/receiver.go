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
	"crypto/sha256"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Source is what a webhook is for.
type Source struct {
	Type Type
	// Token is the key of the HMAC, or GitLab's secret token. An empty one fits
	// nothing.
	Token []byte
	// Repositories are the names and addresses of the repository that events may
	// be about, such as acme/fleet and https://git.example.com/acme/fleet.git.
	Repositories []string
	// Wants picks the refs whose pushes are of interest; nil means all branches.
	Wants func(ref string) bool
	// PullRequests are of interest.
	PullRequests bool
}

// Receiver judges requests and remembers what it heard. It is safe for
// concurrent use.
type Receiver struct {
	now     func() time.Time
	limiter *rate.Limiter // of all requests
	reading chan struct{} // a place for each body that is being read

	mu      sync.Mutex
	sources map[string]*heard
}

// heard is what is remembered of a source.
type heard struct {
	limiter *rate.Limiter
	seen    memory
}

// maxSources is of how many sources something is remembered.
const maxSources = 10000

// NewReceiver returns a Receiver that tells the time by now; time.Now if nil.
func NewReceiver(now func() time.Time) *Receiver {
	if now == nil {
		now = time.Now
	}
	return &Receiver{
		now: now, limiter: rate.NewLimiter(perSecond, burst), reading: make(chan struct{}, maxReading), sources: map[string]*heard{},
	}
}

// Admit reports whether one more request is looked at, whoever sent it, and answers
// for one that is not.
func (r *Receiver) Admit(w http.ResponseWriter) bool {
	if r.limiter.AllowN(r.now(), 1) {
		return true
	}
	tooMany(w)
	return false
}

// Receive answers a request to a source and says what it means. The name keeps
// sources apart. Only [Triggered] asks for something to be done.
func (r *Receiver) Receive(w http.ResponseWriter, request *http.Request, name string, source Source) Result {
	format, ok := formats[source.Type]
	if !ok {
		http.Error(w, fmt.Sprintf("the webhook's type %q is not known", source.Type), http.StatusServiceUnavailable)
		return Unavailable
	}
	body, result := r.readBody(w, request)
	switch {
	case result != "":
		return result
	case len(source.Token) == 0 || !format.verify(source.Token, body, request.Header):
		http.Error(w, format.unverified, http.StatusUnauthorized)
		return Unverified
	case !r.of(name).limiter.AllowN(r.now(), 1):
		tooMany(w)
		return Limited
	}
	v := verdict{Triggered, http.StatusOK, "ok"}
	if format.eventHeader != "" {
		v = format.judge(request.Header, body, source)
	}
	if v.result == Triggered && r.again(name, format.delivery(request.Header), body, format.signed) {
		v = verdict{Replayed, http.StatusOK, "heard before; nothing is done again"}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(v.status)
	_, _ = w.Write([]byte(v.text + "\n"))
	return v.result
}

// verdict is what an event means and what is answered.
type verdict struct {
	result Result
	status int
	text   string
}

// judge says what a forge's event means that verified.
func (f *format) judge(header http.Header, body []byte, source Source) verdict {
	event := header.Get(f.eventHeader)
	switch {
	case event == "":
		return verdict{Malformed, http.StatusBadRequest, "the header " + f.eventHeader + " is missing"}
	case event != f.pushes && event != f.pulls:
		return verdict{Ignored, http.StatusOK, "heard; such events change nothing"}
	case !isJSON(header):
		return verdict{Malformed, http.StatusUnsupportedMediaType, "the content is not JSON: set the webhook's content type to application/json"}
	}
	about, err := readEvent(body)
	switch {
	case err != nil:
		return verdict{Malformed, http.StatusBadRequest, err.Error()}
	case !about.isOf(source.Repositories):
		return verdict{Foreign, http.StatusForbidden, fmt.Sprintf("the event is about %q, which is not the repository that this webhook is for", about.name)}
	case event == f.pulls && !source.PullRequests, event == f.pushes && !wants(source, about.ref):
		return verdict{Ignored, http.StatusOK, "heard; nobody waits for this branch or event"}
	}
	return verdict{Triggered, http.StatusOK, "ok"}
}

func wants(source Source, ref string) bool {
	return strings.HasPrefix(ref, "refs/heads/") && (source.Wants == nil || source.Wants(ref))
}

func isJSON(header http.Header) bool {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

func (r *Receiver) of(name string) *heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.sources[name]
	if h == nil {
		if len(r.sources) >= maxSources { // so many come and go only by mistake
			clear(r.sources)
		}
		h = &heard{limiter: rate.NewLimiter(sourcePerSecond, sourceBurst)}
		r.sources[name] = h
	}
	return h
}

// again reports whether a delivery was heard before, and remembers it. Its
// identifier is not signed, so the body counts too where that is.
func (r *Receiver) again(name, delivery string, body []byte, signed bool) bool {
	h := r.of(name)
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	again := false
	if delivery != "" {
		again = h.seen.add(sha256.Sum256([]byte("delivery "+delivery)), now)
	}
	if signed || delivery == "" {
		again = h.seen.add(sha256.Sum256(append([]byte("body "), body...)), now) || again
	}
	return again
}
