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

package v1alpha1

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const maxTenantName = 56

func (v *validator) tenant(t *Tenant) {
	spec := &t.Spec
	if len(t.Name) > maxTenantName || !label.MatchString(t.Name) {
		v.invalid("metadata.name", fmt.Sprintf("%q is not the name of a tenant", t.Name), "use at most 56 lower case letters, digits and -")
	}
	v.annotationSettings(&spec.AnnotationSettings)
	if r := spec.EnvoyProxy.Replicas; r != nil && *r < 0 {
		v.invalid("spec.envoyProxy.replicas", "it is negative", "use 0 or more")
	}
	v.settings(spec.GatewayAPI, spec.DNS)
	v.localReference("spec.git.sourceRef", spec.Git.SourceRef)
	v.localReference("spec.git.intentSourceRef", spec.Git.IntentSourceRef)
	oneOf(v, "spec.git.review", spec.Git.Review, "", ReviewOff, ReviewRequired)
	v.count("spec.git.allowedSigners", len(spec.Git.AllowedSigners), 0, maxListLength)
	for i, line := range spec.Git.AllowedSigners {
		v.sshKey(index("spec.git.allowedSigners", i), line)
	}
	if spec.Limits.LoadBalancers < 0 {
		v.invalid("spec.limits.loadBalancers", "it is negative", "use 0 for no limit")
	}
	if spec.Limits.Routes < 0 {
		v.invalid("spec.limits.routes", "it is negative", "use 0 for no limit")
	}
	if spec.MaxEndpointsPerPort < 0 {
		v.invalid("spec.maxEndpointsPerPort", "it is negative", "use 1 or more")
	}
	v.grants(spec)
}

// grants checks what the tenant is allowed.
func (v *validator) grants(spec *TenantSpec) {
	v.count("spec.allowedDomains", len(spec.AllowedDomains), 0, maxNetworks)
	v.unique("spec.allowedDomains", spec.AllowedDomains)
	for i, domain := range spec.AllowedDomains {
		v.domain(index("spec.allowedDomains", i), domain)
	}
	v.count("spec.allowedEndpointDomains", len(spec.AllowedEndpointDomains), 0, maxNetworks)
	v.unique("spec.allowedEndpointDomains", spec.AllowedEndpointDomains)
	for i, domain := range spec.AllowedEndpointDomains {
		v.domain(index("spec.allowedEndpointDomains", i), domain)
	}
	v.count("spec.allowedEndpointCIDRs", len(spec.AllowedEndpointCIDRs), 0, maxNetworks)
	v.unique("spec.allowedEndpointCIDRs", spec.AllowedEndpointCIDRs)
	for i, text := range spec.AllowedEndpointCIDRs {
		v.cidr(index("spec.allowedEndpointCIDRs", i), text)
	}
	v.count("spec.addressPools", len(spec.AddressPools), 0, maxListLength)
	v.unique("spec.addressPools", spec.AddressPools)
	for i, name := range spec.AddressPools {
		if name == "" {
			v.invalid(index("spec.addressPools", i), "it is empty", "name a pool of Config spec.addressPools")
		}
	}
}

// settings checks what Tenant and Config have in common.
func (v *validator) settings(gateway GatewayAPISettings, dns DNSSettings) {
	v.localReference("spec.gatewayAPI.defaultGateway", gateway.DefaultGateway)
	if dns.WildcardDomain != nil && *dns.WildcardDomain != "" {
		v.domain("spec.dns.wildcardDomain", *dns.WildcardDomain)
	}
}

var annotatedResources = []AnnotatedResource{"all", "service", "ingress", "gateway", "httproute", "grpcroute", "tcproute", "udproute", "tlsroute"}

