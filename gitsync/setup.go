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
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/gitsync/webhook"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Options of the package's part of the hub.
type Options struct {
	// Namespace of the hub, where its keys are.
	Namespace string
	// Version of the hub, which tenants are told.
	Version v1alpha1.Version
	// WebhookAddr is the address to hear of news at; empty means none.
	WebhookAddr string
	// Listener takes the place of WebhookAddr.
	Listener net.Listener
	// Clock tells the time; time.Now if nil.
	Clock func() time.Time
	// Forge makes the client of a forge; forge.New if nil.
	Forge func(forge.Options) (forge.Forge, error)
}

// SetupWithManager adds the loops, the watches that wake them and the webhook
// receiver to a manager. Only the leader runs them.
func SetupWithManager(mgr ctrl.Manager, o Options) error {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Forge == nil {
		o.Forge = forge.New
	}
	s := &supervisor{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), log: mgr.GetLogger().WithName("gitsync"),
		options: o, loops: map[client.ObjectKey]*running{}, started: make(chan struct{}),
	}
	if err := mgr.Add(s); err != nil {
		return fmt.Errorf("gitsync: %w", err)
	}
	if err := s.watch(mgr); err != nil {
		return fmt.Errorf("gitsync: %w", err)
	}
	if o.WebhookAddr == "" && o.Listener == nil {
		return nil
	}
	if err := mgr.Add(s.receiver()); err != nil {
		return fmt.Errorf("gitsync: %w", err)
	}
	return nil
}

// receiver serves webhooks. Only the leader does, because it has the loops;
// where requests reach another replica, the interval makes up for it.
func (s *supervisor) receiver() manager.Runnable {
	server := &http.Server{
		Addr:        s.options.WebhookAddr,
		Handler:     webhook.NewHandler(s.webhookToken, s.trigger),
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	return manager.RunnableFunc(func(ctx context.Context) error {
		listener := s.options.Listener
		if listener == nil {
			var err error
			if listener, err = net.Listen("tcp", s.options.WebhookAddr); err != nil {
				return fmt.Errorf("webhook: %w", err)
			}
		}
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("webhook: %w", err)
		}
		return nil
	})
}

// webhookToken looks a source's token up.
func (s *supervisor) webhookToken(ctx context.Context, namespace, name string) ([]byte, error) {
	var source v1alpha1.GitSource
	err := s.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &source)
	if apierrors.IsNotFound(err) || err == nil && source.Spec.Webhook == nil {
		return nil, webhook.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	var secret corev1.Secret
	err = s.live.Get(ctx, referenceKey(source.Spec.Webhook.SecretRef, namespace), &secret)
	if apierrors.IsNotFound(err) {
		return nil, webhook.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return secret.Data["token"], nil
}

// referenceKey resolves a reference; namespace is where it counts from.
func referenceKey(ref v1alpha1.LocalReference, namespace string) client.ObjectKey {
	if ref.Namespace != "" {
		namespace = ref.Namespace
	}
	return client.ObjectKey{Namespace: namespace, Name: ref.Name}
}
