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

package repo

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/kubelb/gitops/api/v1alpha1"
)

// MaxGeneration is the highest generation that is believed. It leaves room for
// more additions than anybody can make before a signed 64-bit number wraps.
const MaxGeneration = 1<<62 - 1

// The highest values of trailers that are numbers.
const (
	// maxEpoch is that of Lease.spec.leaseTransitions, an int32.
	maxEpoch   = 1<<31 - 1
	maxDeletes = 1 << 20
)

// MaxRepositoryID bounds the ID of a repository, in bytes.
const MaxRepositoryID = 64

var (
	repositoryID = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	// uid is the form of an object's UID: a UUID, RFC 9562, section 4
	// (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#uids).
	uid    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	hash   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	digits = regexp.MustCompile(`^[0-9]{1,19}$`)
)

// ValidRepositoryID reports whether text can be the ID of a repository: letters,
// digits, dots, dashes and underscores, at most [MaxRepositoryID] of them.
func ValidRepositoryID(text string) bool {
	return len(text) <= MaxRepositoryID && repositoryID.MatchString(text)
}

// trailerType is what the value of a trailer must be.
type trailerType struct {
	want string // as the end of "must be"
	fits func(value string) bool
}

func numberTo(from, to int64) trailerType {
	return trailerType{fmt.Sprintf("a number from %d to %d", from, to), func(value string) bool {
		n, err := strconv.ParseInt(value, 10, 64)
		return digits.MatchString(value) && err == nil && n >= from && n <= to
	}}
}

var commitHash = trailerType{"the 40 hexadecimal digits of a commit", hash.MatchString}

// trailerTypes are the trailers of our own commits that carry one value.
var trailerTypes = map[string]trailerType{
	TrailerRepository: {"the repositoryID of " + ConfigPath, ValidRepositoryID},
	TrailerBranch:     {"the short name of a branch", func(value string) bool { return value != "" && v1alpha1.Printable(value, 255) == value }},
	TrailerTenant:     {"the name of a tenant", ValidTenant},
	TrailerGeneration: numberTo(1, MaxGeneration),
	TrailerCluster:    {"the UID of a cluster's namespace kube-system, such as 3f0c3f4e-6d0e-4b58-9f0a-0d8f6c1b2a3d", uid.MatchString},
	TrailerEpoch:      numberTo(0, maxEpoch),
	TrailerDeletes:    numberTo(0, maxDeletes),
	TrailerMain:       commitHash,
	TrailerIntent:     commitHash,
	TrailerConfirms:   commitHash,
	TrailerReview:     commitHash,
	TrailerAccepts:    commitHash,
}

// CheckTrailer says why a value cannot be that of a trailer of ours, "" if it can
// or if the key is not ours. What it says is printable and short, whatever the
// value is.
func CheckTrailer(key, value string) string {
	t, ours := trailerTypes[key]
	if !ours || t.fits(value) {
		return ""
	}
	return fmt.Sprintf("its trailer %s is %q, it must be %s", key, v1alpha1.Printable(value, 80), t.want)
}

// TrailerNumber returns the number that is the value of a trailer of ours, 0
// where the value is not what [CheckTrailer] lets pass.
func TrailerNumber(key, value string) int64 {
	if CheckTrailer(key, value) != "" {
		return 0
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return Believable(n)
}

// Believable returns a generation that was read from a file, 0 where it is none
// that a commit can have.
func Believable(generation int64) int64 {
	if generation < 0 || generation > MaxGeneration {
		return 0
	}
	return generation
}
