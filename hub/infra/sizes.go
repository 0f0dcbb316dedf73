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
	"fmt"
	"runtime"
	"syscall"
)

// What open files are for: some for Envoy itself, half for listeners, the rest
// for connections, which take two each.
const (
	filesForEnvoy     = 256
	filesPerWorker    = 8192
	filesPerConn      = 2
	listenersFraction = 2
)

// sizes are what an Envoy can have without running out of files.
type sizes struct {
	workers     int
	listeners   int
	connections int
}

func sizesFor(files uint64) sizes {
	const most = 1 << 24 // "unlimited" is more than any Envoy uses
	n := int(min(files, most))
	workers := max(1, min(runtime.NumCPU(), n/filesPerWorker))
	sockets := n / listenersFraction
	return sizes{
		workers:     workers,
		listeners:   sockets / workers,
		connections: max(1, (n-sockets-filesForEnvoy)/filesPerConn),
	}
}

// raiseOpenFiles allows this process and those it starts as many open files as
// the system permits, and returns how many that are. (Go raises its own limit at
// its start but gives the old one to its children, unless it is set explicitly.)
func raiseOpenFiles() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("raise the limit of open files: %w", err)
	}
	return limit.Cur, nil
}
