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
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pollInterval is how often something is looked at that cannot be waited for.
const pollInterval = 50 * time.Millisecond

// process is a running program. Its start time tells it from a later one that
// was given the same number.
type process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // in ticks since the machine started
}

// processOf returns the program with that number.
func processOf(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// Fields are counted after the program's name, which may hold spaces.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return process{}, fmt.Errorf("look at process %d: %q is not what Linux writes", pid, text)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return process{}, fmt.Errorf("look at process %d: it has ended", pid)
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return process{PID: pid, Started: started}, nil
}

func (p process) alive() bool {
	now, err := processOf(p.PID)
	return err == nil && now == p
}

// wait returns when the process has ended or the context has.
func (p process) wait(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for p.alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// end asks the process to end and kills it after the grace period.
func (p process) end(ctx context.Context, grace time.Duration) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", p.PID, err)
	}
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if p.wait(patient) == nil {
		return nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	return p.wait(ctx)
}

// processWith returns the programs that were started with an argument.
func processWith(argument string) (out []process) {
	wanted := []byte("\x00" + argument + "\x00")
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, wanted) {
			continue // gone, or not ours
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if p, err := processOf(pid); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// running is an Envoy of a hub on this machine.
type running struct {
	process
	config string // path of its bootstrap
}

// envoys returns the Envoys that hubs of this machine have started.
func envoys() (out []running) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // gone
		}
		words := strings.Split(string(line), "\x00")
		at := slices.Index(words, "--config-path")
		if at < 0 || at+1 == len(words) || filepath.Base(words[at+1]) != bootstrapFile || !slices.Contains(words, "--service-node") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if p, err := processOf(pid); err == nil {
			out = append(out, running{p, words[at+1]})
		}
	}
	return out
}

// tryLock locks a file, or returns nil if another program has it locked.
func tryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// lockWhenFree waits for a lock for at most ten seconds.
func lockWhenFree(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		file, err := tryLock(path)
		if file != nil || err != nil {
			return file, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s is locked: %w", path, ctx.Err())
		case <-ticker.C:
		}
	}
}
