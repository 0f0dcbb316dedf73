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

package command

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/describe"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watchEvery is how often --watch asks.
const watchEvery = 2 * time.Second

func newStatus(o *Options) *cobra.Command {
	s := statusReader{options: o, now: time.Now}
	cmd := &cobra.Command{
		Use:   "status [TENANT [NAMESPACE/NAME]]",
		Short: "Show the fleet, a tenant or a load balancer, as the hub has it",
		Long: `Without arguments it shows the fleet: its repositories and tenants. With a TENANT its
load balancers, what is held and what waits, and its problems. With an object all that
the hub says of it.

LAG is how long the oldest change has not been served: since when the load balancer
(of a tenant: any of its load balancers) is not Ready.`,
		Example: `  kubelbctl status
  kubelbctl status acme -o wide
  kubelbctl status acme shop/web --watch`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: o.completeHubTenant,
		RunE:              func(cmd *cobra.Command, args []string) error { return s.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVarP(&s.watch, "watch", "w", false, "print anew whenever something changed, until interrupted")
	addOutput(cmd, &s.output, outputText, outputWide, outputJSON, outputYAML)
	o.addHub(cmd)
	return cmd
}

type statusReader struct {
	options *Options
	watch   bool
	output  string
	now     func() time.Time
}

func (s *statusReader) run(ctx context.Context, args []string) error {
	h, err := s.options.hub()
	if err != nil {
		return err
	}
	var last []byte
	for {
		var out bytes.Buffer
		err := s.print(ctx, h, &out, args)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // interrupted, as --watch ends
		case err != nil && (!s.watch || last == nil):
			return err
		case err != nil:
			sayln(s.options.ErrOut, err)
		case !bytes.Equal(out.Bytes(), last):
			if last != nil {
				sayln(s.options.Out)
			}
			last = out.Bytes()
			if _, err := s.options.Out.Write(last); err != nil {
				return err
			}
		}
		if !s.watch {
			return nil
		}
		timer := time.NewTimer(watchEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (s *statusReader) print(ctx context.Context, h *hub, out io.Writer, args []string) error {
	switch len(args) {
	case 0:
		return s.fleet(ctx, h, out)
	case 1:
		return s.tenant(ctx, h, out, args[0])
	}
	return s.object(ctx, h, out, args[0], args[1])
}

// fleetStatus is what -o json prints of the fleet.
type fleetStatus struct {
	Sources []sourceRow `json:"sources"`
	Tenants []tenantRow `json:"tenants"`
}

type sourceRow struct {
	Name     string `json:"name"`
	Ready    string `json:"ready"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	Revision string `json:"revision,omitempty"`
	Problems int32  `json:"problems"`
}

type tenantRow struct {
	Name          string `json:"name"`
	Ready         string `json:"ready"`
	Message       string `json:"message,omitempty"`
	Reason        string `json:"reason,omitempty"`
	LoadBalancers int    `json:"loadBalancers"`
	NotReady      int    `json:"notReady"`
	Held          int32  `json:"held"`
	Pending       int32  `json:"pending"`
	Problems      int32  `json:"problems"`
	Review        string `json:"review,omitempty"`
	Intent        string `json:"intent,omitempty"`
	Heard         string `json:"heard,omitempty"`
	Revision      string `json:"revision,omitempty"`
	Lag           string `json:"lag,omitempty"`
}

func (s *statusReader) fleet(ctx context.Context, h *hub, out io.Writer) error {
	var sources v1alpha1.GitSourceList
	if err := h.List(ctx, &sources); err != nil {
		return h.explain(err, "GitSources")
	}
	var tenants v1alpha1.TenantList
	if err := h.List(ctx, &tenants); err != nil {
		return h.explain(err, "Tenants")
	}
	var balancers v1alpha1.LoadBalancerList
	if err := h.List(ctx, &balancers); err != nil {
		return h.explain(err, "LoadBalancers")
	}
	byTenant := map[string][]v1alpha1.LoadBalancer{}
	for _, lb := range balancers.Items {
		byTenant[lb.Namespace] = append(byTenant[lb.Namespace], lb)
	}
	status := fleetStatus{Sources: []sourceRow{}, Tenants: []tenantRow{}}
	for i := range sources.Items {
		source := &sources.Items[i]
		ready, message := readiness(source.Status.Conditions)
		status.Sources = append(status.Sources, sourceRow{
			Name: source.Namespace + "/" + source.Name, Ready: ready, Message: message,
			Revision: source.Status.Revision, Problems: source.Status.ProblemCount, Reason: sourceReason(source),
		})
	}
	for i := range tenants.Items {
		t := &tenants.Items[i]
		status.Tenants = append(status.Tenants, s.tenantRow(t, byTenant[v1alpha1.TenantNamespace(t.Name)]))
	}
	if s.output == outputJSON || s.output == outputYAML {
		return encode(out, s.output, status)
	}
	return s.fleetTables(out, status)
}

func (s *statusReader) tenantRow(t *v1alpha1.Tenant, balancers []v1alpha1.LoadBalancer) tenantRow {
	ready, message := readiness(t.Status.Conditions)
	wrong := v1alpha1.WrongWith(t, balancers)
	row := tenantRow{
		Name: t.Name, Ready: ready, Message: message, LoadBalancers: len(balancers),
		Problems: wrong.Problems, Reason: wrong.Reason,
	}
	var since time.Time
	for i := range balancers {
		at, waits := waitsSince(balancers[i].Status.Conditions, balancers[i].CreationTimestamp.Time)
		if !waits {
			continue
		}
		row.NotReady++
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	row.Lag = s.ago(since)
	if git := t.Status.Git; git != nil {
		row.Held, row.Pending, row.Intent, row.Revision = git.Held, git.Pending, git.Intent, git.Revision
		if git.IntentTime != nil {
			row.Heard = s.ago(git.IntentTime.Time)
		}
		if git.Review != nil {
			row.Review = cmp.Or(git.Review.URL, "branch review/"+t.Name)
		}
	}
	return row
}

func (s *statusReader) fleetTables(out io.Writer, status fleetStatus) error {
	wide := s.output == outputWide
	rows := [][]string{{"GITSOURCE", "READY", "REVISION", "PROBLEMS", "REASON", "STATUS"}}
	for _, r := range status.Sources {
		rows = append(rows, []string{r.Name, r.Ready, dash(short(r.Revision)), fmt.Sprint(r.Problems), dash(r.Reason), r.Message})
	}
	if err := table(out, rows); err != nil {
		return err
	}
	sayln(out)
	head := []string{"TENANT", "READY", "LOADBALANCERS", "HELD", "PENDING", "PROBLEMS", "REASON", "LAG", "REVISION"}
	if wide {
		head = append(head, "INTENT", "HEARD", "REVIEW", "STATUS")
	}
	rows = [][]string{head}
	for _, r := range status.Tenants {
		count := fmt.Sprint(r.LoadBalancers)
		if r.NotReady > 0 {
			count = fmt.Sprintf("%d (%d not ready)", r.LoadBalancers, r.NotReady)
		}
		row := []string{r.Name, r.Ready, count, fmt.Sprint(r.Held), fmt.Sprint(r.Pending), fmt.Sprint(r.Problems), dash(r.Reason), dash(r.Lag), dash(short(r.Revision))}
		if wide {
			row = append(row, dash(short(r.Intent)), dash(r.Heard), dash(r.Review), r.Message)
		}
		rows = append(rows, row)
	}
	return table(out, rows)
}

// tenantStatus is what -o json prints of a tenant.
type tenantStatus struct {
	tenantRow     `json:",inline"`
	Objects       []objectRow             `json:"objects"`
	HeldFields    []v1alpha1.HeldField    `json:"heldFields,omitempty"`
	PendingFields []v1alpha1.PendingField `json:"pendingFields,omitempty"`
	ProblemList   []v1alpha1.Problem      `json:"problemList,omitempty"`
}

type objectRow struct {
	Name     string `json:"name"`
	Address  string `json:"address,omitempty"`
	Ports    string `json:"ports,omitempty"`
	Ready    string `json:"ready"`
	Message  string `json:"message,omitempty"`
	Held     int    `json:"held"`
	Pending  int    `json:"pending"`
	Revision string `json:"revision,omitempty"`
	Lag      string `json:"lag,omitempty"`
}

func (s *statusReader) tenant(ctx context.Context, h *hub, out io.Writer, name string) error {
	t, err := h.tenant(ctx, name)
	if err != nil {
		return err
	}
	namespace := v1alpha1.TenantNamespace(name)
	var balancers v1alpha1.LoadBalancerList
	if err := h.List(ctx, &balancers, client.InNamespace(namespace)); err != nil {
		return h.explain(err, "LoadBalancers of "+name)
	}
	status := tenantStatus{tenantRow: s.tenantRow(t, balancers.Items), Objects: []objectRow{}}
	for i := range balancers.Items {
		status.Objects = append(status.Objects, s.objectRow(&balancers.Items[i]))
	}
	var state v1alpha1.TenantState
	err = h.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.DefaultName}, &state)
	if client.IgnoreNotFound(err) != nil {
		return h.explain(err, "TenantState of "+name)
	}
	status.HeldFields, status.PendingFields = state.Status.Held, state.Status.Pending
	status.ProblemList = allProblems(t, state.Status.Problems, balancers.Items)
	if s.output == outputJSON || s.output == outputYAML {
		return encode(out, s.output, status)
	}
	return s.tenantText(out, status)
}

func (s *statusReader) objectRow(lb *v1alpha1.LoadBalancer) objectRow {
	ready, message := readiness(lb.Status.Conditions)
	row := objectRow{Name: sourceOf(lb), Ports: lb.Status.Ports, Ready: ready, Message: message}
	var addresses []string
	for _, ingress := range lb.Status.LoadBalancer.Ingress {
		addresses = append(addresses, cmp.Or(ingress.IP, ingress.Hostname))
	}
	row.Address = strings.Join(addresses, ",")
	if git := lb.Status.Git; git != nil {
		row.Held, row.Pending = len(git.Held), len(git.Pending)
	}
	row.Revision = lb.Annotations[v1alpha1.AnnotationRevision]
	if at, waits := waitsSince(lb.Status.Conditions, lb.CreationTimestamp.Time); waits {
		row.Lag = s.ago(at)
	}
	return row
}

func (s *statusReader) tenantText(out io.Writer, status tenantStatus) error {
	say(out, "Tenant %s: ready %s, intent %s, revision %s\n", status.Name, status.Ready, dash(short(status.Intent)), dash(short(status.Revision)))
	if status.Ready != "True" && status.Message != "" {
		sayln(out, status.Message)
	}
	if status.Review != "" {
		say(out, "Waits for review: %s\n", status.Review)
	}
	sayln(out)
	head := []string{"NAME", "ADDRESS", "PORTS", "READY", "HELD", "PENDING", "LAG", "REVISION"}
	if s.output == outputWide {
		head = append(head, "STATUS")
	}
	rows := [][]string{head}
	for _, r := range status.Objects {
		row := []string{r.Name, dash(r.Address), dash(r.Ports), r.Ready, fmt.Sprint(r.Held), fmt.Sprint(r.Pending), dash(r.Lag), dash(short(r.Revision))}
		if s.output == outputWide {
			row = append(row, r.Message)
		}
		rows = append(rows, row)
	}
	if err := table(out, rows); err != nil {
		return err
	}
	printFields(out, status.HeldFields, status.PendingFields)
	printProblems(out, status.ProblemList)
	if more := int(status.Problems) - len(status.ProblemList); more > 0 {
		say(out, "  and %d more\n", more)
	}
	return nil
}

// sourceReason is the reason of the first thing that is wrong with a GitSource.
func sourceReason(source *v1alpha1.GitSource) string {
	if why, is := v1alpha1.NotReady(source.Status.Conditions); is {
		return why.Reason
	}
	if len(source.Status.Problems) > 0 {
		return source.Status.Problems[0].Reason
	}
	if c := apimeta.FindStatusCondition(source.Status.Conditions, v1alpha1.ConditionWebhookReady); c != nil && c.Status != metav1.ConditionTrue {
		return c.Reason
	}
	return ""
}

// allProblems are those of a tenant's files and of its load balancers. A load
// balancer that waits for a person and names no problem says why in its condition.
// Problems that only the Tenant has, such as that no GitSource follows it, count too.
func allProblems(t *v1alpha1.Tenant, problems []v1alpha1.Problem, balancers []v1alpha1.LoadBalancer) []v1alpha1.Problem {
	all := slices.Clone(problems)
	add := func(p v1alpha1.Problem) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if git := t.Status.Git; git != nil {
		for _, p := range git.Problems {
			add(p)
		}
	}
	for i := range balancers {
		lb := &balancers[i]
		for _, p := range lb.Status.Problems {
			p.Path, p.Object = "", cmp.Or(p.Object, "LoadBalancer "+sourceOf(lb))
			add(p)
		}
		why, is := v1alpha1.NotReady(lb.Status.Conditions)
		if is && len(lb.Status.Problems) == 0 && apimeta.IsStatusConditionTrue(lb.Status.Conditions, "Stalled") {
			add(v1alpha1.Problem{Object: "LoadBalancer " + sourceOf(lb), Reason: why.Reason, Message: why.Message})
		}
	}
	return all
}

func printFields(out io.Writer, held []v1alpha1.HeldField, pending []v1alpha1.PendingField) {
	if len(held) > 0 {
		sayln(out, "\nHeld (people changed it on main; kubelbctl release ends a hold):")
	}
	for _, f := range held {
		say(out, "  %s since %s by %s\n", fieldOf(f.Path, f.Field), dash(short(f.Commit)), dash(describe.Visible(f.Author)))
	}
	if len(pending) > 0 {
		sayln(out, "\nPending (the tenant asks for it, and it is not decided):")
	}
	for _, f := range pending {
		say(out, "  %s: %s\n", fieldOf(f.Path, f.Field), f.Reason)
	}
}

func printProblems(out io.Writer, problems []v1alpha1.Problem) {
	if len(problems) > 0 {
		sayln(out, "\nProblems:")
	}
	for _, p := range problems {
		say(out, "  %s: %s: %s\n", describe.Visible(cmp.Or(p.Path, p.Object)), p.Reason, describe.Visible(strings.TrimSpace(p.Field+" "+p.Message)))
		if p.Remedy != "" {
			say(out, "    %s\n", describe.Visible(p.Remedy))
		}
	}
}

func (s *statusReader) object(ctx context.Context, h *hub, out io.Writer, tenant, object string) error {
	namespace, name, err := parseObject(object)
	if err != nil {
		return err
	}
	if _, err := h.tenant(ctx, tenant); err != nil {
		return err
	}
	var lb v1alpha1.LoadBalancer
	key := client.ObjectKey{Namespace: v1alpha1.TenantNamespace(tenant), Name: repo.ObjectName(namespace, name)}
	if err := h.Get(ctx, key, &lb); err != nil {
		return h.explain(err, "LoadBalancer "+key.String())
	}
	if s.output == outputJSON || s.output == outputYAML {
		lb.ManagedFields = nil
		lb.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.KindLoadBalancer))
		return encode(out, s.output, &lb)
	}
	row := s.objectRow(&lb)
	say(out, "%s of tenant %s\n", row.Name, tenant)
	rows := [][]string{
		{"Address:", dash(row.Address)}, {"Assigned:", dash(strings.Join(lb.Status.Addresses, ","))}, {"Ports:", dash(row.Ports)},
		{"Revision:", dash(row.Revision)}, {"Lag:", dash(row.Lag)},
	}
	conditions := slices.Clone(lb.Status.Conditions)
	slices.SortFunc(conditions, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	for _, c := range conditions {
		rows = append(rows, []string{c.Type + ":", fmt.Sprintf("%s %s: %s", c.Status, c.Reason, describe.Visible(c.Message))})
	}
	if err := table(out, rows); err != nil {
		return err
	}
	if git := lb.Status.Git; git != nil {
		printFields(out, git.Held, git.Pending)
	}
	printProblems(out, lb.Status.Problems)
	return nil
}

// sourceOf is the source object's name, where the labels tell it.
func sourceOf(lb *v1alpha1.LoadBalancer) string {
	namespace, name := lb.Labels[v1alpha1.LabelOriginNS], lb.Labels[v1alpha1.LabelOriginName]
	if namespace == "" || name == "" {
		return lb.Name
	}
	return namespace + "/" + name
}

func readiness(conditions []metav1.Condition) (status, message string) {
	c := apimeta.FindStatusCondition(conditions, "Ready")
	if c == nil {
		return "Unknown", ""
	}
	return string(c.Status), describe.Visible(c.Message)
}

// waitsSince says since when an object is not Ready.
func waitsSince(conditions []metav1.Condition, created time.Time) (time.Time, bool) {
	c := apimeta.FindStatusCondition(conditions, "Ready")
	switch {
	case c == nil:
		return created, true
	case c.Status == metav1.ConditionTrue:
		return time.Time{}, false
	}
	return c.LastTransitionTime.Time, true
}

func (s *statusReader) ago(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return duration.HumanDuration(s.now().Sub(since))
}

func fieldOf(path, field string) string {
	if field == "" {
		field = "the whole document"
	}
	return describe.Visible(strings.TrimSpace(path + " " + field))
}

func short(commit string) string {
	if len(commit) > 12 {
		return commit[:12]
	}
	return commit
}

func dash(text string) string { return cmp.Or(text, "-") }
