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

package project_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/project"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = metav1.NewTime(time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC))

// input is testdata/<case>/in.yaml.
type input struct {
	OutOfScope   bool                   `json:"outOfScope"`
	NotHeard     bool                   `json:"notHeard"`
	NotAnswered  bool                   `json:"notAnswered"`
	Service      corev1.Service         `json:"service"`
	LoadBalancer *v1alpha1.LoadBalancer `json:"loadBalancer"`
	Backend      *v1alpha1.Backend      `json:"backend"`
	State        *v1alpha1.TenantState  `json:"state"`
	Problems     []v1alpha1.Problem     `json:"problems"`
}

// output is testdata/<case>/out.yaml.
type output struct {
	Changed bool                 `json:"changed"`
	Status  corev1.ServiceStatus `json:"status"`
	Events  []project.Event      `json:"events,omitempty"`
}

// TestGolden also projects onto each result again: nothing may change then, and
// nothing may be told twice.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range cases {
		dir := filepath.Dir(name)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			in := read(t, name)
			before := read(t, name)
			result := project.Service(in)
			if !reflect.DeepEqual(in, before) {
				t.Error("the input was changed")
			}
			compare(t, filepath.Join(dir, "out.yaml"), output{result.Changed, result.Status, result.Events})

			in.Service.Status = result.Status
			in.Now = metav1.NewTime(now.Add(time.Hour))
			if again := project.Service(in); again.Changed || len(again.Events) > 0 {
				t.Errorf("the second time: changed %v, events %v", again.Changed, again.Events)
			}
		})
	}
}

func TestRemindersComeWhileItLasts(t *testing.T) {
	begin := now.Time
	status := corev1.ServiceStatus{Conditions: []metav1.Condition{
		{Type: project.ConditionReady, Status: metav1.ConditionFalse, Reason: "NoEndpoints", LastTransitionTime: now},
		{Type: project.ConditionHeld, Status: metav1.ConditionTrue, Reason: "Held", Message: "held", LastTransitionTime: now},
		{Type: project.ConditionPending, Status: metav1.ConditionTrue, Reason: "Review", Message: "waits", LastTransitionTime: metav1.NewTime(begin.Add(10 * time.Minute))},
		{Type: "example.com/Theirs", Status: metav1.ConditionFalse, LastTransitionTime: now},
	}}
	unready := corev1.ServiceStatus{Conditions: status.Conditions[:1]}
	ready := corev1.ServiceStatus{Conditions: []metav1.Condition{{Type: project.ConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: now}}}
	const minute = time.Minute
	for name, c := range map[string]struct {
		status     corev1.ServiceStatus
		since, now time.Duration
		want       []string
		next       time.Duration
	}{
		"just told":                    {status, 0, 0, nil, 30 * minute},
		"not due":                      {status, 0, 29 * minute, nil, minute},
		"one is due":                   {status, 29 * minute, 30 * minute, []string{"Held"}, 10 * minute},
		"told in time":                 {status, 30 * minute, 31 * minute, nil, 9 * minute},
		"both are due":                 {status, minute, 45 * minute, []string{"Held", "PendingReview"}, 15 * minute},
		"once however long":            {status, minute, 24 * 60 * minute, []string{"Held", "PendingReview"}, 10 * minute},
		"the next day":                 {status, 24*60*minute - 1, 24 * 60 * minute, []string{"Held"}, 10 * minute},
		"of before the start":          {status, 24*60*minute + 1, 24*60*minute + 1, nil, 10*minute - 1},
		"not Ready and nothing else":   {unready, 29 * minute, 30 * minute, []string{"NoEndpoints"}, 30 * minute},
		"Ready":                        {ready, 0, 24 * 60 * minute, nil, 0},
		"a clock that was set forward": {status, -2 * 60 * minute, -2 * 60 * minute, nil, 30 * minute},
	} {
		t.Run(name, func(t *testing.T) {
			events, next := project.Reminders(c.status, begin.Add(c.since), begin.Add(c.now))
			var got []string
			for _, e := range events {
				got = append(got, e.Reason)
			}
			if !slices.Equal(got, c.want) || next != c.next {
				t.Errorf("%v, next in %v; want %v, %v", got, next, c.want, c.next)
			}
		})
	}
}

func read(t *testing.T, name string) project.Input {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var in input
	if err := yaml.UnmarshalStrict(data, &in); err != nil {
		t.Fatal(err)
	}
	return project.Input{
		Service: &in.Service, InScope: !in.OutOfScope, Heard: !in.NotHeard, Answered: !in.NotAnswered,
		Paths: []string{
			"tenants/acme/loadbalancers/shop/web.service.yaml",
			"tenants/acme/backends/shop/web.service.yaml",
			"tenants/acme/addresses/default.yaml",
		},
		LoadBalancer: in.LoadBalancer, Backend: in.Backend, State: in.State, Problems: in.Problems, Now: now,
	}
}

func compare(t *testing.T, name string, got output) {
	t.Helper()
	data, err := yaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(data) {
		t.Errorf("got\n%s\nwant\n%s", data, want)
	}
}
