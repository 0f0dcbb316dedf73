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

// Package hub runs the controllers of the management cluster: Config, Tenant,
// LoadBalancer, SyncSecret and the sealing keys. They gather what the Kubernetes API has into one struct, let
// pure packages decide (hub/assign, hub/build), hand the result to proxies and
// write one status.
//
// A load balancer lives in this order, and every step can be repeated:
//
//	status.addresses      assigned; this is the reservation
//	Publisher.Publish     the proxies are told
//	Publisher.Verdict     at least one acknowledged, none rejects
//	status.loadBalancer   published: the address works
//
// What the package promises:
//
//   - An address is published after a proxy acknowledged it and withdrawn only
//     when it changes or the object goes, never because proxies disconnect.
//   - A user's mistake is a problem in the status, with its field and a remedy;
//     it is not retried, and what it does not concern goes on.
//   - A restarting hub never empties a running proxy: a group is opened only when
//     its tenants are restored and everything that has an address is built.
//   - What a tenant sealed is opened into a Secret of the tenant's namespace and
//     told to nobody: no log, event, condition or error has a word of it.
//   - The cost of a change is that change.
//
// Every replica builds and publishes the same; only the leader assigns and
// writes. The package knows proxies through [Publisher] and [Infra] only, and
// gitsync through the Kubernetes API only.
package hub

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/xds/ir"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Publisher tells proxies what to serve and what they make of it. An owner is
// <namespace>/<name> of a LoadBalancer. The methods do not block on proxies.
type Publisher interface {
	// Publish replaces the parts of owners; nil removes one. Errors are by owner,
	// who keeps what it had.
	Publish(group string, parts map[string]*ir.Part) map[string]error
	// Open lets the group's proxies have what was published.
	Open(group string)
	// Verdict is what the proxies say of an owner; false if it is not known (any
	// more).
	Verdict(group, owner string) (ir.Verdict, bool)
	// Subscribe calls f when verdicts may have changed. f must not block.
	Subscribe(f func(group string, owners []string))
	// Proxies counts those connected.
	Proxies(group string) int
}

// Infra runs proxies.
type Infra interface {
	// Run keeps the proxies of a group running until the context ends.
	Run(ctx context.Context, group string) error
	// MaxListeners is how many listeners a group can have.
	MaxListeners() int
	// Reach connects to an address by TCP, to see that somebody listens.
	Reach(ctx context.Context, address netip.AddrPort) error
}

// Options are a hub's surroundings.
type Options struct {
	// Namespace of the Config and of the hub's Secrets.
	Namespace string
	Version   v1alpha1.Version
	Publisher Publisher
	// Infra runs the proxies of infrastructure Host.
	Infra Infra
	// HubNetworks are networks that no tenant's endpoint may be in, beside those of
	// Config.spec.hubNetworks and the addresses of this machine.
	HubNetworks []netip.Prefix
	// RestoreGrace bounds how long a starting hub waits for tenants that are not
	// restored, once one is. Default: 30 s.
	RestoreGrace time.Duration
	// Patience is how long proxies may owe an answer before a status says that it
	// waits for them; what it said before stays until then. Default: 2 s.
	Patience time.Duration
	// Registry of metrics. Default: that of controller-runtime.
	Registry prometheus.Registerer
}

const (
	// fieldManager owns what the hub's controllers write.
	fieldManager = "kubelb-hub"
	// globalGroup is the proxy group of topology global, the one on Host.
	globalGroup = "global"
	// workers reconcile load balancers at once.
	workers = 8

	defaultRestoreGrace       = 30 * time.Second
	defaultPatience           = 2 * time.Second
	defaultAddressGracePeriod = 24 * time.Hour
)

// hub is what the controllers share.
type hub struct {
	Options
	client client.Client // reads its own writes
	live   client.Reader // not from the cache
	now    func() time.Time

	config       *configuration
	book         *book
	opening      *opening
	leader       *leadership
	queue        *queue // of load balancers to reconcile
	outcomes     *outcomes
	statusQueue  *queue // of load balancers whose status may have to be written
	reservations *reservations
	sealing      *sealing
	networks     *networks
	tenantQueue  *queue // of Tenants to reconcile
}

// SetupWithManager adds the hub's controllers to a manager.
func SetupWithManager(mgr manager.Manager, o Options) error {
	if o.Publisher == nil || o.Infra == nil || o.Namespace == "" {
		return errors.New("hub: Namespace, Publisher and Infra are needed")
	}
	if o.RestoreGrace == 0 {
		o.RestoreGrace = defaultRestoreGrace
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Registry == nil {
		o.Registry = metrics.Registry
	}
	var err error
	networks := newNetworks(o.HubNetworks)
	if networks.machine, err = machineNetworks(); err != nil {
		return err
	}
	c, err := newClient(mgr)
	if err != nil {
		return err
	}
	h := &hub{
		Options: o, client: c, live: mgr.GetAPIReader(), now: time.Now,
		config: newConfiguration(), book: newBook(), opening: newOpening(), leader: &leadership{}, queue: &queue{}, outcomes: newOutcomes(), statusQueue: &queue{}, reservations: newReservations(), sealing: &sealing{},
	}
	h.tenantQueue = &queue{}
	h.networks, h.book.wake, h.book.judge = networks, h.wake, networks.judge
	m, err := newMeasures(o.Registry, h)
	if err != nil {
		return err
	}
	for _, setup := range []func(manager.Manager, *measures) error{h.setupConfig, h.setupTenants, h.setupLoadBalancers, h.setupSealing, h.setupSyncSecrets, h.setupEvents} {
		if err := setup(mgr, m); err != nil {
			return err
		}
	}
	return errors.Join(mgr.Add(starter{h}), mgr.Add(proxies{h}), mgr.Add(judging{h}))
}

// newClient reads from the manager's cache, but never older than what it wrote.
func newClient(mgr manager.Manager) (client.Client, error) {
	consistent := true
	c, err := client.New(mgr.GetConfig(), client.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		Cache: &client.CacheOptions{Reader: mgr.GetCache(), EnableReadYourWritesConsistency: &consistent},
	})
	if err != nil {
		return nil, fmt.Errorf("hub: make a client: %w", err)
	}
	return c, nil
}
