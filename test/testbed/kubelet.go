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
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// ReadyAnnotation set to "false" on a pod makes it fail its readiness probe.
const ReadyAnnotation = "testbed.kubelb.k8c.io/ready"

// drain is how long a pod that is being deleted still serves, as programs do
// that end in order, so that news of its end overtakes the end.
const drain = 300 * time.Millisecond

// kubelet stands in for the scheduler and for the kubelets of a cluster.
type kubelet struct {
	cluster *Cluster
	home    *home
	queue   workqueue.TypedRateLimitingInterface[string]

	mu      sync.Mutex
	running map[string]*runningPod // by namespace/name
	ips     map[int]bool           // pod numbers in use
	next    int                    // where to look for a free one
	turn    int                    // whose turn it is among the nodes
}

// runningPod is a pod whose containers have been started.
type runningPod struct {
	uid     types.UID
	number  int
	ip      netip.Addr
	parts   []io.Closer
	failure error     // why not all containers run
	leaving time.Time // when its deletion was seen
}

func newKubelet(c *Cluster, h *home) *kubelet {
	return &kubelet{
		cluster: c, home: h, running: map[string]*runningPod{}, ips: map[int]bool{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](20*time.Millisecond, 2*time.Second)),
	}
}

func (k *kubelet) watch(factory informers.SharedInformerFactory) error {
	add := func(obj any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
			k.queue.Add(key)
		}
	}
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, obj any) { add(obj) }, DeleteFunc: add,
	})
	return err
}

// run works until the context ends, and then ends all pods.
func (k *kubelet) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for k.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	k.queue.ShutDown()
	workers.Wait()
	for key := range k.running {
		k.end(key)
	}
}

func (k *kubelet) work(ctx context.Context) bool {
	key, shutdown := k.queue.Get()
	if shutdown {
		return false
	}
	defer k.queue.Done(key)
	again, err := k.sync(ctx, key)
	switch {
	case err != nil && ctx.Err() == nil:
		k.queue.AddRateLimited(key) // conflicts and short outages of the API server
	case again > 0:
		k.queue.AddAfter(key, again)
	default:
		k.queue.Forget(key)
	}
	return true
}

// sync brings one pod to where its object wants it.
func (k *kubelet) sync(ctx context.Context, key string) (again time.Duration, err error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return 0, nil //nolint:nilerr // no such key exists
	}
	pod, err := k.cluster.pods.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		k.end(key)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if running := k.get(key); running != nil && running.uid != pod.UID {
		k.end(key)
	}
	switch {
	case pod.DeletionTimestamp != nil:
		return k.remove(ctx, key, pod)
	case pod.Spec.NodeName == "":
		return k.schedule(ctx, pod)
	default:
		return k.serve(ctx, key, pod)
	}
}

func (k *kubelet) get(key string) *runningPod {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running[key]
}

// schedule binds a pod to the next Ready node that its node selector allows.
func (k *kubelet) schedule(ctx context.Context, pod *corev1.Pod) (time.Duration, error) {
	var candidates []string
	for _, name := range k.cluster.Nodes() {
		node, err := k.cluster.nodes.Get(name)
		if err == nil && nodeReady(node) && labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(node.Labels)) {
			candidates = append(candidates, name)
		}
	}
	if len(candidates) == 0 {
		return 200 * time.Millisecond, nil // until a node fits
	}
	k.mu.Lock()
	node := candidates[k.turn%len(candidates)]
	k.turn++
	k.mu.Unlock()
	err := k.cluster.clients.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil // it is gone, or bound already: its next event says so
	}
	return 0, err
}

func nodeReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// serve starts a pod that does not run yet and reports its status.
func (k *kubelet) serve(ctx context.Context, key string, pod *corev1.Pod) (time.Duration, error) {
	if _, ours := k.cluster.NodeAddresses()[pod.Spec.NodeName]; !ours {
		return 0, nil
	}
	running := k.get(key)
	if running == nil {
		var err error
		if running, err = k.begin(key, pod); err != nil {
			return 0, err
		}
	}
	var again time.Duration
	if running.failure != nil {
		k.end(key) // to be tried anew
		again = time.Second
	}
	return again, k.report(ctx, pod, running)
}

// begin starts the containers of a pod on an address of its own.
func (k *kubelet) begin(key string, pod *corev1.Pod) (*runningPod, error) {
	running := &runningPod{uid: pod.UID}
	k.mu.Lock()
	free := -1
	for i := range podLimit {
		if n := (k.next + i) % podLimit; !k.ips[n] {
			free = n
			break
		}
	}
	if free < 0 {
		k.mu.Unlock()
		return nil, fmt.Errorf("a tenant of the bed runs at most %d pods", podLimit)
	}
	running.number, running.ip = free, k.cluster.podIP(free)
	k.ips[free], k.next, k.running[key] = true, free+1, running
	k.mu.Unlock()
	for i := range pod.Spec.Containers {
		parts, err := k.startContainer(pod, &pod.Spec.Containers[i], loopback(running.ip))
		running.parts = append(running.parts, parts...)
		if err != nil {
			running.failure = fmt.Errorf("container %s: %w", pod.Spec.Containers[i].Name, err)
			break
		}
	}
	return running, nil
}

// end stops a pod's containers and frees its address.
func (k *kubelet) end(key string) {
	k.mu.Lock()
	running := k.running[key]
	delete(k.running, key)
	k.mu.Unlock()
	if running == nil {
		return
	}
	for _, part := range running.parts {
		_ = part.Close()
	}
	k.mu.Lock()
	delete(k.ips, running.number)
	k.mu.Unlock()
}

// remove ends a pod that is being deleted and lets its object go.
func (k *kubelet) remove(ctx context.Context, key string, pod *corev1.Pod) (time.Duration, error) {
	if running := k.get(key); running != nil {
		if running.leaving.IsZero() {
			running.leaving = time.Now()
		}
		if left := drain - time.Since(running.leaving); left > 0 {
			return left, nil
		}
		k.end(key)
	}
	err := k.cluster.clients.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, err
}

// report writes the pod's status when it says something else.
func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, running *runningPod) error {
	ready := running.failure == nil && pod.Annotations[ReadyAnnotation] != "false"
	message := ""
	if running.failure != nil {
		message = running.failure.Error()
	}
	if pod.Status.PodIP == running.ip.String() && podReady(pod) == ready && pod.Status.Message == message && len(pod.Status.Conditions) > 1 {
		return nil
	}
	phase := corev1.PodRunning
	if running.failure != nil {
		phase = corev1.PodPending
	}
	now := metav1.Now()
	status := corev1.PodStatus{
		Phase: phase, Message: message, StartTime: &now,
		HostIP:  k.cluster.NodeAddresses()[pod.Spec.NodeName].String(),
		PodIP:   running.ip.String(),
		PodIPs:  []corev1.PodIP{{IP: running.ip.String()}},
		HostIPs: []corev1.HostIP{{IP: k.cluster.NodeAddresses()[pod.Spec.NodeName].String()}},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		is := corev1.ConditionTrue
		if !ready && (kind == corev1.PodReady || kind == corev1.ContainersReady) {
			is = corev1.ConditionFalse
		}
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: is, LastTransitionTime: now})
	}
	for _, container := range pod.Spec.Containers {
		state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
		if running.failure != nil {
			state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerError", Message: message}}
		}
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image, Ready: ready, State: state,
		})
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = k.cluster.clients.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
