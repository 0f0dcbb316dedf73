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

package seal_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/seal"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func newKey(t *testing.T, k seal.Keyring, now time.Time) seal.Key {
	t.Helper()
	key, err := k.NewKey(now)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTenantsSealToTheNewestKeyAndEveryKeyOpens(t *testing.T) {
	data := map[string][]byte{}
	var all []seal.Key
	for i := range 3 {
		keys, bad := seal.ParseKeyring(data)
		if len(bad) > 0 {
			t.Fatalf("bad: %v", bad)
		}
		key := newKey(t, keys, noon.Add(time.Duration(i)*time.Hour))
		data[key.Name] = key.File()
		all = append([]seal.Key{key}, all...)
	}
	keys, bad := seal.ParseKeyring(data)
	if len(bad) > 0 || !slices.Equal([]seal.Key(keys), all) {
		t.Fatalf("got %v, bad %v, want %v", keys, bad, all)
	}
	if got := keys.Recipients(); !slices.Equal(got, []string{all[0].Recipient}) {
		t.Errorf("recipients %v", got)
	}
	for _, key := range all {
		armored, err := seal.Seal([]string{key.Recipient}, certificate())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Open(keys.Identities(), armored); err != nil {
			t.Errorf("%s: %v", key.Name, err)
		}
	}
}

func TestNewKeyIsTheNewestWhateverTheClock(t *testing.T) {
	first := newKey(t, nil, noon.Add(300*time.Millisecond))
	if first.Name != "20260131T120000Z.agekey" {
		t.Errorf("name %s", first.Name)
	}
	keys := seal.Keyring{first}
	for _, now := range []time.Time{noon, noon.Add(-time.Hour), noon.Add(500 * time.Millisecond)} {
		if second := newKey(t, keys, now); second.Name != "20260131T120001Z.agekey" || second.Recipient == first.Recipient {
			t.Errorf("at %s: %s", now, second.Name)
		}
	}
}

func TestEntriesThatAreNoKeysLeaveTheOthers(t *testing.T) {
	key := newKey(t, nil, noon)
	other := newKey(t, nil, noon)
	data := map[string][]byte{
		key.Name:                  key.File(),
		"restored.txt":            other.File(),
		"20270101T000000Z.agekey": []byte("s3cr3t"),
		"empty.agekey":            nil,
		"two.agekey":              append(key.File(), other.File()...),
	}
	keys, bad := seal.ParseKeyring(data)
	if want := []string{"20270101T000000Z.agekey", "empty.agekey", "two.agekey"}; !slices.Equal(bad, want) {
		t.Errorf("bad %v, want %v", bad, want)
	}
	if got := keys.Recipients(); !slices.Equal(got, []string{key.Recipient}) {
		t.Errorf("recipients %v", got)
	}
	if got := keys.Identities(); !slices.Equal(got, []string{key.Identity, other.Identity}) {
		t.Errorf("%d identities", len(got))
	}
	if keys, _ := seal.ParseKeyring(map[string][]byte{"restored.txt": other.File()}); len(keys.Recipients()) != 0 || len(keys.Identities()) != 1 {
		t.Errorf("a key without a time in its name: %d recipients", len(keys.Recipients()))
	}
}

func TestHybridIdentitiesServeAsWell(t *testing.T) {
	keys, bad := seal.ParseKeyring(map[string][]byte{"20260131T120000Z.agekey": []byte(file(t, "idpq.agekey"))})
	if len(bad) > 0 || len(keys) != 1 || !strings.HasPrefix(keys.Recipients()[0], "age1pq1") {
		t.Errorf("got %d keys, bad %v", len(keys), bad)
	}
}
