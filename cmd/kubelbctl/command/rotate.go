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

package command

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/describe"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func newKeysRotate(o *Options) *cobra.Command {
	var signing, finish bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new key",
		Long: `Without flags it makes a new identity that tenants seal their secrets to. CCMs seal
anew as soon as they hear of it; what was sealed before, also in history, still opens.

With --signing it makes the key that will sign the hub's commits, and the hub
announces it to all tenants under a signature of the present one. Nothing signs with
it before --finish, which is refused until every tenant has been told. CCMs remember
it; those that were away must have been back once before --finish, or be installed
with the new --hub-key.

Make a new backup afterwards.`,
		Example: `  kubelbctl keys rotate
  kubelbctl keys rotate --signing
  kubelbctl keys rotate --signing --finish`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case finish && !signing:
				return usage("Write --signing --finish.", "only the rotation of the signing key has an end")
			case finish:
				return o.finishRotation(cmd.Context())
			case signing:
				return o.announceKey(cmd.Context())
			}
			return o.rotateSealing(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&signing, "signing", false, "the key that signs the hub's commits")
	cmd.Flags().BoolVar(&finish, "finish", false, "sign with the announced key from now on")
	o.Config.AddFlags(cmd.Flags())
	return cmd
}

// changeSecret changes the data of one of the hub's own Secrets. The hub sees all
// of the change or nothing.
func (o *Options) changeSecret(ctx context.Context, name string, change func(h *hub, data map[string][]byte) error) error {
	h, err := o.hub()
	if err != nil {
		return err
	}
	secret, err := h.secretOf(ctx, name)
	if err != nil {
		return err
	}
	if err := change(h, secret.Data); err != nil {
		return err
	}
	return h.explain(h.Update(ctx, secret, client.FieldOwner("kubelbctl")), "Secret "+h.namespace+"/"+name)
}

// secretOf reads one of the hub's own Secrets.
func (h *hub) secretOf(ctx context.Context, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := h.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, refuse("The hub makes it when it starts. Is this the hub's context, and -n its namespace?", "there is no Secret %s/%s", h.namespace, name)
	}
	return &secret, h.explain(err, "Secret "+h.namespace+"/"+name)
}

func (o *Options) rotateSealing(ctx context.Context) error {
	var key seal.Key
	err := o.changeSecret(ctx, seal.KeysSecret, func(_ *hub, data map[string][]byte) (err error) {
		keys, _ := seal.ParseKeyring(data)
		if key, err = keys.NewKey(time.Now()); err == nil {
			data[key.Name] = key.File()
		}
		return err
	})
	if err != nil {
		return err
	}
	o.say("new recipient %s\ntenants seal anew as they hear of it: kubectl get tenantstates -A -o custom-columns=TENANT:.metadata.namespace,RECIPIENTS:.status.recipients\n", key.Recipient)
	return nil
}

func (o *Options) announceKey(ctx context.Context) error {
	var public string
	err := o.changeSecret(ctx, v1alpha1.SecretHubKeys, func(_ *hub, data map[string][]byte) error {
		if len(data[v1alpha1.HubKeyNext]) > 0 {
			return refuse("End it: kubelbctl keys rotate --signing --finish.", "a new key is announced already: %s", line(data[v1alpha1.HubKeyNextPublic]))
		}
		private, made, err := newSSHKey()
		if err != nil {
			return err
		}
		public = made
		data[v1alpha1.HubKeyNext], data[v1alpha1.HubKeyNextPublic] = private, []byte(public+"\n")
		return nil
	})
	if err != nil {
		return err
	}
	o.say("announced %s\nwhen all tenants know it: kubelbctl keys rotate --signing --finish\n", public)
	return nil
}

func (o *Options) finishRotation(ctx context.Context) error {
	var next string
	err := o.changeSecret(ctx, v1alpha1.SecretHubKeys, func(h *hub, data map[string][]byte) error {
		next = line(data[v1alpha1.HubKeyNextPublic])
		if len(data[v1alpha1.HubKeyNext]) == 0 || next == "" {
			return refuse("Begin with: kubelbctl keys rotate --signing.", "no new key is announced")
		}
		if err := h.announced(ctx, next); err != nil {
			return err
		}
		previous := data[v1alpha1.HubKeyPreviousPublic]
		if len(previous) > 0 {
			previous = append(bytes.TrimRight(previous, "\n"), '\n')
		}
		data[v1alpha1.HubKeyPreviousPublic] = append(previous, line(data[v1alpha1.HubKeyIdentityPublic])+"\n"...)
		data[v1alpha1.HubKeyIdentity], data[v1alpha1.HubKeyIdentityPublic] = data[v1alpha1.HubKeyNext], []byte(next+"\n")
		delete(data, v1alpha1.HubKeyNext)
		delete(data, v1alpha1.HubKeyNextPublic)
		return nil
	})
	if err != nil {
		return err
	}
	o.say("the hub signs with %s\ninstall new CCMs with it as --hub-key\n", next)
	return nil
}

// announced refuses a key that some tenant may not have been told of under a
// signature of the present one: its CCM would not believe what the key signs.
// Told is what is on the status branch.
func (h *hub) announced(ctx context.Context, key string) error {
	untold, err := h.untold(ctx, key)
	if err != nil {
		return h.explain(err, "what tenants were told")
	}
	if len(untold) > 0 {
		return refuse("Wait until the hub has told them; kubelbctl status says what is in the way.", "not told yet: %s", strings.Join(untold, ", "))
	}
	var sources v1alpha1.GitSourceList
	if err := h.List(ctx, &sources); err != nil {
		return h.explain(err, "GitSources")
	}
	for i := range sources.Items {
		source := &sources.Items[i]
		if ready, message := readiness(source.Status.Conditions); ready != string(metav1.ConditionTrue) {
			return refuse("Wait until it is Ready: before that tenants hear nothing.", "GitSource %s/%s is not Ready: %s", source.Namespace, source.Name, describe.Visible(message))
		}
	}
	return nil
}

// line is the first line of a public key's file.
func line(file []byte) string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(file)), "\n")
	return first
}

// untold are the tenants whose status branch does not announce a key.
func (h *hub) untold(ctx context.Context, key string) ([]string, error) {
	var tenants v1alpha1.TenantList
	if err := h.List(ctx, &tenants); err != nil {
		return nil, err
	}
	var names []string
	for _, t := range tenants.Items {
		if !t.DeletionTimestamp.IsZero() {
			continue // it will hear a last word and no more
		}
		if t.Status.Git == nil || !slices.ContainsFunc(t.Status.Git.HubKeys, func(k string) bool { return sameKey(k, key) }) {
			names = append(names, t.Name)
		}
	}
	return names, nil
}

// sameKey compares two authorized_keys lines without their comments.
func sameKey(a, b string) bool {
	x, _, _, _, errX := ssh.ParseAuthorizedKey([]byte(a))
	y, _, _, _, errY := ssh.ParseAuthorizedKey([]byte(b))
	return errX == nil && errY == nil && bytes.Equal(x.Marshal(), y.Marshal())
}

// newSSHKey makes an ed25519 key: the private half as OpenSSH's PEM, the public
// one as a line of authorized_keys without its end.
func newSSHKey() (private []byte, public string, err error) {
	publicKey, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, "", err
	}
	line, err := ssh.NewPublicKey(publicKey)
	if err != nil {
		return nil, "", err
	}
	return pem.EncodeToMemory(block), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))), nil
}
