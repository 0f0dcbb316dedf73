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

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func tcp(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP}
}

func udp(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolUDP}
}

func TestServiceGetsItsAddressAndTraffic(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	if !system.LoadBalancerCIDR().Contains(netip.MustParseAddr(address)) {
		t.Errorf("address %s is not in the pool %s", address, system.LoadBalancerCIDR())
	}
	s.answers(address, 8080, app)
	s.eventually("ports and revision of the LoadBalancer", func() error {
		lb, err := s.loadBalancer(acme, "web")
		if err == nil && (lb.Status.Ports != "8080/TCP" || lb.Annotations[v1alpha1.AnnotationRevision] == "") {
			err = fmt.Errorf("ports %q, annotations %v", lb.Status.Ports, lb.Annotations)
		}
		return err
	})
}

func TestSeveralPortsOfBothProtocols(t *testing.T) {
	s := newScene(t)
	app := s.app("multi", tcp("http", 8080), tcp("alt", 8443), udp("dns", 8053))
	address := s.up(acme, app)
	s.answers(address, 8080, app)
	s.answers(address, 8443, app)
	s.eventually("an answer over UDP", func() error {
		reply, err := testbed.AskUDP(s.ctx, address+":8053", "hello")
		if err == nil && (reply.Namespace != s.namespace || reply.Data != "hello") {
			err = fmt.Errorf("answered %+v", reply)
		}
		return err
	})
}

func TestPortChangeAndScale(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Ports[0].Port = 9090 })
	s.answers(address, 9090, app)
	s.closed(address, 8080)

	commits := s.git("rev-list", "--count", "intent/acme")
	if err := system.Scale(s.ctx, acme, app, 4); err != nil {
		t.Fatal(err)
	}
	pods := map[string]bool{}
	s.eventually("answers of four pods", func() error {
		reply, err := testbed.AskHTTP(s.ctx, address+":9090")
		pods[reply.Pod] = true
		if err == nil && len(pods) < 4 {
			err = fmt.Errorf("%d pods answered", len(pods))
		}
		return err
	})
	if now := s.git("rev-list", "--count", "intent/acme"); now != commits {
		t.Errorf("scaling made commits: %s, then %s", commits, now)
	}
}

