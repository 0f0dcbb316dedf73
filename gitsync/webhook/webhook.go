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

// Package webhook hears from a Git server that there is news.
//
// [Handler] serves POST /hook/<namespace>/<gitsource>; a [Receiver] judges one
// request to one [Source]. Both take the format that the source names:
//
//	generic-hmac  X-Signature: sha256=<hex HMAC-SHA256 of the body>, any body
//	github        X-Hub-Signature-256, X-GitHub-Event, X-GitHub-Delivery
//	gitlab        X-Gitlab-Token, X-Gitlab-Event, Idempotency-Key
//	gitea         X-Gitea-Signature, X-Gitea-Event, X-Gitea-Delivery (Forgejo too)
//
// A request that verifies, is about the source's own repository and a push or a
// pull request, and was not heard before triggers that source and nothing else.
// It is a hint: what it says is never believed, the repository is looked at.
//
// What was heard before is told by the delivery's identifier and by the body, for
// ten minutes; later a replay costs one look. A generic sender puts something into
// the body that is never the same, such as the commit or the time.
//
// It refuses bodies over 1 MiB, many at a time, and floods, compares secrets in
// constant time, and tells a stranger only whether a source with a webhook exists.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// MaxBody is the largest body that is read, in bytes.
const MaxBody = 1 << 20

// maxReading is how many bodies are read at a time.
const maxReading = 64

// Requests that are looked at in a second and in one burst: in all, whoever
// sends them, and those of one source that verify.
const (
	perSecond, burst             = 500, 1000
	sourcePerSecond, sourceBurst = 50, 500
)

// ErrUnknown is what a lookup returns where there is no such source, or one
// without a webhook.
var ErrUnknown = errors.New("no webhook of that name")

// Result is what became of a request, as metrics count it.
type Result string

// The results.
const (
	Triggered   Result = "triggered"
	Ignored     Result = "ignored"  // of no interest: a ping, a branch that nobody waits for
	Replayed    Result = "replayed" // heard before
	Foreign     Result = "foreign"  // about another repository
	Unverified  Result = "unverified"
	Malformed   Result = "malformed"
	Limited     Result = "limited"
	Unknown     Result = "unknown" // no such source
	Unavailable Result = "unavailable"
)

// Serve answers requests until the context ends. Who sends much or slowly is cut
// off.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}

// Handler answers the webhooks of many sources.
type Handler struct {
	mux      *http.ServeMux
	receiver *Receiver
	sources  Sources
}

// Sources are what a Handler needs to know. Its functions may be called
// concurrently.
type Sources struct {
	// Lookup describes a source.
	Lookup func(ctx context.Context, namespace, name string) (Source, error)
	// Trigger makes a source's repository looked at.
	Trigger func(namespace, name string)
	// Count is told what became of each request; the names are empty where there
	// is no such source. May be nil.
	Count func(namespace, name string, result Result)
}

// NewHandler returns a Handler.
func NewHandler(sources Sources) *Handler {
	if sources.Count == nil {
		sources.Count = func(string, string, Result) {}
	}
	h := &Handler{mux: http.NewServeMux(), receiver: NewReceiver(nil), sources: sources}
	h.mux.HandleFunc("POST /hook/{namespace}/{name}", h.hook)
	return h
}

// ServeHTTP answers 200, 400, 401, 403, 404, 405, 413, 415, 429 or 503.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.receiver.Admit(w) {
		h.sources.Count("", "", Limited)
		return
	}
	h.mux.ServeHTTP(w, r)
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, "too many requests", http.StatusTooManyRequests)
}

func (h *Handler) hook(w http.ResponseWriter, r *http.Request) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	source, err := h.sources.Lookup(r.Context(), namespace, name)
	switch {
	case errors.Is(err, ErrUnknown):
		h.sources.Count("", "", Unknown)
		http.NotFound(w, r)
		return
	case err != nil:
		h.sources.Count(namespace, name, Unavailable)
		http.Error(w, "try again later", http.StatusServiceUnavailable)
		return
	}
	result := h.receiver.Receive(w, r, namespace+"/"+name, source)
	if result == Triggered {
		h.sources.Trigger(namespace, name)
	}
	h.sources.Count(namespace, name, result)
}

// readBody answers for a body that cannot be read. Few are read at a time, because
// nobody knows yet who sends them.
func (r *Receiver) readBody(w http.ResponseWriter, request *http.Request) ([]byte, Result) {
	select {
	case r.reading <- struct{}{}:
		defer func() { <-r.reading }()
	default:
		tooMany(w)
		return nil, Limited
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
	default:
		return body, ""
	}
	return nil, Malformed
}
