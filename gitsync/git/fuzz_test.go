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

package git

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// What parseTree takes, encodeTree writes again byte for byte.
func FuzzParseTree(f *testing.F) {
	for _, data := range malformedTrees {
		f.Add([]byte(data))
	}
	f.Add([]byte(entry("100644", "a") + entry("40000", "b") + entry("160000", "c")))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseTree(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%v", err)
			}
			return
		}
		if again := encodeTree(entries); !bytes.Equal(again, data) {
			t.Errorf("%q became %q", data, again)
		}
	})
}

// What joinMessage writes, splitMessage takes apart into the same trailers.
func FuzzTrailers(f *testing.F) {
	f.Add("subject\n\nbody", "Kubelb-Tenant", "acme")
	f.Add("subject\n\nKey: value", "Signed-off-by", "")
	f.Add("a\r\n\r\nb: c\n d", "A", "b: c")
	f.Add(" \x00", "a b", "x\ny")
	f.Fuzz(func(t *testing.T, message, key, value string) {
		splitMessage(message)
		text, err := joinMessage(message, Trailers{{Key: key, Value: value}})
		if err != nil {
			return
		}
		_, _, trailers := splitMessage(text)
		if len(trailers) != 1 || trailers[0].Key != key || trailers[0].Value != strings.TrimSpace(value) {
			t.Errorf("%q: %q", text, trailers)
		}
	})
}

func FuzzParseCommit(f *testing.F) {
	tree := "tree " + strings.Repeat("1", 40) + "\n"
	f.Add([]byte(tree + "author A <a@b> 1 +0100\ncommitter C <c@d> 2 -0230\ngpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lH\n -----END SSH SIGNATURE-----\n\nsubject\n\nKey: value\n"))
	f.Add([]byte(tree + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCommit(Hash{}, data)
		if err != nil {
			return
		}
		if _, err := c.Verify(); err == nil {
			t.Error("verified without a key")
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("000eversion 2\n0000"))
	f.Add([]byte("0013\x01000eunpack ok\n0000"))
	f.Add([]byte("000dpackfile\n0023\x01PACK\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _, _ = parseAdvertisement(bytes.NewReader(data), uploadPack, nil)
		_, _ = parseRefs(bytes.NewReader(data), func(string) bool { return true })
		_, _ = readReport(newPacketReader(bytes.NewReader(data), maxPackAnswer), true)
		_, _ = readReport(newPacketReader(bytes.NewReader(data), maxPackAnswer), false)
		packets := newPacketReader(bytes.NewReader(data), maxPackAnswer)
		if done, _ := answerV2(packets); done {
			band := &sideband{packets: packets}
			_, _ = readPack(band, func(Hash) *object { return nil }, 1<<20)
			_, _ = io.Copy(io.Discard, band)
		}
	})
}
