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

// Package command has the verbs of kubelbctl, one file each. A verb is a function
// that takes the [Options] that all share and returns a cobra command; verbs lists
// them.
//
// Verbs in a clone work offline, with the git of the command line. Verbs in the hub
// ask the API server of the hub's cluster, as kubectl does.
//
// A mistake of the user is a [Refusal]: what is wrong and what to do. The exit codes
// are those of [Run].
package command
