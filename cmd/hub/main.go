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
	"flag"
	"fmt"
	"os"

	"go.uber.org/zap/zapcore"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync"
	"github.com/kubelb/gitops/hub"
	"github.com/kubelb/gitops/xds"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hub:", err)
		os.Exit(1)
	}
}

type options struct {
	namespace, listen, metrics, probes, webhook, stateDir, envoy string
	leaderElection                                               bool
}

func run() error {
	var o options
	flag.StringVar(&o.namespace, "namespace", "kubelb", "namespace of Config, GitSources and keys")
	flag.StringVar(&o.listen, "listen-address", ":8001", "where xDS is served, with mutual TLS")
	flag.StringVar(&o.metrics, "metrics-addr", ":9443", "where metrics are served; 0 turns them off")
	flag.StringVar(&o.probes, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served; 0 turns them off")
	flag.StringVar(&o.webhook, "webhook-addr", ":9292", "where POST /hook/<namespace>/<gitsource> is served; 0 turns it off")
	flag.StringVar(&o.stateDir, "state-dir", "/var/lib/kubelb", "where infrastructure Host keeps Envoy's bootstrap, certificates and lock")
	flag.StringVar(&o.envoy, "envoy", os.Getenv("ENVOY"), "Envoy binary for infrastructure Host; envoy in $PATH if empty")
	flag.BoolVar(&o.leaderElection, "enable-leader-election", true, "let one replica write at a time")
	logging := zap.Options{TimeEncoder: zapcore.RFC3339NanoTimeEncoder}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))

	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	server, err := xds.New(xds.Options{Log: ctrl.Log.WithName("xds")})
	if err != nil {
		return err
	}
	if err := hub.SetupWithManager(mgr, hub.Options{
		Namespace: o.namespace, Version: version, XDS: server,
		ListenAddress: o.listen, StateDir: o.stateDir, Envoy: o.envoy,
	}); err != nil {
		return fmt.Errorf("set up the controllers: %w", err)
	}
	if err := gitsync.SetupWithManager(mgr, gitsync.Options{
		Namespace: o.namespace, Version: v1alpha1.Version{GitVersion: version}, WebhookAddr: o.webhook,
	}); err != nil {
		return fmt.Errorf("set up gitsync: %w", err)
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}

func newManager(o options) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster (--kubeconfig, $KUBECONFIG or in-cluster): %w", err)
	}
	config.QPS = -1 // the API server's own fairness bounds us
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, LeaderElection: o.leaderElection, LeaderElectionID: "19f32e7b.kubelb.k8c.io",
		LeaderElectionNamespace: o.namespace, LeaderElectionReleaseOnCancel: true,
		Metrics: metricsserver.Options{BindAddress: o.metrics}, HealthProbeBindAddress: o.probes,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}
