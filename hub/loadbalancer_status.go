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
	"net/netip"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/hub/assign"
	"github.com/kubelb/gitops/hub/build"
	"github.com/kubelb/gitops/xds/ir"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refusal is why a load balancer is not accepted.
type refusal struct {
	reason, message string
	// keep leaves what proxies serve of it as it is: nothing says that it should
	// go.
	keep bool
	// stalled: it waits for a person.
	stalled bool
}

// admit returns why a load balancer is not to be served, or nil.
func admit(in gathered) *refusal {
	tenant, isTenants := tenantOf(in.lb.Namespace)
	switch {
	case !isTenants:
		return &refusal{reason: v1alpha1.ReasonTenantNotReady, message: fmt.Sprintf("namespace %s is not that of a tenant", in.lb.Namespace), stalled: true}
	case in.tenant == nil:
		return &refusal{reason: v1alpha1.ReasonTenantNotReady, message: fmt.Sprintf("there is no Tenant %s", tenant), keep: true}
	case !in.tenant.DeletionTimestamp.IsZero():
		return &refusal{reason: v1alpha1.ReasonTenantNotReady, message: fmt.Sprintf("the Tenant %s is being deleted", tenant), keep: true}
	case in.config == nil:
		return &refusal{reason: v1alpha1.ReasonTenantNotReady, message: "the hub has no valid Config", keep: true}
	case !isRestored(in.state):
		return &refusal{reason: v1alpha1.ReasonNotRestored, message: "the hub does not know yet what the repository knows of the tenant's addresses", keep: true}
	case sourceGone(in.lb, in.state):
		return &refusal{
			reason: v1alpha1.ReasonSourceGone, stalled: true,
			message: "the tenant has no such object any more (its deletion was reverted on main); the address is kept: create it again in the tenant, or delete the file",
		}
	case in.tenant.Spec.LoadBalancer.Disable:
		return &refusal{reason: v1alpha1.ReasonDisabled, message: "load balancers are disabled for the tenant (Tenant spec.loadBalancer.disable)", stalled: true}
	case in.config.Spec.LoadBalancer.Disable:
		return &refusal{reason: v1alpha1.ReasonDisabled, message: "load balancers are disabled for all tenants (Config spec.loadBalancer.disable)", stalled: true}
	}
	if problems := v1alpha1.Validate(in.lb); len(problems) > 0 {
		return &refusal{reason: v1alpha1.ReasonInvalid, message: describeProblems(problems), keep: true, stalled: true}
	}
	return nil
}

// tenantOf returns the tenant of a namespace.
func tenantOf(namespace string) (string, bool) {
	tenant, ok := strings.CutPrefix(namespace, v1alpha1.TenantNamespacePrefix)
	return tenant, ok && repo.ValidTenant(tenant)
}

func sourceGone(lb *v1alpha1.LoadBalancer, state *v1alpha1.TenantState) bool {
	if len(state.Status.SourceGone) == 0 {
		return false
	}
	path, err := repo.PathOf(lb)
	return err == nil && slices.Contains(state.Status.SourceGone, path)
}

// observation is everything that the status of a load balancer is made from.
type observation struct {
	refusal    *refusal
	assigned   []netip.Addr
	taken      map[ir.Port]string // ports that others of the tenant have there, and who
	unassigned *v1alpha1.Problem  // why not, or not as asked for
	output     build.Output
	hash       string // of what was published; empty: nothing was
	verdict    ir.Verdict
	// unreachable: a proxy acknowledged, and yet nobody listens.
	unreachable error
	problems    []v1alpha1.Problem
	// path and object that problems are reported against.
	path, object string
}

// programmed reports whether proxies serve what was published last.
func (o observation) programmed() bool {
	return o.hash != "" && o.verdict.Hash == o.hash && o.verdict.Programmed
}

func (o observation) rejections() []ir.Rejection {
	if o.hash == "" || o.verdict.Hash != o.hash {
		return nil
	}
	return o.verdict.Rejections
}

