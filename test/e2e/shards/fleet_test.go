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

package shards

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/test/testbed"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func app(name string) testbed.App {
	return testbed.App{Namespace: namespace, Name: name, Replicas: 1}
}

// up deploys an app and exposes it.
func (f *fleet) up(tenant, name string) (address string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	if err := f.Deploy(ctx, tenant, app(name)); err != nil {
		f.Fatal(err)
	}
	address, err := f.Expose(ctx, tenant, app(name))
	if err != nil {
		f.Fatal(err)
	}
	return address
}

// address waits for the address of a Service.
func (f *fleet) address(tenant, name string) string {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	address, err := f.Address(ctx, tenant, namespace, name)
	if err != nil {
		f.Fatal(err)
	}
	return address
}

func (f *fleet) eventually(what string, ask func() error) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	if err := testbed.Eventually(ctx, what, ask); err != nil {
		f.Fatal(err)
	}
}

// answers waits for a response of an app's pod through address:port.
func (f *fleet) answers(address string, port int, app string) {
	f.Helper()
	target := fmt.Sprintf("%s:%d", address, port)
	f.eventually("a response of "+target, func() error {
		reply, err := testbed.AskHTTP(f.ctx, target)
		if err == nil && !strings.HasPrefix(reply.Pod, app+"-") {
			err = fmt.Errorf("answered by pod %s", reply.Pod)
		}
		return err
	})
}

func (f *fleet) closed(address string, port int) {
	f.Helper()
	target := fmt.Sprintf("%s:%d", address, port)
	f.eventually(target+" to be closed", func() error {
		if testbed.Reaches(target) {
			return errors.New("it accepts connections")
		}
		return nil
	})
}

// setPort changes the port of a Service, which is made if it is not there.
func (f *fleet) setPort(tenant, name string, port int32) {
	f.Helper()
	var service corev1.Service
	err := f.TenantClient(tenant).Get(f.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &service)
	if client.IgnoreNotFound(err) != nil {
		f.Fatal(err)
	}
	if err != nil {
		f.up(tenant, name)
		f.setPort(tenant, name, port)
		return
	}
	patch := client.MergeFrom(service.DeepCopy())
	service.Spec.Ports[0].Port = port
	if err := f.TenantClient(tenant).Patch(f.ctx, &service, patch); err != nil {
		f.Fatal(err)
	}
}

// serviceCondition waits for a condition of a Service, by the end of its type.
func (f *fleet) serviceCondition(tenant, name, suffix string, status metav1.ConditionStatus, words ...string) {
	f.Helper()
	f.eventually(fmt.Sprintf("condition %s=%s of Service %s of %s", suffix, status, name, tenant), func() error {
		var service corev1.Service
		if err := f.TenantClient(tenant).Get(f.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &service); err != nil {
			return err
		}
		for _, c := range service.Status.Conditions {
			if strings.HasSuffix(c.Type, suffix) && c.Status == status && containsAll(c.Message, words) {
				return nil
			}
			if strings.HasSuffix(c.Type, suffix) && c.Status != status {
				return fmt.Errorf("it is %s: %s", c.Status, c.Message)
			}
		}
		if status == metav1.ConditionFalse {
			return nil
		}
		return fmt.Errorf("conditions: %+v", service.Status.Conditions)
	})
}

func containsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// sourceReady waits until a GitSource is ready.
func (f *fleet) sourceReady(name string) {
	f.Helper()
	f.source(name, metav1.ConditionTrue, "Succeeded")
}

// sourceSays waits for a reason why a GitSource is not ready.
func (f *fleet) sourceSays(name, reason string, words ...string) {
	f.Helper()
	f.source(name, metav1.ConditionFalse, reason, words...)
}

func (f *fleet) source(name string, status metav1.ConditionStatus, reason string, words ...string) {
	f.Helper()
	f.eventually(fmt.Sprintf("GitSource %s Ready=%s %s", name, status, reason), func() error {
		var source v1alpha1.GitSource
		if err := f.HubClient.Get(f.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: name}, &source); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(source.Status.Conditions, "Ready")
		if ready == nil || ready.Status != status || ready.Reason != reason || !containsAll(ready.Message, words) {
			return fmt.Errorf("Ready is %+v", ready)
		}
		return nil
	})
}

// settled waits until everything that a shard's tenant pushed is decided, applied
// and told.
func (f *fleet) settled(s shard) {
	f.Helper()
	f.eventually("tenant "+s.tenant+" to be settled", func() error {
		dir, status := repo.TenantDir(s.tenant), repo.StatusRef(s.tenant)
		tip := f.at(s, repo.IntentRef(s.tenant))
		if told := f.show(s, status, dir+"/tenantstate.yaml"); !strings.Contains(told, "commit: "+tip) {
			return fmt.Errorf("intent %s, told %s", tip, told)
		}
		files, err := s.Repository.Git(f.ctx, "ls-tree", "-r", "--name-only", s.Ref(), dir+"/")
		if err != nil {
			return err
		}
		for file := range strings.FieldsSeq(files) {
			revision, err := s.Repository.Git(f.ctx, "log", "-1", "--format=%H", s.Ref(), "--", file)
			if err != nil {
				return err
			}
			if err := f.applied(file, revision); err != nil {
				return err
			}
			if told := f.show(s, status, file); told == "" {
				return fmt.Errorf("nothing is told of %s", file)
			}
		}
		return nil
	})
}

