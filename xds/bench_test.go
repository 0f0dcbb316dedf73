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

package xds

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/kubelb/gitops/xds/ir"
)

// BenchmarkChange is one change of endpoints, from publication to the verdict,
// among many owners. The number of owners should not matter.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bed := start(b)
			bed.publish("edge", many(n))
			bed.Open("edge")
			p := bed.connect("edge", nil, nil)
			eventually(b, "all are there", func() bool { return p.count(listeners) == n })
			programmed := make(chan struct{}, 1)
			var hash atomic.Value
			hash.Store("")
			bed.Subscribe(func(string, []string) {
				if v, _ := bed.Verdict("edge", "lb-00042"); v.Programmed && hash.CompareAndSwap(v.Hash, "") {
					programmed <- struct{}{}
				}
			})
			b.ResetTimer()
			for i := range b.N {
				part := lb("lb-00042", "127.9.0.43", 8080, fmt.Sprintf("127.0.0.1:%d", 1+i%60000))
				hash.Store(part.Hash())
				bed.publish("edge", map[string]*ir.Part{"lb-00042": part})
				<-programmed
			}
		})
	}
}
