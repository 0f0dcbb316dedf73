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

package xds

import (
	"maps"
	"slices"
	"sync"
)

// notifier tells subscribers of changed verdicts. It gathers what comes while
// they are busy, so that a burst is one call.
type notifier struct {
	mu          sync.Mutex
	subscribers []func(group string, owners []string)
	pending     map[string]map[string]struct{}
	running     bool
}

func (n *notifier) subscribe(f func(group string, owners []string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subscribers = append(n.subscribers, f)
}

func (n *notifier) add(group string, owners []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pending == nil {
		n.pending = map[string]map[string]struct{}{}
	}
	if n.pending[group] == nil {
		n.pending[group] = map[string]struct{}{}
	}
	for _, owner := range owners {
		if owner != "" {
			n.pending[group][owner] = struct{}{}
		}
	}
	if !n.running {
		n.running = true
		go n.run()
	}
}

func (n *notifier) run() {
	for {
		n.mu.Lock()
		pending, subscribers := n.pending, slices.Clone(n.subscribers)
		n.pending = nil
		if pending == nil {
			n.running = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		for _, group := range slices.Sorted(maps.Keys(pending)) {
			owners := slices.Sorted(maps.Keys(pending[group]))
			for _, f := range subscribers {
				if len(owners) > 0 {
					f(group, owners)
				}
			}
		}
	}
}
