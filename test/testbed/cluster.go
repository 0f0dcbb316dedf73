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
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/util/retry"
)

// Cluster makes a control plane a cluster with nodes that run pods and serve
// NodePorts. It stands in for scheduler, kubelet and kube-proxy, all inside
// this process.
type Cluster struct {
	clients     kubernetes.Interface
	index, slot int

	pods     corelisters.PodLister
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	nodes    corelisters.NodeLister

	kubelet *kubelet
	proxy   *proxy
	cancel  context.CancelFunc
	working sync.WaitGroup

	mu        sync.Mutex
	addresses map[string]netip.Addr // of nodes that there are
	made      int                   // nodes ever made
}

// nodeAddress is the address of a node, counted from 0.
func (c *Cluster) nodeAddress(node int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(10 + c.index), byte(c.slot), byte(1 + node)})
}

// podIP is what Kubernetes objects say of a pod, counted from 0.
func (c *Cluster) podIP(pod int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(100 + c.index), byte(4*c.slot + pod/250), byte(1 + pod%250)})
}

// podLimit is how many pods run at once in a tenant.
const podLimit = 1000

// loopback is where the pod with this IP listens; other addresses are as they are.
func loopback(ip netip.Addr) netip.Addr {
	if four := ip.As4(); ip.Is4() && four[0] == 10 && four[1] >= 100 {
		four[0] = 127
		return netip.AddrFrom4(four)
	}
	return ip
}

func startCluster(ctx context.Context, plane *Plane, index, nodes int) (*Cluster, error) {
	if index >= 90 {
		return nil, errors.New("a bed holds at most 90 tenants")
	}
	factory := informers.NewSharedInformerFactoryWithOptions(plane.Clients, 0, informers.WithTransform(dropManagedFields))
	c := &Cluster{
		clients: plane.Clients, index: index, slot: plane.home.slot, addresses: map[string]netip.Addr{},
		pods:     factory.Core().V1().Pods().Lister(),
		services: factory.Core().V1().Services().Lister(),
		slices:   factory.Discovery().V1().EndpointSlices().Lister(),
		nodes:    factory.Core().V1().Nodes().Lister(),
	}
	for range nodes {
		if _, err := c.AddNode(ctx); err != nil {
			return nil, err
		}
	}
	running, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.kubelet, c.proxy = newKubelet(c, plane.home), newProxy(c)
	err := errors.Join(c.kubelet.watch(factory), c.proxy.watch(factory))
	if err != nil {
		cancel()
		return nil, err
	}
	factory.StartWithContext(running)
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			cancel()
			return nil, fmt.Errorf("the watch of %s in control plane %s did not start", kind, plane.Name)
		}
	}
	c.working.Go(func() { c.kubelet.run(running) })
	c.working.Go(func() { c.proxy.run(running) })
	return c, nil
}

func dropManagedFields(obj any) (any, error) {
	if object, ok := obj.(metav1.Object); ok {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

func (c *Cluster) stop() {
	c.cancel()
	c.working.Wait()
}

// AddNode makes one more node, which is Ready, and returns its name.
func (c *Cluster) AddNode(ctx context.Context) (string, error) {
	c.mu.Lock()
	name, address := fmt.Sprintf("node-%d", c.made+1), c.nodeAddress(c.made)
	c.made++
	c.mu.Unlock()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	node, err := c.clients.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: address.String()},
		{Type: corev1.NodeExternalIP, Address: address.String()},
		{Type: corev1.NodeHostName, Address: name},
	}
	node.Status.Conditions = []corev1.NodeCondition{readyNode(true)}
	if _, err := c.clients.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return "", err
	}
	c.mu.Lock()
	c.addresses[name] = address
	c.mu.Unlock()
	return name, nil
}

// RemoveNode deletes a node with its pods.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	c.mu.Lock()
	delete(c.addresses, name)
	c.mu.Unlock()
	if err := c.clients.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	pods, err := c.clients.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
	if err != nil {
		return err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		err := c.clients.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// SetNodeReady changes the node's Ready condition and nothing else: its pods
// and NodePorts go on, as they do when a kubelet alone is silent.
func (c *Cluster) SetNodeReady(ctx context.Context, name string, ready bool) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := c.clients.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Status.Conditions = []corev1.NodeCondition{readyNode(ready)}
		_, err = c.clients.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err
	})
}

func readyNode(ready bool) corev1.NodeCondition {
	status, reason := corev1.ConditionTrue, "KubeletReady"
	if !ready {
		status, reason = corev1.ConditionUnknown, "NodeStatusUnknown"
	}
	return corev1.NodeCondition{
		Type: corev1.NodeReady, Status: status, Reason: reason,
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}
}

// CutNode takes a node off the network, or back: while it is cut its NodePorts
// and health checks refuse connections and its open connections break. The
// node's objects stay as they are; see SetNodeReady.
func (c *Cluster) CutNode(name string, cut bool) { c.proxy.cutNode(name, cut) }

// NodeAddresses are the addresses of the nodes by name.
func (c *Cluster) NodeAddresses() map[string]netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.addresses)
}

// Nodes are the names of the nodes, sorted.
func (c *Cluster) Nodes() []string {
	return slices.Sorted(maps.Keys(c.NodeAddresses()))
}

// WaitForPods waits until so many pods of a namespace that carry these labels
// are Ready and no other one with these labels is left.
func (c *Cluster) WaitForPods(ctx context.Context, namespace, selector string, count int) ([]corev1.Pod, error) {
	var found []corev1.Pod
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		list, err := c.clients.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return false, nil //nolint:nilerr // asked again until the deadline
		}
		found = list.Items
		ready := 0
		for i := range found {
			if podReady(&found[i]) {
				ready++
			}
		}
		return ready == count && len(found) == count, nil
	})
	if err != nil {
		return nil, fmt.Errorf("want %d Ready pods of %s in namespace %s, there are %s: %w", count, selector, namespace, podStates(found), err)
	}
	return found, nil
}

func podReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil
		}
	}
	return false
}

func podStates(pods []corev1.Pod) string {
	if len(pods) == 0 {
		return "none"
	}
	text := ""
	for i := range pods {
		pod := &pods[i]
		text += fmt.Sprintf("[%s on %q: %s ready=%t %s]", pod.Name, pod.Spec.NodeName, pod.Status.Phase, podReady(pod), pod.Status.Message)
	}
	return text
}
