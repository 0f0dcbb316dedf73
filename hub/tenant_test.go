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
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestATenantGetsItsNamespaceAndIsReadyWhenRestored(t *testing.T) {
	b := newBed(t)
	tenant := b.tenant("acme")
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant-acme"}}
	waitFor(b, "the namespace is labelled", namespace, func(n *corev1.Namespace) bool {
		return n.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy && n.Labels[v1alpha1.LabelTenant] == "acme"
	})
	waitFor(b, "the Tenant waits", tenant, func(t *v1alpha1.Tenant) bool {
		return t.Status.Phase == v1alpha1.PhasePending && tenantCondition(t, "Reconciling").Status == "True"
	})
	b.restored("acme")
	waitFor(b, "the Tenant is ready", tenant, func(t *v1alpha1.Tenant) bool {
		return t.Status.Phase == v1alpha1.PhaseReady && tenantCondition(t, "Ready").Status == "True" && tenantCondition(t, "Reconciling").Status == ""
	})
	b.create(b.nodes("acme", "198.51.100.1"))
	b.address(b.service("acme", "web"))
	waitFor(b, "the load balancer is counted", tenant, func(t *v1alpha1.Tenant) bool { return t.Status.LoadBalancers == 1 })
	change(b, tenant, func(t *v1alpha1.Tenant) { t.Spec.Suspend = true })
	waitFor(b, "the Tenant says that it is suspended", tenant, func(t *v1alpha1.Tenant) bool {
		return tenantCondition(t, "Ready").Reason == v1alpha1.ReasonSuspended
	})
}

func TestADeletedTenantTakesItsLoadBalancersFirst(t *testing.T) {
	b := newBed(t)
	tenant := b.ready("leaver")
	lb := b.service("leaver", "web")
	b.address(lb)
	stays := b.ready("stayer")
	other := b.service("stayer", "web")
	b.address(other)
	b.proxies.set(func(p *proxies) { p.silent = true })
	b.remove(tenant)
	waitFor(b, "the Tenant says what it waits for", tenant, func(t *v1alpha1.Tenant) bool {
		return t.Status.Phase == v1alpha1.PhaseTerminating && strings.Contains(tenantCondition(t, "Ready").Message, "1 load balancers")
	})
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant-leaver"}}
	if err := b.Get(t.Context(), client.ObjectKeyFromObject(namespace), namespace); err != nil || !namespace.DeletionTimestamp.IsZero() {
		t.Fatalf("the namespace goes before its load balancers: %v %v", err, namespace.DeletionTimestamp)
	}
	b.proxies.set(func(p *proxies) { p.silent = false })
	b.waitUntilGone(lb)
	waitFor(b, "the namespace is deleted", namespace, func(n *corev1.Namespace) bool { return !n.DeletionTimestamp.IsZero() })
	b.finalizeNamespace(namespace.Name)
	b.waitUntilGone(tenant)
	b.address(other)
	if err := b.Get(t.Context(), client.ObjectKeyFromObject(stays), stays); err != nil {
		t.Error(err)
	}
}

func TestATenantThatOthersKeepSaysThatTheHubLetItGo(t *testing.T) {
	b := newBed(t)
	tenant := b.ready("keeper")
	change(b, tenant, func(t *v1alpha1.Tenant) { t.Finalizers = append(t.Finalizers, v1alpha1.FinalizerArchive) })
	b.remove(tenant)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant-keeper"}}
	waitFor(b, "the namespace is deleted", namespace, func(n *corev1.Namespace) bool { return !n.DeletionTimestamp.IsZero() })
	b.finalizeNamespace(namespace.Name)
	waitFor(b, "the hub lets go", tenant, func(t *v1alpha1.Tenant) bool {
		return len(t.Finalizers) == 1 && t.Status.Phase == v1alpha1.PhaseTerminating && strings.Contains(tenantCondition(t, "Ready").Message, "its load balancers are gone")
	})
	change(b, tenant, func(t *v1alpha1.Tenant) { t.Finalizers = nil })
	b.waitUntilGone(tenant)
}

