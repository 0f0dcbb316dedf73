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

package render_test

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/project"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// changes are, by the name that the tables of docs/services.md have, a wish that
// a Service can express with each field and annotation.
var changes = map[string]func(*corev1.Service){
	"spec.allocateLoadBalancerNodePorts": func(s *corev1.Service) {
		s.Spec.AllocateLoadBalancerNodePorts, s.Spec.Ports[0].NodePort = ptr.To(false), 0
	},
	"spec.clusterIP":             func(s *corev1.Service) { s.Spec.ClusterIP = "10.0.0.9" },
	"spec.clusterIPs":            func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.0.0.9"} },
	"spec.externalIPs":           func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"203.0.113.1"} },
	"spec.externalName":          func(s *corev1.Service) { s.Spec.ExternalName = "example.com" },
	"spec.externalTrafficPolicy": func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" },
	"spec.healthCheckNodePort":   func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 32000 },
	"spec.internalTrafficPolicy": func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	},
	"spec.ipFamilies":               func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv6"} },
	"spec.ipFamilyPolicy":           func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack) },
	"spec.loadBalancerClass":        func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("example.com/other") },
	"spec.loadBalancerIP":           func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.9" },
	"spec.loadBalancerSourceRanges": func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"10.1.0.0/16"} },
	"spec.ports": func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Port: 81, NodePort: 30081})
	},
	"spec.publishNotReadyAddresses": func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true },
	"spec.selector":                 func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "other"} },
	"spec.sessionAffinity":          func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP },
	"spec.sessionAffinityConfig": func(s *corev1.Service) {
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](100)}}
	},
	"spec.trafficDistribution": func(s *corev1.Service) {
		s.Spec.TrafficDistribution = ptr.To(corev1.ServiceTrafficDistributionPreferSameZone)
	},
	"spec.type": func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort },

	"spec.ports[].appProtocol": func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = ptr.To("http") },
	"spec.ports[].name":        func(s *corev1.Service) { s.Spec.Ports[0].Name = "other" },
	"spec.ports[].nodePort":    func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30099 },
	"spec.ports[].port":        func(s *corev1.Service) { s.Spec.Ports[0].Port = 99 },
	"spec.ports[].protocol":    func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP },
	"spec.ports[].targetPort":  func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(99) },

	v1alpha1.AnnotationAddresses:                                         annotate("192.0.2.9"),
	v1alpha1.AnnotationHealthCheckPort:                                   annotate("10257"),
	v1alpha1.AnnotationLBPolicy:                                          annotate("Random"),
	v1alpha1.AnnotationProxyProtocol:                                     annotate("v2"),
	"kubelb.k8c.io/*":                                                    annotate("anything"),
	corev1.AnnotationLoadBalancerSourceRangesKey:                         annotate("10.1.0.0/16, 10.2.0.0/16"),
	"cloud.google.com/load-balancer-type":                                annotate("Internal"),
	"load-balancer.hetzner.cloud/disable-public-network":                 annotate("true"),
	"networking.gke.io/load-balancer-type":                               annotate("Internal"),
	"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type": annotate("intranet"),
	"service.beta.kubernetes.io/aws-load-balancer-internal":              annotate("true"),
	"service.beta.kubernetes.io/aws-load-balancer-scheme":                annotate("internal"),
	"service.beta.kubernetes.io/azure-load-balancer-internal":            annotate("true"),
	"service.beta.kubernetes.io/oci-load-balancer-internal":              annotate("true"),
	"service.beta.kubernetes.io/openstack-internal-load-balancer":        annotate("true"),
	"service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type":     annotate("private"),
	corev1.AnnotationTopologyMode:                                        annotate("Auto"),
	corev1.DeprecatedAnnotationTopologyAwareHints:                        annotate("auto"),
	"external-dns.alpha.kubernetes.io/hostname":                          annotate("web.example.com"),
}

// annotate sets the annotation with the name of the case.
func annotate(value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations = map[string]string{"": value} }
}

var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\w+) \\|")

// documented is what the tables of docs/services.md say of each name.
func documented(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for section := range strings.SplitSeq(string(data), "\n## ") {
		title, _, _ := strings.Cut(section, "\n")
		prefix := ""
		if strings.HasPrefix(title, "spec") {
			prefix = title + "."
		}
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			out[prefix+m[1]] = m[2]
		}
	}
	return out
}

// TestNothingOfAServiceIsSilentlyIgnored holds the tables in the docs to the
// fields that the API has, and to what each of them does.
func TestNothingOfAServiceIsSilentlyIgnored(t *testing.T) {
	says := documented(t)
	for prefix, kind := range map[string]reflect.Type{"spec.": reflect.TypeFor[corev1.ServiceSpec](), "spec.ports[].": reflect.TypeFor[corev1.ServicePort]()} {
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			if says[prefix+name] == "" {
				t.Errorf("docs/services.md does not say what becomes of %s%s", prefix, name)
			}
		}
	}
	if have, want := slices.Sorted(maps.Keys(changes)), slices.Sorted(maps.Keys(says)); !slices.Equal(have, want) {
		t.Fatalf("the docs have\n%q\nthe test has\n%q", want, have)
	}
	for name, treatment := range says {
		t.Run(name, func(t *testing.T) {
			if got := effect(t, name, changes[name]); got != treatment {
				t.Errorf("it is %s, docs/services.md says %s", got, treatment)
			}
		})
	}
}

// effect changes something of a Service and tells what that does: refused with a
// problem, honoured in a document or by being left alone, or harmless.
func effect(t *testing.T, name string, change func(*corev1.Service)) string {
	t.Helper()
	service := func() *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer,
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}}},
		}
	}
	before, after := service(), service()
	change(after)
	if value, ok := after.Annotations[""]; ok {
		after.Annotations = map[string]string{strings.Replace(name, "*", "of-tomorrow", 1): value}
	}
	was, problems := render.Service(before, render.Options{Tenant: "acme"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	is, problems := render.Service(after, render.Options{Tenant: "acme"})
	lb := &v1alpha1.LoadBalancer{Status: v1alpha1.LoadBalancerStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}}}}}
	shown := project.Service(project.Input{Service: after, InScope: true, Heard: true, Answered: true, LoadBalancer: lb, Problems: problems})
	switch {
	case slices.ContainsFunc(shown.Status.Conditions, func(c metav1.Condition) bool { return c.Type == project.ConditionProblem }):
		return "refused"
	case !reflect.DeepEqual(was, is):
		return "honoured"
	}
	return "harmless"
}
