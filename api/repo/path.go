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

package repo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"
)

const tenantsDir = "tenants"

// The folders of a tenant.
const (
	DirLoadBalancers = "loadbalancers"
	DirRoutes        = "routes"
	DirSyncSecrets   = "syncsecrets"
	DirAddresses     = "addresses"
	DirBackends      = "backends"
)

// RouteKinds are the kinds that the name of a route's file can end in.
var RouteKinds = []string{"ingress", "gateway", "httproute", "grpcroute", "tlsroute", "tcproute", "udproute"}

// Path is what the path of a tenant's file says.
type Path struct {
	Tenant string
	// Kind of the document: LoadBalancer, Route, SyncSecret, Addresses, Backend
	// or TenantState.
	Kind string
	// Namespace and Name are those of the source object; empty for Addresses and
	// TenantState. They are as they stand in the path, so a long name is cut.
	Namespace, Name string
	// SourceKind in lower case, such as service or httproute; empty for Addresses
	// and TenantState.
	SourceKind string
}

// String returns the path.
func (p Path) String() string {
	switch p.Kind {
	case v1alpha1.KindAddresses:
		return TenantDir(p.Tenant) + "/" + DirAddresses + "/" + v1alpha1.DefaultName + ".yaml"
	case v1alpha1.KindTenantState:
		return TenantDir(p.Tenant) + "/tenantstate.yaml"
	}
	return strings.Join([]string{TenantDir(p.Tenant), dirs[p.Kind], p.Namespace, p.Name + "." + p.SourceKind + ".yaml"}, "/")
}

// ObjectName returns the name that the document's object must have.
func (p Path) ObjectName() string {
	switch p.Kind {
	case v1alpha1.KindAddresses, v1alpha1.KindTenantState:
		return v1alpha1.DefaultName
	case v1alpha1.KindRoute:
		return RouteName(p.Namespace, p.Name, p.SourceKind)
	}
	return ObjectName(p.Namespace, p.Name)
}

// Fact reports whether the document says what the tenant's runtime decided, and
// not what a user declared.
func (p Path) Fact() bool {
	return p.Kind == v1alpha1.KindAddresses || p.Kind == v1alpha1.KindBackend
}

// Source names the source object for people: "Service shop/web".
func (p Path) Source() string {
	if p.SourceKind == "" {
		return p.Kind
	}
	return sourceKinds[p.SourceKind] + " " + p.Namespace + "/" + p.Name
}

var dirs = map[string]string{
	v1alpha1.KindLoadBalancer: DirLoadBalancers,
	v1alpha1.KindRoute:        DirRoutes,
	v1alpha1.KindSyncSecret:   DirSyncSecrets,
	v1alpha1.KindBackend:      DirBackends,
}

var sourceKinds = map[string]string{
	"service": "Service", "secret": "Secret", "ingress": "Ingress", "gateway": "Gateway", "httproute": "HTTPRoute",
	"grpcroute": "GRPCRoute", "tlsroute": "TLSRoute", "tcproute": "TCPRoute", "udproute": "UDPRoute",
}

// ParsePath reads the path of a tenant's file. The error names what does not
// fit; the path is then no document of ours.
func ParsePath(path string) (Path, error) {
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[0] != tenantsDir {
		return Path{}, fmt.Errorf("%q is not in the folder of a tenant", path)
	}
	p := Path{Tenant: parts[1]}
	if !ValidTenant(p.Tenant) {
		return Path{}, fmt.Errorf("%q is not a tenant's name", p.Tenant)
	}
	rest := strings.Join(parts[2:], "/")
	switch rest {
	case "tenantstate.yaml":
		p.Kind = v1alpha1.KindTenantState
		return p, nil
	case DirAddresses + "/" + v1alpha1.DefaultName + ".yaml":
		p.Kind = v1alpha1.KindAddresses
		return p, nil
	}
	if len(parts) != 5 {
		return Path{}, fmt.Errorf("%q is not a place where a document can be", path)
	}
	return p.document(parts[2], parts[3], parts[4])
}

