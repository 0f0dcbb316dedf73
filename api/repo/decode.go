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
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/kubelb/gitops/api/v1alpha1"
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
// the path is for, with the name and namespace that the path demands, without
// unknown fields, status, aliases or server-made metadata. It also applies
// [v1alpha1.Validate]. If there is any problem the object is nil.
func Decode(path string, file File) (Object, []v1alpha1.Problem) {
	object, p, problem := decode(path, file, false)
	if problem != nil {
		return nil, []v1alpha1.Problem{*problem}
	}
	problems := v1alpha1.Validate(object)
	for i := range problems {
		problems[i].Path, problems[i].Object = path, p.Source()
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
	object, _, problem := decode(path, file, false)
	if problem != nil {
		return nil, []v1alpha1.Problem{*problem}
	}
	return object, nil
}

// DecodeStatus reads a file of a status branch.
func DecodeStatus(path string, file File) (Object, []v1alpha1.Problem) {
	object, _, problem := decode(path, file, true)
	if problem != nil {
		return nil, []v1alpha1.Problem{*problem}
	}
	return object, nil
}

func decode(path string, file File, status bool) (Object, Path, *v1alpha1.Problem) {
	problem := func(object, field, reason, message, remedy string) *v1alpha1.Problem {
		return &v1alpha1.Problem{Path: path, Object: object, Field: field, Reason: reason, Message: message, Remedy: remedy}
	}
	p, err := ParsePath(path)
	if err == nil && p.Kind == v1alpha1.KindTenantState && !status {
		err = fmt.Errorf("a TenantState is only on status branches")
	}
	if err != nil {
		return nil, p, problem("", "", ReasonUnknownPath, err.Error(), "remove the file, or move it to where docs/repository.md says")
	}
	if bad := checkFile(file); bad != nil {
		bad.Path, bad.Object = path, p.Source()
		return nil, p, bad
	}
	text, err := toJSON(file.Data)
	if err != nil {
		return nil, p, problem(p.Source(), "", ReasonMalformed, err.Error(), "write one plain YAML document")
	}
	if bad := checkHead(text, p); bad != nil {
		bad.Path, bad.Object = path, p.Source()
		return nil, p, bad
	}
	object := kinds[p.Kind]()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(object); err != nil {
		field, message := explain(err)
		return nil, p, problem(p.Source(), field, ReasonMalformed, message, "correct the field; docs/repository.md lists them")
	}
	if !status {
		if bad := checkIntent(text, object); bad != nil {
			bad.Path, bad.Object = path, p.Source()
			return nil, p, bad
		}
	}
	return object, p, nil
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

type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

func checkHead(text []byte, p Path) *v1alpha1.Problem {
	var h head
	if err := json.Unmarshal(text, &h); err != nil {
		return &v1alpha1.Problem{Reason: ReasonMalformed, Message: "the document is not a Kubernetes object: " + err.Error(), Remedy: "write an object with apiVersion, kind and metadata"}
	}
	expect := func(field, got, want, reason string) *v1alpha1.Problem {
		return &v1alpha1.Problem{Field: field, Reason: reason, Message: fmt.Sprintf("%s is %q, at this path it must be %q", field, got, want), Remedy: fmt.Sprintf("set %s to %q, or move the file", field, want)}
	}
	switch namespace := v1alpha1.TenantNamespace(p.Tenant); {
	case h.APIVersion != groupVersion:
		return expect("apiVersion", h.APIVersion, groupVersion, ReasonForeignKind)
	case h.Kind != p.Kind:
		return expect("kind", h.Kind, p.Kind, ReasonForeignKind)
	case h.Metadata.Namespace != namespace:
		return expect("metadata.namespace", h.Metadata.Namespace, namespace, ReasonAddressMismatch)
	case h.Metadata.Name != p.ObjectName():
		return expect("metadata.name", h.Metadata.Name, p.ObjectName(), ReasonAddressMismatch)
	}
	return nil
}

// checkIntent refuses what an intent must not carry: a status, and metadata
// beyond name, namespace, labels and annotations.
func checkIntent(text []byte, object Object) *v1alpha1.Problem {
	var m map[string]json.RawMessage
	var metadata struct {
		Metadata map[string]json.RawMessage `json:"metadata"`
	}
	if json.Unmarshal(text, &m) != nil || json.Unmarshal(text, &metadata) != nil {
		return &v1alpha1.Problem{Reason: ReasonMalformed, Message: "the document is not an object", Remedy: "write an object with apiVersion, kind and metadata"}
	}
	forbidden := func(field string) *v1alpha1.Problem {
		return &v1alpha1.Problem{Field: field, Reason: ReasonForbiddenContent, Message: field + " cannot be set in the repository", Remedy: "remove the field"}
	}
	if _, ok := m["status"]; ok {
		return forbidden("status")
	}
	for key := range metadata.Metadata {
		switch key {
		case "name", "namespace", "labels", "annotations":
		default:
			return forbidden("metadata." + key)
		}
	}
	if secret, ok := object.(*v1alpha1.SyncSecret); ok && (len(secret.Data) > 0 || len(secret.StringData) > 0) {
		problem := forbidden("data")
		problem.Remedy = "seal the secret (kubelbctl seal) and treat the plaintext as disclosed"
		return problem
	}
	return nil
}

// toJSON converts one YAML document. It refuses a second document, duplicate
// keys and aliases (which could expand without bound).
func toJSON(data []byte) ([]byte, error) {
	if err := checkSyntax(data); err != nil {
		return nil, err
	}
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return text, nil
}

func unmarshalNumbers(text []byte, into *map[string]any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

func explain(err error) (field, message string) {
	message = strings.TrimPrefix(err.Error(), "json: ")
	if typed, ok := err.(*json.UnmarshalTypeError); ok {
		return typed.Field, fmt.Sprintf("%s is a %s where a %s belongs", typed.Field, typed.Value, typed.Type)
	}
	if name, ok := strings.CutPrefix(message, "unknown field "); ok {
		return strings.Trim(name, `"`), message
	}
	return "", message
}
