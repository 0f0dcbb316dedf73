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
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program of the bed. It is in a process group of its own, so
// that Ctrl-C reaches only the owner of the bed, which then ends it in order.
type Process struct {
	Name string // as given to Start
	Log  string // the file its output is appended to

	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended, once done is closed
}

// Command says what to run.
type Command struct {
	Name string   // names its log file too; unique among running processes
	Path string   // the program
	Args []string // its arguments
	Env  []string // added to this process's environment
	Dir  string   // where it runs; the bed's folder when empty
}

// start runs a program as a member of the bed.
func (h *home) start(command Command) (*Process, error) {
	p := &Process{Name: command.Name, Log: h.logFile(command.Name), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(command.Path, command.Args...)
	p.cmd.Dir = command.Dir
	if p.cmd.Dir == "" {
		p.cmd.Dir = h.dir
	}
	p.cmd.Env = append(append(os.Environ(), command.Env...), membership+"="+h.dir+"/"+command.Name)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (h *home) logFile(name string) string { return filepath.Join(h.dir, name+".log") }

// Pid is the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// CPU is the processor time that the process has used, and those that ended as
// its children; 0 once it has ended.
func (p *Process) CPU() time.Duration { return cpuOf(p.Pid()) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive says whether the process still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop asks the process to end and kills it after the grace period, which is
// an error. A process that has ended already is no error.
func (p *Process) Stop(grace time.Duration) error {
	if !p.Alive() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM and was killed%s", p.Name, grace, p.Tail())
	}
}

// Kill ends the process at once (kill -9) and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Err says how a process ended that should still run, with the end of its log;
// nil while it runs.
func (p *Process) Err() error {
	if p.Alive() {
		return nil
	}
	how := p.err
	if how == nil {
		how = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w%s", p.Name, how, p.Tail())
}

// Tail is the end of the process's log, to be added to an error message.
func (p *Process) Tail() string { return tail(p.Log) }

func tail(file string) string {
	text, err := os.ReadFile(file)
	text = bytes.TrimSpace(text)
	if err != nil || len(text) == 0 {
		return ""
	}
	lines := strings.Split(string(text[max(0, len(text)-8000):]), "\n")
	lines = lines[max(0, len(lines)-25):]
	return "; the end of " + filepath.Base(file) + ":\n  " + strings.Join(lines, "\n  ")
}
