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
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// follows reports whether the hub follows GitSources of a namespace. Whoever may
// write GitSources elsewhere has no part in the hub: he must not decide what it
// reads, where it sends credentials and which Tenants belong to whom.
func (o *Options) follows(namespace string) bool {
	return namespace == o.Namespace || slices.Contains(o.SourceNamespaces, namespace)
}

// inFollowed accepts the events of GitSources that may concern the hub.
func (s *supervisor) inFollowed() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return s.options.follows(o.GetNamespace()) })
}

// followed returns the GitSources that the hub follows.
func (o *Options) followed(sources []v1alpha1.GitSource) []v1alpha1.GitSource {
	return slices.DeleteFunc(slices.Clone(sources), func(s v1alpha1.GitSource) bool { return !o.follows(s.Namespace) })
}

// notFollowed is why a GitSource of another namespace is left alone.
func (o *Options) notFollowed(namespace string) *failure {
	return &failure{
		reason: v1alpha1.ReasonNamespaceNotFollowed, stalled: true,
		message: fmt.Sprintf("the hub does not follow GitSources of namespace %s: make it in namespace %s, or add the namespace to the hub's flag --gitsource-namespaces",
			namespace, o.Namespace),
	}
}

// ignore says on a GitSource that the hub does not follow it.
func (s *supervisor) ignore(ctx context.Context, source *v1alpha1.GitSource) error {
	now := metav1.NewTime(s.options.Clock().Truncate(1e9))
	status := *source.Status.DeepCopy()
	status.ObservedGeneration = source.Generation
	status.Conditions = setConditions(status.Conditions, s.options.notFollowed(source.Namespace), "", source.Generation, now)
	if equality.Semantic.DeepEqual(status, source.Status) {
		return nil
	}
	err := applyStatus(ctx, s.client, &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: source.Namespace, Name: source.Name}, Status: status,
	}, v1alpha1.KindGitSource, fieldManager)
	return client.IgnoreNotFound(err)
}

// mistakes are what is wrong with a GitSource, by what does not work because of it.
type mistakes struct {
	whole   []v1alpha1.Problem // the repository cannot be followed
	forge   []v1alpha1.Problem // no pull requests
	webhook []v1alpha1.Problem // no news by webhook
	others  []v1alpha1.Problem // what else people should know
}

// mistakesOf validates a GitSource. Reviewers whose key is of no use are left to
// verify: the others count.
func mistakesOf(source *v1alpha1.GitSource) (m mistakes) {
	for _, p := range v1alpha1.Validate(source) {
		p.Object = v1alpha1.KindGitSource + " " + client.ObjectKeyFromObject(source).String()
		list := &m.whole
		switch {
		case strings.HasPrefix(p.Field, "spec.forge."):
			list = &m.forge
		case strings.HasPrefix(p.Field, "spec.webhook."):
			list = &m.webhook
		case strings.HasPrefix(p.Field, "spec.reviewers"):
			list = &m.others
		}
		*list = append(*list, p.Bounded())
	}
	return m
}

// mistakesOfTenant validates what gitsync uses of a Tenant. A key that cannot be
// used matches nothing, and still demands a signature.
func mistakesOfTenant(tenant *v1alpha1.Tenant) (problems []v1alpha1.Problem) {
	for _, p := range v1alpha1.Validate(tenant) {
		if strings.HasPrefix(p.Field, "spec.git.") {
			p.Path, p.Object = repo.TenantDir(tenant.Name), v1alpha1.KindTenant+" "+tenant.Name
			problems = append(problems, p.Bounded())
		}
	}
	return problems
}

// refused is why a GitSource with mistakes is not followed, nil if it can be.
func (m mistakes) refused() error {
	if len(m.whole) == 0 {
		return nil
	}
	var words []string
	for _, p := range m.whole {
		words = append(words, fmt.Sprintf("%s: %s: %s", p.Field, p.Message, p.Remedy))
	}
	return &failure{reason: v1alpha1.ReasonInvalid, stalled: true, message: strings.Join(words, "; ") + ". The repository is not followed until then; everything stays as it is"}
}
