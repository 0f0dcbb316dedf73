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

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestHubRebuiltFromGit loses the hub whole, control plane and Envoy, and starts
// another one from the backup of its keys, the operator's manifests and Git:
// docs/disaster-recovery.md.
func TestHubRebuiltFromGit(t *testing.T) {
	s := newScene(t)
	web, shop := s.app("web", tcp("http", 8080), tcp("alt", 8443)), s.app("shop")
	addresses := map[string]string{acme: s.up(acme, web), globex: s.up(globex, shop)}
	s.answers(addresses[acme], 8443, web)
	s.answers(addresses[globex], 8080, shop)
	gone := s.up(acme, s.app("gone"))
	s.delete(acme, "gone") // its address is reserved
	s.serviceGone(acme, "gone")
	certificate := map[string]string{"key": "what only the restored identities open"}
	s.labelled(acme, "certificate", certificate)
	s.holds(acme, "certificate", certificate)
	s.settled(acme)
	s.settled(globex)

	manifests, err := system.OperatorsManifests(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	identity, recipient, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	backup, key := dir+"/keys.age", dir+"/key.txt"
	if err := os.WriteFile(key, []byte(identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.does(nil, "keys", "backup", backup, "--recipient", recipient)
	tips := map[string]string{acme: s.git("rev-parse", "intent/"+acme), globex: s.git("rev-parse", "intent/"+globex)}
	statuses := map[string]*witness{acme: s.witness(acme, "web", addresses[acme]), globex: s.witness(globex, "shop", addresses[globex])}
	if err := system.LoseHub(); err != nil {
		t.Fatal(err)
	}
	for tenant, address := range addresses {
		if testbed.Reaches(address + ":8080") {
			t.Errorf("%s of %s is still served: nothing was lost", address, tenant)
		}
	}
	if err := system.NewHubPlane(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.does([]string{"secret/kubelb-hub-keys created", "secret/kubelb-sealing-keys created"}, "keys", "restore", backup, "--identity", key)
	if err := system.RebuildHub(s.ctx, manifests); err != nil {
		t.Fatal(err)
	}
	s.answers(addresses[acme], 8080, web)
	s.answers(addresses[acme], 8443, web)
	s.answers(addresses[globex], 8080, shop)
	for _, lb := range []struct{ tenant, name string }{{acme, "web"}, {globex, "shop"}} {
		s.condition(lb.tenant, lb.name, "Ready", metav1.ConditionTrue)
		s.settled(lb.tenant)
	}
	s.holds(acme, "certificate", certificate)
	for tenant, tip := range tips {
		if now := s.git("rev-parse", "intent/"+tenant); now != tip {
			t.Errorf("the CCM of %s made commits:\n%s", tenant, s.git("log", "--stat", tip+".."+now))
		}
		statuses[tenant].check(t)
	}
	if again := s.up(acme, s.app("gone")); again != gone {
		t.Errorf("the reserved address %s was lost: it is %s now", gone, again)
	}
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(addresses[acme], 9090, web)
}

// TestTenantClusterRebuilt replaces a tenant's cluster by one with other nodes
// and UIDs. The same manifests applied there, its Services have their old
// addresses.
func TestTenantClusterRebuilt(t *testing.T) {
	const initech = "initech"
	s := newScene(t)
	if err := system.AddTenant(s.ctx, initech); err != nil {
		t.Fatal(err)
	}
	web, api := s.app("web"), s.app("api", tcp("http", 8081))
	wanted := map[string]string{"web": s.up(initech, web), "api": s.up(initech, api)}
	s.answers(wanted["web"], 8080, web)
	uid := s.service(initech, "web").UID

	if err := system.RebuildTenant(s.ctx, initech); err != nil {
		t.Fatal(err)
	}
	// As an operator would: first the applications, then the CCM, told to adopt.
	for _, app := range []testbed.App{web, api} {
		if err := system.Deploy(s.ctx, initech, app); err != nil {
			t.Fatal(err)
		}
		if err := system.TenantClient(initech).Create(s.ctx, app.NewService()); err != nil {
			t.Fatal(err)
		}
	}
	if err := system.StartCCM(s.ctx, initech, "--adopt"); err != nil {
		t.Fatal(err)
	}
	for name, address := range wanted {
		got, err := system.Address(s.ctx, initech, s.namespace, name)
		if err != nil {
			t.Fatal(err)
		}
		if got != address {
			t.Errorf("Service %s has %s, before it had %s", name, got, address)
		}
	}
	s.answers(wanted["web"], 8080, web)
	s.answers(wanted["api"], 8081, api)
	if s.service(initech, "web").UID == uid {
		t.Error("the cluster is the old one")
	}
}

// settled waits until a tenant's status branch speaks of the tip of its intent
// branch and of the newest commit of main that concerns it.
func (s *scene) settled(tenant string) {
	s.Helper()
	s.eventually("the status of "+tenant+" to be up to date", func() error {
		var state v1alpha1.TenantState
		key := client.ObjectKey{Namespace: v1alpha1.TenantNamespace(tenant), Name: v1alpha1.DefaultName}
		if err := system.HubClient.Get(s.ctx, key, &state); err != nil {
			return err
		}
		revision := s.git("log", "-1", "--format=%H", "main", "--", repo.TenantDir(tenant))
		intent := s.git("rev-parse", "intent/"+tenant)
		if state.Status.ObservedIntent == nil || state.Status.ObservedIntent.Commit != intent || state.Status.AppliedRevision != revision {
			return fmt.Errorf("observed %+v, applied %s; intent is %s, main %s", state.Status.ObservedIntent, state.Status.AppliedRevision, intent, revision)
		}
		return nil
	})
}

func (s *scene) serviceGone(tenant, name string) {
	s.Helper()
	s.eventually("Service "+name+" to be gone", func() error {
		err := system.TenantClient(tenant).Get(s.ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, &corev1.Service{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
}

// witness sees every version of a Service's status from now on.
type witness struct {
	stop    func()
	done    sync.WaitGroup
	wanted  string
	changes []string
}

func (s *scene) witness(tenant, name, address string) *witness {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	w := &witness{stop: cancel, wanted: address}
	watcher, err := system.Tenant(tenant).Clients.CoreV1().Services(s.namespace).
		Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: name, ResourceVersion: s.service(tenant, name).ResourceVersion}))
	if err != nil {
		s.Fatal(err)
	}
	w.done.Go(func() {
		for event := range watcher.ResultChan() {
			service, ok := event.Object.(*corev1.Service)
			if ok && event.Type == watch.Modified {
				w.changes = append(w.changes, ingress(service))
			}
		}
	})
	return w
}

func ingress(service *corev1.Service) string {
	var ips []string
	for _, i := range service.Status.LoadBalancer.Ingress {
		ips = append(ips, i.IP)
	}
	return fmt.Sprint(ips)
}

// check fails the test if the address was ever another one.
func (w *witness) check(t *testing.T) {
	t.Helper()
	w.stop()
	w.done.Wait()
	if i := slices.IndexFunc(w.changes, func(c string) bool { return c != "["+w.wanted+"]" }); i >= 0 {
		t.Errorf("the Service's addresses were %s in between, want [%s]", w.changes[i], w.wanted)
	}
}
