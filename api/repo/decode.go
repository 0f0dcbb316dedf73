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
	"bytes"
	"cmp"
	gojson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kubelb/gitops/api/v1alpha1"

	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const groupVersion = "kubelb.k8c.io/v1alpha1"

// kinds are the documents that files can hold; nothing else is ever decoded.
var kinds = map[string]func() Object{
	v1alpha1.KindLoadBalancer: func() Object { return &v1alpha1.LoadBalancer{} },
	v1alpha1.KindRoute:        func() Object { return &v1alpha1.Route{} },
	v1alpha1.KindSyncSecret:   func() Object { return &v1alpha1.SyncSecret{} },
	v1alpha1.KindAddresses:    func() Object { return &v1alpha1.Addresses{} },
	v1alpha1.KindBackend:      func() Object { return &v1alpha1.Backend{} },
	v1alpha1.KindTenantState:  func() Object { return &v1alpha1.TenantState{} },
}

func kindOf(object Object) (string, error) {
	for kind, empty := range kinds {
		if reflect.TypeOf(object) == reflect.TypeOf(empty()) {
			return kind, nil
		}
	}
	return "", fmt.Errorf("%T is not a kind that the repository holds", object)
}

// Reasons of problems that this package reports.
const (
	ReasonUnknownPath      = "UnknownPath"
	ReasonNotAFile         = "NotAFile"
	ReasonTooLarge         = "TooLarge"
	ReasonNotText          = "NotText"
	ReasonMalformed        = "Malformed"
	ReasonForeignKind      = "ForeignKind"
	ReasonAddressMismatch  = "AddressMismatch"
	ReasonForbiddenContent = "ForbiddenContent"
)

// Decode reads a tenant's intent file strictly: one document of the kind that
// the path is for, with the name, namespace and origin that the path demands,
// without unknown fields, status, aliases or server-made metadata. It also
// applies [v1alpha1.Validate]. If there is any problem the object is nil.
func Decode(path string, file File) (Object, []v1alpha1.Problem) {
	object, problems := decode(path, file, intentForm)
	if len(problems) == 0 { // else what is not read would seem to be missing
		problems = located(path, v1alpha1.Validate(object))
	}
	if len(problems) == 0 {
		problems = located(path, checkCanonical(file, object))
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return object, nil
}

// DecodeBase reads a file of base/main. Its form is as strict as that of an
// intent, but it is not validated: it holds what was decided field by field,
// which need not be a valid whole.
func DecodeBase(path string, file File) (Object, []v1alpha1.Problem) {
	object, problems := decode(path, file, intentForm)
	if len(problems) > 0 {
		return nil, problems
	}
	return object, nil
}

// DecodeStatus reads a file of a status branch. Fields that it does not know are
// left out: the hub that wrote them may be newer than its reader.
func DecodeStatus(path string, file File) (Object, []v1alpha1.Problem) {
	object, problems := decode(path, file, statusForm)
	if len(problems) > 0 {
		return nil, problems
	}
	return object, nil
}

// form says what a document may hold.
type form int

const (
	intentForm form = iota
	statusForm
)

// decode returns the object as far as it can be read, and every problem of its
// form.
func decode(path string, file File, form form) (Object, []v1alpha1.Problem) {
	p, err := ParsePath(path)
	if err == nil && p.Kind == v1alpha1.KindTenantState && form != statusForm {
		err = fmt.Errorf("a TenantState is only on status branches")
	}
	if err != nil {
		return nil, []v1alpha1.Problem{v1alpha1.Problem{
			Path: path, Reason: ReasonUnknownPath, Message: err.Error(), Remedy: "remove the file, or move it to where " + manual + " says",
		}.Bounded()}
	}
	if bad := checkFile(file); bad != nil {
		return nil, located(path, []v1alpha1.Problem{*bad})
	}
	text, err := toJSON(file.Data)
	if err != nil {
		return nil, located(path, []v1alpha1.Problem{{Reason: ReasonMalformed, Message: err.Error(), Remedy: "write one plain YAML document"}})
	}
	if problems := checkHead(text, p); len(problems) > 0 {
		return nil, located(path, problems)
	}
	object := kinds[p.Kind]()
	unknown, err := json.UnmarshalStrict(text, object)
	if err != nil {
		return nil, located(path, []v1alpha1.Problem{explain(err)})
	}
	if form == statusForm {
		return object, nil
	}
	var problems []v1alpha1.Problem
	for _, err := range unknown {
		problems = append(problems, explain(err))
	}
	problems = append(problems, checkIntent(text, object)...)
	if was, err := PathOf(object); err != nil || was != path {
		problems = append(problems, v1alpha1.Problem{
			Field: "metadata.labels", Reason: ReasonAddressMismatch, Message: fmt.Sprintf("the origin in labels and annotations is not that of the path, %s", p.Source()),
			Remedy: fmt.Sprintf("correct %s and %s, or remove them", v1alpha1.LabelOriginNS, v1alpha1.LabelOriginName),
		})
	}
	return object, located(path, problems)
}

const manual = "docs/repository.md"

// located says where problems are, in words and numbers that a status can take.
func located(path string, problems []v1alpha1.Problem) []v1alpha1.Problem {
	p, _ := ParsePath(path)
	problems = v1alpha1.FileProblems(problems, 0)
	for i := range problems {
		problems[i].Path, problems[i].Object = v1alpha1.Printable(path, v1alpha1.MaxObject), p.Source()
	}
	return problems
}

func checkFile(file File) *v1alpha1.Problem {
	switch {
	case file.Mode == Symlink:
		return &v1alpha1.Problem{Reason: ReasonNotAFile, Message: "a symbolic link is never followed", Remedy: "replace the link by the file itself"}
	case file.Mode != Regular:
		return &v1alpha1.Problem{Reason: ReasonNotAFile, Message: "a submodule is never read", Remedy: "replace the submodule by the file itself"}
	case file.Size > MaxFileSize || len(file.Data) > MaxFileSize:
		return &v1alpha1.Problem{Reason: ReasonTooLarge, Message: fmt.Sprintf("the file has %d bytes, at most %d are read", max(file.Size, int64(len(file.Data))), MaxFileSize), Remedy: "make the document smaller"}
	case !utf8.Valid(file.Data) || bytes.IndexByte(file.Data, 0) >= 0:
		return &v1alpha1.Problem{Reason: ReasonNotText, Message: "the file is not UTF-8 text", Remedy: "write the document as UTF-8"}
	}
	return nil
}

// mayGrow is the size from which a document may become too large when it is
// written canonically: a line of the deepest list that is read takes about sixty
// times what two characters of a list in brackets do.
const mayGrow = MaxFileSize / maxDepth

// checkCanonical refuses a document that could not be written again.
func checkCanonical(file File, object Object) []v1alpha1.Problem {
	if len(file.Data) < mayGrow {
		return nil
	}
	content, err := Encode(object)
	switch {
	case err != nil:
		return []v1alpha1.Problem{{Reason: ReasonMalformed, Message: "the document cannot be written again: " + err.Error(), Remedy: "correct the document"}}
	case len(content) > MaxFileSize:
		return []v1alpha1.Problem{{Reason: ReasonTooLarge, Remedy: "make the document smaller",
			Message: fmt.Sprintf("written out, the document has %d bytes, at most %d are read", len(content), MaxFileSize)}}
	}
	return nil
}

type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

func checkHead(text []byte, p Path) (problems []v1alpha1.Problem) {
	var h head
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &h); err != nil {
		return []v1alpha1.Problem{{Reason: ReasonMalformed, Message: "the document is not a Kubernetes object: " + strings.TrimPrefix(err.Error(), "json: "),
			Remedy: "write an object with apiVersion, kind and metadata"}}
	}
	expect := func(field, got, want, reason string) {
		if got != want {
			problems = append(problems, v1alpha1.Problem{
				Field: field, Reason: reason, Message: fmt.Sprintf("%s is %q, at this path it must be %q", field, got, want),
				Remedy: fmt.Sprintf("set %s to %q, or move the file", field, want),
			})
		}
	}
	expect("apiVersion", h.APIVersion, groupVersion, ReasonForeignKind)
	expect("kind", h.Kind, p.Kind, ReasonForeignKind)
	expect("metadata.namespace", h.Metadata.Namespace, v1alpha1.TenantNamespace(p.Tenant), ReasonAddressMismatch)
	expect("metadata.name", h.Metadata.Name, p.ObjectName(), ReasonAddressMismatch)
	return problems
}

