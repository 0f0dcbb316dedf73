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
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/ccm/render"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
)

// LeaseName is the name of the Lease that leaders of one cluster hold.
const LeaseName = "19f32e7b.ccm.kubelb.k8c.io"

// Names of objects in Options.Namespace.
const (
	KeySecretName       = "kubelb-ccm-key"
	StateName           = "kubelb-ccm-state"
	DigestKeySecretName = "kubelb-ccm-digest-key"
	DigestsName         = "kubelb-ccm-sealed"
)

// Options are the settings of a CCM.
type Options struct {
	// Tenant is the name of this cluster.
	Tenant string
	// Namespace holds the CCM's own objects; "kubelb" if empty.
	Namespace string

	// GitURL is the repository, GitSecret the Secret in Namespace with the
	// credentials, GitProxySecret one with the proxy, all in Flux's format (see
	// git.ReadSecret). Without such Secrets nobody is introduced, and the
	// environment says what proxy there is.
	GitURL         string
	GitSecret      string
	GitProxySecret string
	// HubKeys are the public keys of the hub: lines of an authorized_keys file, or
	// @ and the name of such a file.
	HubKeys []string
	// Adopt continues a branch that another cluster, a leader with a higher epoch
	// or another repository left behind.
	Adopt bool

	// NodeAddressType is the type of the node addresses that the hub connects to;
	// ExternalIP if empty.
	NodeAddressType corev1.NodeAddressType
	// HealthCheckPort is where nodes are looked for kube-proxy's /healthz; 0 for
	// nowhere.
	HealthCheckPort int32
	// UseLoadBalancerClass leaves Services without a class to others, as those of
	// another class always are.
	UseLoadBalancerClass bool

	// Lease is held by the leader; empty without leader election.
	Lease types.NamespacedName

	// WebhookAddr listens for news of the repository (POST /hook); off if empty.
	WebhookAddr string
	// WebhookType is the format of such requests: generic-hmac if empty, or
	// github, gitlab, gitea.
	WebhookType string
	// WebhookTokenFile has the key of their signatures (GitLab: the secret token).
	WebhookTokenFile string

	// keyEvery is how often the CCM looks for another signing key, silence how long
	// the hub may leave what was pushed unanswered; the constants if 0.
	keyEvery, silence time.Duration

	// now is the clock; time.Now if nil.
	now func() time.Time
}

// SetupWithManager adds the CCM to a manager.
func SetupWithManager(mgr ctrl.Manager, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	keys, err := parseHubKeys(o.HubKeys)
	if err != nil {
		return err
	}
	e := newEngine(mgr, o, keys)
	if err := e.setup(mgr); err != nil {
		return err
	}
	if err := mgr.Add(e); err != nil {
		return fmt.Errorf("add the publisher and the observer: %w", err)
	}
	if o.WebhookAddr == "" {
		return nil
	}
	hook, err := newHook(&o, e.observer.poke)
	if err != nil {
		return err
	}
	return mgr.Add(hook)
}

func (o *Options) complete() error {
	if o.Namespace == "" {
		o.Namespace = "kubelb"
	}
	if o.NodeAddressType == "" {
		o.NodeAddressType = corev1.NodeExternalIP
	}
	if o.now == nil {
		o.now = time.Now
	}
	o.keyEvery, o.silence = cmp.Or(o.keyEvery, keyEvery), cmp.Or(o.silence, silence)
	switch o.NodeAddressType {
	case corev1.NodeExternalIP, corev1.NodeInternalIP, corev1.NodeHostName:
	default:
		return fmt.Errorf("node address type %q: write ExternalIP, InternalIP or Hostname", o.NodeAddressType)
	}
	if o.HealthCheckPort < 0 || o.HealthCheckPort > 65535 {
		return fmt.Errorf("node health check port %d: write 1 to 65535, or 0 for none", o.HealthCheckPort)
	}
	if !repo.ValidTenant(o.Tenant) {
		return fmt.Errorf("cluster name %q: write a DNS label of at most %d characters", o.Tenant, repo.MaxTenantLength)
	}
	if o.GitURL == "" {
		return errors.New("the URL of the Git repository is missing")
	}
	if err := git.CheckURL(o.GitURL); err != nil {
		return fmt.Errorf("the Git repository: %w", err)
	}
	return nil
}

func (o *Options) render() render.Options {
	return render.Options{Tenant: o.Tenant, UseLoadBalancerClass: o.UseLoadBalancerClass, NodeAddressType: o.NodeAddressType}
}

func parseHubKeys(values []string) ([]git.PublicKey, error) {
	var keys []git.PublicKey
	for _, value := range values {
		if name, ok := strings.CutPrefix(value, "@"); ok {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("hub key: %w", err)
			}
			value = string(data)
		}
		for line := range strings.Lines(value) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, err := git.ParsePublicKey(line)
			if err != nil {
				return nil, fmt.Errorf("hub key: %w", err)
			}
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the public key of the hub is missing: kubelbctl tenant add prints it")
	}
	return keys, nil
}
