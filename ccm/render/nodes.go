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
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReasonNoNodeAddress is the reason of the problem of nodes.
const ReasonNoNodeAddress = "NoNodeAddress"

// NodesPath returns the path of what the nodes are rendered to.
func NodesPath(tenant string) repo.Path {
	return repo.Path{Tenant: tenant, Kind: v1alpha1.KindAddresses}
}

// IsReady reports whether a node says that it is ready.
func IsReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Nodes renders the addresses of nodes that count as ready (which is for the
// caller to say, since it depends on the time): those of one type, each once,
// IP addresses by number and then host names. Nodes that are labelled
// node.kubernetes.io/exclude-from-external-load-balancers or on their way out do
// not count. There is no other type to fall back to: nodes without an address of
// the type are a problem if they are all there is, and nothing is rendered.
func Nodes(nodes []corev1.Node, o Options) ([]Document, []v1alpha1.Problem) {
	path := NodesPath(o.Tenant)
	addresses := NodeAddresses(nodes, o.NodeAddressType)
	if len(addresses) == 0 {
		return nil, []v1alpha1.Problem{{
			Path: path.String(), Object: path.Source(), Field: "spec.addresses", Reason: ReasonNoNodeAddress,
			Message: fmt.Sprintf("none of %d ready nodes has an address of type %s; the last addresses stay", len(nodes), o.NodeAddressType),
			Remedy:  "run the CCM with the --node-address-type that the nodes have",
		}}
	}
	return []Document{document(path, &v1alpha1.Addresses{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultName, Namespace: v1alpha1.TenantNamespace(o.Tenant)},
		Spec:       v1alpha1.AddressesSpec{Addresses: addresses, HealthCheckPort: o.HealthCheckPort},
	})}, nil
}

// NodeAddresses returns the addresses that [Nodes] writes.
func NodeAddresses(nodes []corev1.Node, kind corev1.NodeAddressType) []v1alpha1.EndpointAddress {
	var addresses []v1alpha1.EndpointAddress
	for i := range nodes {
		node := &nodes[i]
		if _, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]; excluded || node.DeletionTimestamp != nil {
			continue
		}
		for _, a := range node.Status.Addresses {
			if a.Type == kind && a.Address != "" {
				addresses = append(addresses, endpointAddress(a.Address))
			}
		}
	}
	slices.SortFunc(addresses, compareAddresses)
	return slices.Compact(addresses)
}

func endpointAddress(text string) v1alpha1.EndpointAddress {
	if ip, err := netip.ParseAddr(text); err == nil {
		return v1alpha1.EndpointAddress{IP: ip.Unmap().String()}
	}
	return v1alpha1.EndpointAddress{Hostname: strings.ToLower(text)}
}

func compareAddresses(a, b v1alpha1.EndpointAddress) int {
	if (a.IP == "") != (b.IP == "") {
		return cmp.Compare(a.Hostname, b.Hostname) // the IP address has none and is first
	}
	x, _ := netip.ParseAddr(a.IP)
	y, _ := netip.ParseAddr(b.IP)
	return cmp.Or(x.Compare(y), cmp.Compare(a.Hostname, b.Hostname))
}
