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
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

func newKeys(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Rotate, back up and restore the hub's keys",
		Long: `The hub's keys are what Git cannot give back: the key that signs its commits, the
identities that open sealed secrets, the authority of its proxies, and the
credentials of the Git servers. A hub that is rebuilt from Git needs them first.`,
		GroupID: groupHub,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysBackup(o), newKeysRestore(o), newKeysRotate(o))
	return cmd
}

func newKeysBackup(o *Options) *cobra.Command {
	var recipients []string
	var plaintext bool
	cmd := &cobra.Command{
		Use:   "backup FILE {--recipient RECIPIENT | --plaintext}",
		Short: "Write the hub's keys to a file",
		Long: `Writes the Secrets that a rebuilt hub needs to a file that only you can read (- is
standard output), encrypted with age to each --recipient. With --plaintext instead
the private keys stand in it as they are: then its name must not end in .age.

Make a new backup after a rotation. An old one still opens what was sealed before it.`,
		Example: `  kubelbctl keys backup hub-keys.age --recipient age1...
  kubelbctl keys backup hub-keys.yaml --plaintext`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkBackup(args[0], recipients, plaintext); err != nil {
				return err
			}
			return o.backup(cmd.Context(), args[0], recipients)
		},
	}
	cmd.Flags().StringArrayVar(&recipients, "recipient", nil, "encrypt the file to this age recipient (repeatable)")
	cmd.Flags().BoolVar(&plaintext, "plaintext", false, "write the private keys without encryption")
	o.Config.AddFlags(cmd.Flags())
	return cmd
}

// checkBackup refuses a backup that is not encrypted and does not say so.
func checkBackup(file string, recipients []string, plaintext bool) error {
	const encrypted = "Encrypt it: --recipient age1... (age-keygen makes one)."
	switch {
	case len(recipients) > 0 && plaintext:
		return usage("Leave one of them out.", "--recipient encrypts the file, --plaintext does not")
	case len(recipients) > 0:
		return nil
	case strings.EqualFold(filepath.Ext(file), ".age"):
		return usage(encrypted, "%s is named like an encrypted file, and without --recipient it would not be one", file)
	case !plaintext:
		return usage(encrypted+" Or say --plaintext.", "without --recipient the private keys would be written unencrypted")
	}
	return nil
}

// keySecrets names what a rebuilt hub needs: its keys, and what its GitSources
// refer to.
func (h *hub) keySecrets(ctx context.Context) ([]string, error) {
	names := map[string]bool{v1alpha1.SecretHubKeys: true, seal.KeysSecret: true, v1alpha1.SecretXDSCA: true}
	var sources v1alpha1.GitSourceList
	if err := h.List(ctx, &sources, client.InNamespace(h.namespace)); err != nil {
		return nil, err
	}
	for i := range sources.Items {
		spec := &sources.Items[i].Spec
		refs := []*v1alpha1.LocalReference{spec.SecretRef, spec.ProxySecretRef}
		if spec.Webhook != nil {
			refs = append(refs, &spec.Webhook.SecretRef)
		}
		if spec.Forge != nil {
			refs = append(refs, &spec.Forge.SecretRef)
		}
		for _, ref := range refs {
			if ref != nil {
				names[ref.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func (o *Options) backup(ctx context.Context, file string, recipients []string) error {
	h, err := o.hub()
	if err != nil {
		return err
	}
	names, err := h.keySecrets(ctx)
	if err != nil {
		return h.explain(err, "GitSources in "+h.namespace)
	}
	var out bytes.Buffer
	var saved []string
	for _, name := range names {
		var secret corev1.Secret
		err := h.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: name}, &secret)
		if apierrors.IsNotFound(err) && name != v1alpha1.SecretHubKeys {
			say(o.ErrOut, "there is no Secret %s/%s: left out\n", h.namespace, name)
			continue
		}
		if err != nil {
			return h.explain(err, "Secret "+h.namespace+"/"+name)
		}
		text, err := yaml.Marshal(bareSecret(&secret))
		if err != nil {
			return err
		}
		say(&out, "---\n%s", text)
		saved = append(saved, name)
	}
	data := out.Bytes()
	if len(recipients) > 0 {
		if data, err = encrypt(data, recipients); err != nil {
			return err
		}
	}
	if len(recipients) == 0 {
		say(o.ErrOut, "NOT ENCRYPTED: whoever reads this has the hub's private keys\n")
	}
	if file == "-" {
		_, err := o.Out.Write(data)
		return err
	}
	if err := writePrivate(file, data); err != nil {
		return err
	}
	o.say("saved %s to %s\n", strings.Join(saved, ", "), file)
	return nil
}

// bareSecret is a Secret without what an API server adds.
func bareSecret(s *corev1.Secret) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels},
		Type:       s.Type, Immutable: s.Immutable, Data: s.Data,
	}
}

