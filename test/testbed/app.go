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
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// App is an echo server with a Service of type LoadBalancer before it.
type App struct {
	Namespace, Name string
	Replicas        int32
	// Ports of the Service; HTTP on 8080 when empty. A port without targetPort
	// goes to 8080 (TCP) or 8081 (UDP).
	Ports []corev1.ServicePort
	// Service changes the Service before it is made.
	Service func(*corev1.Service)
}

// Ports of the containers of an App.
const (
	appTCPPort = 8080
	appUDPPort = 8081
)

// NewService returns the Service of an app.
func (a App) NewService() *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": a.Name},
			Ports: a.Ports,
		},
	}
	if len(service.Spec.Ports) == 0 {
		service.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 8080}}
	}
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		if port.TargetPort == (intstr.IntOrString{}) {
			port.TargetPort = intstr.FromInt32(appTCPPort)
			if port.Protocol == corev1.ProtocolUDP {
				port.TargetPort = intstr.FromInt32(appUDPPort)
			}
		}
	}
	if a.Service != nil {
		a.Service(service)
	}
	return service
}

func (a App) deployment() *appsv1.Deployment {
	labels := map[string]string{"app": a.Name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &a.Replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "echo", Image: "echo/http",
					Ports: []corev1.ContainerPort{
						{ContainerPort: appTCPPort, Protocol: corev1.ProtocolTCP},
						{ContainerPort: appUDPPort, Protocol: corev1.ProtocolUDP},
					},
				}}},
			},
		},
	}
}

// Deploy makes an app's namespace, if it is not there, and its Deployment, and
// waits for its pods.
func (s *System) Deploy(ctx context.Context, tenant string, app App) error {
	c := s.TenantClient(tenant)
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: app.Namespace}}, app.deployment(),
	} {
		if err := c.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	_, err := s.Tenant(tenant).WaitForPods(ctx, app.Namespace, "app="+app.Name, int(app.Replicas))
	return err
}

// Scale changes the number of an app's replicas and waits for its pods.
func (s *System) Scale(ctx context.Context, tenant string, app App, replicas int32) error {
	c := s.TenantClient(tenant)
	var deployment appsv1.Deployment
	if err := c.Get(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name}, &deployment); err != nil {
		return err
	}
	patch := client.MergeFrom(deployment.DeepCopy())
	deployment.Spec.Replicas = &replicas
	if err := c.Patch(ctx, &deployment, patch); err != nil {
		return err
	}
	_, err := s.Tenant(tenant).WaitForPods(ctx, app.Namespace, "app="+app.Name, int(replicas))
	return err
}

// Expose makes an app's Service and waits for its address.
func (s *System) Expose(ctx context.Context, tenant string, app App) (address string, err error) {
	if err := s.TenantClient(tenant).Create(ctx, app.NewService()); err != nil {
		return "", err
	}
	return s.Address(ctx, tenant, app.Namespace, app.Name)
}

// Address waits for the external address of a Service.
func (s *System) Address(ctx context.Context, tenant, namespace, name string) (address string, err error) {
	err = Eventually(ctx, fmt.Sprintf("the address of Service %s/%s of tenant %s", namespace, name, tenant), func() error {
		var service corev1.Service
		if err := s.TenantClient(tenant).Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &service); err != nil {
			return err
		}
		if len(service.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("status has none; conditions: %s", conditions(service.Status.Conditions))
		}
		address = service.Status.LoadBalancer.Ingress[0].IP
		return nil
	})
	return address, err
}

func conditions(all []metav1.Condition) string {
	text := ""
	for _, c := range all {
		text += fmt.Sprintf("%s=%s (%s: %s) ", c.Type, c.Status, c.Reason, c.Message)
	}
	return text
}
