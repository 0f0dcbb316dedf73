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

package infra_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/go-logr/logr/testr"

	"github.com/kubelb/gitops/hub/infra"
	"github.com/kubelb/gitops/hub/pki"
)

const patience = 30 * time.Second

func TestEnvoyOutlivesTheHubAndIsAdopted(t *testing.T) {
	state := newState(t)
	stop := run(t, state)
	first := waitForEnvoy(t, state, 0)
	stop()
	if !alive(first) {
		t.Fatal("Envoy ended with the hub")
	}
	stop = run(t, state)
	eventually(t, "the second hub looks after Envoy", func() bool { return hubLocked(t, state) && pidOf(state) == first })
	kill(t, first)
	second := waitForEnvoy(t, state, first)
	stop()
	if !alive(second) {
		t.Error("the Envoy of the second hub ended with it")
	}
}

func TestAKilledEnvoyIsStartedAgain(t *testing.T) {
	state := newState(t)
	defer run(t, state)()
	first := waitForEnvoy(t, state, 0)
	kill(t, first)
	second := waitForEnvoy(t, state, first)
	if alive(first) || !alive(second) {
		t.Errorf("the first is alive: %t, the second: %t", alive(first), alive(second))
	}
}

func TestAnEnvoyThatIsNotWhatTheHubWantsIsReplaced(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, state *state){
		"it finds the hub at another port": func(_ *testing.T, s *state) { s.xds = netip.MustParseAddrPort("127.0.0.1:2") },
		"nothing is known of it":           func(t *testing.T, s *state) { remove(t, filepath.Join(s.dir, "global/envoy.json")) },
		"what is known of it is garbage": func(t *testing.T, s *state) {
			write(t, filepath.Join(s.dir, "global/envoy.json"), "garbage")
		},
		"another process has its number": func(t *testing.T, s *state) {
			known := readRecord(t, s)
			known["pid"] = os.Getpid() // with another start time
			text, _ := json.Marshal(known)
			write(t, filepath.Join(s.dir, "global/envoy.json"), string(text))
		},
		"its admin socket is gone": func(t *testing.T, s *state) { remove(t, filepath.Join(s.dir, "global/admin.sock")) },
	} {
		t.Run(name, func(t *testing.T) {
			state := newState(t)
			stop := run(t, state)
			first := waitForEnvoy(t, state, 0)
			stop()
			spoil(t, state)
			defer run(t, state)()
			second := waitForEnvoy(t, state, first)
			if alive(first) || !alive(second) {
				t.Errorf("the first is alive: %t, the second: %t", alive(first), alive(second))
			}
		})
	}
}

func TestTheStateDirectoryMayBeRemoved(t *testing.T) {
	state := newState(t)
	defer run(t, state)()
	first := waitForEnvoy(t, state, 0)
	if err := os.RemoveAll(state.dir); err != nil {
		t.Fatal(err)
	}
	kill(t, first)
	waitForEnvoy(t, state, first)
}

func TestAHubFindsItsEnvoyWithoutTheLock(t *testing.T) {
	state := newState(t)
	stop := run(t, state)
	first := waitForEnvoy(t, state, 0)
	stop()
	remove(t, filepath.Join(state.dir, "global/lock"))
	said := make(chan string, 100)
	defer runHost(t, newHost(t, state, funcr.New(func(_, text string) { said <- text }, funcr.Options{})))()
	select {
	case text := <-said:
		if !strings.Contains(text, `"Envoy adopted"`) || !strings.Contains(text, fmt.Sprintf(`"pid"=%d`, first)) {
			t.Errorf("the hub says %s, want that it adopted %d", text, first)
		}
	case <-time.After(patience):
		t.Fatal("the hub says nothing")
	}
	if all := envoysOf(t, state); !slices.Equal(all, []int{first}) {
		t.Errorf("Envoys %v, want %d alone", all, first)
	}
}

func TestALostLockLeavesOneEnvoy(t *testing.T) {
	state := newState(t)
	stop := run(t, state)
	waitForEnvoy(t, state, 0)
	stop()
	remove(t, filepath.Join(state.dir, "global/lock"))
	remove(t, filepath.Join(state.dir, "global/envoy.json")) // nothing to adopt it by
	defer run(t, state)()
	second := waitForEnvoy(t, state, 0)
	if all := envoysOf(t, state); !slices.Equal(all, []int{second}) {
		t.Errorf("Envoys %v, want %d alone", all, second)
	}
	remove(t, filepath.Join(state.dir, "global/lock"))
	if err := infra.Stop(t.Context(), state.dir); err != nil {
		t.Fatal(err)
	}
	if alive(second) {
		t.Error("Stop leaves an Envoy whose lock is gone")
	}
}

