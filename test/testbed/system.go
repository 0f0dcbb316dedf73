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
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// HubNamespace is where hub and CCMs keep their keys, in every cluster.
const HubNamespace = "kubelb"

// SourceName is the name of the system's GitSource.
const SourceName = "fleet"

// SystemOptions describe a system.
type SystemOptions struct {
	Options
	// HubProgram and CCMProgram are files to run; empty: this module's, built anew.
	HubProgram, CCMProgram string
	// HubArgs and CCMArgs are added to the programs' arguments.
	HubArgs, CCMArgs []string
	// Interval of the GitSource; 10 s when 0.
	Interval time.Duration
	// SSH has hub and CCMs reach the repository over SSH.
	SSH bool
	// NoWebhooks leaves hub and CCMs to their intervals.
	NoWebhooks bool
	// Config changes the hub's Config before it is made.
	Config func(*v1alpha1.Config)
}

// System is the product on a bed: the hub and a CCM per tenant as processes,
// the repository made from the template, Config, GitSource and Tenants.
type System struct {
	*Bed
	// HubClient and the clients of [System.TenantClient] know the product's kinds.
	HubClient client.Client
	Trail     *Trail

	options              SystemOptions
	hubBinary, ccmBinary string
	xdsPort, hookPort    int
	metricsPort          int
	hookToken            string
	hub                  *Process
	hubConfig            string // kubeconfig of the hub's service account
	ccms                 map[string]*member
}

// member is a tenant with its CCM.
type member struct {
	tenant      string // what the CCM says it is
	client      client.Client
	config      string            // kubeconfig of the CCM's service account
	credentials map[string]string // of the CCM, for the Git server
	ccm         *Process
	hookPort    int
	own         *Repository // where it meets the hub, if not in the system's
}

// NewSystem starts a bed and the product on it. The context bounds the start
// only; Close ends both. When NewSystem fails nothing is left.
func NewSystem(ctx context.Context, options SystemOptions) (*System, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	options.CRDs = append(options.CRDs, filepath.Join(root, "deploy", "crds"))
	if options.Interval == 0 {
		options.Interval = 10 * time.Second
	}
	if options.HubProgram == "" || options.CCMProgram == "" {
		programs, err := Build(ctx, filepath.Join(root, ".tools", "bin"), "./cmd/hub", "./cmd/ccm")
		if err != nil {
			return nil, err
		}
		options.HubProgram, options.CCMProgram = cmp.Or(options.HubProgram, programs[0]), cmp.Or(options.CCMProgram, programs[1])
	}
	bed, err := New(ctx, options.Options)
	if err != nil {
		return nil, err
	}
	s := &System{
		Bed: bed, options: options, hubBinary: options.HubProgram, ccmBinary: options.CCMProgram,
		hookToken: rand.Text(), ccms: map[string]*member{}, Trail: newTrail(),
	}
	if err := s.begin(ctx, root); err != nil {
		return nil, errors.Join(err, bed.Close())
	}
	return s, nil
}

func (s *System) begin(ctx context.Context, root string) error {
	begin := time.Now()
	for _, port := range []*int{&s.xdsPort, &s.hookPort, &s.metricsPort} {
		number, err := freePort()
		if err != nil {
			return err
		}
		*port = number
	}
	if err := s.initRepository(ctx, filepath.Join(root, "repo-template")); err != nil {
		return fmt.Errorf("make the repository: %w", err)
	}
	s.Repository.OnPush(s.Trail.pushed)
	var err error
	if s.HubClient, err = newClient(s.Hub); err != nil {
		return err
	}
	if err := s.setUpHub(ctx); err != nil {
		return fmt.Errorf("set up the hub: %w", err)
	}
	if err := s.StartHub(); err != nil {
		return err
	}
	for _, tenant := range s.options.Tenants {
		if err := s.join(ctx, tenant); err != nil {
			return fmt.Errorf("tenant %s: %w", tenant, err)
		}
	}
	if err := s.Ready(ctx); err != nil {
		return err
	}
	s.progress("hub and CCMs up", begin)
	return nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
}

func newClient(plane *Plane) (client.Client, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	return client.New(plane.Config, client.Options{Scheme: scheme})
}

