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

// Package infra runs proxies. [Host] runs Envoy as a process of this machine;
// its folder, the state directory, has everything about it:
//
//	<state>/xds-port            the port of the xDS server, see [Listen]
//	<state>/<group>/hub.lock    held by the hub that looks after the group
//	<state>/<group>/lock        held by the group's Envoy for as long as it lives
//	<state>/<group>/envoy.json  its pid and start time, and what it was started with
//	<state>/<group>/...         bootstrap, certificate, admin socket and log
//
// What Host promises:
//
//   - Envoy outlives the hub. A starting hub adopts the Envoy it finds if that is
//     what it would start itself, else it stops it first. There are never two of
//     one group, also where files of the state directory are gone: they would share
//     every port in silence and serve half stale. An address that an Envoy of
//     another state directory serves is not published.
//   - What is missing in the state directory is made again, and Envoy is started
//     without what cannot be written.
//   - An Envoy that dies is started again, with back-off.
//   - Certificates are renewed without a restart.
//
// It adds no addresses to the machine, opens no port but those of listeners (the
// admin interface is a socket in the state directory), and refuses to go on
// without Envoy or with a folder it cannot use, in words that say what to do.
package infra

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-logr/logr"
)

// Options of a Host.
type Options struct {
	// StateDir is made if it is missing. It must outlive the hub's process and
	// belong to one hub.
	StateDir string
	// Envoy is the program; empty means what [FindEnvoy] finds.
	Envoy string
	// XDS is where Envoy reaches the hub, an IP address and a port.
	XDS netip.AddrPort
	// Identity makes what a group's proxies show to the hub.
	Identity func(group string) (Identity, error)
	Log      logr.Logger
}

// Identity is how the proxies of a group and the hub know each other.
type Identity struct {
	// Certificate and Key of the proxies, Authority of the hub's certificate, and
	// ServerName in it. All but the last are PEM.
	Certificate, Key, Authority []byte
	ServerName                  string
	// RenewAt is when the hub should make another one.
	RenewAt time.Time
}

// Host runs Envoys on this machine.
type Host struct {
	options Options
	sizes   sizes
	others  others
}

// NewHost checks what a Host needs: Envoy, Linux, a folder.
func NewHost(o Options) (*Host, error) {
	var err error
	if o.Envoy, err = FindEnvoy(o.Envoy); err != nil {
		return nil, err
	}
	if o.StateDir, err = filepath.Abs(o.StateDir); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory (--state-dir names another one): %w", err)
	}
	files, err := raiseOpenFiles()
	if err != nil {
		return nil, err
	}
	return &Host{options: o, sizes: sizesFor(files)}, nil
}

// FindEnvoy returns the path of Envoy: the one given, else that of the
// environment's ENVOY, else the one in PATH.
func FindEnvoy(given string) (string, error) {
	const fix = "run `make tools` and name .tools/bin/envoy with --envoy or ENVOY"
	for _, from := range []struct{ name, path string }{{"--envoy", given}, {"ENVOY", os.Getenv("ENVOY")}} {
		if from.path == "" {
			continue
		}
		path, err := filepath.Abs(from.path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", from.name, err)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return "", fmt.Errorf("%s names %s, which is not a program: correct it, or %s", from.name, path, fix)
		}
		return path, nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, "envoy")
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 && filepath.IsAbs(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("envoy is not installed: %s", fix)
}

// MaxListeners is how many listeners a group can have: each takes a socket per
// worker, and an Envoy that runs out of files dies.
func (h *Host) MaxListeners() int { return h.sizes.listeners }

// Run keeps the Envoy of a group running until the context ends, and leaves it
// running then.
func (h *Host) Run(ctx context.Context, group string) error {
	e, err := h.newEnvoy(group)
	if err != nil {
		return err
	}
	hub, err := lockWhenFree(ctx, e.path("hub.lock"))
	if err != nil {
		return fmt.Errorf("another hub uses the state directory %s: stop it, or give this one another --state-dir: %w", h.options.StateDir, err)
	}
	defer func() { _ = hub.Close() }()
	identity, err := e.writeIdentity()
	if err != nil && (identity.ServerName == "" || !e.hasIdentity()) {
		return err
	}
	if err != nil { // a full disk: the last certificate is good for a while
		e.log.Error(err, "Envoy goes on with the last certificate")
	}
	e.serverName = identity.ServerName
	go e.renewIdentity(ctx, identity.RenewAt)
	e.keepRunning(ctx)
	return nil
}

// Reach connects to an address once, to see that traffic can arrive there. It
// tries for at most a second. An address that an Envoy of another state directory
// serves as well is an error: the kernel would give each of the two a share of the
// connections (SO_REUSEPORT), and nobody would say so.
func (h *Host) Reach(ctx context.Context, address netip.AddrPort) error {
	if other, ok := h.others.serving(address, h.options.StateDir); ok {
		h.options.Log.Info("the Envoy of another hub serves an address too", "pid", other.PID, "stateDir", filepath.Dir(filepath.Dir(other.config)), "address", address.String())
		return fmt.Errorf("the Envoy of another hub on the same machine (process %d) serves %s too and takes a share of its connections: the operator has to stop it, or to give the hubs different address pools",
			other.PID, address)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address.String())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends the Envoys of all groups of a state directory.
func Stop(ctx context.Context, stateDir string) error {
	stateDir, err := filepath.Abs(stateDir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	locks, err := filepath.Glob(filepath.Join(stateDir, "*", "lock"))
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	dirs := map[string]bool{}
	for _, lock := range locks {
		dirs[filepath.Dir(lock)] = true
	}
	for _, running := range envoys() { // the locks' files may be gone
		if dir := filepath.Dir(running.config); filepath.Dir(dir) == stateDir {
			dirs[dir] = true
		}
	}
	var errs []error
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			errs = append(errs, err)
			continue
		}
		e := &envoy{dir: dir}
		held, err := e.stop(ctx)
		if held != nil {
			_ = held.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
