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
	"fmt"
	"net"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/forge"
	"github.com/kubelb/gitops/gitsync/git"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options of the package's part of the hub.
type Options struct {
	// Namespace of the hub, where its keys and GitSources are.
	Namespace string
	// SourceNamespaces are further namespaces whose GitSources the hub follows.
	// Tenants belong to one of those only if they name it.
	SourceNamespaces []string
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

	// made is told of every store of a loop, so that tests can damage it: source is
	// the loop's own, or that of a link.
	made func(loop, source client.ObjectKey, store *git.Store)
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
