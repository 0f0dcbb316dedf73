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
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/v1alpha1"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func newConfirm(o *Options) *cobra.Command {
	var commit string
	cmd := &cobra.Command{
		Use:   "confirm TENANT",
		Short: "Let many removals of a tenant through",
		Long: `Confirms what the hub holds back because too much of a tenant vanished at once, or
because another cluster took its place. What is confirmed is exactly the commit
that the hub speaks of; a later one is asked about again.

Without --commit it is the one commit that the Tenant's status.git.confirm names.`,
		Example: `  kubelbctl confirm acme
  kubelbctl confirm acme --commit 3f2a9c1d5b7e...`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeHubTenant,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.confirm(cmd.Context(), args[0], commit)
		},
	}
	cmd.Flags().StringVar(&commit, "commit", "", "the commit of intent/TENANT, or of main, that is confirmed")
	o.addHub(cmd)
	return cmd
}

func (o *Options) confirm(ctx context.Context, name, commit string) error {
	h, err := o.hub()
	if err != nil {
		return err
	}
	tenant, err := h.tenant(ctx, name)
	if err != nil {
		return err
	}
	if commit == "" {
		if commit, err = asked(tenant); err != nil {
			return err
		}
	}
	if err := h.annotate(ctx, tenant, v1alpha1.AnnotationConfirm, commit); err != nil {
		return h.explain(err, "Tenant "+name)
	}
	o.say("confirmed commit %s of tenant %s\n", commit, name)
	return nil
}

// asked is the commit that the tenant's status asks to confirm.
func asked(tenant *v1alpha1.Tenant) (string, error) {
	if tenant.Status.Git == nil {
		return "", refuse("See kubelbctl status "+tenant.Name+".", "the hub has not looked at tenant %s yet", tenant.Name)
	}
	var commits []string
	for _, c := range tenant.Status.Git.Confirm {
		commits = append(commits, c.Commit+" ("+c.Reason+")")
	}
	switch len(commits) {
	case 1:
		return tenant.Status.Git.Confirm[0].Commit, nil
	case 0:
	default:
		return "", usage("Name the one that you mean with --commit; kubelbctl status "+tenant.Name+" says what each is.",
			"several things of tenant %s wait to be confirmed: %s", tenant.Name, strings.Join(commits, ", "))
	}
	return "", refuse("See kubelbctl status "+tenant.Name+". To confirm a certain commit beforehand, name it with --commit.",
		"nothing of tenant %s waits to be confirmed", tenant.Name)
}

func newReject(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reject TENANT",
		Short: "Reject what a tenant proposes",
		Long: `Rejects the proposal on the tenant's review branch, as closing its pull request does:
what main has stays, and the tenant is told. A later change is proposed again. What is
rejected is exactly the proposal that the hub reports now.`,
		Example:           `  kubelbctl reject acme`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeHubTenant,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.reject(cmd.Context(), args[0]) },
	}
	o.addHub(cmd)
	return cmd
}

func (o *Options) reject(ctx context.Context, name string) error {
	h, err := o.hub()
	if err != nil {
		return err
	}
	tenant, err := h.tenant(ctx, name)
	if err != nil {
		return err
	}
	if tenant.Status.Git == nil || tenant.Status.Git.Review == nil {
		return refuse("See kubelbctl status "+name+".", "tenant %s proposes nothing", name)
	}
	review := tenant.Status.Git.Review
	if err := h.annotate(ctx, tenant, v1alpha1.AnnotationReject, review.Commit); err != nil {
		return h.explain(err, "Tenant "+name)
	}
	o.say("rejected proposal %s of tenant %s\n", review.Commit, name)
	if review.URL != "" {
		o.say("the hub closes %s\n", review.URL)
	}
	return nil
}

func newAcceptRewrite(o *Options) *cobra.Command {
	var commit string
	cmd := &cobra.Command{
		Use:   "accept-rewrite GITSOURCE",
		Short: "Go on with a main branch whose history was rewritten",
		Long: `Accepts main as it is after somebody rewrote its history; the hub integrates and
applies nothing before that. Documents that differ from what tenants ask for are held
afterwards, and documents that people had deleted return.

To go back to an older state do not rewrite: revert.`,
		Example:           `  kubelbctl accept-rewrite fleet`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.acceptRewrite(cmd.Context(), args[0], commit) },
	}
	cmd.Flags().StringVar(&commit, "commit", "", "the commit of main that is accepted; the one that the GitSource's status.acceptRewrite names if empty")
	o.addHub(cmd)
	return cmd
}

func (o *Options) acceptRewrite(ctx context.Context, name, commit string) error {
	h, err := o.hub()
	if err != nil {
		return err
	}
	var source v1alpha1.GitSource
	if err := h.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: name}, &source); err != nil {
		return h.explain(err, "GitSource "+h.namespace+"/"+name)
	}
	if commit == "" {
		if commit = source.Status.AcceptRewrite; commit == "" {
			return refuse("To accept a certain commit beforehand, name it with --commit.", "main of GitSource %s was not rewritten", name)
		}
	}
	if err := h.annotate(ctx, &source, v1alpha1.AnnotationAcceptRewrite, commit); err != nil {
		return h.explain(err, "GitSource "+name)
	}
	o.say("accepted main of GitSource %s as of commit %s\n", name, commit)
	return nil
}

func newReleaseAddress(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release-address TENANT NAME|ADDRESS...",
		Short: "Let others have addresses of deleted load balancers",
		Long: `Ends that the addresses and ports of deleted load balancers of a tenant are kept for
ones of the same name. They are named by the load balancer, <namespace>.<name>, or by
the address. A tenant that is deleted itself can be named as well.`,
		Example: `  kubelbctl release-address acme shop.web
  kubelbctl release-address acme 203.0.113.7`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: o.completeHubTenant,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.releaseAddress(cmd.Context(), args[0], args[1:])
		},
	}
	o.addHub(cmd)
	return cmd
}

func (o *Options) releaseAddress(ctx context.Context, tenant string, names []string) error {
	h, err := o.hub()
	if err != nil {
		return err
	}
	var state v1alpha1.TenantState
	err = h.Get(ctx, client.ObjectKey{Namespace: v1alpha1.TenantNamespace(tenant), Name: v1alpha1.DefaultName}, &state)
	if apierrors.IsNotFound(err) { // what a deleted tenant had is kept beside the hub
		err = h.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: tenant}, &state)
	}
	if err != nil {
		return h.explain(err, "TenantState of "+tenant)
	}
	var kept []string
	for _, r := range state.Status.Reservations {
		kept = append(kept, append([]string{r.Name}, r.Addresses...)...)
	}
	for _, name := range names {
		if !slices.Contains(kept, name) {
			return refuse("What is kept: "+strings.Join(kept, ", "), "nothing is kept for %s of tenant %s", name, tenant)
		}
	}
	if err := h.annotate(ctx, &state, v1alpha1.AnnotationReleaseAddress, strings.Join(names, ",")); err != nil {
		return h.explain(err, "TenantState of "+tenant)
	}
	o.say("released %s of tenant %s\n", strings.Join(names, ", "), tenant)
	return nil
}