// initRepository makes main from the template, as an operator would.
func (s *System) initRepository(ctx context.Context, template string) error {
	clone, err := s.Repository.Clone(ctx, Admin)
	if err != nil {
		return err
	}
	err = fs.WalkDir(os.DirFS(template), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(template, path))
		if err != nil {
			return err
		}
		return clone.Write(path, string(text))
	})
	if err != nil {
		return err
	}
	config, err := repo.EncodeConfig(repo.Config{RepositoryID: rand.Text(), Layout: repo.LayoutVersion})
	if err != nil {
		return err
	}
	if err := clone.Write(repo.ConfigPath, string(config)); err != nil {
		return err
	}
	if _, err := clone.Commit(ctx, "Begin the repository of the fleet"); err != nil {
		return err
	}
	_, err = clone.Git(ctx, "push", "--quiet", "origin", "HEAD:main")
	return err
}

func (s *System) setUpHub(ctx context.Context) error {
	password, err := s.hubUser(ctx)
	if err != nil {
		return err
	}
	credentials, err := s.credentials(hubName, password)
	if err != nil {
		return err
	}
	config := &v1alpha1.Config{
		ObjectMeta: metav1.ObjectMeta{Namespace: HubNamespace, Name: v1alpha1.DefaultName},
		Spec: v1alpha1.ConfigSpec{
			AddressProvider: v1alpha1.ProviderPool, Infrastructure: v1alpha1.InfrastructureHost,
			AddressPools: []v1alpha1.AddressPool{{Name: "bed", CIDRs: []string{s.LoadBalancerCIDR().String()}}},
		},
	}
	if s.options.Config != nil {
		s.options.Config(config)
	}
	source := &v1alpha1.GitSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: HubNamespace, Name: SourceName},
		Spec: v1alpha1.GitSourceSpec{
			URL: s.gitURL(), Branch: "main", Interval: metav1.Duration{Duration: s.options.Interval},
			SecretRef: &v1alpha1.LocalReference{Name: "fleet-git"},
			Webhook:   &v1alpha1.GitWebhook{SecretRef: v1alpha1.LocalReference{Name: "fleet-webhook"}},
		},
	}
	objects := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: HubNamespace}},
		secret("fleet-git", credentials),
		secret("fleet-webhook", map[string]string{"token": s.hookToken}),
		config, source,
	}
	if s.Forge != nil {
		source.Spec.Forge = &v1alpha1.GitForge{Kind: v1alpha1.ForgeGitea, SecretRef: v1alpha1.LocalReference{Name: "fleet-forge"}}
		source.Spec.Webhook.Type = v1alpha1.WebhookGitea
		objects = append(objects, secret("fleet-forge", map[string]string{"token": password}))
	}
	for _, object := range objects {
		if err := s.HubClient.Create(ctx, object); err != nil {
			return err
		}
	}
	if s.hubConfig, err = serviceAccount(ctx, s.Hub, s.HubClient, "hub"); err != nil {
		return err
	}
	return s.addWebhook(ctx, Webhook{
		URL: fmt.Sprintf("http://127.0.0.1:%d/hook/%s/%s", s.hookPort, HubNamespace, SourceName), Secret: s.hookToken,
		Refs: []string{repo.Main, repo.RefPrefix + "intent/*", repo.RefPrefix + "review/*"},
	})
}

// serviceAccount gives a program the rights that deploy/rbac has for it, and
// returns a kubeconfig with these and no others.
func serviceAccount(ctx context.Context, plane *Plane, c client.Client, program string) (kubeconfig string, err error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	for _, name := range []string{"role.yaml", "binding.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy", "rbac", program, name))
		if err != nil {
			return "", err
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return "", err
			}
			var object unstructured.Unstructured
			if err := yaml.Unmarshal(document, &object); err != nil {
				return "", err
			}
			if err := c.Create(ctx, &object); err != nil {
				return "", err
			}
		}
	}
	_, kubeconfig, err = plane.AddUser("system:serviceaccount:" + HubNamespace + ":kubelb-" + program)
	return kubeconfig, err
}

func secret(name string, data map[string]string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: HubNamespace, Name: name}, StringData: data}
}

