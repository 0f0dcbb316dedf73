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
	"net/netip"
	"strings"
	"sync"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=configs,verbs=get;list;watch
// +kubebuilder:rbac:groups=kubelb.k8c.io,resources=configs/status,verbs=get;patch;update

// configuration is the Config that is in force. One that is not valid never is:
// the one before it stays.
type configuration struct {
	mu    sync.Mutex
	valid *v1alpha1.Config
	once  sync.Once
	first chan struct{} // closed when there is a valid one
}

func newConfiguration() *configuration { return &configuration{first: make(chan struct{})} }

// current returns the Config in force, nil if there was no valid one yet. It
// must not be changed.
func (c *configuration) current() *v1alpha1.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.valid
}

// take puts a Config in force if nothing is wrong with it.
func (c *configuration) take(config *v1alpha1.Config) []v1alpha1.Problem {
	problems := validateConfig(config)
	if len(problems) > 0 {
		return problems
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.valid = config.DeepCopy() // the caller writes the status of its own
	c.once.Do(func() { close(c.first) })
	return nil
}

// instead says what is in force in place of a Config that is not.
func (h *hub) instead(config *v1alpha1.Config) string {
	if client.ObjectKeyFromObject(config) != h.configKey() {
		return ""
	}
	if valid := h.config.current(); valid != nil {
		return fmt.Sprintf("; the configuration before this one stays in force (generation %d)", valid.Generation)
	}
	return "; no configuration is in force: no load balancer gets an address, and no proxy is started, until it is corrected"
}

// waitValid returns false if the context ends before there is a valid Config.
func (c *configuration) waitValid(ctx context.Context) bool {
	select {
	case <-c.first:
		return true
	case <-ctx.Done():
		return false
	}
}

// validateConfig returns what is wrong with a Config, or cannot be done.
func validateConfig(config *v1alpha1.Config) []v1alpha1.Problem {
	problems := v1alpha1.Validate(config)
	if config.Spec.Infrastructure == v1alpha1.InfrastructureKubernetes {
		problems = append(problems, v1alpha1.Problem{
			Field: "spec.infrastructure", Reason: v1alpha1.ReasonNotSupported,
			Message: "this version of the hub cannot run proxies in Kubernetes", Remedy: "use Host",
		})
	}
	if config.Spec.AddressProvider == v1alpha1.ProviderService {
		problems = append(problems, v1alpha1.Problem{
			Field: "spec.addressProvider", Reason: v1alpha1.ReasonNotSupported,
			Message: "this version of the hub cannot have Services assign addresses", Remedy: "use Pool and list spec.addressPools",
		})
	}
	if t := config.Spec.EnvoyProxy.Topology; t != "" && t != v1alpha1.TopologyGlobal {
		problems = append(problems, v1alpha1.Problem{
			Field: "spec.envoyProxy.topology", Reason: v1alpha1.ReasonNotSupported,
			Message: fmt.Sprintf("infrastructure Host has one proxy group for all tenants, topology %q needs several", t), Remedy: "use global",
		})
	}
	if len(problems) == 0 {
		_, problems = assign.New(config.Spec.AddressPools)
	}
	return problems
}

func (h *hub) configKey() types.NamespacedName {
	return types.NamespacedName{Namespace: h.Namespace, Name: v1alpha1.DefaultName}
}

// readConfig returns the Config, or that which no Config means: Pool and Host
// without a pool.
func (h *hub) readConfig(ctx context.Context) (*v1alpha1.Config, error) {
	config, err := get(ctx, h.client, &v1alpha1.Config{}, h.configKey())
	if config != nil || err != nil {
		return config, err
	}
	return &v1alpha1.Config{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.Namespace, Name: v1alpha1.DefaultName},
		Spec:       v1alpha1.ConfigSpec{AddressProvider: v1alpha1.ProviderPool, Infrastructure: v1alpha1.InfrastructureHost},
	}, nil
}

