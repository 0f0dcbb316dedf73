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
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// auditPolicy has an API server note who wrote what, once a write is done.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

// audit has a control plane that is not started yet note writes.
func (p *Plane) audit() error {
	policy := p.folder("audit-policy.yaml")
	if err := os.MkdirAll(filepath.Dir(policy), 0o700); err != nil {
		return err
	}
	p.processes.APIServer.Configure().Set("audit-policy-file", policy).Set("audit-log-path", p.auditLog())
	return os.WriteFile(policy, []byte(auditPolicy), 0o600)
}

func (p *Plane) auditLog() string { return p.folder("audit.log") }

// Write is one write that an API server was asked for, refused or not.
type Write struct {
	Verb, Resource, Subresource string
	Namespace, Name             string
	User, Manager               string // Manager is the field manager, if the request names one
	Code                        int
	At                          time.Time
}

// AuditMark is a place in the record of a control plane's writes: its end now.
func (p *Plane) AuditMark() (int64, error) {
	info, err := os.Stat(p.auditLog())
	if err != nil {
		return 0, fmt.Errorf("the record of writes (is Options.Audit set?): %w", err)
	}
	return info.Size(), nil
}

// Writes are those after a mark, in order.
func (p *Plane) Writes(mark int64) ([]Write, error) {
	file, err := os.Open(p.auditLog())
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(mark, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may be under way
	var out []Write
	for line := range bytes.Lines(text) {
		write, err := parseWrite(line)
		if err != nil {
			return nil, err
		}
		out = append(out, write)
	}
	return out, nil
}

func parseWrite(line []byte) (Write, error) {
	var event struct {
		Verb       string `json:"verb"`
		RequestURI string `json:"requestURI"`
		User       struct {
			Username string `json:"username"`
		} `json:"user"`
		ObjectRef struct {
			Resource    string `json:"resource"`
			Subresource string `json:"subresource"`
			Namespace   string `json:"namespace"`
			Name        string `json:"name"`
		} `json:"objectRef"`
		ResponseStatus struct {
			Code int `json:"code"`
		} `json:"responseStatus"`
		StageTimestamp time.Time `json:"stageTimestamp"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return Write{}, fmt.Errorf("read the record of writes: %w", err)
	}
	write := Write{
		Verb: event.Verb, Resource: event.ObjectRef.Resource, Subresource: event.ObjectRef.Subresource,
		Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name,
		User: event.User.Username, Code: event.ResponseStatus.Code, At: event.StageTimestamp,
	}
	if uri, err := url.Parse(event.RequestURI); err == nil {
		write.Manager = uri.Query().Get("fieldManager")
	}
	return write, nil
}

// Usage is the processor time that processes have used so far, with that of their
// children that ended, by their number.
type Usage map[int]time.Duration

// CPU is what the bed's processes have used.
func (b *Bed) CPU() Usage {
	usage := Usage{}
	for _, pid := range members(b.Dir + "/") {
		usage[pid] = cpuOf(pid)
	}
	return usage
}

// Since is what was used after another reading, but for processes that have ended.
func (u Usage) Since(before Usage) (total time.Duration) {
	for pid, used := range u {
		total += used - before[pid]
	}
	return total
}

// cpuOf is zero for a process that has ended.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	var ticks int64
	for i := 11; i <= 14 && i < len(fields); i++ { // own and children's user and system time
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // a tick is 10 ms on Linux
}
