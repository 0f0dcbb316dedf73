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

package testbed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Writer stands in for a tenant cluster and its CCM where there are to be many:
// it pushes signed intents, as a CCM does, and reads no answers.
type Writer struct {
	Tenant string

	signer     *git.Signer
	remote     *git.Remote
	store      *git.Store
	tip        git.Hash
	generation int64
	repository string
}

// writerNamespace is where the load balancers of Writers come from.
const writerNamespace = "shop"

// Enroll makes a Tenant that has a Writer in place of a cluster.
func (s *System) Enroll(ctx context.Context, name string) (*Writer, error) {
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.TenantSpec{AllowedEndpointCIDRs: []string{"127.0.0.0/8"}}}
	if err := s.HubClient.Create(ctx, tenant); err != nil {
		return nil, err
	}
	user := "ccm-" + name
	password := s.Git.AddUser(user, "")
	s.Repository.Allow(user, repo.IntentRef(name))
	w := &Writer{Tenant: name, store: git.NewStore()}
	err := Eventually(ctx, "the ID of the repository", func() error {
		var source v1alpha1.GitSource
		if err := s.HubClient.Get(ctx, client.ObjectKey{Namespace: HubNamespace, Name: SourceName}, &source); err != nil {
			return err
		}
		if w.repository = source.Status.RepositoryID; w.repository == "" {
			return errors.New("the GitSource does not say it yet")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if w.signer, err = git.GenerateKey(); err != nil {
		return nil, err
	}
	w.remote, err = git.NewRemote(s.Repository.URL(), git.Options{Auth: git.Auth{Username: user, Password: password}, Timeout: time.Minute})
	return w, err
}

// Close gives the connections back.
func (w *Writer) Close() { w.remote.Close() }

// LoadBalancer is what a Service of type LoadBalancer becomes: the wish and the
// fact, by path.
func (w *Writer) LoadBalancer(name string, port int32) (map[string][]byte, error) {
	namespace := v1alpha1.TenantNamespace(w.Tenant)
	meta := metav1.ObjectMeta{
		Namespace: namespace, Name: repo.ObjectName(writerNamespace, name),
		Labels: map[string]string{v1alpha1.LabelOriginName: name, v1alpha1.LabelOriginNS: writerNamespace, v1alpha1.LabelOriginKind: "Service"},
	}
	return w.encode(&v1alpha1.LoadBalancer{ObjectMeta: meta, Spec: v1alpha1.LoadBalancerSpec{
		Type:  corev1.ServiceTypeLoadBalancer,
		Ports: []v1alpha1.LoadBalancerPort{{Name: "http", Port: port, Protocol: corev1.ProtocolTCP}},
		Endpoints: []v1alpha1.LoadBalancerEndpoints{{
			Name: "default", AddressesReference: &corev1.ObjectReference{Name: v1alpha1.DefaultName}, BackendReference: &corev1.ObjectReference{Name: meta.Name},
		}},
	}}, &v1alpha1.Backend{ObjectMeta: *meta.DeepCopy(), Spec: v1alpha1.BackendSpec{
		Ports: []v1alpha1.BackendPort{{Name: "http", Port: port, Protocol: corev1.ProtocolTCP, NodePort: 30080}},
	}})
}

// Nodes is the document with the tenant's nodes.
func (w *Writer) Nodes(addresses ...string) (map[string][]byte, error) {
	object := &v1alpha1.Addresses{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.TenantNamespace(w.Tenant), Name: v1alpha1.DefaultName}}
	for _, address := range addresses {
		object.Spec.Addresses = append(object.Spec.Addresses, v1alpha1.EndpointAddress{IP: address})
	}
	return w.encode(object)
}

func (w *Writer) encode(objects ...repo.Object) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, object := range objects {
		path, err := repo.PathOf(object)
		if err != nil {
			return nil, err
		}
		if files[path], err = repo.Encode(object); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Push makes one commit on the intent branch. It is never tried again: nobody
// else writes the branch.
func (w *Writer) Push(ctx context.Context, edits map[string][]byte) error {
	var parents []git.Hash
	var root git.Hash
	if !w.tip.IsZero() {
		commit, err := w.store.Commit(w.tip)
		if err != nil {
			return err
		}
		root, parents = commit.Tree, []git.Hash{w.tip}
	}
	tree, err := w.store.Edit(root, edits)
	if err != nil {
		return err
	}
	ref := repo.IntentRef(w.Tenant)
	commit, err := w.store.NewCommit(git.CommitSpec{
		Tree: tree, Parents: parents, Message: "intents", Signer: w.signer,
		Author: git.Ident{Name: "kubelb-ccm " + w.Tenant, Email: w.Tenant + "@kubelb.local", When: time.Now()},
		Trailers: git.Trailers{
			{Key: repo.TrailerRepository, Value: w.repository},
			{Key: repo.TrailerBranch, Value: strings.TrimPrefix(ref, repo.RefPrefix)},
			{Key: repo.TrailerTenant, Value: w.Tenant},
			{Key: repo.TrailerGeneration, Value: strconv.FormatInt(w.generation+1, 10)},
			{Key: repo.TrailerCluster, Value: clusterOf(w.Tenant)},
			{Key: repo.TrailerEpoch, Value: "0"},
		},
	})
	if err != nil {
		return err
	}
	if _, err := w.remote.Push(ctx, w.store, []git.RefUpdate{{Name: ref, Old: w.tip, New: commit}}, false); err != nil {
		return fmt.Errorf("push of %s: %w", w.Tenant, err)
	}
	w.tip = commit
	w.generation++
	return nil
}

// clusterOf makes up the UID of a cluster's namespace kube-system.
func clusterOf(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
