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

package gitsync

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/test/leash"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	hubNamespace = "kubelb"
	repositoryID = "4f7d1c9e"
	actorAgent   = "git/tenant"
	// patience is longer than a request may take (git.DefaultTimeout) that a busy
	// machine lets down, with its repetition.
	patience = 3 * git.DefaultTimeout
)

var plane *rest.Config

func TestMain(m *testing.M) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Println("KUBEBUILDER_ASSETS is not set: tests against an API server are skipped")
		os.Exit(m.Run())
	}
	environment := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "deploy", "crds")}, ErrorIfCRDPathMissing: true}
	var err error
	if plane, err = environment.Start(); err != nil {
		fmt.Println("start the API server:", err)
		os.Exit(1)
	}
	if err := leash.Tie(environment); err != nil {
		fmt.Println(err)
	}
	plane.QPS = -1
	ctx, cancel := context.WithCancel(context.Background())
	if err := letGo(ctx); err != nil {
		fmt.Println("stand in for the hub:", err)
		os.Exit(1)
	}
	code := m.Run()
	cancel()
	if err := environment.Stop(); err != nil {
		fmt.Println("stop the API server:", err)
	}
	os.Exit(code)
}

// letGo stands in for the hub: a deleted load balancer is let go at once.
func letGo(ctx context.Context) error {
	if err := v1alpha1.AddToScheme(clientgoscheme.Scheme); err != nil {
		return err
	}
	c, err := client.NewWithWatch(plane, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		return err
	}
	watcher, err := c.Watch(ctx, &v1alpha1.LoadBalancerList{})
	if err != nil {
		return err
	}
	go func() {
		for event := range watcher.ResultChan() {
			if lb, ok := event.Object.(*v1alpha1.LoadBalancer); ok && !lb.DeletionTimestamp.IsZero() {
				_ = c.Patch(ctx, lb, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
			}
		}
	}()
	return nil
}

// bench is one repository and one GitSource with its tenants. The tenants of a
// bench have names of their own, because all benches share one API server.
type bench struct {
	t      *testing.T
	git    *server
	client client.Client
	source string
	prefix string
	stop   func()           // of the running manager
	hook   string           // address of the webhook receiver
	stores sync.Map         // of the loop that runs and of its links, by the name of the source
	clock  func() time.Time // nil: the real one
	looks  int
	forge  func(forge.Options) (forge.Forge, error)
	// namespaces whose GitSources are followed too.
	namespaces []string
}

// newBench makes a repository with an initialised main and a GitSource, and
// starts the loops.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := newIdleBench(t)
	b.initMain()
	b.start()
	return b
}

// newIdleBench makes an empty repository and a GitSource, and starts nothing.
func newIdleBench(t *testing.T) *bench {
	t.Helper()
	if plane == nil {
		t.Skip("KUBEBUILDER_ASSETS is not set")
	}
	b := &bench{t: t, git: newServer(t), prefix: "t" + strconv.FormatInt(time.Now().UnixNano()%1e9, 36)}
	b.source = "source-" + b.prefix
	c, err := client.New(plane, client.Options{Scheme: clientgoscheme.Scheme})
	must(t, err)
	b.client = c
	b.ignoreExisting(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: hubNamespace}}))
	must(t, c.Create(t.Context(), &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source},
		Spec:       v1alpha1.GitSourceSpec{URL: b.git.url, Interval: metav1.Duration{Duration: 150 * time.Millisecond}},
	}))
	t.Cleanup(func() {
		b.halt()
		ctx := context.Background()
		_ = c.Delete(ctx, &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: b.source}})
		var tenants v1alpha1.TenantList
		if c.List(ctx, &tenants) == nil {
			for i := range tenants.Items {
				_ = c.Delete(ctx, &tenants.Items[i])
			}
		}
	})
	return b
}

// made hears of the stores of loops, also of those of other benches.
func (b *bench) made(loop, source client.ObjectKey, store *git.Store) {
	if loop.Name == b.source {
		b.stores.Store(source.Name, store)
	}
}