// StartHub starts the hub; its Envoy comes with it, or is adopted.
func (s *System) StartHub() error {
	envoy, err := Tool("envoy")
	if err != nil {
		return err
	}
	args := []string{
		"--kubeconfig", s.hubConfig, "--namespace", HubNamespace,
		"--listen-address", fmt.Sprintf("127.0.0.1:%d", s.xdsPort), "--webhook-addr", fmt.Sprintf("127.0.0.1:%d", s.hookPort),
		"--metrics-addr", fmt.Sprintf("127.0.0.1:%d", s.metricsPort), "--health-probe-bind-address", "0", "--enable-leader-election=false",
		"--state-dir", filepath.Join(s.Dir, "state"), "--envoy", envoy,
	}
	s.hub, err = s.Start(Command{Name: "hub", Path: s.hubBinary, Args: append(args, s.options.HubArgs...)})
	return err
}

// KillHub ends the hub at once, as kill -9 does. Its Envoy goes on.
func (s *System) KillHub() { s.hub.Kill() }

// Envoy asks the admin interface of the hub's Envoy, such as /stats?format=json.
func (s *System) Envoy(ctx context.Context, path string) ([]byte, error) {
	socket := filepath.Join(s.Dir, "state", "global", "admin.sock")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return io.ReadAll(response.Body)
}

// HubProcess is the running hub.
func (s *System) HubProcess() *Process { return s.hub }

// AddCluster adds a cluster that is nobody's tenant yet: RunCCM runs a CCM in it.
func (s *System) AddCluster(ctx context.Context, name string) (err error) {
	if _, err := s.Bed.AddTenant(ctx, name); err != nil {
		return err
	}
	m := &member{}
	m.client, err = newClient(s.Tenant(name).Plane)
	s.ccms[name] = m
	return err
}

// RunCCM runs a CCM with these arguments in a cluster, with the rights of the
// service account that was installed there.
func (s *System) RunCCM(name string, args []string) (err error) {
	m := s.ccms[name]
	if _, m.config, err = s.Tenant(name).AddUser("system:serviceaccount:" + HubNamespace + ":kubelb-ccm"); err != nil {
		return err
	}
	args = append([]string{
		"--kubeconfig", m.config, "--namespace", HubNamespace, "--metrics-addr", "0", "--enable-leader-election=false",
	}, args...)
	args = append(args, "--health-probe-bind-address", "0") // the pod's own port is not to be had here
	m.ccm, err = s.Start(Command{Name: "ccm-" + name, Path: s.ccmBinary, Args: args})
	return err
}

// AddTenant adds a tenant cluster, its Tenant in the hub and its CCM.
func (s *System) AddTenant(ctx context.Context, name string) error {
	if _, err := s.Bed.AddTenant(ctx, name); err != nil {
		return err
	}
	return s.join(ctx, name)
}

// join makes a tenant cluster of the bed a tenant of the system.
func (s *System) join(ctx context.Context, name string) error {
	tenant := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.TenantSpec{AllowedEndpointCIDRs: []string{"127.0.0.0/8"}},
	}
	if err := s.HubClient.Create(ctx, tenant); err != nil {
		return err
	}
	user := "ccm-" + name
	password, err := s.ccmUser(ctx, name, user)
	if err != nil {
		return err
	}
	m := &member{tenant: name}
	if m.credentials, err = s.credentials(user, password); err != nil {
		return err
	}
	return s.connect(ctx, name, m)
}

// AddTwin adds a cluster whose CCM says that it is a tenant that there is
// already, with that tenant's credentials. Args are added to the CCM's.
func (s *System) AddTwin(ctx context.Context, name, tenant string, args ...string) error {
	if _, err := s.Bed.AddTenant(ctx, name); err != nil {
		return err
	}
	return s.connect(ctx, name, &member{tenant: tenant, credentials: s.ccms[tenant].credentials}, args...)
}

