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
	"crypto/sha256"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/describe"
	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// openDesk starts the desk of pull requests and returns how to end it.
func (l *loop) openDesk(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.desk.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// hear takes over what the desk found out, and reports whether it is news: then
// the loop looks at the repository again, because people may have merged.
func (l *loop) hear(w work) (news bool) {
	if w.asked {
		l.desk.look()
	}
	for name, a := range w.answers {
		t := l.tenants[name]
		if t == nil {
			continue
		}
		r := &t.review
		if a.problem == nil {
			news = news || r.pull != a.pull
			r.pull = a.pull
			if a.pull.state == forge.Open {
				r.opened = a.pull.number
			}
		}
		if (r.unforged == nil) != (a.problem == nil) || r.unforged != nil && *r.unforged != *a.problem {
			r.unforged, t.untold = a.problem, true
			l.want(t)
		}
	}
	return news
}

// connectForge hands the desk the forge of spec.forge. What is wrong with it is
// a problem and keeps nothing else from going on.
func (l *loop) connectForge(ctx context.Context) error {
	spec := l.source.Spec.Forge
	if spec == nil && l.forgeMade == "" || spec != nil && l.now().Before(l.forgeAt) && l.forgeFailure == nil && l.connected == l.source.Generation {
		return nil
	}
	l.forgeAt = l.now().Add(l.interval())
	if spec == nil {
		l.forgeMade, l.forgeFailure = "", nil
		l.desk.use("", 0, nil)
		for _, t := range l.tenants {
			t.review.pull, t.review.unforged, t.untold = pull{}, nil, true
			l.want(t)
		}
		return nil
	}
	if wrong := l.mistakes.forge; len(wrong) > 0 {
		l.forgeFailure = l.forgeTrouble(v1alpha1.ReasonInvalid, wrong[0].Field+": "+wrong[0].Message, wrong[0].Remedy)
		return nil
	}
	options, err := l.forgeOptions(ctx)
	if err != nil {
		return err
	}
	if options == nil {
		return nil
	}
	made := fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q", options, l.mainRef())))
	if made == l.forgeMade {
		l.forgeFailure = nil
		return nil
	}
	f, err := l.options.Forge(*options)
	if err != nil {
		l.forgeFailure = l.forgeTrouble(reasonForgeInvalid, err.Error(), "correct spec.forge")
		return nil
	}
	l.forgeMade, l.forgeFailure = made, nil
	l.desk.use(strings.TrimPrefix(l.mainRef(), repo.RefPrefix), l.interval(), f)
	return nil
}

// forgeOptions are nil where something is missing.
func (l *loop) forgeOptions(ctx context.Context) (*forge.Options, error) {
	spec := l.source.Spec.Forge
	var secret corev1.Secret
	key := secretKey(l.source, spec.SecretRef)
	err := l.live.Get(ctx, key, &secret)
	switch {
	case apierrors.IsNotFound(err):
		l.forgeFailure = l.forgeTrouble(reasonForgeUnauthorized, fmt.Sprintf("the Secret %s does not exist", key), "make it, with an API token in the key token")
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get the secret of spec.forge: %w", err)
	case len(secret.Data["token"]) == 0:
		l.forgeFailure = l.forgeTrouble(reasonForgeUnauthorized, fmt.Sprintf("the Secret %s has no key token", key), "put an API token into it")
		return nil, nil
	}
	o := &forge.Options{
		Kind: forge.Kind(spec.Kind), URL: spec.URL, Repository: spec.Repository,
		Token: strings.TrimSpace(string(secret.Data["token"])), CABundle: secret.Data["ca.crt"],
	}
	if u, err := url.Parse(l.source.Spec.URL); err == nil {
		if o.URL == "" {
			o.URL = u.Scheme + "://" + u.Host
			if u.Scheme == "ssh" {
				o.URL = "https://" + u.Hostname()
			}
		}
		if o.Repository == "" {
			o.Repository = strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
		}
	}
	return o, nil
}

func (l *loop) forgeTrouble(reason, message, remedy string) *v1alpha1.Problem {
	return &v1alpha1.Problem{
		Object: v1alpha1.KindGitSource + " " + l.key.String(), Field: "spec.forge", Reason: reason, Message: message,
		Remedy: remedy + "; review branches work without it",
	}
}

// forgeProblems are what is wrong with the GitSource's forge.
func (l *loop) forgeProblems() []v1alpha1.Problem {
	if l.forgeFailure != nil {
		return []v1alpha1.Problem{*l.forgeFailure}
	}
	for _, name := range slices.Sorted(maps.Keys(l.tenants)) {
		if p := l.tenants[name].review.unforged; p != nil {
			return []v1alpha1.Problem{*l.forgeTrouble(p.Reason, p.Message, p.Remedy)}
		}
	}
	return nil
}

// askForge reports whether the forge has yet to say what became of a review
// whose branch is gone: people close a pull request and delete its branch.
func (l *loop) askForge(d *decision) bool {
	if l.source.Spec.Forge == nil {
		return false
	}
	r := &d.tenant.review
	if !r.branch.gone {
		l.desk.want(d.tenant.name, wish{stance: watch})
		r.question = l.desk.ask(d.tenant.name)
	}
	return r.pull.asked < r.question
}

// wantPull says what is wanted of a tenant's pull request.
func (l *loop) wantPull(ctx context.Context, d *decision) error {
	if l.source.Spec.Forge == nil || d.frozen {
		return nil
	}
	t, r := d.tenant, &d.tenant.review
	switch {
	case r.proposes:
		w, err := l.openWish(ctx, d)
		if err != nil {
			return err
		}
		l.desk.want(t.name, w)
	case !r.branch.tip.IsZero() && d.record.ReviewOutcome == repo.ReviewClosed:
		l.desk.want(t.name, wish{stance: watch})
	case t.object.Spec.Git.Review == v1alpha1.ReviewRequired, r.pull.state == forge.Open:
		l.desk.want(t.name, wish{stance: shut})
	}
	return nil
}

// openWish is a pull request that says what the review branch changes.
func (l *loop) openWish(ctx context.Context, d *decision) (wish, error) {
	name, b := d.tenant.name, d.tenant.review.branch
	p := b.newest(0, 0)
	before, after, err := l.changes(ctx, name, b.tip, *p, b.commits[0].Tree)
	if err != nil {
		return wish{}, err
	}
	main, err := l.at(l.main.Tree, before, after)
	if err != nil {
		return wish{}, err
	}
	facts, err := l.factsOf(name, after)
	if err != nil {
		return wish{}, err
	}
	assigned := map[string][]string{}
	for path := range main {
		if object, problems := repo.Decode(path, main[path]); len(problems) == 0 {
			var lb v1alpha1.LoadBalancer
			if l.client.Get(ctx, client.ObjectKeyFromObject(object), &lb) == nil && len(lb.Status.Addresses) > 0 {
				assigned[path] = lb.Status.Addresses
			}
		}
	}
	summary := describe.CompareAt(merged(facts, main), merged(facts, after), assigned)
	return wish{stance: open, heads: heads(b, d.record.ReviewGeneration), decided: d.record.ReviewPull, fresh: d.tenant.review.fresh, opened: d.tenant.review.opened, text: textOf(name, b.tip, p.Trailers.Get(repo.TrailerIntent), summary)}, nil
}

// factsOf returns the nodes of a tenant and the backends that documents refer to.
func (l *loop) factsOf(tenant string, documents repo.Tree) (repo.Tree, error) {
	wanted := repo.Tree{repo.Path{Tenant: tenant, Kind: v1alpha1.KindAddresses}.String(): {}}
	for path, file := range documents {
		object, _ := repo.Decode(path, file)
		for _, name := range backendsOf(object) {
			namespace, service, _ := strings.Cut(name, ".") // a namespace has no dots
			wanted[repo.TenantDir(tenant)+"/backends/"+namespace+"/"+service+".service.yaml"] = repo.File{}
		}
	}
	return l.at(l.main.Tree, wanted)
}

func backendsOf(object repo.Object) (names []string) {
	var endpoints []v1alpha1.LoadBalancerEndpoints
	switch object := object.(type) {
	case *v1alpha1.LoadBalancer:
		endpoints = object.Spec.Endpoints
	case *v1alpha1.Route:
		endpoints = object.Spec.Endpoints
	}
	for _, e := range endpoints {
		if e.BackendReference != nil {
			names = append(names, e.BackendReference.Name)
		}
	}
	return names
}

// textOf is what a pull request says.
func textOf(tenant string, tip git.Hash, intent string, summary describe.Summary) text {
	body := strings.TrimSpace(summary.Markdown()) + fmt.Sprintf(footer, tenant, tip, intent)
	title := summary.Title()
	sum := sha256.Sum256([]byte(title + body))
	return text{title: title, body: body + fmt.Sprintf("\n%s%x -->", markStart, sum[:8])}
}

const footer = "\n\n---\n" + `
Tenant **%[1]s** asks for this change; it waits until people decide.

- **Merge** it, in whatever way, and it goes live.
- **Close** it to reject it: main stays as it is, and only what the tenant changes later is proposed again. Opening it again takes that back.
- **Change** it by commits on the branch ` + "`review/%[1]s`" + `, or on main. From then on the hub leaves the branch alone until it is merged or closed.

The hub writes the branch and this text, and brings both up to date while the pull request is open.
Removals of whole Services and changes of nodes and node ports do not wait for it.

Review commit %[2]s, made from intent commit %[3]s.
`
