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

package integrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const addressesPath = "tenants/acme/addresses/default.yaml"

var (
	names  = []string{"one", "two"}
	broken = repo.NewFile([]byte("kind: [\n"))
)

func wishPath(name string) string { return "tenants/acme/loadbalancers/shop/" + name + ".service.yaml" }
func backendPath(name string) string {
	return "tenants/acme/backends/shop/" + name + ".service.yaml"
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: "shop." + name, Namespace: "tenant-acme",
		Labels: map[string]string{v1alpha1.LabelOriginName: name, v1alpha1.LabelOriginNS: "shop", v1alpha1.LabelOriginKind: "Service"},
	}
}

func file(object repo.Object) repo.File {
	data, err := repo.Encode(object)
	if err != nil {
		panic(err)
	}
	return repo.NewFile(data)
}

func nodesFile(n int) repo.File {
	return file(&v1alpha1.Addresses{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultName, Namespace: "tenant-acme"},
		Spec:       v1alpha1.AddressesSpec{Addresses: []v1alpha1.EndpointAddress{{IP: fmt.Sprintf("10.0.0.%d", n%250+1)}}},
	})
}

func backendFile(name string, n int) repo.File {
	return file(&v1alpha1.Backend{
		ObjectMeta: meta(name),
		Spec:       v1alpha1.BackendSpec{Ports: []v1alpha1.BackendPort{{Name: "a", Port: 80, NodePort: int32(30000 + n)}}},
	})
}

func genWish(t *rapid.T, name string) *v1alpha1.LoadBalancer {
	return &v1alpha1.LoadBalancer{ObjectMeta: meta(name), Spec: v1alpha1.LoadBalancerSpec{
		Type: corev1.ServiceTypeLoadBalancer, Ports: genPorts(t),
		Endpoints: []v1alpha1.LoadBalancerEndpoints{{
			Name: "default", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: "shop." + name},
		}},
	}}
}

// numbersOf are the numbers that a port of a name can have. No two names share
// one, so that a port is the same by name and by number; what becomes of names that
// move is tested for single steps ([TestNamesMove]).
func numbersOf(name string) []int32 {
	first := 80 + 10*int32(name[0]-'a')
	return []int32{first, first + 1, first + 2}
}

// genPorts draws ports of unlike numbers, as a Service has them.
func genPorts(t *rapid.T) []v1alpha1.LoadBalancerPort {
	var out []v1alpha1.LoadBalancerPort
	for n, name := range []string{"a", "b", "c"} {
		if rapid.Bool().Draw(t, name) || n == 2 && len(out) == 0 {
			out = append(out, genPort(t, name))
		}
	}
	return out
}

func genPort(t *rapid.T, name string) v1alpha1.LoadBalancerPort {
	return v1alpha1.LoadBalancerPort{
		Name: name, Port: rapid.SampledFrom(numbersOf(name)).Draw(t, "number"), Protocol: rapid.SampledFrom([]corev1.Protocol{"", "TCP", "UDP"}).Draw(t, "protocol"),
	}
}

// mutate changes one thing of a document that can be read.
func mutate(t *rapid.T, path string, old repo.File) repo.File {
	object, problems := repo.Decode(path, old)
	if len(problems) > 0 {
		return old
	}
	lb := object.DeepCopyObject().(*v1alpha1.LoadBalancer)
	which := rapid.IntRange(0, len(lb.Spec.Ports)-1).Draw(t, "which")
	switch rapid.SampledFrom([]string{"ports", "port", "drop", "add", "policy", "labels", "ranges"}).Draw(t, "field") {
	case "ports":
		lb.Spec.Ports = genPorts(t)
	case "port":
		lb.Spec.Ports[which] = genPort(t, lb.Spec.Ports[which].Name)
	case "drop":
		if len(lb.Spec.Ports) > 1 {
			lb.Spec.Ports = slices.Delete(lb.Spec.Ports, which, which+1)
		}
	case "add":
		for _, name := range []string{"a", "b", "c"} {
			if !slices.ContainsFunc(lb.Spec.Ports, func(p v1alpha1.LoadBalancerPort) bool { return p.Name == name }) {
				lb.Spec.Ports = append(lb.Spec.Ports, genPort(t, name))
				break
			}
		}
	case "policy":
		lb.Spec.ExternalTrafficPolicy = rapid.SampledFrom([]corev1.ServiceExternalTrafficPolicy{"", "Local", "Cluster"}).Draw(t, "policy")
	case "labels":
		for _, key := range []string{"x", "y"} {
			delete(lb.Labels, key)
			if value := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, key); value != "" {
				lb.Labels[key] = value
			}
		}
	case "ranges":
		lb.Spec.LoadBalancerSourceRanges = nil
		for _, cidr := range []string{"10.0.0.0/8", "172.16.0.0/12"} {
			if rapid.Bool().Draw(t, cidr) {
				lb.Spec.LoadBalancerSourceRanges = append(lb.Spec.LoadBalancerSourceRanges, cidr)
			}
		}
	}
	return file(lb)
}

