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
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/kubelb/gitops/xds/ir"
	"github.com/kubelb/gitops/xds/translate"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// kind is a type of resource. Their order is the order in which a proxy hears
// of something new.
type kind int

const (
	clusters kind = iota
	assignments
	listeners
	kinds // how many there are
)

var typeURLs = [kinds]string{resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.ListenerType}

// String is the kind in words, for messages.
func (k kind) String() string {
	return [kinds]string{"cluster", "assignment", "listener"}[k]
}

func kindOf(typeURL string) (kind, bool) {
	for k, url := range typeURLs {
		if url == typeURL {
			return kind(k), true
		}
	}
	return 0, false
}

// resource is one version of one named thing. It never changes.
type resource struct {
	kind    kind
	name    string
	version string
	owner   string
	// cluster is what a listener sends its traffic to.
	cluster string
	// wire is what a proxy gets; nil for a resource of which only a proxy that
	// connected told.
	wire *discoveryv3.Resource
}

// hashLength is the length of a version's hash.
const hashLength = 16

// newResource encodes a proto. A listener's version also names its cluster, so
// that a proxy that connects tells which clusters it still needs.
func newResource(k kind, owner, name, cluster string, message proto.Message) (*resource, error) {
	packed, version, err := translate.Encode(message)
	if err != nil {
		return nil, err
	}
	if cluster != "" {
		version += " " + cluster
	}
	return &resource{
		kind: k, name: name, version: version, owner: owner, cluster: cluster,
		wire: &discoveryv3.Resource{Name: name, Version: version, Resource: packed},
	}, nil
}

// reported makes a resource of what a proxy said it has.
func reported(k kind, owner, name, version string) *resource {
	out := &resource{kind: k, name: name, version: version, owner: owner}
	if k == listeners && len(version) > hashLength {
		out.cluster = version[hashLength+1:]
	}
	return out
}

// part is an owner's share of a group, as resources.
type part struct {
	hash      string
	resources [kinds][]*resource
}

// all returns the part's resources; a missing part has none.
func (p *part) all() []*resource {
	if p == nil {
		return nil
	}
	return slices.Concat(p.resources[:]...)
}

// of returns the part's resources of one kind.
func (p *part) of(k kind) []*resource {
	if p == nil {
		return nil
	}
	return p.resources[k]
}

// newPart translates what an owner wants.
func newPart(owner, hash string, p ir.Part) (*part, error) {
	config, err := translate.Part(p)
	if err != nil {
		return nil, err
	}
	out := &part{hash: hash}
	add := func(k kind, name, cluster string, message proto.Message) {
		r, e := newResource(k, owner, name, cluster, message)
		if e != nil {
			err = fmt.Errorf("%s: %w", name, e)
			return
		}
		out.resources[k] = append(out.resources[k], r)
	}
	for _, c := range config.Clusters {
		add(clusters, c.GetName(), "", c)
	}
	for _, a := range config.Assignments {
		add(assignments, a.GetClusterName(), "", a)
	}
	uses := map[string]string{}
	for _, l := range p.Listeners {
		uses[l.Name()] = l.Cluster
	}
	for _, l := range config.Listeners {
		add(listeners, l.GetName(), uses[l.GetName()], l)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
