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

package command

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops"
	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

func newTenant(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "tenant", Short: "Add tenants", GroupID: groupHub, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTenantAdd(o))
	return cmd
}

func newTenantAdd(o *Options) *cobra.Command {
	a := tenantAdder{options: o}
	cmd := &cobra.Command{
		Use:   "add TENANT",
		Short: "Make a Tenant in the hub, and all that installs its CCM",
		Long: `Makes a key for the tenant's CCM, the Tenant in the hub, which accepts intents that
this key signed and no others, and a file of manifests that install the CCM in the
tenant's cluster: namespace, rights, the key, the credentials of the Git server, and
a Deployment that trusts the hub's key.

The file holds the tenant's private key: hand it over as you hand over passwords. The
hub keeps the public half only. Nothing of the hub's credentials is in it.`,
		Example: `  kubelbctl tenant add acme --username ccm-acme --password-file token.txt
  kubelbctl tenant add acme --ssh-key deploy-key --known-hosts known_hosts --review
  kubelbctl tenant add acme --dry-run -f -`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&a.source, "source", "", "GitSource that the tenant belongs to, [NAMESPACE/]NAME; the one there is if empty")
	flags.StringVar(&a.intents, "intent-source", "", "GitSource of the tenant's own repository for its intents; the one that it belongs to if empty")
	flags.StringVar(&a.gitURL, "git-url", "", "URL of the repository as the tenant's cluster reaches it; that of the GitSource if empty")
	flags.StringVar(&a.username, "username", "", "the CCM's user on the Git server")
	flags.StringVar(&a.passwordFile, "password-file", "", "file with that user's password or token")
	flags.StringVar(&a.sshKey, "ssh-key", "", "file with the private key of the CCM's deploy key, for ssh URLs")
	flags.StringVar(&a.knownHosts, "known-hosts", "", "file with the Git server's keys, for ssh URLs: ssh-keyscan")
	flags.StringVar(&a.image, "image", "kubelb-ccm:latest", "container image of the CCM")
	flags.StringVar(&a.addressType, "node-address-type", "ExternalIP", "address of nodes that the hub reaches: ExternalIP, InternalIP or Hostname")
	flags.BoolVar(&a.review, "review", false, "the tenant's changes wait for a pull request")
	flags.BoolVar(&a.dryRun, "dry-run", false, "make nothing in the hub, and print its Tenant too")
	flags.StringVarP(&a.out, "output-file", "f", "", "where the CCM's manifests go; <TENANT>-ccm.yaml if empty, - is standard output")
	o.Config.AddFlags(flags)
	return cmd
}

type tenantAdder struct {
	options                                    *Options
	source, intents, gitURL                    string
	username, passwordFile, sshKey, knownHosts string
	image, addressType, out                    string
	review, dryRun                             bool
}

func (a *tenantAdder) run(ctx context.Context, name string) error {
	if !repo.ValidTenant(name) {
		return usage(fmt.Sprintf("A tenant's name is a DNS label of at most %d characters.", repo.MaxTenantLength), "%q is not a tenant's name", name)
	}
	credentials, err := a.credentials()
	if err != nil {
		return err
	}
	h, err := a.options.hub()
	if err != nil {
		return err
	}
	tenant := &v1alpha1.Tenant{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindTenant},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}
	url, err := a.place(ctx, h, tenant)
	if err != nil {
		return err
	}
	keys, err := h.secretOf(ctx, v1alpha1.SecretHubKeys)
	if err != nil {
		return err
	}
	if err := a.fit(cmp.Or(a.gitURL, url)); err != nil {
		return err
	}
	private, public, err := newSSHKey()
	if err != nil {
		return err
	}
	tenant.Spec.Git.AllowedSigners = []string{public}
	if a.review {
		tenant.Spec.Git.Review = v1alpha1.ReviewRequired
	}
	manifests, err := a.manifests(name, cmp.Or(a.gitURL, url), keys, private, public, credentials)
	if err != nil {
		return err
	}
	return a.deliver(ctx, h, tenant, manifests)
}

