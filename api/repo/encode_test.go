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

package repo_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write golden files anew")

const webPath = "tenants/acme/loadbalancers/shop/web.service.yaml"

const web = `apiVersion: kubelb.k8c.io/v1alpha1
kind: LoadBalancer
metadata:
  labels:
    kubelb.k8c.io/origin-name: web
    kubelb.k8c.io/origin-ns: shop
    kubelb.k8c.io/origin-resource-kind: Service
  name: shop.web
  namespace: tenant-acme
spec:
  endpoints:
  - addressesReference:
      name: default
    backendReference:
      name: shop.web
    name: default
  ports:
  - name: http
    port: 80
    protocol: TCP
  type: LoadBalancer
`

// replaced returns the document above with one thing changed.
func replaced(t *testing.T, old, new string) []byte {
	t.Helper()
	if strings.Count(web, old) != 1 {
		t.Fatalf("%q is there %d times", old, strings.Count(web, old))
	}
	return []byte(strings.Replace(web, old, new, 1))
}

func TestTheDocumentOfTheDesignIsCanonical(t *testing.T) {
	object, problems := repo.Decode(webPath, repo.NewFile([]byte(web)))
	if len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	data, err := repo.Encode(object)
	if err != nil || string(data) != web {
		t.Errorf("it is written as\n%s(%v)", data, err)
	}
}

func TestWhatMeansTheSameIsWrittenTheSame(t *testing.T) {
	for name, data := range map[string][]byte{
		"comments":                  []byte("# a comment\n" + strings.ReplaceAll(web, "\n", " # another\n")),
		"a document start and end":  []byte("---\n" + web + "...\n"),
		"other line ends":           []byte(strings.ReplaceAll(web, "\n", "\r\n")),
		"flow style":                replaced(t, "  - name: http\n    port: 80\n    protocol: TCP\n", "  - {protocol: TCP, port: 80, name: \"http\"}\n"),
		"the default of a protocol": replaced(t, "    protocol: TCP\n", ""),
		"the default of a group":    replaced(t, "    name: default\n  ports", "  ports"),
		"defaults written out":      replaced(t, "  type: LoadBalancer\n", "  type: LoadBalancer\n  externalTrafficPolicy: Cluster\n  lbPolicy: RoundRobin\n"),
		"nothing written out":       replaced(t, "  type: LoadBalancer\n", "  type: LoadBalancer\n  hostname: \"\"\n  addresses: []\n  loadBalancerSourceRanges: null\n"),
		"an annotation of nothing":  replaced(t, "  name: shop.web\n  namespace", "  annotations: {}\n  name: shop.web\n  namespace"),
		"JSON":                      toJSON(t, web),
	} {
		t.Run(name, func(t *testing.T) {
			object, problems := repo.Decode(webPath, repo.NewFile(data))
			if len(problems) > 0 {
				t.Fatalf("%+v", problems)
			}
			if got, err := repo.Encode(object); err != nil || string(got) != web {
				t.Errorf("it is written as\n%s(%v)", got, err)
			}
		})
	}
}

