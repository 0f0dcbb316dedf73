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
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/repo"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups="",namespace=kubelb,resources=configmaps,verbs=get;create;update

// remembered is what must not go backwards, whatever the Git server says.
type remembered struct {
	repositoryID     string
	intentGeneration int64
	statusGeneration int64
	// hubKeys are the keys that the last accepted status announced, givenKeys those
	// that the CCM had been given by then: lines.
	hubKeys, givenKeys string
}

// memory keeps it across restarts, in a ConfigMap that is written at most once a
// second: the branches themselves say what was lost in between.
type memory struct {
	client client.Client
	api    client.Reader
	name   types.NamespacedName
	log    logr.Logger

	mu     sync.Mutex
	value  remembered
	change chan struct{}
}

func newMemory(c client.Client, api client.Reader, name types.NamespacedName, log logr.Logger) *memory {
	return &memory{client: c, api: api, name: name, log: log, change: make(chan struct{}, 1)}
}

// reference is an object that Events can be about.
func (m *memory) reference() runtime.Object {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: m.name.Namespace, Name: m.name.Name},
	}
}

func (m *memory) load(ctx context.Context) error {
	var cm corev1.ConfigMap
	if err := m.api.Get(ctx, m.name, &cm); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	number := func(key string) int64 {
		n, _ := strconv.ParseInt(cm.Data[key], 10, 64)
		return repo.Believable(n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.value = remembered{
		repositoryID:     cm.Data["repositoryID"],
		intentGeneration: number("intentGeneration"),
		statusGeneration: number("statusGeneration"),
		hubKeys:          cm.Data["hubKeys"],
		givenKeys:        cm.Data["givenKeys"],
	}
	return nil
}

func (m *memory) get() remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.value
}

// keep changes what is remembered; it is written soon.
func (m *memory) keep(change func(*remembered)) {
	m.mu.Lock()
	old := m.value
	change(&m.value)
	changed := m.value != old
	m.mu.Unlock()
	if changed {
		signal(m.change)
	}
}

func (m *memory) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = m.save(last)
			return nil
		case <-m.change:
		}
		if err := m.save(ctx); err != nil && ctx.Err() == nil {
			m.log.Error(err, "keep the state; again soon")
			signal(m.change)
		}
		sleep(ctx, time.Second)
	}
}

func (m *memory) save(ctx context.Context) error {
	v := m.get()
	if v == (remembered{}) {
		return nil
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: m.name.Namespace, Name: m.name.Name},
		Data: map[string]string{
			"repositoryID":     v.repositoryID,
			"intentGeneration": strconv.FormatInt(v.intentGeneration, 10),
			"statusGeneration": strconv.FormatInt(v.statusGeneration, 10),
			"hubKeys":          v.hubKeys,
			"givenKeys":        v.givenKeys,
		},
	}
	err := m.client.Update(ctx, cm)
	if apierrors.IsNotFound(err) {
		err = m.client.Create(ctx, cm)
	}
	return err
}
