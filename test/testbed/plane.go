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

package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Plane is one control plane: etcd and kube-apiserver (through envtest) and
// kube-controller-manager.
type Plane struct {
	Name       string
	Config     *rest.Config         // as cluster administrator, without client-side rate limit
	Clients    kubernetes.Interface // made from Config
	Kubeconfig string               // a file with the same rights

	home       *home
	processes  *envtest.ControlPlane
	controller *Process
}

// startTimeout is generous for a machine that does other things as well.
const startTimeout = 90 * time.Second

// controllers are those that the bed's Deployments, Services and Namespaces
// need, in the words of kube-controller-manager.
var controllers = []string{
	"deployment-controller", "replicaset-controller", "endpointslice-controller",
	"namespace-controller", "serviceaccount-controller", "garbage-collector-controller",
}

func startPlane(ctx context.Context, h *home, name string, audit bool) (*Plane, error) {
	p := &Plane{Name: name, Kubeconfig: filepath.Join(h.dir, name+".kubeconfig"), home: h}
	if err := p.configure(); err != nil {
		return nil, err
	}
	if audit {
		if err := p.audit(); err != nil {
			return nil, err
		}
	}
	if err := p.startProcesses(ctx); err != nil {
		p.Down()
		return nil, err
	}
	return p, nil
}

// configure prepares etcd and the API server in folders of the bed.
func (p *Plane) configure() error {
	etcd, apiserver := &envtest.Etcd{StartTimeout: startTimeout}, &envtest.APIServer{StartTimeout: startTimeout}
	p.processes = &envtest.ControlPlane{Etcd: etcd, APIServer: apiserver}
	var err error
	if etcd.Path, err = p.launcher("etcd"); err != nil {
		return err
	}
	if apiserver.Path, err = p.launcher("kube-apiserver"); err != nil {
		return err
	}
	etcd.DataDir, apiserver.CertDir = p.folder("etcd-data"), p.folder("certs")
	for _, dir := range []string{etcd.DataDir, apiserver.CertDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	etcd.URL = &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	etcd.Configure().Set("listen-peer-urls", fmt.Sprintf("http://127.0.0.1:%d", ports[1])).
		Set("unsafe-no-fsync", "true").Set("log-level", "warn")
	apiserver.Address, apiserver.Port = "127.0.0.1", strconv.Itoa(ports[2])
	apiserver.Configure().
		// Object data only: no one dials it, and a loopback address is refused.
		Set("advertise-address", "10.99.0.1").
		Set("service-cluster-ip-range", "10.96.0.0/16").
		// Below the usual ephemeral ports, and bound on node addresses only.
		Set("service-node-port-range", "30000-32767").
		Set("enable-priority-and-fairness", "false").
		Set("profiling", "false")
	return nil
}

// membership marks etcd and the API server.
func (p *Plane) membership() string { return p.home.dir + "/plane:" + p.Name }

func (p *Plane) killMembers() error {
	own := p.membership()
	return kill(func(membership string) bool { return membership == own })
}

func (p *Plane) folder(name string) string { return filepath.Join(p.home.dir, p.Name, name) }

// launcher writes the script that envtest starts in place of a tool: it makes
// the process a member of the bed and keeps its log. envtest asks tools for
// their flags first; what it looks for is configured here, so it finds none.
// Memory is given for time: a bed's planes are small and share few cores.
func (p *Plane) launcher(tool string) (string, error) {
	path, err := Tool(tool)
	if err != nil {
		return "", err
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --help ] && exit 0\nexport GOGC=300 %s=%s\nexec %s \"$@\" >>%s 2>&1\n",
		membership, quote(p.membership()), quote(path), quote(p.home.logFile(p.Name+"-"+tool)))
	launcher := p.folder(tool)
	if err := os.MkdirAll(filepath.Dir(launcher), 0o700); err != nil {
		return "", err
	}
	return launcher, os.WriteFile(launcher, []byte(script), 0o700)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (p *Plane) startProcesses(ctx context.Context) error {
	if err := p.startServers(ctx); err != nil {
		return fmt.Errorf("control plane %s: %w%s%s", p.Name, err,
			tail(p.home.logFile(p.Name+"-etcd")), tail(p.home.logFile(p.Name+"-kube-apiserver")))
	}
	if p.Config == nil {
		if err := p.connect(); err != nil {
			return err
		}
	}
	manager, err := Tool("kube-controller-manager")
	if err != nil {
		return err
	}
	p.controller, err = p.home.start(Command{
		Name: p.Name + "-kube-controller-manager", Path: manager,
		Args: []string{
			"--kubeconfig=" + p.Kubeconfig, "--controllers=" + strings.Join(controllers, ","),
			"--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=false",
			"--kube-api-qps=1000", "--kube-api-burst=1000",
		},
	})
	if err != nil {
		return err
	}
	return p.waitForControllers(ctx)
}

// startServers starts etcd and the API server; envtest itself knows no context.
func (p *Plane) startServers(ctx context.Context) error {
	started := make(chan error, 1)
	go func() { started <- p.processes.Start() }()
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
	}
	for { // envtest may be about to start the second one
		_ = p.killMembers()
		select {
		case err := <-started:
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Plane) connect() error {
	user, err := p.processes.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, &rest.Config{QPS: -1})
	if err != nil {
		return err
	}
	text, err := user.KubeConfig()
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.Kubeconfig, text, 0o600); err != nil {
		return err
	}
	p.Config = user.Config()
	p.Clients, err = kubernetes.NewForConfig(p.Config)
	return err
}

