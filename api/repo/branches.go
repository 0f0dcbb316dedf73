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
	"errors"
	"fmt"
	"strings"

	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/yaml"
)

// Branches, as full ref names. Main is the default; GitSource.spec.branch may
// name another.
const (
	RefPrefix    = "refs/heads/"
	Main         = RefPrefix + "main"
	intentPrefix = RefPrefix + "intent/"
	statusPrefix = RefPrefix + "status/"
	reviewPrefix = RefPrefix + "review/"
	// ArchivePrefix is where the branches of deleted tenants are kept.
	ArchivePrefix = RefPrefix + "archive/"
)

// BaseRef returns the ref of the base of a main branch: refs/heads/base/main.
func BaseRef(main string) string { return RefPrefix + "base/" + strings.TrimPrefix(main, RefPrefix) }

// IntentRef returns the ref that a tenant's CCM writes.
func IntentRef(tenant string) string { return intentPrefix + tenant }

// StatusRef returns the ref that answers a tenant.
func StatusRef(tenant string) string { return statusPrefix + tenant }

// ReviewRef returns the ref of a tenant's pull request.
func ReviewRef(tenant string) string { return reviewPrefix + tenant }

// ArchiveRef returns the ref that keeps a branch of a deleted tenant, such as
// refs/heads/archive/acme/20261124T201500Z/intent. The time is that of the
// deletion, so that each has a place of its own.
func ArchiveRef(tenant, deleted, branch string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(branch, RefPrefix), "/")
	return ArchivePrefix + tenant + "/" + deleted + "/" + kind
}

// IntentTenant returns the tenant whose intents a ref holds.
func IntentTenant(ref string) (tenant string, ok bool) {
	tenant, ok = strings.CutPrefix(ref, intentPrefix)
	return tenant, ok && ValidTenant(tenant)
}

// Trailers of our own commits.
const (
	TrailerRepository = "Kubelb-Repository" // repositoryID in kubelb.yaml
	TrailerBranch     = "Kubelb-Branch"     // short branch name: intent/acme
	TrailerTenant     = "Kubelb-Tenant"
	TrailerGeneration = "Kubelb-Generation" // monotonic per branch
	TrailerCluster    = "Kubelb-Cluster"    // UID of the tenant's kube-system namespace
	TrailerEpoch      = "Kubelb-Epoch"      // Lease transitions of the CCM
	TrailerDeletes    = "Kubelb-Deletes"    // removals that the CCM saw a deletion timestamp on
	TrailerMain       = "Kubelb-Main"       // the main commit that a base commit belongs to
	TrailerIntent     = "Kubelb-Intent"     // the intent commit that was integrated
	TrailerConfirms   = "Kubelb-Confirms"   // the intent commit whose removals were confirmed
	TrailerReview     = "Kubelb-Review"     // the review commit that a base commit decided or rejected
	TrailerApproves   = "Kubelb-Approves"   // commits of main whose changes the signer approves
	TrailerAccepts    = "Kubelb-Accepts"    // the main commit that was accepted after a rewrite
)

// How the hub signs as committer: people's tools tell its commits from others by
// it. It proves nothing; a signature does.
const (
	HubName  = "kubelb-hub"
	HubEmail = "hub@kubelb.local"
)

// ConfigPath is the file that identifies a repository.
const ConfigPath = "kubelb.yaml"

// LayoutVersion is the layout of files that this package describes.
const LayoutVersion = 1

// Config is the content of ConfigPath.
type Config struct {
	// RepositoryID is random and never changes.
	RepositoryID string `json:"repositoryID"`
	// Layout is the version of the layout of files.
	Layout int `json:"layout"`
}

// DecodeConfig reads the content of ConfigPath.
func DecodeConfig(data []byte) (Config, error) {
	var c Config
	err := yaml.UnmarshalStrict(data, &c)
	return c, err
}

// ReadConfig reads and checks the file at ConfigPath; ok tells whether there is
// one. The error says what is wrong with it, as the end of a sentence about it.
func ReadConfig(file File, ok bool) (Config, error) {
	if !ok || file.Mode != Regular || file.Data == nil {
		return Config{}, errors.New("is missing")
	}
	c, err := DecodeConfig(file.Data)
	switch {
	case err != nil:
		return c, fmt.Errorf("cannot be read (%s)", v1alpha1.Printable(err.Error(), 300))
	case c.RepositoryID == "":
		return c, errors.New("has no repositoryID")
	case !ValidRepositoryID(c.RepositoryID):
		return c, fmt.Errorf("has the repositoryID %q, which is not made of at most %d letters, digits, dots, dashes and underscores",
			v1alpha1.Printable(c.RepositoryID, 80), MaxRepositoryID)
	case c.Layout > LayoutVersion:
		return c, fmt.Errorf("has layout %d, of which at most %d is known", c.Layout, LayoutVersion)
	}
	return c, nil
}

