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
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kubelb/gitops/test/sshd"
)

// startSSH serves the same repositories over SSH. Keys of users open them, and
// the user in a URL does not count, as on forges.
func (g *GitServer) startSSH() error {
	key, err := sshd.NewHostKey("ed25519")
	if err != nil {
		return err
	}
	g.ssh = &sshd.Server{HostKeys: []ssh.Signer{key}, Authorize: g.owner, Serve: g.serveSSH}
	if err := g.ssh.Start("127.0.0.1:0"); err != nil {
		return err
	}
	g.sshAddress = g.ssh.Address()
	return nil
}

// AddKey gives a user a new key and returns the private half. A user's older
// keys open nothing any more.
func (g *GitServer) AddKey(user string) (identity string, err error) {
	private, err := sshd.NewKey("ed25519")
	if err != nil {
		return "", err
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(private, user)
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys[user] = string(signer.PublicKey().Marshal())
	return string(pem.EncodeToMemory(block)), nil
}

// KnownHosts are the host keys of the server over SSH, as known_hosts has them.
func (g *GitServer) KnownHosts() string { return g.ssh.KnownHosts() }

// ReplaceHostKey has the server show another host key over SSH from now on, and
// breaks the connections there are.
func (g *GitServer) ReplaceHostKey() error {
	key, err := sshd.NewHostKey("ed25519")
	if err != nil {
		return err
	}
	g.ssh.SetHostKeys(key)
	g.ssh.Break()
	return nil
}

// SSHURL is the repository's address over SSH.
func (r *Repository) SSHURL() string {
	return "ssh://git@" + r.server.sshAddress + "/" + r.Name + ".git"
}

func (g *GitServer) owner(key ssh.PublicKey) (user string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for user, known := range g.keys {
		if known == string(key.Marshal()) {
			return user, !g.faults.refuse
		}
	}
	return "", false
}

// serveSSH is the life of one service: faults, rules, git, webhooks.
func (g *GitServer) serveSSH(c *sshd.Call) int {
	begin := time.Now()
	kind, status := "denied", 1
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.requests["ssh-"+kind]++
		_, _ = fmt.Fprintf(g.log, "%s %6.1fms %d ssh-%s %s %s\n", begin.Format(time.RFC3339Nano),
			float64(time.Since(begin).Microseconds())/1000, status, kind, c.User, c.Path)
	}()
	if fault := g.takeFault(c); fault.status != 0 {
		_, _ = fmt.Fprintln(c.Stderr, "the Git server fails as it was told to")
		return status
	}
	repository := g.Repository(strings.TrimSuffix(strings.Trim(c.Path, "/"), ".git"))
	if repository == nil {
		_, _ = fmt.Fprintln(c.Stderr, "ERROR: Repository not found.")
		return status
	}
	if c.Service == "git-upload-pack" {
		kind = "fetch"
		status = c.Run(repository.Dir, g.home.gitEnvironment("git"), c.Stdin)
		return status
	}
	push := &sshPush{user: c.User, repository: repository, in: c.Stdin, out: c.Stdout}
	c.Stdout = push
	status = c.Run(repository.Dir, g.home.gitEnvironment("git"), push)
	if kind = push.end(g, c); kind == "denied" {
		status = 1
	}
	return status
}

// sshPush stands between a client that pushes and git: commands that break the
// rules do not reach git, and the answer can be cut.
type sshPush struct {
	user       string
	repository *Repository
	in         io.Reader
	out        io.Writer

	mu       sync.Mutex
	begun    bool // the commands were read
	commands io.Reader
	updates  []RefUpdate
	refused  bool
	answer   bytes.Buffer // of git, after the commands
}

// Read hands to git what the client sends, once the commands are found good.
func (p *sshPush) Read(b []byte) (int, error) {
	if p.commands == nil {
		if err := p.begin(); err != nil {
			return 0, err
		}
	}
	if n, err := p.commands.Read(b); n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	return p.in.Read(b)
}

func (p *sshPush) begin() error {
	var text bytes.Buffer
	for !bytes.HasSuffix(text.Bytes(), []byte("0000")) || text.Len() < 4 {
		if err := copyPacket(&text, p.in); err != nil {
			return err
		}
	}
	request, err := parsePush(text.Bytes())
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.updates = true, request.updates
	if refused := p.repository.refused(p.user, request.updates); len(refused) > 0 {
		p.refused = true
		_, _ = p.out.Write(refusal(request, p.user, refused))
		return io.EOF
	}
	p.commands = &text
	return nil
}

// copyPacket copies one pkt-line.
func copyPacket(to *bytes.Buffer, from io.Reader) error {
	var size int
	head := make([]byte, 4)
	if _, err := io.ReadFull(from, head); err != nil {
		return err
	}
	if _, err := fmt.Sscanf(string(head), "%04x", &size); err != nil {
		return err
	}
	_, _ = to.Write(head)
	_, err := io.CopyN(to, from, int64(max(size-4, 0)))
	return err
}

// Write hands to the client what git says before it was asked, and keeps its
// answer.
func (p *sshPush) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun {
		return p.answer.Write(b)
	}
	return p.out.Write(b)
}

// end tells the webhooks and sends git's answer, or half of it.
func (p *sshPush) end(g *GitServer, c *sshd.Call) (kind string) {
	if p.refused {
		return "denied"
	}
	p.repository.notify(p.user, p.updates)
	if len(p.updates) > 0 && g.takeCut() {
		_, _ = p.out.Write(p.answer.Bytes()[:p.answer.Len()/2])
		c.Abort()
		return "push"
	}
	_, _ = p.out.Write(p.answer.Bytes())
	return "push"
}

// BreakSSH ends the connections over SSH. Clients may connect again.
func (g *GitServer) BreakSSH() { g.ssh.Break() }
