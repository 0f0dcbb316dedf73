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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultTimeout = 20 * time.Second
	userAgent      = "kubelb-gitops"
	// pageSize of lists. Bodies are in them, so it is modest.
	pageSize = 30
	// maxPages of one list that are looked at.
	maxPages = 200
)

// host is what differs between forges. Its errors come from [gate] or from
// decoding; [fault] makes them ours.
type host interface {
	// list returns a page of pull requests, newest first, counted from 1, and
	// whether there are more. It may return others than those from head to base.
	list(ctx context.Context, head, base string, open bool, page int) (prs []listed, more bool, err error)
	get(ctx context.Context, number int64) (PullRequest, error)
	create(ctx context.Context, p Proposal) (PullRequest, error)
	update(ctx context.Context, number int64, title, body string) (PullRequest, error)
	close(ctx context.Context, number int64) error
	// limit is how long a body may be, in bytes.
	limit() int
}

// listed is a pull request in a list.
type listed struct {
	PullRequest
	head, base string
	foreign    bool // from a fork
}

// New returns a repository's forge. It asks nothing of the forge yet.
func New(o Options) (Forge, error) {
	address, err := o.address()
	if err != nil {
		return nil, err
	}
	if o.Token == "" {
		return nil, fmt.Errorf("%w: the token is empty", ErrUnauthorized)
	}
	if strings.ContainsAny(o.Token, " \t\r\n") {
		return nil, fmt.Errorf("%w: the token has blanks or line breaks in it", ErrUnauthorized)
	}
	owner, name, err := o.repository()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if len(o.CABundle) > 0 {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(o.CABundle) {
			return nil, fmt.Errorf("%w: the CA bundle holds no PEM certificate", ErrInvalid)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	client := &http.Client{Transport: &gate{next: transport, token: o.Token}, CheckRedirect: sameHost}
	f := &repository{token: o.Token, timeout: o.Timeout}
	switch o.Kind {
	case GitHub:
		f.host, err = newGitHub(client, address, owner, name, o.Token)
	case GitLab:
		f.host, err = newGitLab(client, address, owner+"/"+name, o.Token)
	case Gitea:
		f.host, err = newGitea(client, address, owner, name, o.Token)
	default:
		return nil, fmt.Errorf("%w: there is no kind of forge %q; there are GitHub, GitLab and Gitea", ErrInvalid, o.Kind)
	}
	if err != nil {
		return nil, f.fault(err)
	}
	return f, nil
}

func (o Options) address() (string, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("%w: the forge's address is not a URL such as https://git.example.com", ErrInvalid)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%w: the forge's address has credentials, a query or a fragment in it", ErrInvalid)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// repository splits owner and name; only GitLab has more than one / in it.
func (o Options) repository() (owner, name string, err error) {
	full := strings.TrimSuffix(strings.Trim(o.Repository, "/"), ".git")
	at := strings.LastIndex(full, "/")
	if at < 0 || strings.Contains(full, "//") || o.Kind != GitLab && strings.Count(full, "/") > 1 {
		return "", "", fmt.Errorf("%w: %q is not the name of a repository, such as owner/name", ErrInvalid, o.Repository)
	}
	return full[:at], full[at+1:], nil
}

// sameHost follows redirects only to where the token may go.
func sameHost(request *http.Request, via []*http.Request) error {
	from := via[0].URL
	if request.URL.Host != from.Host || request.URL.Scheme != from.Scheme {
		return newProblem(ErrInvalid, "it redirects to %s://%s: give that address if it is the forge's", request.URL.Scheme, request.URL.Host)
	}
	if len(via) >= 5 {
		return newProblem(ErrUnavailable, "it redirects in circles")
	}
	return nil
}

// repository is a Forge: what forges have in common.
type repository struct {
	host
	token   string
	timeout time.Duration
}

func (r *repository) Newest(ctx context.Context, head, base string) (PullRequest, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	pr, ok, err := r.first(ctx, head, base, true)
	if err == nil && !ok {
		pr, ok, err = r.first(ctx, head, base, false)
	}
	return pr, ok, r.fault(err)
}

// first finds the newest pull request from head to base.
func (r *repository) first(ctx context.Context, head, base string, open bool) (PullRequest, bool, error) {
	for page := 1; page <= maxPages; page++ {
		prs, more, err := r.list(ctx, head, base, open, page)
		if err != nil {
			return PullRequest{}, false, err
		}
		for _, pr := range prs {
			if pr.head == head && pr.base == base && !pr.foreign && (!open || pr.State == Open) {
				return pr.PullRequest, true, nil
			}
		}
		if !more {
			break
		}
	}
	return PullRequest{}, false, nil
}

func (r *repository) Create(ctx context.Context, p Proposal) (PullRequest, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	p.Title, p.Body = cutTitle(p.Title), cutBody(p.Body, r.limit())
	refresh := func() (PullRequest, bool, error) {
		open, ok, err := r.first(ctx, p.Head, p.Base, true)
		if err != nil || !ok {
			return open, ok, err
		}
		open, err = whole(r.update(ctx, open.Number, p.Title, p.Body))
		return open, true, err
	}
	if pr, ok, err := refresh(); ok || err != nil {
		return pr, r.fault(err)
	}
	pr, err := whole(r.create(ctx, p))
	if errors.Is(err, ErrInvalid) { // another was faster?
		if open, ok, again := refresh(); ok {
			return open, r.fault(again)
		}
	}
	return pr, r.fault(err)
}

func (r *repository) Update(ctx context.Context, number int64, title, body string) (PullRequest, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	pr, err := whole(r.update(ctx, number, cutTitle(title), cutBody(body, r.limit())))
	return pr, r.fault(err)
}

func (r *repository) Close(ctx context.Context, number int64) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	pr, err := whole(r.get(ctx, number))
	if err != nil || pr.State != Open {
		return r.fault(err)
	}
	return r.fault(r.close(ctx, number))
}

// whole refuses an answer that is JSON and no pull request.
func whole(pr PullRequest, err error) (PullRequest, error) {
	if err == nil && pr.Number == 0 {
		err = newProblem(ErrUnavailable, "what came is no pull request: check the address")
	}
	return pr, err
}
