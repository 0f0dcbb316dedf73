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

package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/xds/ir"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// fleet is two tenants whose load balancers meet on few addresses and ports, a
// hub that can be restarted at any time, and what its proxies serve.
type fleet struct {
	t     *rapid.T
	store client.WithWatch
	hub   *hub
	proxy *slowProxies
	clock time.Time
	// queue are those that are to be reconciled, written those whose status may have
	// to be.
	queue, written map[types.NamespacedName]bool
	// fail lets the next write of a status fail: "before" or "after" it happened.
	fail string
}

// fleetAddresses are asked for; most by several at once.
var fleetAddresses = []string{"", "", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"}

func newFleet(t *rapid.T) *fleet {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	f := &fleet{t: t, clock: noon.Time}
	objects := []client.Object{&v1alpha1.Config{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: "default"},
		Spec: v1alpha1.ConfigSpec{
			AddressPools:       []v1alpha1.AddressPool{{Name: "main", CIDRs: []string{"192.0.2.1-192.0.2.3"}}},
			AddressGracePeriod: &metav1.Duration{Duration: time.Hour},
		},
	}}
	for _, name := range []string{"one", "two"} {
		namespace := v1alpha1.TenantNamespace(name)
		tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}}
		tenant.Spec.Limits.LoadBalancers = 3
		state := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
		state.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRestored, Status: "True"}}
		nodes := &v1alpha1.Addresses{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
		nodes.Spec.Addresses = []v1alpha1.EndpointAddress{{IP: "198.51.100.1"}}
		backend := &v1alpha1.Backend{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "all"}}
		for port := int32(1); port <= 3; port++ {
			backend.Spec.Ports = append(backend.Spec.Ports, v1alpha1.BackendPort{Name: fmt.Sprintf("p%d", port), Port: port, Protocol: "TCP", NodePort: 30000 + port})
		}
		objects = append(objects, tenant, state, nodes, backend)
	}
	f.store = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.LoadBalancer{}, &v1alpha1.TenantState{}).
		WithInterceptorFuncs(interceptor.Funcs{Patch: f.patch, SubResourcePatch: f.patchStatus}).Build()
	f.restart()
	return f
}

// patch and patchStatus do what the API server does to what the hub applies.
func (f *fleet) patch(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
	if patch.Type() != types.ApplyPatchType {
		return c.Patch(ctx, o, patch, options...)
	}
	o.SetFinalizers([]string{v1alpha1.Finalizer})
	return c.Update(ctx, o)
}

func (f *fleet) patchStatus(ctx context.Context, c client.Client, _ string, o client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	text, err := patch.Data(o)
	if err != nil {
		return err
	}
	if f.fail == "before" {
		f.fail = ""
		return errors.New("the API server is away")
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		return err
	}
	switch o := o.(type) {
	case *v1alpha1.LoadBalancer:
		git := o.Status.Git
		o.Status = v1alpha1.LoadBalancerStatus{}
		err = json.Unmarshal(text, o)
		o.Status.Git = git
	case *v1alpha1.TenantState:
		o.Status.Reservations = nil
		err = json.Unmarshal(text, o)
	}
	if err == nil {
		err = c.Status().Update(ctx, o)
	}
	f.check()
	if f.fail == "after" {
		f.fail = ""
		return errors.New("the connection broke")
	}
	return err
}