// waitForControllers waits until the controllers work, which shows in the
// service account of the namespace default.
func (p *Plane) waitForControllers(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, startTimeout, true, func(ctx context.Context) (bool, error) {
		if err := p.controller.Err(); err != nil {
			return false, err
		}
		_, err := p.Clients.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil //nolint:nilerr // asked again until the deadline
	})
	if err != nil {
		return fmt.Errorf("the controllers of control plane %s did not start: %w%s", p.Name, err, p.controller.Tail())
	}
	return nil
}

// AddUser makes a user with these groups and no rights beyond what RBAC gives
// them, and writes its kubeconfig file.
func (p *Plane) AddUser(name string, groups ...string) (*rest.Config, string, error) {
	user, err := p.processes.AddUser(envtest.User{Name: name, Groups: groups}, &rest.Config{QPS: -1})
	if err != nil {
		return nil, "", err
	}
	text, err := user.KubeConfig()
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(p.home.dir, p.Name+"-"+strings.ReplaceAll(name, ":", "-")+".kubeconfig")
	return user.Config(), file, os.WriteFile(file, text, 0o600)
}

// InstallCRDs installs every CRD of these files or folders and waits until
// they are served.
func (p *Plane) InstallCRDs(paths ...string) error {
	_, err := envtest.InstallCRDs(p.Config, envtest.CRDInstallOptions{
		Paths: paths, ErrorIfPathMissing: true, MaxTime: startTimeout, PollInterval: 50 * time.Millisecond,
	})
	if err != nil {
		return fmt.Errorf("install CRDs in control plane %s: %w", p.Name, err)
	}
	return nil
}

// Down ends the control plane's processes at once and keeps its data, as if
// the machine they run on had lost power. Up starts them again on the same
// addresses.
func (p *Plane) Down() {
	if p.controller != nil {
		p.controller.Kill()
	}
	p.killServers()
}

// Up starts a control plane that is down, with its data and users.
func (p *Plane) Up(ctx context.Context) error { return p.startProcesses(ctx) }

// killServers kills etcd and the API server: their state is thrown away or
// survives in etcd's log, and a polite end takes seconds.
func (p *Plane) killServers() {
	_ = p.killMembers()
	// envtest learns that its processes are gone; it can only complain of that.
	_ = p.processes.Stop()
}
