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

// Package xds tells Envoys what to serve and hears what they think of it.
//
// The hub publishes one [ir.Part] per owner into a proxy group, a [Server]
// serves the group's resources by delta ADS, and [Server.Verdict] says what the
// proxies made of each part: acknowledged, refused (with Envoy's words), gone.
//
// What it promises:
//
//   - A proxy gets the resources of one group, named by the URI in its client
//     certificate (kubelb://proxy-group/<group>); what it says of itself counts
//     for nothing.
//   - A group that was not opened yet is silent: its proxies keep what they have
//     while a starting hub is still building.
//   - Make before break, for each proxy by its own acknowledgements: a listener
//     goes out when its cluster and assignment were acknowledged, a cluster goes
//     when no listener that the proxy has uses it.
//   - One bad resource hurts its owner only. It is served in its last good
//     version, or not at all, and tried again later.
//   - The cost of a change is that change: a proxy has a set of names it has yet
//     to hear of, and nothing walks what did not change. Versions are hashes of
//     content, so that a restarted hub with the same parts sends nothing.
//
// What it refuses: clients without a group's certificate, state-of-the-world
// streams, a listener or cluster name that another owner has.
//
// go-control-plane's delta server does streams, nonces and subscriptions; each
// stream has a [session] for a cache, because what a proxy may be sent next
// depends on what that proxy has acknowledged.
package xds
