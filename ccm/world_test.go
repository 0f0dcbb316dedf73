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

package ccm

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/test/leash"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	tenant       = "acme"
	repositoryID = "11111111-2222-3333-4444-555555555555"
)

// cluster is the tenant cluster that all tests use one after the other.
var cluster *rest.Config

func TestMain(m *testing.M) {
	os.Exit(func() int {
		log.SetLogger(logr.Discard())
		if os.Getenv("KUBEBUILDER_ASSETS") == "" {
			tools, _ := filepath.Abs("../.tools/bin")
			_ = os.Setenv("KUBEBUILDER_ASSETS", tools)
		}
		environment := &envtest.Environment{}
		var err error
		if cluster, err = environment.Start(); err != nil {
			fmt.Fprintf(os.Stderr, "no API server for the tests: run \"make tools\", or set KUBEBUILDER_ASSETS: %v\n", err)
			return 1
		}
		if err := leash.Tie(environment); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		cluster.QPS = -1
		defer func() { _ = environment.Stop() }()
		return m.Run()
	}())
}

// world is one tenant cluster, a Git repository and a hub that says what the
// test wants.
type world struct {
	*testing.T
	client client.Client
	git    *gitServer
	hub    *fakeHub
	clock  *clock
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := client.New(cluster, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, client: c, git: newGitServer(t), clock: &clock{}}
	w.hub = newFakeHub(t, w.git.url)
	w.namespace("kubelb")
	t.Cleanup(w.sweep)
	return w
}

// sweep leaves nothing of a test in the cluster.
func (w *world) sweep() {
	ctx := context.Background()
	var services corev1.ServiceList
	if err := w.client.List(ctx, &services); err != nil {
		w.Error(err)
	}
	for i := range services.Items {
		s := &services.Items[i]
		if s.Name == "kubernetes" {
			continue
		}
		if len(s.Finalizers) > 0 {
			_ = w.client.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))
		}
		if err := w.client.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
			w.Error(err)
		}
	}
	var secrets corev1.SecretList
	if err := w.client.List(ctx, &secrets, client.HasLabels{v1alpha1.LabelManagedBy}); err != nil {
		w.Error(err)
	}
	for i := range secrets.Items {
		if err := w.client.Delete(ctx, &secrets.Items[i]); client.IgnoreNotFound(err) != nil {
			w.Error(err)
		}
	}
	for _, err := range []error{
		w.client.DeleteAllOf(ctx, &corev1.Node{}),
		w.client.DeleteAllOf(ctx, &corev1.ConfigMap{}, client.InNamespace("kubelb")),
		w.client.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace("kubelb")),
	} {
		if err != nil {
			w.Error(err)
		}
	}
}

// clock is the CCM's clock, ahead by what a test added.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time      { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) add(d time.Duration) { c.ahead.Add(int64(d)) }
func (w *world) eventually(what string, met func() error) {
	w.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := met()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s: %v", what, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// run is a running CCM.
type run struct {
	engine *engine
	stop   func()
	ended  chan error
}

// start runs a CCM until the test ends or stop is called.
func (w *world) start(options ...func(*Options)) *run {
	w.Helper()
	o := Options{
		Tenant: tenant, GitURL: w.git.url, HubKeys: []string{w.hub.signer.PublicKey().String()},
		NodeAddressType: corev1.NodeInternalIP, now: w.clock.now,
	}
	for _, change := range options {
		change(&o)
	}
	if err := o.complete(); err != nil {
		w.Fatal(err)
	}
	keys, err := parseHubKeys(o.HubKeys)
	if err != nil {
		w.Fatal(err)
	}
	yes := true
	mgr, err := ctrl.NewManager(cluster, ctrl.Options{
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &yes},
		Logger:     testr.NewWithOptions(w.T, testr.Options{Verbosity: 1}),
	})
	if err != nil {
		w.Fatal(err)
	}
	r := &run{engine: newEngine(mgr, o, keys), ended: make(chan error, 1)}
	if err := r.engine.setup(mgr); err != nil {
		w.Fatal(err)
	}
	if err := mgr.Add(r.engine); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	finished := make(chan struct{})
	go func() {
		r.ended <- mgr.Start(ctx)
		close(finished)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-finished
	})
	w.Cleanup(r.stop)
	return r
}

func (w *world) namespace(name string) string {
	w.Helper()
	err := w.client.Create(w.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		w.Fatal(err)
	}
	return name
}

// service creates a Service of type LoadBalancer with one port.
func (w *world) service(namespace, name string, changes ...func(*corev1.Service)) *corev1.Service {
	w.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace(namespace), Name: name},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeLoadBalancer,
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	if err := w.client.Create(w.Context(), s); err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) node(name, ip string, ready bool) {
	w.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	err := w.client.Create(w.Context(), n)
	if apierrors.IsAlreadyExists(err) {
		err = w.client.Get(w.Context(), client.ObjectKeyFromObject(n), n)
	}
	if err != nil {
		w.Fatal(err)
	}
	state := corev1.ConditionFalse
	if ready {
		state = corev1.ConditionTrue
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: state}}
	if err := w.client.Status().Update(w.Context(), n); err != nil {
		w.Fatal(err)
	}
}

func (w *world) get(s *corev1.Service) *corev1.Service {
	w.Helper()
	var out corev1.Service
	if err := w.client.Get(w.Context(), client.ObjectKeyFromObject(s), &out); err != nil {
		w.Fatal(err)
	}
	return &out
}

// patch merges JSON into a Service.
func (w *world) patch(s *corev1.Service, json string) {
	w.Helper()
	if err := w.client.Patch(w.Context(), s.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(json))); err != nil {
		w.Fatal(err)
	}
}

// intentHas waits until the intent branch has exactly these paths, without the
// tenant's folder.
func (w *world) intentHas(paths ...string) git.Commit {
	w.Helper()
	want := map[string]bool{}
	for _, p := range paths {
		want[repo.TenantDir(tenant)+"/"+p] = true
	}
	var commit git.Commit
	w.eventually("the intent branch", func() error {
		var files repo.Tree
		commit, files = w.hub.intent(w.T)
		have := map[string]bool{}
		for p := range files {
			have[p] = true
		}
		if !maps.Equal(have, want) {
			return fmt.Errorf("has %v, want %v", files.Paths(), paths)
		}
		return nil
	})
	return commit
}

// hasEvent waits for an Event about an object.
func (w *world) hasEvent(namespace, object, reason string, words ...string) {
	w.Helper()
	w.eventually("Event "+reason, func() error {
		var list corev1.EventList
		if err := w.client.List(w.Context(), &list, client.InNamespace(namespace)); err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.InvolvedObject.Name == object {
				missing := func(word string) bool { return !strings.Contains(e.Message, word) }
				if e.Reason == reason && !slices.ContainsFunc(words, missing) {
					return nil
				}
				seen = append(seen, e.Reason)
			}
		}
		return fmt.Errorf("%s has only %v, none with %q", object, seen, words)
	})
}
