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
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Pause stops a process without ending it, as a machine that stalls does:
// connections to it stay open and nothing is answered. Resume ends that.
func (p *Process) Pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on. A process that has ended is no error.
func (p *Process) Resume() error {
	if err := p.cmd.Process.Signal(syscall.SIGCONT); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Pause stops etcd and the API server of a control plane without ending them.
func (p *Plane) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused control plane go on.
func (p *Plane) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Plane) signal(signal syscall.Signal) error {
	own := p.membership()
	return signalAll(membersWhere(func(membership string) bool { return membership == own }), signal)
}

// Alive says whether etcd or the API server of a control plane runs, paused or
// not.
func (p *Plane) Alive() bool {
	own := p.membership()
	return len(membersWhere(func(membership string) bool { return membership == own })) > 0
}

// CCMProcess is a tenant's running CCM.
func (s *System) CCMProcess(tenant string) *Process { return s.ccms[tenant].ccm }

// KillEnvoy ends every Envoy that the hub runs, as kill -9 does.
func (s *System) KillEnvoy() error { return s.signalEnvoy(syscall.SIGKILL) }

// PauseEnvoy stops every Envoy that the hub runs without ending it.
func (s *System) PauseEnvoy() error { return s.signalEnvoy(syscall.SIGSTOP) }

// ResumeEnvoy lets paused Envoys go on.
func (s *System) ResumeEnvoy() error { return s.signalEnvoy(syscall.SIGCONT) }

func (s *System) signalEnvoy(signal syscall.Signal) error {
	envoy, err := Tool("envoy")
	if err != nil {
		return err
	}
	pids := slices.DeleteFunc(members(s.Dir+"/"), func(pid int) bool {
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err != nil || filepath.Base(program) != filepath.Base(envoy)
	})
	if len(pids) == 0 && signal == syscall.SIGKILL {
		return errors.New("no Envoy runs")
	}
	return signalAll(pids, signal)
}

func signalAll(pids []int, signal syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal %s to process %d: %w", signal, pid, err)
		}
	}
	return nil
}

// EnvoyListeners are the names of the listeners that the Envoy of the hub's one
// proxy group has, sorted: <address>:<port>/<protocol> and Envoy's own.
func (s *System) EnvoyListeners(ctx context.Context) ([]string, error) {
	text, err := s.Envoy(ctx, "/listeners?format=json")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Statuses []struct {
			Name string `json:"name"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("the listeners of Envoy: %w", err)
	}
	var names []string
	for _, l := range answer.Statuses {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names, nil
}
