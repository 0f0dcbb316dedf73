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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	tenant    = "acme"
	namespace = "bench"
	port      = 8080
	// patience bounds one sample, or one burst.
	patience = 2 * time.Minute
)

type bench struct {
	*testbed.System
	out io.Writer
}

// printf writes to the table. Standard output that is gone ends the program.
func (b *bench) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(b.out, format, args...); err != nil {
		panic(err)
	}
}

// app is one of many Services before the same pods.
func (b *bench) app(name string) testbed.App {
	return testbed.App{Namespace: namespace, Name: name, Replicas: 2, Service: func(s *corev1.Service) {
		s.Spec.Selector = map[string]string{"app": "web"}
	}}
}

func (b *bench) all(ctx context.Context, o options) error {
	b.printf("| measure | n | p50 | p99 | max |\n|---|---|---|---|---|\n")
	every := !o.services && !o.udp && !o.nodes && !o.fleet && !o.scale // but for a thousand tenants, which take half an hour
	if o.services || every {
		if err := b.services(ctx, o); err != nil {
			return err
		}
	}
	if o.nodes || every {
		if err := b.nodes(ctx, o); err != nil {
			return err
		}
	}
	if o.udp || every {
		if err := b.datagrams(ctx); err != nil {
			return err
		}
	}
	if o.fleet || every {
		if err := b.fleet(ctx, o); err != nil {
			return err
		}
	}
	if o.scale {
		return b.scale(ctx, o)
	}
	return nil
}

// services measures Services of a tenant with a real cluster: one at a time, many
// at once, one at a time beside many; then idling.
func (b *bench) services(ctx context.Context, o options) error {
	alone, err := b.series(ctx, "alone", o.samples)
	if err != nil {
		return err
	}
	b.rows("one Service → working address, alone", alone)
	var took sample
	c, err := b.spell(ctx, func() (err error) {
		took, err = b.burst(ctx, o.present)
		return err
	})
	if err != nil {
		return err
	}
	b.printf("| **%d Services at once → all addresses** | 1 | %s | | |\n", o.present, seconds(took[testbed.StageAddressed]))
	for _, stage := range testbed.Stages {
		b.printf("|   · the last one %s | 1 | %s | | |\n", stage, seconds(took[stage]))
	}
	b.printf("|   · processor time of everything, until quiet | 1 | %s | | |\n", seconds(c.cpu))
	b.printf("|   · writes in the hub, per load balancer | %d | %.2f | | |\n", len(c.hub), float64(len(c.hub))/float64(o.present))
	b.breakdown(c.hub, o.present)
	b.printf("|   · writes in the tenant, per load balancer | %d | %.2f | | |\n", len(c.tenant), float64(len(c.tenant))/float64(o.present))
	b.breakdown(c.tenant, o.present)
	crowded, err := b.series(ctx, "crowd", o.samples)
	if err != nil {
		return err
	}
	b.rows(fmt.Sprintf("one Service → working address, %d present", o.present), crowded)
	commits, err := b.idle(ctx, o.idle)
	if err != nil {
		return err
	}
	b.printf("| commits in %s of idling, with %d load balancers | | %d | | |\n", o.idle, o.present, commits)
	return nil
}

// sample is the time from the creation of a Service to each stage.
type sample map[testbed.Stage]time.Duration

// stageWorking is the first answer through the address.
const stageWorking testbed.Stage = "working"

// series makes Services one after the other and removes each again.
func (b *bench) series(ctx context.Context, name string, n int) ([]sample, error) {
	var samples []sample
	for i := range n + 1 {
		s, err := b.one(ctx, fmt.Sprintf("%s-%d", name, i))
		if err != nil {
			return nil, err
		}
		if i > 0 { // the first one warms up
			samples = append(samples, s)
		}
		fmt.Fprintf(os.Stderr, "\r%s: %d of %d ", name, i, n)
	}
	fmt.Fprintln(os.Stderr)
	return samples, nil
}

func (b *bench) one(ctx context.Context, name string) (sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("out of patience"))
	defer cancel()
	b.Trail.Reset()
	begin := time.Now()
	service := b.app(name).NewService()
	if err := b.TenantClient(tenant).Create(ctx, service); err != nil {
		return nil, err
	}
	address, err := b.Address(ctx, tenant, namespace, name)
	if err != nil {
		return nil, err
	}
	if err := testbed.Eventually(ctx, "an answer", func() error {
		_, err := testbed.AskHTTP(ctx, fmt.Sprintf("%s:%d", address, port))
		return err
	}); err != nil {
		return nil, err
	}
	s := sample{stageWorking: time.Since(begin)}
	for _, stage := range testbed.Stages {
		mark, err := b.Trail.Wait(ctx, string(stage), begin, func(m testbed.Mark) bool {
			return m.Stage == stage && (m.Object == "" || m.Object == repo.ObjectName(namespace, name))
		})
		if err != nil {
			return nil, err
		}
		s[stage] = mark.At.Sub(begin)
	}
	return s, b.remove(ctx, name)
}

