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

package infra

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// othersFresh is how long what was seen of other Envoys counts.
const othersFresh = 5 * time.Second

// others are the Envoys of other state directories, and where they listen.
type others struct {
	mu     sync.Mutex
	seen   time.Time
	listen map[netip.AddrPort]running
}

// serving returns the Envoy of another state directory that listens at a TCP
// address. It looks at the machine at most once in five seconds.
func (o *others) serving(address netip.AddrPort, stateDir string) (running, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.seen) > othersFresh {
		o.listen = map[netip.AddrPort]running{}
		for _, other := range envoys() {
			if filepath.Dir(filepath.Dir(other.config)) == stateDir {
				continue
			}
			for _, at := range listening(other.PID) {
				o.listen[at] = other
			}
		}
		o.seen = time.Now()
	}
	other, ok := o.listen[netip.AddrPortFrom(address.Addr().Unmap(), address.Port())]
	return other, ok && other.alive()
}

// listening returns the TCP addresses that a program listens at: the sockets
// among its open files that the kernel's table has in that state (proc(5)). Of a
// program that may not be looked at it returns none.
func listening(pid int) (out []netip.AddrPort) {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	own := map[string]bool{}
	for _, file := range files {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, file.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // without IPv6
		}
		for line := range strings.Lines(string(text)) {
			const local, state, inode, listens = 1, 3, 9, "0A"
			words := strings.Fields(line)
			if len(words) <= inode || words[state] != listens || !own[words[inode]] {
				continue
			}
			if at, ok := kernelAddress(words[local]); ok {
				out = append(out, at)
			}
		}
	}
	return out
}

// kernelAddress reads an address as /proc/net/tcp writes it: words of 32 bits in
// the order of this machine (little endian on all that Envoy runs on), a colon and
// the port, in hexadecimal.
func kernelAddress(text string) (netip.AddrPort, bool) {
	words, number, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	port, errPort := strconv.ParseUint(number, 16, 16)
	if !ok || err != nil || errPort != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), ok
}
