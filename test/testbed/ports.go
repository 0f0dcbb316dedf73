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

package testbed

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports for programs that are told where to listen come from a range below the
// NodePorts and below the kernel's ephemeral ports: no outgoing connection can
// take one before its program listens, or while the program restarts.
const firstPort, lastPort = 10000, 29999

var (
	portsMu sync.Mutex
	ports   = map[int]bool{} // handed out by this process
)

// freePort finds a TCP port that is free on 127.0.0.1 and was not handed out
// before. Other processes look at random, too, so they meet once in a blue moon.
func freePort() (int, error) {
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1) //nolint:gosec // nothing is secret here
		if ports[port] {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // taken
		}
		ports[port] = true
		return port, listener.Close()
	}
	return 0, fmt.Errorf("no port between %d and %d of 127.0.0.1 is free", firstPort, lastPort)
}
