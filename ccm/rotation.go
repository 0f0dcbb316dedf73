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
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The hub's keys. A CCM begins with those that it was installed with. From then
// on the last status that it believed says which keys sign the next one, so that
// the hub can change its key and an old one stops counting. A key that is given
// to the CCM after that counts as well.

// missedStatuses is how many status commits back a change of the hub's key is
// looked for that the CCM has missed.
const missedStatuses = 100

// trusted are the keys that a status may be signed with.
func (o *observer) trusted(known remembered) []git.PublicKey {
	if known.hubKeys == "" {
		return o.hubKeys
	}
	keys := parseLines(known.hubKeys)
	old := parseLines(known.givenKeys)
	for _, given := range o.hubKeys {
		if !slices.ContainsFunc(old, given.Equal) {
			keys = append(keys, given)
		}
	}
	return keys
}

// remember keeps the keys that an accepted status announces. A key that was given
// later goes on counting by itself until the hub announces it.
func (o *observer) remember(r *remembered, announced []git.PublicKey) {
	if len(announced) == 0 {
		return
	}
	settled, old := o.hubKeys, parseLines(r.givenKeys)
	if r.hubKeys != "" {
		settled = nil
		for _, given := range o.hubKeys {
			if slices.ContainsFunc(old, given.Equal) || slices.ContainsFunc(announced, given.Equal) {
				settled = append(settled, given)
			}
		}
	}
	r.hubKeys, r.givenKeys = joinLines(announced), joinLines(settled)
}

// watchKeys says where another key was given to the CCM than those that the hub
// announced: whoever replaced --hub-key may believe that the old key counts no
// more.
func (o *observer) watchKeys() {
	known := o.memory.get()
	if o.options.Adopt && o.tip.IsZero() {
		return // only the given ones count
	}
	old := parseLines(known.givenKeys)
	announced := parseLines(known.hubKeys)
	given := slices.DeleteFunc(slices.Clone(o.hubKeys), func(k git.PublicKey) bool {
		return slices.ContainsFunc(old, k.Equal) || slices.ContainsFunc(announced, k.Equal)
	})
	believed := slices.DeleteFunc(announced, func(k git.PublicKey) bool { return slices.ContainsFunc(o.hubKeys, k.Equal) })
	if len(given) == 0 || len(believed) == 0 {
		o.notices.clear(noticeKeys)
		return
	}
	o.notices.set(noticeKeys, v1alpha1.Problem{Reason: ReasonHubKeyReplaced,
		Message: fmt.Sprintf("the CCM was given the hub key %s and still believes %s, too, which the hub announced under its signature",
			fingerprints(given), fingerprints(believed)),
		Remedy: "to revoke the old key at once, start the CCM once with --adopt; while the hub changes its key this passes by itself; a key that was given by mistake is taken out of --hub-key"})
}

func fingerprints(keys []git.PublicKey) string {
	var words []string
	for _, key := range keys {
		words = append(words, key.Fingerprint())
	}
	return strings.Join(words, ", ")
}

// announcedBy are the keys that a state announces; none where the one that signed
// it is not among them, because then the next status could not be believed.
func announcedBy(state *v1alpha1.TenantState, signer git.PublicKey) []git.PublicKey {
	if state == nil {
		return nil
	}
	keys := parseLines(strings.Join(state.Status.HubKeys, "\n"))
	if !slices.ContainsFunc(keys, signer.Equal) {
		return nil
	}
	return keys
}

