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

package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// The two services of a Git server.
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// idleTimeout is how long a connection waits for another call: not as long as
// servers, firewalls and address translators let one live.
const idleTimeout = 30 * time.Second

// transport carries requests to a Git server.
type transport interface {
	// advertise opens what a service says about itself.
	advertise(ctx context.Context, service string) (io.ReadCloser, error)
	// call sends one request to a service, made for a server that can do what it
	// advertised, and opens its answer.
	call(ctx context.Context, service string, can *advertisement, body []byte) (io.ReadCloser, error)
	close()
}

// newTransport chooses the transport by the scheme of the URL. Its errors
// never repeat the URL as it was given, because that may hold a password.
func newTransport(rawURL string, o Options) (transport, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "ssh" {
		return newSSHTransport(u, o)
	}
	return newHTTPTransport(u, o)
}

// CheckURL says what is wrong with the URL of a repository, without repeating it.
func CheckURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

func parseURL(rawURL string) (*url.URL, error) {
	if !strings.Contains(rawURL, "://") && strings.Contains(rawURL, ":") { // git@host:path
		return nil, errors.New("url: not a URL; write git@host:path as ssh://git@host/path")
	}
	u, err := url.Parse(rawURL)
	switch {
	case err != nil, u.Scheme == "":
		return nil, errors.New("url: not a valid URL")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ssh":
		return nil, fmt.Errorf("url: scheme %s is not supported: write https, http or ssh", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("url: host is missing")
	}
	return u, nil
}
