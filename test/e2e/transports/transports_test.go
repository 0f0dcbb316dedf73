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

// Package transports runs a whole system over SSH, then over HTTP through a
// proxy.
package transports

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/forward"
	"github.com/kubelb/gitops/test/testbed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	acme     = "acme"
	patience = 90 * time.Second
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// fleet is a system with one tenant.
type fleet struct {
	*testing.T
	*testbed.System
}

func TestOverSSHThenThroughAProxy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	system, err := testbed.NewSystem(ctx, testbed.SystemOptions{
		Options: testbed.Options{Name: "transports", Tenants: []string{acme}}, Interval: time.Second, SSH: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(system.Tails())
		}
		if err := system.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fleet{T: t, System: system}
	f.overSSH()
	f.anotherHostKey()
	f.anotherKey()
	f.throughAProxy()
}

// up makes an app with a Service and asks it.
func (f *fleet) up(name string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	app := testbed.App{Namespace: "shop", Name: name, Replicas: 1}
	if err := f.Deploy(ctx, acme, app); err != nil {
		f.Fatal(err)
	}
	address, err := f.Expose(ctx, acme, app)
	if err != nil {
		f.Fatal(err)
	}
	f.eventually("an answer of "+name, func() error {
		reply, err := testbed.AskHTTP(ctx, address+":8080")
		if err == nil && !strings.HasPrefix(reply.Pod, name+"-") {
			err = fmt.Errorf("answered by %s", reply.Pod)
		}
		return err
	})
}

func (f *fleet) eventually(what string, ask func() error) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	if err := testbed.Eventually(ctx, what, ask); err != nil {
		f.Fatal(err)
	}
}

// ready waits for a reason of the GitSource's Ready condition, in words.
func (f *fleet) ready(reason string, words ...string) {
	f.Helper()
	f.eventually("reason "+reason, func() error {
		var source v1alpha1.GitSource
		if err := f.HubClient.Get(f.Context(), client.ObjectKey{Namespace: testbed.HubNamespace, Name: testbed.SourceName}, &source); err != nil {
			return err
		}
		for _, c := range source.Status.Conditions {
			if c.Type != "Ready" || c.Reason != reason || source.Status.ObservedGeneration != source.Generation {
				continue
			}
			for _, word := range words {
				if !strings.Contains(c.Message, word) {
					return fmt.Errorf("%q is not in %s", word, c.Message)
				}
			}
			return nil
		}
		return fmt.Errorf("%+v", source.Status.Conditions)
	})
}

// over counts the requests that came over SSH, and those of hub and CCM over HTTP.
func (f *fleet) over() (ssh, http int) {
	r := f.Git.Requests()
	return r["ssh-fetch"] + r["ssh-push"], r["ls-refs"] + r["fetch"] + r["push"]
}

func (f *fleet) overSSH() {
	_, before := f.over()
	f.up("one")
	ssh, http := f.over()
	if http != before || f.Git.Requests()["ssh-push"] == 0 || ssh == 0 {
		f.Errorf("%d requests over SSH, %d over HTTP", ssh, http-before)
	}
	f.ready("Succeeded")
}

// anotherHostKey is what a user sees and does when the server's key changes.
func (f *fleet) anotherHostKey() {
	known := f.Git.KnownHosts()
	if err := f.Git.ReplaceHostKey(); err != nil {
		f.Fatal(err)
	}
	f.ready(v1alpha1.ReasonHostKeyMismatch, "SHA256:", "known_hosts", "kubelb/fleet-git")
	service := testbed.App{Namespace: "shop", Name: "waits", Replicas: 1}.NewService()
	if err := f.TenantClient(acme).Create(f.Context(), service); err != nil {
		f.Fatal(err)
	}
	f.eventually("the problem at a Service that waits", func() error {
		var waiting corev1.Service
		if err := f.TenantClient(acme).Get(f.Context(), client.ObjectKeyFromObject(service), &waiting); err != nil {
			return err
		}
		for _, c := range waiting.Status.Conditions {
			if c.Status == metav1.ConditionTrue && strings.Contains(c.Message, "SHA256:") && c.Reason == "GitHostKeyMismatch" {
				return nil
			}
		}
		return fmt.Errorf("%+v", waiting.Status.Conditions)
	})
	if f.Git.KnownHosts() == known {
		f.Error("the host key is the same, so this shows nothing")
	}
	if err := errors.Join(f.SetHubCredentials(f.Context()), f.SetCCMCredentials(f.Context(), acme)); err != nil {
		f.Fatal(err)
	}
	f.ready("Succeeded")
	f.up("two")
}

// anotherKey revokes the hub's key and gives it another.
func (f *fleet) anotherKey() {
	if _, err := f.Git.AddKey("hub"); err != nil {
		f.Fatal(err)
	}
	f.Git.BreakSSH()
	f.ready(v1alpha1.ReasonAuthFailed, "does not accept the key ssh-ed25519 SHA256:", "kubelb/fleet-git")
	if err := f.SetHubCredentials(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.ready("Succeeded")
}

func (f *fleet) throughAProxy() {
	proxy, err := forward.Start("fleet", "s3cr3t")
	if err != nil {
		f.Fatal(err)
	}
	defer proxy.Close()
	err = f.UseHTTP(f.Context(), map[string]string{"address": proxy.URL("http"), "username": "fleet", "password": "s3cr3t"})
	if err != nil {
		f.Fatal(err)
	}
	f.ready("Succeeded")
	ssh, _ := f.over()
	posts := proxy.Passed("POST")
	f.up("three")
	if after, _ := f.over(); after != ssh || proxy.Passed("POST") == posts {
		f.Errorf("%d requests over SSH, %d through the proxy", after-ssh, proxy.Passed("POST")-posts)
	}
}
