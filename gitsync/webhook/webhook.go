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
// It serves POST /hook/<namespace>/<gitsource> in the format that Flux calls
// generic-hmac: any body, and a header "X-Signature: sha256=<hex>" that holds
// its HMAC-SHA256 under the source's token. A good request triggers that source
// and nothing else; what the body says does not matter.
//
// It refuses bodies over 1 MiB and floods, compares signatures in constant
// time, and tells a stranger only whether a source with a webhook exists.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"

	"golang.org/x/time/rate"
)

// MaxBody is the largest body that is read, in bytes.
const MaxBody = 1 << 20

// Requests that are looked at in a second, and in one burst.
const (
	perSecond = 100
	burst     = 200
)

// Header carries the signature.
const Header = "X-Signature"

// ErrUnknown is what a token lookup returns where there is no such source, or
// one without a webhook.
var ErrUnknown = errors.New("no webhook of that name")

// Handler answers webhooks.
type Handler struct {
	mux     *http.ServeMux
	limiter *rate.Limiter
	token   func(ctx context.Context, namespace, name string) ([]byte, error)
	trigger func(namespace, name string)
}

// NewHandler returns a Handler that asks token for a source's key and calls
// trigger when its signature fits. Both may be called concurrently.
func NewHandler(token func(ctx context.Context, namespace, name string) ([]byte, error), trigger func(namespace, name string)) *Handler {
	h := &Handler{mux: http.NewServeMux(), limiter: rate.NewLimiter(perSecond, burst), token: token, trigger: trigger}
	h.mux.HandleFunc("POST /hook/{namespace}/{name}", h.hook)
	return h
}

// ServeHTTP answers 200, 400, 401, 404, 405, 413, 429 or 503.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.limiter.Allow() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) hook(w http.ResponseWriter, r *http.Request) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	token, err := h.token(r.Context(), namespace, name)
	switch {
	case errors.Is(err, ErrUnknown):
		http.NotFound(w, r)
		return
	case err != nil:
		http.Error(w, "try again later", http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	if !Verify(token, body, r.Header.Get(Header)) {
		http.Error(w, "the signature in "+Header+" does not fit", http.StatusUnauthorized)
		return
	}
	h.trigger(namespace, name)
	w.WriteHeader(http.StatusOK)
}

// Verify reports whether a signature header fits a body. An empty token fits
// nothing.
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
