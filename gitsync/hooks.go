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
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/webhook"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// receiver serves webhooks. Only the leader does, because it has the loops;
// where requests reach another replica, the interval makes up for it.
func (s *supervisor) receiver() manager.Runnable {
	handler := webhook.NewHandler(webhook.Sources{Lookup: s.hookSource, Trigger: s.trigger, Count: countHook})
	return manager.RunnableFunc(func(ctx context.Context) error {
		listener := s.options.Listener
		if listener == nil {
			var err error
			if listener, err = net.Listen("tcp", s.options.WebhookAddr); err != nil {
				return fmt.Errorf("webhook: %w", err)
			}
		}
		return webhook.Serve(ctx, listener, handler)
	})
}

// tokenFor is how long a webhook's token is kept: a stranger's flood must not
// become one of reads of Secrets, and a token that was replaced must not last.
const tokenFor = 5 * time.Second

// tokens are those of webhooks, as they were read last.
type tokens struct {
	mu    sync.Mutex
	known map[client.ObjectKey]readToken
}

type readToken struct {
	uid        types.UID // and generation of the GitSource
	generation int64
	until      time.Time
	token      []byte
}

// of returns a source's token, if it was read lately.
func (t *tokens) of(source *v1alpha1.GitSource, now time.Time) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.known[client.ObjectKeyFromObject(source)]
	return r.token, ok && r.uid == source.UID && r.generation == source.Generation && now.Before(r.until)
}

func (t *tokens) put(source *v1alpha1.GitSource, now time.Time, token []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[client.ObjectKey]readToken{}
	}
	t.known[client.ObjectKeyFromObject(source)] = readToken{source.UID, source.Generation, now.Add(tokenFor), token}
}

func (t *tokens) forget(key client.ObjectKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, key)
}

// hookSource describes a GitSource to the receiver of webhooks.
func (s *supervisor) hookSource(ctx context.Context, namespace, name string) (webhook.Source, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	if !s.options.follows(namespace) {
		return webhook.Source{}, webhook.ErrUnknown
	}
	var source v1alpha1.GitSource
	err := s.client.Get(ctx, key, &source)
	if apierrors.IsNotFound(err) || err == nil && (source.Spec.Webhook == nil || len(mistakesOf(&source).webhook) > 0) {
		s.tokens.forget(key)
		return webhook.Source{}, webhook.ErrUnknown
	}
	if err != nil {
		return webhook.Source{}, err
	}
	token, ok := s.tokens.of(&source, s.options.Clock())
	if !ok {
		var secret corev1.Secret
		err := s.live.Get(ctx, secretKey(&source, source.Spec.Webhook.SecretRef), &secret)
		if client.IgnoreNotFound(err) != nil {
			return webhook.Source{}, err
		}
		token = bytes.TrimSpace(secret.Data["token"]) // none: nothing fits
		s.tokens.put(&source, s.options.Clock(), token)
	}
	h := webhook.Source{
		Type: cmp.Or(webhook.Type(source.Spec.Webhook.Type), webhook.Generic), Token: token,
		Repositories: []string{source.Spec.URL}, Wants: othersWrite, PullRequests: true,
	}
	if f := source.Spec.Forge; f != nil && f.Repository != "" {
		h.Repositories = append(h.Repositories, f.Repository)
	}
	return h, nil
}

// othersWrite picks the branches that tell the hub of news: not those that it
// alone writes.
func othersWrite(ref string) bool {
	for _, own := range []string{"base/", "status/", "archive/"} {
		if strings.HasPrefix(ref, repo.RefPrefix+own) {
			return false
		}
	}
	return true
}

// loadHook looks whether the Secret of spec.webhook has a token: once per interval,
// and at every look while something is wrong. That the API server fails changes
// nothing.
func (l *loop) loadHook(ctx context.Context) {
	hook := l.source.Spec.Webhook
	if hook == nil {
		l.hook = metav1.Condition{}
		return
	}
	if l.hook.Status == metav1.ConditionTrue && l.hook.ObservedGeneration == l.source.Generation && l.now().Before(l.hookAt) {
		return
	}
	l.hookAt = l.now().Add(l.interval())
	key := secretKey(l.source, hook.SecretRef)
	c := metav1.Condition{Type: v1alpha1.ConditionWebhookReady, Status: metav1.ConditionFalse, ObservedGeneration: l.source.Generation}
	const until = "; no webhook is believed until then, and news are heard at spec.interval"
	var secret corev1.Secret
	err := l.live.Get(ctx, key, &secret)
	wrong := l.mistakes.webhook
	switch {
	case len(wrong) > 0:
		c.Reason, c.Message = v1alpha1.ReasonInvalid, wrong[0].Field+": "+wrong[0].Message+": "+wrong[0].Remedy+until
	case apierrors.IsNotFound(err):
		c.Reason = v1alpha1.ReasonSecretNotFound
		c.Message = fmt.Sprintf("the Secret %s of spec.webhook.secretRef does not exist: make it, with the forge's secret in the key token%s", key, until)
	case err != nil:
		l.log.Error(err, "cannot look at the webhook's Secret", "secret", key.String())
		return
	case len(bytes.TrimSpace(secret.Data["token"])) == 0:
		c.Reason = v1alpha1.ReasonTokenMissing
		c.Message = fmt.Sprintf("the Secret %s of spec.webhook.secretRef has no key token: put the forge's secret into it%s", key, until)
	default:
		c.Status, c.Reason = metav1.ConditionTrue, meta.SucceededReason
		c.Message = fmt.Sprintf("POST /hook/%s/%s is believed with the token in the Secret %s", l.key.Namespace, l.key.Name, key)
	}
	l.hook = c
}

// webhookCondition sets the condition WebhookReady, or removes it where there is no
// webhook.
func (l *loop) webhookCondition(conditions []metav1.Condition, now metav1.Time) []metav1.Condition {
	if l.hook.Type == "" {
		apimeta.RemoveStatusCondition(&conditions, v1alpha1.ConditionWebhookReady)
		return conditions
	}
	c := l.hook
	c.LastTransitionTime = now
	apimeta.SetStatusCondition(&conditions, c)
	return conditions
}

func countHook(namespace, name string, result webhook.Result) {
	source := ""
	if name != "" {
		source = namespace + "/" + name
	}
	hooks.WithLabelValues(source, string(result)).Inc()
}
