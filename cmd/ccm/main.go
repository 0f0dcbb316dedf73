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

// The ccm binary runs in a tenant cluster: it renders Services and Nodes to
// files, commits them to the tenant's own branch and puts the hub's answer into
// the status of Services. It never talks to the hub. See docs/design.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ccm:", err)
		os.Exit(1)
	}
}

type options struct {
	ccm               ccm.Options
	hubKeys           values
	addressType       string
	metrics, probes   string
	electionNamespace string
	leaderElection    bool
}

// values is a repeatable flag.
type values []string

func (v *values) String() string { return strings.Join(*v, ",") }

func (v *values) Set(value string) error {
	*v = append(*v, value)
	return nil
}

func parseFlags() options {
	var o options
	flag.StringVar(&o.ccm.Tenant, "cluster-name", "", "name of the tenant (required)")
	flag.StringVar(&o.ccm.Namespace, "namespace", "kubelb", "namespace of the CCM's key, credentials and state")
	flag.StringVar(&o.ccm.GitURL, "git-url", "", "URL of the Git repository, http or https (required)")
	flag.StringVar(&o.ccm.GitSecret, "git-secret", "kubelb-git", "Secret with username and password, or bearerToken; ca.crt for the server's certificate")
	flag.Var(&o.hubKeys, "hub-key", "the hub's public key as an authorized_keys line, or @<file>; repeatable (required)")
	flag.BoolVar(&o.ccm.Adopt, "adopt", false, "take over the branch of another cluster with this tenant's name")
	flag.StringVar(&o.addressType, "node-address-type", string(corev1.NodeExternalIP), "address of nodes that the hub reaches: ExternalIP, InternalIP or Hostname")
	flag.BoolVar(&o.ccm.UseLoadBalancerClass, "use-loadbalancer-class", false, "only Services with spec.loadBalancerClass kubelb")
	flag.StringVar(&o.ccm.WebhookAddr, "webhook-addr", "", "where POST /hook is served, so that news of the hub arrives at once; empty turns it off")
	flag.StringVar(&o.ccm.WebhookTokenFile, "webhook-token-file", "", "file with the HMAC key of the webhook")
	flag.StringVar(&o.metrics, "metrics-addr", ":9445", "where metrics are served; 0 turns them off")
	flag.StringVar(&o.probes, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served; 0 turns them off")
	flag.BoolVar(&o.leaderElection, "enable-leader-election", true, "let one replica write at a time")
	flag.StringVar(&o.electionNamespace, "leader-election-namespace", "", "namespace of the Lease; --namespace if empty")
	logging := zap.Options{TimeEncoder: zapcore.RFC3339NanoTimeEncoder}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	if o.electionNamespace == "" {
		o.electionNamespace = o.ccm.Namespace
	}
	if o.leaderElection {
		o.ccm.Lease = types.NamespacedName{Namespace: o.electionNamespace, Name: ccm.LeaseName}
	}
	o.ccm.HubKeys, o.ccm.NodeAddressType = o.hubKeys, corev1.NodeAddressType(o.addressType)
	return o
}

func run() error {
	o := parseFlags()
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	if err := ccm.SetupWithManager(mgr, o.ccm); err != nil {
		return err
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
		Scheme: scheme, LeaderElection: o.leaderElection, LeaderElectionID: ccm.LeaseName,
		LeaderElectionNamespace: o.electionNamespace, LeaderElectionReleaseOnCancel: true,
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
