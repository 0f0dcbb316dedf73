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

package ccm

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxHookBody bounds the body of a webhook, of which only the signature matters.
const maxHookBody = 1 << 20

// webhook hears of news of the repository. What it is told is only that there
// may be some: nothing of the body is used.
type webhook struct {
	addr  string
	token []byte
	news  func()
}

func newWebhook(addr, tokenFile string, news func()) (*webhook, error) {
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("webhook token: %w", err)
	}
	token = []byte(strings.TrimSpace(string(token)))
	if len(token) == 0 {
		return nil, fmt.Errorf("webhook token: %s is empty", tokenFile)
	}
	return &webhook{addr: addr, token: token, news: news}, nil
}

// NeedLeaderElection makes the manager start it on the leader only.
func (w *webhook) NeedLeaderElection() bool { return true }

// Start serves until the context ends.
func (w *webhook) Start(ctx context.Context) error {
	listener, err := net.Listen("tcp", w.addr)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	server := &http.Server{Handler: w, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}

// ServeHTTP accepts POST /hook with X-Signature: sha256=<hex HMAC of the body>.
func (w *webhook) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/hook" {
		http.NotFound(out, r)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(out, "use POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(out, r.Body, maxHookBody))
	if err != nil {
		http.Error(out, "the body is too large or incomplete", http.StatusBadRequest)
		return
	}
	mac := hmac.New(sha256.New, w.token)
	_, _ = mac.Write(body)
	digits, ok := strings.CutPrefix(r.Header.Get("X-Signature"), "sha256=")
	signature, err := hex.DecodeString(digits)
	if !ok || err != nil || !hmac.Equal(signature, mac.Sum(nil)) {
		http.Error(out, "X-Signature is missing or wrong", http.StatusUnauthorized)
		return
	}
	w.news()
	out.WriteHeader(http.StatusAccepted)
}
