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

// Package sshd is an SSH server for tests that runs nothing but the services of
// Git. Who may connect and what a service does is up to its user; only public
// keys open it.
package sshd

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Server is an SSH server on one address.
type Server struct {
	// HostKeys are what the server shows: one of each type at most.
	HostKeys []ssh.Signer
	// Authorize says whose a public key is.
	Authorize func(key ssh.PublicKey) (user string, ok bool)
	// Serve runs a service and returns its exit status.
	Serve func(c *Call) int
	// RefuseEnvironment is a server that takes no variables, as OpenSSH's default
	// is: Git then speaks its old protocol.
	RefuseEnvironment bool

	mu          sync.Mutex
	listener    net.Listener
	connections map[net.Conn]bool
	made        int
}

// Call is one run of a service.
type Call struct {
	context.Context // ends with the connection
	// User is whose key it was.
	User string
	// Service is git-upload-pack or git-receive-pack, Path what it was asked for.
	Service, Path string
	// Protocol is GIT_PROTOCOL.
	Protocol string

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Abort breaks the connection.
	Abort func()
}

// Start listens on address; "127.0.0.1:0" for any port.
func (s *Server) Start(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("SSH server: %w", err)
	}
	s.mu.Lock()
	s.listener, s.connections = listener, map[net.Conn]bool{}
	s.mu.Unlock()
	go s.accept(listener)
	return nil
}

// Address is host:port.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener.Addr().String()
}

// Connections counts those that were made so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// Break ends all connections; new ones are taken.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.connections {
		_ = c.Close()
	}
}

// Stop ends the server. Start begins it anew.
func (s *Server) Stop() {
	s.mu.Lock()
	listener := s.listener
	s.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	s.Break()
}

// SetHostKeys replaces what new connections are shown.
func (s *Server) SetHostKeys(keys ...ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.HostKeys = keys
}

// KnownHosts are the lines of a known_hosts file for the server.
func (s *Server) KnownHosts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	host, port, _ := net.SplitHostPort(s.listener.Addr().String())
	var lines strings.Builder
	for _, key := range s.HostKeys {
		fmt.Fprintf(&lines, "[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(key.PublicKey()))
	}
	return lines.String()
}

func (s *Server) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.connections[conn] = true
		s.made++
		s.mu.Unlock()
		go func() {
			s.serve(conn)
			_ = conn.Close()
			s.mu.Lock()
			delete(s.connections, conn)
			s.mu.Unlock()
		}()
	}
}

func (s *Server) serve(conn net.Conn) {
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			user, ok := s.Authorize(key)
			if !ok {
				return nil, errors.New("unknown key")
			}
			return &ssh.Permissions{Extensions: map[string]string{"user": user}}, nil
		},
	}
	s.mu.Lock()
	for _, key := range s.HostKeys {
		config.AddHostKey(key)
	}
	s.mu.Unlock()
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go ssh.DiscardRequests(requests)
	var sessions sync.WaitGroup
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			continue
		}
		call := &Call{
			Context: ctx, User: server.Permissions.Extensions["user"],
			Stdin: channel, Stdout: channel, Stderr: channel.Stderr(), Abort: func() { _ = conn.Close() },
		}
		sessions.Go(func() { s.session(call, channel, requests) })
	}
	cancel()
	sessions.Wait()
}

func (s *Server) session(call *Call, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer func() { _ = channel.Close() }()
	for request := range requests {
		switch request.Type {
		case "env":
			var variable struct{ Name, Value string }
			taken := ssh.Unmarshal(request.Payload, &variable) == nil && variable.Name == "GIT_PROTOCOL" && !s.RefuseEnvironment
			if taken {
				call.Protocol = variable.Value
			}
			answer(request, taken)
		case "exec":
			var command struct{ Line string }
			ok := ssh.Unmarshal(request.Payload, &command) == nil && call.parse(command.Line)
			answer(request, ok)
			if !ok {
				return
			}
			go ssh.DiscardRequests(requests)
			status := struct{ Status uint32 }{uint32(s.Serve(call))}
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
			return
		default:
			answer(request, false)
		}
	}
}

func answer(request *ssh.Request, ok bool) {
	if request.WantReply {
		_ = request.Reply(ok, nil)
	}
}

// parse takes the command apart that Git sends: git-upload-pack '/fleet.git'.
func (c *Call) parse(line string) bool {
	service, path, _ := strings.Cut(line, " ")
	if service != "git-upload-pack" && service != "git-receive-pack" {
		return false
	}
	path, quoted := strings.CutPrefix(path, "'")
	if quoted {
		path = strings.ReplaceAll(strings.TrimSuffix(path, "'"), `'\''`, "'")
	}
	c.Service, c.Path = service, path
	return true
}

// Run runs the service of native Git on a bare repository, which gets stdin and
// whose output goes to the call.
func (c *Call) Run(dir string, environment []string, stdin io.Reader) int {
	command := exec.CommandContext(c, "git", strings.TrimPrefix(c.Service, "git-"), dir)
	command.Env = append(environment, "GIT_PROTOCOL="+c.Protocol)
	command.Stdout, command.Stderr = c.Stdout, c.Stderr
	in, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		_, _ = fmt.Fprintln(c.Stderr, err)
		return 128
	}
	go func() { // Wait must not wait for a client that sends nothing more
		_, _ = io.Copy(in, stdin)
		_ = in.Close()
	}()
	if err := command.Wait(); err != nil {
		return 128
	}
	return 0
}

// NewKey makes a private key: ed25519, ecdsa or rsa.
func NewKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "ed25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case "ecdsa":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("keys of type %s are not made", kind)
}

// NewHostKey makes a host key.
func NewHostKey(kind string) (ssh.Signer, error) {
	private, err := NewKey(kind)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromSigner(private)
}