// finalizeNamespace does what the namespace controller of Kubernetes does.
func (b *bed) finalizeNamespace(name string) {
	b.Helper()
	set, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		b.Fatal(err)
	}
	namespace, err := set.CoreV1().Namespaces().Get(b.Context(), name, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	namespace.Spec.Finalizers = nil
	if _, err := set.CoreV1().Namespaces().Finalize(b.Context(), namespace, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func TestAnInvalidConfigChangesNothing(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	lb := b.service("acme", "web")
	address := b.address(lb)
	config := &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}}
	isReady := func(c *v1alpha1.Config) bool {
		return configCondition(c, "Ready").Status == "True" && c.Status.ObservedGeneration == c.Generation
	}
	waitFor(b, "the Config is in force", config, isReady)
	if config.Status.Version.GitVersion != "v0.0.0-test" {
		t.Errorf("the version is %+v", config.Status.Version)
	}
	for what, spoil := range map[string]func(*v1alpha1.ConfigSpec){
		"neither a network": func(s *v1alpha1.ConfigSpec) {
			s.AddressPools = append(s.AddressPools, v1alpha1.AddressPool{Name: "bad", CIDRs: []string{"nonsense"}})
		},
		"cannot run proxies in Kubernetes": func(s *v1alpha1.ConfigSpec) {
			s.Infrastructure, s.EnvoyProxy.UseDaemonset = v1alpha1.InfrastructureKubernetes, true
		},
	} {
		var good v1alpha1.ConfigSpec
		change(b, config, func(c *v1alpha1.Config) { good = *c.Spec.DeepCopy(); spoil(&c.Spec) })
		waitFor(b, "the Config is refused: "+what, config, func(c *v1alpha1.Config) bool {
			stalled := configCondition(c, "Stalled")
			return stalled.Status == "True" && strings.Contains(stalled.Message, what) && c.Status.ObservedGeneration == c.Generation && configCondition(c, "Ready").Status == "False"
		})
		another := b.service("acme", "another", requesting("192.0.2.8"))
		if b.address(another) != "192.0.2.8" || b.address(lb) != address {
			t.Error("the Config before it is not in force any more")
		}
		b.remove(another)
		b.waitUntilGone(another)
		change(b, config, func(c *v1alpha1.Config) { c.Spec = good })
		waitFor(b, "the Config is in force again", config, isReady)
	}
}

func TestWithoutConfigThereIsNoPool(t *testing.T) {
	b := newBed(t)
	b.ready("acme")
	b.remove(&v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}})
	b.stopHub()
	b.startHub()
	lb := b.service("acme", "web")
	b.waitForReason(lb, "AddressAssigned", "False", v1alpha1.ReasonPoolExhausted)
}

func TestReplicasAgreeOnOneAuthority(t *testing.T) {
	b := newBed(t)
	first, err := hub.LoadAuthority(t.Context(), b.Client, hubNamespace)
	if err != nil {
		t.Fatal(err)
	}
	second, err := hub.LoadAuthority(t.Context(), b.Client, hubNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.CertificatePEM(), second.CertificatePEM()) {
		t.Error("they have different certificates")
	}
	secret := &corev1.Secret{}
	if err := b.Get(t.Context(), types.NamespacedName{Namespace: hubNamespace, Name: hub.AuthoritySecret}, secret); err != nil {
		t.Fatal(err)
	}
	secret.Data["tls.crt"] = []byte("garbage")
	if err := b.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.LoadAuthority(t.Context(), b.Client, hubNamespace); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a broken Secret is met with %v", err)
	}
	b.remove(secret)
}

func TestManyAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	b := newBed(t)
	b.ready("acme")
	change(b, &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}}, func(c *v1alpha1.Config) {
		c.Spec.AddressPools[0].CIDRs = []string{"198.18.0.0/16"}
	})
	const many = 200
	b.stopHub()
	for i := range many {
		b.service("acme", fmt.Sprintf("web%d", i))
	}
	begin := time.Now()
	b.startHub()
	b.eventually("all have an address", func() (bool, string) {
		var list v1alpha1.LoadBalancerList
		if err := b.List(t.Context(), &list, client.InNamespace("tenant-acme")); err != nil {
			return false, err.Error()
		}
		owners, ready := map[string]string{}, 0
		for _, lb := range list.Items {
			for _, ingress := range lb.Status.LoadBalancer.Ingress {
				if other := owners[ingress.IP]; other != "" {
					t.Fatalf("%s and %s both have %s", lb.Name, other, ingress.IP)
				}
				owners[ingress.IP] = lb.Name
				ready++
			}
		}
		return ready == many, fmt.Sprint(ready)
	})
	t.Logf("%d have an address after %s", many, time.Since(begin))
}

