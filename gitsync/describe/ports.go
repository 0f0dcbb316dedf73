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
	"fmt"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
)

// rename is a port that is called otherwise than before.
type rename struct {
	port     v1alpha1.Port // as it is now
	from, to string
}

// portsOf returns the ports of a load balancer or Backend.
func portsOf(object repo.Object) (out []v1alpha1.Port) {
	add := func(id v1alpha1.PortID, name string) {
		out = append(out, v1alpha1.Port{PortID: id, Name: portName(name)})
	}
	switch o := object.(type) {
	case *v1alpha1.LoadBalancer:
		for _, p := range o.Spec.Ports {
			add(v1alpha1.NewPortID(p.Port, p.Protocol), p.Name)
		}
	case *v1alpha1.Backend:
		for _, p := range o.Spec.Ports {
			add(v1alpha1.NewPortID(p.Port, p.Protocol), p.Name)
		}
	}
	return out
}

// labels says how the ports of a version are called beside those of a later one:
// by the later name, so that a renamed port is told as one; a port that is gone by
// its number where another one has its name.
func labels(before, after repo.Object) (out []string, renamed []rename) {
	was, now := portsOf(before), portsOf(after)
	used := map[string]bool{}
	for _, p := range now {
		used[p.Name] = true
	}
	for n, match := range v1alpha1.PairPorts(was, now) {
		switch {
		case match >= 0:
			out = append(out, now[match].Name)
			if was[n].Name != now[match].Name {
				renamed = append(renamed, rename{now[match], was[n].Name, now[match].Name})
			}
		case used[was[n].Name]:
			out = append(out, fmt.Sprintf("%d/%s", was[n].Number, was[n].Protocol))
		default:
			out = append(out, was[n].Name)
		}
	}
	return out, renamed
}

// called returns a copy of a version in which ports are called as [labels] says.
func called(object repo.Object, labels []string) repo.Object {
	switch o := object.(type) {
	case *v1alpha1.LoadBalancer:
		o = o.DeepCopy()
		names := map[string]string{}
		for n := range o.Spec.Ports {
			names[portName(o.Spec.Ports[n].Name)], o.Spec.Ports[n].Name = labels[n], labels[n]
		}
		for _, g := range o.Spec.Endpoints {
			for n := range g.Ports { // they are found by these names
				if name, ok := names[portName(g.Ports[n].Name)]; ok {
					g.Ports[n].Name = name
				}
			}
		}
		return o
	case *v1alpha1.Backend:
		o = o.DeepCopy()
		for n := range o.Spec.Ports {
			o.Spec.Ports[n].Name = labels[n]
		}
		return o
	}
	return object
}
