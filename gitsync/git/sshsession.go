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

package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// maxWords is how much of what a server prints is kept.
const maxWords = 1 << 10

// sshSession is a service that runs at the server: what it says is read, what it
// is asked is sent.
type sshSession struct {
	ctx        context.Context
	connection *sshConnection
	stop       func() bool // ends the waiting for ctx

	session *ssh.Session // nil: not begun
	in      io.WriteCloser
	out     io.Reader
	words   words
	sent    atomic.Bool
	closing sync.Once
	end     error // once out has ended
}

func (s *sshSession) start(service, command string) error {
	session, err := s.connection.newSession()
	var refused *ssh.OpenChannelError
	switch {
	case errors.As(err, &refused):
		return &callError{kind: ErrUnavailable, cause: fmt.Errorf("the server opens no session: %s", printable(refused.Message, 200))}
	case err != nil:
		return err
	}
	s.session = session
	session.Stderr = &s.words
	if s.in, err = session.StdinPipe(); err != nil {
		return err
	}
	if s.out, err = session.StdoutPipe(); err != nil {
		return err
	}
	if service == uploadPack {
		// Nobody waits for an answer: what the server says next shows whether it
		// took this.
		payload := ssh.Marshal(struct{ Name, Value string }{"GIT_PROTOCOL", "version=2"})
		if _, err := session.SendRequest("env", false, payload); err != nil {
			return err
		}
	}
	err = session.Start(command)
	if err != nil && strings.HasSuffix(err.Error(), "failed") { // the server's answer, not the connection's end
		return &callError{kind: ErrProtocol, cause: fmt.Errorf("the server does not run %s", service)}
	}
	return err
}

// send writes a request. An error of it shows in the answer, which ends.
func (s *sshSession) send(body []byte) {
	s.sent.Store(true)
	go func() {
		_, _ = io.Copy(s.in, bytes.NewReader(body))
		_ = s.in.Close()
	}()
}

// Read reads what the service says. Where it ends with a failure, that is the
// error.
func (s *sshSession) Read(p []byte) (int, error) {
	if s.end != nil {
		return 0, s.end
	}
	n, err := s.out.Read(p)
	if err != nil {
		s.end = s.ended(err)
		err = s.end
	}
	return n, err
}

func (s *sshSession) ended(err error) error {
	if errors.Is(err, io.EOF) {
		err = s.session.Wait()
	}
	sent := s.sent.Load()
	var exit *ssh.ExitError
	switch {
	case s.ctx.Err() != nil:
		return &callError{kind: ErrUnavailable, cause: s.ctx.Err(), sent: sent}
	case err == nil:
		return io.EOF
	case errors.As(err, &exit):
		return s.words.explain(exit.ExitStatus(), sent)
	}
	return &callError{kind: ErrUnavailable, cause: errCutOff, sent: sent}
}

// Close ends the service. One that was asked nothing is told so.
func (s *sshSession) Close() error {
	s.closing.Do(func() {
		if s.session != nil {
			if s.in != nil && !s.sent.Load() && s.end == nil {
				_, _ = io.WriteString(s.in, "0000")
			}
			_ = s.session.Close()
		}
		s.stop()
		s.connection.release()
	})
	return nil
}

// words are what a service prints beside its answer.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p[:min(len(p), maxWords-min(maxWords, w.text.Len()))])
	return len(p), nil
}

// Servers say only in words why they refuse; these are Git's own and those of
// the forges.
var (
	wordsOfAbsence = []string{"not found", "does not exist", "does not appear to be a git repository", "could not be found", "no such"}
	wordsOfRefusal = []string{"denied", "unauthorized", "not authorized", "not allowed", "permission", "read only", "read-only", "forbidden"}
)

// explain is the error for a service that ended with a status other than 0.
func (w *words) explain(status int, sent bool) error {
	w.mu.Lock()
	text := printable(w.text.String(), 300)
	w.mu.Unlock()
	e := &callError{kind: ErrUnavailable, cause: fmt.Errorf("the server ends with status %d", status), sent: sent}
	if text != "" {
		e.cause = fmt.Errorf("%w: %q", e.cause, text)
	}
	says := func(words []string) bool {
		for _, word := range words {
			if strings.Contains(strings.ToLower(text), word) {
				return true
			}
		}
		return false
	}
	switch {
	case says(wordsOfAbsence):
		e.kind = ErrNotFound
	case says(wordsOfRefusal):
		e.kind = ErrUnauthorized
	}
	return e
}
