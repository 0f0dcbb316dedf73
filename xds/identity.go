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

package xds

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// groupURI is the name, a URI, that the certificate of a group's proxies has.
func groupURI(group string) *url.URL {
	return &url.URL{Scheme: "kubelb", Host: "proxy-group", Path: "/" + group}
}

// groupOf returns the group that the peer's certificate names.
func groupOf(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return "", errors.New("no verified client certificate")
	}
	var groups []string
	for _, uri := range info.State.VerifiedChains[0][0].URIs {
		group, ok := strings.CutPrefix(uri.Path, "/")
		if ok && group != "" && *uri == *groupURI(group) {
			groups = append(groups, group)
		}
	}
	if len(groups) != 1 {
		return "", errors.New("the client certificate does not name one proxy group: its URI should be " + groupURI("<group>").String())
	}
	return groups[0], nil
}
