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

package ir

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Validate returns why no proxy could serve the part, all reasons joined, or
// nil. hub/build never makes such a part from valid objects: an error here is a
// bug that must not reach a proxy.
func (p Part) Validate() error {
	var errs []error
	clusters := map[string]bool{}
	for _, c := range p.Clusters {
		if clusters[c.Name] {
			errs = append(errs, fmt.Errorf("cluster %q is listed twice", c.Name))
		}
		clusters[c.Name] = true
		errs = append(errs, c.validate()...)
	}
	listeners := map[string]bool{}
	for _, l := range p.Listeners {
		if listeners[l.Name()] {
			errs = append(errs, fmt.Errorf("listener %s is listed twice", l.Name()))
		}
		listeners[l.Name()] = true
		if !clusters[l.Cluster] {
			errs = append(errs, fmt.Errorf("listener %s: its cluster %q is not in the part", l.Name(), l.Cluster))
		}
		errs = append(errs, l.validate()...)
	}
	return errors.Join(errs...)
}

func (l Listener) validate() (errs []error) {
	if !l.Address.IsValid() {
		errs = append(errs, fmt.Errorf("listener %s: no address", l.Name()))
	}
	if l.Address.Zone() != "" {
		errs = append(errs, fmt.Errorf("listener %s: an address with a zone means something on one machine only", l.Name()))
	}
	if l.IdleTimeout < 0 {
		errs = append(errs, fmt.Errorf("listener %s: a negative idle timeout", l.Name()))
	}
	if l.Port == 0 {
		errs = append(errs, fmt.Errorf("listener %s: port 0", l.Name()))
	}
	if l.Protocol != TCP && l.Protocol != UDP {
		errs = append(errs, fmt.Errorf("listener %s: protocol %q is neither TCP nor UDP", l.Name(), l.Protocol))
	}
	for _, r := range l.SourceRanges {
		if !r.IsValid() {
			errs = append(errs, fmt.Errorf("listener %s: a source range is not a network", l.Name()))
		}
	}
	return errs
}

func (c Cluster) validate() (errs []error) {
	if c.Name == "" {
		errs = append(errs, errors.New("a cluster has no name"))
	}
	switch c.Policy {
	case "", RoundRobin, LeastRequest, Random, SourceIP:
	default:
		errs = append(errs, fmt.Errorf("cluster %s: unknown policy %q", c.Name, c.Policy))
	}
	for _, e := range c.Endpoints {
		if e.Address == "" || strings.ContainsAny(e.Address, " /%") || e.Port == 0 {
			errs = append(errs, fmt.Errorf("cluster %s: endpoint %q port %d is not an address and a port", c.Name, e.Address, e.Port))
		}
	}
	if h := c.HealthCheck; h != nil && (h.Interval <= 0 || h.Timeout <= 0 || h.HealthyThreshold == 0 || h.UnhealthyThreshold == 0) {
		errs = append(errs, fmt.Errorf("cluster %s: a health check needs an interval, a timeout and thresholds above 0", c.Name))
	}
	return errs
}

// ByDNS reports whether the cluster's endpoints are found by DNS because at
// least one of them is a name.
func (c Cluster) ByDNS() bool {
	for _, e := range c.Endpoints {
		if _, err := netip.ParseAddr(e.Address); err != nil {
			return true
		}
	}
	return false
}
