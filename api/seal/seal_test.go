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
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/kubelb/gitops/api/seal"

	corev1 "k8s.io/api/core/v1"
)

var errorsByName = map[string]error{
	"ErrNoRecipients": seal.ErrNoRecipients, "ErrRecipient": seal.ErrRecipient, "ErrNoIdentities": seal.ErrNoIdentities,
	"ErrIdentity": seal.ErrIdentity, "ErrNotSealed": seal.ErrNotSealed, "ErrCannotOpen": seal.ErrCannotOpen,
	"ErrNotEnvelope": seal.ErrNotEnvelope, "ErrAddress": seal.ErrAddress, "ErrTooLarge": seal.ErrTooLarge,
}

// is reports whether an error is the wanted one of the package, and no other.
func is(err, want error) bool {
	for _, other := range errorsByName {
		if errors.Is(err, other) != errors.Is(want, other) {
			return false
		}
	}
	return true
}

func file(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// certificate is what the files of testdata/open hold. They were made with the
// age command line; so were those of testdata/refused, some damaged afterwards.
func certificate() seal.Envelope {
	return seal.Envelope{
		Tenant: "acme", Namespace: "shop", Name: "cert", Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": []byte("certificate"), "tls.key": []byte("private")},
	}
}

func identity(t testing.TB) (identity, recipient string) {
	t.Helper()
	identity, recipient, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return identity, recipient
}

func TestFilesOfTheCommandLineAreOpened(t *testing.T) {
	identities := []string{file(t, "id1.agekey"), file(t, "idpq.agekey")}
	names, _ := filepath.Glob("testdata/open/*.age")
	if len(names) == 0 {
		t.Fatal("no cases")
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, err := seal.Open(identities, file(t, strings.TrimPrefix(name, "testdata/")))
			if err != nil || !reflect.DeepEqual(got, certificate()) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestWhatCannotBeOpenedSaysWhyAndQuotesNothing(t *testing.T) {
	identities := []string{file(t, "id1.agekey")}
	names, _ := filepath.Glob("testdata/refused/*.age")
	if len(names) == 0 {
		t.Fatal("no cases")
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			word, _, _ := strings.Cut(filepath.Base(name), "-")
			got, err := seal.Open(identities, file(t, strings.TrimPrefix(name, "testdata/")))
			if !is(err, errorsByName[word]) || !reflect.DeepEqual(got, seal.Envelope{}) {
				t.Errorf("got %+v, %v, want %s", got, err, word)
			}
			if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "AGE-SECRET")) {
				t.Errorf("the error quotes what is secret: %v", err)
			}
		})
	}
}

