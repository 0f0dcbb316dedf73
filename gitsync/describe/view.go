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

package describe

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
)

// entry is one thing that a document means for traffic.
type entry struct {
	what   What
	name   string
	values []string
}

// view lists what a document means, nothing for nil. Ports are called as the
// labels say.
func view(object repo.Object, f *facts, labels []string) []entry {
	switch o := object.(type) {
	case *v1alpha1.LoadBalancer:
		return loadBalancerView(o, f, labels)
	case *v1alpha1.Route:
		return routeView(o)
	case *v1alpha1.SyncSecret:
		return []entry{{RowSecret, "content", []string{o.Sealed}}}
	case *v1alpha1.Addresses:
		var nodes []string
		for _, a := range o.Spec.Addresses {
			nodes = append(nodes, cmp.Or(a.IP, a.Hostname))
		}
		slices.Sort(nodes)
		return []entry{{RowNodes, "", nodes}}
	case *v1alpha1.Backend:
		var out []entry
		for n, p := range o.Spec.Ports {
			value := fmt.Sprintf("%d/%s at %d", p.Port, cmp.Or(p.Protocol, corev1.ProtocolTCP), p.NodePort)
			out = append(out, entry{RowNodePort, labels[n], []string{value}})
		}
		return out
	}
	return nil
}

func loadBalancerView(lb *v1alpha1.LoadBalancer, f *facts, labels []string) (out []entry) {
	for n, p := range lb.Spec.Ports {
		out = append(out, entry{RowListener, labels[n], []string{listener(p)}}, entry{RowEndpoints, labels[n], f.endpoints(lb.Spec, n)})
	}
	return out
}

func listener(p v1alpha1.LoadBalancerPort) string {
	return fmt.Sprintf("%d/%s", p.Port, cmp.Or(p.Protocol, corev1.ProtocolTCP))
}

// resource is what the routes of all kinds have of hosts, paths and backends.
type resource struct {
	Spec struct {
		Hostnames []string `json:"hostnames"`
		Rules     []struct {
			// of an Ingress
			Host string `json:"host"`
			HTTP struct {
				Paths []struct {
					Path    string `json:"path"`
					Backend struct {
						Service struct {
							Name string `json:"name"`
							Port struct {
								Name   string `json:"name"`
								Number int32  `json:"number"`
							} `json:"port"`
						} `json:"service"`
					} `json:"backend"`
				} `json:"paths"`
			} `json:"http"`
			// of the Gateway API
			Matches []struct {
				Method any `json:"method"`
				Path   struct {
					Value string `json:"value"`
				} `json:"path"`
			} `json:"matches"`
			BackendRefs []struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
				Port      int32  `json:"port"`
				Weight    *int32 `json:"weight"`
			} `json:"backendRefs"`
		} `json:"rules"`
		TLS       json.RawMessage `json:"tls"`
		Listeners []struct {
			Name     string `json:"name"`
			Hostname string `json:"hostname"`
			Port     int32  `json:"port"`
			Protocol string `json:"protocol"`
		} `json:"listeners"`
	} `json:"spec"`
}

// routeView shows of a route what can be shown; a route is not checked here, so
// what is not as expected is left to the rows of its fields.
func routeView(route *v1alpha1.Route) (out []entry) {
	var r resource
	if k := route.Spec.Source.Kubernetes; k == nil || json.Unmarshal(k.Route.Raw, &r) != nil {
		return nil
	}
	hosts := slices.Clone(r.Spec.Hostnames)
	var tls []struct {
		Hosts []string `json:"hosts"`
	}
	if json.Unmarshal(r.Spec.TLS, &tls) == nil {
		for _, t := range tls {
			hosts = append(hosts, t.Hosts...)
		}
	}
	for _, l := range r.Spec.Listeners {
		value := fmt.Sprintf("%d/%s", l.Port, l.Protocol)
		if l.Hostname != "" {
			value += " " + l.Hostname
		}
		out = append(out, entry{RowListener, l.Name, []string{value}})
	}
	var rules []entry
	for n, rule := range r.Spec.Rules {
		if rule.Host != "" {
			hosts = append(hosts, rule.Host)
		}
		for _, p := range rule.HTTP.Paths {
			s := p.Backend.Service
			port := s.Port.Name
			if s.Port.Number != 0 {
				port = fmt.Sprint(s.Port.Number)
			}
			rules = append(rules, entry{RowRule, rule.Host + cmp.Or(p.Path, "/"), []string{s.Name + ":" + port}})
		}
		var backends, matches []string
		for _, b := range rule.BackendRefs {
			text := strings.TrimPrefix(b.Namespace+"/"+b.Name, "/") + ":" + fmt.Sprint(b.Port)
			if b.Weight != nil {
				text += fmt.Sprintf(" weight %d", *b.Weight)
			}
			backends = append(backends, text)
		}
		for _, m := range rule.Matches {
			method, _ := m.Method.(string)
			matches = append(matches, strings.TrimSpace(method+" "+m.Path.Value))
		}
		if len(backends) > 0 {
			rules = append(rules, entry{RowRule, cmp.Or(strings.Join(matches, ", "), fmt.Sprintf("%d", n+1)), backends})
		}
	}
	slices.Sort(hosts)
	if hosts = slices.Compact(hosts); len(hosts) > 0 {
		out = append(out, entry{RowHost, "", hosts})
	}
	return append(out, rules...)
}

