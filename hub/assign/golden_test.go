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

package assign_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"

	"sigs.k8s.io/yaml"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

var update = flag.Bool("update", false, "write testdata/*/out.yaml anew")

// script is testdata/<case>/in.yaml: pools, and what happens one after the other.
type script struct {
	Pools []v1alpha1.AddressPool `json:"pools"`
	Steps []struct {
		// Do is hold, reserve, assign, show, retire or release.
		Do string `json:"do"`
		// Owner is <tenant>/<name>.
		Owner     string   `json:"owner"`
		Addresses []string `json:"addresses"` // held, reserved or requested
		Ports     string   `json:"ports"`     // 80/TCP,443/TCP
		Pools     []string `json:"pools"`     // that the tenant may use
	} `json:"steps"`
}

// line is one step's outcome in testdata/<case>/out.yaml.
type line struct {
	Step      string            `json:"step"`
	Addresses []string          `json:"addresses,omitempty"`
	Refused   string            `json:"refused,omitempty"`
	Problem   *v1alpha1.Problem `json:"problem,omitempty"`
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, input := range inputs {
		dir := filepath.Dir(input)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			var s script
			if err := yaml.UnmarshalStrict(text, &s); err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(s.run(t))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "out.yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s differs (-update writes it anew); got:\n%s", path, got)
			}
		})
	}
}

func (s script) run(t *testing.T) (out []line) {
	a := newAllocator(t, s.Pools...)
	for _, step := range s.Steps {
		tenant, name, _ := strings.Cut(step.Owner, "/")
		owner := assign.Owner{Tenant: tenant, Name: name}
		ports := assign.ParsePorts(step.Ports)
		l := line{Step: step.Do + " " + step.Owner}
		switch step.Do {
		case "hold":
			a.Hold(owner, addresses(step.Addresses...), ports)
		case "reserve":
			a.Reserve(owner, assign.Reservation{Addresses: addresses(step.Addresses...), Ports: ports, Until: noon})
		case "retire":
			a.Retire(owner, assign.Reservation{Addresses: a.Assigned(owner), Ports: a.Ports(owner), Until: noon})
		case "show":
			var claims []assign.Claim
			for _, address := range addresses(step.Addresses...) {
				for _, port := range ports {
					claims = append(claims, assign.Claim{Address: address, Port: port})
				}
			}
			a.Show(owner, claims)
		case "release":
			a.Release(owner)
		case "assign":
			var given []netip.Addr
			given, l.Problem = a.Assign(assign.Request{
				Owner: owner, Pools: step.Pools, Requested: addresses(step.Addresses...), Ports: ports,
			})
			for _, address := range given {
				l.Addresses = append(l.Addresses, address.String())
			}
			var refused []string
			for _, port := range a.Refused(owner) {
				refused = append(refused, port.String())
			}
			l.Refused = strings.Join(refused, ",")
		default:
			t.Fatalf("there is no step %q", step.Do)
		}
		out = append(out, l)
	}
	return out
}
