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

package hub_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub"
	"github.com/kubelb/gitops/test/leash"
	"github.com/kubelb/gitops/xds/ir"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	hubNamespace = "kubelb"
	patience     = 60 * time.Second
)

var (
	restConfig *rest.Config
	scheme     = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	code, err := withAPIServer(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withAPIServer(m *testing.M) (int, error) {
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return 0, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return 0, err
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{"../deploy/crds"}, ErrorIfCRDPathMissing: true}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		assets, err := filepath.Abs("../.tools/bin")
		if err != nil {
			return 0, err
		}
		env.BinaryAssetsDirectory = assets
	}
	c, err := env.Start()
	if err != nil {
		return 0, fmt.Errorf("start an API server (`make tools` installs it): %w", err)
	}
	if err := leash.Tie(env); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	c.QPS = -1
	restConfig = c
	code := m.Run()
	return code, env.Stop()
}

// bed is a hub on a real API server, with proxies that do as they are told.
type bed struct {
	*testing.T
	client.Client
	proxies *proxies
	infra   *hostStub
	// patience with proxies; short, so that tests of silent ones are.
	patience time.Duration
	writes   writes
	registry *prometheus.Registry // of the running hub
	stop     func()
}

// newBed starts a hub with a pool of eight addresses.
func newBed(t *testing.T) *bed {
	t.Helper()
	c, err := client.New(restConfig, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, Client: c, proxies: newProxies(), infra: &hostStub{max: 1000}, patience: 100 * time.Millisecond}
	t.Cleanup(func() { b.stopHub(); b.wipe() })
	err = c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: hubNamespace}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	b.create(&v1alpha1.Config{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"},
		Spec:       v1alpha1.ConfigSpec{AddressPools: []v1alpha1.AddressPool{{Name: "main", CIDRs: []string{"192.0.2.1-192.0.2.8"}}}},
	})
	b.startHub()
	return b
}

func (b *bed) startHub() {
	b.Helper()
	skip := true
	counted := rest.CopyConfig(restConfig)
	counted.Wrap(b.writes.count)
	mgr, err := ctrl.NewManager(counted, ctrl.Options{
		Scheme: scheme, Metrics: server.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: &skip},
		Logger: testr.NewWithOptions(b.T, testr.Options{LogTimestamp: true}),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.registry = prometheus.NewRegistry()
	err = hub.SetupWithManager(mgr, hub.Options{
		Namespace: hubNamespace, Publisher: b.proxies, Infra: b.infra, Registry: b.registry,
		HubNetworks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Patience: b.patience,
		Version: v1alpha1.Version{GitVersion: "v0.0.0-test"},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(log.IntoContext(context.Background(), mgr.GetLogger()))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}

func (b *bed) stopHub() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

// wipe leaves nothing for the next test.
func (b *bed) wipe() {
	ctx := context.Background()
	for _, list := range []client.ObjectList{
		&v1alpha1.LoadBalancerList{}, &v1alpha1.TenantList{}, &v1alpha1.TenantStateList{}, &v1alpha1.ConfigList{}, &v1alpha1.AddressesList{}, &v1alpha1.BackendList{},
		&v1alpha1.SyncSecretList{}, &corev1.SecretList{},
	} {
		if err := b.List(ctx, list); err != nil {
			b.Error(err)
		}
		objects, _ := apimeta.ExtractList(list)
		for _, object := range objects {
			o := object.(client.Object)
			if err := b.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
				b.Error(err)
			}
			none := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
			if err := b.Patch(ctx, o, none); client.IgnoreNotFound(err) != nil {
				b.Error(err)
			}
		}
	}
}

func (b *bed) create(o client.Object) {
	b.Helper()
	if err := b.Create(b.Context(), o); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) remove(o client.Object) {
	b.Helper()
	if err := b.Delete(b.Context(), o); err != nil {
		b.Fatal(err)
	}
}

// change reads an object, changes it and writes it.
func change[T client.Object](b *bed, o T, how func(T)) {
	b.Helper()
	b.eventually("the object is changed", func() (bool, string) {
		if err := b.Get(b.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return false, err.Error()
		}
		how(o)
		err := b.Update(b.Context(), o)
		return err == nil, fmt.Sprint(err)
	})
}

// changeStatus does the same to its status.
func changeStatus[T client.Object](b *bed, o T, how func(T)) {
	b.Helper()
	b.eventually("the status is changed", func() (bool, string) {
		if err := b.Get(b.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return false, err.Error()
		}
		how(o)
		err := b.Status().Update(b.Context(), o, client.FieldOwner("kubelb-gitsync"))
		return err == nil, fmt.Sprint(err)
	})
}

// tenant makes a Tenant and waits for its TenantState.
func (b *bed) tenant(name string, how ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	b.Helper()
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.TenantSpec{}}
	for _, f := range how {
		f(tenant)
	}
	b.create(tenant)
	state := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-" + name, Name: "default"}}
	b.eventually("the TenantState is there", func() (bool, string) {
		err := b.Get(b.Context(), client.ObjectKeyFromObject(state), state)
		return err == nil, fmt.Sprint(err)
	})
	return tenant
}

// restored does gitsync's part of a tenant's beginning.
func (b *bed) restored(name string) {
	b.Helper()
	changeStatus(b, b.state(name), func(s *v1alpha1.TenantState) {
		apimeta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionRestored, Status: "True", Reason: "Restored"})
	})
}