// checkIntent refuses what an intent must not carry: a status, metadata beyond
// name, namespace, labels and annotations, and plaintext.
func checkIntent(text []byte, object Object) (problems []v1alpha1.Problem) {
	var document struct {
		Status   any            `json:"status"`
		Metadata map[string]any `json:"metadata"`
	}
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &document); err != nil {
		return []v1alpha1.Problem{explain(err)}
	}
	forbid := func(field, remedy string) {
		problems = append(problems, v1alpha1.Problem{Field: field, Reason: ReasonForbiddenContent, Message: field + " cannot be set in the repository", Remedy: remedy})
	}
	if document.Status != nil {
		forbid("status", "remove the field")
	}
	for _, key := range slices.Sorted(maps.Keys(document.Metadata)) {
		if !slices.Contains(metadataKeys, key) && len(problems) <= v1alpha1.MaxFileProblems {
			forbid("metadata."+key, "remove the field")
		}
	}
	if secret, ok := object.(*v1alpha1.SyncSecret); ok {
		const remedy = "seal the secret (kubelbctl seal) and treat the plaintext as disclosed"
		if len(secret.Data) > 0 {
			forbid("data", remedy)
		}
		if len(secret.StringData) > 0 {
			forbid("stringData", remedy)
		}
		if secret.Sealed == "" && len(problems) == 0 {
			problems = append(problems, v1alpha1.Problem{Field: "sealed", Reason: v1alpha1.ReasonInvalid, Message: "the secret has no content", Remedy: "seal it (kubelbctl seal)"})
		}
	}
	return problems
}

// metadataKeys are what an intent has of metadata.
var metadataKeys = []string{"name", "namespace", "labels", "annotations"}

// toJSON converts one YAML document. It refuses a second document, duplicate
// keys and aliases (which could expand without bound).
func toJSON(data []byte) ([]byte, error) {
	if err := checkSyntax(data); err != nil {
		return nil, err
	}
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("not YAML: %s", strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n  ", " "))
	}
	return text, nil
}

var quotedField = regexp.MustCompile(`field "([^"]+)"`)

// explain puts a decoder's error into words.
func explain(err error) v1alpha1.Problem {
	p := v1alpha1.Problem{Reason: ReasonMalformed, Message: strings.TrimPrefix(err.Error(), "json: "), Remedy: "correct the field; " + manual + " lists them"}
	var typed *gojson.UnmarshalTypeError
	if errors.As(err, &typed) {
		p.Field = typed.Field
		p.Message = fmt.Sprintf("%s is a %s where a %s belongs", cmp.Or(typed.Field, "the document"), typed.Value, typed.Type)
	} else if match := quotedField.FindStringSubmatch(p.Message); match != nil {
		p.Field = match[1]
	}
	return p
}
