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

package v1alpha1_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// validateCase changes a valid object and says which fields are problems then.
type validateCase struct {
	file   string // of testdata/full
	change func(runtime.Object)
	want   []string // in their order
	// onlyValidate: the schema cannot say it. onlySchema: Validate accepts it, in
	// objects that were stored before the schema refused it.
	onlyValidate, onlySchema bool
}

func (c validateCase) object(t *testing.T) runtime.Object {
	t.Helper()
	data, err := os.ReadFile("testdata/full/" + c.file + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	object := typed(t, data)
	c.change(object)
	return object
}

func asJSON(t *testing.T, object any) (m map[string]any) {
	t.Helper()
	data, err := json.Marshal(object)
	if err == nil {
		err = yaml.Unmarshal(data, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestValidate(t *testing.T) {
	for name, c := range validateCases() {
		t.Run(name, func(t *testing.T) {
			object := c.object(t)
			before := object.DeepCopyObject()
			problems := v1alpha1.Validate(object)
			var got []string
			for _, p := range problems {
				got = append(got, p.Field)
				if p.Reason != v1alpha1.ReasonInvalid || p.Message == "" || p.Remedy == "" || p.Path != "" || p.Object != "" {
					t.Errorf("problem %+v", p)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("problems of %q, want %q\n%+v", got, c.want, problems)
			}
			if !reflect.DeepEqual(object, before) {
				t.Error("the object was changed")
			}
		})
	}
}

func TestValidateKnowsOnlyOurKinds(t *testing.T) {
	problems := v1alpha1.Validate(&corev1.Service{})
	if len(problems) != 1 || problems[0].Field != "kind" {
		t.Errorf("%+v", problems)
	}
}

func validateCases() map[string]validateCase {
	cases := map[string]validateCase{}
	add := func(file, name string, change func(runtime.Object), want ...string) {
		plain := strings.TrimLeft(name, "!?")
		cases[file+": "+plain] = validateCase{file, change, want, strings.HasPrefix(name, "!"), strings.HasPrefix(name, "?")}
	}
	addLoadBalancerCases(add)
	addFactCases(add)
	addOtherTenantCases(add)
	addTenantCases(add)
	addConfigCases(add)
	addGitSourceCases(add)
	return cases
}

// adder adds a case. A name that begins with ! is of what no schema can say, one
// that begins with ? of what only the schema refuses.
type adder func(file, name string, change func(runtime.Object), want ...string)

func addLoadBalancerCases(add adder) {
	lb := func(name string, change func(s *v1alpha1.LoadBalancerSpec), want ...string) {
		add("loadbalancer", name, func(o runtime.Object) { change(&o.(*v1alpha1.LoadBalancer).Spec) }, want...)
	}
	type spec = v1alpha1.LoadBalancerSpec
	lb("as it is", func(s *spec) {})
	lb("no ports", func(s *spec) { s.Ports = nil }, "spec.ports")
	lb("a port without name", func(s *spec) { s.Ports[0].Name = "" })
	lb("a port without protocol", func(s *spec) { s.Ports[0].Protocol = "" })
	lb("port 0", func(s *spec) { s.Ports[0].Port = 0 }, "spec.ports[http].port")
	lb("port 65536", func(s *spec) { s.Ports[0].Port = 65536 }, "spec.ports[http].port")
	lb("SCTP", func(s *spec) { s.Ports[0].Protocol = corev1.ProtocolSCTP }, "spec.ports[http].protocol")
	lb("a name in capitals", func(s *spec) { s.Ports[0].Name = "HTTP" }, "spec.ports[HTTP].name")
	lb("a name with a slash", func(s *spec) { s.Ports[0].Name = "a/b" }, "spec.ports[a/b].name")
	lb("a long name", func(s *spec) { s.Ports[0].Name = strings.Repeat("a", 64) }, "spec.ports["+strings.Repeat("a", 64)+"].name")
	lb("the same name twice", func(s *spec) { s.Ports = append(s.Ports, v1alpha1.LoadBalancerPort{Name: "http", Port: 81}) }, "spec.ports[http].name")
	lb("two ports without name", func(s *spec) { s.Ports = []v1alpha1.LoadBalancerPort{{Port: 80}, {Port: 81}} }, "spec.ports[default].name")
	lb("the same number twice", func(s *spec) { s.Ports = append(s.Ports, v1alpha1.LoadBalancerPort{Name: "again", Port: 80}) }, "spec.ports[again].port")
	lb("the same number of two protocols", func(s *spec) {
		s.Ports = append(s.Ports, v1alpha1.LoadBalancerPort{Name: "quic", Port: 80, Protocol: corev1.ProtocolUDP})
	})
	lb("a hundred ports", func(s *spec) { s.Ports = ports(100) })
	lb("a hundred and one ports", func(s *spec) { s.Ports = ports(101) }, "spec.ports")
	lb("several mistakes", func(s *spec) { s.Ports[0].Port, s.Type, s.LBPolicy = -1, "NodePort", "Best" },
		"spec.ports[http].port", "spec.type", "spec.lbPolicy")

	lb("no endpoints", func(s *spec) { s.Endpoints = nil }, "spec.endpoints")
	lb("seventeen groups", func(s *spec) {
		group := s.Endpoints[1]
		s.Endpoints = nil
		for i := range 17 {
			group.Name = "g" + string(rune('a'+i))
			s.Endpoints = append(s.Endpoints, group)
		}
	}, "spec.endpoints")
	lb("a group without name", func(s *spec) { s.Endpoints[0].Name = "" })
	lb("two groups of one name", func(s *spec) { s.Endpoints[0].Name = "nodes" }, "spec.endpoints[nodes].name")
	lb("a group with a bad name", func(s *spec) { s.Endpoints[0].Name = "a b" }, "spec.endpoints[a b].name")
	lb("no addresses", func(s *spec) { s.Endpoints[0].Addresses = nil }, "spec.endpoints[listed].addresses")
	lb("addresses twice", func(s *spec) { s.Endpoints[0].AddressesReference = &corev1.ObjectReference{Name: "default"} }, "spec.endpoints[listed].addresses")
	lb("no ports of a group", func(s *spec) { s.Endpoints[0].Ports = nil }, "spec.endpoints[listed].ports")
	lb("ports twice", func(s *spec) { s.Endpoints[0].BackendReference = &corev1.ObjectReference{Name: "shop.web"} }, "spec.endpoints[listed].ports")
	lb("an endpoint port 0", func(s *spec) { s.Endpoints[0].Ports[0].Port = 0 }, "spec.endpoints[listed].ports[http].port")
	lb("an endpoint port of SCTP", func(s *spec) { s.Endpoints[0].Ports[0].Protocol = "SCTP" }, "spec.endpoints[listed].ports[http].protocol")
	lb("two endpoint ports of one name", func(s *spec) {
		s.Endpoints[0].Ports = append(s.Endpoints[0].Ports, v1alpha1.EndpointPort{Name: "http", Port: 81})
	}, "spec.endpoints[listed].ports[http].name")
	lb("one endpoint port for two", func(s *spec) {
		s.Endpoints[0].Ports = append(s.Endpoints[0].Ports, v1alpha1.EndpointPort{Name: "more", Port: 8080})
	})
	lb("an address of nothing", func(s *spec) { s.Endpoints[0].Addresses[0] = v1alpha1.EndpointAddress{} }, "spec.endpoints[listed].addresses[0]")
	lb("an address of both", func(s *spec) { s.Endpoints[0].Addresses[0].Hostname = "a.example.com" }, "spec.endpoints[listed].addresses[0]")
	lb("an ip that is a name", func(s *spec) { s.Endpoints[0].Addresses[0].IP = "a.example.com" }, "spec.endpoints[listed].addresses[0].ip")
	lb("an ip with a zone", func(s *spec) { s.Endpoints[0].Addresses[0].IP = "fe80::1%eth0" }, "spec.endpoints[listed].addresses[0].ip")
	lb("an IPv4 address as IPv6", func(s *spec) { s.Endpoints[0].Addresses[0].IP = "::ffff:192.0.2.1" }, "spec.endpoints[listed].addresses[0].ip")
	lb("!a hostname that is an ip", func(s *spec) { s.Endpoints[0].Addresses[1].Hostname = "192.0.2.1" }, "spec.endpoints[listed].addresses[1].hostname")
	lb("!a hostname that is none", func(s *spec) { s.Endpoints[0].Addresses[1].Hostname = "a_b" }, "spec.endpoints[listed].addresses[1].hostname")
	lb("a thousand and one addresses", func(s *spec) {
		s.Endpoints[0].Addresses = slices.Repeat([]v1alpha1.EndpointAddress{{IP: "192.0.2.1"}}, 1001)
	}, "spec.endpoints[listed].addresses")

	reference := func(name string, change func(r *corev1.ObjectReference), want ...string) {
		lb(name, func(s *spec) { change(s.Endpoints[1].BackendReference) }, want...)
	}
	const backend = "spec.endpoints[nodes].backendReference"
	reference("a reference into the own namespace", func(r *corev1.ObjectReference) {
		r.Namespace, r.Kind, r.APIVersion = "tenant-acme", "Backend", "kubelb.k8c.io/v1alpha1"
	})
	reference("!a reference into another namespace", func(r *corev1.ObjectReference) { r.Namespace = "tenant-globex" }, backend+".namespace")
	reference("!a reference to another kind", func(r *corev1.ObjectReference) { r.Kind = "Secret" }, backend+".kind")
	reference("!a reference to another API", func(r *corev1.ObjectReference) { r.APIVersion = "v1" }, backend+".apiVersion")
	reference("!a reference to a part", func(r *corev1.ObjectReference) { r.FieldPath = "spec" }, backend)
	reference("!a reference without name", func(r *corev1.ObjectReference) { r.Name = "" }, backend+".name")
	lb("!a reference to other Addresses", func(s *spec) { s.Endpoints[1].AddressesReference.Name = "more" }, "spec.endpoints[nodes].addressesReference.name")

	lb("no type", func(s *spec) { s.Type = "" })
	lb("another type", func(s *spec) { s.Type = corev1.ServiceTypeNodePort }, "spec.type")
	lb("another traffic policy", func(s *spec) { s.ExternalTrafficPolicy = "Global" }, "spec.externalTrafficPolicy")
	lb("another persistence", func(s *spec) { s.Persistence.Type = "Cookie" }, "spec.persistence.type")
	lb("no persistence", func(s *spec) { s.Persistence = nil })
	lb("another policy", func(s *spec) { s.LBPolicy = "Best" }, "spec.lbPolicy")
	lb("!a hostname of spaces", func(s *spec) { s.Hostname = "a b" }, "spec.hostname")
	lb("an address that is none", func(s *spec) { s.Addresses = []string{"x"} }, "spec.addresses[0]")
	lb("two addresses of one family", func(s *spec) { s.Addresses = []string{"192.0.2.1", "192.0.2.2"} }, "spec.addresses[1]")
	lb("three addresses", func(s *spec) { s.Addresses = []string{"192.0.2.1", "2001:db8::1", "x"} }, "spec.addresses", "spec.addresses[2]")
	lb("a source range that is none", func(s *spec) { s.LoadBalancerSourceRanges = []string{"0.0.0.0/0", "everybody"} }, "spec.loadBalancerSourceRanges[1]")
	lb("a source range without length", func(s *spec) { s.LoadBalancerSourceRanges = []string{"192.0.2.1"} }, "spec.loadBalancerSourceRanges[0]")
	lb("a source range with more bits", func(s *spec) { s.LoadBalancerSourceRanges = []string{"192.0.2.1/24"} })
	lb("many source ranges", func(s *spec) { s.LoadBalancerSourceRanges = slices.Repeat([]string{"10.0.0.0/8"}, 101) }, "spec.loadBalancerSourceRanges")

	meta := func(name string, change func(m *metav1.ObjectMeta), want ...string) {
		add("loadbalancer", name, func(o runtime.Object) { change(&o.(*v1alpha1.LoadBalancer).ObjectMeta) }, want...)
	}
	meta("a name in capitals", func(m *metav1.ObjectMeta) { m.Name = "Web" }, "metadata.name")
	meta("a label that is too long", func(m *metav1.ObjectMeta) { m.Labels["a"] = strings.Repeat("a", 64) }, "metadata.labels[a]")
	meta("a label with a slash", func(m *metav1.ObjectMeta) { m.Labels["a"] = "a/b" }, "metadata.labels[a]")
	meta("a label key that is none", func(m *metav1.ObjectMeta) { m.Labels["a b"] = "" }, "metadata.labels[a b]")
	meta("an annotation key that is none", func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{"a b": ""} }, "metadata.annotations[a b]")
	meta("an annotation of another domain", func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{"Example.com/team": "any ☃ text"} })
	meta("annotations that are too large", func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{"a": strings.Repeat("a", 256<<10)} }, "metadata.annotations")
}

func ports(n int) (out []v1alpha1.LoadBalancerPort) {
	for i := range n {
		out = append(out, v1alpha1.LoadBalancerPort{Name: "p" + strings.Repeat("x", i%50) + string(rune('a'+i/50)), Port: int32(i + 1)})
	}
	return out
}

func addFactCases(add adder) {
	nodes := func(name string, change func(s *v1alpha1.AddressesSpec), want ...string) {
		add("addresses", name, func(o runtime.Object) { change(&o.(*v1alpha1.Addresses).Spec) }, want...)
	}
	nodes("no node", func(s *v1alpha1.AddressesSpec) { s.Addresses = nil }, "spec.addresses")
	nodes("a node of nothing", func(s *v1alpha1.AddressesSpec) { s.Addresses[1] = v1alpha1.EndpointAddress{} }, "spec.addresses[1]")
	nodes("a node that is no address", func(s *v1alpha1.AddressesSpec) { s.Addresses[0].IP = "192.0.2" }, "spec.addresses[0].ip")
	nodes("5000 nodes", func(s *v1alpha1.AddressesSpec) {
		s.Addresses = slices.Repeat([]v1alpha1.EndpointAddress{{IP: "192.0.2.1"}}, 5000)
	})
	nodes("5001 nodes", func(s *v1alpha1.AddressesSpec) {
		s.Addresses = slices.Repeat([]v1alpha1.EndpointAddress{{IP: "192.0.2.1"}}, 5001)
	}, "spec.addresses")

	backend := func(name string, change func(s *v1alpha1.BackendSpec), want ...string) {
		add("backend", name, func(o runtime.Object) { change(&o.(*v1alpha1.Backend).Spec) }, want...)
	}
	backend("no ports", func(s *v1alpha1.BackendSpec) { s.Ports = nil }, "spec.ports")
	backend("no NodePort", func(s *v1alpha1.BackendSpec) { s.Ports[0].NodePort = 0 }, "spec.ports[http].nodePort")
	backend("two ports of one name", func(s *v1alpha1.BackendSpec) { s.Ports = append(s.Ports, s.Ports[0]); s.Ports[1].Port = 81 }, "spec.ports[http].name")
	backend("!two ports of one number", func(s *v1alpha1.BackendSpec) { s.Ports = append(s.Ports, s.Ports[0]); s.Ports[1].Name = "x" }, "spec.ports[x].port")
	backend("a health check port that is none", func(s *v1alpha1.BackendSpec) { s.HealthCheckNodePort = 70000 }, "spec.healthCheckNodePort")
	backend("no health check port", func(s *v1alpha1.BackendSpec) { s.HealthCheckNodePort = 0 })
}

func addOtherTenantCases(add adder) {
	route := func(name string, change func(s *v1alpha1.RouteSpec), want ...string) {
		add("route", name, func(o runtime.Object) { change(&o.(*v1alpha1.Route).Spec) }, want...)
	}
	raw := func(text string) runtime.RawExtension { return runtime.RawExtension{Raw: []byte(text)} }
	const resource = "spec.source.kubernetes.resource"
	route("endpoints without ports", func(s *v1alpha1.RouteSpec) { s.Endpoints[1].BackendReference = nil })
	route("no source", func(s *v1alpha1.RouteSpec) { s.Source.Kubernetes = nil })
	route("no endpoints", func(s *v1alpha1.RouteSpec) { s.Endpoints = nil })
	route("a bad endpoint", func(s *v1alpha1.RouteSpec) { s.Endpoints[0].Addresses[0].IP = "x" }, "spec.endpoints[listed].addresses[0].ip")
	route("!of a Pod", func(s *v1alpha1.RouteSpec) {
		s.Source.Kubernetes.Route = raw(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`)
	}, resource+".kind")
	route("!of an Ingress of another API", func(s *v1alpha1.RouteSpec) {
		s.Source.Kubernetes.Route = raw(`{"apiVersion":"example.com/v1","kind":"Ingress","metadata":{"name":"x"}}`)
	}, resource+".kind")
	route("of an Ingress", func(s *v1alpha1.RouteSpec) {
		s.Source.Kubernetes.Route = raw(`{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"x"}}`)
	})
	route("of no kind", func(s *v1alpha1.RouteSpec) {
		s.Source.Kubernetes.Route = raw(`{"apiVersion":"v1","metadata":{"name":"x"}}`)
	}, resource)
	route("of a word", func(s *v1alpha1.RouteSpec) { s.Source.Kubernetes.Route = raw(`"x"`) }, resource)
	route("!with a Secret for a Service", func(s *v1alpha1.RouteSpec) {
		s.Source.Kubernetes.Services[0].RawExtension = raw(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`)
	}, "spec.source.kubernetes.services[0].kind")

	add("syncsecret-sealed", "!not an age file", func(o runtime.Object) { o.(*v1alpha1.SyncSecret).Sealed = "secret" }, "sealed")
	header, footer := "-----BEGIN AGE ENCRYPTED FILE-----\n", "-----END AGE ENCRYPTED FILE-----\n"
	for name, sealed := range map[string]string{
		"two age files": header + "YWdl\n" + footer + header + "YWdl\n" + footer, "an empty age file": header + footer,
		"half an age file": header + "YWdl\n", "an age file in one line": header + strings.Repeat("YWdl", 20) + "\n" + footer,
		"text after an age file": header + "YWdl\n" + footer + "password\n", "text in an age file": header + "pass word\n" + footer,
		"PEM of something else": "-----BEGIN PRIVATE KEY-----\nYWdl\n-----END PRIVATE KEY-----\n",
	} {
		add("syncsecret-sealed", "!"+name, func(o runtime.Object) { o.(*v1alpha1.SyncSecret).Sealed = sealed }, "sealed")
	}
	add("syncsecret-sealed", "carriage returns", func(o runtime.Object) {
		o.(*v1alpha1.SyncSecret).Sealed = strings.ReplaceAll(header+strings.Repeat("YWdl", 16)+"\nYWdlYQ==\n"+footer, "\n", "\r\n")
	})
	add("syncsecret-sealed", "!a token of a service account", func(o runtime.Object) {
		o.(*v1alpha1.SyncSecret).Type = "kubernetes.io/service-account-token"
	}, "type")
	add("syncsecret-plain", "!a bootstrap token", func(o runtime.Object) { o.(*v1alpha1.SyncSecret).Type = "bootstrap.kubernetes.io/token" }, "type")
	add("syncsecret-sealed", "!with plaintext", func(o runtime.Object) { o.(*v1alpha1.SyncSecret).StringData = map[string]string{"a": "b"} }, "data")
	add("syncsecret-plain", "!a key that is none", func(o runtime.Object) { o.(*v1alpha1.SyncSecret).Data["a b"] = nil }, "data[a b]")
	add("tenantstate", "as it is", func(runtime.Object) {})
}

func addTenantCases(add adder) {
	type spec = v1alpha1.TenantSpec
	tenant := func(name string, change func(s *spec), want ...string) {
		add("tenant", name, func(o runtime.Object) { change(&o.(*v1alpha1.Tenant).Spec) }, want...)
	}
	rename := func(name string) func(runtime.Object) {
		return func(o runtime.Object) { o.(*v1alpha1.Tenant).Name = name }
	}
	add("tenant", "a name of 56", rename(strings.Repeat("a", 56)))
	add("tenant", "a name of 57", rename(strings.Repeat("a", 57)), "metadata.name")
	add("tenant", "a name with a dot", rename("a.b"), "metadata.name")
	tenant("a negative limit", func(s *spec) { s.Limits.LoadBalancers, s.Limits.Routes = -1, -1 }, "spec.limits.loadBalancers", "spec.limits.routes")
	tenant("a negative number of endpoints", func(s *spec) { s.MaxEndpointsPerPort = -1 }, "spec.maxEndpointsPerPort")
	tenant("no number of endpoints", func(s *spec) { s.MaxEndpointsPerPort = 0 })
	tenant("negative replicas", func(s *spec) { s.EnvoyProxy.Replicas = new(int32); *s.EnvoyProxy.Replicas = -1 }, "spec.envoyProxy.replicas")
	tenant("another review", func(s *spec) { s.Git.Review = "Sometimes" }, "spec.git.review")
	tenant("a reference to nothing", func(s *spec) { s.Git.SourceRef.Name = "" }, "spec.git.sourceRef.name")
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrV0pDfRn2bLrPnxkI4j0Gd1rUbwMVpSAA1lIhGPWwY"
	signer := func(name, line string, want ...string) {
		tenant(name, func(s *spec) { s.Git.AllowedSigners = append(s.Git.AllowedSigners, line) }, want...)
	}
	signer("a signer that is none", "ada", "spec.git.allowedSigners[1]")
	signer("a signer whose key is no key", "ssh-ed25519 !!!", "spec.git.allowedSigners[1]")
	signer("!a signer whose key is of another type", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGrV0pDfRn2bLrPnxkI4j0Gd1rUbwMVpSAA1lIhGPWwY", "spec.git.allowedSigners[1]")
	signer("a signer with a comment of several words and spaces around it", "\t"+key+" the ccm of acme\n")
	for _, option := range []string{`namespaces="git"`, `valid-before="20200101"`, "cert-authority", "no-pty", `from="a b"`, "ada@example.com"} {
		signer("a signer with "+option, option+" "+key, "spec.git.allowedSigners[1]")
	}
	signer("two signers in one entry", key+"\n"+key, "spec.git.allowedSigners[1]")
	signer("!a signer with a certificate", "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAA==", "spec.git.allowedSigners[1]")
	tenant("!a domain that is none", func(s *spec) { s.AllowedDomains = []string{"*", "a.*.b", "https://example.com"} },
		"spec.allowedDomains[0]", "spec.allowedDomains[1]", "spec.allowedDomains[2]")
	tenant("a domain twice", func(s *spec) { s.AllowedDomains = []string{"a.example.com", "a.example.com"} }, "spec.allowedDomains[1]")
	tenant("!an endpoint domain that is none", func(s *spec) { s.AllowedEndpointDomains = []string{"x y"} }, "spec.allowedEndpointDomains[0]")
	tenant("!a network that is none", func(s *spec) { s.AllowedEndpointCIDRs = []string{"10.0.0.0", "10.0.0.0/33"} },
		"spec.allowedEndpointCIDRs[0]", "spec.allowedEndpointCIDRs[1]")
	tenant("a pool twice", func(s *spec) { s.AddressPools = []string{"a", "a"} }, "spec.addressPools[1]")
	tenant("!a pool without name", func(s *spec) { s.AddressPools = []string{""} }, "spec.addressPools[0]")
	tenant("!a pattern that is none", func(s *spec) { s.DeniedAnnotations = []string{"a*", "[", ""} }, "spec.deniedAnnotations[1]", "spec.deniedAnnotations[2]")
	tenant("!a propagated pattern that is none", func(s *spec) { s.PropagatedAnnotations = &map[string]string{"[": ""} }, "spec.propagatedAnnotations[[]")
	tenant("!annotations of another kind", func(s *spec) {
		s.DefaultAnnotations = map[v1alpha1.AnnotatedResource]v1alpha1.Annotations{"pod": {"a": "b"}}
	}, "spec.defaultAnnotations[pod]")
	tenant("!a wildcard domain that is none", func(s *spec) { bad := "*.*"; s.DNS.WildcardDomain = &bad }, "spec.dns.wildcardDomain")
}

func addConfigCases(add adder) {
	type spec = v1alpha1.ConfigSpec
	config := func(name string, change func(s *spec), want ...string) {
		add("config", name, func(o runtime.Object) { change(&o.(*v1alpha1.Config).Spec) }, want...)
	}
	pair := func(provider v1alpha1.AddressProvider, infrastructure v1alpha1.Infrastructure, daemonset bool) func(*spec) {
		return func(s *spec) {
			s.AddressProvider, s.Infrastructure, s.EnvoyProxy.UseDaemonset = provider, infrastructure, daemonset
		}
	}
	config("Service on Kubernetes", pair(v1alpha1.ProviderService, v1alpha1.InfrastructureKubernetes, false))
	config("Pool on Host", pair(v1alpha1.ProviderPool, v1alpha1.InfrastructureHost, false))
	config("neither", pair("", "", false))
	config("Service on Host", pair(v1alpha1.ProviderService, v1alpha1.InfrastructureHost, false), "spec.addressProvider")
	config("Service on the default", pair(v1alpha1.ProviderService, "", false), "spec.addressProvider")
	config("Pool on Kubernetes", pair(v1alpha1.ProviderPool, v1alpha1.InfrastructureKubernetes, false), "spec.envoyProxy.useDaemonset")
	config("the default on Kubernetes", pair("", v1alpha1.InfrastructureKubernetes, false), "spec.envoyProxy.useDaemonset")
	config("Pool on Kubernetes with a DaemonSet", pair(v1alpha1.ProviderPool, v1alpha1.InfrastructureKubernetes, true))
	config("another provider", func(s *spec) { s.AddressProvider = "DHCP" }, "spec.addressProvider")
	config("another infrastructure", func(s *spec) { s.Infrastructure = "Cloud" }, "spec.infrastructure")
	config("!the topology dedicated", func(s *spec) { s.EnvoyProxy.Topology = "dedicated" }, "spec.envoyProxy.topology")
	config("!a short age of keys", func(s *spec) { s.Sealing.RotateAfter = &metav1.Duration{Duration: time.Minute} }, "spec.sealing.rotateAfter")
	config("no rotation of keys", func(s *spec) { s.Sealing.RotateAfter = &metav1.Duration{} })
	config("a negative age of keys", func(s *spec) { s.Sealing.RotateAfter = &metav1.Duration{Duration: -time.Hour} }, "spec.sealing.rotateAfter")
	config("a negative grace period", func(s *spec) { s.AddressGracePeriod = &metav1.Duration{Duration: -time.Hour} }, "spec.addressGracePeriod")
	config("!negative replicas", func(s *spec) { s.EnvoyProxy.Replicas = -1 }, "spec.envoyProxy.replicas")

	pools := func(name string, pools []v1alpha1.AddressPool, want ...string) {
		config(name, func(s *spec) { s.AddressPools = pools }, want...)
	}
	pools("no pools", nil)
	pools("two pools of one name", []v1alpha1.AddressPool{{Name: "a", CIDRs: []string{"192.0.2.0/25"}}, {Name: "a", CIDRs: []string{"192.0.2.128/25"}}}, "spec.addressPools[a].name")
	pools("a pool without name", []v1alpha1.AddressPool{{CIDRs: []string{"192.0.2.0/25"}}}, "spec.addressPools[].name")
	pools("a pool of nothing", []v1alpha1.AddressPool{{Name: "a"}}, "spec.addressPools[a].cidrs")
	pools("!entries that are none", []v1alpha1.AddressPool{{Name: "a", CIDRs: []string{"x", "192.0.2.1/24", "192.0.2.9-192.0.2.1", "192.0.2.1-::1"}}},
		"spec.addressPools[a].cidrs[0]", "spec.addressPools[a].cidrs[1]", "spec.addressPools[a].cidrs[2]", "spec.addressPools[a].cidrs[3]")
	pools("!entries that overlap", []v1alpha1.AddressPool{{Name: "a", CIDRs: []string{"192.0.2.0/24", "192.0.2.7/32"}}, {Name: "b", CIDRs: []string{"192.0.1.0-192.0.2.1"}}},
		"spec.addressPools[a].cidrs[1]", "spec.addressPools[b].cidrs[0]")
	pools("entries that only touch", []v1alpha1.AddressPool{{Name: "a", CIDRs: []string{"192.0.2.0/24"}}, {Name: "b", CIDRs: []string{"192.0.3.0/24"}}})
}

func addGitSourceCases(add adder) {
	type spec = v1alpha1.GitSourceSpec
	source := func(name string, change func(s *spec), want ...string) {
		add("gitsource", name, func(o runtime.Object) { change(&o.(*v1alpha1.GitSource).Spec) }, want...)
	}
	url := func(name, text string, want ...string) { source(name, func(s *spec) { s.URL = text }, want...) }
	url("http", "http://127.0.0.1:3000/fleet.git")
	url("no url", "", "spec.url")
	url("ssh", "ssh://git@example.com:2222/fleet.git")
	url("an ssh url with a password", "ssh://git:secret@example.com/fleet.git", "spec.url")
	url("ftp", "ftp://example.com/fleet.git", "spec.url")
	url("a path", "/srv/fleet.git", "spec.url")
	url("a url with a password", "https://ada:secret@example.com/fleet.git", "spec.url")
	url("a url with a query", "https://example.com/fleet.git?token=secret", "spec.url")
	url("a url without host", "https:///fleet.git", "spec.url")
	source("defaults", func(s *spec) { *s = spec{URL: s.URL} })
	source("a branch that is none", func(s *spec) { s.Branch = "a..b" }, "spec.branch")
	source("a branch of ours", func(s *spec) { s.Branch = "intent/acme" }, "spec.branch")
	source("a branch in a folder", func(s *spec) { s.Branch = "env/prod" })
	source("negative times", func(s *spec) {
		s.Interval = metav1.Duration{Duration: -1}
		s.Timeout, s.MinPushInterval = &s.Interval, &s.Interval
	}, "spec.interval", "spec.minPushInterval", "spec.timeout")
	for field, reference := range map[string]func(*spec) *v1alpha1.LocalReference{
		"spec.secretRef":         func(s *spec) *v1alpha1.LocalReference { return s.SecretRef },
		"spec.proxySecretRef":    func(s *spec) *v1alpha1.LocalReference { return s.ProxySecretRef },
		"spec.webhook.secretRef": func(s *spec) *v1alpha1.LocalReference { return &s.Webhook.SecretRef },
		"spec.forge.secretRef":   func(s *spec) *v1alpha1.LocalReference { return &s.Forge.SecretRef },
	} {
		source("a Secret of another namespace in "+field, func(s *spec) { reference(s).Namespace = "kube-system" }, field+".namespace")
		source("?a Secret of its own namespace, by name, in "+field, func(s *spec) { reference(s).Namespace = "kubelb" })
	}
	source("a forge's url with a password", func(s *spec) { s.Forge.URL = "https://ada:secret@git.example.com" }, "spec.forge.url")
	source("!two reviewers' keys in one entry", func(s *spec) { s.Reviewers[0].PublicKey += "\n" + s.Reviewers[0].PublicKey }, "spec.reviewers[ada].publicKey")
	source("!a reviewer's key with an option", func(s *spec) { s.Reviewers[0].PublicKey = "cert-authority " + s.Reviewers[0].PublicKey }, "spec.reviewers[ada].publicKey")
	source("a Secret without name", func(s *spec) { s.SecretRef.Name = "" }, "spec.secretRef.name")
	source("another verification", func(s *spec) { s.Verify = "Maybe" }, "spec.verify")
	source("!a reviewer's key that is none", func(s *spec) { s.Reviewers[0].PublicKey = "ada" }, "spec.reviewers[ada].publicKey")
	source("two reviewers of one name", func(s *spec) { s.Reviewers = append(s.Reviewers, s.Reviewers[0]) }, "spec.reviewers[ada]")
	source("another forge", func(s *spec) { s.Forge.Kind = "Bitbucket" }, "spec.forge.kind")
	source("another webhook", func(s *spec) { s.Webhook.Type = "bitbucket" }, "spec.webhook.type")
	source("another apply", func(s *spec) { s.Apply = "Sometimes" }, "spec.apply")
}