// remove deletes a Service and waits until it is gone from both clusters, so
// that the next sample starts from quiet.
func (b *bench) remove(ctx context.Context, name string) error {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := b.TenantClient(tenant).Delete(ctx, service); err != nil {
		return err
	}
	return testbed.Eventually(ctx, "Service "+name+" to be gone", func() error {
		err := b.TenantClient(tenant).Get(ctx, client.ObjectKeyFromObject(service), &corev1.Service{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
}

// burst makes n Services at once, waits for all their addresses and returns when
// each stage was seen last.
func (b *bench) burst(ctx context.Context, n int) (sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("out of patience"))
	defer cancel()
	b.Trail.Reset()
	begin := time.Now()
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		group.Go(func() error {
			return b.TenantClient(tenant).Create(ctx, b.app(fmt.Sprintf("burst-%d", i)).NewService())
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	addressed := map[string]bool{}
	for len(addressed) < n {
		mark, err := b.Trail.Wait(ctx, fmt.Sprintf("address %d of %d", len(addressed)+1, n), begin, func(m testbed.Mark) bool {
			return m.Stage == testbed.StageAddressed && !addressed[m.Object]
		})
		if err != nil {
			return nil, err
		}
		addressed[mark.Object] = true
	}
	last := sample{}
	for _, mark := range b.firsts() {
		last[mark.Stage] = max(last[mark.Stage], mark.At.Sub(begin))
	}
	return last, nil
}

// firsts are the marks of pushes, and the first of each object and stage.
func (b *bench) firsts() (out []testbed.Mark) {
	seen := map[testbed.Mark]bool{}
	for _, mark := range b.Trail.Marks() {
		key := testbed.Mark{Stage: mark.Stage, Object: mark.Object}
		if mark.Object == "" || !seen[key] {
			out = append(out, mark)
		}
		seen[key] = true
	}
	return out
}

// idle counts the pushes of a spell in which nothing happens.
func (b *bench) idle(ctx context.Context, spell time.Duration) (int, error) {
	if err := b.settle(ctx, quiet); err != nil {
		return 0, err
	}
	b.Trail.Reset()
	select {
	case <-time.After(spell):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return len(slices.DeleteFunc(b.Trail.Marks(), func(m testbed.Mark) bool { return m.Object != "" })), nil
}

// Spells without a push after which nothing more is expected to follow.
const (
	quiet     = 3 * time.Second
	longQuiet = 15 * time.Second // of a busy fleet
)

// settle waits until no push came by for a spell.
func (b *bench) settle(ctx context.Context, spell time.Duration) error {
	for {
		quiet, cancel := context.WithTimeout(ctx, spell)
		_, err := b.Trail.Wait(quiet, "a push", time.Now(), func(m testbed.Mark) bool { return m.Object == "" })
		cancel()
		if err != nil {
			return ctx.Err()
		}
	}
}

// rows prints the total and then each stage's share, which is the time since
// the stage before it.
func (b *bench) rows(title string, samples []sample) {
	b.row("**"+title+"**", samples, func(s sample) time.Duration { return s[stageWorking] })
	b.stages(samples, append(slices.Clone(testbed.Stages[1:]), stageWorking))
}

// stages prints how long each stage took after the one before.
func (b *bench) stages(samples []sample, stages []testbed.Stage) {
	before := testbed.StageCreated
	for _, stage := range stages {
		previous := before
		b.row(fmt.Sprintf("  · %s → %s", previous, stage), samples, func(s sample) time.Duration { return s[stage] - s[previous] })
		before = stage
	}
}

func (b *bench) row(title string, samples []sample, of func(sample) time.Duration) {
	values := make([]time.Duration, 0, len(samples))
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	at := func(q float64) string { return seconds(values[min(len(values)-1, int(q*float64(len(values))))]) }
	b.printf("| %s | %d | %s | %s | %s |\n", strings.TrimRight(title, " "), len(values), at(0.5), at(0.99), seconds(values[len(values)-1]))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
