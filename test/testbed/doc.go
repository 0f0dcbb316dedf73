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

// Package testbed starts, on one Linux machine and on loopback only, all that
// the system needs around it: a hub control plane, tenant control planes with
// nodes, pods and NodePorts, and a Git server.
//
//	bed, err := testbed.New(ctx, testbed.Options{Tenants: []string{"acme"}, Nodes: 2})
//	defer bed.Close()
//
// What is real: etcd, kube-apiserver and kube-controller-manager (deployment,
// replicaset, endpointslice, namespace, serviceaccount and garbage-collector
// controllers), git http-backend, and every program started with [Bed.Start].
// What stands in for something: [Cluster] plays scheduler, kubelet and
// kube-proxy inside this process; its pods are echo servers ([Reply]) or local
// programs.
//
// # Addresses
//
// Every bed on the machine has a slot of its own, so beds do not meet. With
// tenant number t (from 0) and slot s:
//
//	nodes           127.(10+t).s.n
//	pods            10.(100+t).4s+x.y, served on 127.(100+t).4s+x.y
//	load balancers  127.200.4s.0/22, see [Bed.LoadBalancerCIDR]
//
// The API server refuses loopback addresses as endpoints, hence the two faces
// of a pod: Kubernetes objects say 10.…, and the stand-in for kube-proxy dials
// 127.…. Nothing listens on 10.….
//
// # Leaving nothing behind
//
// [Bed.Close] ends every process and removes the bed's folder. When the owner
// of a bed dies without closing it, a watchdog does the same, and should that
// die too, the next [New] does. A process belongs to a bed when its environment
// says so (KUBELB_BED=<folder>/<name>), and so do processes that it starts and
// hands its environment on to; no other process is ever signalled.
//
// One thing is envtest's: an empty file per port in kubebuilder-envtest in the
// user's cache folder, which it removes itself when it is used again later.
//
// The package refuses to run elsewhere than on Linux, and says which command
// installs a tool that is missing.
package testbed
