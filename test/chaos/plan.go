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
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// apps are the echo servers that Services of a tenant choose from.
var apps = []string{"one", "two", "three"}

// steady is the Service of a tenant that no step changes: its traffic must never
// break, but for a moment when Envoy itself is ended or paused.
const steady = "steady"

// wish is what one Service is to be. The zero value is no Service.
type wish struct {
	Type  corev1.ServiceType
	App   string
	Ports []port // sorted by number, then protocol
	Local bool   // externalTrafficPolicy
	// Shared asks for the tenant's shared address. It never changes while a seed
	// runs, because the address of a Service then would.
	Shared bool
}

type port struct {
	Number   int32
	Protocol corev1.Protocol
}

func (p port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }

// served reports whether the hub is to serve the Service.
func (w wish) served() bool { return w.Type == corev1.ServiceTypeLoadBalancer }

// target is what a fault befalls. A target has one fault at a time.
type target struct {
	Part   string // hub, ccm, envoy, git, plane
	Tenant string // of ccm and plane; empty is the hub's plane
}

func (t target) String() string {
	if t.Tenant == "" && t.Part == "plane" {
		return "plane hub"
	}
	return t.Part + map[bool]string{true: "", false: " " + t.Tenant}[t.Tenant == ""]
}

// step is one thing that happens. Exactly one of Service and Fault is set.
type step struct {
	Tenant, Service string
	Wish            wish // what the Service is after the step

	Fault  string // kill, pause, stop, cut-pushes, cut-fetches, fail, slow, full; end ends it
	Target target

	// Pause is how long the runner waits before the next step.
	Pause time.Duration
}

func (s step) String() string {
	if s.Fault != "" {
		return s.Fault + " " + s.Target.String()
	}
	switch {
	case s.Wish.Type == "":
		return fmt.Sprintf("%s: delete %s", s.Tenant, s.Service)
	case s.Wish.Local:
		return fmt.Sprintf("%s: %s is %s of %s, %v, Local", s.Tenant, s.Service, s.Wish.Type, s.Wish.App, s.Wish.Ports)
	}
	return fmt.Sprintf("%s: %s is %s of %s, %v", s.Tenant, s.Service, s.Wish.Type, s.Wish.App, s.Wish.Ports)
}

// faultsOf are the faults that a part can have, and how long they last at most;
// 0 is a fault that ends by itself.
var faultsOf = map[string]map[string]time.Duration{
	"hub":   {"kill": 2 * time.Second, "pause": 3 * time.Second},
	"ccm":   {"kill": 2 * time.Second, "pause": 3 * time.Second},
	"envoy": {"kill": 0, "pause": 2 * time.Second},
	"git": {
		"stop": 3 * time.Second, "slow": 3 * time.Second, "full": 2 * time.Second,
		"cut-pushes": 0, "cut-fetches": 0, "fail": 0,
	},
	"plane": {"kill": time.Second, "pause": 2 * time.Second},
}

// planner makes the steps of one seed.
type planner struct {
	random  *rand.Rand
	tenants []string
	wishes  map[string]map[string]wish // by tenant, by Service
	shared  map[string]bool            // by tenant and Service: asks for the shared address
	open    map[target]int             // the step before which the fault ends
}

// newPlan returns the steps of a seed, and what is wished after them, by tenant
// and Service. The same arguments give the same result.
func newPlan(seed uint64, tenants []string, steps int) ([]step, map[string]map[string]wish) {
	p := &planner{
		random: rand.New(rand.NewPCG(seed, 0x6b7562656c62)), tenants: tenants,
		wishes: map[string]map[string]wish{}, shared: map[string]bool{}, open: map[target]int{},
	}
	var plan []step
	for _, tenant := range tenants {
		p.wishes[tenant] = map[string]wish{}
		s := step{Tenant: tenant, Service: steady, Wish: wish{
			Type: corev1.ServiceTypeLoadBalancer, App: apps[0], Ports: []port{{8080, corev1.ProtocolTCP}},
		}}
		p.wishes[tenant][steady] = s.Wish
		plan = append(plan, s)
	}
	for n := range steps {
		plan = append(plan, p.endFaults(n)...)
		if s, ok := p.fault(n); ok {
			plan = append(plan, s)
			continue
		}
		if s, ok := p.change(); ok {
			plan = append(plan, s)
		}
	}
	return append(plan, p.endFaults(steps+1<<20)...), p.wishes
}

