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
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// requests asks a reconciler to look at objects that did not change themselves.
type requests struct {
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	early []types.NamespacedName // asked for before the reconciler runs
}

func (r *requests) source() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		r.mu.Lock()
		early := r.early
		r.queue, r.early = queue, nil
		r.mu.Unlock()
		r.add(early...)
		return nil
	})
}

func (r *requests) add(names ...types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue == nil {
		r.early = append(r.early, names...)
		return
	}
	for _, name := range names {
		r.queue.Add(reconcile.Request{NamespacedName: name})
	}
}

// underway is the set of Services that wait for something the hub will say by
// itself: an address, or that they are gone.
type underway struct {
	mu    sync.Mutex
	names map[types.NamespacedName]bool
}

func newUnderway() *underway { return &underway{names: map[types.NamespacedName]bool{}} }

func (u *underway) set(name types.NamespacedName, waits bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if waits {
		u.names[name] = true
	} else {
		delete(u.names, name)
	}
}

func (u *underway) any() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.names) > 0
}

func (u *underway) list() []types.NamespacedName {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]types.NamespacedName, 0, len(u.names))
	for name := range u.names {
		out = append(out, name)
	}
	return out
}

// looks are when Services with something that lasts were looked at last.
type looks struct {
	mu sync.Mutex
	at map[types.UID]time.Time
}

// swap notes a look and returns when the one before was; now if there was none.
func (l *looks) swap(uid types.UID, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, ok := l.at[uid]
	l.at[uid] = now
	if !ok {
		return now
	}
	return before
}

func (l *looks) forget(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.at, uid)
}