// applied returns an error unless the hub has a file's object as a commit has it.
func (f *fleet) applied(file, revision string) error {
	path, err := repo.ParsePath(file)
	if err != nil {
		return err
	}
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(path.Kind))
	key := client.ObjectKey{Namespace: v1alpha1.TenantNamespace(path.Tenant), Name: path.ObjectName()}
	if err := f.HubClient.Get(f.ctx, key, object); err != nil {
		return err
	}
	if has := object.Annotations[v1alpha1.AnnotationRevision]; has != revision {
		return fmt.Errorf("%s is of %s, the hub has %s", file, revision, has)
	}
	return nil
}

func path(tenant, name string) string {
	return repo.Path{Tenant: tenant, Kind: v1alpha1.KindLoadBalancer, Namespace: namespace, Name: name, SourceKind: "service"}.String()
}

// at is the tip of a branch in a shard's repository.
func (f *fleet) at(s shard, ref string) string {
	f.Helper()
	hash, err := s.Repository.Git(f.ctx, "rev-parse", ref)
	if err != nil {
		f.Fatal(err)
	}
	return hash
}

// show is a file's text; empty if there is none.
func (f *fleet) show(s shard, ref, file string) string {
	text, err := s.Repository.Git(f.ctx, "show", ref+":"+file)
	if err != nil {
		return ""
	}
	return text
}

// has says whether a shard's branch and its base have a tenant's load balancer.
func (f *fleet) has(s shard, tenant, name string) bool {
	truth, base := f.show(s, s.Ref(), path(tenant, name)), f.show(s, repo.BaseRef(s.Ref()), path(tenant, name))
	if (truth == "") != (base == "") {
		f.Errorf("%s and its base differ in the load balancer of %s", s.Branch, tenant)
	}
	return truth != ""
}

func (f *fleet) refs(s shard) string {
	f.Helper()
	text, err := s.Repository.Git(f.ctx, "for-each-ref", "--format=%(refname)")
	if err != nil {
		f.Fatal(err)
	}
	return text
}

func (f *fleet) kubectl(args ...string) string {
	f.Helper()
	out, err := f.Kubectl(f.ctx, args...)
	if err != nil {
		f.Fatal(err)
	}
	return out
}

// kubelbctl runs kubelbctl in a folder of its own, as a person with a name.
func (f *fleet) kubelbctl(args ...string) {
	f.Helper()
	root, err := testbed.ModuleRoot()
	if err != nil {
		f.Fatal(err)
	}
	programs, err := testbed.Build(f.ctx, filepath.Join(root, ".tools", "bin"), "./cmd/kubelbctl")
	if err != nil {
		f.Fatal(err)
	}
	cmd := exec.CommandContext(f.ctx, programs[0], args...)
	cmd.Dir = f.TempDir()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+f.Hub.Kubeconfig, "GIT_AUTHOR_NAME=operator", "GIT_AUTHOR_EMAIL=operator@example.com",
		"GIT_COMMITTER_NAME=operator", "GIT_COMMITTER_EMAIL=operator@example.com")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		f.Fatalf("kubelbctl %s: %v\n%s", strings.Join(args, " "), err, &out)
	}
}

// install makes a tenant of a shard and its CCM with kubelbctl tenant add.
func (f *fleet) install(tenant string, s shard) {
	f.Helper()
	if err := f.AddCluster(f.ctx, tenant); err != nil {
		f.Fatal(err)
	}
	dir, user := f.TempDir(), "ccm-"+tenant
	token, manifests := filepath.Join(dir, "token"), filepath.Join(dir, "ccm.yaml")
	if err := os.WriteFile(token, []byte(f.Git.AddUser(user, "")), 0o600); err != nil {
		f.Fatal(err)
	}
	s.Repository.Allow(user, repo.IntentRef(tenant))
	f.kubelbctl("tenant", "add", tenant, "--source", s.Source, "--username", user, "--password-file", token, "-f", manifests)
	f.kubectl("patch", "tenant", tenant, "--type=merge", "--patch", `{"spec":{"allowedEndpointCIDRs":["127.0.0.0/8"]}}`)
	kubectl, err := testbed.Tool("kubectl")
	if err != nil {
		f.Fatal(err)
	}
	if out, err := exec.CommandContext(f.ctx, kubectl, "--kubeconfig", f.Tenant(tenant).Kubeconfig, "apply", "-f", manifests).CombinedOutput(); err != nil {
		f.Fatalf("%v\n%s", err, out)
	}
	var deployment appsv1.Deployment
	if err := f.TenantClient(tenant).Get(f.ctx, client.ObjectKey{Namespace: testbed.HubNamespace, Name: "kubelb-ccm"}, &deployment); err != nil {
		f.Fatal(err)
	}
	if err := f.RunCCM(tenant, deployment.Spec.Template.Spec.Containers[0].Args); err != nil {
		f.Fatal(err)
	}
}