// place says in a Tenant which GitSources it uses. It returns the URL of the
// repository that its CCM pushes to.
func (a *tenantAdder) place(ctx context.Context, h *hub, tenant *v1alpha1.Tenant) (url string, err error) {
	var sources v1alpha1.GitSourceList
	if err := h.List(ctx, &sources); err != nil {
		return "", h.explain(err, "GitSources")
	}
	var tenants v1alpha1.TenantList
	if err := h.List(ctx, &tenants); err != nil {
		return "", h.explain(err, "Tenants")
	}
	if a.intents != "" {
		intents := sourceNamed(sources.Items, h.namespace, a.intents)
		if intents == nil {
			return "", refuse("Make it first: docs/operating.md#a-fleet.", "the hub has no GitSource %s", a.intents)
		}
		tenant.Spec.Git.IntentSourceRef, url = reference(intents), intents.Spec.URL
	}
	mains := v1alpha1.MainSources(append(tenants.Items, *tenant), sources.Items, h.namespace)
	name := a.source
	switch {
	case name != "":
	case len(mains) == 0:
		return "", refuse("Make one first: docs/operating.md.", "the hub has no GitSource for the tenant")
	case len(mains) > 1:
		var names []string
		for _, key := range mains {
			names = append(names, key.Name)
		}
		return "", usage("Name one with --source: "+strings.Join(names, ", ")+".", "the hub has %s", plural(len(names), "GitSource"))
	default:
		name = mains[0].Name
	}
	source := sourceNamed(sources.Items, h.namespace, name)
	if source == nil {
		return "", refuse("See kubectl get gitsources -A.", "the hub has no GitSource %s", name)
	}
	if len(mains) != 1 || mains[0] != client.ObjectKeyFromObject(source) {
		tenant.Spec.Git.SourceRef = reference(source)
	}
	return cmp.Or(url, source.Spec.URL), nil
}

// sourceNamed finds a GitSource by [NAMESPACE/]NAME; the namespace is the hub's if
// it is left out.
func sourceNamed(sources []v1alpha1.GitSource, hub, name string) *v1alpha1.GitSource {
	if !strings.Contains(name, "/") {
		name = hub + "/" + name
	}
	i := slices.IndexFunc(sources, func(s v1alpha1.GitSource) bool { return s.Namespace+"/"+s.Name == name })
	if i < 0 {
		return nil
	}
	return &sources[i]
}

func reference(source *v1alpha1.GitSource) *v1alpha1.LocalReference {
	return &v1alpha1.LocalReference{Name: source.Name, Namespace: source.Namespace}
}

// halves are the flags of credentials that are of no use alone.
func (a *tenantAdder) halves() error {
	const http, ssh = "Over HTTP a CCM needs both --username and --password-file.", "Over ssh a CCM needs both --ssh-key and --known-hosts."
	for _, half := range []struct{ given, flag, lacks, missing, remedy string }{
		{a.username, "--username", a.passwordFile, "--password-file", http},
		{a.passwordFile, "--password-file", a.username, "--username", http},
		{a.sshKey, "--ssh-key", a.knownHosts, "--known-hosts", ssh + " ssh-keyscan prints the latter: compare it with what the server's operator publishes."},
		{a.knownHosts, "--known-hosts", a.sshKey, "--ssh-key", ssh},
	} {
		if half.given != "" && half.lacks == "" {
			return usage(half.remedy, "%s is given without %s", half.flag, half.missing)
		}
	}
	if a.username != "" && a.sshKey != "" {
		return usage("Give those of the URL.", "these are credentials for HTTP and for ssh")
	}
	return nil
}

// fit refuses credentials of another protocol than the URL's.
func (a *tenantAdder) fit(url string) error {
	ssh := !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://")
	switch {
	case ssh && a.username != "":
		return usage("Give --ssh-key and --known-hosts, or the URL of the same repository over HTTP: --git-url.", "%s is reached over ssh, and the credentials are for HTTP", url)
	case !ssh && a.sshKey != "":
		return usage("Give --username and --password-file, or the URL of the same repository over ssh: --git-url.", "%s is reached over HTTP, and the credentials are for ssh", url)
	}
	return nil
}

// credentials of the CCM, in Flux's format.
func (a *tenantAdder) credentials() (map[string][]byte, error) {
	if err := a.halves(); err != nil {
		return nil, err
	}
	data := map[string][]byte{}
	if a.username != "" {
		data["username"] = []byte(a.username)
	}
	for key, file := range map[string]string{"password": a.passwordFile, "identity": a.sshKey, "known_hosts": a.knownHosts} {
		if file == "" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if key == "password" {
			content = bytes.TrimSpace(content)
		}
		if len(bytes.TrimSpace(content)) == 0 {
			return nil, usage("", "%s is empty", file)
		}
		data[key] = content
	}
	return data, nil
}