// store is the copy of a source's repository, nil if there is none.
func (b *bench) store(source string) *git.Store {
	store, _ := b.stores.Load(source)
	s, _ := store.(*git.Store)
	return s
}

func (b *bench) ignoreExisting(err error) {
	b.t.Helper()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		b.t.Fatal(err)
	}
}

// start runs a manager with the loops until halt.
func (b *bench) start() {
	b.t.Helper()
	mgr, err := ctrl.NewManager(plane, ctrl.Options{
		Scheme: clientgoscheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
		Logger:     testr.NewWithOptions(b.t, testr.Options{Verbosity: verbosity()}),
	})
	must(b.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b.t, err)
	b.hook = listener.Addr().String()
	must(b.t, SetupWithManager(mgr, Options{Namespace: hubNamespace, Version: v1alpha1.Version{GitVersion: "v0.0.0-test"}, Listener: listener, made: b.made, Clock: b.clock, Forge: b.forge, SourceNamespaces: b.namespaces}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("manager: %v", err)
		}
	}
}

func verbosity() int {
	if testing.Verbose() {
		return 1
	}
	return -10
}

func (b *bench) halt() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

func (b *bench) restart() {
	b.t.Helper()
	b.halt()
	b.start()
}

// initMain does what `kubelbctl init` does.
func (b *bench) initMain() { b.initMainOf(b.git, repositoryID) }

func (b *bench) initMainOf(at *server, id string) {
	b.t.Helper()
	c := &clone{server: at, dir: b.t.TempDir()}
	c.git("init", "-q", "-b", "main")
	c.git("remote", "add", "origin", at.bare)
	config, err := repo.EncodeConfig(repo.Config{RepositoryID: id, Layout: repo.LayoutVersion})
	must(b.t, err)
	c.write(repo.ConfigPath, string(config))
	c.write("README.md", "Load balancers of the fleet.\n")
	c.git("add", "-A")
	c.git("commit", "-q", "-m", "Begin")
	c.git("push", "-q", "origin", "HEAD:main")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until check returns "", which says what is still wrong.
func eventually(t *testing.T, what string, check func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		wrong := check()
		if wrong == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %s", what, wrong)
		}
	}
}

// actor is a tenant with a stand-in for its CCM.
type actor struct {
	*bench
	name       string
	cluster    string
	signer     *git.Signer
	store      *git.Store
	remote     *git.Remote
	tip        git.Hash
	generation int64
	epoch      int64
	repository string
	// own is the server with the tenant's intent and status branches, ownSource its
	// GitSource where it is not the bench's.
	own       *server
	ownSource string
}

// tenant makes a Tenant as an operator does, and its namespace and TenantState
// as the hub's Tenant controller does.
func (b *bench) tenant(name string) *actor {
	b.t.Helper()
	a := b.actor(name)
	b.makeTenant(a.name)
	b.makeNamespace(a.name)
	return a
}

func (b *bench) makeTenant(name string) { b.makeTenantOf(name, b.source) }

func (b *bench) makeTenantOf(name, source string) {
	b.t.Helper()
	must(b.t, b.client.Create(b.t.Context(), &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.TenantSpec{Git: v1alpha1.TenantGit{SourceRef: &v1alpha1.LocalReference{Name: source}}},
	}))
}

// tenantOf is a tenant of another GitSource.
func (b *bench) tenantOf(name, source string, at *server, repository string) *actor {
	b.t.Helper()
	a := b.actor(name)
	b.makeTenantOf(a.name, source)
	b.makeNamespace(a.name)
	a.meetAt(at, source)
	a.repository = repository
	return a
}

func (b *bench) makeNamespace(name string) {
	b.t.Helper()
	namespace := v1alpha1.TenantNamespace(name)
	must(b.t, b.client.Create(b.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	must(b.t, b.client.Create(b.t.Context(), &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.DefaultName}}))
}

