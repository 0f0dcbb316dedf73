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
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

const (
	adminSocket   = "admin.sock"
	bootstrapFile = "bootstrap.yaml"
	recordFile    = "envoy.json"
	logFile       = "envoy.log"
	identityDir   = "identity" // holds the next two and nothing else: Envoy watches it

	certificateFile = identityDir + "/certificate.yaml"
	authorityFile   = identityDir + "/authority.yaml"

	// drainTime is how long connections of a listener that went may last.
	drainTime = 10 * time.Minute
	// stopGrace is how long Envoy may take to end.
	stopGrace = 5 * time.Second
	// startGrace is how long Envoy may take until its admin interface answers.
	startGrace = 15 * time.Second

	firstBackOff = 100 * time.Millisecond
	lastBackOff  = 30 * time.Second
	// longLife is how long an Envoy must have lived for its death to be news.
	longLife = time.Minute
	// retryRenewal is when a certificate that could not be made is tried again.
	retryRenewal = time.Minute

	// maxSocketPath is what Linux allows for the path of a socket.
	maxSocketPath = 107
)

// envoy is the Envoy of one group. Stop needs no more of it than the folder.
type envoy struct {
	dir, group string
	serverName string // in the hub's certificate
	host       *Host
	log        logr.Logger
}

// record is what is kept of a running Envoy.
type record struct {
	process
	// Fingerprint of everything it was started with.
	Fingerprint string `json:"fingerprint"`
}

func (h *Host) newEnvoy(group string) (*envoy, error) {
	e := &envoy{dir: filepath.Join(h.options.StateDir, group), group: group, host: h, log: h.options.Log.WithValues("proxyGroup", group)}
	if filepath.Dir(e.dir) != h.options.StateDir {
		return nil, fmt.Errorf("proxy group %q cannot be the name of a folder", group)
	}
	if n := len(e.path(adminSocket)); n > maxSocketPath {
		return nil, fmt.Errorf("the path of %s has %d bytes, Linux allows %d: choose a shorter --state-dir", e.path(adminSocket), n, maxSocketPath)
	}
	return e, e.makeFolders()
}

// makeFolders makes the folders of the group that are not there, which may be all
// of them at any time: people clean up.
func (e *envoy) makeFolders() error {
	if err := os.MkdirAll(e.path(identityDir), 0o700); err != nil {
		return fmt.Errorf("make the folder of proxy group %s: %w", e.group, err)
	}
	return nil
}

func (e *envoy) path(name string) string { return filepath.Join(e.dir, name) }

// keepRunning adopts or starts Envoy, waits for its end, and begins again.
func (e *envoy) keepRunning(ctx context.Context) {
	backOff := firstBackOff
	for {
		begin := time.Now()
		running, err := e.adoptOrStart(ctx)
		if err == nil {
			err = running.wait(ctx)
		}
		if time.Since(begin) > longLife {
			backOff = firstBackOff
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			e.log.Error(err, "Envoy cannot run", "retryAfter", backOff.String())
		default:
			e.log.Info("Envoy ended", "pid", running.PID, "log", e.path(logFile), "retryAfter", backOff.String())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backOff):
		}
		backOff = min(2*backOff, lastBackOff)
	}
}

// adoptOrStart returns the one Envoy of the group.
func (e *envoy) adoptOrStart(ctx context.Context) (process, error) {
	config, err := e.bootstrap().yaml()
	if err != nil {
		return process{}, err
	}
	fingerprint, err := e.fingerprint(config)
	if err != nil {
		return process{}, err
	}
	if err := e.restoreFolders(); err != nil {
		return process{}, err
	}
	lock, err := tryLock(e.path("lock"))
	if err != nil {
		return process{}, err
	}
	// The lock's file may be gone while the Envoy that has it locked goes on.
	if lock == nil || len(e.holders()) > 0 {
		if lock != nil {
			_ = lock.Close()
		}
		if running, ok := e.adopt(ctx, fingerprint); ok {
			e.log.Info("Envoy adopted", "pid", running.PID)
			return running, nil
		}
		if lock, err = e.stop(ctx); err != nil {
			return process{}, err
		}
	}
	defer func() { _ = lock.Close() }() // Envoy has it now, or nobody
	if err := replaceFile(e.path(bootstrapFile), config); err != nil {
		return process{}, fmt.Errorf("write Envoy's bootstrap: %w", err)
	}
	return e.start(ctx, fingerprint, lock)
}

