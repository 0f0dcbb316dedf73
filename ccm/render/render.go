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

package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Class is the load balancer class of Services that ask for us by name.
const Class = "kubelb"

// Options are the settings of a CCM that decide what it renders.
type Options struct {
	// Tenant is the name of this cluster.
	Tenant string
	// UseLoadBalancerClass leaves Services without a class to others, as those of
	// another class always are.
	UseLoadBalancerClass bool
	// NodeAddressType is the type of the node addresses that the hub connects to.
	NodeAddressType corev1.NodeAddressType
	// HealthCheckPort is where nodes answer GET /healthz as kube-proxy does; 0 if
	// they do not.
	HealthCheckPort int32
}

// Document is one file of the intent branch.
type Document struct {
	Path string
	Data []byte
}

// Input is everything of a tenant cluster that is rendered.
type Input struct {
	Options
	// Services of the cluster, in scope or not.
	Services []corev1.Service
	// Nodes that count as ready.
	Nodes []corev1.Node
}

// Output is the content of the intent branch.
type Output struct {
	// Documents in the order of their paths.
	Documents []Document
	// Problems in the order of the objects.
	Problems []v1alpha1.Problem
}

// Render renders a whole cluster. What it returns is what [Service] and [Nodes]
// return for each object, put together.
func Render(in Input) Output {
	var out Output
	add := func(documents []Document, problems []v1alpha1.Problem) {
		out.Documents = append(out.Documents, documents...)
		out.Problems = append(out.Problems, problems...)
	}
	for i := range in.Services {
		add(Service(&in.Services[i], in.Options))
	}
	add(Nodes(in.Nodes, in.Options))
	slices.SortFunc(out.Documents, func(a, b Document) int { return strings.Compare(a.Path, b.Path) })
	slices.SortStableFunc(out.Problems, func(a, b v1alpha1.Problem) int { return strings.Compare(a.Object, b.Object) })
	return out
}

// document encodes an object. Only a kind that the repository does not know
// cannot be encoded, and none is made here.
func document(path repo.Path, object repo.Object) Document {
	data, err := repo.Encode(object)
	if err != nil {
		panic(fmt.Sprintf("render %s: %v", path, err))
	}
	return Document{Path: path.String(), Data: data}
}

// meta is the metadata of an object made from a source object.
func meta(path repo.Path, source metav1.Object, kind string) metav1.ObjectMeta {
	namespace, name := source.GetNamespace(), source.GetName()
	m := metav1.ObjectMeta{
		Name:      path.ObjectName(),
		Namespace: v1alpha1.TenantNamespace(path.Tenant),
		Labels: map[string]string{
			v1alpha1.LabelOriginName: repo.LabelValue(name),
			v1alpha1.LabelOriginNS:   repo.LabelValue(namespace),
			v1alpha1.LabelOriginKind: kind,
		},
		Annotations: map[string]string{},
	}
	if repo.LabelValue(name) != name {
		m.Annotations[v1alpha1.AnnotationOrigin] = namespace + "/" + name
	}
	return m
}

// settled are the annotations that do not travel: they are ours, or become
// fields.
var settled = map[string]bool{
	v1alpha1.AnnotationOrigin:        true,
	v1alpha1.AnnotationOriginUID:     true,
	v1alpha1.AnnotationRevision:      true,
	v1alpha1.AnnotationShortRevision: true,
	v1alpha1.AnnotationConfirm:       true,
	v1alpha1.AnnotationAcceptRewrite: true,
	v1alpha1.AnnotationLBPolicy:      true,
	v1alpha1.AnnotationAddresses:     true,
}

// travelling returns those of a source object's annotations that the hub gets.
func travelling(annotations map[string]string) map[string]string {
	out := maps.Clone(annotations)
	maps.DeleteFunc(out, func(key, _ string) bool {
		return !strings.HasPrefix(key, v1alpha1.AnnotationPrefix) || settled[key]
	})
	return out
}