func (b *bench) actor(name string) *actor {
	b.t.Helper()
	signer, err := git.GenerateKey()
	must(b.t, err)
	remote, err := git.NewRemote(b.git.url, git.Options{UserAgent: actorAgent})
	must(b.t, err)
	b.t.Cleanup(remote.Close)
	name = b.prefix + "-" + name
	return &actor{bench: b, name: name, cluster: clusterOf(name), signer: signer, store: git.NewStore(), remote: remote, repository: repositoryID, own: b.git}
}

// clusterOf makes up the UID of a cluster's namespace kube-system.
func clusterOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// push writes intents as a CCM does: a nil object deletes the path.
func (a *actor) push(edits map[string]repo.Object, more ...git.Trailer) git.Hash {
	a.t.Helper()
	raw := map[string][]byte{}
	for path, object := range edits {
		if object == nil {
			raw[path] = nil
			continue
		}
		content, err := repo.Encode(object)
		must(a.t, err)
		raw[path] = content
	}
	return a.pushRaw(raw, more...)
}

func (a *actor) pushRaw(edits map[string][]byte, more ...git.Trailer) git.Hash {
	a.t.Helper()
	must(a.t, a.tryPush(edits, more...))
	return a.tip
}

func (a *actor) tryPush(edits map[string][]byte, more ...git.Trailer) error {
	var parents []git.Hash
	var root git.Hash
	if !a.tip.IsZero() {
		commit, err := a.store.Commit(a.tip)
		if err != nil {
			return err
		}
		root, parents = commit.Tree, []git.Hash{a.tip}
	}
	tree, err := a.store.Edit(root, edits)
	if err != nil {
		return err
	}
	a.generation++
	ref := repo.IntentRef(a.name)
	commit, err := a.store.NewCommit(git.CommitSpec{
		Tree: tree, Parents: parents, Message: "intents", Signer: a.signer,
		Author: git.Ident{Name: "kubelb-ccm " + a.name, Email: a.name + "@kubelb.local", When: time.Now()},
		Trailers: append(git.Trailers{
			{Key: repo.TrailerRepository, Value: a.repository},
			{Key: repo.TrailerBranch, Value: strings.TrimPrefix(ref, repo.RefPrefix)},
			{Key: repo.TrailerTenant, Value: a.name},
			{Key: repo.TrailerGeneration, Value: strconv.FormatInt(a.generation, 10)},
			{Key: repo.TrailerCluster, Value: a.cluster},
			{Key: repo.TrailerEpoch, Value: strconv.FormatInt(a.epoch, 10)},
		}, more...),
	})
	if err != nil {
		return err
	}
	if _, err = a.remote.Push(a.t.Context(), a.store, []git.RefUpdate{{Name: ref, Old: a.tip, New: commit}}, false); err != nil {
		return err
	}
	a.tip = commit
	return nil
}

// path of a load balancer's document in the namespace shop.
func (a *actor) path(name string) string {
	return repo.TenantDir(a.name) + "/loadbalancers/shop/" + name + ".service.yaml"
}

func (a *actor) backendPath(name string) string {
	return repo.TenantDir(a.name) + "/backends/shop/" + name + ".service.yaml"
}

func (a *actor) nodesPath() string { return repo.TenantDir(a.name) + "/addresses/default.yaml" }

// balancer is an intent for a Service in the namespace shop.
func (a *actor) balancer(name string, ports ...int32) *v1alpha1.LoadBalancer {
	lb := &v1alpha1.LoadBalancer{
		ObjectMeta: a.meta(name),
		Spec: v1alpha1.LoadBalancerSpec{
			Type: corev1.ServiceTypeLoadBalancer,
			Endpoints: []v1alpha1.LoadBalancerEndpoints{{
				Name: "default", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: "shop." + name},
			}},
		},
	}
	for _, port := range ports {
		lb.Spec.Ports = append(lb.Spec.Ports, v1alpha1.LoadBalancerPort{Name: "p" + strconv.Itoa(int(port)), Port: port, Protocol: corev1.ProtocolTCP})
	}
	return lb
}

