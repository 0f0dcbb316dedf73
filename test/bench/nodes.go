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
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"
)

// nodes measures what one change of a node costs beside many load balancers, and
// what a restart of the hub costs beside all of them.
func (b *bench) nodes(ctx context.Context, o options) error {
	total := 0
	for i, n := range o.sizes {
		prefix := fmt.Sprintf("nodes%d", n)
		begin := time.Now()
		writers, err := b.enroll(ctx, prefix, 1, n)
		if err != nil {
			return err
		}
		defer closeAll(writers)
		if _, err := b.wait(ctx, begin, "an answer for every load balancer", func() error { return b.answered(ctx, prefix, n) }); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%d load balancers made (%.1f s)\n", n, time.Since(begin).Seconds())
		if err := b.nodeChanges(ctx, writers[0], n, fmt.Sprintf("127.99.%d.", 1+i), o.rounds); err != nil {
			return err
		}
		total += n
		if err := b.endpointChanges(ctx, writers[0], total, o.rounds); err != nil {
			return err
		}
	}
	return b.restarts(ctx, total)
}

// endpointChanges gives one of many load balancers another NodePort, several times.
func (b *bench) endpointChanges(ctx context.Context, w *testbed.Writer, present, rounds int) error {
	var samples []sample
	var sum cost
	for round := range rounds {
		edits, err := w.LoadBalancer("web-0", 8080)
		if err != nil {
			return err
		}
		for path, text := range edits {
			edits[path] = bytes.ReplaceAll(text, []byte("nodePort: 30080"), fmt.Appendf(nil, "nodePort: %d", 30100+round))
		}
		var took time.Duration
		c, err := b.spell(ctx, func() error {
			from, err := os.Stat(b.HubProcess().Log)
			if err != nil {
				return err
			}
			begin := time.Now()
			if err := w.Push(ctx, edits); err != nil {
				return err
			}
			_, err = b.wait(ctx, begin, "Envoy to acknowledge it", func() error {
				at, err := b.acked(from.Size(), v1alpha1.TenantNamespace(w.Tenant), "shop.web-0")
				took = at.Sub(begin)
				return err
			})
			return err
		})
		if err != nil {
			return err
		}
		samples = append(samples, sample{stageWorking: took})
		sum.hubCPU, sum.hub = sum.hubCPU+c.hubCPU, append(sum.hub, c.hub...)
	}
	b.row(fmt.Sprintf("**one load balancer's endpoint pushed → acknowledged by Envoy, %d load balancers**", present), samples, working)
	b.printf("|   · processor time of the hub, until quiet | %d | %s | | |\n", rounds, seconds(sum.hubCPU/time.Duration(rounds)))
	b.printf("|   · status writes of LoadBalancers | %d | %d | | |\n", rounds, statuses(sum.hub, "loadbalancers"))
	return nil
}

// acked is when the hub's log, from an offset on, says that Envoy acknowledged a
// load balancer.
func (b *bench) acked(from int64, namespace, name string) (time.Time, error) {
	text, err := os.ReadFile(b.HubProcess().Log)
	if err != nil {
		return time.Time{}, err
	}
	for line := range bytes.Lines(text[from:]) {
		var entry struct {
			TS                     time.Time
			Stage, Namespace, Name string
		}
		if json.Unmarshal(line, &entry) == nil && entry.Stage == "acked" && entry.Namespace == namespace && entry.Name == name {
			return entry.TS, nil
		}
	}
	return time.Time{}, errors.New("it has not")
}

// cost is what a spell cost.
type cost struct {
	cpu, hubCPU   time.Duration
	hub, tenant   []testbed.Write
	statusCommits int
	received      int64 // bytes that Envoy read from the hub
}

// spell measures what happens from before do until all is quiet again.
func (b *bench) spell(ctx context.Context, do func() error) (c cost, err error) {
	if err := b.quiet(ctx); err != nil {
		return c, err
	}
	mark, err := b.Hub.AuditMark()
	if err != nil {
		return c, err
	}
	tenantMark, err := b.Tenant(tenant).AuditMark()
	if err != nil {
		return c, err
	}
	b.Trail.Reset()
	hub, cpu, hubCPU, received := b.HubProcess(), b.CPU(), b.HubProcess().CPU(), b.received(ctx)
	if err := do(); err != nil {
		return c, err
	}
	if err := b.quiet(ctx); err != nil {
		return c, err
	}
	c.cpu, c.hubCPU, c.received = b.CPU().Since(cpu), b.HubProcess().CPU(), b.received(ctx)-received
	if b.HubProcess() == hub {
		c.hubCPU -= hubCPU
	}
	if c.hub, err = b.Hub.Writes(mark); err != nil {
		return c, err
	}
	if c.tenant, err = b.Tenant(tenant).Writes(tenantMark); err != nil {
		return c, err
	}
	c.hub, c.tenant = slices.DeleteFunc(c.hub, background), slices.DeleteFunc(c.tenant, background)
	c.statusCommits = len(slices.DeleteFunc(b.Trail.Marks(), func(m testbed.Mark) bool { return m.Stage != testbed.StageReported }))
	return c, nil
}

