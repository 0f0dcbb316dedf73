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

// Package manager makes the controller manager that the programs share: flags
// that both have, the scheme, logging, metrics, probes and leader election.
package manager

import (
	"flag"
	"fmt"

	"go.uber.org/zap/zapcore"

	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Options are the settings of a manager. Their flags are added by AddFlags.
type Options struct {
	// Lease is the name of the Lease that the leader holds, and its namespace.
	Lease, LeaseNamespace string
	LeaderElection        bool
	// Metrics and Probes are addresses to listen on; "0" turns one off.
	Metrics, Probes string
	// ShowVersion: the program is only asked for its version.
	ShowVersion bool

	logging zap.Options
}

// AddFlags adds the flags of the options, with the address that metrics are
// served on by default.
func (o *Options) AddFlags(flags *flag.FlagSet, metrics string) {
	flags.StringVar(&o.Metrics, "metrics-addr", metrics, "where metrics are served; 0 turns them off")
	flags.StringVar(&o.Probes, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served; 0 turns them off")
	flags.BoolVar(&o.LeaderElection, "enable-leader-election", true, "let one replica write at a time")
	flags.BoolVar(&o.ShowVersion, "version", false, "print the version and end")
	o.logging.TimeEncoder = zapcore.RFC3339NanoTimeEncoder
	// An error says in a sentence what is wrong; where in the program that was is
	// for those who ask with --zap-stacktrace-level.
	o.logging.StacktraceLevel = zapcore.PanicLevel
	o.logging.BindFlags(flags)
}

// New makes the manager and sets the logger of the program.
func New(o Options) (ctrl.Manager, error) {
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.logging)))
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
		Scheme: scheme, LeaderElection: o.LeaderElection, LeaderElectionID: o.Lease,
		LeaderElectionNamespace: o.LeaseNamespace, LeaderElectionReleaseOnCancel: true,
		Cache:   cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Metrics: metricsserver.Options{BindAddress: o.Metrics}, HealthProbeBindAddress: o.Probes,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}
