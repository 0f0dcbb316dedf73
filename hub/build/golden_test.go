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

package build_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/hub/build"
	"github.com/kubelb/gitops/xds/ir"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write testdata/*/out.yaml anew")

// input is in.yaml. What every case would repeat has a default: the tenant acme,
// nodes 192.0.2.1 and 192.0.2.2, the backend shop.web and the address
// 203.0.113.10. A list of nothing takes a default away.
type input struct {
	LoadBalancer *v1alpha1.LoadBalancer `json:"loadBalancer"`
	Tenant       *v1alpha1.TenantSpec   `json:"tenant"`
	Config       *v1alpha1.Config       `json:"config"`
	Nodes        []string               `json:"nodes"`
	Addresses    *v1alpha1.Addresses    `json:"addresses"`
	Backends     []*v1alpha1.Backend    `json:"backends"`
	Assigned     []netip.Addr           `json:"assigned"`
	Refused      map[string]string      `json:"refused"` // 80/TCP: who has it
	HubNetworks  []netip.Prefix         `json:"hubNetworks"`
	External     []netip.Addr           `json:"external"`
	Freebind     bool                   `json:"freebind"`
}

func (in input) build() build.Input {
	out := build.Input{
		LoadBalancer: in.LoadBalancer, Tenant: &v1alpha1.Tenant{}, Config: in.Config, Addresses: in.Addresses, Backends: in.Backends,
		Assigned: in.Assigned, Refused: map[ir.Port]string{}, HubNetworks: in.HubNetworks, Freebind: in.Freebind,
	}
	for text, holder := range in.Refused {
		for _, port := range assign.ParsePorts(text) {
			out.Refused[port] = holder
		}
	}
	out.External = func(a netip.Addr) bool { return slices.Contains(in.External, a) }
	out.LoadBalancer.Namespace = v1alpha1.TenantNamespace("acme")
	if out.LoadBalancer.Name == "" {
		out.LoadBalancer.Name = "shop.web"
	}
	if in.Tenant != nil {
		out.Tenant.Spec = *in.Tenant
	}
	if in.Nodes == nil {
		in.Nodes = []string{"192.0.2.1", "192.0.2.2"}
	}
	if in.Addresses == nil && len(in.Nodes) > 0 {
		out.Addresses = &v1alpha1.Addresses{}
		out.Addresses.Name = v1alpha1.DefaultName
		for _, ip := range in.Nodes {
			out.Addresses.Spec.Addresses = append(out.Addresses.Spec.Addresses, v1alpha1.EndpointAddress{IP: ip})
		}
	}
	if in.Backends == nil {
		backend := &v1alpha1.Backend{Spec: v1alpha1.BackendSpec{
			Ports:               []v1alpha1.BackendPort{{Name: "http", Port: 80, Protocol: "TCP", NodePort: 30080}, {Name: "dns", Port: 53, Protocol: "UDP", NodePort: 30053}},
			HealthCheckNodePort: 32000,
		}}
		backend.Name = "shop.web"
		out.Backends = append(out.Backends, backend)
	}
	if in.Assigned == nil {
		out.Assigned = []netip.Addr{netip.MustParseAddr("203.0.113.10")}
	}
	return out
}

// output is out.yaml: a build.Output in the words of people.
type output struct {
	Ports     string             `json:"ports"`
	Listeners []listener         `json:"listeners,omitempty"`
	Clusters  []cluster          `json:"clusters,omitempty"`
	Problems  []v1alpha1.Problem `json:"problems,omitempty"`
}

type listener struct {
	Name         string         `json:"name"`
	Cluster      string         `json:"cluster"`
	SourceRanges []netip.Prefix `json:"sourceRanges,omitempty"`
	Freebind     bool           `json:"freebind,omitempty"`
}

type cluster struct {
	Name          string    `json:"name"`
	Policy        ir.Policy `json:"policy"`
	HealthCheck   string    `json:"healthCheck"`
	Alike         bool      `json:"interchangeable,omitempty"`
	ProxyProtocol bool      `json:"proxyProtocol,omitempty"`
	Endpoints     []string  `json:"endpoints"`
}

func view(o build.Output) output {
	out := output{Ports: o.Ports, Problems: o.Problems}
	for _, l := range o.Part.Listeners {
		out.Listeners = append(out.Listeners, listener{l.Name(), l.Cluster, l.SourceRanges, l.Freebind})
	}
	for _, c := range o.Part.Clusters {
		v := cluster{Name: c.Name, Policy: c.Policy, HealthCheck: "none", ProxyProtocol: c.ProxyProtocol, Alike: c.Interchangeable, Endpoints: []string{}}
		if h := c.HealthCheck; h != nil {
			probe := "connect"
			if h.Path != "" {
				probe = fmt.Sprintf("GET :%d%s", h.Port, h.Path)
			}
			v.HealthCheck = fmt.Sprintf("%s every %v, %v each, down after %d, up after %d", probe, h.Interval, h.Timeout, h.UnhealthyThreshold, h.HealthyThreshold)
		}
		for _, e := range c.Endpoints {
			v.Endpoints = append(v.Endpoints, fmt.Sprintf("%s %d", e.Address, e.Port))
		}
		out.Clusters = append(out.Clusters, v)
	}
	return out
}

// cases calls fn for every folder of testdata.
func cases(t *testing.T, fn func(t *testing.T, dir string, in build.Input)) {
	t.Helper()
	dirs, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range dirs {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			fn(t, dir, read(t, file))
		})
	}
}

func read(t *testing.T, file string) build.Input {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var in input
	if err := yaml.UnmarshalStrict(text, &in); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return in.build()
}

func TestGolden(t *testing.T) {
	cases(t, func(t *testing.T, dir string, in build.Input) {
		got := build.LoadBalancer(in)
		if err := got.Part.Validate(); err != nil {
			t.Errorf("no proxy could serve it: %v", err)
		}
		for _, p := range got.Problems {
			if p.Field == "" || p.Reason == "" || p.Message == "" || p.Remedy == "" {
				t.Errorf("problem %+v lacks something", p)
			}
		}
		text, err := yaml.Marshal(view(got))
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join(dir, "out.yaml")
		if *update {
			if err := os.WriteFile(golden, text, 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, want) {
			t.Errorf("%s is\n%s\nwant\n%s", golden, text, want)
		}
	})
}
