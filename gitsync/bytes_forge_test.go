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
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/forge"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// liar is a forge that answers whatever it likes.
type liar struct{ pr forge.PullRequest }

func (f liar) Newest(context.Context, string, string) (forge.PullRequest, bool, error) {
	return f.pr, true, nil
}
func (f liar) Create(context.Context, forge.Proposal) (forge.PullRequest, error) { return f.pr, nil }
func (f liar) Update(context.Context, int64, string, string) (forge.PullRequest, error) {
	return f.pr, nil
}
func (f liar) Close(context.Context, int64) error { return nil }

// TestWhatAForgeAnswersIsBounded: what it says is recorded on base/main and shown.
func TestWhatAForgeAnswersIsBounded(t *testing.T) {
	hash := strings.Repeat("1", 40)
	look := func(pr forge.PullRequest) (pull, error) {
		return fulfil(t.Context(), liar{pr}, "review/acme", file{wish: wish{stance: watch}})
	}
	for _, number := range []int64{0, -1, math.MinInt64, math.MaxInt64, maxPull + 1} {
		if got, err := look(forge.PullRequest{Number: number, HeadCommit: hash}); err == nil {
			t.Errorf("number %d is taken: %+v", number, got)
		}
	}
	if _, err := look(forge.PullRequest{Number: 7, HeadCommit: hash, State: forge.Open}); err != nil {
		t.Error(err)
	}
	for _, bad := range badTexts {
		got, err := look(forge.PullRequest{Number: 7, HeadCommit: hash, URL: bad, Title: bad, Body: bad, State: forge.State(bad)})
		if err != nil || got.url != v1alpha1.Printable(got.url, maxPullURL) {
			t.Errorf("the address %.40q is shown as %.100q, %v", bad, got.url, err)
		}
		_, err = look(forge.PullRequest{Number: 7, HeadCommit: bad})
		if err == nil && bad != "" {
			t.Errorf("the commit %.40q is taken", bad)
		}
		if err != nil {
			if p := forgeProblem("acme", err); *p != p.Bounded() || p.Remedy == "" {
				t.Errorf("of %.40q is told %.200q", bad, *p)
			}
		}
	}
}

// TestConditionsOfWhatOthersWrite: a message of the Git server or of a tree's
// path stands in a condition.
func TestConditionsOfWhatOthersWrite(t *testing.T) {
	for _, bad := range badTexts {
		for _, c := range setConditions(nil, &failure{reason: "Failed", message: bad, stalled: true}, "", 1, metav1.NewTime(time.Unix(1, 0))) {
			if c.Message != v1alpha1.Printable(c.Message, maxCondition) {
				t.Errorf("%.40q is shown as %.100q", bad, c.Message)
			}
		}
	}
}