// decide returns the status of a load balancer. What the hub does not own of it
// stays.
func decide(lb *v1alpha1.LoadBalancer, o observation, now metav1.Time) v1alpha1.LoadBalancerStatus {
	status := *lb.Status.DeepCopy()
	status.ObservedGeneration = lb.Generation
	status.Addresses = formatAddresses(o.assigned)
	status.Problems = o.allProblems()
	status.LoadBalancer, status.Ports = published(lb, o)
	c := conditionsOf(lb.Status.Conditions, lb.Generation, now)
	switch {
	case o.refusal != nil:
		o.refused(c)
	case lb.Spec.Type != corev1.ServiceTypeLoadBalancer:
		c.set(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted, "valid")
		message := fmt.Sprintf("type %s asks for no external address", lb.Spec.Type)
		c.set(v1alpha1.ConditionAddressAssigned, false, v1alpha1.ReasonNotRequested, message)
		c.set(v1alpha1.ConditionProgrammed, false, v1alpha1.ReasonNotRequested, message)
		c.ready(v1alpha1.ReasonNotRequested, message)
	default:
		c.set(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted, "valid")
		o.addressCondition(c)
		o.proxyConditions(c, len(lb.Spec.Ports))
	}
	status.Conditions = c.list
	return status
}

func (o observation) refused(c *conditions) {
	r := o.refusal
	c.set(v1alpha1.ConditionAccepted, false, r.reason, r.message)
	if !r.keep {
		c.set(v1alpha1.ConditionProgrammed, false, r.reason, r.message)
	}
	if r.stalled {
		c.stalled(r.reason, r.message)
	} else {
		c.reconciling(r.reason, r.message)
	}
}

func (o observation) addressCondition(c *conditions) {
	if o.unassigned != nil && o.unassigned.Reason != v1alpha1.ReasonPortConflict || len(o.assigned) == 0 {
		reason, message := o.whyUnassigned()
		c.set(v1alpha1.ConditionAddressAssigned, false, reason, message)
		return
	}
	c.set(v1alpha1.ConditionAddressAssigned, true, v1alpha1.ReasonAssigned, strings.Join(formatAddresses(o.assigned), ", "))
}

func (o observation) whyUnassigned() (reason, message string) {
	if o.unassigned == nil {
		return v1alpha1.ReasonPoolExhausted, "no address"
	}
	return o.unassigned.Reason, describeProblems([]v1alpha1.Problem{*o.unassigned})
}

// proxyConditions sets Programmed and, with it, the three that sum up.
func (o observation) proxyConditions(c *conditions, ports int) {
	served := 0
	if o.output.Ports != "" {
		served = strings.Count(o.output.Ports, ",") + 1
	}
	problems := o.allProblems()
	not := func(stalled bool, reason, message string) {
		c.set(v1alpha1.ConditionProgrammed, false, reason, message)
		if stalled {
			c.stalled(reason, message)
		} else {
			c.reconciling(reason, message)
		}
	}
	switch {
	case len(o.assigned) == 0:
		reason, message := o.whyUnassigned()
		not(reason != v1alpha1.ReasonNotRestored, reason, message)
	case o.hash == "" && len(problems) > 0:
		not(true, problems[0].Reason, describeProblems(problems))
	case len(o.rejections()) > 0:
		not(true, v1alpha1.ReasonRejectedByProxy, rejectionText(o.rejections()))
	case o.unreachable != nil:
		not(false, v1alpha1.ReasonUnreachable, o.unreachable.Error())
	case !o.programmed() && o.verdict.Proxies == 0:
		not(false, v1alpha1.ReasonWaitingForProxy, "no proxy is connected")
	case !o.programmed():
		not(false, v1alpha1.ReasonWaitingForProxy, "no proxy has acknowledged the configuration yet")
	case served < ports:
		not(true, v1alpha1.ReasonPartlyProgrammed, fmt.Sprintf("only %s: %s", o.output.Ports, describeProblems(problems)))
	default:
		message := fmt.Sprintf("%s at %s", o.output.Ports, strings.Join(formatAddresses(o.assigned), ", "))
		c.set(v1alpha1.ConditionProgrammed, true, v1alpha1.ReasonProgrammed, message)
		if o.unassigned != nil { // it has an address, but not the one it asks for
			c.stalled(o.whyUnassigned())
			return
		}
		if why := o.output.Unusable; why != nil { // it is served, and every connection fails
			c.stalled(why.Reason, message+": "+why.Message)
			return
		}
		c.ready(v1alpha1.ReasonProgrammed, message)
	}
}