// tenant pushes one intent commit.
func (w *world) tenant(t *rapid.T) {
	name := rapid.SampledFrom(names).Draw(t, "document")
	path := wishPath(name)
	next := maps.Clone(w.intent)
	old, there := next[path]
	action := rapid.SampledFrom([]string{"change", "change", "change", "change", "change", "create", "delete", "facts", "nodes", "no nodes", "break"}).Draw(t, "tenant")
	if !there && action == "change" {
		action = "create"
	}
	switch action {
	case "create":
		next[path], next[backendPath(name)] = file(genWish(t, name)), backendFile(name, w.next())
	case "change":
		next[path] = mutate(t, path, old)
	case "delete":
		delete(next, path)
		delete(next, backendPath(name))
	case "facts":
		if there {
			next[backendPath(name)] = backendFile(name, w.next())
		}
	case "nodes":
		next[addressesPath] = nodesFile(w.next())
	case "no nodes":
		delete(next, addressesPath)
	case "break":
		if there {
			next[path] = broken
		}
	}
	w.intent = next
	w.intents = append(w.intents, next)
	w.log("tenant: %s", show(next))
}

// person commits to main.
func (w *world) person(t *rapid.T) {
	name := rapid.SampledFrom(names).Draw(t, "document")
	path := wishPath(name)
	next := maps.Clone(w.main())
	old, there := next[path]
	take := func(from repo.Tree) {
		delete(next, path)
		if file, ok := from[path]; ok {
			next[path] = file
		}
	}
	action := rapid.SampledFrom([]string{"edit", "edit", "edit", "edit", "delete", "revert", "pick", "comment", "release", "fact", "break"}).Draw(t, "person")
	switch action {
	case "edit":
		if there {
			next[path] = mutate(t, path, old)
		}
	case "delete":
		delete(next, path)
	case "revert":
		take(w.mains[rapid.IntRange(0, len(w.mains)-1).Draw(t, "to")].tree)
	case "pick":
		if len(w.intents) > 0 {
			if from := w.intents[rapid.IntRange(0, len(w.intents)-1).Draw(t, "from")]; from[path].Data != nil {
				take(from)
			}
		}
	case "comment":
		if there {
			next[path] = repo.NewFile(append([]byte("# mine\n"), old.Data...))
		}
	case "release":
		take(w.intent)
	case "fact":
		delete(next, addressesPath)
		delete(next, backendPath(name))
	case "break":
		if there {
			next[path] = broken
		}
	}
	w.commit(next)
	w.log("person %s %s: %s", action, name, show(next))
}

// reviewer merges the open pull request, all of it or in part, or closes it.
func (w *world) reviewer(t *rapid.T) {
	if w.review == nil || w.review.closed {
		return
	}
	if rapid.IntRange(0, 3).Draw(t, "reviewer") == 0 {
		w.review.closed = true
		w.log("reviewer closes")
		return
	}
	w.mergeReview(func(string) bool { return rapid.Bool().Draw(t, "take") })
}

// mergeReview commits what of the review does not conflict with main.
func (w *world) mergeReview(take func(path string) bool) {
	if w.review == nil || w.review.closed {
		return
	}
	next := maps.Clone(w.main())
	for _, path := range slices.Sorted(maps.Keys(w.review.proposed)) {
		if take(path) && same(w.main(), w.review.parent, path) {
			next[path] = repo.NewFile(w.review.proposed[path])
		}
	}
	w.commit(next)
	w.log("reviewer merges: %s", show(next))
}

// commit makes a commit of a person on main, who is then expected to keep what
// it changed.
func (w *world) commit(tree repo.Tree) {
	for _, path := range decided(tree) {
		w.pin(path, leavesOf(w.main()[path]), leavesOf(tree[path]))
	}
	for _, path := range decided(w.main()) {
		w.pin(path, leavesOf(w.main()[path]), leavesOf(tree[path]))
	}
	w.mains = append(w.mains, mainCommit{w.next(), tree})
}

func show(tree repo.Tree) string {
	var out []string
	for _, path := range decided(tree) {
		l := leavesOf(tree[path])
		var parts []string
		for _, leaf := range slices.Sorted(maps.Keys(l)) {
			if !strings.Contains(leaf, "!") && !strings.Contains(leaf, "origin-") {
				parts = append(parts, strings.TrimPrefix(leaf, "spec.")+"="+l[leaf])
			}
		}
		if l.broken() {
			parts = []string{"broken"}
		}
		out = append(out, path[strings.LastIndexByte(path, '/')+1:]+"{"+strings.Join(parts, " ")+"}")
	}
	return strings.Join(out, " ")
}