// A full disk lets nothing be written that is not there already.
func TestEnvoyStartsWithoutWriting(t *testing.T) {
	state := newState(t)
	defer run(t, state)()
	first := waitForEnvoy(t, state, 0)
	files := []string{"global/bootstrap.yaml", "global/identity/certificate.yaml", "global/identity/authority.yaml"}
	before := inodes(t, state, files)
	record := filepath.Join(state.dir, "global/envoy.json")
	remove(t, record)
	if err := os.MkdirAll(filepath.Join(record, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	kill(t, first)
	eventually(t, "another Envoy", func() bool {
		all := envoysOf(t, state)
		return len(all) == 1 && all[0] != first
	})
	second := envoysOf(t, state)
	eventually(t, "it answers", func() bool {
		conn, err := net.Dial("unix", filepath.Join(state.dir, "global/admin.sock"))
		return err == nil && conn.Close() == nil
	})
	if after := inodes(t, state, files); !slices.Equal(before, after) {
		t.Errorf("files %v that were right were written again: %v, then %v", files, before, after)
	}
	if now := envoysOf(t, state); !slices.Equal(now, second) {
		t.Errorf("Envoy %v was replaced by %v because it could not be recorded", second, now)
	}
}

func inodes(t *testing.T, s *state, files []string) (out []uint64) {
	t.Helper()
	for _, file := range files {
		info, err := os.Stat(filepath.Join(s.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, info.Sys().(*syscall.Stat_t).Ino)
	}
	return out
}

// envoysOf returns the living Envoys of a state directory.
func envoysOf(t *testing.T, s *state) (out []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), filepath.Join(s.dir, "global/bootstrap.yaml")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && alive(pid) {
			out = append(out, pid)
		}
	}
	return out
}

func TestAnAddressOfAnotherHubsEnvoyIsNotReached(t *testing.T) {
	state := newState(t)
	for name, test := range map[string]struct {
		dir   string
		other bool
	}{
		"another state directory": {"/another", true},
		"this state directory":    {state.dir, false},
	} {
		t.Run(name, func(t *testing.T) {
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			envoy := exec.Command(program, "-test.run=^TestStandInForEnvoy$", "--", "--config-path", test.dir+"/global/bootstrap.yaml", "--service-node", "global")
			envoy.Env = append(os.Environ(), standIn+"=1")
			envoy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			output, err := envoy.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := envoy.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = envoy.Process.Kill()
				_ = envoy.Wait()
			}()
			line, err := bufio.NewReader(output).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			err = newHost(t, state).Reach(t.Context(), netip.MustParseAddrPort(strings.TrimSpace(line)))
			if told := err != nil && strings.Contains(err.Error(), fmt.Sprintf("the Envoy of another hub on the same machine (process %d)", envoy.Process.Pid)); told != test.other {
				t.Errorf("got %v", err)
			}
		})
	}
}

const standIn = "KUBELB_TEST_STAND_IN"

// TestStandInForEnvoy is a program that listens and has the arguments of an Envoy.
func TestStandInForEnvoy(t *testing.T) {
	if os.Getenv(standIn) == "" {
		t.Skip("run by another test")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}

func TestStopLeavesNothing(t *testing.T) {
	state := newState(t)
	stop := run(t, state)
	envoy := waitForEnvoy(t, state, 0)
	stop()
	if err := infra.Stop(t.Context(), state.dir); err != nil {
		t.Fatal(err)
	}
	if alive(envoy) {
		t.Error("Envoy is still there")
	}
	if err := infra.Stop(t.Context(), state.dir); err != nil {
		t.Errorf("nothing was left to stop: %v", err)
	}
	if err := infra.Stop(t.Context(), filepath.Join(state.dir, "missing")); err != nil {
		t.Errorf("a state directory that never was: %v", err)
	}
}

func TestTheStatisticsNeedNoPort(t *testing.T) {
	state := newState(t)
	host := newHost(t, state)
	defer runHost(t, host)()
	waitForEnvoy(t, state, 0)
	server := httptest.NewServer(host.Stats("global"))
	defer server.Close()
	response, err := http.Get(server.URL + "/anything")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(text), "envoy_server_live") {
		t.Errorf("%v: %.300s", err, text)
	}
}