// manifests are those of the tenant's cluster.
func (a *tenantAdder) manifests(tenant, gitURL string, keys *corev1.Secret, private []byte, public string, credentials map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	write := func(object any) error {
		text, err := yaml.Marshal(object)
		if err == nil {
			say(&out, "---\n%s", text)
		}
		return err
	}
	secret := func(name string, data map[string][]byte) *corev1.Secret {
		return &corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Namespace: ccmNamespace, Name: name}, Data: data,
		}
	}
	namespace := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: ccmNamespace}}
	if err := write(namespace); err != nil {
		return nil, err
	}
	err := fs.WalkDir(gitops.CCMRights, gitops.CCMRightsDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(gitops.CCMRights, path)
		if !bytes.HasPrefix(text, []byte("---\n")) {
			out.WriteString("---\n")
		}
		out.Write(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	objects := []any{secret("kubelb-ccm-key", map[string][]byte{
		v1alpha1.HubKeyIdentity: private, v1alpha1.HubKeyIdentityPublic: []byte(public + "\n"),
	})}
	if len(credentials) > 0 {
		objects = append(objects, secret("kubelb-git", credentials))
	}
	objects = append(objects, a.deployment(tenant, gitURL, strings.TrimSpace(string(keys.Data[v1alpha1.HubKeyIdentityPublic]))))
	for _, object := range objects {
		if err := write(object); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// ccmNamespace is where the CCM and what it keeps are, in the tenant's cluster.
const ccmNamespace = "kubelb"

func (a *tenantAdder) deployment(tenant, gitURL, hubKey string) *appsv1.Deployment {
	labels := map[string]string{"app.kubernetes.io/name": "kubelb-ccm"}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ccmNamespace, Name: "kubelb-ccm", Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					ServiceAccountName: "kubelb-ccm",
					Containers: []corev1.Container{{
						Name: "ccm", Image: a.image,
						Args: []string{
							"--cluster-name", tenant, "--git-url", gitURL, "--hub-key", hubKey,
							"--node-address-type", a.addressType, "--health-probe-bind-address", ":8081",
						},
						ReadinessProbe: probe("/readyz"), LivenessProbe: probe("/healthz"),
						SecurityContext: &corev1.SecurityContext{
							RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
							Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
						},
					}},
				},
			},
		},
	}
}

func probe(path string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8081)}}}
}

// deliver makes the Tenant and writes the manifests. The file comes first: a
// Tenant whose key is lost would have to be made again.
func (a *tenantAdder) deliver(ctx context.Context, h *hub, tenant *v1alpha1.Tenant, manifests []byte) error {
	o := a.options
	if a.dryRun {
		text, err := yaml.Marshal(tenant)
		if err != nil {
			return err
		}
		say(o.Out, "# in the hub\n%s# in the tenant's cluster\n", text)
	} else if err := h.Get(ctx, client.ObjectKeyFromObject(tenant), &v1alpha1.Tenant{}); !apierrors.IsNotFound(err) {
		if err == nil {
			return refuse("Name another one, or see kubelbctl status "+tenant.Name+".", "the hub has a Tenant %s", tenant.Name)
		}
		return h.explain(err, "Tenant "+tenant.Name)
	}
	file := cmp.Or(a.out, tenant.Name+"-ccm.yaml")
	if file == "-" || a.dryRun && a.out == "" {
		if _, err := o.Out.Write(manifests); err != nil {
			return err
		}
	} else if err := writePrivate(file, manifests); err != nil {
		return err
	}
	if a.dryRun {
		return nil
	}
	if err := h.Create(ctx, tenant, client.FieldOwner("kubelbctl")); err != nil {
		if file != "-" {
			_ = os.Remove(file) // its key is nobody's
		}
		return h.explain(err, "Tenant "+tenant.Name)
	}
	a.next(o.ErrOut, tenant.Name, file)
	return nil
}

// next says what is left to do.
func (a *tenantAdder) next(out io.Writer, tenant, file string) {
	say(out, "tenant/%s created\n\nNext:\n", tenant)
	say(out, "1. On the Git server, let the CCM's user or deploy key push to the branch intent/%s and to no other.\n", tenant)
	if a.username == "" && a.passwordFile == "" && a.sshKey == "" {
		say(out, "   Its credentials are not in the file: add a Secret kubelb-git in namespace %s (docs/operating.md).\n", ccmNamespace)
	}
	if file == "-" {
		file = "the manifests"
	}
	say(out, "2. In the tenant's cluster: kubectl apply -f %s\n", file)
	say(out, "3. See that it arrives: kubelbctl status %s --watch\n", tenant)
}
