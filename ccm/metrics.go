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

package ccm

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubelb/gitops/gitsync/git"

	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

var buckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "kubelb", Subsystem: "ccm", Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "kubelb", Subsystem: "ccm", Name: name, Help: help}, labels)
}

func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "kubelb", Subsystem: "ccm", Name: name, Help: help, Buckets: buckets}, labels)
}

var (
	serviceTotal    = counter("service_reconcile_total", "Reconciliations of Services.", "namespace", "result")
	serviceDuration = histogram("service_reconcile_duration_seconds", "Time that a reconciliation of a Service took.", "namespace")
	secretTotal     = counter("sync_secret_reconcile_total", "Reconciliations of Secrets that go to the hub.", "namespace", "result")
	secretDuration  = histogram("sync_secret_reconcile_duration_seconds", "Time that a reconciliation of a Secret took.", "namespace")
	managedSecrets  = gauge("managed_secrets", "Secrets that have an intent.", "namespace")
	nodeTotal       = counter("node_reconcile_total", "Reconciliations of nodes.", "result")
	nodeDuration    = histogram("node_reconcile_duration_seconds", "Time that a reconciliation of nodes took.")
	nodeCount       = gauge("nodes", "Nodes whose addresses are published.")
	managedServices = gauge("managed_services", "Services that have an intent.", "namespace")
	gitConnected    = gauge("kubelb_cluster_connected", "1 while the Git repository that leads to the hub can be used.")
	gitLatency      = histogram("kubelb_cluster_latency_seconds", "Time that an operation on the Git repository took.", "operation")
	gitOperations   = counter("kubelb_cluster_operations_total", "Operations on the Git repository.", "operation", "result")
	hookRequests    = counter("webhook_requests_total", "Webhook requests, by result.", "result")
	storeObjects    = gauge("git_store_objects", "Objects of a branch in memory: of the intents or of the status.", "branch")
	storeRenewals   = counter("git_store_renewals_total", "How often the copy of a branch in memory was damaged and read anew.", "branch")
	intentGen       = gauge("intent_generation", "Generation of the intent commit pushed last.")
	observedGen     = gauge("observed_intent_generation", "Generation of the intent commit that the hub decided last.")
)

func init() {
	metrics.Registry.MustRegister(serviceTotal, serviceDuration, secretTotal, secretDuration, managedSecrets, nodeTotal, nodeDuration, nodeCount, managedServices,
		gitConnected, gitLatency, gitOperations, hookRequests, intentGen, observedGen, storeObjects, storeRenewals)
}

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "success"
}

func measureGit(operation string, begin time.Time, err error) {
	gitLatency.WithLabelValues(operation).Observe(time.Since(begin).Seconds())
	gitOperations.WithLabelValues(operation, result(err)).Inc()
	connected := 1.0
	if err != nil && !errors.Is(err, git.ErrRejected) {
		connected = 0
	}
	gitConnected.WithLabelValues().Set(connected)
}

// measured counts the reconciliations of Services or Secrets.
type measured struct {
	reconcile.Reconciler
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func (m measured) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	begin := time.Now()
	out, err := m.Reconciler.Reconcile(ctx, request)
	m.duration.WithLabelValues(request.Namespace).Observe(time.Since(begin).Seconds())
	m.total.WithLabelValues(request.Namespace, result(err)).Inc()
	return out, err
}

// measuredNodes counts the reconciliations of nodes.
type measuredNodes struct{ reconcile.Reconciler }

func (m measuredNodes) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	begin := time.Now()
	out, err := m.Reconciler.Reconcile(ctx, request)
	nodeDuration.WithLabelValues().Observe(time.Since(begin).Seconds())
	nodeTotal.WithLabelValues(result(err)).Inc()
	return out, err
}
