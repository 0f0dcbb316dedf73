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

package v1alpha1

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMainSources(t *testing.T) {
	source := func(name string) GitSource {
		return GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: "kubelb", Name: name}}
	}
	tenant := func(main, intents string) Tenant {
		var tenant Tenant
		if main != "" {
			tenant.Spec.Git.SourceRef = &LocalReference{Name: main}
		}
		if intents != "" {
			tenant.Spec.Git.IntentSourceRef = &LocalReference{Name: intents, Namespace: "kubelb"}
		}
		return tenant
	}
	stranger := source("evil")
	stranger.Namespace = "neighbour"
	sources := []GitSource{source("fleet"), source("apart"), stranger}
	for name, c := range map[string]struct {
		tenants []Tenant
		want    []string
	}{
		"nobody names any":                   {nil, []string{"kubelb/apart", "kubelb/fleet"}},
		"one only lends":                     {[]Tenant{tenant("", "apart")}, []string{"kubelb/fleet"}},
		"one lends and has tenants":          {[]Tenant{tenant("", "apart"), tenant("apart", "")}, []string{"kubelb/apart", "kubelb/fleet"}},
		"one that there is not lends":        {[]Tenant{tenant("", "gone")}, []string{"kubelb/apart", "kubelb/fleet"}},
		"a tenant of its own branch's lends": {[]Tenant{tenant("apart", "apart")}, []string{"kubelb/apart", "kubelb/fleet"}},
	} {
		var got []string
		for _, key := range MainSources(c.tenants, sources, "kubelb") {
			got = append(got, key.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
