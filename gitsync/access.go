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

package gitsync

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// secretInterval is how often Secrets are read again after a failure that they
// can heal, however long the interval of the GitSource is.
const secretInterval = 5 * time.Second

// access is how a GitSource's repository is reached, with the credentials and
// the proxy of its Secrets.
func access(ctx context.Context, live client.Reader, source *v1alpha1.GitSource) (git.Options, error) {
	spec := &source.Spec
	var options git.Options
	var err error
	if spec.SecretRef != nil {
		read := func(data map[string][]byte) (git.Options, error) { return git.ReadSecret(spec.URL, data) }
		if options, err = readSecret(ctx, live, source, *spec.SecretRef, "spec.secretRef", read); err != nil {
			return options, err
		}
	} else if strings.HasPrefix(spec.URL, "ssh:") {
		return options, &failure{
			reason: v1alpha1.ReasonAuthFailed, stalled: true,
			message: "spec.secretRef is missing, and an ssh:// URL needs it: name a Secret with identity and known_hosts",
		}
	}
	if spec.ProxySecretRef != nil {
		options.Proxy, err = readSecret(ctx, live, source, *spec.ProxySecretRef, "spec.proxySecretRef", git.ReadProxySecret)
		if err != nil {
			return options, err
		}
	}
	options.Timeout = git.DefaultTimeout
	if spec.Timeout != nil && spec.Timeout.Duration > 0 {
		options.Timeout = spec.Timeout.Duration
	}
	return options, nil
}

// secretKey is where a Secret is that a GitSource names: beside it, whatever
// namespace the reference has. Who may write a GitSource has the hub send the
// Secret to a server of his choice, so it must not be one that he may not read.
func secretKey(source *v1alpha1.GitSource, ref v1alpha1.LocalReference) client.ObjectKey {
	return client.ObjectKey{Namespace: source.Namespace, Name: ref.Name}
}

// readSecret reads a Secret that a field of a GitSource names. A Secret that is
// missing or of no use is for people to correct.
func readSecret[T any](ctx context.Context, live client.Reader, source *v1alpha1.GitSource, ref v1alpha1.LocalReference, field string,
	read func(map[string][]byte) (T, error),
) (T, error) {
	var secret corev1.Secret
	var none T
	key := secretKey(source, ref)
	if err := live.Get(ctx, key, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return none, &failure{
				reason: v1alpha1.ReasonAuthFailed, stalled: true, secret: true,
				message: fmt.Sprintf("the Secret %s of %s does not exist: create it", key, field),
			}
		}
		return none, fmt.Errorf("get the Secret %s of %s: %w", key, field, err)
	}
	value, err := read(secret.Data)
	var mistake *git.SecretError
	if errors.As(err, &mistake) {
		return none, &failure{
			reason: v1alpha1.ReasonAuthFailed, stalled: true, secret: true,
			message: fmt.Sprintf("the Secret %s of %s: %v", key, field, mistake),
		}
	}
	if err != nil {
		return none, unusable(err)
	}
	return value, nil
}

// unusable is a URL that leads nowhere.
func unusable(err error) *failure {
	return &failure{reason: v1alpha1.ReasonRepositoryInvalid, stalled: true, message: fmt.Sprintf("spec.url cannot be used: %v", err)}
}

// explainAccess maps errors that other credentials may heal, nil for all others.
func explainAccess(err error, source *v1alpha1.GitSource) *failure {
	where := redact(source.Spec.URL)
	secret := "a Secret that spec.secretRef names"
	if ref := source.Spec.SecretRef; ref != nil {
		secret = fmt.Sprintf("the Secret %s of spec.secretRef", secretKey(source, *ref))
	}
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, git.ErrUnauthorized):
		return &failure{reason: v1alpha1.ReasonAuthFailed, stalled: true, secret: true, refused: true,
			message: fmt.Sprintf("%s refuses the credentials (%v): correct %s", where, err, secret)}
	case errors.Is(err, git.ErrHostKey):
		return &failure{reason: v1alpha1.ReasonHostKeyMismatch, stalled: true, secret: true, refused: true,
			message: fmt.Sprintf("%v. Compare the fingerprint with what the server's operator publishes: if it is right, put the key into known_hosts of %s; if not, somebody stands between", err, secret)}
	case errors.As(err, &certificate):
		return &failure{reason: v1alpha1.ReasonGitUnavailable,
			message: fmt.Sprintf("the certificate of %s cannot be verified (%v): put the certificate of its authority into ca.crt of %s", where, err, secret)}
	}
	return nil
}

// healSecret has the Secrets read again soon after a failure that they can heal.
// The server is asked with the same credentials only after the interval.
func (l *loop) healSecret(now time.Time) {
	if !now.Before(l.askAgain) {
		l.askAgain = l.syncAt
	}
	if soon := now.Add(secretInterval); soon.Before(l.syncAt) {
		l.syncAt = soon
	}
}
