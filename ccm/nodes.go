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
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// nodeGrace is how long a node that stopped being ready still counts.
const nodeGrace = 30 * time.Second

// readiness decides which nodes count as ready: those that are, and those that
// counted until less than nodeGrace ago.
type readiness struct {
	counted map[string]bool
	lost    map[string]time.Time // counted, but not ready since
	started bool
}

func newReadiness() readiness {
	return readiness{counted: map[string]bool{}, lost: map[string]time.Time{}}
}

// count returns the nodes that count, and after what time one of them may not
// any more (0: never). published says at the first call whether a node counted
// before the CCM started.
func (r *readiness) count(nodes []corev1.Node, published func(*corev1.Node) bool, now time.Time) (counting []corev1.Node, again time.Duration) {
	present := map[string]bool{}
	for i := range nodes {
		node := &nodes[i]
		present[node.Name] = true
		if !r.started && published(node) {
			r.counted[node.Name] = true
		}
		if render.IsReady(node) {
			r.counted[node.Name] = true
			delete(r.lost, node.Name)
		} else if r.counted[node.Name] {
			if _, ok := r.lost[node.Name]; !ok {
				r.lost[node.Name] = now
			}
			left := nodeGrace - now.Sub(r.lost[node.Name])
			if left <= 0 {
				delete(r.counted, node.Name)
				delete(r.lost, node.Name)
			} else if again == 0 || left < again {
				again = left
			}
		}
		if r.counted[node.Name] {
			counting = append(counting, *node)
		}
	}
	for name := range r.counted {
		if !present[name] {
			delete(r.counted, name)
			delete(r.lost, name)
		}
	}
	r.started = true
	return counting, again
}

// gatherNodes renders the nodes if any changed. It needs to know the branch,
// which says what nodes counted before.
func (p *publisher) gatherNodes(ctx context.Context) error {
	p.mu.Lock()
	dirty := p.nodesDirty
	p.nodesDirty = false
	p.mu.Unlock()
	if !dirty {
		return nil
	}
	var list corev1.NodeList
	if err := p.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		p.markNodes()
		return fmt.Errorf("list nodes: %w", err)
	}
	counting, again := p.readiness.count(list.Items, p.publishedNode(), p.options.now())
	if again > 0 {
		time.AfterFunc(again, p.markNodes)
	}
	nodeCount.WithLabelValues().Set(float64(len(counting)))
	options := p.options.render()
	options.HealthCheckPort = p.health.fact()
	documents, problems := render.Nodes(counting, options)
	p.content.putNodes(documents)
	p.health.tell(render.NodeAddresses(counting, options.NodeAddressType))
	if len(problems) > 0 {
		p.notices.set(noticeNodes, problems[0])
	} else {
		p.notices.clear(noticeNodes)
	}
	return nil
}

// publishedNode says whether the branch has all addresses of a node.
func (p *publisher) publishedNode() func(*corev1.Node) bool {
	path := render.NodesPath(p.options.Tenant).String()
	published := map[v1alpha1.EndpointAddress]bool{}
	if file, ok, err := p.store.File(p.tree, path); err == nil && ok {
		if object, _ := repo.Decode(path, file); object != nil {
			spec := object.(*v1alpha1.Addresses).Spec
			if !p.readiness.started {
				p.health.remember(spec.HealthCheckPort)
			}
			for _, a := range spec.Addresses {
				published[a] = true
			}
		}
	}
	return func(node *corev1.Node) bool {
		addresses := render.NodeAddresses([]corev1.Node{*node}, p.options.NodeAddressType)
		for _, a := range addresses {
			if !published[a] {
				return false
			}
		}
		return len(addresses) > 0
	}
}
