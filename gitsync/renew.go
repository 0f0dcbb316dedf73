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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubelb/gitops/gitsync/git"

	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	renewals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelb_manager_gitsync_store_renewals_total",
		Help: "How often the copy of the repository in memory was damaged and read anew.",
	}, []string{"gitsource"})
	storeObjects = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_gitsync_store_objects",
		Help: "Objects of the repository in memory, with those of intent sources that it follows.",
	}, []string{"gitsource"})
	storeBytes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubelb_manager_gitsync_store_bytes",
		Help: "Size of the objects of the repository in memory, with those of intent sources that it follows.",
	}, []string{"gitsource"})
)

func init() { metrics.Registry.MustRegister(renewals, storeObjects, storeBytes) }

// anew is the loop that takes the place of one whose copy is damaged. It knows what
// limits that, and the hub's keys, which may be others by now than the hub began
// with.
func (l *loop) anew(s *supervisor) *loop {
	next := newLoop(l.key, s, l.inbox)
	next.renewal, next.keys, next.signer = l.renewal, l.keys, l.signer
	return next
}

// measureStore shows what the copy of the repository takes, and those of intent
// sources.
func (l *loop) measureStore() {
	stats := l.store.Stats()
	for _, k := range l.links {
		linked := k.store.Stats()
		stats.Objects += linked.Objects
		stats.Bytes += linked.Bytes
	}
	storeObjects.WithLabelValues(l.key.String()).Set(float64(stats.Objects))
	storeBytes.WithLabelValues(l.key.String()).Set(float64(stats.Bytes))
}

var errDamaged = errors.New("the copy of the repository is damaged")

// suspectMissing is for what a tenant's files may also be to blame for: all that
// they need was there when they were fetched, but they can be malformed. It reports
// whether something is missing: if the loop may not begin anew yet, it has to look
// again.
func (l *loop) suspectMissing(err error) bool {
	missing := errors.Is(err, git.ErrMissing)
	if missing {
		l.suspect(err)
	}
	return missing
}

// suspect has the loop begin anew when an error says that its copy of the
// repository is damaged. That is what a restart of the hub does, which every step
// is made for, and it brings back whatever the server has.
func (l *loop) suspect(err error) {
	if l.damaged || !git.Damaged(err) || !l.renewal.Begin(l.now()) {
		return
	}
	l.damaged = true
	renewals.WithLabelValues(l.key.String()).Inc()
	l.log.Info("the copy of the repository is damaged and is read anew", "error", err.Error())
}
