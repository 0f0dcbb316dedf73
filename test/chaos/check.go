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
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// differences between what is wished and what there is, in the tenants, Git, the
// hub and Envoy, as an error; nil when there are none.
func (r *run) differences(ctx context.Context, wishes map[string]map[string]wish) error {
	var listeners []string // that Envoy is to have
	for _, tenant := range r.tenants {
		own, err := r.tenantDiffers(ctx, tenant, wishes[tenant])
		if err != nil {
			return fmt.Errorf("tenant %s: %w", tenant, err)
		}
		listeners = append(listeners, own...)
	}
	slices.Sort(listeners)
	if twice := slices.Compact(slices.Clone(listeners)); len(twice) < len(listeners) {
		return fmt.Errorf("an address and port is there twice: %v", listeners)
	}
	has, err := r.system.EnvoyListeners(ctx)
	if err != nil {
		return err
	}
	has = slices.DeleteFunc(has, func(name string) bool {
		address, _, _ := strings.Cut(name, "/")
		_, err := netip.ParseAddrPort(address)
		return err != nil // Envoy's own
	})
	if !slices.Equal(has, listeners) {
		return fmt.Errorf("the listeners of Envoy are %v, to be %v", has, listeners)
	}
	var source v1alpha1.GitSource
	if err := r.system.HubClient.Get(ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: testbed.SourceName}, &source); err != nil {
		return err
	}
	if !meta.IsStatusConditionTrue(source.Status.Conditions, "Ready") {
		return fmt.Errorf("the GitSource is not Ready: %+v", source.Status.Conditions)
	}
	return nil
}

// tenantDiffers compares one tenant, and returns the listeners that are to be.
func (r *run) tenantDiffers(ctx context.Context, tenant string, wishes map[string]wish) (listeners []string, err error) {
	var services corev1.ServiceList
	if err := r.system.TenantClient(tenant).List(ctx, &services, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var names, served []string
	for i := range services.Items {
		service := &services.Items[i]
		names = append(names, service.Name)
		w, ok := wishes[service.Name]
		if !ok || !w.served() {
			if len(service.Status.LoadBalancer.Ingress) > 0 {
				return nil, fmt.Errorf("the Service %s has %v", service.Name, service.Status.LoadBalancer.Ingress)
			}
			continue
		}
		served = append(served, service.Name)
		own, err := r.serviceDiffers(ctx, tenant, service, w)
		if err != nil {
			return nil, fmt.Errorf("the Service %s: %w", service.Name, err)
		}
		listeners = append(listeners, own...)
	}
	if want := slices.Sorted(maps.Keys(wishes)); !equalSets(names, want) {
		return nil, fmt.Errorf("there are the Services %v, to be %v", names, want)
	}
	return listeners, errors.Join(r.hubDiffers(ctx, tenant, served), r.gitDiffers(ctx, tenant, served))
}

// serviceDiffers checks address and traffic of one Service.
func (r *run) serviceDiffers(ctx context.Context, tenant string, service *corev1.Service, w wish) (listeners []string, err error) {
	ingress := service.Status.LoadBalancer.Ingress
	if len(ingress) != 1 {
		return nil, fmt.Errorf("it has the addresses %v", ingress)
	}
	if shared := r.sharedAddress(tenant); w.Shared && ingress[0].IP != shared {
		return nil, fmt.Errorf("it has %s and asks for %s", ingress[0].IP, shared)
	}
	for _, p := range w.Ports {
		address := fmt.Sprintf("%s:%d", ingress[0].IP, p.Number)
		listeners = append(listeners, address+"/"+string(p.Protocol))
		var reply testbed.Reply
		if p.Protocol == corev1.ProtocolUDP {
			reply, err = testbed.AskUDP(ctx, address, "hello")
		} else {
			reply, err = testbed.AskHTTP(ctx, address)
		}
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", p, err)
		}
		if !strings.HasPrefix(reply.Pod, appOf(tenant, w)+"-") {
			return nil, fmt.Errorf("port %s: answered by pod %s, not by %s", p, reply.Pod, appOf(tenant, w))
		}
	}
	return listeners, nil
}

// hubDiffers compares the tenant's objects in the hub.
func (r *run) hubDiffers(ctx context.Context, tenant string, served []string) error {
	var loadBalancers v1alpha1.LoadBalancerList
	var backends v1alpha1.BackendList
	in := client.InNamespace(v1alpha1.TenantNamespace(tenant))
	if err := errors.Join(r.system.HubClient.List(ctx, &loadBalancers, in), r.system.HubClient.List(ctx, &backends, in)); err != nil {
		return err
	}
	var names, facts, want []string
	for i := range loadBalancers.Items {
		lb := &loadBalancers.Items[i]
		names = append(names, lb.Name)
		if !meta.IsStatusConditionTrue(lb.Status.Conditions, "Ready") {
			return fmt.Errorf("the LoadBalancer %s is not Ready: %+v", lb.Name, lb.Status.Conditions)
		}
	}
	for i := range backends.Items {
		facts = append(facts, backends.Items[i].Name)
	}
	for _, name := range served {
		want = append(want, repo.ObjectName(namespace, name))
	}
	if !equalSets(names, want) || !equalSets(facts, want) {
		return fmt.Errorf("the hub has the LoadBalancers %v and Backends %v, to be %v", names, facts, want)
	}
	var object v1alpha1.Tenant
	if err := r.system.HubClient.Get(ctx, client.ObjectKey{Name: tenant}, &object); err != nil {
		return err
	}
	if git := object.Status.Git; git == nil || git.ProblemCount > 0 || git.Held > 0 || git.Pending > 0 {
		return fmt.Errorf("the Tenant says %+v", git)
	}
	return nil
}

// gitDiffers compares the tenant's files on the branches.
func (r *run) gitDiffers(ctx context.Context, tenant string, served []string) error {
	var want []string
	for _, name := range served {
		want = append(want, name+".service.yaml")
	}
	for _, branch := range []string{repo.IntentRef(tenant), repo.Main, "refs/heads/base/main", repo.StatusRef(tenant)} {
		folder := path.Join("tenants", tenant, "loadbalancers", namespace)
		text, err := r.system.Repository.Git(ctx, "ls-tree", "--name-only", branch, folder+"/")
		if err != nil {
			return err
		}
		var names []string
		for file := range strings.FieldsSeq(text) {
			names = append(names, path.Base(file))
		}
		if !equalSets(names, want) {
			return fmt.Errorf("%s has the files %v in %s, to be %v", branch, names, folder, want)
		}
	}
	return nil
}

func equalSets(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
