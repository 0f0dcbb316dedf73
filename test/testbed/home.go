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
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// membership is the environment variable that marks the processes of a bed.
const membership = "KUBELB_BED"

// slots is how many beds one machine can hold.
const slots = 60

// home is the folder of one bed, with what keeps it apart from other beds and
// cleans up after it. Whoever holds the lock on the folder owns the bed.
type home struct {
	dir      string
	slot     int
	lock     *os.File     // the locked folder; the kernel unlocks it when we die
	slotLock net.Listener // an abstract socket: machine-wide, leaves no file
	lifeline io.Closer    // the watchdog acts when this is closed, also by our death
	watchdog *exec.Cmd
}

// beds is the folder of all beds of this user.
func beds() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("kubelb-bed-%d", os.Getuid()))
}

// newHome cleans up after beds whose owner is gone and makes a new folder.
func newHome(name string) (*home, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("the test bed needs Linux (loopback addresses 127.0.0.0/8 and /proc); this is %s", runtime.GOOS)
	}
	h := &home{}
	var err error
	if h.slot, h.slotLock, err = takeSlot(); err != nil {
		return nil, err
	}
	// A bed that closes at this moment may remove the folder of all beds.
	for range 10 {
		if err = h.makeFolder(name); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err == nil {
		err = h.startWatchdog()
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *home) makeFolder(name string) error {
	root := beds()
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	all, locked, err := lockFolder(root, true)
	if err != nil || !locked {
		return err
	}
	defer func() { _ = all.Close() }()
	if err := ownedByUs(all); err != nil {
		return err
	}
	if err := sweep(root); err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp(root, name+"-"); err != nil {
		return err
	}
	h.lock, _, err = lockFolder(h.dir, false)
	return err
}

// sweep removes beds whose owner is gone. The caller holds the lock on root.
func sweep(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		lock, locked, err := lockFolder(dir, false)
		if errors.Is(err, os.ErrNotExist) || (err == nil && !locked) {
			continue // just closed, or alive
		}
		if err != nil {
			return err
		}
		err = errors.Join(killMembers(dir+"/"), os.RemoveAll(dir))
		_ = lock.Close()
		if err != nil {
			return fmt.Errorf("clean up after the bed %s: %w", dir, err)
		}
	}
	// Processes may outlive the folder of their bed when someone removed it.
	return kill(func(membership string) bool {
		name, ok := strings.CutPrefix(membership, root+"/")
		if !ok {
			return false
		}
		name, _, _ = strings.Cut(name, "/")
		_, err := os.Stat(filepath.Join(root, name))
		return errors.Is(err, os.ErrNotExist)
	})
}

// lockFolder opens and locks a folder; locked is false when another process
// has it and we are not to wait.
func lockFolder(dir string, wait bool) (folder *os.File, locked bool, err error) {
	folder, err = os.Open(dir)
	if err != nil {
		return nil, false, err
	}
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if wait {
		how = syscall.LOCK_EX
	}
	for {
		err = syscall.Flock(int(folder.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = folder.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("lock %s: %w", dir, err)
	}
	return folder, true, nil
}

func ownedByUs(folder *os.File) error {
	info, err := folder.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to another user: remove it or set TMPDIR to another folder", folder.Name())
	}
	return nil
}

func takeSlot() (int, net.Listener, error) {
	for slot := range slots {
		// The name of an abstract socket exists once per machine and ends with its owner.
		if lock, err := net.Listen("unix", fmt.Sprintf("@kubelb-gitops-bed-%d", slot)); err == nil {
			return slot, lock, nil
		}
	}
	return 0, nil, fmt.Errorf("%d test beds run on this machine already: close one", slots)
}

// watchdogScript waits until its input ends, which it does when the owner of
// the bed closes it or dies, and then removes what is left of the bed.
const watchdogScript = `
cat >/dev/null
for try in 1 2 3 4 5; do
  members=$(grep -lsF "` + membership + `=$1/" /proc/[0-9]*/environ)
  [ -n "$members" ] || break
  for member in $members; do
    pid=${member#/proc/}
    kill -9 "${pid%/environ}" 2>/dev/null
  done
done
rm -rf "$1"
rmdir "${1%/*}" 2>/dev/null
`

func (h *home) startWatchdog() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	h.lifeline = write
	h.watchdog = exec.Command("/bin/sh", "-c", watchdogScript, "kubelb-bed-watchdog", h.dir)
	h.watchdog.Stdin = read
	h.watchdog.Dir = "/"
	// A session of its own: neither Ctrl-C nor a closed terminal reaches it.
	h.watchdog.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := h.watchdog.Start(); err != nil {
		h.watchdog = nil
		return fmt.Errorf("start the watchdog of the bed: %w", err)
	}
	return nil
}

// close ends what still runs in the bed and removes its folder.
func (h *home) close() error {
	var err error
	if h.dir != "" {
		err = errors.Join(killMembers(h.dir+"/"), os.RemoveAll(h.dir))
		_ = os.Remove(filepath.Dir(h.dir)) // goes with the last bed
	}
	if h.lifeline != nil {
		_ = h.lifeline.Close()
	}
	if h.watchdog != nil {
		_ = h.watchdog.Wait()
	}
	if h.lock != nil {
		_ = h.lock.Close()
	}
	if h.slotLock != nil {
		_ = h.slotLock.Close()
	}
	return err
}

// killMembers kills every process whose membership begins with prefix, until
// none is left.
func killMembers(prefix string) error {
	return kill(func(membership string) bool { return strings.HasPrefix(membership, prefix) })
}

// kill kills every process of a bed whose membership is chosen, until none is
// left.
func kill(chosen func(membership string) bool) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		pids := membersWhere(chosen)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond) // the kernel takes a moment to bury them
	}
}

// members are the processes whose membership begins with prefix.
func members(prefix string) []int {
	return membersWhere(func(membership string) bool { return strings.HasPrefix(membership, prefix) })
}

func membersWhere(chosen func(membership string) bool) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	var pids []int
	for _, file := range files {
		environment, err := os.ReadFile(file) // empty for a zombie, refused for others' processes
		if err != nil {
			continue
		}
		for variable := range strings.SplitSeq(string(environment), "\x00") {
			value, ok := strings.CutPrefix(variable, membership+"=")
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); ok && err == nil && pid != os.Getpid() && chosen(value) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}