// allProblems are listed with where they are.
func (o observation) allProblems() []v1alpha1.Problem {
	const most = 32
	all := slices.Concat(o.problems, o.output.Problems)
	if o.unassigned != nil && (o.unassigned.Reason != v1alpha1.ReasonPortConflict || len(o.assigned) == 0) {
		all = append(all, *o.unassigned) // port by port it is in the output already
	}
	for _, r := range o.rejections() {
		all = append(all, v1alpha1.Problem{
			Reason: v1alpha1.ReasonRejectedByProxy, Message: r.Resource + ": " + r.Message,
			Remedy: "see to it that the hub's machine has the address and nothing else uses the port; the proxy is asked again",
		})
	}
	all = all[:min(most, len(all))]
	for i := range all {
		all[i].Path, all[i].Object = o.path, o.object
	}
	return all
}

func rejectionText(rejections []ir.Rejection) string {
	var words []string
	for _, r := range rejections {
		words = append(words, r.Resource+": "+r.Message)
	}
	return strings.Join(words, "; ")
}

// published returns the addresses and ports that clients may use: those that
// proxies acknowledged, else those published before as far as they are still the
// load balancer's. So no two load balancers publish one port of an address.
func published(lb *v1alpha1.LoadBalancer, o observation) (corev1.LoadBalancerStatus, string) {
	if o.refusal != nil && !o.refusal.keep || lb.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return corev1.LoadBalancerStatus{}, ""
	}
	if o.refusal == nil && o.programmed() && o.unreachable == nil {
		var out corev1.LoadBalancerStatus
		for _, a := range o.assigned {
			out.Ingress = append(out.Ingress, corev1.LoadBalancerIngress{IP: a.String()})
		}
		return out, o.output.Ports
	}
	ports := lb.Status.Ports
	if o.refusal == nil {
		ports = o.stillWanted(lb)
		lost := ports == "" && (lb.Status.Ports != "" || len(o.taken) > 0)
		if lost && (o.hash == "" || len(o.rejections()) > 0) {
			return corev1.LoadBalancerStatus{}, "" // nothing of it is served, and nothing is on its way
		}
	}
	out := *lb.Status.LoadBalancer.DeepCopy()
	out.Ingress = slices.DeleteFunc(out.Ingress, func(i corev1.LoadBalancerIngress) bool {
		a, err := netip.ParseAddr(i.IP)
		return err != nil || !slices.Contains(o.assigned, a)
	})
	if len(out.Ingress) == 0 {
		return corev1.LoadBalancerStatus{}, ""
	}
	return out, ports
}

// stillWanted returns the published ports without those that the load balancer
// does not ask for any more or that another one has.
func (o observation) stillWanted(lb *v1alpha1.LoadBalancer) string {
	wanted := portsOf(lb)
	return formatPorts(slices.DeleteFunc(assign.ParsePorts(lb.Status.Ports), func(port ir.Port) bool {
		_, refused := o.taken[port]
		return refused || !slices.Contains(wanted, port)
	}))
}

// ingressOf returns the addresses that are published.
func ingressOf(lb *v1alpha1.LoadBalancer) (out []netip.Addr) {
	for _, i := range lb.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(i.IP); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// owned is what the hub applies of a status. Lists are there also when they are
// empty: a missing field would leave what another writer has put there.
func owned(status v1alpha1.LoadBalancerStatus) any {
	ingress := status.LoadBalancer.Ingress
	if ingress == nil {
		ingress = []corev1.LoadBalancerIngress{}
	}
	problems := status.Problems
	if problems == nil {
		problems = []v1alpha1.Problem{}
	}
	return map[string]any{
		"observedGeneration": status.ObservedGeneration,
		"conditions":         ownConditions(status.Conditions),
		"addresses":          status.Addresses,
		"loadBalancer":       map[string]any{"ingress": ingress},
		"ports":              status.Ports,
		"problems":           problems,
	}
}

// ownConditions leaves out those of others.
func ownConditions(all []metav1.Condition) []metav1.Condition {
	return slices.DeleteFunc(slices.Clone(all), func(c metav1.Condition) bool { return !slices.Contains(ownedConditions, c.Type) })
}

// summary is the condition that people look at.
func summary(conditions []metav1.Condition) metav1.Condition {
	for _, c := range conditions {
		if c.Type == meta.ReadyCondition {
			return c
		}
	}
	return metav1.Condition{}
}