func tenantCondition(o *v1alpha1.Tenant, kind string) metav1.Condition {
	if c := apimeta.FindStatusCondition(o.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

func configCondition(o *v1alpha1.Config, kind string) metav1.Condition {
	if c := apimeta.FindStatusCondition(o.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// hasEvent waits for an Event about an object.
func (b *bed) hasEvent(name, reason string) {
	b.Helper()
	b.eventually("an Event "+reason+" of "+name, func() (bool, string) {
		var list corev1.EventList
		if err := b.List(b.Context(), &list); err != nil {
			return false, err.Error()
		}
		var seen []string
		for _, e := range list.Items {
			if e.InvolvedObject.Name == name && e.Reason == reason {
				return true, ""
			}
			seen = append(seen, e.InvolvedObject.Name+" "+e.Reason)
		}
		return false, strings.Join(seen, ", ")
	})
}

// What is wrong with a tenant's load balancers is counted where its operator looks,
// in words there and in numbers in the metrics, until it is mended.
func TestATenantCountsWhatIsWrongWithItsLoadBalancers(t *testing.T) {
	b := newBed(t)
	tenant := b.ready("wrong")
	b.address(b.service("wrong", "fine"))
	bad := b.service("wrong", "bad", requesting("198.51.100.99"))
	b.waitForReason(bad, "AddressAssigned", "False", v1alpha1.ReasonAddressNotAllowed)
	waitFor(b, "the Tenant counts it", tenant, func(t *v1alpha1.Tenant) bool {
		return t.Status.LoadBalancers == 2 && t.Status.NotReady == 1 && t.Status.ProblemCount == 1 && t.Status.Reason == v1alpha1.ReasonAddressNotAllowed
	})
	var metric string
	b.eventually("the metric", func() (bool, string) {
		families, err := b.registry.Gather()
		if err != nil {
			return false, err.Error()
		}
		for _, f := range families {
			if f.GetName() == "kubelb_manager_loadbalancers_not_ready" {
				metric = f.String()
			}
		}
		return strings.Contains(metric, `"wrong"`) && strings.Contains(metric, v1alpha1.ReasonAddressNotAllowed), metric
	})
	changeStatus(b, tenant, func(t *v1alpha1.Tenant) {
		t.Status.Git = &v1alpha1.TenantGitStatus{ProblemCount: 3, Problems: []v1alpha1.Problem{{Reason: v1alpha1.ReasonUnverified, Message: "m"}}}
	})
	waitFor(b, "problems of files count too", tenant, func(t *v1alpha1.Tenant) bool {
		return t.Status.ProblemCount == 4 && t.Status.Reason == v1alpha1.ReasonUnverified
	})
	b.hasEvent("wrong", v1alpha1.ReasonUnverified)
	changeStatus(b, tenant, func(t *v1alpha1.Tenant) { t.Status.Git = &v1alpha1.TenantGitStatus{} })
	b.remove(bad)
	waitFor(b, "nothing is wrong any more", tenant, func(t *v1alpha1.Tenant) bool {
		return t.Status.LoadBalancers == 1 && t.Status.NotReady == 0 && t.Status.ProblemCount == 0 && t.Status.Reason == ""
	})
	raw := &unstructured.Unstructured{}
	raw.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.KindTenant))
	if err := b.Get(t.Context(), client.ObjectKeyFromObject(tenant), raw); err != nil {
		t.Fatal(err)
	}
	status, _ := raw.Object["status"].(map[string]any)
	for _, field := range []string{"notReady", "problemCount"} {
		if n, ok := status[field].(int64); !ok || n != 0 {
			t.Errorf("%s is %v: kubectl prints a blank", field, status[field])
		}
	}
}

func TestAConfigThatIsNotInForceSaysSo(t *testing.T) {
	b := newBed(t)
	other := &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "other"}}
	b.create(other)
	waitFor(b, "the Config says that it is not read", other, func(c *v1alpha1.Config) bool {
		stalled := configCondition(c, "Stalled")
		return stalled.Reason == v1alpha1.ReasonNotInForce && strings.Contains(stalled.Message, hubNamespace+"/default")
	})
	b.hasEvent("other", v1alpha1.ReasonNotInForce)
	config := &v1alpha1.Config{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "default"}}
	change(b, config, func(c *v1alpha1.Config) { c.Spec.AddressPools[0].CIDRs = []string{"nonsense"} })
	says := func(words string) {
		t.Helper()
		waitFor(b, "the Config says "+words, config, func(c *v1alpha1.Config) bool {
			return strings.Contains(configCondition(c, "Stalled").Message, words)
		})
	}
	says("stays in force (generation 1)")
	b.stopHub()
	b.startHub()
	says("no configuration is in force")
}
