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

package v1alpha1_test

import (
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
)

func TestWhatIsHeldInWords(t *testing.T) {
	port, policy, ranges, whole := v1alpha1.HeldField{Field: "spec.ports[http].port"}, v1alpha1.HeldField{Field: "spec.lbPolicy"},
		v1alpha1.HeldField{Field: "spec.loadBalancerSourceRanges"}, v1alpha1.HeldField{}
	for want, held := range map[string][]v1alpha1.HeldField{
		"":                      nil,
		"spec.ports[http].port": {port},
		"the whole document":    {whole},
		"spec.lbPolicy and spec.ports[http].port": {policy, port},
		"spec.lbPolicy and 2 more":                {policy, ranges, port},
	} {
		if got := v1alpha1.SummaryOf(held); got != want {
			t.Errorf("%+v is %q, want %q", held, got, want)
		}
	}
}
