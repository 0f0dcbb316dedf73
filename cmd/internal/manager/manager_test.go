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

package manager

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// TestLoggedErrorsHaveNoStackTraces: what goes wrong is a line of the log, unless
// stack traces are asked for.
func TestLoggedErrorsHaveNoStackTraces(t *testing.T) {
	for args, traced := range map[string]bool{"": false, "--zap-stacktrace-level=error": true} {
		var o Options
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		o.AddFlags(flags, "0")
		if err := flags.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		zap.New(zap.UseFlagOptions(&o.logging), zap.WriteTo(&out)).Error(errors.New("no such thing"), "It cannot start")
		if has := strings.Contains(out.String(), ".go:"); has != traced || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("flags %q: a stack trace: %v, want %v:\n%s", args, has, traced, out.String())
		}
	}
}
