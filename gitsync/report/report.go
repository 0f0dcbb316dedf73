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

// Package report writes what a status branch says about objects of the hub. It
// is pure: one function per object, so that a change of one object costs one
// file.
//
// It promises that equal statuses are equal bytes and that times are copied,
// never made. It refuses what would make a commit without news: the time of a
// TenantState's last update never travels.
package report

import (
	"bytes"
	"fmt"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// File returns the path and the content of an object's file on the status
// branch of its tenant. The error says why an object has none: its name and
// labels fit no path. The object is not changed.
func File(object repo.Object) (path string, content []byte, err error) {
	path, err = repo.PathOf(object)
	if err != nil {
		return "", nil, fmt.Errorf("report: %w", err)
	}
	if state, ok := object.(*v1alpha1.TenantState); ok {
		state = state.DeepCopy()
		state.Status.LastUpdated = metav1.Time{}
		// Nobody in the tenant waits for what has no source there.
		state.Status.SourceGone = state.Status.SourceGone[:min(len(state.Status.SourceGone), v1alpha1.MaxListed)]
		object = state
	}
	content, err = repo.EncodeStatus(object)
	if err != nil {
		return "", nil, fmt.Errorf("report: %w", err)
	}
	return path, content, nil
}

// Urgency says how soon a change of a file has to be told.
type Urgency int

// The urgencies.
const (
	// None: nothing changed.
	None Urgency = iota
	// Later: news that may be collected for a while.
	Later
	// Decided: another intent commit was decided, or tenants shall seal to others.
	Decided
	// Now: an address changed or an object is gone.
	Now
)

// UrgencyOf compares two versions of the file at a path; nil is absent. The newer
// one was made of object, which is nil where there is none. Only the older one is
// decoded, and only where it may say something that matters.
func UrgencyOf(path string, old, new []byte, object repo.Object) Urgency {
	switch {
	case old == nil && new == nil, old != nil && new != nil && bytes.Equal(old, new):
		return None
	case new == nil:
		return Now
	}
	switch is := object.(type) {
	case *v1alpha1.LoadBalancer:
		var was repo.Object
		if bytes.Contains(old, []byte("ingress:")) {
			was, _ = repo.DecodeStatus(path, repo.NewFile(old))
		}
		if !apiequality.Semantic.DeepEqual(ingress(was), ingress(is)) {
			return Now
		}
	case *v1alpha1.TenantState:
		was, _ := repo.DecodeStatus(path, repo.NewFile(old))
		before, ok := was.(*v1alpha1.TenantState)
		if !ok || !apiequality.Semantic.DeepEqual(before.Status.ObservedIntent, is.Status.ObservedIntent) ||
			before.Status.RepositoryID != is.Status.RepositoryID ||
			!apiequality.Semantic.DeepEqual(before.Status.Recipients, is.Status.Recipients) {
			return Decided
		}
	}
	return Later
}

func ingress(object repo.Object) []corev1.LoadBalancerIngress {
	if lb, ok := object.(*v1alpha1.LoadBalancer); ok {
		return lb.Status.LoadBalancer.Ingress
	}
	return nil
}
