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
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	passes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelb_manager_gitsync_passes_total",
		Help: "Looks at the repository, by result.",
	}, []string{"gitsource", "result"})
	unverifiedPaths = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_unverified_paths",
		Help: "Files on main that nobody entitled has signed (GitSource.spec.verify).",
	}, []string{"gitsource"})
	passSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kubelb_manager_gitsync_pass_duration_seconds",
		Help:    "Time from looking at the refs until main is pushed.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
	}, []string{"gitsource"})
	pushes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelb_manager_gitsync_pushes_total",
		Help: "Pushes, by branch (main or status) and result.",
	}, []string{"gitsource", "branch", "result"})
	hooks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelb_manager_webhook_requests_total",
		Help: "Webhook requests, by result; gitsource is empty where there is none of that name.",
	}, []string{"gitsource", "result"})
	applies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelb_manager_gitsync_objects_total",
		Help: "Objects applied, pruned or put back, by result.",
	}, []string{"gitsource", "action", "result"})
	heldFields = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_held_fields",
		Help: "Fields of a tenant that people keep from following it.",
	}, []string{"tenant"})
	pendingFields = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_pending_fields",
		Help: "Fields of a tenant's intents that wait for review, the guard or a repair.",
	}, []string{"tenant"})
	tenantProblems = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_problems",
		Help: "Mistakes in a tenant's files and intents.",
	}, []string{"tenant"})
	sourceReady = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_gitsource_ready",
		Help: "1 while the repository of a GitSource is followed.",
	}, []string{"gitsource"})
)

var (
	reviewsOpen = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_reviews_open",
		Help: "Tenants with a proposal that waits for people.",
	}, []string{"gitsource"})
	forgeCalls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelb_manager_forge_lookups_total",
		Help: "Looks at a tenant's pull request, with what had to be changed of it, by result.",
	}, []string{"result"})
)

// measured are the tenants that are shown, as the loop knows them that showed them
// last: one that hands a tenant over takes nothing away from the next.
var measured = struct {
	sync.Mutex
	by map[string]*tenant
}{by: map[string]*tenant{}}

// measure shows what there is to tell of a tenant.
func (t *tenant) measure() {
	measured.Lock()
	defer measured.Unlock()
	measured.by[t.name] = t
	heldFields.WithLabelValues(t.name).Set(float64(len(t.outcome.Held)))
	pendingFields.WithLabelValues(t.name).Set(float64(len(t.outcome.Pending)))
	_, problems := t.problems()
	tenantProblems.WithLabelValues(t.name).Set(float64(problems))
}

// unmeasure is for a tenant that is gone, or that is another loop's.
func (t *tenant) unmeasure() {
	measured.Lock()
	defer measured.Unlock()
	if measured.by[t.name] != t {
		return
	}
	delete(measured.by, t.name)
	for _, gauge := range []*prometheus.GaugeVec{heldFields, pendingFields, tenantProblems} {
		gauge.DeleteLabelValues(t.name)
	}
}

// unmeasureSource is for a GitSource that is gone.
func unmeasureSource(key client.ObjectKey) {
	gone := prometheus.Labels{"gitsource": key.String()}
	for _, series := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		passes, passSeconds, pushes, hooks, applies, sourceReady, unverifiedPaths, reviewsOpen, renewals, storeObjects, storeBytes,
	} {
		series.DeletePartialMatch(gone)
	}
}

func init() {
	metrics.Registry.MustRegister(reviewsOpen, forgeCalls)
	metrics.Registry.MustRegister(unverifiedPaths, passes, passSeconds, pushes, hooks, applies, heldFields, pendingFields, tenantProblems, sourceReady)
}
