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
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/seal"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/cmd/kubelbctl/clone"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func newSeal(o *Options) *cobra.Command {
	s := sealer{options: o}
	cmd := &cobra.Command{
		Use:     "seal -f SECRET --tenant TENANT",
		GroupID: groupClone,
		Short:   "Seal a Secret so that only the hub can open it",
		Long: `Seals a Secret into a SyncSecret, which only the hub can open, and prints it or
writes it to its path in the clone. The Secret's own namespace and name are sealed
with it: a copy at another path is refused by the hub.

Recipients are the hub's sealing keys. They are named with --recipient, or taken
from status/TENANT as this clone knows it, once it is clear that the hub signed
them: --hub-key is the key that CCMs are installed with.

The sealed text is an armored age file; the age command line opens it as well.`,
		Example: `  kubelbctl seal -f cert.yaml --tenant acme --recipient age1...
  kubelbctl seal -f cert.yaml --tenant acme --recipients-from-status --hub-key hub.pub --write
  kubectl create secret tls cert --cert=a.crt --key=a.key -n shop --dry-run=client -o yaml | kubelbctl seal -f - --tenant acme --recipient age1...`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	cmd.Flags().StringVarP(&s.file, "filename", "f", "", "file with the Secret, - for standard input")
	cmd.Flags().StringVar(&s.tenant, "tenant", "", "tenant that the Secret is of")
	cmd.Flags().StringArrayVar(&s.recipients, "recipient", nil, "recipient (age1...) to seal to; can be repeated")
	cmd.Flags().BoolVar(&s.fromStatus, "recipients-from-status", false, "seal to the recipients on status/TENANT of the clone")
	cmd.Flags().StringVar(&s.hubKey, "hub-key", "", "public key of the hub, or a file with it, that the status must be signed with")
	cmd.Flags().BoolVar(&s.write, "write", false, "write to its path in the clone instead of printing it")
	_ = cmd.MarkFlagRequired("filename") // fails only for unknown flags
	_ = cmd.MarkFlagRequired("tenant")   // fails only for unknown flags
	_ = cmd.RegisterFlagCompletionFunc("tenant", o.completeTenantFlag)
	o.addFetch(cmd)
	return cmd
}

type sealer struct {
	options              *Options
	file, tenant, hubKey string
	recipients           []string
	fromStatus, write    bool
}

func (s *sealer) run(ctx context.Context) error {
	if !repo.ValidTenant(s.tenant) {
		return usage("", "%q is not a tenant's name", s.tenant)
	}
	secret, err := s.readSecret()
	if err != nil {
		return err
	}
	var c *clone.Clone
	if s.fromStatus || s.write {
		if c, err = s.options.open(ctx); err != nil {
			return err
		}
	}
	if s.fromStatus {
		more, err := s.published(ctx, c)
		if err != nil {
			return err
		}
		s.recipients = append(s.recipients, more...)
	}
	path, data, err := s.document(secret)
	if err != nil {
		return err
	}
	if !s.write {
		_, err = s.options.Out.Write(data)
		return err
	}
	if err := writeFile(filepath.Join(c.Dir, filepath.FromSlash(path)), data); err != nil {
		return err
	}
	s.options.say("wrote %s; commit and push it\n", path)
	return nil
}

// readSecret reads the Secret. No error quotes it.
func (s *sealer) readSecret() (*corev1.Secret, error) {
	data, err := s.options.read(s.file)
	if err != nil {
		return nil, err
	}
	const remedy = "Write one Secret as kubectl does: kubectl get secret NAME -o yaml."
	var secret corev1.Secret
	if err := yaml.UnmarshalStrict(data, &secret); err != nil {
		return nil, refuse(remedy, "%s is not a Secret in YAML or JSON", s.file)
	}
	switch {
	case secret.Kind != "Secret" || secret.APIVersion != "v1":
		return nil, refuse(remedy, "%s is not a Secret", s.file)
	case secret.Name == "" || secret.Namespace == "":
		return nil, refuse("Write metadata.name and metadata.namespace, as in the tenant's cluster: they are sealed with it.", "the Secret has no name or no namespace")
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	for key, value := range secret.StringData {
		secret.Data[key] = []byte(value)
	}
	return &secret, nil
}

// read reads a file, or standard input.
func (o *Options) read(name string) ([]byte, error) {
	const limit = 4 << 20
	if name == "-" {
		return io.ReadAll(io.LimitReader(o.In, limit))
	}
	return os.ReadFile(name)
}

// document seals the Secret and returns the file that holds it.
func (s *sealer) document(secret *corev1.Secret) (path string, data []byte, err error) {
	if len(s.recipients) == 0 {
		return "", nil, usage("Name one with --recipient, or take the hub's with --recipients-from-status.", "there is nobody to seal to")
	}
	sealed, err := seal.Seal(s.recipients, seal.Envelope{Tenant: s.tenant, Namespace: secret.Namespace, Name: secret.Name, Type: secret.Type, Data: secret.Data})
	if err != nil {
		return "", nil, refuse("Recipients begin with age1; at most 174 KiB can be sealed.", "%v", err)
	}
	p := repo.Path{Tenant: s.tenant, Kind: v1alpha1.KindSyncSecret, Namespace: secret.Namespace, Name: repo.FileName(secret.Name), SourceKind: "secret"}
	out := &v1alpha1.SyncSecret{ObjectMeta: metav1.ObjectMeta{Name: p.ObjectName(), Namespace: v1alpha1.TenantNamespace(s.tenant)}, Type: secret.Type, Sealed: sealed}
	if p.Name != secret.Name {
		out.Annotations = map[string]string{v1alpha1.AnnotationOrigin: secret.Namespace + "/" + secret.Name}
	}
	if out.Type == "" {
		out.Type = corev1.SecretTypeOpaque
	}
	if secret.Immutable != nil && *secret.Immutable {
		out.Immutable = secret.Immutable
	}
	if data, err = repo.Encode(out); err != nil {
		return "", nil, err
	}
	if _, problems := repo.Decode(p.String(), repo.NewFile(data)); len(problems) > 0 {
		return "", nil, refuse("What to do: "+problems[0].Remedy+".", "the hub would refuse it: %s", problems[0].Message)
	}
	return p.String(), data, nil
}

// published returns the recipients on the status branch of the tenant, if the
// hub signed its tip.
func (s *sealer) published(ctx context.Context, c *clone.Clone) ([]string, error) {
	if s.hubKey == "" {
		return nil, usage("Name it with --hub-key: it is what CCMs are installed with. Anybody who can write the branch could put a recipient of their own there.",
			"without the hub's key nobody can tell whose recipients are on status/%s", s.tenant)
	}
	tip := c.Ref(ctx, "status/"+s.tenant)
	if tip == "" {
		return nil, usage(fmt.Sprintf("Fetch all branches: git fetch %s.", c.Remote), "this clone has no branch status/%s", s.tenant)
	}
	key := s.hubKey
	if data, err := os.ReadFile(key); err == nil {
		key = strings.TrimSpace(string(data))
	}
	signed, err := c.SignedBy(ctx, tip, key)
	if err != nil {
		return nil, err
	}
	if !signed {
		return nil, refuse("Fetch again. If it stays so, the Git server or the key is not the right one: do not seal.", "the tip of status/%s is not signed with the hub's key", s.tenant)
	}
	path := repo.Path{Tenant: s.tenant, Kind: v1alpha1.KindTenantState}.String()
	file, _, err := c.File(ctx, tip, path)
	if err != nil {
		return nil, err
	}
	object, _ := repo.DecodeStatus(path, file)
	state, ok := object.(*v1alpha1.TenantState)
	branch, trailerErr := c.Git(ctx, "show", "--no-patch", "--format=%(trailers:key="+repo.TrailerBranch+",valueonly)", tip)
	switch {
	case trailerErr != nil || strings.TrimSpace(branch) != "status/"+s.tenant:
		return nil, refuse("Fetch again. If it stays so, the Git server is not honest: do not seal.", "the tip of status/%s is a commit of another branch", s.tenant)
	case !ok || len(state.Status.Recipients) == 0:
		return nil, refuse("Wait until the hub has published its recipients.", "status/%s has no recipients", s.tenant)
	}
	return state.Status.Recipients, nil
}

func newUnseal(o *Options) *cobra.Command {
	var file string
	var identities []string
	cmd := &cobra.Command{
		Use:     "unseal -f FILE --identity FILE",
		GroupID: groupClone,
		Short:   "Open a sealed Secret",
		Long: `Opens a SyncSecret, or an armored age file, with an identity of the hub, and prints
the Secret. It refuses a SyncSecret that was sealed for another address.`,
		Example: `  kubelbctl unseal -f tenants/acme/syncsecrets/shop/cert.secret.yaml --identity key.txt`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return o.unseal(file, identities) },
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "SyncSecret or age file, - for standard input")
	cmd.Flags().StringArrayVarP(&identities, "identity", "i", nil, "file with age identities, as age-keygen writes it; can be repeated")
	_ = cmd.MarkFlagRequired("filename") // fails only for unknown flags
	_ = cmd.MarkFlagRequired("identity")
	return cmd
}

func (o *Options) unseal(file string, identities []string) error {
	data, err := o.read(file)
	if err != nil {
		return err
	}
	sealed := string(data)
	var document v1alpha1.SyncSecret
	isDocument := yaml.Unmarshal(data, &document) == nil && document.Kind == v1alpha1.KindSyncSecret
	if isDocument {
		sealed = document.Sealed
	}
	var keys []string
	for _, name := range identities {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		keys = append(keys, string(text))
	}
	e, err := seal.Open(keys, sealed)
	switch {
	case errors.Is(err, seal.ErrIdentity):
		return refuse("Name files as age-keygen writes them.", "%v", err)
	case err != nil:
		return refuse("Identities of the hub are in its Secret kubelb-sealing-keys.", "%s cannot be opened: %v", file, err)
	}
	if isDocument {
		namespace, name, _ := repo.Origin(&document)
		tenant := strings.TrimPrefix(document.Namespace, v1alpha1.TenantNamespacePrefix)
		if err := e.Check(tenant, namespace, name); err != nil {
			return refuse("Somebody copied it here: the hub refuses it too.", "%s: %v", file, err)
		}
	}
	return encode(o.Out, outputYAML, &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
		Type:       e.Type, Data: e.Data,
	})
}