// background is what a control plane writes by itself.
func background(w testbed.Write) bool { return w.Resource == "leases" }

// quiet waits until for a while nothing was pushed and nothing written in the hub.
func (b *bench) quiet(ctx context.Context) error {
	for {
		mark, err := b.Hub.AuditMark()
		if err != nil {
			return err
		}
		if err := b.settle(ctx, quiet); err != nil {
			return err
		}
		written, err := b.Hub.Writes(mark)
		if err != nil {
			return err
		}
		if len(slices.DeleteFunc(written, background)) == 0 {
			return nil
		}
	}
}

// statuses counts the writes of the statuses of a kind of object.
func statuses(writes []testbed.Write, resource string) (n int) {
	for _, w := range writes {
		if w.Resource == resource && w.Subresource == "status" {
			n++
		}
	}
	return n
}

// nodeChanges gives one of the two nodes of a tenant with n load balancers another
// address, several times.
func (b *bench) nodeChanges(ctx context.Context, w *testbed.Writer, n int, network string, rounds int) error {
	var pushed, applied []sample
	var sum cost
	for round := range rounds {
		node := fmt.Sprintf("%s%d", network, 1+round)
		edits, err := w.Nodes(deadNode, node)
		if err != nil {
			return err
		}
		var begin, served time.Time
		c, err := b.spell(ctx, func() error {
			begin = time.Now()
			if err := w.Push(ctx, edits); err != nil {
				return err
			}
			_, err := b.wait(ctx, begin, "Envoy to have the node", func() error { return b.endpoints(ctx, node, n) })
			served = time.Now()
			return err
		})
		if err != nil {
			return err
		}
		pushed = append(pushed, sample{stageWorking: served.Sub(begin)})
		for _, write := range c.hub {
			if write.Resource == "addresses" && write.Subresource == "" {
				applied = append(applied, sample{stageWorking: served.Sub(write.At)})
				break
			}
		}
		sum.cpu, sum.hubCPU, sum.statusCommits = sum.cpu+c.cpu, sum.hubCPU+c.hubCPU, sum.statusCommits+c.statusCommits
		sum.hub = append(sum.hub, c.hub...)
	}
	each := func(n int) string { return fmt.Sprintf("%.1f", float64(n)/float64(rounds)) }
	perRound := func(d time.Duration) string { return seconds(d / time.Duration(rounds)) }
	b.row(fmt.Sprintf("**a node's address changes: in the hub → in every cluster at Envoy, %d load balancers**", n), applied, working)
	b.row("  · from the tenant's push on", pushed, working)
	b.printf("|   · processor time of everything, until quiet | %d | %s | | |\n", rounds, perRound(sum.cpu))
	b.printf("|   · processor time of the hub | %d | %s | | |\n", rounds, perRound(sum.hubCPU))
	b.printf("|   · status writes of LoadBalancers | %d | %s | | |\n", rounds, each(statuses(sum.hub, "loadbalancers")))
	b.printf("|   · all writes in the hub | %d | %s | | |\n", rounds, each(len(sum.hub)))
	b.printf("|   · status commits | %d | %s | | |\n", rounds, each(sum.statusCommits))
	b.breakdown(sum.hub, 0)
	return nil
}

func working(s sample) time.Duration { return s[stageWorking] }

// endpoints checks that n of Envoy's clusters have a node.
func (b *bench) endpoints(ctx context.Context, node string, n int) error {
	select { // to ask is work for Envoy
	case <-time.After(min(time.Duration(n)*100*time.Microsecond, 100*time.Millisecond)):
	case <-ctx.Done():
		return ctx.Err()
	}
	text, err := b.Envoy(ctx, "/clusters")
	if err != nil {
		return err
	}
	if has := bytes.Count(text, []byte("::"+node+":30080::health_flags::")); has != n {
		return fmt.Errorf("%d of %d clusters have", has, n)
	}
	return nil
}