func TestDeletedServiceIsGoneEverywhere(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.delete(acme, "web")
	s.closed(address, 8080)
	s.eventually("the Service to be gone", func() error {
		var service corev1.Service
		err := system.TenantClient(acme).Get(s.ctx, client.ObjectKey{Namespace: s.namespace, Name: "web"}, &service)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("finalizers: %v", service.Finalizers))
	})
	s.eventually("the LoadBalancer to be gone", func() error {
		_, err := s.loadBalancer(acme, "web")
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
	for _, ref := range []string{"main", "base/main", "intent/acme", "status/acme"} {
		if left := s.git("ls-tree", "-r", "--name-only", ref, "--", "tenants/acme/loadbalancers/"+s.namespace, "tenants/acme/backends/"+s.namespace); left != "" {
			t.Errorf("%s still has %s", ref, left)
		}
	}

	if again, err := system.Expose(s.ctx, acme, app); err != nil || again != address {
		t.Errorf("the same Service made again got %q (%v), it had %s", again, err, address)
	}
}

func TestTwoTenantsWithTheSameNames(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	first, second := s.up(acme, app), s.up(globex, app)
	if first == second {
		t.Fatalf("both tenants got %s", first)
	}
	acmeNodes, globexNodes := peers(s, first), peers(s, second)
	for peer := range acmeNodes {
		if globexNodes[peer] {
			t.Errorf("both addresses reach node %s", peer)
		}
	}
	s.delete(acme, "web")
	s.closed(first, 8080)
	s.answers(second, 8080, app)
}

// peers are the nodes that answer on an address.
func peers(s *scene, address string) map[string]bool {
	nodes := map[string]bool{}
	for range 8 {
		s.eventually("an answer of "+address, func() error {
			reply, err := testbed.AskHTTP(s.ctx, address+":8080")
			if err == nil {
				host, _ := netip.ParseAddrPort(reply.Peer)
				nodes[host.Addr().String()] = true
			}
			return err
		})
	}
	return nodes
}

func TestLocalTrafficPolicyReachesOnlyNodesWithPods(t *testing.T) {
	s := newScene(t)
	app := s.app("local")
	app.Replicas = 1
	app.Service = func(service *corev1.Service) {
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	address := s.up(acme, app)
	s.answers(address, 8080, app)
	s.eventually("twenty answers in a row", func() error {
		for range 20 {
			if _, err := testbed.AskHTTP(s.ctx, address+":8080"); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestSourceRangesKeepOthersOut(t *testing.T) {
	s := newScene(t)
	closed, open := s.app("closed"), s.app("open")
	closed.Service = func(service *corev1.Service) { service.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"} }
	open.Service = func(service *corev1.Service) { service.Spec.LoadBalancerSourceRanges = []string{"127.0.0.0/8"} }
	refused, allowed := s.up(acme, closed), s.up(acme, open)
	s.answers(allowed, 8080, open)
	if reply, err := testbed.AskHTTP(s.ctx, refused+":8080"); err == nil {
		t.Errorf("a client outside of the ranges was answered by %s", reply.Pod)
	}
	s.edit(acme, "closed", func(service *corev1.Service) {
		service.Spec.LoadBalancerSourceRanges = []string{"127.0.0.0/8"}
	})
	s.answers(refused, 8080, closed) // it was the ranges, and nothing else
}

func TestProxyProtocolTellsPodsWhoConnects(t *testing.T) {
	s := newScene(t)
	plain, proxied := s.app("plain"), s.app("proxied")
	proxied.Service = func(service *corev1.Service) {
		service.Annotations = map[string]string{v1alpha1.AnnotationProxyProtocol: "v2"}
	}
	without, with := s.up(acme, plain), s.up(acme, proxied)
	if reply := s.answers(without, 8080, plain); reply.Proxy != nil {
		t.Errorf("a header came unasked: %+v", reply.Proxy)
	}
	if reply := s.answers(with, 8080, proxied); reply.Proxy == nil {
		t.Errorf("no header came: %+v", reply)
	}
}

func TestSessionAffinityKeepsAClientOnOneNode(t *testing.T) {
	s := newScene(t)
	sticky, loose := s.app("sticky"), s.app("loose")
	sticky.Service = func(service *corev1.Service) {
		service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if nodes := peers(s, s.up(acme, sticky)); len(nodes) != 1 {
		t.Errorf("the client was sent to %v", nodes)
	}
	if nodes := peers(s, s.up(acme, loose)); len(nodes) < 2 {
		t.Errorf("without affinity the client was sent to %v only, which proves nothing of the other", nodes)
	}
}

func TestServiceThatLeavesScopeLosesItsAddress(t *testing.T) {
	s := newScene(t)
	app := s.app("web")
	address := s.up(acme, app)
	s.edit(acme, "web", func(service *corev1.Service) { service.Spec.Type = corev1.ServiceTypeClusterIP })
	s.closed(address, 8080)
	s.eventually("status to be cleared", func() error {
		if got := s.service(acme, "web").Status.LoadBalancer.Ingress; len(got) > 0 {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

func TestManyServicesAtOnce(t *testing.T) {
	s := newScene(t)
	const count = 40
	if err := system.Deploy(s.ctx, acme, s.app("web-0")); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := system.TenantClient(acme).Create(s.ctx, s.app(fmt.Sprintf("web-%d", i)).NewService()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, 2*patience)
	defer cancel()
	seen := map[string]bool{}
	for i := range count {
		address, err := system.Address(ctx, acme, s.namespace, fmt.Sprintf("web-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Errorf("%s was given twice", address)
		}
		seen[address] = true
	}
}
