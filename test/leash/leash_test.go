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

package leash

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// suite is set in the process that plays a suite.
const suite = "LEASH_SUITE"

func TestTheAPIServerEndsWithASuiteThatIsKilled(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set")
	}
	if os.Getenv(suite) != "" {
		play()
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), suite+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) != 4 {
		t.Fatalf("the suite says %q: %v", line, err)
	}
	for _, word := range words {
		if _, err := os.Stat(word); err != nil {
			t.Fatalf("%s before the suite is killed: %v", word, err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	limit := time.After(time.Minute)
	for _, word := range words {
		for _, err := os.Stat(word); err == nil; _, err = os.Stat(word) {
			select {
			case <-limit:
				t.Fatalf("%s outlives the suite", word)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// play starts an API server, says which processes and folders it has, and waits
// to be killed.
func play() {
	environment := &envtest.Environment{}
	_, err := environment.Start()
	if err == nil {
		err = Tie(environment)
	}
	pids, _ := children()
	if err != nil || len(pids) != 2 {
		fmt.Println("error:", err, pids)
		os.Exit(1)
	}
	fmt.Println(filepath.Join("/proc", pids[0]), filepath.Join("/proc", pids[1]),
		environment.ControlPlane.Etcd.DataDir, environment.ControlPlane.APIServer.CertDir)
	time.Sleep(time.Hour)
}
