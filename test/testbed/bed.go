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

package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options describe a bed.
type Options struct {
	Name       string   // begins the name of the bed's folder; "bed" when empty
	Tenants    []string // a control plane each
	Nodes      int      // of each tenant; 2 when 0
	CRDs       []string // files or folders to install in the hub
	Repository string   // name of the first Git repository; "fleet" when empty
	Forge      bool     // the first Git repository is on a Gitea, not on the bed's own Git server
	Audit      bool     // API servers note who writes what: [Plane.Writes]

	// Progress, when set, is told of every part that is up and how long it
	// took. It is called from several goroutines, one at a time.
	Progress func(step string, took time.Duration)
}

// Bed is the surroundings of one system under test.
type Bed struct {
	Dir        string // logs, kubeconfigs, repositories; gone after Close
	Slot       int    // keeps this bed's addresses apart from other beds'
	Hub        *Plane
	Git        *GitServer
	Repository *Repository // Options.Repository
	Forge      *Gitea      // with Options.Forge; nil else

	home    *home
	options Options

	mu        sync.Mutex
	tenants   map[string]*Tenant
	indexes   int // how many tenants there ever were
	processes []*Process
}

// Tenant is one tenant cluster.
type Tenant struct {
	Name string
	*Plane
	*Cluster
}

// New starts a bed. The context bounds the start only; Close ends the bed.
// When New fails nothing is left.
func New(ctx context.Context, options Options) (*Bed, error) {
	if options.Name == "" {
		options.Name = "bed"
	}
	if options.Repository == "" {
		options.Repository = "fleet"
	}
	if options.Nodes == 0 {
		options.Nodes = 2
	}
	h, err := newHome(options.Name)
	if err != nil {
		return nil, err
	}
	b := &Bed{Dir: h.dir, Slot: h.slot, home: h, options: options, tenants: map[string]*Tenant{}}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bed) start(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		begin := time.Now()
		git, err := newGitServer(ctx, b.home)
		if err != nil {
			return err
		}
		b.Git = git
		if b.options.Forge {
			return b.startForge(ctx)
		}
		if b.Repository, err = git.Create(ctx, b.options.Repository); err == nil {
			b.progress("Git server up", begin)
		}
		return err
	})
	group.Go(func() error {
		begin := time.Now()
		plane, err := startPlane(ctx, b.home, "hub", b.options.Audit)
		if err != nil {
			return err
		}
		b.Hub = plane
		b.progress("hub control plane up", begin)
		if len(b.options.CRDs) == 0 {
			return nil
		}
		begin = time.Now()
		if err := b.Hub.InstallCRDs(b.options.CRDs...); err != nil {
			return err
		}
		b.progress("CRDs installed in the hub", begin)
		return nil
	})
	for _, name := range b.options.Tenants {
		group.Go(func() error {
			_, err := b.AddTenant(ctx, name)
			return err
		})
	}
	return group.Wait()
}

// startForge starts the forge with the first Git repository.
func (b *Bed) startForge(ctx context.Context) error {
	begin := time.Now()
	forge, err := startGitea(ctx, b.home)
	if err != nil {
		return err
	}
	b.Forge = forge
	if b.Repository, err = forge.Create(ctx, b.options.Repository); err == nil {
		b.progress("Gitea up", begin)
	}
	return err
}

// AddTenant starts one more tenant cluster.
func (b *Bed) AddTenant(ctx context.Context, name string) (*Tenant, error) {
	begin := time.Now()
	b.mu.Lock()
	index := b.indexes
	b.indexes++
	_, exists := b.tenants[name]
	if !exists && name != "hub" {
		b.tenants[name] = nil // taken
	}
	b.mu.Unlock()
	if exists || name == "hub" {
		return nil, fmt.Errorf("the bed has a control plane %q already", name)
	}
	plane, err := startPlane(ctx, b.home, name, b.options.Audit)
	if err != nil {
		return nil, err
	}
	cluster, err := startCluster(ctx, plane, index, b.options.Nodes)
	if err != nil {
		plane.Down()
		return nil, err
	}
	tenant := &Tenant{Name: name, Plane: plane, Cluster: cluster}
	b.mu.Lock()
	b.tenants[name] = tenant
	b.mu.Unlock()
	b.progress(fmt.Sprintf("tenant %s up, %d nodes", name, b.options.Nodes), begin)
	return tenant, nil
}

// Tenant returns a tenant of the bed; nil when there is none of that name.
func (b *Bed) Tenant(name string) *Tenant {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tenants[name]
}

// LoadBalancerCIDR is a range of about a thousand loopback addresses that only
// this bed uses, for external IPs.
func (b *Bed) LoadBalancerCIDR() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 200, byte(4 * b.Slot), 0}), 22)
}

// Start runs a program, such as the hub or a CCM, as a part of the bed. Its
// output goes to <name>.log in the bed's folder.
func (b *Bed) Start(command Command) (*Process, error) {
	process, err := b.home.start(command)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.processes = append(slices.DeleteFunc(b.processes, func(p *Process) bool { return !p.Alive() }), process)
	return process, nil
}

// Close ends everything the bed started and removes its folder.
func (b *Bed) Close() error {
	b.mu.Lock()
	processes, tenants := b.processes, b.tenants
	b.processes, b.tenants = nil, map[string]*Tenant{}
	b.mu.Unlock()
	for _, process := range slices.Backward(processes) {
		process.Kill()
	}
	for _, tenant := range tenants {
		if tenant != nil {
			tenant.stop()
		}
	}
	if b.Git != nil {
		b.Git.close()
	}
	if b.Forge != nil {
		b.Forge.close()
	}
	for _, tenant := range tenants {
		if tenant != nil {
			tenant.Down()
		}
	}
	if b.Hub != nil {
		b.Hub.Down()
	}
	return b.home.close()
}

func (b *Bed) progress(step string, begin time.Time) {
	if b.options.Progress == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.options.Progress(step, time.Since(begin).Round(10*time.Millisecond))
}
