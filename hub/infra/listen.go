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
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Listen opens the port of the xDS server. Port 0 takes any free port the first
// time and the same one ever after: an Envoy that outlived the hub only knows
// that one.
func Listen(stateDir, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--listen-address: %w", err)
	}
	file := filepath.Join(stateDir, "xds-port")
	if port == "0" {
		switch text, err := os.ReadFile(file); {
		case err == nil:
			port = strings.TrimSpace(string(text))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("read the port of the xDS server: %w", err)
		}
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("open the port of the xDS server: %w", err)
	}
	taken := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	if err = os.MkdirAll(stateDir, 0o700); err == nil {
		err = replaceFile(file, []byte(taken+"\n"))
	}
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("keep the port of the xDS server: %w", err)
	}
	return listener, nil
}

// Local returns where a program of this machine reaches a listener.
func Local(l net.Listener) netip.AddrPort {
	at := l.Addr().(*net.TCPAddr).AddrPort()
	address := at.Addr().Unmap()
	switch address {
	case netip.IPv4Unspecified(), netip.IPv6Unspecified():
		address = netip.MustParseAddr("127.0.0.1")
	}
	return netip.AddrPortFrom(address, at.Port())
}

// replaceFile writes a file in one step, so that readers see all of it or what
// was there before. A file that is right already is left alone, which works on a
// full disk too.
func replaceFile(path string, data []byte) error {
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, data) {
		return nil
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
	return err
}