func (v *validator) annotationSettings(s *AnnotationSettings) {
	glob := func(field, pattern string) {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			v.invalid(field, fmt.Sprintf("%q is not a pattern of annotation keys", pattern), "write a key, or one with * in it")
		}
	}
	if s.PropagatedAnnotations != nil {
		for _, key := range sortedKeys(*s.PropagatedAnnotations) {
			glob(at("spec.propagatedAnnotations", key), key)
		}
	}
	for i, key := range s.DeniedAnnotations {
		glob(index("spec.deniedAnnotations", i), key)
	}
	for _, kind := range sortedKeys(s.DefaultAnnotations) {
		field := at("spec.defaultAnnotations", string(kind))
		oneOf(v, field, kind, annotatedResources...)
		for _, key := range sortedKeys(s.DefaultAnnotations[kind]) {
			v.qualifiedKey(field, key)
		}
	}
}

func (v *validator) localReference(field string, r *LocalReference) {
	if r != nil && r.Name == "" {
		v.invalid(field+".name", "it is empty", "name an object")
	}
}

func (v *validator) config(spec *ConfigSpec) {
	v.annotationSettings(&spec.AnnotationSettings)
	v.settings(spec.GatewayAPI, spec.DNS)
	if spec.EnvoyProxy.Replicas < 0 {
		v.invalid("spec.envoyProxy.replicas", "it is negative", "use 0 or more")
	}
	oneOf(v, "spec.envoyProxy.topology", spec.EnvoyProxy.Topology, "", TopologyShared, TopologyGlobal)
	oneOf(v, "spec.addressProvider", spec.AddressProvider, "", ProviderService, ProviderPool)
	oneOf(v, "spec.infrastructure", spec.Infrastructure, "", InfrastructureKubernetes, InfrastructureHost)
	v.pair(spec)
	v.pools(spec.AddressPools)
	v.duration("spec.addressGracePeriod", spec.AddressGracePeriod, "use 0s to release addresses at once")
	if g := spec.EnvoyProxy.GracefulShutdown; g != nil {
		v.duration("spec.envoyProxy.gracefulShutdown.drainTimeout", g.DrainTimeout, "leave it out for the default")
		v.duration("spec.envoyProxy.gracefulShutdown.minDrainDuration", g.MinDrainDuration, "leave it out for the default")
	}
	v.count("spec.hubNetworks", len(spec.HubNetworks), 0, maxNetworks)
	v.unique("spec.hubNetworks", spec.HubNetworks)
	for i, text := range spec.HubNetworks {
		v.cidr(index("spec.hubNetworks", i), text)
	}
	v.duration("spec.sealing.rotateAfter", spec.Sealing.RotateAfter, "use 0s to turn rotation off")
	if d := spec.Sealing.RotateAfter; d != nil && d.Duration > 0 && d.Duration < minRotateAfter {
		v.invalid("spec.sealing.rotateAfter", fmt.Sprintf("%s is short: every rotation seals all secrets of all tenants anew", d.Duration), "use 1h or more, or 0s to turn rotation off")
	}
}

// minRotateAfter is the least age of sealing keys.
const minRotateAfter = time.Hour

// pair checks that addresses and proxies of these kinds go together.
func (v *validator) pair(spec *ConfigSpec) {
	provider := cmp.Or(spec.AddressProvider, ProviderPool)
	switch infrastructure := cmp.Or(spec.Infrastructure, InfrastructureHost); {
	case provider == ProviderService && infrastructure == InfrastructureHost:
		v.invalid("spec.addressProvider", "address provider Service needs infrastructure Kubernetes",
			"set addressProvider to Pool, or infrastructure to Kubernetes")
	case provider == ProviderPool && infrastructure == InfrastructureKubernetes && !spec.EnvoyProxy.UseDaemonset:
		v.invalid("spec.envoyProxy.useDaemonset", "address provider Pool on infrastructure Kubernetes needs a proxy on every node that the pool is routed to",
			"set useDaemonset, or addressProvider to Service")
	}
}

