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
	"errors"
	"net/netip"
	"testing"

	"github.com/kubelb/gitops/test/testbed"
)

// A node that the cluster autoscaler is about to delete gets no new connection;
// its NodePort goes on answering, so only kube-proxy's health check tells.
func TestANodeThatIsLeavingGetsNoNewConnections(t *testing.T) {
	s := newScene(t)
	app := s.app("web", tcp("tcp", 8080))
	address := s.up(acme, app)
	nodes := system.Tenant(acme).Nodes()
	leaving, its := nodes[0], system.Tenant(acme).NodeAddresses()[nodes[0]]
	through := func() (count int) {
		for range 20 {
			reply, err := testbed.AskHTTP(s.ctx, address+":8080")
			if err != nil {
				t.Errorf("a connection was lost: %v", err)
				return 0
			}
			if from, err := netip.ParseAddrPort(reply.Peer); err == nil && from.Addr() == its {
				count++
			}
		}
		return count
	}
	s.eventually("traffic through the node", func() error {
		if through() == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	if err := system.Tenant(acme).TaintForDeletion(s.ctx, leaving, true); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := system.Tenant(acme).TaintForDeletion(s.ctx, leaving, false); err != nil {
			t.Error(err)
		}
	}()
	s.eventually("no new connection through the node", func() error {
		if n := through(); n > 0 {
			return errors.New("there are some")
		}
		return nil
	})
	s.answers(address, 8080, app)
}
