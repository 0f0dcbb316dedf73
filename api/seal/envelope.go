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
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kubejson "sigs.k8s.io/json"
)

// MaxPlaintext bounds the JSON of an envelope: about 130 KiB of data. Sealed,
// armored and indented in a document it fits a file of the repository (256 KiB).
const MaxPlaintext = 174 << 10

// Envelope is what is sealed: the content of a Secret and its address.
type Envelope struct {
	// Tenant, Namespace and Name of the Secret in the tenant's cluster.
	Tenant    string `json:"tenant"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Type of the Secret; empty means Opaque.
	Type corev1.SecretType `json:"type,omitempty"`
	// Data of the Secret.
	Data map[string][]byte `json:"data,omitempty"`
}

// Check compares the address with the one that the envelope was found at. The
// error is an [AddressError].
func (e Envelope) Check(tenant, namespace, name string) error {
	switch {
	case e.Tenant != tenant:
		return &AddressError{Part: "tenant"}
	case e.Namespace != namespace:
		return &AddressError{Part: "namespace"}
	case e.Name != name:
		return &AddressError{Part: "name"}
	}
	return nil
}

// Digest tells whether an age file that was made before is still right: it is
// equal for equal envelopes, recipients (in any order) and age files, and tells
// nothing about any of them to those who do not have the key (32 random bytes).
func (e Envelope) Digest(key []byte, recipients []string, armored string) string {
	mac := hmac.New(sha256.New, key)
	text, _ := json.Marshal(struct {
		Purpose, Armored string
		Recipients       []string
		Envelope         Envelope
	}{"kubelb sealed secret", armored, sortedUnique(recipients), e.canonical()}) // cannot fail: strings and bytes
	_, _ = mac.Write(text)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Plaintext returns the JSON that is sealed. The error is [ErrNotEnvelope] or
// [ErrTooLarge].
func (e Envelope) Plaintext() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(e.canonical())
	if err != nil {
		return nil, ErrNotEnvelope
	}
	text = append(text, '\n')
	if len(text) > MaxPlaintext {
		return nil, fmt.Errorf("the content has %d bytes as JSON with base64, at most %d can be sealed: %w", len(text), MaxPlaintext, ErrTooLarge)
	}
	return text, nil
}

// ParsePlaintext reads the JSON. The error is [ErrNotEnvelope] and quotes
// nothing of it.
func ParsePlaintext(text []byte) (Envelope, error) {
	var e Envelope
	strict, err := kubejson.UnmarshalStrict(text, &e)
	if err != nil || len(strict) > 0 {
		return Envelope{}, fmt.Errorf("%w: it is not one JSON object with tenant, namespace, name, type and data (base64), and nothing else", ErrNotEnvelope)
	}
	if err := e.validate(); err != nil {
		return Envelope{}, err
	}
	return e.canonical(), nil
}

func (e Envelope) validate() error {
	for _, part := range []struct{ name, value string }{{"tenant", e.Tenant}, {"namespace", e.Namespace}, {"name", e.Name}} {
		if part.value == "" {
			return fmt.Errorf("%w: it names no %s", ErrNotEnvelope, part.name)
		}
	}
	for key := range e.Data {
		if len(validation.IsConfigMapKey(key)) > 0 {
			return fmt.Errorf("%w: a key of data is not one of a Secret (letters, digits, -, _ and .)", ErrNotEnvelope)
		}
	}
	return nil
}

// canonical makes equal what means the same.
func (e Envelope) canonical() Envelope {
	e.Type = cmp.Or(e.Type, corev1.SecretTypeOpaque)
	data := map[string][]byte{}
	for key, value := range e.Data {
		data[key] = append([]byte{}, value...)
	}
	e.Data = data
	if len(data) == 0 {
		e.Data = nil
	}
	return e
}

func sortedUnique(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// readBounded reads everything, up to a limit.
func readBounded(r io.Reader, limit int) ([]byte, error) {
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if n > int64(limit) {
		return nil, ErrTooLarge
	}
	return out.Bytes(), nil
}