func (h *hub) setupConfig(mgr manager.Manager, _ *measures) error {
	everyReplica := false
	return ctrl.NewControllerManagedBy(mgr).Named("config").
		For(&v1alpha1.Config{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controllerOptions(1, &everyReplica)).
		Complete(reconcile.Func(h.reconcileConfig))
}

func (h *hub) reconcileConfig(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	select {
	case <-h.opening.ready:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	if request.NamespacedName != h.configKey() {
		return h.ignoreConfig(ctx, request.NamespacedName)
	}
	config, err := h.readConfig(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	before := h.config.current()
	problems := h.config.take(config)
	if len(problems) == 0 && (before == nil || !equality.Semantic.DeepEqual(before.Spec, config.Spec)) {
		if err := h.enforce(ctx, before, config); err != nil {
			return reconcile.Result{}, err
		}
	}
	if config.UID == "" {
		return reconcile.Result{}, nil
	}
	if !h.leader.held.Load() {
		return reconcile.Result{RequeueAfter: soon}, nil
	}
	return reconcile.Result{}, h.writeConfig(ctx, config, problems)
}

// ignoreConfig says on a Config that it is not the one that is read.
func (h *hub) ignoreConfig(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	config, err := get(ctx, h.client, &v1alpha1.Config{}, key)
	if config == nil || err != nil {
		return reconcile.Result{}, err
	}
	if !h.leader.held.Load() {
		return reconcile.Result{RequeueAfter: soon}, nil
	}
	return reconcile.Result{}, h.writeConfig(ctx, config, []v1alpha1.Problem{{
		Reason: v1alpha1.ReasonNotInForce, Message: fmt.Sprintf("the hub reads the Config %s and no other", h.configKey()), Remedy: "put what is meant into that one",
	}})
}

// enforce has everything follow a Config that took another's place, at the cost of
// what is different.
func (h *hub) enforce(ctx context.Context, before, config *v1alpha1.Config) error {
	changed := h.networks.change(&h.networks.config, parseNetworks(config.Spec.HubNetworks))
	if before == nil {
		if err := h.rebuildBook(ctx); err != nil {
			return err
		}
		return h.enqueueAll(ctx)
	}
	if gracePeriod(before) != gracePeriod(config) {
		if err := h.enqueueReservations(ctx); err != nil {
			return err
		}
	}
	if !equality.Semantic.DeepEqual(before.Spec.AddressPools, config.Spec.AddressPools) {
		h.book.setPools(config.Spec.AddressPools)
		was, is := rangesOf(before.Spec.AddressPools), rangesOf(config.Spec.AddressPools)
		if err := h.rejudge(ctx, func(a netip.Addr) bool { return inRanges(was, a) != inRanges(is, a) }); err != nil {
			return err
		}
	}
	if before.Spec.LoadBalancer.Disable != config.Spec.LoadBalancer.Disable {
		return h.enqueueAll(ctx)
	}
	return h.rejudge(ctx, changed)
}

func (h *hub) writeConfig(ctx context.Context, config *v1alpha1.Config, problems []v1alpha1.Problem) error {
	conditions := conditionsOf(config.Status.Conditions, config.Generation, metav1.NewTime(h.now()))
	if len(problems) > 0 {
		conditions.stalled(problems[0].Reason, describeProblems(problems)+h.instead(config))
	} else {
		conditions.ready(meta.SucceededReason, "in force")
	}
	status := v1alpha1.ConfigStatus{
		ObjectStatus: v1alpha1.ObjectStatus{ObservedGeneration: config.Generation, Conditions: conditions.list},
		Version:      h.Version,
	}
	if sameConditions(status.Conditions, config.Status.Conditions) && status.Version == config.Status.Version && status.ObservedGeneration == config.Status.ObservedGeneration {
		return nil
	}
	status.Conditions = ownConditions(status.Conditions)
	err := h.applyStatus(ctx, config, status)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// describeProblems is for conditions' messages.
func describeProblems(problems []v1alpha1.Problem) string {
	const listed = 3
	var words []string
	for _, p := range problems[:min(listed, len(problems))] {
		text := p.Message
		if p.Field != "" {
			text = p.Field + ": " + text
		}
		if p.Remedy != "" {
			text += " (" + p.Remedy + ")"
		}
		words = append(words, text)
	}
	if more := len(problems) - listed; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, "; ")
}