func parseLines(text string) (keys []git.PublicKey) {
	for line := range strings.Lines(text) {
		if key, err := git.ParsePublicKey(strings.TrimSpace(line)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

func joinLines(keys []git.PublicKey) string {
	var lines []string
	for _, key := range keys {
		lines = append(lines, key.String())
	}
	return strings.Join(lines, "\n")
}

// introduced looks for the announcement of a key that this CCM does not know, in
// the status commits behind one that is signed with it. It returns the keys that
// count for the commit.
func (o *observer) introduced(ctx context.Context, tip git.Commit) ([]git.PublicKey, error) {
	if err := o.upstream.past(ctx, o.store, tip.Hash, missedStatuses); err != nil {
		return nil, err
	}
	keys := o.trusted(o.memory.get())
	var unknown []git.Commit // newest first
	for c, err := range o.store.FirstParents(tip.Hash) {
		if err != nil || len(unknown) > missedStatuses {
			return nil, nil //nolint:nilerr // the branch does not say more
		}
		unknown = append(unknown, c)
		if _, err := c.Verify(keys...); err == nil {
			break
		}
	}
	for _, c := range slices.Backward(unknown) {
		signer, err := c.Verify(keys...)
		if err != nil || c.Trailers.Get(repo.TrailerTenant) != o.options.Tenant || c.Trailers.Number(repo.TrailerGeneration) < o.memory.get().statusGeneration {
			return nil, nil //nolint:nilerr // the announcements do not lead on
		}
		state, err := o.stateIn(c.Tree)
		if err != nil {
			return nil, err
		}
		if announced := announcedBy(state, signer); len(announced) > 0 {
			keys = announced
		}
	}
	return keys, nil
}

// stateIn reads the TenantState of a status commit, nil if there is none.
func (o *observer) stateIn(tree git.Hash) (*v1alpha1.TenantState, error) {
	path := repo.Path{Tenant: o.options.Tenant, Kind: v1alpha1.KindTenantState}.String()
	file, ok, err := o.store.File(tree, path)
	if err != nil || !ok {
		return nil, err
	}
	object, _ := repo.DecodeStatus(path, file)
	state, _ := object.(*v1alpha1.TenantState)
	return state, nil
}

// verify checks the signature of a status commit. It returns the key of it.
func (o *observer) verify(ctx context.Context, c git.Commit, known remembered) (git.PublicKey, error) {
	signer, err := c.Verify(o.trusted(known)...)
	if !errors.Is(err, git.ErrUnknownKey) || known.hubKeys == "" {
		return signer, err
	}
	keys, missed := o.introduced(ctx, c)
	if missed != nil {
		o.log.V(1).Info("the past of the status branch cannot be read", "error", missed.Error())
	}
	if len(keys) > 0 {
		return c.Verify(keys...)
	}
	return signer, err
}

// keyEvery is how often the CCM looks whether its own key was replaced.
const keyEvery = 30 * time.Second

// followKey signs with another key when the Secret has one.
func (e *engine) followKey(ctx context.Context) error {
	name := types.NamespacedName{Namespace: e.options.Namespace, Name: KeySecretName}
	for sleep(ctx, e.options.keyEvery) {
		var secret corev1.Secret
		if err := e.api.Get(ctx, name, &secret); err != nil {
			if client.IgnoreNotFound(err) != nil {
				e.log.V(1).Info("the signing key cannot be read", "error", err.Error())
			}
			continue
		}
		signer, err := git.ParsePrivateKey(secret.Data[keyIdentity])
		if err != nil {
			e.log.Error(err, "the signing key stays as it is", "secret", name.String())
			continue
		}
		e.publisher.signWith(signer)
	}
	return nil
}

// signWith has the next commit signed with a key, and one made if the branch's
// tip is signed with another.
func (p *publisher) signWith(signer *git.Signer) {
	p.mu.Lock()
	changed := p.nextSigner == nil && !signer.PublicKey().Equal(p.signer.PublicKey()) ||
		p.nextSigner != nil && !signer.PublicKey().Equal(p.nextSigner.PublicKey())
	if changed {
		p.nextSigner = signer
	}
	p.mu.Unlock()
	if changed {
		p.poke()
	}
}

// changeSigner takes over a key that signWith was given.
func (p *publisher) changeSigner() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nextSigner == nil {
		return
	}
	p.log.Info("signing intents with another key", "key", p.nextSigner.PublicKey().String())
	p.signer, p.nextSigner, p.takeOver = p.nextSigner, nil, true
}
