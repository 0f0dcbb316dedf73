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

package gitsync

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/integrate"
	"github.com/kubelb/gitops/gitsync/report"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func decisionFor(tenant string, wishes int, facts ...string) *decision {
	d := &decision{tenant: newTenant(tenant), result: integrate.Result{Main: map[string][]byte{}}}
	for i := range wishes {
		d.result.Main[fmt.Sprintf("tenants/%s/loadbalancers/shop/web%d.service.yaml", tenant, i)] = []byte("x")
	}
	for _, fact := range facts {
		d.result.Main["tenants/"+tenant+"/"+fact] = []byte("x")
	}
	return d
}

func TestGroups(t *testing.T) {
	subject := func(_ *decision, path string) string { return path }
	nodes, backend := "addresses/default.yaml", "backends/shop/web.service.yaml"
	for _, c := range []struct {
		reason    string
		decisions []*decision
		want      []string
	}{
		{"nothing", []*decision{decisionFor("acme", 0)}, nil},
		{"facts come first and never with wishes", []*decision{decisionFor("acme", 1, nodes, backend), decisionFor("globex", 1, backend)},
			[]string{"acme: nodes, 1 backend", "globex: 1 backend",
				"tenants/acme/loadbalancers/shop/web0.service.yaml", "tenants/globex/loadbalancers/shop/web0.service.yaml"}},
		{"many wishes are one commit per tenant", []*decision{decisionFor("acme", 50, nodes), decisionFor("globex", 1)},
			[]string{"acme: nodes", "acme: 50 changes", "globex: 1 changes"}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			var got []string
			for _, g := range groups(c.decisions, subject) {
				got = append(got, g.subject)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if n := len(groups([]*decision{decisionFor("acme", maxSingle)}, subject)); n != maxSingle {
		t.Errorf("%d wishes make %d commits", maxSingle, n)
	}
}

func TestExplain(t *testing.T) {
	source := &v1alpha1.GitSource{Spec: v1alpha1.GitSourceSpec{URL: "https://hub:secret@git.example.com/fleet.git", Branch: "main"}}
	for _, c := range []struct {
		err     error
		reason  string
		stalled bool
	}{
		{git.ErrUnavailable, v1alpha1.ReasonGitUnavailable, false},
		{git.ErrUnauthorized, v1alpha1.ReasonAuthFailed, true},
		{git.ErrNotFound, v1alpha1.ReasonRepositoryInvalid, true},
		{git.ErrProtocol, v1alpha1.ReasonRepositoryInvalid, false},
		{&git.RejectedError{Ref: "refs/heads/main", Reason: "hook declined"}, v1alpha1.ReasonPushFailed, false},
		{git.ErrUnknownOutcome, v1alpha1.ReasonPushFailed, false},
		{&failure{reason: v1alpha1.ReasonMainRewritten, message: "m", stalled: true}, v1alpha1.ReasonMainRewritten, true},
		{errors.New("else"), "Failed", false},
	} {
		f := explain(fmt.Errorf("in a pass: %w", c.err), source)
		if f.reason != c.reason || f.stalled != c.stalled || f.message == "" || strings.Contains(f.message, "secret@") {
			t.Errorf("%v is %+v", c.err, f)
		}
	}
}

func TestConditionsKeepTheirTimes(t *testing.T) {
	first, second := metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
	stalled := &failure{reason: v1alpha1.ReasonMainRewritten, message: "m", stalled: true}
	once := setConditions(nil, stalled, "", 1, first)
	again := setConditions(once, stalled, "", 1, second)
	if !slices.Equal(once, again) || len(once) != 2 {
		t.Errorf("%+v became %+v", once, again)
	}
	good := setConditions(again, nil, "follows main", 1, second)
	if len(good) != 1 || good[0].Type != "Ready" || good[0].Status != metav1.ConditionTrue || good[0].LastTransitionTime != second {
		t.Errorf("good is %+v", good)
	}
	away := setConditions(good, &failure{reason: v1alpha1.ReasonGitUnavailable, message: "m"}, "", 1, second)
	if len(away) != 2 || away[1].Type != "Reconciling" {
		t.Errorf("away is %+v", away)
	}
}

func TestWhenNewsIsDue(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &loop{now: func() time.Time { return now }, source: &v1alpha1.GitSource{}}
	for _, c := range []struct {
		reason  string
		urgency report.Urgency
		status  statusBranch
		applied time.Time
		want    time.Time
	}{
		{"an address does not wait", report.Now, statusBranch{since: now, pushed: now, tip: git.Hash{1}}, now, now},
		{"other news waits for the last push", report.Later, statusBranch{since: now, pushed: now, tip: git.Hash{1}}, time.Time{}, now.Add(reportEvery)},
		{"what was decided does not", report.Decided, statusBranch{since: now, pushed: now, tip: git.Hash{1}}, time.Time{}, now},
		{"but for a moment where an address is on its way", report.Decided, statusBranch{since: now, tip: git.Hash{1}}, now, now.Add(answerSoon)},
		{"and not again and again", report.Decided, statusBranch{since: now.Add(-answerAtMost), tip: git.Hash{1}}, now, now},
		{"the first word does not wait", report.Later, statusBranch{since: now, pushed: now}, now, now},
	} {
		t.Run(c.reason, func(t *testing.T) {
			tenant := newTenant("acme")
			tenant.status, tenant.applied.recently = c.status, c.applied
			if got := l.dueAt(tenant, c.urgency); !got.Equal(c.want) {
				t.Errorf("due at %v, want %v", got.Sub(now), c.want.Sub(now))
			}
		})
	}
	l.source.Spec.MinPushInterval = &metav1.Duration{Duration: time.Minute}
	l.pushed = now
	tenant := newTenant("acme")
	tenant.status = statusBranch{since: now, tip: git.Hash{1}}
	if got := l.dueAt(tenant, report.Now); !got.Equal(now.Add(time.Minute)) {
		t.Errorf("minPushInterval is not kept: due in %v", got.Sub(now))
	}
}
