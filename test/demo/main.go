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

// The demo shows the main job of the system on one machine: two control planes,
// a Git server, Envoy, and one Service that gets its address and its traffic
// through Git. It asserts every step and leaves the system running to play with,
// or ends with --once.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/test/testbed"

	ctrl "sigs.k8s.io/controller-runtime"
)

const tenant = "acme"

// startTimeout bounds the start, stepTimeout every step after it.
const (
	startTimeout = 3 * time.Minute
	stepTimeout  = time.Minute
)

func main() {
	once := flag.Bool("once", false, "end when every step was seen")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *once); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, once bool) (err error) {
	d := &demo{begin: time.Now()}
	d.title("Starting two control planes, a Git server, nodes, the hub, Envoy and a CCM")
	starting, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not up within %s", startTimeout))
	defer cancel()
	system, err := testbed.NewSystem(starting, testbed.SystemOptions{Options: testbed.Options{
		Name: "demo", Tenants: []string{tenant},
		Progress: func(step string, took time.Duration) { d.say("%s (%.1f s)", step, took.Seconds()) },
	}})
	if err != nil {
		return err
	}
	defer func() {
		fmt.Println("\nStopping everything ...")
		if closed := system.Close(); err == nil {
			err = closed
		}
	}()
	d.System = system
	if err := system.Follow(ctx, tenant); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.deploy, d.expose, d.change, d.revert} {
		bounded, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("not seen within %s", stepTimeout))
		err := step(bounded)
		cancel()
		if err != nil {
			return d.explain(err)
		}
	}
	if once {
		fmt.Printf("\nEvery step was seen. Total: %.1f s\n", time.Since(d.begin).Seconds())
		return nil
	}
	d.next()
	<-ctx.Done()
	return nil
}