func (e *envoy) bootstrap() bootstrap {
	return bootstrap{
		Group:       e.group,
		XDSAddress:  e.host.options.XDS.Addr().String(),
		XDSPort:     e.host.options.XDS.Port(),
		ServerName:  e.serverName,
		Admin:       e.path(adminSocket),
		Certificate: e.path(certificateFile),
		Authority:   e.path(authorityFile),
		IdentityDir: e.path(identityDir),
		Connections: e.host.sizes.connections,
	}
}

// args of Envoy. They name the state directory, so that whoever looks at the
// machine's processes sees whose it is.
func (e *envoy) args() []string {
	return []string{
		"--config-path", e.path(bootstrapFile),
		"--service-node", e.group, "--service-cluster", e.group,
		"--disable-hot-restart",
		"--concurrency", strconv.Itoa(e.host.sizes.workers),
		"--drain-time-s", strconv.Itoa(int(drainTime.Seconds())),
		"--log-path", e.path(logFile), "--log-level", "warning",
	}
}

// fingerprint is the same for Envoys that need no restart to be each other.
func (e *envoy) fingerprint(config []byte) (string, error) {
	program, err := os.Stat(e.host.options.Envoy)
	if err != nil {
		return "", fmt.Errorf("look at Envoy: %w", err)
	}
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s\n%q\n%s %d %s", config, e.args(), e.host.options.Envoy, program.Size(), program.ModTime().UTC())
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// adopt returns the running Envoy if it is what would be started now and says so
// itself. One that was only just started may need a moment to answer.
func (e *envoy) adopt(ctx context.Context, fingerprint string) (process, bool) {
	known, err := e.record()
	if err != nil || known.Fingerprint != fingerprint || !known.alive() {
		return process{}, false
	}
	if err := e.answers(ctx, known.process); err != nil {
		e.log.Info("Envoy is not adopted", "pid", known.PID, "reason", err.Error())
		return process{}, false
	}
	return known.process, true
}

// answers waits until Envoy's admin interface says that it is this group's.
func (e *envoy) answers(ctx context.Context, p process) error {
	ctx, cancel := context.WithTimeout(ctx, startGrace)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		info, err := askServerInfo(ctx, e.path(adminSocket))
		if err == nil {
			if info.Options.ConfigPath != e.path(bootstrapFile) || info.Options.ServiceNode != e.group {
				return fmt.Errorf("%s belongs to another Envoy (%s)", e.path(adminSocket), info.Options.ConfigPath)
			}
			return nil
		}
		if !p.alive() {
			return fmt.Errorf("envoy ended while it started%s", e.logTail())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("envoy's admin interface does not answer: %w", err)
		case <-ticker.C:
		}
	}
}

// stop ends whatever Envoy holds the group's lock, and returns the lock.
func (e *envoy) stop(ctx context.Context) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*stopGrace)
	defer cancel()
	for _, holder := range e.holders() {
		if err := holder.end(ctx, stopGrace); err != nil {
			return nil, err
		}
	}
	return lockWhenFree(ctx, e.path("lock"))
}

// holders are the Envoys of the group that live, with or without the lock: those
// that were started with the group's bootstrap, and the one that is recorded. The
// record is missing if the hub died just after it had started Envoy.
func (e *envoy) holders() []process {
	out := processWith(e.path(bootstrapFile))
	if known, err := e.record(); err == nil && known.alive() && !slices.Contains(out, known.process) {
		out = append(out, known.process)
	}
	return out
}

// restoreFolders makes folders and certificate again if they are gone.
func (e *envoy) restoreFolders() error {
	if err := e.makeFolders(); err != nil {
		return err
	}
	if e.hasIdentity() {
		return nil
	}
	e.log.Info("the proxies' certificate is gone and written again", "folder", e.path(identityDir))
	_, err := e.writeIdentity()
	return err
}