func (v *validator) pools(pools []AddressPool) {
	v.count("spec.addressPools", len(pools), 0, maxPools)
	names := map[string]bool{}
	type entry struct {
		AddressRange
		field string
	}
	var all []entry
	for _, pool := range pools {
		field := at("spec.addressPools", pool.Name)
		v.name(field, pool.Name, names)
		v.count(field+".cidrs", len(pool.CIDRs), 1, maxNetworks)
		for i, text := range pool.CIDRs {
			e := entry{field: index(field+".cidrs", i)}
			var err error
			if e.AddressRange, err = ParseAddressRange(text); err != nil {
				v.invalid(e.field, err.Error(), "correct or remove the entry")
				continue
			}
			for _, other := range all {
				if e.Overlaps(other.AddressRange) {
					v.invalid(e.field, fmt.Sprintf("%s overlaps %s in %s", text, other.AddressRange, other.field), "leave each address to one entry")
					break
				}
			}
			all = append(all, e)
		}
	}
}

var branch = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9_./]*$`)

func (v *validator) gitSource(g *GitSource) {
	spec := &g.Spec
	v.gitURL(spec.URL)
	b := spec.Branch
	if b != "" && (len(b) > 200 || !branch.MatchString(b) || strings.Contains(b, "..") || strings.Contains(b, "//") ||
		strings.HasSuffix(b, "/") || strings.HasSuffix(b, ".") || strings.HasSuffix(b, ".lock")) {
		v.invalid("spec.branch", fmt.Sprintf("%q is not the name of a branch", b), "write a short name such as main")
	}
	for _, prefix := range []string{"intent", "status", "review", "base", "archive"} {
		if b == prefix || strings.HasPrefix(b, prefix+"/") {
			v.invalid("spec.branch", fmt.Sprintf("branches under %s/ have another purpose", prefix), "follow a branch such as main")
		}
	}
	v.duration("spec.interval", &spec.Interval, "use 0 for the default")
	v.duration("spec.minPushInterval", spec.MinPushInterval, "use 0 for none")
	v.duration("spec.timeout", spec.Timeout, "use 0 for the default")
	v.ownReference("spec.secretRef", spec.SecretRef, g.Namespace)
	v.ownReference("spec.proxySecretRef", spec.ProxySecretRef, g.Namespace)
	if spec.Webhook != nil {
		oneOf(v, "spec.webhook.type", spec.Webhook.Type, "", WebhookGeneric, WebhookGitHub, WebhookGitLab, WebhookGitea)
		v.ownReference("spec.webhook.secretRef", &spec.Webhook.SecretRef, g.Namespace)
	}
	oneOf(v, "spec.apply", spec.Apply, "", ApplyEnabled, ApplyDisabled)
	oneOf(v, "spec.verify", spec.Verify, "", VerifyOff, VerifyWarn, VerifyRequire)
	v.reviewers(spec.Reviewers)
	if spec.Forge != nil {
		oneOf(v, "spec.forge.kind", spec.Forge.Kind, ForgeGitHub, ForgeGitLab, ForgeGitea)
		v.forgeURL(spec.Forge.URL)
		v.ownReference("spec.forge.secretRef", &spec.Forge.SecretRef, g.Namespace)
	}
}

// reviewers checks that each key can be read: a reviewer whose signature never
// counts would be found out too late.
func (v *validator) reviewers(all []Reviewer) {
	names := map[string]bool{}
	for _, r := range all {
		field := at("spec.reviewers", r.Name)
		switch {
		case r.Name == "":
			v.invalid(field+".name", "it is empty", "name the reviewer")
		case names[r.Name]:
			v.invalid(field, "there are two reviewers of that name", "give each a name of its own")
		}
		names[r.Name] = true
		v.publicKey(field+".publicKey", r.PublicKey)
	}
}

func (v *validator) gitURL(text string) {
	const field = "spec.url"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || len(text) > 2048:
		v.invalid(field, "it is not a URL", "write one such as https://git.example.com/fleet.git") // never repeat it: it may hold a password
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ssh":
		v.invalid(field, fmt.Sprintf("the scheme %s is not supported", u.Scheme), "use https or ssh")
	case u.User != nil && !onlyUser(u):
		v.invalid(field, "it holds credentials", "put them into a Secret and name it in spec.secretRef; treat these as disclosed")
	case u.RawQuery != "" || u.Fragment != "":
		v.invalid(field, "it has a query or a fragment", "remove what follows the path")
	}
}

func (v *validator) forgeURL(text string) {
	const field = "spec.forge.url"
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || len(text) > 2048 || u.Scheme != "http" && u.Scheme != "https":
		v.invalid(field, "it is not a URL", "write one such as https://git.example.com") // never repeat it: it may hold a password
	case u.User != nil:
		v.invalid(field, "it holds credentials", "put a token into a Secret and name it in spec.forge.secretRef; treat these as disclosed")
	case u.RawQuery != "" || u.Fragment != "":
		v.invalid(field, "it has a query or a fragment", "remove what follows the path")
	}
}

// onlyUser reports whether a URL names a user, as ssh URLs do, and no secret.
func onlyUser(u *url.URL) bool {
	_, password := u.User.Password()
	return u.Scheme == "ssh" && !password
}

func (v *validator) duration(field string, d *metav1.Duration, remedy string) {
	if d != nil && d.Duration < 0 {
		v.invalid(field, "it is negative", remedy)
	}
}

// ownReference checks a reference to a Secret, which must be beside the object:
// else who may write the object could make the hub use Secrets that he may not
// read.
func (v *validator) ownReference(field string, r *LocalReference, namespace string) {
	v.localReference(field, r)
	if r != nil && r.Namespace != "" && r.Namespace != namespace {
		v.invalid(field+".namespace", fmt.Sprintf("%q is another namespace", r.Namespace), "remove the field and put the Secret beside the GitSource")
	}
}

// publicKey checks an SSH public key or an armored OpenPGP one.
func (v *validator) publicKey(field, text string) {
	text = strings.TrimSpace(text)
	const begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
	switch {
	case !strings.HasPrefix(text, "-----BEGIN"):
		v.sshKey(field, text)
	case !strings.HasPrefix(text, begin):
		v.invalid(field, "it is neither an SSH nor an OpenPGP public key", "write one authorized_keys line, or what `gpg --export --armor` prints")
	case !strings.HasSuffix(text, end) || strings.Count(text, "-----BEGIN") > 1:
		v.invalid(field, "it is not one whole OpenPGP block: what follows the first would be ignored", "give each key an entry of its own")
	}
}

// sshKey checks one line as in authorized_keys. Options before the type restrict
// what a key is good for, and the hub does not keep to them, so it refuses them.
func (v *validator) sshKey(field, line string) {
	line = strings.TrimSpace(line)
	fields := strings.Fields(line)
	switch {
	case strings.ContainsAny(line, "\r\n"):
		v.invalid(field, "it has several lines, of which all but the first would be ignored", "give each key an entry of its own")
	case len(fields) >= 2 && isKey(fields[0], fields[1]) && !slices.Contains(keyTypes, fields[0]):
		v.invalid(field, fmt.Sprintf("signatures of keys of type %.60q never count", fields[0]), "use a key of type ssh-ed25519")
	case len(fields) >= 2 && isKey(fields[0], fields[1]):
	case slices.ContainsFunc(fields, isKeyType):
		v.invalid(field, fmt.Sprintf("%.60q stands before the type of the key: options such as namespaces=, valid-before= or cert-authority are not supported", fields[0]),
			"write the type, the key and, if you like, a comment: ssh-ed25519 AAAA... ada")
	default:
		v.invalid(field, "it is not an SSH public key", "write one line as in authorized_keys: ssh-ed25519 AAAA...")
	}
}

// keyTypes are those whose signatures count: gitsync/git checks them.
var keyTypes = []string{
	"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
}

func isKeyType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-sha2-") || strings.HasPrefix(word, "sk-")
}

// isKey reports whether a word is a public key of a type, in base64.
func isKey(kind, word string) bool {
	blob, err := base64.StdEncoding.DecodeString(word)
	if err != nil || len(blob) < 4 {
		return false
	}
	n := binary.BigEndian.Uint32(blob)
	return uint64(len(blob)) > 4+uint64(n) && string(blob[4:4+n]) == kind
}