func TestSealedIsOpenedByEachRecipientAndNobodyElse(t *testing.T) {
	first, to1 := identity(t)
	second, to2 := identity(t)
	third, _ := identity(t)
	armored, err := seal.Seal([]string{to1, to2, to1}, certificate())
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range [][]string{{first}, {second}, {third, first}, {first, second, third}} {
		if got, err := seal.Open(with, armored); err != nil || !reflect.DeepEqual(got, certificate()) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if _, err := seal.Open([]string{third}, armored); !is(err, seal.ErrCannotOpen) {
		t.Errorf("a stranger's attempt: %v", err)
	}
	for _, value := range certificate().Data {
		if strings.Contains(armored, string(value)) || strings.Contains(armored, base64.StdEncoding.EncodeToString(value)) {
			t.Error("the file has the plaintext")
		}
	}
}

// TestEveryContentComesBack seals what data can be, with all bytes and sizes
// around the chunks of age.
func TestEveryContentComesBack(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	id, to := identity(t)
	for name, data := range map[string]map[string][]byte{
		"none": nil, "an empty value": {"a": {}}, "all bytes": {"a": all, "A.b_c-1": all[:1]},
		"one chunk": {"a": bytes.Repeat(all, 192)}, "two chunks": {"a": bytes.Repeat(all, 400)},
	} {
		t.Run(name, func(t *testing.T) {
			e := certificate()
			e.Type, e.Data = "example.com/of-my-own", data
			armored, err := seal.Seal([]string{to}, e)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := seal.Open([]string{id}, armored); err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestNothingIsSealedToNobodyOrToWhatIsNoRecipient(t *testing.T) {
	_, to := identity(t)
	hybrid := strings.TrimPrefix(strings.Split(file(t, "idpq.agekey"), "\n")[1], "# public key: ")
	many := make([]string, 65)
	for i := range many {
		_, many[i] = identity(t)
	}
	for name, c := range map[string]struct {
		to   []string
		want error
	}{
		"nobody":                     {nil, seal.ErrNoRecipients},
		"an empty one":               {[]string{""}, seal.ErrRecipient},
		"a word":                     {[]string{"hub"}, seal.ErrRecipient},
		"one with a mistake":         {[]string{to[:len(to)-1] + "b"}, seal.ErrRecipient},
		"two in one":                 {[]string{to + "\n" + to}, seal.ErrRecipient},
		"an identity":                {[]string{file(t, "id1.agekey")}, seal.ErrRecipient},
		"a good one and a bad one":   {[]string{to, "age1"}, seal.ErrRecipient},
		"hybrid and other together":  {[]string{to, hybrid}, seal.ErrRecipient},
		"more than a file can be to": {many, seal.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			armored, err := seal.Seal(c.to, certificate())
			if !is(err, c.want) || armored != "" {
				t.Errorf("got %q, %v, want %v", armored, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "AGE-SECRET") {
				t.Errorf("the error quotes an identity: %v", err)
			}
		})
	}
	if armored, err := seal.Seal([]string{hybrid}, certificate()); err != nil {
		t.Errorf("a hybrid recipient alone: %v", err)
	} else if got, err := seal.Open([]string{file(t, "idpq.agekey")}, armored); err != nil || !reflect.DeepEqual(got, certificate()) {
		t.Errorf("opened with the hybrid identity: %+v, %v", got, err)
	}
}

func TestNothingIsOpenedWithWhatIsNoIdentity(t *testing.T) {
	armored := file(t, "open/command-line.age")
	for name, c := range map[string]struct {
		with []string
		want error
	}{
		"nothing":   {nil, seal.ErrNoIdentities},
		"a word":    {[]string{"s3cr3t"}, seal.ErrIdentity},
		"a mistake": {[]string{"AGE-SECRET-KEY-1S3CR3T"}, seal.ErrIdentity},
		"a comment": {[]string{"# s3cr3t"}, seal.ErrIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := seal.Open(c.with, armored); !is(err, c.want) || strings.Contains(strings.ToLower(err.Error()), "s3cr3t") {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestAddressIsChecked(t *testing.T) {
	e := certificate()
	if err := e.Check("acme", "shop", "cert"); err != nil {
		t.Error(err)
	}
	for part, address := range map[string][3]string{
		"tenant": {"globex", "shop", "cert"}, "namespace": {"acme", "shop2", "cert"}, "name": {"acme", "shop", "cert2"},
	} {
		err := e.Check(address[0], address[1], address[2])
		var wrong *seal.AddressError
		if !is(err, seal.ErrAddress) || !errors.As(err, &wrong) || wrong.Part != part {
			t.Errorf("%s: %v", part, err)
		}
	}
	for _, without := range []seal.Envelope{
		{Namespace: "shop", Name: "cert"}, {Tenant: "acme", Name: "cert"}, {Tenant: "acme", Namespace: "shop"},
		{Tenant: "acme", Namespace: "shop", Name: "cert", Data: map[string][]byte{"a/b": nil}},
	} {
		_, to := identity(t)
		if _, err := seal.Seal([]string{to}, without); !is(err, seal.ErrNotEnvelope) {
			t.Errorf("%+v: %v", without, err)
		}
	}
}

// TestSizeIsBounded seals the largest content, which must fit a file of the
// repository when it is indented, and refuses one byte more.
func TestSizeIsBounded(t *testing.T) {
	id, to := identity(t)
	e := certificate()
	e.Data = map[string][]byte{"a": {}}
	empty, err := e.Plaintext()
	if err != nil {
		t.Fatal(err)
	}
	room := (seal.MaxPlaintext - len(empty)) / 4 * 3
	e.Data["a"] = bytes.Repeat([]byte{'x'}, room)
	armored, err := seal.Seal([]string{to}, e)
	if err != nil {
		t.Fatal(err)
	}
	if indented := len(armored) + 2*strings.Count(armored, "\n"); indented > 256<<10-8<<10 {
		t.Errorf("the largest takes %d bytes of a document", indented)
	}
	if got, err := seal.Open([]string{id}, armored); err != nil || len(got.Data["a"]) != room {
		t.Errorf("the largest: %v", err)
	}
	e.Data["a"] = append(e.Data["a"], "xxxx"...)
	if _, err := seal.Seal([]string{to}, e); !is(err, seal.ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
	if _, err := seal.Open([]string{id}, encrypt(t, to, bytes.Repeat([]byte{' '}, seal.MaxPlaintext+1))); !is(err, seal.ErrTooLarge) {
		t.Errorf("a larger one that others sealed: %v", err)
	}
	if _, err := seal.Open([]string{id}, strings.Repeat("x", seal.MaxSealed+1)); !is(err, seal.ErrTooLarge) {
		t.Errorf("a larger file: %v", err)
	}
}

func TestVeryLongHeadersAreNotTried(t *testing.T) {
	id, to := identity(t)
	recipient, err := age.ParseX25519Recipient(to)
	if err != nil {
		t.Fatal(err)
	}
	recipients := make([]age.Recipient, 65)
	for i := range recipients {
		recipients[i] = recipient
	}
	if _, err := seal.Open([]string{id}, encryptTo(t, recipients, []byte("{}"))); !is(err, seal.ErrNotSealed) {
		t.Errorf("got %v", err)
	}
}

func TestDigestIsOfContentRecipientsAndFile(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	_, to1 := identity(t)
	_, to2 := identity(t)
	digest := certificate().Digest(key, []string{to1, to2}, "file")
	same := certificate()
	same.Data = maps.Clone(same.Data)
	if got := same.Digest(key, []string{to2, to1, to2}, "file"); got != digest {
		t.Error("the order of recipients matters")
	}
	untyped, opaque := certificate(), certificate()
	untyped.Type, opaque.Type = "", corev1.SecretTypeOpaque
	if untyped.Digest(key, nil, "") != opaque.Digest(key, nil, "") {
		t.Error("no type is not the same as Opaque")
	}
	nothing, empty := certificate(), certificate()
	nothing.Data, empty.Data = map[string][]byte{"a": nil}, map[string][]byte{"a": {}}
	if nothing.Digest(key, nil, "") != empty.Digest(key, nil, "") {
		t.Error("an absent value is not the same as an empty one")
	}
	seen := map[string]string{digest: "the first"}
	differ := func(what, other string) {
		t.Helper()
		if before, ok := seen[other]; ok {
			t.Errorf("%s has the digest of %s", what, before)
		}
		seen[other] = what
	}
	differ("another key", certificate().Digest(bytes.Repeat([]byte{8}, 32), []string{to1, to2}, "file"))
	differ("another age file", certificate().Digest(key, []string{to1, to2}, "another"))
	differ("fewer recipients", certificate().Digest(key, []string{to1}, "file"))
	for what, change := range map[string]func(*seal.Envelope){
		"another tenant":    func(e *seal.Envelope) { e.Tenant = "globex" },
		"another namespace": func(e *seal.Envelope) { e.Namespace = "shop2" },
		"another name":      func(e *seal.Envelope) { e.Name = "cert2" },
		"another type":      func(e *seal.Envelope) { e.Type = corev1.SecretTypeOpaque },
		"another value":     func(e *seal.Envelope) { e.Data["tls.key"] = []byte("other") },
		"another key name":  func(e *seal.Envelope) { e.Data["x"] = e.Data["tls.key"]; delete(e.Data, "tls.key") },
		"no data":           func(e *seal.Envelope) { e.Data = nil },
	} {
		e := certificate()
		change(&e)
		differ(what, e.Digest(key, []string{to1, to2}, "file"))
	}
}

// TestCommandLineOpensAndMakesWhatThePackageDoes does with the library what
// `age --decrypt --identity` and `age --encrypt --armor --recipient` do, and with
// the program itself where it is installed.
func TestCommandLineOpensAndMakesWhatThePackageDoes(t *testing.T) {
	id, to := identity(t)
	armored, err := seal.Seal([]string{to}, certificate())
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"tenant":"acme","namespace":"shop","name":"cert","type":"kubernetes.io/tls","data":{"tls.crt":"Y2VydGlmaWNhdGU=","tls.key":"cHJpdmF0ZQ=="}}` + "\n"
	if got := decrypt(t, id, armored); got != text {
		t.Errorf("age sees %s", got)
	}
	if got, err := seal.Open([]string{id}, encrypt(t, to, []byte(text))); err != nil || !reflect.DeepEqual(got, certificate()) {
		t.Errorf("what age made: %+v, %v", got, err)
	}
	program, err := exec.LookPath("age")
	if err != nil {
		return
	}
	keys := filepath.Join(t.TempDir(), "keys.txt")
	if err := os.WriteFile(keys, []byte(id+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, armored, program, "--decrypt", "--identity", keys); got != text {
		t.Errorf("%s sees %s", program, got)
	}
	if got, err := seal.Open([]string{id}, run(t, text, program, "--encrypt", "--armor", "--recipient", to)); err != nil || !reflect.DeepEqual(got, certificate()) {
		t.Errorf("what %s made: %+v, %v", program, got, err)
	}
}

func run(t *testing.T, in, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", program, args, err)
	}
	return string(out)
}

func encrypt(t *testing.T, to string, text []byte) string {
	t.Helper()
	recipient, err := age.ParseX25519Recipient(to)
	if err != nil {
		t.Fatal(err)
	}
	return encryptTo(t, []age.Recipient{recipient}, text)
}

func encryptTo(t *testing.T, to []age.Recipient, text []byte) string {
	t.Helper()
	var out bytes.Buffer
	outer := armor.NewWriter(&out)
	inner, err := age.Encrypt(outer, to...)
	if err == nil {
		_, err = inner.Write(text)
	}
	if err == nil {
		err = errors.Join(inner.Close(), outer.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func decrypt(t *testing.T, id, armored string) string {
	t.Helper()
	with, err := age.ParseX25519Identity(id)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := age.Decrypt(armor.NewReader(strings.NewReader(armored)), with)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// FuzzOpen: whatever the file, opening ends with an envelope or one error of the
// package.
func FuzzOpen(f *testing.F) {
	for _, dir := range []string{"open", "refused"} {
		names, _ := filepath.Glob("testdata/" + dir + "/*.age")
		for _, name := range names {
			f.Add(file(f, strings.TrimPrefix(name, "testdata/")))
		}
	}
	with := []string{file(f, "id1.agekey")}
	f.Fuzz(func(t *testing.T, armored string) {
		e, err := seal.Open(with, armored)
		if err == nil && e.Tenant == "" {
			t.Error("an envelope without an address")
		}
		if err != nil && !errors.Is(err, seal.ErrNotSealed) && !errors.Is(err, seal.ErrCannotOpen) && !errors.Is(err, seal.ErrNotEnvelope) && !errors.Is(err, seal.ErrTooLarge) {
			t.Error(err)
		}
	})
}

// FuzzParsePlaintext: what can be read can be written, and means the same.
func FuzzParsePlaintext(f *testing.F) {
	for _, text := range []string{`{"tenant":"a","namespace":"b","name":"c","data":{"k":"dg=="}}`, `{}`, `null`, `[`, "\xff", `{"data":{"a":null}}`, `{"Tenant":"a"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := seal.ParsePlaintext(text)
		if err != nil {
			if !errors.Is(err, seal.ErrNotEnvelope) {
				t.Error(err)
			}
			return
		}
		again, err := e.Plaintext()
		if errors.Is(err, seal.ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if back, err := seal.ParsePlaintext(again); err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("%s became %+v, %v", again, back, err)
		}
	})
}

func ExampleSeal() {
	identity, recipient, _ := seal.GenerateIdentity()
	armored, _ := seal.Seal([]string{recipient}, seal.Envelope{
		Tenant: "acme", Namespace: "shop", Name: "token", Data: map[string][]byte{"token": []byte("x")},
	})
	envelope, _ := seal.Open([]string{identity}, armored)
	fmt.Println(envelope.Type, envelope.Check("acme", "shop", "token"), envelope.Check("globex", "shop", "token"))
	// Output: Opaque <nil> it is sealed for another tenant
}