// ready makes a restored tenant with a node.
func (b *bed) ready(name string, how ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	b.Helper()
	tenant := b.tenant(name, how...)
	b.create(b.nodes(name, "198.51.100.1"))
	b.restored(name)
	return tenant
}

func (b *bed) state(tenant string) *v1alpha1.TenantState {
	return &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-" + tenant, Name: "default"}}
}

func (b *bed) nodes(tenant string, ips ...string) *v1alpha1.Addresses {
	addresses := &v1alpha1.Addresses{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-" + tenant, Name: "default"}}
	for _, ip := range ips {
		addresses.Spec.Addresses = append(addresses.Spec.Addresses, v1alpha1.EndpointAddress{IP: ip})
	}
	return addresses
}

// service makes a Backend and a LoadBalancer with one port.
func (b *bed) service(tenant, name string, how ...func(*v1alpha1.LoadBalancer)) *v1alpha1.LoadBalancer {
	b.Helper()
	meta := metav1.ObjectMeta{Namespace: "tenant-" + tenant, Name: "shop." + name, Labels: map[string]string{
		v1alpha1.LabelOriginNS: "shop", v1alpha1.LabelOriginName: name, v1alpha1.LabelOriginKind: "Service",
	}}
	backend := &v1alpha1.Backend{ObjectMeta: meta, Spec: v1alpha1.BackendSpec{Ports: []v1alpha1.BackendPort{{Name: "http", Port: 80, Protocol: "TCP", NodePort: 30080}}}}
	if err := b.Create(b.Context(), backend); err != nil && !apierrors.IsAlreadyExists(err) {
		b.Fatal(err)
	}
	lb := &v1alpha1.LoadBalancer{ObjectMeta: meta, Spec: v1alpha1.LoadBalancerSpec{
		Type:  corev1.ServiceTypeLoadBalancer,
		Ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80, Protocol: "TCP"}},
		Endpoints: []v1alpha1.LoadBalancerEndpoints{{
			Name: "default", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: meta.Name},
		}},
	}}
	for _, f := range how {
		f(lb)
	}
	b.create(lb)
	return lb
}

// waitFor reads an object until something is true of it.
func waitFor[T client.Object](b *bed, what string, o T, is func(T) bool) T {
	b.Helper()
	b.eventually(what, func() (bool, string) {
		if err := b.Get(b.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return false, err.Error()
		}
		return is(o), fmt.Sprintf("%+v", o)
	})
	return o
}

// address waits for a published address.
func (b *bed) address(lb *v1alpha1.LoadBalancer) string {
	b.Helper()
	waitFor(b, lb.Name+" has an address", lb, func(lb *v1alpha1.LoadBalancer) bool {
		return len(lb.Status.LoadBalancer.Ingress) == 1 && condition(lb, "Ready").Status == "True"
	})
	return lb.Status.LoadBalancer.Ingress[0].IP
}

// waitForReason waits for a condition.
func (b *bed) waitForReason(lb *v1alpha1.LoadBalancer, kind, status, reason string) metav1.Condition {
	b.Helper()
	waitFor(b, fmt.Sprintf("%s is %s=%s %s", lb.Name, kind, status, reason), lb, func(lb *v1alpha1.LoadBalancer) bool {
		c := condition(lb, kind)
		return string(c.Status) == status && c.Reason == reason
	})
	return condition(lb, kind)
}

