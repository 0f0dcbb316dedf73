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
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// faults are what the Git server was told to do wrong.
type faults struct {
	delay   time.Duration
	failing int // requests still to fail
	status  int // with this
	cuts    int // answers to pushes still to cut
	fetches int // answers to fetches still to cut
	refuse  bool
	full    bool // git may write no file
}

// SetDelay makes every request wait first; a long delay is a server that
// accepts and does not answer. Zero ends it, also for requests that wait.
func (g *GitServer) SetDelay(delay time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults.delay = delay
}

// FailNext answers the next n requests with an HTTP status.
func (g *GitServer) FailNext(n, status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults.failing, g.faults.status = n, status
}

// CutNextPushes breaks the connection in the middle of the answer to the next
// n pushes that git has received: their outcome is unknown to the client.
func (g *GitServer) CutNextPushes(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults.cuts = n
}

// CutNextFetches sends only the first half of the answers to the next n fetches:
// a pack that is cut off, in an answer that looks whole.
func (g *GitServer) CutNextFetches(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults.fetches = n
}

// FetchesToCut is how many of them are left.
func (g *GitServer) FetchesToCut() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.faults.fetches
}

// RefuseCredentials answers everyone with 401, or ends that.
func (g *GitServer) RefuseCredentials(refuse bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults.refuse = refuse
}

// SetDiskFull lets git write no file any more, as on a full disk, or ends that.
// Git itself answers then.
func (g *GitServer) SetDiskFull(full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults.full = full
}

func (g *GitServer) diskFull() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.faults.full
}

// Damage cuts the file of a loose object to half its size, as a crash or a bad
// disk does, and returns what makes it whole again.
func (r *Repository) Damage(hash string) (repair func() error, err error) {
	file := filepath.Join(r.Dir, "objects", hash[:2], hash[2:])
	whole, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	write := func(data []byte) error {
		if err := os.Remove(file); err != nil {
			return err
		}
		return os.WriteFile(file, data, 0o400)
	}
	return func() error { return write(whole) }, write(whole[:len(whole)/2])
}

// takeFault waits as long as requests are to wait and says what is to go wrong
// with this one.
func (g *GitServer) takeFault(ctx context.Context) faults {
	begin := time.Now()
	for {
		g.mu.Lock()
		left := g.faults.delay - time.Since(begin)
		if left <= 0 || ctx.Err() != nil {
			break // with the lock
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(min(left, 20*time.Millisecond)):
		}
	}
	defer g.mu.Unlock()
	fault := faults{refuse: g.faults.refuse}
	if g.faults.failing > 0 {
		g.faults.failing--
		fault.status = g.faults.status
	}
	return fault
}

func (g *GitServer) takeCut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.faults.cuts == 0 {
		return false
	}
	g.faults.cuts--
	return true
}

func (g *GitServer) takeFetchCut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.faults.fetches == 0 {
		return false
	}
	g.faults.fetches--
	return true
}

// halfAnswer sends the first half of an answer as if it were all.
func halfAnswer(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
}

// cutAnswer sends the first half of an answer and breaks the connection.
func cutAnswer(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