// writePrivate writes a new file that only its owner can read.
func writePrivate(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if os.IsExist(err) {
		return refuse("Name another file: what may hold keys is never written over.", "%s exists", name)
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func encrypt(data []byte, recipients []string) ([]byte, error) {
	to, err := age.ParseRecipients(strings.NewReader(strings.Join(recipients, "\n")))
	if err != nil {
		return nil, usage("Give what age-keygen printed as public key: age1...", "--recipient: %v", err)
	}
	var out bytes.Buffer
	outer := armor.NewWriter(&out)
	inner, err := age.Encrypt(outer, to...)
	if err != nil {
		return nil, err
	}
	if _, err := inner.Write(data); err != nil {
		return nil, err
	}
	if err := errors.Join(inner.Close(), outer.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func newKeysRestore(o *Options) *cobra.Command {
	var identity string
	var force bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put the keys of a backup into a new hub",
		Long: `Makes the Secrets of a backup in the hub's namespace, which is made if it is not there.
Do this before the hub starts for the first time: a hub without keys makes new ones,
and no tenant trusts those.

A Secret that is there with other content is left alone, unless --force.`,
		Example: `  kubelbctl keys restore hub-keys.age --identity backup-key.txt`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.restore(cmd.Context(), args[0], identity, force)
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", "file with the age identity that opens the backup")
	cmd.Flags().BoolVar(&force, "force", false, "write over Secrets that have other content")
	o.Config.AddFlags(cmd.Flags())
	return cmd
}

func (o *Options) restore(ctx context.Context, file, identity string, force bool) error {
	secrets, err := o.readBackup(file, identity)
	if err != nil {
		return err
	}
	h, err := o.hub()
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.namespace}}
	if err := h.Create(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		return h.explain(err, "Namespace "+h.namespace)
	}
	kept := 0
	for _, secret := range secrets {
		secret.Namespace = h.namespace
		done, err := h.put(ctx, secret, force)
		if err != nil {
			return h.explain(err, "Secret "+h.namespace+"/"+secret.Name)
		}
		o.say("secret/%s %s\n", secret.Name, done)
		if done == secretKept {
			kept++
		}
	}
	if kept > 0 {
		return refuse("If the backup is right: stop the hub, restore with --force, start the hub.", "%s with other content left alone", plural(kept, "Secret"))
	}
	return nil
}

// What became of a Secret that was restored.
const (
	secretCreated   = "created"
	secretUnchanged = "unchanged"
	secretReplaced  = "replaced"
	secretKept      = "left alone: it has other content"
)

func (h *hub) put(ctx context.Context, secret *corev1.Secret, force bool) (string, error) {
	err := h.Create(ctx, secret)
	if !apierrors.IsAlreadyExists(err) {
		return secretCreated, err
	}
	var current corev1.Secret
	if err := h.Get(ctx, client.ObjectKeyFromObject(secret), &current); err != nil {
		return "", err
	}
	switch {
	case maps.EqualFunc(current.Data, secret.Data, bytes.Equal):
		return secretUnchanged, nil
	case !force:
		return secretKept, nil
	}
	current.Data = secret.Data
	return secretReplaced, h.Update(ctx, &current, client.FieldOwner("kubelbctl"))
}

func (o *Options) readBackup(file, identity string) ([]*corev1.Secret, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(o.In)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(armor.Header)) {
		if data, err = decrypt(data, identity); err != nil {
			return nil, err
		}
	}
	var secrets []*corev1.Secret
	for _, document := range bytes.Split(data, []byte("---\n")) {
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		var secret corev1.Secret
		if err := yaml.UnmarshalStrict(document, &secret); err != nil || secret.Kind != "Secret" || secret.Name == "" {
			return nil, refuse("Name a file that kubelbctl keys backup wrote.", "%s is no backup of keys", file)
		}
		secrets = append(secrets, &secret)
	}
	if len(secrets) == 0 {
		return nil, refuse("Name a file that kubelbctl keys backup wrote.", "%s is no backup of keys", file)
	}
	return secrets, nil
}

func decrypt(data []byte, identity string) ([]byte, error) {
	if identity == "" {
		return nil, usage("Name the file with the identity: --identity.", "the backup is encrypted")
	}
	f, err := os.Open(identity)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	with, err := age.ParseIdentities(f)
	if err != nil {
		return nil, usage("Name a file that age-keygen wrote.", "%s holds no age identity", identity)
	}
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), with...)
	if err != nil {
		return nil, refuse("Use the identity whose recipient the backup was made for.", "the backup does not open: %v", err)
	}
	return io.ReadAll(plain)
}
