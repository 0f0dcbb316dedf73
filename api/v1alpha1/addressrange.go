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
	"fmt"
	"net/netip"
	"strings"
)

// AddressRange is a run of addresses of one family, both ends included.
//
// +kubebuilder:object:generate=false
type AddressRange struct {
	First, Last netip.Addr
}

// Contains reports whether an address is in the range.
func (r AddressRange) Contains(a netip.Addr) bool {
	return r.First.BitLen() == a.BitLen() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// Overlaps reports whether the ranges have an address in common.
func (r AddressRange) Overlaps(s AddressRange) bool {
	return r.Contains(s.First) || s.Contains(r.First)
}

// String returns the range as it can be written in a pool.
func (r AddressRange) String() string { return r.First.String() + "-" + r.Last.String() }

// ParseAddressRange reads an entry of AddressPool.CIDRs: a CIDR, of which the
// network and broadcast addresses are left out for IPv4 networks of /30 or
// larger, or a range first-last. The error says what is wrong with it.
func ParseAddressRange(text string) (AddressRange, error) {
	if first, last, ok := strings.Cut(text, "-"); ok {
		return parseEnds(strings.TrimSpace(first), strings.TrimSpace(last))
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return AddressRange{}, fmt.Errorf("%q is neither a network such as 203.0.113.0/24 nor a range such as 203.0.113.10-203.0.113.20", text)
	case prefix.Addr().Is4In6():
		return AddressRange{}, fmt.Errorf("%q is an IPv4 network written as IPv6", text)
	case prefix != prefix.Masked():
		return AddressRange{}, fmt.Errorf("%q has bits set beyond its length; the network is %s", text, prefix.Masked())
	}
	r := AddressRange{First: prefix.Addr(), Last: lastAddress(prefix)}
	if prefix.Addr().Is4() && prefix.Bits() <= 30 {
		r.First, r.Last = r.First.Next(), r.Last.Prev()
	}
	return r, nil
}

func parseEnds(first, last string) (AddressRange, error) {
	a, errA := netip.ParseAddr(first)
	b, errB := netip.ParseAddr(last)
	switch {
	case errA != nil || errB != nil || a.Zone() != "" || b.Zone() != "" || a.Is4In6() || b.Is4In6():
		return AddressRange{}, fmt.Errorf("%q is not a range of two IP addresses", first+"-"+last)
	case a.BitLen() != b.BitLen():
		return AddressRange{}, fmt.Errorf("%q mixes IPv4 and IPv6", first+"-"+last)
	case b.Less(a):
		return AddressRange{}, fmt.Errorf("%q ends before it begins", first+"-"+last)
	}
	return AddressRange{First: a, Last: b}, nil
}

func lastAddress(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}