func (p *planner) pause(most time.Duration) time.Duration {
	return time.Duration(p.random.Int64N(int64(most)))
}

// endFaults ends what is to end before step n.
func (p *planner) endFaults(n int) (ends []step) {
	for _, t := range slices.SortedFunc(maps.Keys(p.open), byName) {
		if p.open[t] <= n {
			delete(p.open, t)
			ends = append(ends, step{Fault: "end", Target: t, Pause: p.pause(100 * time.Millisecond)})
		}
	}
	return ends
}

func byName(a, b target) int { return cmp.Compare(a.String(), b.String()) }

// fault begins one in a third of the steps, unless three parts have one.
func (p *planner) fault(n int) (step, bool) {
	if p.random.IntN(3) > 0 || len(p.open) >= 3 {
		return step{}, false
	}
	targets := []target{{Part: "hub"}, {Part: "hub"}, {Part: "envoy"}, {Part: "git"}, {Part: "git"}}
	for _, tenant := range p.tenants {
		targets = append(targets, target{"ccm", tenant}, target{"ccm", tenant})
	}
	if p.random.IntN(4) == 0 { // a control plane takes seconds to come back
		targets = []target{{Part: "plane"}}
		for _, tenant := range p.tenants {
			targets = append(targets, target{"plane", tenant})
		}
	}
	t := targets[p.random.IntN(len(targets))]
	if _, has := p.open[t]; has {
		return step{}, false
	}
	kinds := slices.Sorted(maps.Keys(faultsOf[t.Part]))
	kind := kinds[p.random.IntN(len(kinds))]
	s := step{Fault: kind, Target: t}
	most := faultsOf[t.Part][kind]
	if most == 0 {
		s.Pause = p.pause(300 * time.Millisecond)
		return s, true
	}
	p.open[t] = n + 1 + p.random.IntN(4)
	s.Pause = p.pause(most)
	return s, true
}

// change gives one Service of a tenant whose API server can be reached another
// wish.
func (p *planner) change() (step, bool) {
	var reachable []string
	for _, tenant := range p.tenants {
		if _, down := p.open[target{"plane", tenant}]; !down {
			reachable = append(reachable, tenant)
		}
	}
	if len(reachable) == 0 {
		return step{}, false
	}
	tenant := reachable[p.random.IntN(len(reachable))]
	number := p.random.IntN(6)
	s := step{Tenant: tenant, Service: fmt.Sprintf("web-%d", number), Pause: p.pause(400 * time.Millisecond)}
	s.Wish = p.next(p.wishes[tenant][s.Service], tenant, number)
	if s.Wish.Type == "" {
		delete(p.wishes[tenant], s.Service)
	} else {
		p.wishes[tenant][s.Service] = s.Wish
	}
	return s, true
}

// next returns another wish for a Service than the one it has. Services of one
// tenant have no port in common, so that those that share an address never
// conflict.
func (p *planner) next(has wish, tenant string, number int) wish {
	if has.Type == "" {
		key := tenant + "/" + fmt.Sprint(number)
		shared, decided := p.shared[key]
		if !decided {
			shared = p.random.IntN(3) == 0
			p.shared[key] = shared
		}
		return wish{
			Type: corev1.ServiceTypeLoadBalancer, App: apps[p.random.IntN(len(apps))], Shared: shared,
			Ports: p.ports(number),
		}
	}
	next := has
	switch p.random.IntN(6) {
	case 0:
		return wish{}
	case 1:
		next.App = apps[p.random.IntN(len(apps))]
	case 2:
		next.Local = has.served() && !has.Local
	case 3:
		next.Type = corev1.ServiceTypeLoadBalancer
		if has.served() {
			next.Type, next.Local = corev1.ServiceTypeClusterIP, false
		}
	default:
		next.Ports = p.ports(number)
	}
	return next
}

// ports are one to three of a Service's own.
func (p *planner) ports(number int) []port {
	first := int32(7000 + 100*number)
	var ports []port
	for _, offset := range p.random.Perm(5)[:1+p.random.IntN(3)] {
		protocol := corev1.ProtocolTCP
		if p.random.IntN(4) == 0 {
			protocol = corev1.ProtocolUDP
		}
		ports = append(ports, port{first + int32(offset), protocol})
	}
	slices.SortFunc(ports, func(a, b port) int { return cmp.Compare(a.Number, b.Number) })
	return ports
}