func toJSON(t *testing.T, text string) []byte {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// everything returns objects of every kind with every field that a file can
// have, as one who fills in all of them would write them.
func everything() []repo.Object {
	meta := func(name, sourceKind string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: "shop." + name, Namespace: "tenant-acme", Labels: labels("shop", name, sourceKind),
			Annotations: map[string]string{"kubelb.k8c.io/proxy-protocol": "v2", "y": "on", "numbers": "0x10", "empty": "", "text": "a\nb \n\tc", "more": "äöü ☃ \" ' : # - null ~"}}
	}
	endpoints := []v1alpha1.LoadBalancerEndpoints{
		{Name: "a", Addresses: []v1alpha1.EndpointAddress{{IP: "192.0.2.1"}, {Hostname: "origin.example.com"}},
			Ports: []v1alpha1.EndpointPort{{Name: "http", Port: 8080, Protocol: corev1.ProtocolTCP}, {Name: "quic", Port: 8443, Protocol: corev1.ProtocolUDP}}},
		{Name: "b", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: "shop.web"}},
	}
	raw := func(text string) runtime.RawExtension { return runtime.RawExtension{Raw: []byte(text)} }
	immutable := true
	nodes := &v1alpha1.Addresses{Spec: v1alpha1.AddressesSpec{Addresses: []v1alpha1.EndpointAddress{{IP: "192.0.2.1"}, {IP: "2001:db8::1"}, {Hostname: "node.example.com"}}}}
	nodes.Name, nodes.Namespace = "default", "tenant-acme"
	route := meta("web", "HTTPRoute")
	route.Name = "shop.web.httproute"
	return []repo.Object{
		nodes,
		&v1alpha1.LoadBalancer{ObjectMeta: meta("web", "Service"), Spec: v1alpha1.LoadBalancerSpec{
			Endpoints: endpoints,
			Ports:     []v1alpha1.LoadBalancerPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "quic", Port: 443, Protocol: corev1.ProtocolUDP}},
			Hostname:  "web.example.com", Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			Persistence: &v1alpha1.Persistence{Type: v1alpha1.PersistenceSourceIP}, Addresses: []string{"203.0.113.10", "2001:db8::10"},
			LoadBalancerSourceRanges: []string{"198.51.100.0/24"}, LBPolicy: v1alpha1.LBPolicyLeastRequest,
		}},
		&v1alpha1.Backend{ObjectMeta: meta("web", "Service"), Spec: v1alpha1.BackendSpec{
			Ports:               []v1alpha1.BackendPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080}},
			HealthCheckNodePort: 32000,
		}},
		&v1alpha1.SyncSecret{ObjectMeta: meta("cert", "Secret"), Immutable: &immutable, Type: corev1.SecretTypeTLS,
			Sealed: "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"},
		&v1alpha1.Route{ObjectMeta: route, Spec: v1alpha1.RouteSpec{Endpoints: endpoints, Source: v1alpha1.RouteSource{Kubernetes: &v1alpha1.KubernetesSource{
			Route:    raw(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"web"},"spec":{"rules":[],"weight":1,"nothing":{},"null":null}}`),
			Services: []v1alpha1.UpstreamService{{RawExtension: raw(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{}}}`)}},
		}}}},
	}
}

func TestEveryFieldComesBack(t *testing.T) {
	for _, object := range everything() {
		t.Run(reflect.TypeOf(object).Elem().Name(), func(t *testing.T) {
			path, err := repo.PathOf(object)
			if err != nil {
				t.Fatal(err)
			}
			data, err := repo.Encode(object)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/encoded/"+strings.ToLower(reflect.TypeOf(object).Elem().Name())+".yaml", data)
			back, problems := repo.Decode(path, repo.NewFile(data))
			if len(problems) > 0 {
				t.Fatalf("%+v", problems)
			}
			kind := back.GetObjectKind().GroupVersionKind()
			object.GetObjectKind().SetGroupVersionKind(kind)
			if want, got := asJSON(t, object), asJSON(t, back); !reflect.DeepEqual(got, want) {
				t.Errorf("it came back as\n%v\nwant\n%v", got, want)
			}
			again, err := repo.Encode(back)
			if err != nil || !bytes.Equal(again, data) {
				t.Errorf("written again it is\n%s(%v)", again, err)
			}
		})
	}
}

func asJSON(t *testing.T, object any) (m map[string]any) {
	t.Helper()
	data, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func golden(t *testing.T, file string, data []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s is\n%s\nwant\n%s", file, data, want)
	}
}

func TestNothingThatAServerMadeIsWritten(t *testing.T) {
	for _, object := range everything() {
		clean, err := repo.Encode(object)
		if err != nil {
			t.Fatal(err)
		}
		now := metav1.Now()
		object.SetUID("u")
		object.SetResourceVersion("7")
		object.SetGeneration(3)
		object.SetCreationTimestamp(now)
		object.SetDeletionTimestamp(&now)
		object.SetFinalizers([]string{v1alpha1.Finalizer})
		object.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubelb-gitsync"}})
		object.SetOwnerReferences([]metav1.OwnerReference{{Kind: "x"}})
		setStatus(object)
		got, err := repo.Encode(object)
		if err != nil || !bytes.Equal(got, clean) {
			t.Errorf("%T is written as\n%s\nwant\n%s(%v)", object, got, clean, err)
		}
	}
}

