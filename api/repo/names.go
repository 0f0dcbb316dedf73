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
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Limits of names.
const (
	// MaxNameLength bounds object and file names, in bytes.
	MaxNameLength = 180
	// MaxLabelLength bounds label values, in bytes (Kubernetes' own limit).
	MaxLabelLength = 63
	// MaxTenantLength bounds tenant names, so that tenant-<name> is a namespace.
	MaxTenantLength = 56
)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// ValidTenant reports whether a name is a DNS label of at most 56 characters.
func ValidTenant(name string) bool {
	return len(name) <= MaxTenantLength && dnsLabel.MatchString(name)
}

// ObjectName returns the name that an object made from a source object has in
// the hub: <namespace>.<name>, cut to MaxNameLength. It takes the name as the
// source object has it or as it stands in a path; both give the same.
func ObjectName(namespace, name string) string {
	return cut(namespace+"."+FileName(name), MaxNameLength)
}

// RouteName is ObjectName for a Route, where kind (httproute, ...) is part of it.
func RouteName(namespace, name, kind string) string {
	return cut(namespace+"."+FileName(name)+"."+kind, MaxNameLength)
}

// LabelValue returns a value as it is kept in a label, cut to MaxLabelLength.
func LabelValue(value string) string { return cut(value, MaxLabelLength) }

// cut returns text if it is short enough, else its beginning and 10 hex digits
// of its SHA-256, which together have at most limit bytes and are a name again.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return strings.TrimRight(text[:limit-11], "-._") + "-" + hex.EncodeToString(sum[:5])
}
