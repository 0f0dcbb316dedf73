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

	"github.com/kubelb/gitops/ccm"
	"github.com/kubelb/gitops/cmd/internal/manager"
	"github.com/kubelb/gitops/cmd/internal/version"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ccm:", err)
		os.Exit(1)
	}
}

// values is a repeatable flag.
type values []string

func (v *values) String() string { return strings.Join(*v, ",") }

func (v *values) Set(value string) error {
	*v = append(*v, value)
	return nil
}

func run() error {
	var (
		o           ccm.Options
		mo          = manager.Options{Lease: ccm.LeaseName}
		addressType string
		healthPort  int
	)
	flag.StringVar(&o.Tenant, "cluster-name", "", "name of the tenant (required)")
	flag.StringVar(&o.Namespace, "namespace", "kubelb", "namespace of the CCM's key, credentials and state")
	flag.StringVar(&o.GitURL, "git-url", "", "URL of the Git repository: https, http or ssh://git@host[:port]/path (required)")
	flag.StringVar(&o.GitSecret, "git-secret", "kubelb-git", "Secret with username and password, or bearerToken, and ca.crt; for ssh identity and known_hosts")
	flag.StringVar(&o.GitProxySecret, "git-proxy-secret", "", "Secret with the proxy to the Git server: address, username, password; empty: the environment's")
	flag.Var((*values)(&o.HubKeys), "hub-key", "the hub's public key as an authorized_keys line, or @<file>; repeatable (required)")
	flag.BoolVar(&o.Adopt, "adopt", false, "take over the branch of another cluster with this tenant's name")
	flag.StringVar(&addressType, "node-address-type", string(corev1.NodeExternalIP), "address of nodes that the hub reaches: ExternalIP, InternalIP or Hostname")
	flag.IntVar(&healthPort, "node-health-check-port", 10256, "port of the nodes whose /healthz the hub's proxies ask where all nodes answer as kube-proxy does; 0: never")
	flag.BoolVar(&o.UseLoadBalancerClass, "use-loadbalancer-class", false, "leave Services without spec.loadBalancerClass to others; those of a class other than kubelb always are")
	flag.StringVar(&o.WebhookAddr, "webhook-addr", "", "where POST /hook is served, so that news of the hub arrives at once; empty turns it off")
	flag.StringVar(&o.WebhookType, "webhook-type", "generic-hmac", "format of the webhook's requests: generic-hmac, github, gitlab or gitea")
	flag.StringVar(&o.WebhookTokenFile, "webhook-token-file", "", "file with the HMAC key of the webhook (GitLab: its secret token)")
	flag.StringVar(&mo.LeaseNamespace, "leader-election-namespace", "", "namespace of the Lease; --namespace if empty")
	mo.AddFlags(flag.CommandLine, ":9445")
	flag.Parse()
	if mo.ShowVersion {
		fmt.Println("ccm", version.String())
		return nil
	}
	o.NodeAddressType, o.HealthCheckPort = corev1.NodeAddressType(addressType), int32(healthPort)
	if mo.LeaseNamespace == "" {
		mo.LeaseNamespace = o.Namespace
	}
	if mo.LeaderElection {
		o.Lease = types.NamespacedName{Namespace: mo.LeaseNamespace, Name: mo.Lease}
	}
	mgr, err := manager.New(mo)
	if err != nil {
		return err
	}
	if err := ccm.SetupWithManager(mgr, o); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}
