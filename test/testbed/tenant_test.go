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
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

func TestTenantOfThreeNodes(t *testing.T) {
	bed := newBed(t, Options{Tenants: []string{"acme"}, Nodes: 3})
	tenant := bed.Tenant("acme")
	app(t, tenant, "shop", 2)
	service := expose(t, tenant, "shop", corev1.ServiceExternalTrafficPolicyLocal)
	t.Run("Local: the nodes with pods serve them, the others refuse, and health checks tell which", func(t *testing.T) { localPolicy(t, tenant, service) })
	t.Run("a rolling update loses no request", func(t *testing.T) { rollingUpdate(t, tenant, service) })
	t.Run("a UDP client keeps its pod until that goes", func(t *testing.T) { udpKeepsItsPod(t, tenant, service) })
	t.Run("a container may be a program", func(t *testing.T) { programContainer(t, tenant) })
	t.Run("an unknown image says what there is", func(t *testing.T) { unknownImage(t, tenant) })
	t.Run("nodes come, go and fall silent", func(t *testing.T) { nodesChange(t, tenant) })
	t.Run("a user has no rights beyond its own", func(t *testing.T) { plainUser(t, tenant) })
	t.Run("a tenant joins later and a name is taken once", func(t *testing.T) { laterTenant(t, bed) })
}

// checkHealth asks a node's healthCheckNodePort.
func checkHealth(ctx context.Context, tenant *Tenant, node string, service *corev1.Service) (status, endpoints int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at(tenant, node, service.Spec.HealthCheckNodePort)+"/healthz", nil)
	if err != nil {
		return 0, 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, 0, err
	}
	var answer struct {
		Service        struct{ Namespace, Name string }
		LocalEndpoints int
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Service.Namespace != "shop" || answer.Service.Name != "web" {
		return 0, 0, fmt.Errorf("%s: %w", text, err)
	}
	return response.StatusCode, answer.LocalEndpoints, nil
}

func localPolicy(t *testing.T, tenant *Tenant, service *corev1.Service) {
	ctx := t.Context()
	pods, err := tenant.WaitForPods(ctx, "shop", "app=web", 2)
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]string{} // node → pod
	for _, pod := range pods {
		on[pod.Spec.NodeName] = pod.Name
	}
	if len(on) != 2 {
		t.Fatalf("want two pods on two nodes, got %v", on)
	}
	for _, node := range tenant.Nodes() {
		wantStatus, wantEndpoints := http.StatusServiceUnavailable, 0
		if on[node] != "" {
			wantStatus, wantEndpoints = http.StatusOK, 1
		}
		eventually(t, "health of "+node, func() error {
			status, endpoints, err := checkHealth(ctx, tenant, node, service)
			if err == nil && (status != wantStatus || endpoints != wantEndpoints) {
				err = fmt.Errorf("%d with %d endpoints, want %d with %d", status, endpoints, wantStatus, wantEndpoints)
			}
			return err
		})
		address := at(tenant, node, service.Spec.Ports[0].NodePort)
		if on[node] == "" {
			if err := wantRefused(ctx, address); err != nil {
				t.Error(err)
			}
			continue
		}
		for range 4 {
			if reply, err := AskHTTP(ctx, address); err != nil || reply.Pod != on[node] {
				t.Errorf("%s: %s answered, want %s: %v", node, reply.Pod, on[node], err)
			}
		}
	}
}

