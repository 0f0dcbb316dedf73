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

	"github.com/kubelb/gitops/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is a typed object of api/v1alpha1.
type Object interface {
	metav1.Object
	runtime.Object
}

// Encode writes an object's intent canonically: sorted keys, only apiVersion,
// kind, name, namespace, labels, annotations and the spec; no status, nothing
// that a server made, no nulls, no empty maps and lists. Of defaults only those
// are written that a reader would miss: the names and protocols of ports, and
// the names of groups of endpoints, by which these lists are sorted. Objects
// that mean the same have equal bytes. The error is a bug: an object that is not
// of a known kind.
func Encode(object Object) ([]byte, error) {
	m, err := canonical(object)
	if err != nil {
		return nil, err
	}
	delete(m, "status")
	return Marshal(m)
}

// EncodeStatus writes what a status branch has of an object: apiVersion, kind,
// name, namespace and the status.
func EncodeStatus(object Object) ([]byte, error) {
	m, err := canonical(object)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"apiVersion": m["apiVersion"], "kind": m["kind"], "metadata": m["metadata"]}
	if metadata, ok := m["metadata"].(map[string]any); ok {
		delete(metadata, "labels")
		delete(metadata, "annotations")
	}
	if status, ok := m["status"]; ok {
		out["status"] = status
	}
	return Marshal(out)
}

// Document returns an object's canonical form as JSON types: what [Encode]
// writes, as a map. Merging and comparing work on it.
func Document(object Object) (map[string]any, error) {
	m, err := canonical(object)
	if err != nil {
		return nil, err
	}
	delete(m, "status")
	return m, nil
}

func canonical(object Object) (map[string]any, error) {
	kind, err := kindOf(object)
	if err != nil {
		return nil, err
	}
	m, err := toMap(object)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s/%s: %w", kind, object.GetNamespace(), object.GetName(), err)
	}
	m["apiVersion"], m["kind"] = groupVersion, kind
	metadata := map[string]any{}
	if old, ok := m["metadata"].(map[string]any); ok {
		for _, key := range metadataKeys {
			if value, ok := old[key]; ok {
				metadata[key] = value
			}
		}
	}
	m["metadata"] = metadata
	prune(m)
	normalizer{v1alpha1.Defaults(kind), v1alpha1.MergeKeys(kind)}.fields("", m)
	return m, nil
}

func toMap(object any) (m map[string]any, err error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&m)
	return m, err
}

// prune drops nulls and empty maps and lists, except inside embedded resources,
// where they may mean something.
func prune(m map[string]any) {
	for key, value := range m {
		switch v := value.(type) {
		case nil:
			delete(m, key)
		case map[string]any:
			if key == "resource" && v["apiVersion"] != nil {
				continue
			}
			prune(v)
			if len(v) == 0 {
				delete(m, key)
			}
		case []any:
			if len(v) == 0 {
				delete(m, key)
				continue
			}
			for _, element := range v {
				if e, ok := element.(map[string]any); ok && e["apiVersion"] == nil {
					prune(e)
				}
			}
		}
	}
}
