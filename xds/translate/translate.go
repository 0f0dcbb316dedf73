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

// Package translate turns an [ir.Part] into Envoy's protos. It is the only
// place that knows how Envoy spells a listener, a cluster or an endpoint.
//
// It is pure and total: equal parts, in whatever order their lists are, give
// equal bytes, so that a version is a hash of content and two replicas of the
// hub agree on it. What changes often (endpoints) is in the assignment and
// nowhere else: a change of endpoints by IP address leaves listener and cluster
// byte for byte as they were.
//
// It refuses parts that [ir.Part.Validate] refuses and every proto that breaks
// Envoy's own rules (protoc-gen-validate): such a proto would be rejected
// without a word of whose it was, and its neighbours with it.
package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kubelb/gitops/xds/ir"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// Config is what Envoy is told about one part, each list sorted by name.
type Config struct {
	Listeners []*listenerv3.Listener
	Clusters  []*clusterv3.Cluster
	// Assignments hold the endpoints of the clusters that are not found by DNS;
	// each has its cluster's name.
	Assignments []*endpointv3.ClusterLoadAssignment
}

// Part translates a part. The error joins everything that is wrong with it; the
// config is nil then.
func Part(p ir.Part) (*Config, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	p = p.Sort()
	var config Config
	var errs []error
	clusters := make(map[string]ir.Cluster, len(p.Clusters))
	for _, c := range p.Clusters {
		clusters[c.Name] = c
		made, err := cluster(c)
		errs = append(errs, wrap("cluster", c.Name, err))
		config.Clusters = append(config.Clusters, made)
		if !c.ByDNS() {
			made, err := assignment(c)
			errs = append(errs, wrap("assignment", c.Name, err))
			config.Assignments = append(config.Assignments, made)
		}
	}
	for _, l := range p.Listeners {
		made, err := listener(l, clusters[l.Cluster].Policy)
		errs = append(errs, wrap("listener", l.Name(), err))
		config.Listeners = append(config.Listeners, made)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &config, nil
}

func wrap(kind, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", kind, name, err)
}

// Encode packs a proto deterministically and returns the hash of the result,
// 16 hex digits.
func Encode(message proto.Message) (*anypb.Any, string, error) {
	var packed anypb.Any
	if err := anypb.MarshalFrom(&packed, message, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, "", fmt.Errorf("encode %s: %w", message.ProtoReflect().Descriptor().Name(), err)
	}
	sum := sha256.Sum256(packed.GetValue())
	return &packed, hex.EncodeToString(sum[:8]), nil
}

// validator is what protoc-gen-validate adds to a message.
type validator interface {
	proto.Message
	ValidateAll() error
}

// packer collects the errors of the typed configs that one resource embeds:
// validation of the resource does not look into them.
type packer struct{ errs []error }

func (p *packer) pack(message validator) *anypb.Any {
	if err := message.ValidateAll(); err != nil {
		p.errs = append(p.errs, err)
		return nil
	}
	packed, _, err := Encode(message)
	p.errs = append(p.errs, err)
	return packed
}

// finish validates the resource itself and returns everything found.
func (p *packer) finish(resource validator) error {
	return errors.Join(append(p.errs, resource.ValidateAll())...)
}