// connect gives a cluster of the bed a CCM.
func (s *System) connect(ctx context.Context, name string, m *member, args ...string) (err error) {
	if err := s.furnish(ctx, name, m); err != nil {
		return err
	}
	if m.hookPort, err = freePort(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "webhook-token"), []byte(s.hookToken), 0o600); err != nil {
		return err
	}
	hook := Webhook{
		URL: fmt.Sprintf("http://127.0.0.1:%d/hook", m.hookPort), Secret: s.hookToken, Refs: []string{repo.StatusRef(m.tenant)},
	}
	if m.own != nil {
		m.own.AddWebhook(hook)
	} else {
		err = s.addWebhook(ctx, hook)
	}
	if err != nil {
		return err
	}
	s.ccms[name] = m
	return s.StartCCM(ctx, name, args...)
}

// furnish puts into a tenant's cluster what a CCM needs there.
func (s *System) furnish(ctx context.Context, name string, m *member) (err error) {
	plane := s.Tenant(name).Plane
	if m.client, err = newClient(plane); err != nil {
		return err
	}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: HubNamespace}},
		secret("kubelb-git", m.credentials),
	} {
		if err := m.client.Create(ctx, object); err != nil {
			return err
		}
	}
	m.config, err = serviceAccount(ctx, plane, m.client, "ccm")
	return err
}

// StartCCM starts a tenant's CCM, once the hub has a key; args are added to
// those it always has.
func (s *System) StartCCM(ctx context.Context, tenant string, args ...string) error {
	key, err := s.hubKey(ctx)
	if err != nil {
		return err
	}
	m := s.ccms[tenant]
	args = append([]string{
		"--kubeconfig", m.config, "--namespace", HubNamespace, "--cluster-name", m.tenant,
		"--git-url", s.gitURLOf(m), "--hub-key", key,
		"--webhook-addr", fmt.Sprintf("127.0.0.1:%d", m.hookPort), "--webhook-token-file", filepath.Join(s.Dir, "webhook-token"),
		"--metrics-addr", "0", "--health-probe-bind-address", "0", "--enable-leader-election=false",
	}, args...)
	if s.Forge != nil {
		args = append(args, "--webhook-type", "gitea")
	}
	m.ccm, err = s.Start(Command{Name: "ccm-" + tenant, Path: s.ccmBinary, Args: append(args, s.options.CCMArgs...)})
	return err
}

// RestartCCM starts a tenant's CCM as it was started before, with the hub's key
// of that time. It must have ended.
func (s *System) RestartCCM(tenant string) (err error) {
	m := s.ccms[tenant]
	m.ccm, err = s.Start(Command{Name: m.ccm.Name, Path: m.ccm.cmd.Path, Args: m.ccm.cmd.Args[1:]})
	return err
}

// KillCCM ends a tenant's CCM at once, as kill -9 does.
func (s *System) KillCCM(tenant string) { s.ccms[tenant].ccm.Kill() }

// TenantClient is a client of a tenant's cluster.
func (s *System) TenantClient(tenant string) client.Client { return s.ccms[tenant].client }

// hubKey waits for the hub's public key, which the hub makes when it starts.
func (s *System) hubKey(ctx context.Context) (key string, err error) {
	err = Eventually(ctx, "the hub's public key", func() error {
		if err := s.hub.Err(); err != nil {
			return Final(err)
		}
		var keys corev1.Secret
		if err := s.HubClient.Get(ctx, client.ObjectKey{Namespace: HubNamespace, Name: "kubelb-hub-keys"}, &keys); err != nil {
			return err
		}
		key = string(keys.Data["identity.pub"])
		return nil
	})
	return key, err
}

// Ready waits until every tenant has a signed status: from then on intents are
// pushed.
func (s *System) Ready(ctx context.Context) error {
	for _, m := range s.ccms {
		name := m.tenant
		err := Eventually(ctx, "the first intent of tenant "+name, func() error {
			if err := errors.Join(s.hub.Err(), m.ccm.Err()); err != nil {
				return Final(err)
			}
			if s.meets(m).at(repo.IntentRef(name)) == zeroHash {
				return errors.New("no commit on " + repo.IntentRef(name))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Tails are the ends of the logs of hub and CCMs, to be added to an error.
func (s *System) Tails() string {
	text := s.hub.Tail()
	for _, m := range s.ccms {
		if m.ccm != nil { // a cluster may be there before its CCM
			text += m.ccm.Tail()
		}
	}
	return text
}

// Reaches says whether a TCP connection to host:port comes about.
func Reaches(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}
