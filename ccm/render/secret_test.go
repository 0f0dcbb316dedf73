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

package render_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// aSecret has the label, and everything that must not travel.
func aSecret(name string, kind corev1.SecretType) *corev1.Secret {
	yes := true
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, "s3cr3t": "s3cr3t"},
			Annotations: map[string]string{"kubelb.k8c.io/x": "s3cr3t"},
		},
		Type: kind, Immutable: &yes, Data: map[string][]byte{"s3cr3t": []byte("s3cr3t")}, StringData: map[string]string{"s3cr3t": "s3cr3t"},
	}
}

func TestASecretIsRenderedToItsAddressItsTypeAndWhatIsSealed(t *testing.T) {
	const armored = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"
	for name, c := range map[string]struct {
		secret     *corev1.Secret
		path, kind string
	}{
		"of a type":        {aSecret("cert", corev1.SecretTypeTLS), "tenants/acme/syncsecrets/shop/cert.secret.yaml", "kubernetes.io/tls"},
		"of no type":       {aSecret("plain", ""), "tenants/acme/syncsecrets/shop/plain.secret.yaml", "Opaque"},
		"of a type of its": {aSecret("own", "example.com/own"), "tenants/acme/syncsecrets/shop/own.secret.yaml", "example.com/own"},
		"with a long name": {aSecret(strings.Repeat("a.", 120)+"b", ""), "tenants/acme/syncsecrets/shop/" + repo.FileName(strings.Repeat("a.", 120)+"b") + ".secret.yaml", "Opaque"},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.secret.DeepCopy()
			sealable, problems := render.Secret(c.secret, render.Options{Tenant: "acme"})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if !reflect.DeepEqual(c.secret, before) {
				t.Error("the input was changed")
			}
			want := seal.Envelope{Tenant: "acme", Namespace: "shop", Name: c.secret.Name, Type: corev1.SecretType(c.kind), Data: c.secret.Data}
			if !reflect.DeepEqual(sealable.Envelope, want) {
				t.Errorf("envelope %+v", sealable.Envelope)
			}
			document := sealable.Document(armored)
			if strings.Contains(string(document.Data), "s3cr3t") {
				t.Errorf("the document has more than it should:\n%s", document.Data)
			}
			object, refused := repo.Decode(document.Path, repo.NewFile(document.Data))
			if len(refused) > 0 || document.Path != c.path || sealable.Path() != c.path {
				t.Fatalf("the hub would refuse %s: %v", document.Path, refused)
			}
			sync := object.(*v1alpha1.SyncSecret)
			if sync.Sealed != armored || string(sync.Type) != c.kind || sync.Immutable == nil || !*sync.Immutable {
				t.Errorf("document\n%s", document.Data)
			}
			// The hub finds the address again, also of a name that was cut.
			if namespace, name, _ := repo.Origin(sync); sealable.Envelope.Check("acme", namespace, name) != nil {
				t.Errorf("the origin is %s/%s", namespace, name)
			}
		})
	}
}

func TestTokensOfTheClusterAreNotRendered(t *testing.T) {
	for _, kind := range []corev1.SecretType{corev1.SecretTypeServiceAccountToken, corev1.SecretTypeBootstrapToken} {
		sealable, problems := render.Secret(aSecret("token", kind), render.Options{Tenant: "acme"})
		if sealable != nil || len(problems) != 1 || problems[0].Reason != render.ReasonSecretType || problems[0].Remedy == "" || problems[0].Object != "Secret shop/token" {
			t.Errorf("%s: %+v", kind, problems)
		}
	}
}

func TestOnlyLabelledSecretsAreInScope(t *testing.T) {
	labelled, unlabelled, other, going := aSecret("a", ""), aSecret("b", ""), aSecret("c", ""), aSecret("d", "")
	unlabelled.Labels = nil
	other.Labels[v1alpha1.LabelManagedBy] = "argocd"
	going.DeletionTimestamp = &metav1.Time{}
	for secret, want := range map[*corev1.Secret]bool{labelled: true, unlabelled: false, other: false, going: false} {
		if render.SecretInScope(secret) != want {
			t.Errorf("%s: %v", secret.Name, !want)
		}
	}
}