func (a *actor) backend(name string, nodePort int32) *v1alpha1.Backend {
	return &v1alpha1.Backend{
		ObjectMeta: a.meta(name),
		Spec:       v1alpha1.BackendSpec{Ports: []v1alpha1.BackendPort{{Name: "p80", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: nodePort}}},
	}
}

func (a *actor) nodes(ips ...string) *v1alpha1.Addresses {
	object := &v1alpha1.Addresses{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.TenantNamespace(a.name), Name: v1alpha1.DefaultName}}
	for _, ip := range ips {
		object.Spec.Addresses = append(object.Spec.Addresses, v1alpha1.EndpointAddress{IP: ip})
	}
	return object
}

func (a *actor) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: v1alpha1.TenantNamespace(a.name), Name: "shop." + name,
		Labels: map[string]string{v1alpha1.LabelOriginName: name, v1alpha1.LabelOriginNS: "shop", v1alpha1.LabelOriginKind: "Service"},
	}
}

// whole is a Service with everything that belongs to it.
func (a *actor) whole(name string, ports ...int32) map[string]repo.Object {
	return map[string]repo.Object{
		a.path(name): a.balancer(name, ports...), a.backendPath(name): a.backend(name, 30080), a.nodesPath(): a.nodes("10.0.0.1", "10.0.0.2"),
	}
}

// lb returns a load balancer of the hub, nil if there is none.
func (a *actor) lb(name string) *v1alpha1.LoadBalancer {
	a.t.Helper()
	var lb v1alpha1.LoadBalancer
	err := a.client.Get(a.t.Context(), client.ObjectKey{Namespace: v1alpha1.TenantNamespace(a.name), Name: "shop." + name}, &lb)
	if apierrors.IsNotFound(err) {
		return nil
	}
	must(a.t, err)
	return &lb
}

func (a *actor) state() *v1alpha1.TenantState {
	a.t.Helper()
	var state v1alpha1.TenantState
	must(a.t, a.client.Get(a.t.Context(), client.ObjectKey{Namespace: v1alpha1.TenantNamespace(a.name), Name: v1alpha1.DefaultName}, &state))
	return &state
}

func (b *bench) gitSource() *v1alpha1.GitSource {
	b.t.Helper()
	var source v1alpha1.GitSource
	must(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: hubNamespace, Name: b.source}, &source))
	return &source
}

// annotate sets an annotation by hand.
func (b *bench) annotate(object client.Object, key, value string) {
	b.t.Helper()
	must(b.t, b.client.Patch(b.t.Context(), object, client.RawPatch(mergePatch, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value))))
}

// hasPorts waits for a load balancer with exactly these ports.
func (a *actor) hasPorts(name string, ports ...int32) *v1alpha1.LoadBalancer {
	a.t.Helper()
	var lb *v1alpha1.LoadBalancer
	eventually(a.t, fmt.Sprintf("load balancer %s with ports %v", name, ports), func() string {
		lb = a.lb(name)
		if lb == nil {
			return "it is not there"
		}
		var got []int32
		for _, p := range lb.Spec.Ports {
			got = append(got, p.Port)
		}
		slices.Sort(got) // by names, lists have no order
		if fmt.Sprint(got) != fmt.Sprint(ports) {
			return fmt.Sprintf("it has %v", got)
		}
		return ""
	})
	return lb
}

// decided waits until the hub has decided the tenant's last push.
func (a *actor) decided() {
	a.t.Helper()
	eventually(a.t, "the intent is decided", func() string {
		observed := a.state().Status.ObservedIntent
		if observed == nil || observed.Commit != a.tip.String() {
			return fmt.Sprintf("observed %v instead of %s; problems %v", observed, a.tip, a.state().Status.Problems)
		}
		return ""
	})
}

// reason waits for a reason of the GitSource's condition Ready.
func (b *bench) reason(want string) {
	b.t.Helper()
	eventually(b.t, "GitSource "+want, func() string {
		ready := apimeta.FindStatusCondition(b.gitSource().Status.Conditions, "Ready")
		if ready == nil || ready.Reason != want {
			return fmt.Sprintf("Ready is %+v", ready)
		}
		return ""
	})
}