var order = []What{RowListener, RowHost, RowRule, RowEndpoints, RowSecret, RowNodes, RowNodePort, RowField}

// rows lists the entries that are not the same, by kind in the order of their
// documents.
func rows(before, after []entry) (out []Row) {
	was, now := merge(before), merge(after)
	var keys []entry
	seen := map[string]bool{}
	for _, e := range slices.Concat(before, after) {
		if !seen[e.key()] {
			seen[e.key()] = true
			keys = append(keys, e)
		}
	}
	slices.SortStableFunc(keys, func(a, b entry) int { return slices.Index(order, a.what) - slices.Index(order, b.what) })
	for _, e := range keys {
		key := e.key()
		if slices.Equal(was[key], now[key]) {
			continue
		}
		r := Row{What: e.what, Name: e.name, Before: was[key], After: now[key]}
		if e.what == RowSecret {
			r.Before, r.After = sealed(r.Before, "sealed"), sealed(r.After, "sealed")
			if len(r.Before) > 0 && len(r.After) > 0 {
				r.After = []string{"sealed again"}
			}
		}
		out = append(out, r)
	}
	return out
}

func (e entry) key() string { return string(e.what) + " " + e.name }

// merge joins the values of entries with the same name.
func merge(entries []entry) map[string][]string {
	out := map[string][]string{}
	for _, e := range entries {
		out[e.key()] = append(out[e.key()], e.values...)
	}
	return out
}

// sealed stands in for the content of a secret.
func sealed(content []string, word string) []string {
	if strings.Join(content, "") == "" {
		return nil
	}
	return []string{word}
}

// fieldRows lists the fields that no other row is about: of a new document those
// that are set, of one that goes those that were.
func fieldRows(before, after repo.Object) (out []Row) {
	if before != nil && after != nil {
		for _, c := range Changes(before, after) {
			switch {
			case c.renamed != "":
				out = append(out, Row{What: RowField, Name: "name of port " + c.renamed, Before: one(c.Before), After: one(c.After)})
			case !shown(c.Field):
				out = append(out, Row{What: RowField, Name: short(c.Field), Before: one(c.Before), After: one(c.After)})
			}
		}
		return out
	}
	if before == nil && after == nil {
		return nil
	}
	f := flatten(cmp.Or(after, before))
	d := differ{before: f}
	for _, field := range d.fields() {
		value := text(f.leaves[field])
		if shown(field) || assumed(field) || strings.HasPrefix(field, "spec.endpoints[") || value == implied(f.kind, field) {
			continue
		}
		r := Row{What: RowField, Name: short(field), After: one(value)}
		if after == nil {
			r.Before, r.After = r.After, nil
		}
		out = append(out, r)
	}
	return out
}

func one(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// shown reports whether the rows of a view tell everything of a field.
func shown(field string) bool {
	return strings.HasPrefix(field, "spec.ports[") || field == "sealed" || field == "spec.source.kubernetes.resource.spec.hostnames" ||
		strings.HasPrefix(field, "spec.addresses[") ||
		strings.HasPrefix(field, "spec.endpoints[") && (strings.Contains(field, "].addresses[") || strings.Contains(field, "].ports["))
}

// assumed reports whether a new document says with a field only what and where
// it is.
func assumed(field string) bool {
	switch field {
	case "apiVersion", "kind", "metadata.name", "metadata.namespace":
		return true
	}
	const embedded = "spec.source.kubernetes."
	if rest, ok := strings.CutPrefix(field, embedded); ok {
		return rest == "services" || strings.HasPrefix(rest, "resource.metadata") || rest == "resource.apiVersion" || rest == "resource.kind"
	}
	for _, key := range []string{v1alpha1.LabelOriginName, v1alpha1.LabelOriginNS, v1alpha1.LabelOriginKind, v1alpha1.AnnotationOrigin, v1alpha1.AnnotationOriginUID} {
		if strings.HasSuffix(field, "["+key+"]") {
			return true
		}
	}
	return false
}
