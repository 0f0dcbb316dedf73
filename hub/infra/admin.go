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

package infra

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"time"
)

// serverInfo is what of Envoy's /server_info matters here.
type serverInfo struct {
	State   string `json:"state"`
	Options struct {
		ConfigPath  string `json:"config_path"`
		ServiceNode string `json:"service_node"`
	} `json:"command_line_options"`
}

// admin speaks to the admin interface of an Envoy.
func admin(socket string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}
}

func askServerInfo(ctx context.Context, socket string) (info serverInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy/server_info", nil)
	if err != nil {
		return info, fmt.Errorf("ask Envoy who it is: %w", err)
	}
	response, err := admin(socket).RoundTrip(request)
	if err != nil {
		return info, fmt.Errorf("ask Envoy who it is: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&info); err != nil {
		return info, fmt.Errorf("ask Envoy who it is: %w", err)
	}
	return info, nil
}

// Stats serves the statistics of a group's Envoy in Prometheus' format, so that
// Envoy itself needs no port for them.
func (h *Host) Stats(group string) http.Handler {
	return &httputil.ReverseProxy{
		Transport: admin(filepath.Join(h.options.StateDir, group, adminSocket)),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "envoy"
			r.Out.URL.Path, r.Out.URL.RawQuery = "/stats/prometheus", ""
		},
	}
}
