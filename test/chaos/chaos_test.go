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

package main

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

var twoTenants = []string{"acme", "globex"}

// TestPlans checks what the runner relies on, over many seeds.
func TestPlans(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(200) {
		plan, wishes := newPlan(seed, twoTenants, 60)
		again, same := newPlan(seed, twoTenants, 60)
		if !reflect.DeepEqual(plan, again) || !reflect.DeepEqual(wishes, same) {
			t.Fatalf("seed %d does not give the same steps twice", seed)
		}
		open, last := map[target]bool{}, map[string]map[string]wish{"acme": {}, "globex": {}}
		shared := map[string]bool{}
		for _, s := range plan {
			kinds[s.Fault+" "+s.Target.Part]++
			switch {
			case s.Fault == "end":
				if !open[s.Target] {
					t.Fatalf("seed %d: %s without a fault", seed, s)
				}
				delete(open, s.Target)
			case s.Fault != "":
				if open[s.Target] {
					t.Fatalf("seed %d: %s over another fault", seed, s)
				}
				open[s.Target] = faultsOf[s.Target.Part][s.Fault] > 0
				if !open[s.Target] {
					delete(open, s.Target)
				}
			default:
				if open[target{"plane", s.Tenant}] {
					t.Fatalf("seed %d: %s, whose API server is away", seed, s)
				}
				if s.Service == steady && last[s.Tenant][steady].Type != "" {
					t.Fatalf("seed %d changes the steady Service: %s", seed, s)
				}
				if before, ok := shared[s.Tenant+s.Service]; ok && s.Wish.Type != "" && before != s.Wish.Shared {
					t.Fatalf("seed %d: %s asks for another address than before", seed, s)
				}
				if s.Wish.Type == "" {
					delete(last[s.Tenant], s.Service)
				} else {
					shared[s.Tenant+s.Service], last[s.Tenant][s.Service] = s.Wish.Shared, s.Wish
				}
			}
		}
		if len(open) > 0 {
			t.Fatalf("seed %d leaves faults: %v", seed, open)
		}
		if !reflect.DeepEqual(last, wishes) {
			t.Fatalf("seed %d: the steps lead to %v, not to %v", seed, last, wishes)
		}
		for tenant := range wishes {
			if conflicts(wishes[tenant]) {
				t.Fatalf("seed %d: two Services of %s want one port: %v", seed, tenant, wishes[tenant])
			}
		}
	}
	for part, faults := range faultsOf {
		for fault := range faults {
			if kinds[fault+" "+part] == 0 {
				t.Errorf("no seed has the fault %s of %s", fault, part)
			}
		}
	}
}

func conflicts(wishes map[string]wish) bool {
	taken := map[port]bool{}
	for name, w := range wishes {
		for _, p := range w.Ports {
			if name != steady && taken[p] {
				return true
			}
			taken[p] = name != steady
		}
	}
	return false
}

// TestTrafficIsExcusedOnlyWhileEnvoyIsAway checks the one excuse that there is.
func TestTrafficIsExcusedOnlyWhileEnvoyIsAway(t *testing.T) {
	failure := context.DeadlineExceeded
	past := time.Now()
	tr := &traffic{}
	tr.note("acme", time.Now(), nil)
	tr.excuse(true)
	tr.note("acme", past, nil) // asked before Envoy was paused
	tr.note("acme", time.Now(), failure)
	tr.excuse(false)
	tr.note("acme", past, nil) // still an old question
	tr.note("acme", time.Now(), failure)
	if broken := tr.take(); len(broken) > 0 {
		t.Fatalf("not excused: %v", broken)
	}
	tr.note("acme", time.Now().Add(time.Millisecond), nil)
	tr.note("acme", time.Now().Add(time.Millisecond), failure)
	if broken := tr.take(); len(broken) != 1 {
		t.Fatalf("a failure after Envoy is back counts: %v", broken)
	}
}

// TestChaos runs one short seed.
func TestChaos(t *testing.T) {
	ctrl.SetLogger(logr.Discard())
	failed, err := runSeeds(t.Context(), options{seed: 1, seeds: 1, steps: 25})
	if err != nil || len(failed) > 0 {
		t.Fatalf("failed seeds: %v, %v; run it by itself with: make chaos SEED=1 STEPS=25", failed, err)
	}
}

// TestTheWitnessSeesWhatIsTwice checks that a broken promise is noticed.
func TestTheWitnessSeesWhatIsTwice(t *testing.T) {
	w := emptyWitness()
	w.loadBalancer(publishes("a", "127.0.0.1", "80/TCP,443/TCP"), false)
	w.loadBalancer(publishes("b", "127.0.0.1", "443/UDP"), false)
	if broken := w.take(); len(broken) > 0 {
		t.Fatalf("nothing is twice: %v", broken)
	}
	w.loadBalancer(publishes("b", "127.0.0.1", "443/TCP"), false)
	if broken := w.take(); len(broken) != 1 {
		t.Fatalf("443/TCP is twice: %v", broken)
	}
	service := &corev1.Service{}
	service.Name = "web"
	for _, ip := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.2"} {
		service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
		w.service("acme", service, false)
	}
	if broken := w.take(); len(broken) != 1 {
		t.Fatalf("the address changed once: %v", broken)
	}
}

func publishes(name, address, ports string) *v1alpha1.LoadBalancer {
	lb := &v1alpha1.LoadBalancer{}
	lb.Name, lb.Status.Ports = name, ports
	lb.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	return lb
}
