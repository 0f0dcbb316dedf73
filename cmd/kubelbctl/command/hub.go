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
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/v1alpha1"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// hubNamespace is where the hub's own objects are, unless -n says otherwise.
const hubNamespace = "kubelb"

// hub is the hub's API server, as the user's kubeconfig has it.
type hub struct {
	client.Client
	namespace string
}

// hub connects to the hub.
func (o *Options) hub() (*hub, error) {
	config, err := o.Config.ToRESTConfig()
	if err != nil {
		return nil, usage("Name the hub's kubeconfig with --kubeconfig, or its context with --context.", "no hub to talk to: %v", err)
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, usage("See that the kubeconfig and its context are those of the hub.", "the hub does not answer: %v", err)
	}
	h := &hub{Client: c, namespace: hubNamespace}
	if n := o.Config.Namespace; n != nil && *n != "" {
		h.namespace = *n
	}
	return h, nil
}

// explain says what to do about an answer of the API server.
func (h *hub) explain(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return refuse("List what there is: kubectl get tenants; kubectl get gitsources -A. Is this the hub's context?", "%s does not exist", what)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return refuse("Ask the hub's operators for the right, or use another context.", "%s: %v", what, err)
	case strings.Contains(err.Error(), "no matches for kind"):
		return usage("Use the hub's context: --context. On a new hub: kubectl apply -f deploy/crds", "this cluster has no kinds of %s", v1alpha1.GroupVersion.Group)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (h *hub) tenant(ctx context.Context, name string) (*v1alpha1.Tenant, error) {
	var tenant v1alpha1.Tenant
	err := h.Get(ctx, client.ObjectKey{Name: name}, &tenant)
	return &tenant, h.explain(err, "Tenant "+name)
}

// annotate sets one annotation of an object, or removes it with an empty value.
func (h *hub) annotate(ctx context.Context, object client.Object, key, value string) error {
	patch := client.MergeFrom(object.DeepCopyObject().(client.Object))
	annotations := map[string]string{}
	for k, v := range object.GetAnnotations() {
		annotations[k] = v
	}
	if annotations[key] = value; value == "" {
		delete(annotations, key)
	}
	object.SetAnnotations(annotations)
	return h.Patch(ctx, object, patch, client.FieldOwner("kubelbctl"))
}

// completeHubTenant completes the names of the hub's Tenants.
func (o *Options) completeHubTenant(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	h, err := o.hub()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var tenants v1alpha1.TenantList
	if err := h.List(cmd.Context(), &tenants); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range tenants.Items {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
