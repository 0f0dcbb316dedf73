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

package v1alpha1_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/leash"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

var env *envtest.Environment

func TestMain(m *testing.M) {
	code := m.Run()
	if env != nil {
		if err := env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the API server:", err)
		}
	}
	os.Exit(code)
}

// apiServer returns a client of an API server that has the CRDs. The first call
// starts it.
var apiServer = sync.OnceValues(func() (client.Client, error) {
	e := &envtest.Environment{CRDDirectoryPaths: []string{"../../deploy/crds"}, ErrorIfCRDPathMissing: true}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		assets, err := filepath.Abs("../../.tools/bin")
		if err != nil {
			return nil, err
		}
		e.BinaryAssetsDirectory = assets
	}
	config, err := e.Start()
	if err != nil {
		return nil, fmt.Errorf("start an API server (`make tools` installs it): %w", err)
	}
	env = e
	if err := leash.Tie(e); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"tenant-acme", "kubelb"} {
		if err := c.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return nil, err
		}
	}
	return c, nil
})

func newClient(t *testing.T) client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an API server")
	}
	c, err := apiServer()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAnAPIServerKeepsEveryField stores every field and reads it back: what the
// schema does not know would be pruned.
func TestAnAPIServerKeepsEveryField(t *testing.T) {
	c := newClient(t)
	for file, data := range full(t) {
		t.Run(file, func(t *testing.T) {
			want := generic(t, data)
			object := &unstructured.Unstructured{Object: generic(t, data)}
			if err := c.Create(t.Context(), object, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { remove(t, c, object) })
			if status, ok := want["status"]; ok {
				object.Object["status"] = status
				if err := c.Status().Update(t.Context(), object, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"spec", "status", "data", "stringData", "type", "sealed", "immutable"} {
				if got, want := withoutEmpty(plain(t, object.Object[field])), withoutEmpty(want[field]); !reflect.DeepEqual(got, want) {
					t.Errorf("%s was stored as\n%v\nwant\n%v", field, got, want)
				}
			}
		})
	}
}

// plain makes numbers float64, as encoding/json has them.
func plain(t *testing.T, value any) any {
	t.Helper()
	return asJSON(t, map[string]any{"v": value})["v"]
}

func remove(t *testing.T, c client.Client, object client.Object) {
	t.Helper()
	if err := client.IgnoreNotFound(c.Delete(context.Background(), object)); err != nil {
		t.Error(err)
	}
}

// TestTheAPIServerAndValidateAgree creates what the cases of Validate are about:
// what is valid must be accepted, and what the API server refuses must be
// invalid. What only Validate can know, a case says itself.
func TestTheAPIServerAndValidateAgree(t *testing.T) {
	c := newClient(t)
	for name, k := range validateCases() {
		t.Run(name, func(t *testing.T) {
			object := k.object(t)
			problems := v1alpha1.Validate(object)
			u := asUnstructured(t, object)
			err := c.Create(t.Context(), u, client.DryRunAll)
			refused := apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
			switch {
			case err != nil && !refused:
				t.Fatal(err)
			case k.onlySchema && (!refused || len(problems) > 0):
				t.Errorf("the API server says %v, Validate %+v", err, problems)
			case refused && len(problems) == 0 && !k.onlySchema:
				t.Errorf("the API server refuses what is valid: %v", err)
			case !refused && len(problems) > 0 && !k.onlyValidate:
				t.Errorf("the API server accepts what is not valid: %+v", problems)
			case refused && k.onlyValidate:
				t.Errorf("the API server knows it as well: %v", err)
			}
		})
	}
}

// asUnstructured writes an object as a file would have it: an absent field is
// absent, so that the API server sets its default.
func asUnstructured(t *testing.T, object runtime.Object) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{Object: asJSON(t, object)}
	delete(u.Object, "status")
	kinds, _, err := scheme.ObjectKinds(object)
	if err != nil {
		t.Fatal(err)
	}
	u.SetGroupVersionKind(kinds[0])
	return u
}