// restarts measures the hub's start: Envoy kept, Envoy started anew, and Envoy
// alone started anew beside a hub that runs, which is what the hub cannot beat.
func (b *bench) restarts(ctx context.Context, n int) error {
	listeners, err := b.gauge(ctx, "listener_manager.total_listeners_active")
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		title      string
		hub, envoy bool
	}{{"the hub started anew, Envoy kept", true, false}, {"Envoy alone started anew", false, true}, {"the hub and Envoy started anew", true, true}} {
		var complete time.Duration
		c, err := b.spell(ctx, func() error {
			begin := time.Now()
			if kind.hub {
				b.KillHub()
			}
			if kind.envoy {
				if err := b.KillEnvoy(); err != nil {
					return err
				}
			}
			opened := b.openings()
			if kind.hub {
				opened++
				if err := b.StartHub(); err != nil {
					return err
				}
			}
			var err error
			complete, err = b.wait(ctx, begin, "Envoy to be complete", func() error { return b.complete(ctx, listeners, opened) })
			return err
		})
		if err != nil {
			return err
		}
		b.printf("| **%s → complete, %d load balancers** | 1 | %s | | |\n", kind.title, n, seconds(complete))
		b.printf("|   · processor time of everything, until quiet | 1 | %s | | |\n", seconds(c.cpu))
		b.printf("|   · processor time of the hub | 1 | %s | | |\n", seconds(c.hubCPU))
		b.printf("|   · status writes of LoadBalancers; all writes in the hub | 1 | %d; %d | | |\n", statuses(c.hub, "loadbalancers"), len(c.hub))
		b.printf("|   · status commits | 1 | %d | | |\n", c.statusCommits)
		if !kind.envoy {
			b.printf("|   · bytes that Envoy read from the hub | 1 | %d | | |\n", c.received)
		}
		b.breakdown(c.hub, 0)
	}
	return nil
}

// complete checks that the hub serves and Envoy has all its listeners.
func (b *bench) complete(ctx context.Context, listeners int64, opened int) error {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if n := b.openings(); n < opened {
		return errors.New("the hub does not serve yet")
	}
	if connected, err := b.gauge(ctx, "control_plane.connected_state"); err != nil || connected != 1 {
		return errors.Join(err, errors.New("no connection of Envoy"))
	}
	active, err := b.gauge(ctx, "listener_manager.total_listeners_active")
	if err != nil || active < listeners {
		return errors.Join(err, fmt.Errorf("%d of %d listeners are active", active, listeners))
	}
	return nil
}

// openings counts how often hubs began to serve.
func (b *bench) openings() int {
	text, _ := os.ReadFile(b.HubProcess().Log)
	return bytes.Count(text, []byte("proxy group opened"))
}

// gauge is one of Envoy's statistics.
func (b *bench) gauge(ctx context.Context, name string) (int64, error) {
	text, err := b.Envoy(ctx, "/stats?format=json&filter=^"+strings.ReplaceAll(name, ".", `\.`)+"$")
	if err != nil {
		return 0, err
	}
	var answer struct {
		Stats []struct {
			Name  string
			Value json.Number
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, err
	}
	for _, stat := range answer.Stats {
		if stat.Name == name {
			return stat.Value.Int64()
		}
	}
	return 0, fmt.Errorf("no statistic %s of Envoy: %s", name, text)
}

// received is how many bytes Envoy has read from the hub; 0 if it does not say.
func (b *bench) received(ctx context.Context) int64 {
	n, _ := b.gauge(ctx, "cluster.xds.upstream_cx_rx_bytes_total")
	return n
}

// breakdown prints who wrote what, per load balancer if there are any.
func (b *bench) breakdown(writes []testbed.Write, balancers int) {
	counts := map[string]int{}
	for _, w := range writes {
		what := w.Resource
		if w.Subresource != "" {
			what += "/" + w.Subresource
		}
		program := w.User[strings.LastIndexByte(w.User, ':')+1:]
		if w.Manager != "" && w.Manager != program {
			program += " as " + w.Manager
		}
		if w.Code >= 300 {
			what += fmt.Sprintf(" (%d)", w.Code)
		}
		counts[fmt.Sprintf("%s %s by %s", w.Verb, what, program)]++
	}
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y string) int { return counts[y] - counts[x] })
	for _, key := range keys {
		if balancers > 0 {
			b.printf("|   · · %s | %d | %.2f | | |\n", key, counts[key], float64(counts[key])/float64(balancers))
		} else {
			b.printf("|   · · %s | %d | | | |\n", key, counts[key])
		}
	}
}
