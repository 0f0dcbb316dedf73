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
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	if os.Getenv(abandonVariable) != "" {
		abandon()
	}
	os.Exit(m.Run())
}

// newBed starts a bed that ends with the test.
func newBed(t *testing.T, options Options) *Bed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	options.Progress = func(step string, took time.Duration) { t.Logf("%s: %s", step, took) }
	bed, err := New(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(bed.Dir); !os.IsNotExist(err) {
			t.Errorf("the bed's folder %s is left", bed.Dir)
		}
		if left := members(bed.Dir + "/"); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
	})
	return bed
}

// eventually polls until check returns nil, and fails with its last error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// app makes a namespace with a Deployment of echo pods: HTTP on 8080, lines on
// 9000, datagrams on 5300.
func app(t *testing.T, tenant *Tenant, namespace string, replicas int32) {
	t.Helper()
	_, err := tenant.Clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "web"}
	_, err = tenant.Clients.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{
					{Name: "http", Image: "echo/http", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}},
					{Name: "other", Image: "echo/tcp", Ports: []corev1.ContainerPort{{ContainerPort: 9000}, {ContainerPort: 5300, Protocol: corev1.ProtocolUDP}}},
				}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tenant.WaitForPods(t.Context(), namespace, "app=web", int(replicas)); err != nil {
		t.Fatal(err)
	}
}

// expose makes the app's LoadBalancer Service.
func expose(t *testing.T, tenant *Tenant, namespace string, policy corev1.ServiceExternalTrafficPolicy) *corev1.Service {
	t.Helper()
	service, err := tenant.Clients.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: policy, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)},
				{Name: "lines", Port: 9000},
				{Name: "dns", Port: 53, TargetPort: intstr.FromInt32(5300), Protocol: corev1.ProtocolUDP},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// at is a node's address with a port.
func at(tenant *Tenant, node string, port int32) string {
	return fmt.Sprintf("%s:%d", tenant.NodeAddresses()[node], port)
}

