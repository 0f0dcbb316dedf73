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

// Chaos changes the Services of two tenants at random while hub, CCMs, Envoy,
// the Git server and API servers are killed, paused and restarted, and then
// compares what there is with what was wished: in the tenants, in Git, in the
// hub and in Envoy, with traffic.
//
//	make chaos SEED=7            one seed
//	make chaos SEED=1 SEEDS=50   seeds 1 to 50
//
// A seed fixes the steps, their order and the pauses between them; what the
// programs do in between is theirs. At every moment, not only at the end, no two
// load balancers publish one address and port, no Service has another address
// than before, and a Service that nobody changes answers, unless Envoy itself was
// killed or paused.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

const (
	startTimeout = 5 * time.Minute
	// settleTimeout bounds how long everything may take to be as wished once all
	// faults have ended. Back-off after faults is at most 30 s, and a deleted
	// Service waits for its hub for 60 s.
	settleTimeout = 3 * time.Minute
	clock         = "15:04:05.000"
)

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "the first seed")
	flag.IntVar(&o.seeds, "seeds", 1, "how many seeds, one after the other")
	flag.IntVar(&o.steps, "steps", 40, "steps of each seed")
	flag.BoolVar(&o.verbose, "v", false, "print every step as it happens")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := runSeeds(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	fmt.Printf("%d seeds, %d failed %v\n", o.seeds, len(failed), failed)
	if len(failed) > 0 {
		os.Exit(1)
	}
}

type options struct {
	seed         uint64
	seeds, steps int
	verbose      bool
}

// runSeeds returns the seeds that failed. After one that failed the system is
// made anew.
func runSeeds(ctx context.Context, o options) (failed []uint64, err error) {
	var r *run
	defer func() { r.close() }()
	for seed := o.seed; seed < o.seed+uint64(o.seeds) && ctx.Err() == nil; seed++ {
		if r == nil {
			if r, err = newRun(ctx, []string{"acme", "globex"}, o.verbose); err != nil {
				return failed, err
			}
		}
		begin := time.Now()
		report, err := r.seed(ctx, seed, o.steps)
		if err != nil {
			fmt.Printf("seed %d: FAILED after %.0f s\n%s\n%v\n", seed, time.Since(begin).Seconds(), r.history(), err)
			failed = append(failed, seed)
			r.close()
			r = nil
			continue
		}
		fmt.Printf("seed %d: as wished after %.0f s: %s\n", seed, time.Since(begin).Seconds(), report)
	}
	return failed, ctx.Err()
}

// run is a system that seeds are run on.
type run struct {
	system     *testbed.System
	tenants    []string
	witness    *witness
	traffic    *traffic
	supervisor *supervisor
	verbose    bool
	end        context.CancelFunc

	mu    sync.Mutex
	lines []string
}

func newRun(ctx context.Context, tenants []string, verbose bool) (r *run, err error) {
	starting, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not up within %s", startTimeout))
	defer cancel()
	r = &run{tenants: tenants, traffic: &traffic{}, verbose: verbose}
	r.system, err = testbed.NewSystem(starting, testbed.SystemOptions{
		Options: testbed.Options{Name: "chaos", Tenants: tenants}, Interval: 2 * time.Second,
		Config: func(c *v1alpha1.Config) { c.Spec.AddressGracePeriod = &metav1.Duration{Duration: time.Hour} },
	})
	if err != nil {
		return nil, err
	}
	for _, tenant := range tenants {
		for _, app := range apps {
			if err := r.system.Deploy(starting, tenant, testbed.App{Namespace: namespace, Name: appOf(tenant, wish{App: app}), Replicas: 2}); err != nil {
				return r, err
			}
		}
	}
	running, end := context.WithCancel(ctx)
	r.end = end
	r.supervisor = &supervisor{system: r.system, tenants: tenants, note: r.note, held: map[target]bool{}, last: map[target]time.Time{}}
	go r.supervisor.run(running)
	r.witness, err = newWitness(running, r.system, tenants)
	return r, err
}

