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

package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kubelb/gitops/gitsync/webhook"
)

const key = "hmac key"

func handler(t *testing.T) (*webhook.Handler, *[]string) {
	t.Helper()
	var triggered []string
	h := webhook.NewHandler(func(_ context.Context, namespace, name string) ([]byte, error) {
		switch namespace + "/" + name {
		case "kubelb/fleet":
			return []byte(key), nil
		case "kubelb/tokenless":
			return nil, nil
		case "kubelb/away":
			return nil, errors.New("the API server is away")
		}
		return nil, webhook.ErrUnknown
	}, func(namespace, name string) { triggered = append(triggered, namespace+"/"+name) })
	return h, &triggered
}

func TestHandler(t *testing.T) {
	const body = `{"ref":"refs/heads/main"}`
	good := webhook.Sign([]byte(key), []byte(body))
	large := strings.Repeat("x", webhook.MaxBody+1)
	for _, c := range []struct {
		reason, method, path, body, signature string
		want                                  int
	}{
		{"a good signature", http.MethodPost, "/hook/kubelb/fleet", body, good, 200},
		{"no signature", http.MethodPost, "/hook/kubelb/fleet", body, "", 401},
		{"another key", http.MethodPost, "/hook/kubelb/fleet", body, webhook.Sign([]byte("x"), []byte(body)), 401},
		{"another body", http.MethodPost, "/hook/kubelb/fleet", body + " ", good, 401},
		{"another function", http.MethodPost, "/hook/kubelb/fleet", body, strings.Replace(good, "sha256", "sha1", 1), 401},
		{"not hexadecimal", http.MethodPost, "/hook/kubelb/fleet", body, "sha256=xyz", 401},
		{"an empty token fits nothing", http.MethodPost, "/hook/kubelb/tokenless", body, webhook.Sign(nil, []byte(body)), 401},
		{"no such source", http.MethodPost, "/hook/kubelb/other", body, good, 404},
		{"no such path", http.MethodPost, "/hook/kubelb", body, good, 404},
		{"a path too long", http.MethodPost, "/hook/kubelb/fleet/x", body, good, 404},
		{"another method", http.MethodGet, "/hook/kubelb/fleet", "", good, 405},
		{"a body too large", http.MethodPost, "/hook/kubelb/fleet", large, webhook.Sign([]byte(key), []byte(large)), 413},
		{"the token cannot be read", http.MethodPost, "/hook/kubelb/away", body, good, 503},
	} {
		t.Run(c.reason, func(t *testing.T) {
			h, triggered := handler(t)
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			r.Header.Set(webhook.Header, c.signature)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("got %d, want %d", w.Code, c.want)
			}
			if got := len(*triggered) == 1 && (*triggered)[0] == "kubelb/fleet"; got != (c.want == 200) || len(*triggered) > 1 {
				t.Errorf("triggered %v", *triggered)
			}
			if strings.Contains(w.Body.String(), key) {
				t.Error("the answer holds the key")
			}
		})
	}
}

func TestAFloodIsRefused(t *testing.T) {
	h, _ := handler(t)
	refused := false
	for range 2000 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/hook/kubelb/other", nil))
		refused = refused || w.Code == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("2000 requests at once were all looked at")
	}
}
