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
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// inbox collects what happened while its loop is busy. Many changes of one
// object are one.
type inbox struct {
	wake chan struct{}

	mu       sync.Mutex
	work     work
	followed map[client.ObjectKey]bool // GitSources that links of the loop follow
}

// work is what a turn of the loop has to look at.
type work struct {
	// news: look at the repository and at the tenants.
	news bool
	// objects that changed in the hub, by their path in the repository.
	objects map[string]touched
	// links that there is news for.
	links map[client.ObjectKey]bool
	// asked: the Git server said that there is news, perhaps of pull requests.
	asked bool
	// answers of the forge, by tenant.
	answers map[string]answer
}

// touched is an object that changed.
type touched struct {
	key  client.ObjectKey
	heal bool // more than its status
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), work: newWork(), followed: map[client.ObjectKey]bool{}}
}

func newWork() work {
	return work{objects: map[string]touched{}, links: map[client.ObjectKey]bool{}, answers: map[string]answer{}}
}

// follow has the loop told of a GitSource that one of its links follows, unfollow
// ends it.
func (b *inbox) follow(key client.ObjectKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.followed[key] = true
}

func (b *inbox) unfollow(key client.ObjectKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.followed, key)
}

// heard says that there may be news in a GitSource's repository.
func (b *inbox) heard(key client.ObjectKey) {
	b.mu.Lock()
	concerns := b.followed[key]
	if concerns {
		b.work.links[key] = true
	}
	b.mu.Unlock()
	if concerns {
		b.signal()
	}
}

// called says that the Git server has news.
func (b *inbox) called() {
	b.mu.Lock()
	b.work.asked = true
	b.mu.Unlock()
	b.wakeUp()
}

// answered hands in what a forge said of a tenant's pull request.
func (b *inbox) answered(tenant string, a answer) {
	b.mu.Lock()
	b.work.answers[tenant] = a
	b.mu.Unlock()
	b.signal()
}

// wakeUp says that there may be news.
func (b *inbox) wakeUp() {
	b.mu.Lock()
	b.work.news = true
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) changed(path string, key client.ObjectKey, heal bool) {
	b.mu.Lock()
	b.work.objects[path] = touched{key: key, heal: heal || b.work.objects[path].heal}
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (b *inbox) take() work {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.work
	b.work = newWork()
	return w
}
