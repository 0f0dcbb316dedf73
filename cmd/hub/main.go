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

// The hub binary runs in the management cluster: it follows the Git repository,
// integrates and applies what tenants ask for, assigns addresses and programs
// Envoy. See docs/design.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/cmd/internal/manager"
	"github.com/kubelb/gitops/cmd/internal/version"
	"github.com/kubelb/gitops/gitsync"
	"github.com/kubelb/gitops/hub"
	"github.com/kubelb/gitops/hub/infra"
	"github.com/kubelb/gitops/xds"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hub:", err)
		os.Exit(1)
	}
}

type options struct {
	manager                                     manager.Options
	namespace, listen, webhook, stateDir, envoy string
	networks                                    []netip.Prefix
	sourceNamespaces                            string
}

func run() error {
	o := options{manager: manager.Options{Lease: "19f32e7b.kubelb.k8c.io"}}
	flag.StringVar(&o.namespace, "namespace", "kubelb", "namespace of Config, GitSources and keys")
	flag.StringVar(&o.sourceNamespaces, "gitsource-namespaces", "", "further namespaces whose GitSources are followed, by commas; Tenants belong to one of those only if they name it")
	flag.StringVar(&o.listen, "listen-address", ":8001", "where xDS is served, with mutual TLS")
	flag.StringVar(&o.webhook, "webhook-addr", ":9292", "where POST /hook/<namespace>/<gitsource> is served; empty turns it off")
	flag.StringVar(&o.stateDir, "state-dir", "/var/lib/kubelb", "where infrastructure Host keeps Envoy's bootstrap, certificates and lock")
	flag.StringVar(&o.envoy, "envoy", "", "Envoy for infrastructure Host; $ENVOY, or envoy in $PATH, if empty")
	flag.Func("hub-networks", "networks (CIDR, separated by commas) of the hub's nodes, pods and Services, in which no endpoint of a tenant may be; beside Config.spec.hubNetworks", o.addNetworks)
	o.manager.AddFlags(flag.CommandLine, ":9443")
	flag.Parse()
	if o.manager.ShowVersion {
		fmt.Println("hub", version.String())
		return nil
	}
	o.manager.LeaseNamespace = o.namespace

	ctx := ctrl.SetupSignalHandler()
	mgr, err := manager.New(o.manager)
	if err != nil {
		return err
	}
	if err := addHub(ctx, mgr, o); err != nil {
		return fmt.Errorf("set up the hub: %w", err)
	}
	if err := gitsync.SetupWithManager(mgr, gitsync.Options{
		Namespace: o.namespace, Version: v1alpha1.Version{GitVersion: version.String()}, WebhookAddr: o.webhook,
		SourceNamespaces: strings.FieldsFunc(o.sourceNamespaces, func(r rune) bool { return r == ',' || r == ' ' }),
	}); err != nil {
		return fmt.Errorf("set up gitsync: %w", err)
	}
	return mgr.Start(ctx)
}

// addHub adds the controllers, the xDS server and the proxies of this machine.
func addHub(ctx context.Context, mgr ctrl.Manager, o options) error {
	secrets, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return err
	}
	authority, err := hub.LoadAuthority(ctx, secrets, o.namespace)
	if err != nil {
		return err
	}
	server, err := xds.New(xds.Options{TLS: authority.ServerConfig(time.Now), Log: ctrl.Log.WithName("xds")})
	if err != nil {
		return err
	}
	metrics.Registry.MustRegister(server)
	listener, err := infra.Listen(o.stateDir, o.listen)
	if err != nil {
		return err
	}
	host, err := infra.NewHost(infra.Options{
		StateDir: o.stateDir, Envoy: o.envoy, XDS: infra.Local(listener), Identity: hub.Identities(authority),
		Log: ctrl.Log.WithName("infra"),
	})
	if err != nil {
		return err
	}
	if err := mgr.AddMetricsServerExtraHandler("/envoy/global/stats", host.Stats("global")); err != nil {
		return err
	}
	if err := mgr.Add(unelected(func(ctx context.Context) error { return server.Serve(ctx, listener) })); err != nil {
		return err
	}
	return hub.SetupWithManager(mgr, hub.Options{
		Namespace: o.namespace, Version: v1alpha1.Version{GitVersion: version.String()}, Publisher: server, Infra: host,
		HubNetworks: o.networks,
	})
}

func (o *options) addNetworks(text string) error {
	for _, item := range strings.Split(text, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		o.networks = append(o.networks, prefix.Masked())
	}
	return nil
}

// unelected runs on every replica, leader or not.
type unelected func(context.Context) error

func (u unelected) Start(ctx context.Context) error { return u(ctx) }

func (u unelected) NeedLeaderElection() bool { return false }