// EncodeConfig writes the content of ConfigPath.
func EncodeConfig(c Config) ([]byte, error) { return yaml.Marshal(c) }

// The folders of main and of base/main.
const (
	TenantsDir    = tenantsDir
	IntegratedDir = "integrated"
)

// TenantDir returns the folder of a tenant.
func TenantDir(tenant string) string { return tenantsDir + "/" + tenant }

// IntegratedPath returns the file on base/main that says what of a tenant was
// integrated last.
func IntegratedPath(tenant string) string { return IntegratedDir + "/" + tenant + ".yaml" }

// Integrated is the content of IntegratedPath: which commit of a tenant's
// intent branch was decided last, and who wrote it.
type Integrated struct {
	Commit     string `json:"commit"`
	Generation int64  `json:"generation"`
	Epoch      int64  `json:"epoch,omitempty"`
	Cluster    string `json:"cluster,omitempty"`
	// Review is the newest commit of the review branch that was decided as a
	// whole, with its generation and how. Reviews of lower generations are
	// decided too.
	Review           string        `json:"review,omitempty"`
	ReviewGeneration int64         `json:"reviewGeneration,omitempty"`
	ReviewOutcome    ReviewOutcome `json:"reviewOutcome,omitempty"`
	// ReviewPull is the number of the newest pull request that was decided: not
	// every forge knows which commits a closed one was closed with.
	ReviewPull int64 `json:"reviewPull,omitempty"`
}

// What base/main holds of changes on main that nobody entitled has signed
// (GitSource.spec.verify): below TrustedDir the last good version of each such
// path, if there was one, below RefusedDir what was refused, as [Refused].
const (
	TrustedDir = "trusted"
	RefusedDir = "refused"
)

// Refused says which change of a path on main is not trusted.
type Refused struct {
	// Commit is the first that changed the path without being entitled to, Author
	// whom it names, Why what is wrong with it.
	Commit string `json:"commit"`
	Author string `json:"author,omitempty"`
	Why    string `json:"why"`
	// Newest is the last commit that changed the path: to approve it approves the
	// path as it is.
	Newest string `json:"newest"`
}

// DecodeRefused reads the content of a file below RefusedDir.
func DecodeRefused(data []byte) (Refused, error) {
	var r Refused
	err := yaml.UnmarshalStrict(data, &r)
	return r, err
}

// EncodeRefused writes it, whatever text it holds.
func EncodeRefused(r Refused) ([]byte, error) { return encodeFile(r) }

// VainPath is the file on base/main with the newest approvals on main that count
// for nothing, as [Vain].
const VainPath = "vain.yaml"

// Vain are approvals that count for nothing, in the order of main.
type Vain struct {
	Approvals []VainApproval `json:"approvals"`
}

// VainApproval is an approval of what is no commit of the repository.
type VainApproval struct {
	// Commit on main that approves, Reviewer who signed it, Names what it names.
	Commit   string `json:"commit"`
	Reviewer string `json:"reviewer"`
	Names    string `json:"names"`
}

// DecodeVain reads the content of VainPath.
func DecodeVain(data []byte) (Vain, error) {
	var v Vain
	err := yaml.UnmarshalStrict(data, &v)
	return v, err
}

// EncodeVain writes it, whatever text it holds.
func EncodeVain(v Vain) ([]byte, error) { return encodeFile(v) }

// ReviewOutcome is how a review was decided.
type ReviewOutcome string

// The outcomes of a review.
const (
	// ReviewMerged: main has it, perhaps with what people changed of it.
	ReviewMerged ReviewOutcome = "Merged"
	// ReviewClosed: its pull request was closed. It can be opened again.
	ReviewClosed ReviewOutcome = "Closed"
	// ReviewRejected: an annotation on the Tenant rejected it.
	ReviewRejected ReviewOutcome = "Rejected"
	// ReviewWithdrawn: nothing was left to propose.
	ReviewWithdrawn ReviewOutcome = "Withdrawn"
	// ReviewReopened: it was closed and is open again, so nothing is decided.
	ReviewReopened ReviewOutcome = "Reopened"
)

// DecodeIntegrated reads the content of IntegratedPath. Numbers and a cluster
// that [CheckTrailer] would refuse are left out: a hub that did not check them
// may have written them.
func DecodeIntegrated(data []byte) (Integrated, error) {
	var i Integrated
	if err := yaml.UnmarshalStrict(data, &i); err != nil {
		return i, err
	}
	i.Generation, i.ReviewGeneration = Believable(i.Generation), Believable(i.ReviewGeneration)
	if i.Epoch < 0 || i.Epoch > maxEpoch {
		i.Epoch = 0
	}
	if CheckTrailer(TrailerCluster, i.Cluster) != "" {
		i.Cluster = ""
	}
	return i, nil
}

// EncodeIntegrated writes the content of IntegratedPath, whatever text it holds.
func EncodeIntegrated(i Integrated) ([]byte, error) { return encodeFile(i) }
