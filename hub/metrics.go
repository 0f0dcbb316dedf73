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
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	resultSuccess = "success"
	resultError   = "error"
)

var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// measures count from outside what reconcilers do, and what there is when
// somebody asks.
type measures struct {
	hub                        *hub
	lbTotal, tenantTotal       *prometheus.CounterVec
	lbDuration, tenantDuration *prometheus.HistogramVec
	syncTotal                  *prometheus.CounterVec
	syncDuration               *prometheus.HistogramVec
	lbs, tenantCount, assigned *prometheus.Desc
	notReady                   *prometheus.Desc
}

func newMeasures(registry prometheus.Registerer, h *hub) (*measures, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelb_manager_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelb_manager_" + name, Help: help, Buckets: buckets}, labels)
	}
	m := &measures{
		hub:            h,
		lbTotal:        counter("loadbalancer_reconcile_total", "Reconciliations of LoadBalancers.", "namespace", "result"),
		lbDuration:     histogram("loadbalancer_reconcile_duration_seconds", "How long a reconciliation of a LoadBalancer takes.", "namespace"),
		tenantTotal:    counter("tenant_reconcile_total", "Reconciliations of Tenants.", "result"),
		tenantDuration: histogram("tenant_reconcile_duration_seconds", "How long a reconciliation of a Tenant takes."),
		syncTotal:      counter("sync_secret_reconcile_total", "Reconciliations of SyncSecrets.", "namespace", "result"),
		syncDuration:   histogram("sync_secret_reconcile_duration_seconds", "How long a reconciliation of a SyncSecret takes.", "namespace"),
		lbs:            prometheus.NewDesc("kubelb_manager_loadbalancers", "LoadBalancers.", []string{"namespace", "tenant", "topology"}, nil),
		tenantCount:    prometheus.NewDesc("kubelb_manager_tenants", "Tenants.", nil, nil),
		assigned:       prometheus.NewDesc("kubelb_manager_loadbalancers_with_address", "LoadBalancers to which an address is assigned.", []string{"namespace", "tenant"}, nil),
	}
	m.notReady = prometheus.NewDesc("kubelb_manager_loadbalancers_not_ready", "LoadBalancers that are not Ready, by the reason of the condition.", []string{"tenant", "reason"}, nil)
	for _, c := range []prometheus.Collector{m.lbTotal, m.lbDuration, m.tenantTotal, m.tenantDuration, m.syncTotal, m.syncDuration, m} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("hub: register metrics: %w", err)
		}
	}
	return m, nil
}

// Describe is part of prometheus.Collector.
func (m *measures) Describe(out chan<- *prometheus.Desc) {
	out <- m.lbs
	out <- m.tenantCount
	out <- m.assigned
	out <- m.notReady
}

// Collect is part of prometheus.Collector.
func (m *measures) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	options := []client.ListOption{client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency}
	var tenants v1alpha1.TenantList
	var lbs v1alpha1.LoadBalancerList
	if m.hub.client.List(ctx, &tenants, options...) != nil || m.hub.client.List(ctx, &lbs, options...) != nil {
		return // the hub has not started yet
	}
	all, assigned := map[string]int{}, map[string]int{}
	type why struct{ namespace, reason string }
	not := map[why]int{}
	for i := range tenants.Items {
		all[v1alpha1.TenantNamespace(tenants.Items[i].Name)] = 0
	}
	for i := range lbs.Items {
		all[lbs.Items[i].Namespace]++
		if len(lbs.Items[i].Status.Addresses) > 0 {
			assigned[lbs.Items[i].Namespace]++
		}
		if c, is := v1alpha1.NotReady(lbs.Items[i].Status.Conditions); is {
			not[why{lbs.Items[i].Namespace, c.Reason}]++
		}
	}
	for w, n := range not {
		tenant, _ := tenantOf(w.namespace)
		out <- prometheus.MustNewConstMetric(m.notReady, prometheus.GaugeValue, float64(n), tenant, w.reason)
	}
	out <- prometheus.MustNewConstMetric(m.tenantCount, prometheus.GaugeValue, float64(len(tenants.Items)))
	for namespace, n := range all {
		tenant, _ := tenantOf(namespace)
		out <- prometheus.MustNewConstMetric(m.lbs, prometheus.GaugeValue, float64(n), namespace, tenant, string(v1alpha1.TopologyGlobal))
		out <- prometheus.MustNewConstMetric(m.assigned, prometheus.GaugeValue, float64(assigned[namespace]), namespace, tenant)
	}
}

func (m *measures) loadBalancers(inner reconcile.Reconciler) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		begin := time.Now()
		result, err := inner.Reconcile(ctx, request)
		err = unlessEnded(ctx, err)
		m.lbTotal.WithLabelValues(request.Namespace, resultOf(err)).Inc()
		m.lbDuration.WithLabelValues(request.Namespace).Observe(time.Since(begin).Seconds())
		return result, err
	})
}

func (m *measures) tenants(inner reconcile.Reconciler) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		begin := time.Now()
		result, err := inner.Reconcile(ctx, request)
		err = unlessEnded(ctx, err)
		m.tenantTotal.WithLabelValues(resultOf(err)).Inc()
		m.tenantDuration.WithLabelValues().Observe(time.Since(begin).Seconds())
		return result, err
	})
}

func (m *measures) syncSecrets(inner reconcile.Reconciler) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		begin := time.Now()
		result, err := inner.Reconcile(ctx, request)
		err = unlessEnded(ctx, err)
		m.syncTotal.WithLabelValues(request.Namespace, resultOf(err)).Inc()
		m.syncDuration.WithLabelValues(request.Namespace).Observe(time.Since(begin).Seconds())
		return result, err
	})
}

// unlessOver drops the errors of a reconciler whose hub ends.
func unlessOver(inner reconcile.Reconciler) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		result, err := inner.Reconcile(ctx, request)
		return result, unlessEnded(ctx, err)
	})
}

// unlessEnded drops what fails because the hub ends.
func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

func resultOf(err error) string {
	if err != nil {
		return resultError
	}
	return resultSuccess
}