// rollingUpdate replaces all pods while a client asks, under the policy Cluster.
func rollingUpdate(t *testing.T, tenant *Tenant, service *corev1.Service) {
	ctx := t.Context()
	patch := []byte(`{"spec":{"externalTrafficPolicy":"Cluster"}}`)
	if _, err := tenant.Clients.CoreV1().Services("shop").Patch(ctx, "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	address := at(tenant, "node-1", service.Spec.Ports[0].NodePort)
	eventually(t, "served under Cluster", func() error {
		_, err := AskHTTP(ctx, address)
		return err
	})
	before, err := tenant.WaitForPods(ctx, "shop", "app=web", 2)
	if err != nil {
		t.Fatal(err)
	}
	patch = []byte(`{"spec":{"template":{"metadata":{"annotations":{"version":"2"}}},"strategy":{"rollingUpdate":{"maxUnavailable":0}}}}`)
	if _, err := tenant.Clients.AppsV1().Deployments("shop").Patch(ctx, "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	old := []string{before[0].Name, before[1].Name}
	answered := map[string]bool{}
	eventually(t, "the new pods alone answer", func() error {
		reply, err := AskHTTP(ctx, address)
		if err != nil {
			t.Fatalf("a request was lost: %v", err)
		}
		if answered[reply.Pod] = true; slices.Contains(old, reply.Pod) {
			clear(answered)
		}
		if len(answered) < 2 {
			return fmt.Errorf("so far %v", answered)
		}
		return nil
	})
	if _, err := tenant.WaitForPods(ctx, "shop", "app=web", 2); err != nil {
		t.Fatal(err)
	}
}

func udpKeepsItsPod(t *testing.T, tenant *Tenant, service *corev1.Service) {
	ctx := t.Context()
	conn := dialUDP(t, at(tenant, "node-1", service.Spec.Ports[2].NodePort))
	first := conn.ask(t, "1")
	for range 4 {
		if reply := conn.ask(t, "more"); reply.Pod != first.Pod {
			t.Fatalf("%s answered after %s", reply.Pod, first.Pod)
		}
	}
	if err := tenant.Clients.CoreV1().Pods("shop").Delete(ctx, first.Pod, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another pod answers the same client", func() error {
		if reply := conn.ask(t, "again"); reply.Pod == first.Pod {
			return fmt.Errorf("%s still answers", reply.Pod)
		}
		return nil
	})
}

func programContainer(t *testing.T, tenant *Tenant) {
	ctx := t.Context()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "program", Labels: map[string]string{"app": "program"}},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: "node-3"},
			Containers: []corev1.Container{{
				Name: "main", Image: "process", Command: []string{"python3", "-c"},
				Args:  []string{"import http.server,os; http.server.HTTPServer((os.environ['POD_IP'], int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()"},
				Env:   []corev1.EnvVar{{Name: "PORT", Value: "8080"}},
				Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
			}},
		},
	}
	if _, err := tenant.Clients.CoreV1().Pods("shop").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods, err := tenant.WaitForPods(ctx, "shop", "app=program", 1)
	if err != nil {
		t.Fatal(err)
	}
	if pods[0].Spec.NodeName != "node-3" {
		t.Errorf("it runs on %s against its node selector", pods[0].Spec.NodeName)
	}
	address := strings.Replace(pods[0].Status.PodIP, "10.", "127.", 1) + ":8080"
	eventually(t, "the program answers", func() error {
		response, err := http.Get("http://" + address)
		if err == nil {
			_ = response.Body.Close()
		}
		return err
	})
	if err := tenant.Clients.CoreV1().Pods("shop").Delete(ctx, "program", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program is gone", func() error { return wantRefused(ctx, address) })
}

func unknownImage(t *testing.T, tenant *Tenant) {
	ctx := t.Context()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "odd"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "nginx:1"}}}}
	if _, err := tenant.Clients.CoreV1().Pods("shop").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod says why", func() error {
		pod, err := tenant.Clients.CoreV1().Pods("shop").Get(ctx, "odd", metav1.GetOptions{})
		if err == nil && (pod.Status.Phase != corev1.PodPending || podReady(pod) || !strings.Contains(pod.Status.Message, `"nginx:1"`)) {
			err = fmt.Errorf("status %+v", pod.Status)
		}
		return err
	})
}

func nodesChange(t *testing.T, tenant *Tenant) {
	ctx := t.Context()
	name, err := tenant.AddNode(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "there", Labels: map[string]string{"app": "there"}},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: name},
			Containers:   []corev1.Container{{Name: "main", Image: "echo/tcp"}},
		},
	}
	if _, err := tenant.Clients.CoreV1().Pods("shop").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := tenant.WaitForPods(ctx, "shop", "app=there", 1); err != nil {
		t.Fatal(err)
	}
	if err := tenant.SetNodeReady(ctx, name, false); err != nil {
		t.Fatal(err)
	}
	node, err := tenant.Clients.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if nodeReady(node) || node.Status.Addresses[0].Address != tenant.NodeAddresses()[name].String() {
		t.Errorf("status %+v", node.Status)
	}
	if err := tenant.RemoveNode(ctx, name); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(tenant.Nodes(), name) {
		t.Errorf("%s is still there", name)
	}
	if _, err := tenant.WaitForPods(ctx, "shop", "app=there", 0); err != nil {
		t.Error(err)
	}
}

func plainUser(t *testing.T, tenant *Tenant) {
	config, _, err := tenant.AddUser("someone")
	if err != nil {
		t.Fatal(err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clients.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("want Forbidden, got %v", err)
	}
}

func laterTenant(t *testing.T, bed *Bed) {
	if _, err := bed.AddTenant(t.Context(), "globex"); err != nil {
		t.Fatal(err)
	}
	if bed.Tenant("globex").NodeAddresses()["node-1"] == bed.Tenant("acme").NodeAddresses()["node-1"] {
		t.Error("two tenants share a node address")
	}
	for _, name := range []string{"globex", "hub"} {
		if _, err := bed.AddTenant(t.Context(), name); err == nil {
			t.Errorf("a second %s was made", name)
		}
	}
}

// udpClient asks again and again from one port.
type udpClient struct{ address, local string }

func dialUDP(t *testing.T, address string) *udpClient {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return &udpClient{address: address, local: fmt.Sprintf("127.0.0.1:%d", port)}
}

// ask repeats a question until it is answered: datagrams get lost while pods change.
func (c *udpClient) ask(t *testing.T, data string) (reply Reply) {
	t.Helper()
	eventually(t, "an answer over UDP", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var err error
		reply, err = askFrom(ctx, "udp", c.local, c.address, data)
		return err
	})
	return reply
}
