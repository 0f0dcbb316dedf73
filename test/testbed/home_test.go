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
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// abandonVariable makes this test binary a program that starts a bed and
// waits to be killed; see TestMain.
const abandonVariable = "KUBELB_BED_TEST_ABANDON"

// abandon starts a bed, prints its folder, and never returns.
func abandon() {
	bed, err := New(context.Background(), Options{Name: "abandoned", Tenants: []string{"acme"}, Nodes: 1})
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	if os.Getenv(abandonVariable) == "unwatched" {
		_ = bed.home.watchdog.Process.Kill()
		_ = bed.home.watchdog.Wait()
	}
	fmt.Println("bed:" + bed.Dir)
	select {}
}

// killOwner starts a bed in another process, kills that with kill -9 and
// returns the bed's folder.
func killOwner(t *testing.T, how string) string {
	t.Helper()
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), abandonVariable+"="+how)
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = owner.Process.Kill()
		_ = owner.Wait()
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if dir, ok := strings.CutPrefix(lines.Text(), "bed:"); ok {
			if len(members(dir+"/")) < 6 {
				t.Fatalf("want at least six processes in %s, there are %v", dir, members(dir+"/"))
			}
			return dir
		}
		t.Log(lines.Text())
	}
	t.Fatal("the other process ended without a bed")
	return ""
}

func left(dir string) error {
	if pids := members(dir + "/"); len(pids) > 0 {
		return fmt.Errorf("processes %v are left", pids)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		return fmt.Errorf("the folder %s is left", dir)
	}
	return nil
}

func TestTheWatchdogEndsABedWhoseOwnerWasKilled(t *testing.T) {
	dir := killOwner(t, "watched")
	eventually(t, "nothing is left", func() error { return left(dir) })
}

func TestTheNextStartEndsABedWhoseOwnerAndWatchdogWereKilled(t *testing.T) {
	dir := killOwner(t, "unwatched")
	if left(dir) == nil {
		t.Fatal("the bed is gone already: this test shows nothing")
	}
	h, err := newHome("next")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := left(dir); err != nil {
		t.Error(err)
	}
}

func TestTheNextStartEndsProcessesWhoseFolderIsGone(t *testing.T) {
	h, err := newHome("gone")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.close() }()
	sleeper, err := h.start(Command{Name: "sleeper", Path: "/bin/sleep", Args: []string{"600"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	next, err := newHome("next")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.close() }()
	if sleeper.Alive() && len(members(h.dir+"/")) > 0 {
		t.Error("the process still runs")
	}
}

func TestBedsOfOneMachineHaveTheirOwnFoldersAndSlots(t *testing.T) {
	one, err := newHome("one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := newHome("two") // sweeps, and leaves the living one alone
	if err != nil {
		t.Fatal(err)
	}
	if one.slot == two.slot || one.dir == two.dir {
		t.Errorf("slots %d and %d, folders %s and %s", one.slot, two.slot, one.dir, two.dir)
	}
	sleeper, err := one.start(Command{Name: "sleeper", Path: "/bin/sleep", Args: []string{"600"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*home{two, one} {
		if !sleeper.Alive() {
			t.Error("the end of one bed ended a process of the other")
		}
		if err := h.close(); err != nil {
			t.Error(err)
		}
		if err := left(h.dir); err != nil {
			t.Error(err)
		}
	}
	<-sleeper.Done()
}