func TestTwoTenantsWithTheSameNamesServeTheirOwnPods(t *testing.T) {
	bed := newBed(t, Options{Tenants: []string{"acme", "globex"}, Nodes: 2})
	for _, name := range []string{"acme", "globex"} {
		tenant := bed.Tenant(name)
		app(t, tenant, "shop", 2)
		service := expose(t, tenant, "shop", corev1.ServiceExternalTrafficPolicyCluster)
		t.Run(name+" serves each NodePort on each node through each pod", func(t *testing.T) { everyNodeReachesEveryPod(t, tenant, service) })
	}
	t.Run("a pod that is not ready gets no traffic", func(t *testing.T) { unreadyPodGetsNothing(t, bed.Tenant("acme")) })
	t.Run("a deleted Service refuses", func(t *testing.T) { deletedServiceRefuses(t, bed.Tenant("acme")) })
	t.Run("a cut node refuses and returns", func(t *testing.T) { cutNodeRefuses(t, bed.Tenant("globex")) })
	t.Run("a control plane comes back with its data", func(t *testing.T) {
		tenant := bed.Tenant("globex")
		tenant.Down()
		if err := tenant.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := tenant.WaitForPods(t.Context(), "shop", "app=web", 2); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a deleted Namespace goes with its pods", func(t *testing.T) { namespaceGoes(t, bed.Tenant("globex")) })
}

func everyNodeReachesEveryPod(t *testing.T, tenant *Tenant, service *corev1.Service) {
	ctx := t.Context()
	own := strings.TrimSuffix(tenant.NodeAddresses()["node-1"].String(), "1") // of this tenant's nodes only
	for _, node := range tenant.Nodes() {
		asks := []func() (Reply, error){
			func() (Reply, error) { return AskHTTP(ctx, at(tenant, node, service.Spec.Ports[0].NodePort)) },
			func() (Reply, error) { return AskTCP(ctx, at(tenant, node, service.Spec.Ports[1].NodePort), "hello") },
			func() (Reply, error) { return AskUDP(ctx, at(tenant, node, service.Spec.Ports[2].NodePort), "hello") },
		}
		for i, ask := range asks {
			pods := map[string]bool{}
			eventually(t, fmt.Sprintf("port %d of %s", i, node), func() error {
				reply, err := ask()
				if err != nil {
					return err
				}
				if !strings.HasPrefix(reply.Peer, own) || reply.Namespace != "shop" || reply.Node == "" {
					t.Fatalf("want a peer among the nodes %s* and a pod in shop, got %+v", own, reply)
				}
				if pods[reply.Pod] = true; len(pods) < 2 {
					return fmt.Errorf("only %v answered", pods)
				}
				return nil
			})
		}
	}
}

func unreadyPodGetsNothing(t *testing.T, tenant *Tenant) {
	ctx := t.Context()
	pods, err := tenant.WaitForPods(ctx, "shop", "app=web", 2)
	if err != nil {
		t.Fatal(err)
	}
	service, err := tenant.Clients.CoreV1().Services("shop").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods[0].Annotations = map[string]string{ReadyAnnotation: "false"}
	if _, err := tenant.Clients.CoreV1().Pods("shop").Update(ctx, &pods[0], metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "only the ready pod answers", func() error {
		for range 4 {
			reply, err := AskHTTP(ctx, at(tenant, "node-1", service.Spec.Ports[0].NodePort))
			if err != nil {
				return err
			}
			if reply.Pod == pods[0].Name {
				return fmt.Errorf("%s still answers", reply.Pod)
			}
		}
		return nil
	})
}

func deletedServiceRefuses(t *testing.T, tenant *Tenant) {
	ctx := t.Context()
	service, err := tenant.Clients.CoreV1().Services("shop").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tenant.Clients.CoreV1().Services("shop").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refused", func() error { return wantRefused(ctx, at(tenant, "node-1", service.Spec.Ports[0].NodePort)) })
}

func cutNodeRefuses(t *testing.T, tenant *Tenant) {
	ctx := t.Context()
	service, err := tenant.Clients.CoreV1().Services("shop").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port := service.Spec.Ports[0].NodePort
	tenant.CutNode("node-1", true)
	if err := wantRefused(ctx, at(tenant, "node-1", port)); err != nil {
		t.Error(err)
	}
	if _, err := AskHTTP(ctx, at(tenant, "node-2", port)); err != nil {
		t.Error(err)
	}
	tenant.CutNode("node-1", false)
	if _, err := AskHTTP(ctx, at(tenant, "node-1", port)); err != nil {
		t.Error(err)
	}
}

func namespaceGoes(t *testing.T, tenant *Tenant) {
	ctx := t.Context()
	if err := tenant.Clients.CoreV1().Namespaces().Delete(ctx, "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func() error {
		list, err := tenant.Clients.CoreV1().Namespaces().List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=shop"})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%+v", list.Items[0].Status)
		}
		return err
	})
}

func wantRefused(ctx context.Context, address string) error {
	reply, err := AskHTTP(ctx, address)
	if err == nil {
		return fmt.Errorf("%s answered %+v", address, reply)
	}
	if !strings.Contains(err.Error(), "refused") {
		return fmt.Errorf("want a refused connection: %w", err)
	}
	return nil
}

func TestABedThatIsInterruptedWhileItStartsLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first := func(string, time.Duration) { cancel() } // the Git server, long before the planes
	bed, err := New(ctx, Options{Name: "interrupted", Tenants: []string{"acme"}, Progress: first})
	if err == nil {
		t.Fatal(bed.Close(), "the bed started")
	}
	if left := members(beds() + "/interrupted-"); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if folders, _ := filepath.Glob(beds() + "/interrupted-*"); len(folders) > 0 {
		t.Errorf("%v are left", folders)
	}
}

func TestAMissingToolIsNamedWithItsRemedy(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", t.TempDir())
	if _, err := Tool("etcd"); err == nil || !strings.Contains(err.Error(), "make tools") {
		t.Errorf("got %v", err)
	}
	t.Setenv("KUBEBUILDER_ASSETS", "")
	if _, err := Tool("nosuch"); err == nil || err.Error() != "nosuch is not installed: run `make tools`" {
		t.Errorf("got %v", err)
	}
}
