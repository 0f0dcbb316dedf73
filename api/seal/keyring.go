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

package seal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
)

// KeysSecret is the Secret with the hub's identities, in the hub's namespace.
const KeysSecret = "kubelb-sealing-keys"

// keyLayout is the time in a key's name, in UTC; keySuffix ends the name.
const (
	keyLayout = "20060102T150405Z"
	keySuffix = ".agekey"
)

// Key is an entry of the Secret KeysSecret.
type Key struct {
	// Name in data: the time it was made and ".agekey", such as
	// 20260131T235959Z.agekey.
	Name string
	// Created is the time in the name; zero if there is none, and then the key
	// opens but nobody seals to it.
	Created time.Time
	// Identity (AGE-SECRET-KEY-...) and its Recipient (age1...).
	Identity, Recipient string
}

// NewKey makes a key. It is newer than those in the keyring, so that it is the
// one that tenants seal to.
func (k Keyring) NewKey(now time.Time) (Key, error) {
	created := now.UTC().Truncate(time.Second)
	if newest, ok := k.Newest(); ok && !created.After(newest.Created) {
		created = newest.Created.Add(time.Second)
	}
	identity, recipient, err := GenerateIdentity()
	if err != nil {
		return Key{}, err
	}
	return Key{Name: created.Format(keyLayout) + keySuffix, Created: created, Identity: identity, Recipient: recipient}, nil
}

// File returns the key as age-keygen writes it, which is its value in the
// Secret: age opens sealed files with it.
func (k Key) File() []byte {
	return fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", k.Created.Format(time.RFC3339), k.Recipient, k.Identity)
}

// Keyring are the hub's identities, the newest first.
type Keyring []Key

// ParseKeyring reads the data of the Secret KeysSecret. Bad are the names of
// entries that hold no single identity; the others serve all the same.
func ParseKeyring(data map[string][]byte) (keys Keyring, bad []string) {
	for _, name := range slices.Sorted(maps.Keys(data)) {
		key, ok := parseKey(name, data[name])
		if !ok {
			bad = append(bad, name)
			continue
		}
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Name, b.Name)) })
	return keys, bad
}

func parseKey(name string, file []byte) (Key, bool) {
	parsed, err := age.ParseIdentities(strings.NewReader(string(file)))
	if err != nil || len(parsed) != 1 {
		return Key{}, false
	}
	key := Key{Name: name}
	switch identity := parsed[0].(type) {
	case *age.X25519Identity:
		key.Identity, key.Recipient = identity.String(), identity.Recipient().String()
	case *age.HybridIdentity:
		key.Identity, key.Recipient = identity.String(), identity.Recipient().String()
	default:
		return Key{}, false
	}
	if stem, ok := strings.CutSuffix(name, keySuffix); ok {
		key.Created, _ = time.Parse(keyLayout, stem)
	}
	return key, true
}

// Newest returns the key that tenants seal to.
func (k Keyring) Newest() (Key, bool) {
	if len(k) == 0 || k[0].Created.IsZero() {
		return Key{}, false
	}
	return k[0], true
}

// Recipients returns what tenants seal to: the newest key's.
func (k Keyring) Recipients() []string {
	if newest, ok := k.Newest(); ok {
		return []string{newest.Recipient}
	}
	return nil
}

// Identities returns what opens sealed files, of now and of history.
func (k Keyring) Identities() []string {
	out := make([]string, 0, len(k))
	for _, key := range k {
		out = append(out, key.Identity)
	}
	return out
}
