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

package build

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kubelb/gitops/api/v1alpha1"
)

func TestCheck(t *testing.T) {
	c := checker{
		hub: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, allowed: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("127.0.0.0/8")},
		external: func(a netip.Addr) bool { return netip.MustParsePrefix("203.0.113.0/29").Contains(a) },
	}
	for text, why := range map[string]string{
		"198.51.100.1": "", "2001:db8::1": "", "fd00:1::1": "", "fd20:ce::1": "", "100.100.100.201": "",
		"64:ff9b::198.51.100.1": "", "2002:c633:6401::1": "", // what they lead to is allowed to anybody
		"127.0.0.1": "", "203.0.113.9": "", // allowed to this tenant
		"203.0.113.1": "gives to load balancers", "::ffff:203.0.113.1": "gives to load balancers", // never
		"64:ff9b::203.0.113.1": "gives to load balancers", "2002:cb00:7101::": "gives to load balancers",
		"10.100.0.1": "a network of the hub", "64:ff9b::10.100.0.1": "a network of the hub",
		"fd00:ec2::254": metadata, "fd00:ec2::23": metadata, "fd00:ec2::253": metadata, "fd20:ce::254": metadata, "192.0.0.192": metadata,
		"fd00:c1::a9fe:a9fe": metadata, "fd00:42::42": metadata, "fd00:a9fe:a9fe::1": metadata, "fd00:100::100:200": metadata, "100.100.100.200": metadata,
		"168.63.129.16": metadata, "169.254.169.254": metadata, "64:ff9b::169.254.169.254": metadata, "64:ff9b::a9fe:a9fe": metadata,
		"::169.254.169.254": metadata, "2002:a9fe:a9fe::1": metadata, "::ffff:0:169.254.169.254": metadata, "fe80::a9fe:a9fe": "link-local",
		"2001:db8::5efe:169.254.169.254": metadata, "2001:db8::200:5efe:169.254.169.254": metadata,
		"::127.0.0.2": "loopback", "::1": "loopback", "::": "not an address", "192.0.0.8": "not an address", "100::1": "not an address",
		"64:ff9b:1::1": "transition", "2001:0:1::1": "transition", "192.88.99.1": "transition", "169.254.170.2": "link-local",
	} {
		address, got := c.check(v1alpha1.EndpointAddress{IP: text})
		if !strings.Contains(got, why) || why == "" && got != "" || (got == "") != (address != "") {
			t.Errorf("%s: it is %q, refused because %q, want %q", text, address, got, why)
		}
	}
}
