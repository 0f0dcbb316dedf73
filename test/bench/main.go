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

// The benchmark measures the whole way on the test bed and prints one table.
// docs/performance.md keeps the last one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/test/testbed"

	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	o := options{sizes: []int{200, 2000}}
	flag.IntVar(&o.samples, "samples", 30, "Services measured one after the other, per row")
	flag.IntVar(&o.present, "present", 200, "load balancers present in the second row, and Services made at once in the third")
	flag.DurationVar(&o.idle, "idle", 10*time.Minute, "how long nothing may be committed when nothing happens")
	flag.BoolVar(&o.services, "services", false, "measure only Services of one tenant, and idling")
	flag.BoolVar(&o.nodes, "nodes", false, "measure only changes of a node, and restarts of the hub, beside many load balancers")
	flag.Func("sizes", "load balancers of the tenants of -nodes (default 200,2000)", o.takeSizes)
	flag.IntVar(&o.rounds, "rounds", 3, "changes of a node for each of -sizes")
	flag.StringVar(&o.hub, "hub", "", "the hub program to measure (default: this module's)")
	flag.StringVar(&o.ccm, "ccm", "", "the ccm program to measure (default: this module's)")
	flag.BoolVar(&o.udp, "udp", false, "measure only UDP datagrams through a load balancer")
	flag.BoolVar(&o.fleet, "fleet", false, "measure only many tenants at the same time, against git on one shared branch")
	flag.IntVar(&o.tenants, "tenants", 64, "tenants of -fleet")
	flag.IntVar(&o.changes, "changes", 20, "changes of each tenant of -fleet")
	flag.DurationVar(&o.native, "native", 3*time.Minute, "how long git may take for the same work in -fleet")
	flag.BoolVar(&o.scale, "scale", false, "measure only a fleet of many tenants: idling, and a change in one of them")
	flag.IntVar(&o.scaleTenants, "scale-tenants", 1000, "tenants of -scale")
	flag.IntVar(&o.scaleEach, "scale-each", 10, "load balancers of each tenant of -scale")
	flag.DurationVar(&o.interval, "interval", 10*time.Second, "how often the hub looks at the repository")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	samples, present int
	idle             time.Duration

	services, nodes         bool
	fleet, scale, udp       bool
	sizes                   []int
	rounds                  int
	hub, ccm                string
	tenants, changes        int
	native                  time.Duration
	scaleTenants, scaleEach int
	interval                time.Duration
}

func (o *options) takeSizes(text string) error {
	o.sizes = nil
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		o.sizes = append(o.sizes, n)
	}
	return nil
}

func run(ctx context.Context, o options) (err error) {
	system, err := testbed.NewSystem(ctx, testbed.SystemOptions{Interval: o.interval, Config: wide, HubProgram: o.hub, CCMProgram: o.ccm, Options: testbed.Options{
		Name: "bench", Tenants: []string{tenant}, Audit: true,
		Progress: func(step string, took time.Duration) { fmt.Fprintf(os.Stderr, "%s (%.1f s)\n", step, took.Seconds()) },
	}})
	if err != nil {
		return err
	}
	defer func() {
		if closed := system.Close(); err == nil {
			err = closed
		}
	}()
	b := &bench{System: system, out: os.Stdout}
	if err := system.Follow(ctx, tenant); err != nil {
		return err
	}
	if err := system.Deploy(ctx, tenant, b.app("web")); err != nil {
		return err
	}
	if err := b.all(ctx, o); err != nil {
		return fmt.Errorf("%w%s", err, system.Tails())
	}
	return nil
}
