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
	"net/http"
	"os"
	"time"

	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// namespace of the Services of every seed.
const namespace = "chaos"

// appOf is the app of a tenant that a Service chooses: no other tenant has one of
// that name.
func appOf(tenant string, w wish) string { return tenant + "-" + w.App }

// do carries out one step.
func (r *run) do(ctx context.Context, s step) error {
	switch {
	case s.Fault == "end":
		return r.endFault(ctx, s.Target)
	case s.Fault != "":
		return r.beginFault(s)
	case s.Wish.Type == "":
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: s.Service}}
		return client.IgnoreNotFound(r.system.TenantClient(s.Tenant).Delete(ctx, service))
	}
	return r.give(ctx, s.Tenant, s.Service, s.Wish)
}

// give makes a Service what it is wished to be. A Service that is being deleted
// keeps its name until a CCM takes the finalizer off, and the CCM may be down
// until a later step: its wish is given at the end.
func (r *run) give(ctx context.Context, tenant, name string, w wish) error {
	c := r.system.TenantClient(tenant)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var service corev1.Service
		err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &service)
		switch {
		case apierrors.IsNotFound(err):
			service.Namespace, service.Name = namespace, name
			r.shape(tenant, &service, w)
			return c.Create(ctx, &service)
		case err != nil:
			return err
		case !service.DeletionTimestamp.IsZero():
			r.note("%s: %s is still being deleted", tenant, name)
			return nil
		}
		r.shape(tenant, &service, w)
		return c.Update(ctx, &service)
	})
}

// shape writes a wish into a Service.
func (r *run) shape(tenant string, service *corev1.Service, w wish) {
	if w.Shared {
		service.Annotations = map[string]string{"kubelb.k8c.io/addresses": r.sharedAddress(tenant)}
	}
	service.Spec.Type, service.Spec.Selector = w.Type, map[string]string{"app": appOf(tenant, w)}
	nodePorts := map[port]int32{}
	for _, p := range service.Spec.Ports {
		nodePorts[port{p.Port, p.Protocol}] = p.NodePort
	}
	var ports []corev1.ServicePort
	for _, p := range w.Ports {
		made := testbed.App{Ports: []corev1.ServicePort{{Name: fmt.Sprintf("p%d", p.Number), Port: p.Number, Protocol: p.Protocol}}}.NewService().Spec.Ports[0]
		if w.served() {
			made.NodePort = nodePorts[p]
		}
		ports = append(ports, made)
	}
	service.Spec.Ports = ports
	service.Spec.ExternalTrafficPolicy = ""
	if w.served() {
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
		if w.Local {
			service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
	}
	if !w.served() || !w.Local {
		service.Spec.HealthCheckNodePort = 0
	}
}

// beginFault has something go wrong.
func (r *run) beginFault(s step) error {
	if _, lasts := faultsOf[s.Target.Part][s.Fault]; !lasts {
		return fmt.Errorf("there is no fault %q", s)
	}
	git := r.system.Git
	switch s.Target.Part {
	case "hub", "ccm":
		r.supervisor.hold(s.Target)
		if s.Fault == "pause" {
			err := r.process(s.Target).Pause()
			if errors.Is(err, os.ErrProcessDone) { // it ended by itself a moment ago
				r.note("%s has ended already", s.Target)
				return nil
			}
			return err
		}
		r.process(s.Target).Kill()
	case "envoy":
		r.traffic.excuse(true)
		if s.Fault == "pause" {
			return r.system.PauseEnvoy()
		}
		defer r.traffic.excuse(false)
		return r.system.KillEnvoy()
	case "plane":
		if s.Fault == "pause" {
			return r.plane(s.Target).Pause()
		}
		r.plane(s.Target).Down()
	case "git":
		switch s.Fault {
		case "stop":
			git.Stop()
		case "slow":
			git.SetDelay(700 * time.Millisecond)
		case "full":
			git.SetDiskFull(true)
		case "cut-pushes":
			git.CutNextPushes(2)
		case "cut-fetches":
			git.CutNextFetches(2)
		case "fail":
			git.FailNext(3, http.StatusServiceUnavailable)
		}
	}
	return nil
}

// endFault puts a part back, whatever was wrong with it.
func (r *run) endFault(ctx context.Context, t target) error {
	switch t.Part {
	case "hub", "ccm":
		defer r.supervisor.release(t) // it starts what was killed
		return r.process(t).Resume()
	case "envoy":
		defer r.traffic.excuse(false)
		return r.system.ResumeEnvoy()
	case "git":
		r.system.Git.SetDelay(0)
		r.system.Git.SetDiskFull(false)
		return r.system.Git.Start()
	}
	plane := r.plane(t)
	if plane.Alive() {
		return plane.Resume()
	}
	return plane.Up(ctx)
}

func (r *run) plane(t target) *testbed.Plane {
	if t.Tenant == "" {
		return r.system.Hub
	}
	return r.system.Tenant(t.Tenant).Plane
}

func (r *run) process(t target) *testbed.Process {
	if t.Part == "hub" {
		return r.system.HubProcess()
	}
	return r.system.CCMProcess(t.Tenant)
}

// restore makes a Service that is not there although it is wished.
func (r *run) restore(ctx context.Context, tenant, name string, w wish) error {
	var service corev1.Service
	err := r.system.TenantClient(tenant).Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &service)
	if !apierrors.IsNotFound(err) {
		return err
	}
	return r.give(ctx, tenant, name, w)
}

// deleteServices deletes all Services of a tenant's namespace.
func (r *run) deleteServices(ctx context.Context, tenant string) error {
	var services corev1.ServiceList
	c := r.system.TenantClient(tenant)
	if err := c.List(ctx, &services, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range services.Items {
		if err := c.Delete(ctx, &services.Items[i]); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