func (e *envoy) hasIdentity() bool {
	_, certificate := os.Stat(e.path(certificateFile))
	_, authority := os.Stat(e.path(authorityFile))
	return certificate == nil && authority == nil
}

// start runs Envoy in a session of its own, so that nothing that ends the hub
// ends it too. It inherits the lock and keeps it for its life.
func (e *envoy) start(ctx context.Context, fingerprint string, lock *os.File) (process, error) {
	if err := os.Remove(e.path(adminSocket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return process{}, fmt.Errorf("remove the socket of an Envoy that is gone: %w", err)
	}
	output, err := os.OpenFile(e.path(logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return process{}, fmt.Errorf("open Envoy's log: %w", err)
	}
	defer func() { _ = output.Close() }()
	command := exec.Command(e.host.options.Envoy, e.args()...)
	command.Dir = e.dir
	command.Stdout, command.Stderr = output, output
	command.ExtraFiles = []*os.File{lock}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return process{}, fmt.Errorf("start Envoy: %w", err)
	}
	pid := command.Process.Pid
	started, err := processOf(pid)
	go func() { _ = command.Wait() }() // buries it; its end is seen by process.wait
	if err != nil {
		return process{}, err
	}
	text, err := json.Marshal(record{process: started, Fingerprint: fingerprint})
	if err == nil {
		err = replaceFile(e.path(recordFile), append(text, '\n'))
	}
	if err != nil {
		// Traffic does not wait for room on the disk: without a record the next hub
		// replaces this Envoy instead of adopting it.
		e.log.Error(err, "what Envoy was started with is not recorded", "pid", pid)
	}
	if err := e.answers(ctx, started); err != nil {
		if ctx.Err() == nil {
			err = errors.Join(err, started.end(ctx, stopGrace))
		}
		return process{}, err
	}
	e.log.Info("Envoy started", "pid", pid, "workers", e.host.sizes.workers, "maxListeners", e.host.sizes.listeners, "maxConnections", e.host.sizes.connections)
	return started, nil
}

func (e *envoy) record() (r record, err error) {
	text, err := os.ReadFile(e.path(recordFile))
	if err != nil {
		return r, fmt.Errorf("read what is known of Envoy: %w", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", e.path(recordFile), err)
	}
	return r, nil
}

func (e *envoy) logTail() string {
	text, err := os.ReadFile(e.path(logFile))
	text = bytes.TrimSpace(text)
	if err != nil || len(text) == 0 {
		return ""
	}
	lines := strings.Split(string(text[max(0, len(text)-4000):]), "\n")
	return "; the end of " + e.path(logFile) + ":\n  " + strings.Join(lines[max(0, len(lines)-10):], "\n  ")
}

// renewIdentity replaces the group's certificate in time until the context ends.
func (e *envoy) renewIdentity(ctx context.Context, renewAt time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(time.Until(renewAt), retryRenewal)):
		}
		identity, err := e.writeIdentity()
		if err != nil {
			e.log.Error(err, "cannot renew the proxies' certificate", "retryAfter", retryRenewal.String())
		}
		renewAt = identity.RenewAt
	}
}

// writeIdentity puts a new certificate where Envoy watches for it. If that cannot
// be written it returns the identity with the error.
func (e *envoy) writeIdentity() (Identity, error) {
	identity, err := e.host.options.Identity(e.group)
	if err != nil {
		return Identity{}, fmt.Errorf("make the certificate of proxy group %s: %w", e.group, err)
	}
	if err := e.makeFolders(); err != nil {
		return Identity{}, err
	}
	files, err := identity.files()
	for name, text := range files {
		err = errors.Join(err, replaceFile(e.path(name), text))
	}
	if err != nil {
		identity.RenewAt = time.Now().Add(retryRenewal)
		return identity, fmt.Errorf("write the certificate of proxy group %s: %w", e.group, err)
	}
	return identity, nil
}
