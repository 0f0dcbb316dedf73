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
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// large is a loop that knows a repository of many files and has no server.
type large struct {
	*loop
	tenant *tenant
	signer *git.Signer
	tip    git.Hash
	tree   git.Hash
	n      int
}

// newLarge makes a repository with a load balancer and its backend per object.
func newLarge(b *testing.B, tenants, objects int) *large {
	b.Helper()
	signer, err := git.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	key := client.ObjectKey{Namespace: hubNamespace, Name: "large"}
	l := newLoop(key, &supervisor{keys: &identity{signer: signer}, log: logr.Discard(), options: Options{Clock: time.Now, Namespace: hubNamespace}}, newInbox())
	l.source, l.id = &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}, repositoryID
	root, err := repo.EncodeConfig(repo.Config{RepositoryID: repositoryID, Layout: repo.LayoutVersion})
	if err != nil {
		b.Fatal(err)
	}
	out := &large{loop: l, signer: signer}
	edits := map[string][]byte{repo.ConfigPath: root}
	for i := range tenants {
		name := "tenant-" + strconv.Itoa(i)
		for j := range objects {
			if err := out.add(edits, name, j, 80); err != nil {
				b.Fatal(err)
			}
		}
	}
	tree, err := l.store.Edit(git.Hash{}, edits)
	if err != nil {
		b.Fatal(err)
	}
	out.commitMainAndBase(b, tree)
	out.tenant = newTenant("tenant-" + strconv.Itoa(tenants/2))
	out.tenant.object = &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: out.tenant.name}}
	out.tenant.store = l.store
	out.tenant.applied.known, out.tenant.applied.root = true, tree
	l.tenants[out.tenant.name] = out.tenant
	if out.tree, err = l.store.Edit(git.Hash{}, mine(edits, out.tenant.name)); err != nil {
		b.Fatal(err)
	}
	return out
}

func mine(files map[string][]byte, tenant string) map[string][]byte {
	own := map[string][]byte{}
	for path, content := range files {
		if tenantOf(path) == tenant {
			own[path] = content
		}
	}
	return own
}

func (l *large) add(edits map[string][]byte, tenant string, j, port int) error {
	name := fmt.Sprintf("web-%d", j)
	meta := metav1.ObjectMeta{
		Namespace: v1alpha1.TenantNamespace(tenant), Name: "shop." + name,
		Labels: map[string]string{v1alpha1.LabelOriginName: name, v1alpha1.LabelOriginNS: "shop", v1alpha1.LabelOriginKind: "Service"},
	}
	for _, object := range []repo.Object{
		&v1alpha1.LoadBalancer{ObjectMeta: meta, Spec: v1alpha1.LoadBalancerSpec{
			Type:  corev1.ServiceTypeLoadBalancer,
			Ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: int32(port), Protocol: corev1.ProtocolTCP}},
			Endpoints: []v1alpha1.LoadBalancerEndpoints{{
				Name: "default", AddressesReference: &corev1.ObjectReference{Name: "default"}, BackendReference: &corev1.ObjectReference{Name: meta.Name},
			}},
		}},
		&v1alpha1.Backend{ObjectMeta: *meta.DeepCopy(), Spec: v1alpha1.BackendSpec{
			Ports: []v1alpha1.BackendPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080}},
		}},
	} {
		path, err := repo.PathOf(object)
		if err != nil {
			return err
		}
		if edits[path], err = repo.Encode(object); err != nil {
			return err
		}
	}
	return nil
}

// commitMainAndBase makes a tree what main and base are.
func (l *large) commitMainAndBase(b *testing.B, tree git.Hash) {
	b.Helper()
	hash, err := l.store.NewCommit(git.CommitSpec{Tree: tree, Author: l.committer(), Message: "Begin", Signer: l.signer})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.readMain(hash); err != nil {
		b.Fatal(err)
	}
	l.base = base{tip: hash, main: hash, commit: l.main, tree: tree}
	if err := errors.Join(l.readBaseTree(tree), l.readTruth(b.Context())); err != nil {
		b.Fatal(err)
	}
}

// change makes the tenant propose another port for one load balancer.
func (l *large) change() error {
	l.n++
	edits := map[string][]byte{}
	if err := l.add(edits, l.tenant.name, 0, 1000+l.n%60000); err != nil {
		return err
	}
	var err error
	if l.tree, err = l.store.Edit(l.tree, edits); err != nil {
		return err
	}
	branch := "intent/" + l.tenant.name
	var parents []git.Hash
	if !l.tip.IsZero() {
		parents = append(parents, l.tip)
	}
	l.tip, err = l.store.NewCommit(git.CommitSpec{
		Tree: l.tree, Parents: parents, Author: l.committer(), Message: "intents", Signer: l.signer,
		Trailers: git.Trailers{
			{Key: repo.TrailerRepository, Value: repositoryID}, {Key: repo.TrailerBranch, Value: branch}, {Key: repo.TrailerTenant, Value: l.tenant.name},
			{Key: repo.TrailerGeneration, Value: strconv.Itoa(l.n)}, {Key: repo.TrailerCluster, Value: clusterOf("c")}, {Key: repo.TrailerEpoch, Value: "0"},
		},
	})
	l.refs[repo.IntentRef(l.tenant.name)] = l.tip
	return err
}

// step integrates and plans what the tenant proposes, as a pass does between its
// requests to the Git server.
func (l *large) step(b *testing.B) {
	b.Helper()
	decisions, err := l.decideAll(b.Context())
	if err != nil || len(decisions) != 1 || decisions[0].refuse != nil {
		b.Fatalf("%d decisions, %+v: %v", len(decisions), decisions, err)
	}
	c, err := l.compose(decisions)
	if err != nil || c.main.IsZero() || c.base.IsZero() {
		b.Fatalf("nothing was composed: %v", err)
	}
	if err := errors.Join(l.moved(c), l.readTruth(b.Context())); err != nil {
		b.Fatal(err)
	}
	p, err := l.planTenant(b.Context(), l.tenant, nil)
	if err != nil || len(p.Apply) != 1 || len(p.Prune) > 0 {
		b.Fatalf("the plan is %+v: %v", p, err)
	}
	l.tenant.applied.root, l.tenant.applied.dir = l.truth.followed, l.mainDir[l.tenant.name]
}

// BenchmarkOneChangeAmongManyFiles integrates and plans one changed file: what it
// costs does not follow the number of files, but for the list of tenants.
func BenchmarkOneChangeAmongManyFiles(b *testing.B) {
	for _, size := range []struct{ tenants, objects int }{{10, 5}, {100, 50}, {1000, 50}} {
		b.Run(fmt.Sprintf("%d", 2*size.tenants*size.objects), func(b *testing.B) {
			l := newLarge(b, size.tenants, size.objects)
			for b.Loop() {
				b.StopTimer()
				if err := l.change(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				l.step(b)
			}
		})
	}
}