func (b *bed) waitUntilGone(o client.Object) {
	b.Helper()
	b.eventually(o.GetName()+" is gone", func() (bool, string) {
		err := b.Get(b.Context(), client.ObjectKeyFromObject(o), o)
		return apierrors.IsNotFound(err), fmt.Sprintf("%v %+v", err, o)
	})
}

func condition(lb *v1alpha1.LoadBalancer, kind string) metav1.Condition {
	if c := apimeta.FindStatusCondition(lb.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

func (b *bed) eventually(what string, is func() (bool, string)) {
	b.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		ok, seen := is()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("not within %s: %s\n%s", patience, what, seen)
		}
	}
}

// proxies are a Publisher in memory. They acknowledge everything unless told
// otherwise.
type proxies struct {
	mu        sync.Mutex
	opened    bool
	silent    bool              // nothing is acknowledged or removed
	refuse    map[string]string // listener → message
	parts     map[string]*ir.Part
	verdicts  map[string]ir.Verdict
	published []string       // owners, in order
	needless  map[string]int // removals of owners that had nothing; each is answered
	tell      []func(string, []string)
}

func newProxies() *proxies {
	return &proxies{refuse: map[string]string{}, needless: map[string]int{}, parts: map[string]*ir.Part{}, verdicts: map[string]ir.Verdict{}}
}

func (p *proxies) Publish(_ string, parts map[string]*ir.Part) map[string]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for owner, part := range parts {
		_, known := p.parts[owner]
		switch {
		case part != nil:
			p.parts[owner] = part
			p.verdicts[owner] = ir.Verdict{Hash: part.Hash()}
			p.published = append(p.published, owner)
		case known:
			delete(p.parts, owner)
			p.verdicts[owner] = ir.Verdict{}
			p.published = append(p.published, "-"+owner)
		default:
			p.needless[owner]++
			for _, f := range p.tell {
				f("global", []string{owner})
			}
		}
	}
	p.answer()
	return nil
}

// answer judges everything that was published.
func (p *proxies) answer() {
	if !p.opened || p.silent {
		return
	}
	for _, owner := range slices.Sorted(maps.Keys(p.verdicts)) {
		verdict := ir.Verdict{Proxies: 1}
		if part := p.parts[owner]; part == nil {
			verdict.Removed = true
		} else {
			verdict.Hash = part.Hash()
			for _, l := range part.Listeners {
				if message, refused := p.refuse[l.Name()]; refused {
					verdict.Rejections = append(verdict.Rejections, ir.Rejection{Resource: l.Name(), Message: message})
				}
			}
			verdict.Programmed = len(verdict.Rejections) == 0
		}
		if fmt.Sprint(p.verdicts[owner]) == fmt.Sprint(verdict) {
			continue
		}
		p.verdicts[owner] = verdict
		for _, f := range p.tell {
			f("global", []string{owner})
		}
	}
}

// set changes how proxies behave.
func (p *proxies) set(how func(*proxies)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	how(p)
	p.answer()
}

func (p *proxies) Open(string) { p.set(func(p *proxies) { p.opened = true }) }

func (p *proxies) Verdict(_, owner string) (ir.Verdict, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	verdict, known := p.verdicts[owner]
	return verdict, known
}

func (p *proxies) Subscribe(f func(string, []string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell = append(p.tell, f)
}

func (p *proxies) Proxies(string) int { return 1 }

// serves lists the listeners of an owner and where they lead.
func (p *proxies) serves(lb *v1alpha1.LoadBalancer) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	part := p.parts[lb.Namespace+"/"+lb.Name]
	if part == nil {
		return ""
	}
	var out []string
	for _, l := range part.Listeners {
		for _, c := range part.Clusters {
			if c.Name == l.Cluster {
				out = append(out, fmt.Sprintf("%s%v", l.Name(), c.Endpoints))
			}
		}
	}
	return strings.Join(out, " ")
}

func (p *proxies) isOpen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// hostStub is an Infra without proxies.
type hostStub struct {
	mu          sync.Mutex
	max         int
	unreachable map[netip.AddrPort]bool
}

func (h *hostStub) Run(ctx context.Context, _ string) error { <-ctx.Done(); return nil }

func (h *hostStub) MaxListeners() int { return h.max }

func (h *hostStub) Reach(_ context.Context, a netip.AddrPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unreachable[a] {
		return fmt.Errorf("connect %s: refused", a)
	}
	return nil
}

func addrPorts(texts ...string) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, text := range texts {
		out[netip.MustParseAddrPort(text)] = true
	}
	return out
}