// restart ends the hub and begins another one, which knows what is stored.
func (f *fleet) restart() {
	f.queue, f.written = map[types.NamespacedName]bool{}, map[types.NamespacedName]bool{}
	f.proxy = &slowProxies{fleet: f, wanted: map[string]*ir.Part{}, served: map[string]*ir.Part{}}
	f.hub = &hub{
		Options: Options{Namespace: "kubelb", Publisher: f.proxy, Infra: f.proxy, Patience: time.Second},
		client:  f.store, live: f.store, now: func() time.Time { return f.clock },
		config: newConfiguration(), book: newBook(), opening: newOpening(), leader: &leadership{}, queue: &queue{}, reservations: newReservations(),
		networks: newNetworks(nil), outcomes: newOutcomes(), statusQueue: &queue{},
	}
	f.hub.book.wake = func(owners []types.NamespacedName) {
		for _, owner := range owners {
			f.queue[owner] = true
		}
	}
	if err := (starter{f.hub}).load(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.hub.book.settleAll()
	f.hub.opening.done(f.clock)
	f.hub.leader.held.Store(true)
	for owner := range f.all() {
		f.queue[owner] = true
	}
}

func (f *fleet) all() map[types.NamespacedName]*v1alpha1.LoadBalancer {
	var list v1alpha1.LoadBalancerList
	if err := f.store.List(f.t.Context(), &list); err != nil {
		f.t.Fatal(err)
	}
	out := map[types.NamespacedName]*v1alpha1.LoadBalancer{}
	for i := range list.Items {
		out[client.ObjectKeyFromObject(&list.Items[i])] = &list.Items[i]
	}
	return out
}

func (f *fleet) draw(t *rapid.T) types.NamespacedName {
	return types.NamespacedName{
		Namespace: rapid.SampledFrom([]string{"tenant-one", "tenant-one", "tenant-two"}).Draw(t, "tenant"),
		Name:      rapid.SampledFrom([]string{"shop.a", "shop.b", "shop.c", "shop.d"}).Draw(t, "name"),
	}
}

// put makes a load balancer, or changes one.
func (f *fleet) put(t *rapid.T) {
	key := f.draw(t)
	lb, err := get(t.Context(), f.store, &v1alpha1.LoadBalancer{}, key)
	if err != nil {
		t.Fatal(err)
	}
	spec := v1alpha1.LoadBalancerSpec{
		Type: rapid.SampledFrom([]corev1.ServiceType{"LoadBalancer", "LoadBalancer", "LoadBalancer", "ClusterIP"}).Draw(t, "type"),
		Endpoints: []v1alpha1.LoadBalancerEndpoints{{
			Name: "default", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: "all"},
		}},
	}
	for _, port := range rapid.SliceOfNDistinct(rapid.Int32Range(1, 3), 1, 2, rapid.ID).Draw(t, "ports") {
		spec.Ports = append(spec.Ports, v1alpha1.LoadBalancerPort{Name: fmt.Sprintf("p%d", port), Port: port, Protocol: "TCP"})
	}
	if wish := rapid.SampledFrom(fleetAddresses).Draw(t, "address"); wish != "" {
		spec.Addresses = []string{wish}
	}
	if lb == nil {
		err = f.store.Create(t.Context(), &v1alpha1.LoadBalancer{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: spec})
	} else if lb.DeletionTimestamp.IsZero() {
		lb.Spec = spec
		lb.Generation++
		err = f.store.Update(t.Context(), lb)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.queue[key] = true
}

func (f *fleet) remove(t *rapid.T) {
	key := f.draw(t)
	lb, err := get(t.Context(), f.store, &v1alpha1.LoadBalancer{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if lb == nil {
		return
	}
	if lb.DeletionTimestamp.IsZero() && rapid.Bool().Draw(t, "pruned") {
		lb.Annotations = map[string]string{v1alpha1.AnnotationPruned: "true"}
		if err := f.store.Update(t.Context(), lb); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.store.Delete(t.Context(), lb); err != nil {
		t.Fatal(err)
	}
	f.queue[key] = true
}

// work lets one that is due have its turn, which may fail.
func (f *fleet) work(t *rapid.T) { f.workOn(t, f.queue, f.turn) }

// write does the same to one whose status is due.
func (f *fleet) write(t *rapid.T) { f.workOn(t, f.written, f.writeStatus) }

func (f *fleet) workOn(t *rapid.T, queue map[types.NamespacedName]bool, turn func(types.NamespacedName)) {
	if len(queue) == 0 {
		return
	}
	due := slices.SortedFunc(maps.Keys(queue), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	f.fail = rapid.SampledFrom([]string{"", "", "", "before", "after"}).Draw(t, "fail")
	turn(rapid.SampledFrom(due).Draw(t, "due"))
	f.fail = ""
}

func (f *fleet) turn(owner types.NamespacedName) {
	f.reconcile(owner, f.queue, &loadBalancers{hub: f.hub, events: silence{}})
}

func (f *fleet) writeStatus(owner types.NamespacedName) {
	f.reconcile(owner, f.written, statuses{&loadBalancers{hub: f.hub, events: silence{}}})
}

func (f *fleet) reconcile(owner types.NamespacedName, queue map[types.NamespacedName]bool, r reconcile.Reconciler) {
	delete(queue, owner)
	result, err := r.Reconcile(f.t.Context(), reconcile.Request{NamespacedName: owner})
	if err != nil || result.RequeueAfter > 0 {
		queue[owner] = true
	}
	if err != nil && result.RequeueAfter > 0 {
		f.t.Fatalf("a turn returns an error and when to come back: %v, %v", err, result)
	}
	for _, request := range f.hub.statusQueue.early {
		f.written[request.NamespacedName] = true
	}
	f.hub.statusQueue.early = nil
}

// answer lets the proxies take what they were told of one owner.
func (f *fleet) answer(t *rapid.T) { f.proxy.answer(f.draw(t)) }

// pass lets reservations end.
func (f *fleet) pass(*rapid.T) {
	f.clock = f.clock.Add(40 * time.Minute)
	f.expire()
}

func (f *fleet) expire() {
	for _, namespace := range []string{"tenant-one", "tenant-two"} {
		state, err := f.hub.tenantState(f.t.Context(), namespace)
		if err == nil {
			_, err = f.hub.expireReservations(f.t.Context(), state)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// check is what holds at all times, also between two writes: no port of an address
// has two owners, and no address two tenants, in what is stored and in what
// proxies serve.
func (f *fleet) check() {
	owners, tenants := map[assign.Claim]types.NamespacedName{}, map[netip.Addr]string{}
	claims := map[types.NamespacedName][]assign.Claim{}
	for owner, lb := range f.all() {
		claims[owner] = claimsOfStatus(&lb.Status)
	}
	for owner, parts := range f.proxy.parts() {
		for _, part := range parts {
			claims[owner] = append(claims[owner], claimsOfPart(part)...)
		}
	}
	for owner, list := range claims {
		for _, c := range list {
			if other, taken := tenants[c.Address]; taken && other != owner.Namespace {
				f.t.Fatalf("%s belongs to %s and %s", c.Address, other, owner.Namespace)
			}
			tenants[c.Address] = owner.Namespace
			if c.Port == (ir.Port{}) {
				continue
			}
			if other, taken := owners[c]; taken && other != owner {
				f.t.Fatalf("%s on %s belongs to %s and %s", c.Port, c.Address, other, owner)
			}
			owners[c] = owner
		}
	}
}

// settle lets everybody have turns until nobody has anything to do.
func (f *fleet) settle() {
	for owner := range f.all() {
		f.proxy.answer(owner)
	}
	for range 200 {
		if len(f.queue)+len(f.written) == 0 {
			return
		}
		for owner := range maps.Clone(f.queue) {
			f.turn(owner)
			f.proxy.answer(owner)
			f.check()
		}
		for owner := range maps.Clone(f.written) {
			f.writeStatus(owner)
			f.check()
		}
		f.expire()
	}
	f.t.Fatalf("it never ends: %v %v", f.queue, f.written)
}

// whatIsPublishedIsServed: when everybody had their turn, a published port is one
// that proxies serve for its owner.
func (f *fleet) whatIsPublishedIsServed() {
	for owner, lb := range f.all() {
		served := claimsOfPart(f.proxy.served[owner.String()])
		for _, c := range claimsOfStatus(&lb.Status) {
			if c.Port != (ir.Port{}) && !slices.Contains(served, c) {
				f.t.Fatalf("%s publishes %s on %s, which is not served", owner, c.Port, c.Address)
			}
		}
		if len(lb.Status.LoadBalancer.Ingress) > 0 && len(served) == 0 {
			f.t.Fatalf("%s publishes %v and serves nothing", owner, lb.Status.LoadBalancer.Ingress)
		}
	}
}

// nobodyWaitsForNothing: whoever is refused something would be refused it now, and
// what it was told is true.
func (f *fleet) nobodyWaitsForNothing() {
	for owner, before := range f.all() {
		if len(before.Status.Problems) == 0 {
			continue
		}
		f.turn(owner)
		f.writeStatus(owner)
		after, err := get(f.t.Context(), f.store, &v1alpha1.LoadBalancer{}, owner)
		if err != nil {
			f.t.Fatal(err)
		}
		was, is := before.Status.Problems, after.Status.Problems
		if len(is) == 0 || is[0].Reason == was[0].Reason && !slices.Equal(is, was) {
			f.t.Fatalf("%s was told %v and would have been told %v", owner, was, is)
		}
	}
}

func TestNoTwoLoadBalancersClaimOnePortAndNobodyWaitsForNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t)
		t.Repeat(map[string]func(*rapid.T){
			"put": f.put, "remove": f.remove, "work": f.work, "work again": f.work, "write": f.write, "write again": f.write, "answer": f.answer, "answer again": f.answer,
			"pass": f.pass, "restart": func(*rapid.T) { f.restart() }, "": func(*rapid.T) { f.check() },
		})
		f.settle()
		f.whatIsPublishedIsServed()
		f.nobodyWaitsForNothing()
	})
}

// slowProxies acknowledge only when they are told to. What they served before they
// serve until then.
type slowProxies struct {
	*fleet
	wanted, served map[string]*ir.Part
}

func (p *slowProxies) Publish(_ string, parts map[string]*ir.Part) map[string]error {
	maps.Copy(p.wanted, parts)
	p.check()
	return nil
}

func (p *slowProxies) answer(owner types.NamespacedName) {
	part, told := p.wanted[owner.String()]
	if told && p.served[owner.String()] != part {
		p.served[owner.String()] = part
		if p.hub.outcomes.heard(owner) {
			p.written[owner] = true
		} else {
			p.queue[owner] = true
		}
	}
}

// parts are all that proxies have and were told of owners.
func (p *slowProxies) parts() map[types.NamespacedName][]*ir.Part {
	out := map[types.NamespacedName][]*ir.Part{}
	for _, m := range []map[string]*ir.Part{p.wanted, p.served} {
		for name, part := range m {
			namespace, name, _ := strings.Cut(name, "/")
			owner := types.NamespacedName{Namespace: namespace, Name: name}
			out[owner] = append(out[owner], part)
		}
	}
	return out
}

func (p *slowProxies) Verdict(_, owner string) (ir.Verdict, bool) {
	part, told := p.wanted[owner]
	if part == nil {
		return ir.Verdict{Proxies: 1, Removed: p.served[owner] == nil}, told
	}
	return ir.Verdict{Proxies: 1, Hash: part.Hash(), Programmed: p.served[owner] == part}, true
}

func (p *slowProxies) Open(string)                                 {}
func (p *slowProxies) Subscribe(func(string, []string))            {}
func (p *slowProxies) Proxies(string) int                          { return 1 }
func (p *slowProxies) Run(context.Context, string) error           { return nil }
func (p *slowProxies) MaxListeners() int                           { return 5 }
func (p *slowProxies) Reach(context.Context, netip.AddrPort) error { return nil }

type silence struct{}

func (silence) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}