func TestTheSamePortIsTakenAfterARestart(t *testing.T) {
	dir := t.TempDir()
	first, err := infra.Listen(dir, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want := infra.Local(first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := infra.Listen(dir, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if got := infra.Local(second); got != want {
		t.Errorf("first %s, then %s", want, got)
	}
	if _, err := infra.Listen(dir, "127.0.0.1:0"); err == nil {
		t.Error("two hubs of one state directory listen on one port")
	}
}

func TestAHostThatCannotBeSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	write(t, text, "not a program")
	for name, test := range map[string]struct {
		options infra.Options
		run     bool
		want    string
	}{
		"Envoy is missing":       {infra.Options{StateDir: dir, Envoy: filepath.Join(dir, "none")}, false, "make tools"},
		"Envoy is no program":    {infra.Options{StateDir: dir, Envoy: text}, false, "not a program"},
		"the folder is a file":   {infra.Options{StateDir: text, Envoy: envoyPath(t)}, false, "--state-dir"},
		"the folder is too deep": {infra.Options{StateDir: filepath.Join(dir, strings.Repeat("deep", 20)), Envoy: envoyPath(t)}, true, "shorter --state-dir"},
	} {
		t.Run(name, func(t *testing.T) {
			host, err := infra.NewHost(test.options)
			if err == nil && test.run {
				err = host.Run(t.Context(), "global")
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to contain %q", err, test.want)
			}
		})
	}
}

func TestReach(t *testing.T) {
	host := newHost(t, newState(t))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := listener.Addr().(*net.TCPAddr).AddrPort()
	if err := host.Reach(t.Context(), at); err != nil {
		t.Errorf("somebody listens at %s: %v", at, err)
	}
	_ = listener.Close()
	if err := host.Reach(t.Context(), at); err == nil {
		t.Errorf("nobody listens at %s", at)
	}
}

// state is the state directory of a test and how its hubs are reached.
type state struct {
	dir string
	xds netip.AddrPort
}

func newState(t *testing.T) *state {
	t.Helper()
	dir, err := os.MkdirTemp("", "infra-") // short, for the socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := infra.Stop(context.Background(), dir); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return &state{dir: dir, xds: netip.MustParseAddrPort("127.0.0.1:1")}
}

func newHost(t *testing.T, s *state, logs ...logr.Logger) *infra.Host {
	t.Helper()
	log := testr.New(t)
	if len(logs) > 0 {
		log = logs[0]
	}
	authority, err := pki.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	host, err := infra.NewHost(infra.Options{
		StateDir: s.dir, Envoy: envoyPath(t), XDS: s.xds, Log: log,
		Identity: func(group string) (infra.Identity, error) {
			leaf, err := authority.Client(group, time.Now())
			return infra.Identity{
				Certificate: leaf.Certificate, Key: leaf.Key, Authority: authority.CertificatePEM(),
				ServerName: pki.ServerName, RenewAt: leaf.RenewAt,
			}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// run runs a hub's part until the function that it returns is called.
func run(t *testing.T, s *state) (stop func()) {
	t.Helper()
	return runHost(t, newHost(t, s))
}

func runHost(t *testing.T, host *infra.Host) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx, "global") }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func envoyPath(t *testing.T) string {
	t.Helper()
	given := os.Getenv("ENVOY")
	if given == "" {
		given = "../../.tools/bin/envoy"
	}
	path, err := infra.FindEnvoy(given)
	if err != nil {
		t.Skip(err)
	}
	return path
}

// waitForEnvoy returns the number of an Envoy that answers and is not the one given.
func waitForEnvoy(t *testing.T, s *state, not int) (pid int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "global/admin.sock"))
	}}}
	eventually(t, "an Envoy runs", func() bool {
		pid = pidOf(s)
		if pid == 0 || pid == not || pid == os.Getpid() || !alive(pid) {
			return false
		}
		response, err := client.Get("http://envoy/server_info")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil
	})
	return pid
}

func pidOf(s *state) int {
	text, err := os.ReadFile(filepath.Join(s.dir, "global/envoy.json"))
	var known struct{ PID int }
	if err != nil || json.Unmarshal(text, &known) != nil {
		return 0
	}
	return known.PID
}

func readRecord(t *testing.T, s *state) (known map[string]any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "global/envoy.json"))
	if err := errors.Join(err, json.Unmarshal(text, &known)); err != nil {
		t.Fatal(err)
	}
	return known
}

// hubLocked reports whether a hub looks after the state directory.
func hubLocked(t *testing.T, s *state) bool {
	t.Helper()
	file, err := os.Open(filepath.Join(s.dir, "global/hub.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
