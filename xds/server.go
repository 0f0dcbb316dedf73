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
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/kubelb/gitops/xds/ir"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	deltav3 "github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
)

const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// A proxy needs one stream per connection.
	maxStreams = 16
	// A proxy that connects says what it has: about 100 bytes per resource.
	maxRequest = 64 << 20
	// stopTimeout is how long streams may take to end.
	stopTimeout = 5 * time.Second
)

// Options are a server's surroundings.
type Options struct {
	// TLS must require and verify client certificates.
	TLS *tls.Config
	Log logr.Logger
	// Clock is the machine's when nil.
	Clock Clock
}

// Server serves groups of proxies. It is a prometheus.Collector.
type Server struct {
	tls     *tls.Config
	log     logr.Logger
	clock   Clock
	metrics *metrics
	notifier

	groupsMu sync.Mutex
	groups   map[string]*group
}

// New returns a server that serves once [Server.Serve] is called. It can be
// published to before.
func New(options Options) (*Server, error) {
	if options.TLS == nil || options.TLS.ClientAuth != tls.RequireAndVerifyClientCert || options.TLS.ClientCAs == nil {
		return nil, errors.New("xds: the TLS configuration must require client certificates and name who signs them")
	}
	if options.Clock == nil {
		options.Clock = wallClock{}
	}
	return &Server{
		tls: options.TLS, log: options.Log, clock: options.Clock,
		metrics: newMetrics(), groups: map[string]*group{},
	}, nil
}

// Serve answers proxies on l until ctx is done, then ends their streams and
// returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.tls)),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 3, PermitWithoutStream: true}),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxRequest),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, &streams{Server: s, ctx: ctx})
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		timer := time.AfterFunc(stopTimeout, server.Stop)
		defer timer.Stop()
		server.GracefulStop()
	})
	err := server.Serve(l)
	if !unhook() {
		<-stopped
		return nil
	}
	return fmt.Errorf("serve xDS on %s: %w", l.Addr(), err)
}

// Publish gives owners of a group new parts; nil removes an owner's. All go out
// together. An owner whose part cannot be served keeps its last one and is in
// the result.
func (s *Server) Publish(group string, parts map[string]*ir.Part) map[string]error {
	start := s.clock.Now()
	errs, done := s.group(group).publish(parts)
	done.took = s.clock.Now().Sub(start)
	s.metrics.published(group, done)
	return errs
}

// Open starts to serve a group, once its first build is published. Before that
// its proxies hear nothing and keep what they have.
func (s *Server) Open(group string) {
	g := s.group(group)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return
	}
	g.open = true
	for session := range g.sessions {
		for _, l := range session.lanes {
			if l.started {
				session.reconsider(l)
			}
		}
		session.pump()
	}
	g.tellAll()
}

// Verdict is what a group's proxies say of an owner's part. It is false before
// the group is opened, and for an owner that never had a part here as long as no
// proxy is connected that could tell. An owner without a part is Removed when no
// proxy has anything of it.
func (s *Server) Verdict(group, owner string) (ir.Verdict, bool) {
	g := s.group(group)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return ir.Verdict{}, false
	}
	return g.verdict(owner)
}

// Subscribe has f called, by one goroutine and without any lock, when verdicts
// may have changed.
func (s *Server) Subscribe(f func(group string, owners []string)) { s.subscribe(f) }

// Proxies is the number of proxies connected to a group.
func (s *Server) Proxies(group string) int {
	g := s.group(group)
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}

// group finds a group, or makes it: proxies may come before the first part.
func (s *Server) group(name string) *group {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	g := s.groups[name]
	if g == nil {
		g = newGroup(name, s.add)
		s.groups[name] = g
	}
	return g
}

// streams is the gRPC service.
type streams struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	*Server
	ctx context.Context // ends the streams
}

// StreamAggregatedResources refuses state of the world.
func (s *streams) StreamAggregatedResources(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return status.Error(codes.Unimplemented, "state of the world is not served: set api_type DELTA_GRPC in the bootstrap's ads_config")
}

// DeltaAggregatedResources serves one proxy.
func (s *streams) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	name, err := groupOf(stream.Context())
	if err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	session := newSession(s.group(name), s.clock, s.log.WithValues("group", name), s.metrics)
	server := deltav3.NewServer(s.ctx, session, session,
		deltav3.DeactivateLegacyWildcardForTypes([]string{resourcev3.EndpointType}))
	return server.DeltaStreamHandler(stream, resourcev3.AnyType)
}