// setStatus gives an object a condition.
func setStatus(object repo.Object) {
	field := reflect.ValueOf(object).Elem().FieldByName("Status").FieldByName("ObjectStatus")
	field.Set(reflect.ValueOf(v1alpha1.ObjectStatus{ObservedGeneration: 3, Conditions: []metav1.Condition{{
		Type: "Ready", Status: "True", Reason: "Programmed", Message: "serves", LastTransitionTime: metav1.Unix(1700000000, 0),
	}}}))
}

func TestListsWithKeysAreSorted(t *testing.T) {
	lb := everything()[1].(*v1alpha1.LoadBalancer)
	want, err := repo.Encode(lb)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 0))
		other := lb.DeepCopy()
		random.Shuffle(len(other.Spec.Ports), func(i, j int) { p := other.Spec.Ports; p[i], p[j] = p[j], p[i] })
		random.Shuffle(len(other.Spec.Endpoints), func(i, j int) { e := other.Spec.Endpoints; e[i], e[j] = e[j], e[i] })
		before := other.DeepCopy()
		if got, err := repo.Encode(other); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("shuffled it is\n%s\nwant\n%s(%v)", got, want, err)
		}
		if !reflect.DeepEqual(other, before) {
			t.Fatal("writing an object changed it")
		}
	}
	slices.Reverse(lb.Spec.LoadBalancerSourceRanges)
	slices.Reverse(lb.Spec.Addresses)
	if got, _ := repo.Encode(lb); bytes.Equal(got, want) {
		t.Error("lists without keys are one value; their order must stay")
	}
}

func TestStatusDocuments(t *testing.T) {
	objects := append(everything(), &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "tenant-acme"}})
	for _, object := range objects {
		name := reflect.TypeOf(object).Elem().Name()
		path, err := repo.PathOf(object)
		if err != nil {
			t.Fatal(err)
		}
		empty, err := repo.EncodeStatus(object)
		if err != nil || bytes.Contains(empty, []byte("spec")) || bytes.Contains(empty, []byte("status")) || bytes.Contains(empty, []byte("labels")) {
			t.Errorf("%s: without a status it is\n%s(%v)", name, empty, err)
		}
		setStatus(object)
		data, err := repo.EncodeStatus(object)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/encoded/"+strings.ToLower(name)+".status.yaml", data)
		back, problems := repo.DecodeStatus(path, repo.NewFile(data))
		if len(problems) > 0 {
			t.Fatalf("%s: %+v", name, problems)
		}
		if got, want := asJSON(t, back)["status"], asJSON(t, object)["status"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the status came back as\n%v\nwant\n%v", name, got, want)
		}
		newer := bytes.Replace(data, []byte("status:\n"), []byte("status:\n  fieldOfTheFuture: 1\n"), 1)
		if _, problems := repo.DecodeStatus(path, repo.NewFile(newer)); len(problems) > 0 {
			t.Errorf("%s: a newer hub's field is a problem: %+v", name, problems)
		}
		if _, problems := repo.Decode(path, repo.NewFile(data)); len(problems) == 0 {
			t.Errorf("%s: a status is taken for an intent", name)
		}
	}
}

func TestDocumentIsWhatIsWritten(t *testing.T) {
	for _, object := range everything() {
		document, err := repo.Document(object)
		if err != nil {
			t.Fatal(err)
		}
		got, err := yaml.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := repo.Encode(object); !bytes.Equal(got, want) {
			t.Errorf("the document is\n%s\nwant\n%s", got, want)
		}
	}
	if _, err := repo.Encode(&v1alpha1.Config{}); err == nil || !strings.Contains(err.Error(), "Config") {
		t.Errorf("a Config is written (%v)", err)
	}
}