func (p Path) document(dir, namespace, file string) (Path, error) {
	for kind, d := range dirs {
		if d == dir {
			p.Kind = kind
		}
	}
	if p.Kind == "" {
		return Path{}, fmt.Errorf("%q is not a folder that documents can be in", dir)
	}
	name, ok := strings.CutSuffix(file, ".yaml")
	dot := strings.LastIndexByte(name, '.')
	if !ok || dot <= 0 {
		return Path{}, fmt.Errorf("%q is not <name>.<kind>.yaml", file)
	}
	p.Namespace, p.Name, p.SourceKind = namespace, name[:dot], name[dot+1:]
	allowed := []string{"service"}
	switch p.Kind {
	case v1alpha1.KindRoute:
		allowed = RouteKinds
	case v1alpha1.KindSyncSecret:
		allowed = []string{"secret"}
	}
	if !slices.Contains(allowed, p.SourceKind) {
		return Path{}, fmt.Errorf("%q: a file in %s ends in .%s.yaml", file, dir, strings.Join(allowed, ".yaml or ."))
	}
	if !dnsLabel.MatchString(namespace) || len(namespace) > 63 {
		return Path{}, fmt.Errorf("%q is not a namespace", namespace)
	}
	if !validFileName(p.Name) {
		return Path{}, fmt.Errorf("%q is not the name of an object", p.Name)
	}
	return p, nil
}

// validFileName accepts DNS subdomains, which every source object's name is.
func validFileName(name string) bool {
	if len(name) > MaxNameLength {
		return false
	}
	for _, label := range strings.Split(name, ".") {
		if !dnsLabel.MatchString(label) {
			return false
		}
	}
	return true
}

// FileName returns a source object's name as it stands in a path, cut to
// MaxNameLength.
func FileName(name string) string { return cut(name, MaxNameLength) }

// PathOf returns the path of an object: from its origin labels and annotation,
// or for a hand-made one from its name. The error says what is missing.
func PathOf(object Object) (string, error) {
	kind, err := kindOf(object)
	if err != nil {
		return "", err
	}
	tenant, ok := strings.CutPrefix(object.GetNamespace(), v1alpha1.TenantNamespacePrefix)
	if !ok || !ValidTenant(tenant) {
		return "", fmt.Errorf("%s %s: namespace %q is not that of a tenant", kind, object.GetName(), object.GetNamespace())
	}
	p := Path{Tenant: tenant, Kind: kind}
	if kind == v1alpha1.KindAddresses || kind == v1alpha1.KindTenantState {
		return p.String(), nil
	}
	p.Namespace, p.Name, p.SourceKind = Origin(object)
	if p.Namespace == "" {
		return "", fmt.Errorf("%s %s: its name is not <namespace>.<name> and it has no origin labels", kind, object.GetName())
	}
	p.Name = FileName(p.Name)
	if p.ObjectName() != object.GetName() {
		return "", fmt.Errorf("%s %s: its origin %s/%s demands the name %s", kind, object.GetName(), p.Namespace, p.Name, p.ObjectName())
	}
	if q, err := ParsePath(p.String()); err != nil || q != p {
		return "", fmt.Errorf("%s %s: its origin %s/%s is not that of an object", kind, object.GetName(), p.Namespace, p.Name)
	}
	return p.String(), nil
}

// Origin returns the namespace, the name and the kind in lower case of an
// object's source object: from its labels and annotation if they are complete,
// else from its name. Empty strings mean that it has none that can be told.
func Origin(object Object) (namespace, name, kind string) {
	labels := object.GetLabels()
	kind, _, _ = strings.Cut(strings.ToLower(labels[v1alpha1.LabelOriginKind]), ".")
	namespace, name = labels[v1alpha1.LabelOriginNS], labels[v1alpha1.LabelOriginName]
	if origin, ok := object.GetAnnotations()[v1alpha1.AnnotationOrigin]; ok {
		namespace, name, _ = strings.Cut(origin, "/")
	}
	rest, suffix := object.GetName(), ""
	switch object.(type) {
	case *v1alpha1.LoadBalancer, *v1alpha1.Backend:
		suffix = "service"
	case *v1alpha1.SyncSecret:
		suffix = "secret"
	case *v1alpha1.Route:
		if dot := strings.LastIndexByte(rest, '.'); dot > 0 {
			rest, suffix = rest[:dot], rest[dot+1:]
		}
	}
	if kind == "" {
		kind = suffix
	}
	if namespace == "" || name == "" {
		namespace, name, _ = strings.Cut(rest, ".")
	}
	return namespace, name, kind
}
