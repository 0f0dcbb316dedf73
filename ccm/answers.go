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
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// answers are the hub's statuses of the tenant, as of the last status commit
// that was accepted.
type answers struct {
	tenant string
	nodes  string // path of the nodes

	mu           sync.Mutex
	repositoryID string
	commit       string
	statuses     map[string]repo.Object // by path, without the TenantState
	state        *v1alpha1.TenantState
}

func newAnswers(tenant string) *answers {
	return &answers{tenant: tenant, nodes: render.NodesPath(tenant).String(), statuses: map[string]repo.Object{}}
}

// repository returns the ID of the repository, "" while none is known.
func (a *answers) repository() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.repositoryID
}

// recipients returns whom the hub wants secrets to be sealed to. They come from a
// status that the hub signed, as everything here.
func (a *answers) recipients() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return recipientsIn(a.state)
}

func recipientsIn(state *v1alpha1.TenantState) []string {
	if state == nil {
		return nil
	}
	return slices.Sorted(slices.Values(state.Status.Recipients))
}

// observed returns the generation of the intents that the hub decided last.
func (a *answers) observed() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return observedIn(a.state)
}

// tenantState is what the hub says of the tenant, nil while nothing is known.
func (a *answers) tenantState() *v1alpha1.TenantState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

func observedIn(state *v1alpha1.TenantState) int64 {
	if state == nil || state.Status.ObservedIntent == nil {
		return 0
	}
	return repo.Believable(state.Status.ObservedIntent.Generation)
}

// decidedElsewhere reports whether the hub has decided another commit than the
// given one whose generation is not lower.
func (a *answers) decidedElsewhere(commit string, generation int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state != nil && a.state.Status.ObservedIntent != nil && a.state.Status.ObservedIntent.Commit != commit &&
		observedIn(a.state) >= generation
}

// guarded reports whether the hub waits for somebody to confirm removals.
func (a *answers) guarded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state != nil && slices.ContainsFunc(a.state.Status.Pending, func(p v1alpha1.PendingField) bool {
		return p.Reason == v1alpha1.PendingGuard
	})
}

// answer is what the hub says of one Service.
type answer struct {
	commit       string // of the status branch
	loadBalancer *v1alpha1.LoadBalancer
	backend      *v1alpha1.Backend
	state        *v1alpha1.TenantState
	paths        []string
}

func (a *answers) of(name types.NamespacedName) answer {
	wish, fact := render.ServicePaths(a.tenant, name.Namespace, name.Name)
	a.mu.Lock()
	defer a.mu.Unlock()
	out := answer{commit: a.commit, state: a.state, paths: []string{wish.String(), fact.String(), a.nodes}}
	out.loadBalancer, _ = a.statuses[wish.String()].(*v1alpha1.LoadBalancer)
	out.backend, _ = a.statuses[fact.String()].(*v1alpha1.Backend)
	return out
}

// ofSecret is what the hub says of the Secret whose document is at a path: the
// condition of its SyncSecret, if any, and what is held, pending or wrong.
func (a *answers) ofSecret(path string) (ready *metav1.Condition, entry string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if sync, ok := a.statuses[path].(*v1alpha1.SyncSecret); ok {
		ready = apimeta.FindStatusCondition(sync.Status.Conditions, meta.ReadyCondition)
	}
	return ready, wording(a.state, path)
}

// wording says in words what a state has on a path.
func wording(state *v1alpha1.TenantState, path string) string {
	if state == nil {
		return ""
	}
	var words []string
	for _, h := range state.Status.Held {
		if h.Path == path {
			words = append(words, fmt.Sprintf("held: %s is what %s made of it on main in commit %s", cmp.Or(h.Field, "the document"), cmp.Or(h.Author, "somebody"), h.Commit))
		}
	}
	for _, p := range state.Status.Pending {
		if p.Path == path {
			words = append(words, fmt.Sprintf("pending (%s): %s", p.Reason, cmp.Or(p.Field, "the document")))
		}
	}
	for _, p := range state.Status.Problems {
		if p.Path == path {
			words = append(words, fmt.Sprintf("%s: %s", p.Message, p.Remedy))
		}
	}
	return strings.Join(words, "; ")
}

// news is what a status commit changed.
type news struct {
	services   []types.NamespacedName
	secrets    []string // paths of their documents
	everyone   bool     // something that all Services are told
	observed   bool     // the hub decided another intent commit
	recipients bool     // secrets are to be sealed to others
}

// gone is the change by which nothing that is known would be left.
func (a *answers) gone() map[string]repo.Object {
	a.mu.Lock()
	defer a.mu.Unlock()
	gone := map[string]repo.Object{}
	for path := range a.statuses {
		gone[path] = nil
	}
	if a.state != nil {
		gone[repo.Path{Tenant: a.tenant, Kind: v1alpha1.KindTenantState}.String()] = nil
	}
	return gone
}

// update takes over what a commit changed: statuses by path, nil where a file is
// gone.
func (a *answers) update(repositoryID, commit string, changed map[string]repo.Object) news {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.repositoryID, a.commit = repositoryID, commit
	var out news
	concerns := map[string]bool{}
	for path, object := range changed {
		if p, err := repo.ParsePath(path); err == nil && p.Kind == v1alpha1.KindTenantState {
			state, _ := object.(*v1alpha1.TenantState)
			differences(a.state, state, concerns)
			out.observed = observedIn(a.state) != observedIn(state)
			out.recipients = !slices.Equal(recipientsIn(a.state), recipientsIn(state))
			a.state = state
			continue
		}
		concerns[path] = true
		if object == nil {
			delete(a.statuses, path)
		} else {
			a.statuses[path] = object
		}
	}
	names := map[types.NamespacedName]bool{}
	for path := range concerns {
		if name, ok := serviceOf(path); ok {
			names[name] = true
		}
		if p, err := repo.ParsePath(path); err == nil && p.Kind == v1alpha1.KindSyncSecret {
			out.secrets = append(out.secrets, path)
		}
		out.everyone = out.everyone || path == a.nodes
	}
	for name := range names {
		out.services = append(out.services, name)
	}
	return out
}

// differences adds the paths that two states speak of differently.
func differences(before, after *v1alpha1.TenantState, paths map[string]bool) {
	was, is := entries(before), entries(after)
	for path, text := range was {
		if is[path] != text {
			paths[path] = true
		}
	}
	for path := range is {
		if _, ok := was[path]; !ok {
			paths[path] = true
		}
	}
}

// entries is what a state says of each path.
func entries(state *v1alpha1.TenantState) map[string]string {
	out := map[string]string{}
	if state == nil {
		return out
	}
	for _, h := range state.Status.Held {
		out[h.Path] += fmt.Sprintf("held %q\n", h)
	}
	url := ""
	if state.Status.Review != nil {
		url = state.Status.Review.URL
	}
	for _, p := range state.Status.Pending {
		out[p.Path] += fmt.Sprintf("pending %q\n", p)
		if p.Reason == v1alpha1.PendingReview {
			out[p.Path] += "in " + url + "\n"
		}
	}
	for _, p := range state.Status.Problems {
		out[p.Path] += fmt.Sprintf("problem %q\n", p)
	}
	return out
}
