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

import "github.com/prometheus/client_golang/prometheus"

const metricsPrefix = "kubelb_envoy_control_plane_"

// metrics are counted where things happen; gauges are read when scraped.
type metrics struct {
	updates, hits, misses, clears, nacks *prometheus.CounterVec // by group
	requests, responses                  *prometheus.CounterVec // by type
	took                                 *prometheus.HistogramVec
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, labels)
}

func newMetrics() *metrics {
	const group = "snapshot_name"
	return &metrics{
		updates:   counter("snapshot_updates_total", "Publications that changed something.", group),
		hits:      counter("cache_hits_total", "Parts published again without a change.", group),
		misses:    counter("cache_misses_total", "Parts published with new content.", group),
		clears:    counter("cache_clears_total", "Parts removed.", group),
		nacks:     counter("nacks_total", "Responses that a proxy refused.", group, "type_url"),
		requests:  counter("grpc_requests_total", "Requests from proxies.", "type_url"),
		responses: counter("grpc_responses_total", "Responses to proxies.", "type_url"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricsPrefix + "snapshot_generation_duration_seconds",
			Help:    "Time that a publication took.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60},
		}, []string{group}),
	}
}

func (m *metrics) published(group string, done outcome) {
	if done.misses+done.clears > 0 {
		m.updates.WithLabelValues(group).Inc()
	}
	m.hits.WithLabelValues(group).Add(float64(done.hits))
	m.misses.WithLabelValues(group).Add(float64(done.misses))
	m.clears.WithLabelValues(group).Add(float64(done.clears))
	m.took.WithLabelValues(group).Observe(done.took.Seconds())
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.updates, m.hits, m.misses, m.clears, m.nacks, m.requests, m.responses, m.took}
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(metricsPrefix+name, help, labels, nil)
}

var (
	snapshotsGauge   = gauge("snapshots", "Groups that are served.")
	connectionsGauge = gauge("grpc_connections", "Proxies connected.")
	proxiesGauge     = gauge("connected_proxies", "Proxies connected to a group.", "snapshot_name")
	resourceGauges   = [kinds]*prometheus.Desc{
		clusters:    gauge("clusters", "Clusters of a group.", "snapshot_name"),
		assignments: gauge("endpoints", "Assignments of endpoints of a group.", "snapshot_name"),
		listeners:   gauge("listeners", "Listeners of a group.", "snapshot_name"),
	}
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(out chan<- *prometheus.Desc) {
	for _, c := range s.metrics.collectors() {
		c.Describe(out)
	}
	for _, d := range append(resourceGauges[:], snapshotsGauge, connectionsGauge, proxiesGauge) {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(out chan<- prometheus.Metric) {
	for _, c := range s.metrics.collectors() {
		c.Collect(out)
	}
	set := func(d *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	s.groupsMu.Lock()
	groups := make([]*group, 0, len(s.groups))
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	s.groupsMu.Unlock()
	snapshots, connections := 0, 0
	for _, g := range groups {
		g.mu.Lock()
		if g.open {
			snapshots++
		}
		connections += len(g.sessions)
		set(proxiesGauge, len(g.sessions), g.name)
		for k, d := range resourceGauges {
			set(d, len(g.desired[k]), g.name)
		}
		g.mu.Unlock()
	}
	set(snapshotsGauge, snapshots)
	set(connectionsGauge, connections)
}
