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
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestTheBootstrapIsWhatItWas(t *testing.T) {
	made, err := bootstrap{
		Group: "global", XDSAddress: "127.0.0.1", XDSPort: 8001, ServerName: "xds.kubelb", Admin: "/var/lib/kubelb/global/admin.sock",
		Certificate: "/var/lib/kubelb/global/identity/certificate.yaml", Authority: "/var/lib/kubelb/global/identity/authority.yaml",
		IdentityDir: "/var/lib/kubelb/global/identity", Connections: 1000,
	}.yaml()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/bootstrap.yaml", made)
	files, err := Identity{Certificate: []byte("a\nb\n"), Key: []byte("<k>\n"), Authority: []byte("c: \"d\"\n"), ServerName: "xds.kubelb"}.files()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		golden(t, "testdata/"+filepath.Base(name), text)
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s", path, got)
	}
}

func TestNoEnvoyIsAllowedMoreFilesThanThereAre(t *testing.T) {
	for _, files := range []uint64{256, 1024, 20_000, 65_536, 1 << 20, math.MaxUint64} {
		s := sizesFor(files)
		if s.workers < 1 || s.workers > runtime.NumCPU() || s.listeners < 1 || s.connections < 1 {
			t.Errorf("%d files: %+v", files, s)
		}
		if used := uint64(s.workers*s.listeners + filesPerConn*s.connections); used > files {
			t.Errorf("%d files: %+v takes %d", files, s, used)
		}
	}
}
