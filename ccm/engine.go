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
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"

	"github.com/kubelb/gitops/gitsync/git"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups="",resources=namespaces,resourceNames=kube-system,verbs=get
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=kubelb,resources=leases,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch;update
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch

// tolerated failures of the Git server in a row are not worth a word.
const tolerated = 3

// engine is everything that runs beside the reconcilers, on the leader.
type engine struct {
	options Options
	cache   cache.Cache
	client  client.Client
	api     client.Reader // not cached
	log     logr.Logger

	secrets cache.Cache // of Secrets that go to the hub
	// hearsSecrets is closed when events of Secrets are heard.
	hearsSecrets chan struct{}

	memory    *memory
	digests   *digests
	notices   *notices
	failures  atomic.Int64 // of the Git server in a row
	answers   *answers
	content   *content
	publisher *publisher
	observer  *observer
	waiting   *underway // Services without an address
	departing *underway // Services whose removal is not confirmed
	contests  *contests // Services whose status others write
	looked    *looks    // at Services of whose state Events are renewed
	services  *requests // of the Service reconciler
	statuses  *requests // of the status reconciler
}

func newEngine(mgr ctrl.Manager, o Options, hubKeys []git.PublicKey) *engine {
	e := &engine{
		options: o, cache: mgr.GetCache(), client: mgr.GetClient(), api: mgr.GetAPIReader(),
		log: mgr.GetLogger().WithName("ccm").WithValues("tenant", o.Tenant),
	}
	e.services, e.statuses = &requests{}, &requests{}
	e.hearsSecrets = make(chan struct{})
	e.waiting, e.departing, e.contests = newUnderway(), newUnderway(), newContests()
	e.looked = &looks{at: map[types.UID]time.Time{}}
	e.memory = newMemory(e.client, e.api, types.NamespacedName{Namespace: o.Namespace, Name: StateName}, e.log)
	e.notices = newNotices(mgr.GetEventRecorder("kubelb-ccm"), e.memory.reference(), e.tellAll)
	e.digests = newDigests(e.client, e.api, types.NamespacedName{Namespace: o.Namespace, Name: DigestsName})
	e.answers = newAnswers(o.Tenant)
	e.content = newContent(o.Tenant)
	upstream := &upstream{
		api: e.api, url: o.GitURL, report: e.reachable,
		secret: types.NamespacedName{Namespace: o.Namespace, Name: o.GitSecret},
		proxy:  types.NamespacedName{Namespace: o.Namespace, Name: o.GitProxySecret},
	}
	e.publisher = newPublisher(e, upstream)
	e.observer = newObserver(e, upstream, hubKeys)
	return e
}

// NeedLeaderElection makes the manager start it on the leader only.
func (e *engine) NeedLeaderElection() bool { return true }

// Start runs the publisher and the observer until the context ends.
func (e *engine) Start(ctx context.Context) error {
	if !e.cache.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	for delay := time.Second; ; delay = min(2*delay, 30*time.Second) {
		err := e.prepare(ctx)
		if err == nil {
			break
		}
		e.log.Error(err, "cannot start yet", "again", delay)
		if !sleep(ctx, delay) {
			return nil
		}
	}
	select {
	case <-e.hearsSecrets:
	case <-ctx.Done():
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.publisher.run(ctx) })
	group.Go(func() error { return e.observer.run(ctx) })
	group.Go(func() error { return e.memory.run(ctx) })
	group.Go(func() error { return e.followKey(ctx) })
	group.Go(func() error {
		e.publisher.health.run(ctx)
		return nil
	})
	return group.Wait()
}

// prepare reads what a leader has to know before it writes.
func (e *engine) prepare(ctx context.Context) error {
	if err := e.memory.load(ctx); err != nil {
		return err
	}
	signer, err := ensureKey(ctx, e.api, e.client, types.NamespacedName{Namespace: e.options.Namespace, Name: KeySecretName})
	if err != nil {
		return err
	}
	digestKey, err := ensureDigestKey(ctx, e.api, e.client, types.NamespacedName{Namespace: e.options.Namespace, Name: DigestKeySecretName})
	if err != nil {
		return err
	}
	if err := e.digests.load(ctx, digestKey); err != nil {
		return err
	}
	var system corev1.Namespace
	if err := e.api.Get(ctx, types.NamespacedName{Name: "kube-system"}, &system); err != nil {
		return fmt.Errorf("identify the cluster: %w", err)
	}
	var epoch int64
	if e.options.Lease.Name != "" {
		var lease coordinationv1.Lease
		if err := e.api.Get(ctx, e.options.Lease, &lease); err != nil {
			return fmt.Errorf("read the epoch: %w", err)
		}
		epoch = int64(ptr.Deref(lease.Spec.LeaseTransitions, 0))
	}
	e.log.Info("signing intents", "key", signer.PublicKey().String())
	e.publisher.signer, e.publisher.cluster, e.publisher.epoch = signer, string(system.UID), epoch
	return nil
}

// tellAll has every Service looked at again, because something that concerns all
// of them changed.
func (e *engine) tellAll() {
	var list corev1.ServiceList
	if err := e.cache.List(context.Background(), &list, client.UnsafeDisableDeepCopy); err != nil {
		e.log.Error(err, "list Services")
		return
	}
	for i := range list.Items {
		if list.Items[i].Spec.Type == corev1.ServiceTypeLoadBalancer {
			e.statuses.add(client.ObjectKeyFromObject(&list.Items[i]))
		}
	}
}

// reachable notes whether the Git server can be used. One lost request is no
// news.
func (e *engine) reachable(err error) {
	if err == nil {
		if e.failures.Swap(0) > 0 {
			e.publisher.retry()
			e.observer.poke()
		}
		e.notices.clear(noticeGit)
		return
	}
	failures, problem := e.failures.Add(1), withSecret(gitProblem(err), e.options.Namespace, e.options.GitSecret)
	if failures < tolerated && problem.Reason == ReasonGitUnreachable {
		return
	}
	if e.notices.set(noticeGit, problem) {
		e.log.Error(err, "the Git repository is not usable; Services keep their status")
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
