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

package hub

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

func TestNewsAreWhatChanged(t *testing.T) {
	is := func(kind, status, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: "about " + reason}
	}
	source := func(problems []v1alpha1.Problem, conditions ...metav1.Condition) *v1alpha1.GitSource {
		return &v1alpha1.GitSource{Status: v1alpha1.GitSourceStatus{ObjectStatus: v1alpha1.ObjectStatus{Conditions: conditions}, Problems: problems}}
	}
	tenant := func(problems []v1alpha1.Problem, conditions ...metav1.Condition) *v1alpha1.Tenant {
		return &v1alpha1.Tenant{Status: v1alpha1.TenantStatus{
			ObjectStatus: v1alpha1.ObjectStatus{Conditions: conditions}, Git: &v1alpha1.TenantGitStatus{Problems: problems},
		}}
	}
	config := func(conditions ...metav1.Condition) *v1alpha1.Config {
		return &v1alpha1.Config{Status: v1alpha1.ConfigStatus{ObjectStatus: v1alpha1.ObjectStatus{Conditions: conditions}}}
	}
	ok, away := is("Ready", "True", "Succeeded"), is("Ready", "False", "GitUnavailable")
	old := v1alpha1.Problem{Object: "Tenant acme", Reason: "Unverified", Message: "m", Remedy: "r"}
	for name, c := range map[string]struct {
		news []news
		want string
	}{
		"a GitSource that is followed":      {newsOf(source(nil), source(nil, ok)), "Normal Succeeded"},
		"nothing":                           {newsOf(source(nil, ok), source(nil, ok)), ""},
		"the Git server goes":               {newsOf(source(nil, ok), source(nil, away, is("Reconciling", "True", "ProgressingWithRetry"))), "Warning GitUnavailable"},
		"it goes on being away":             {newsOf(source(nil, away), source(nil, away)), ""},
		"it comes back":                     {newsOf(source(nil, away), source(nil, ok)), "Normal Succeeded"},
		"another reason":                    {newsOf(source(nil, away), source(nil, is("Ready", "False", "MainRewritten"))), "Warning MainRewritten"},
		"a webhook whose Secret is missing": {newsOf(source(nil, ok), source(nil, ok, is(v1alpha1.ConditionWebhookReady, "False", "SecretNotFound"))), "Warning SecretNotFound"},
		"a webhook that works at once":      {newsOf(source(nil, ok), source(nil, ok, is(v1alpha1.ConditionWebhookReady, "True", "Succeeded"))), ""},
		"a problem more":                    {newsOf(tenant([]v1alpha1.Problem{old}, ok), tenant([]v1alpha1.Problem{{Reason: "PushFailed"}, old}, ok)), "Warning PushFailed"},
		"a problem less":                    {newsOf(tenant([]v1alpha1.Problem{old}, ok), tenant(nil, ok)), ""},
		"a new Tenant":                      {newsOf(tenant(nil), tenant(nil, is("Ready", "False", "NotRestored"), is(v1alpha1.ConditionHeard, "False", "NoIntentYet"))), "Normal NotRestored"},
		"its CCM is heard":                  {newsOf(tenant(nil, ok, is(v1alpha1.ConditionHeard, "False", "NoIntentYet")), tenant(nil, ok, is(v1alpha1.ConditionHeard, "True", "IntentDecided"))), "Normal IntentDecided"},
		"a Config that is not in force":     {newsOf(config(ok), config(is("Ready", "False", "Invalid"))), "Warning Invalid"},
		"a Route":                           {newsOf(&v1alpha1.Route{}, &v1alpha1.Route{Status: v1alpha1.RouteStatus{Problems: []v1alpha1.Problem{old}}}), "Warning Unverified"},
	} {
		var words []string
		for _, n := range c.news {
			words = append(words, n.kind+" "+n.reason)
			if n.note == "" && n.reason != "PushFailed" {
				t.Errorf("%s: an Event says nothing", name)
			}
		}
		if got := strings.Join(words, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

type counter struct{ notes []string }

func (c *counter) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	c.notes = append(c.notes, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

// However often one object changes, and however many do, Events have a limit; and
// what tenants wrote is text in them.
func TestEventsHaveALimit(t *testing.T) {
	c := &counter{}
	h := newHeralds(nil, c)
	with := func(uid, reason string) *v1alpha1.Tenant {
		return &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}, Status: v1alpha1.TenantStatus{Git: &v1alpha1.TenantGitStatus{
			Problems: []v1alpha1.Problem{{Reason: reason, Message: "%s\x1b[2J" + strings.Repeat("x", 2000)}},
		}}}
	}
	for i := range 1000 {
		h.compare(with("one", "A"), with("one", fmt.Sprintf("B%d", i)))
	}
	if n := len(c.notes); n < eventsAtOnce || n > eventsAtOnce+2 {
		t.Errorf("one object made %d Events", n)
	}
	if note := c.notes[0]; strings.Contains(note, "\x1b") || !strings.Contains(note, `%s\u001b`) || len(note) > 1024 || !strings.HasPrefix(note, corev1.EventTypeWarning) {
		t.Errorf("the note is %q", note)
	}
	for i := range 1000 {
		h.compare(with(fmt.Sprint(i), "A"), with(fmt.Sprint(i), "B"))
	}
	if n := len(c.notes); n < eventsInAllOnce || n > eventsInAllOnce+100 {
		t.Errorf("all made %d Events", n)
	}
	h.forget(with("one", "A"))
	if h.byObject["one"] != nil || len(h.byObject) == 0 {
		t.Error("an object that is gone is remembered")
	}
}