func (r *run) close() {
	if r == nil || r.system == nil {
		return
	}
	if r.end != nil {
		r.end()
	}
	if err := r.system.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: close the bed:", err)
	}
}

// note keeps a line of the history.
func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := time.Now().Format(clock) + " " + fmt.Sprintf(format, args...)
	r.lines = append(r.lines, line)
	if r.verbose {
		fmt.Println(line)
	}
}

func (r *run) history() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n") + "\n" + r.system.Tails()
}

// sharedAddress is one that several Services of a tenant ask for.
func (r *run) sharedAddress(tenant string) string {
	address := r.system.LoadBalancerCIDR().Addr().As4()
	return fmt.Sprintf("%d.%d.%d.%d", address[0], address[1], address[2], 200+slices.Index(r.tenants, tenant))
}

// seed runs one seed, and returns what there is to say of it.
func (r *run) seed(ctx context.Context, seed uint64, steps int) (report string, err error) {
	r.lines = nil
	plan, wishes := newPlan(seed, r.tenants, steps)
	stopTraffic := func() {}
	defer func() { stopTraffic() }()
	changes, faults := 0, 0
	for i, s := range plan {
		if i == len(r.tenants) {
			if stopTraffic, err = r.startTraffic(ctx); err != nil {
				return "", err
			}
		}
		r.note("%s", s)
		if s.Fault == "" {
			changes++
		} else if s.Fault != "end" {
			faults++
		}
		if err := r.do(ctx, s); err != nil {
			return "", fmt.Errorf("%s: %w", s, err)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(s.Pause):
		}
	}
	healed := time.Now()
	if err := r.settle(ctx, wishes, true); err != nil {
		return "", err
	}
	settled := time.Since(healed)
	stopTraffic()
	if broken := append(r.witness.take(), r.traffic.take()...); len(broken) > 0 {
		return "", fmt.Errorf("meanwhile:\n%s", strings.Join(broken[:min(20, len(broken))], "\n"))
	}
	if err := r.clear(ctx); err != nil {
		return "", err
	}
	r.witness.take()
	return fmt.Sprintf("%d changes, %d faults, settled in %.1f s, %d steady requests, %d starts",
		changes, faults, settled.Seconds(), r.traffic.asked, r.supervisor.starts), nil
}

// startTraffic waits for the steady Services and begins to ask them.
func (r *run) startTraffic(ctx context.Context) (stop func(), err error) {
	asking, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	for _, tenant := range r.tenants {
		bounded, done := context.WithTimeout(ctx, settleTimeout)
		address, err := r.system.Address(bounded, tenant, namespace, steady)
		if err == nil {
			address += ":8080"
			err = testbed.Eventually(bounded, "an answer of "+address, func() error {
				_, err := testbed.AskHTTP(bounded, address)
				return err
			})
		}
		done()
		if err != nil {
			cancel()
			return cancel, err
		}
		working.Go(func() { r.traffic.ask(asking, tenant, address) })
	}
	return func() { cancel(); working.Wait() }, nil
}

// settle waits until everything is as wished. Wishes for Services that were still
// being deleted are given now.
func (r *run) settle(ctx context.Context, wishes map[string]map[string]wish, give bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout, fmt.Errorf("not so within %s", settleTimeout))
	defer cancel()
	return testbed.Eventually(ctx, "everything to be as wished", func() error {
		if give {
			for _, tenant := range r.tenants {
				for name, w := range wishes[tenant] {
					if err := r.restore(ctx, tenant, name, w); err != nil {
						return err
					}
				}
			}
		}
		return r.differences(ctx, wishes)
	})
}

// clear deletes all Services and waits until nothing is left of them.
func (r *run) clear(ctx context.Context) error {
	for _, tenant := range r.tenants {
		if err := r.deleteServices(ctx, tenant); err != nil {
			return err
		}
	}
	if err := r.settle(ctx, nil, false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return testbed.Eventually(ctx, "the watches to see that all is gone", r.witness.empty)
}
