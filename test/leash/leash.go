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

// Package leash ends the API server of a test suite together with the suite, also
// where that is killed or runs into its timeout: envtest leaves etcd and
// kube-apiserver running then, and their folders behind.
package leash

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// servers are what envtest starts, as the kernel names them.
var servers = []string{"etcd", "kube-apiserver"}

// watchdog waits for the end of its standard input, which comes with the suite's.
// Of what was stopped before nothing is left to end.
const watchdog = `read -r _
for pid in $1; do
	case $(cat /proc/$pid/comm 2>/dev/null) in etcd|kube-apiserver) kill -9 $pid ;; esac
done
shift
rm -rf -- "$@"`

// Tie ties what a started environment runs to the calling process. The watchdog
// is a shell, so that it does not matter how the process ends.
func Tie(environment *envtest.Environment) error {
	pids, err := children()
	if err != nil {
		return err
	}
	args := []string{"-c", watchdog, "sh", strings.Join(pids, " ")}
	plane := &environment.ControlPlane
	if plane.Etcd != nil && plane.APIServer != nil {
		for _, dir := range []string{plane.Etcd.DataDir, plane.APIServer.CertDir} {
			if strings.HasPrefix(dir, filepath.Clean(os.TempDir())+string(filepath.Separator)) {
				args = append(args, dir)
			}
		}
	}
	cmd := exec.Command("/bin/sh", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not ended with the suite
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("tie the API server to this process: %w", err)
	}
	held = append(held, input)
	return nil
}

// held keeps the watchdogs' inputs open.
var held []io.Closer

// children are the servers that this process started.
func children() (pids []string, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it went
		}
		// pid (comm) state ppid ...
		begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if begin < 0 || end < begin {
			continue
		}
		fields := strings.Fields(string(text[end+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) && slices.Contains(servers, string(text[begin+1:end])) {
			pids = append(pids, strings.TrimSpace(string(text[:begin])))
		}
	}
	if len(pids) != len(servers) {
		return nil, fmt.Errorf("this process runs %d of %v", len(pids), servers)
	}
	return pids, nil
}
