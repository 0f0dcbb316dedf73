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

// Package project makes a Service's status of the hub's answer.
//
//	result := project.Service(project.Input{Service: service, LoadBalancer: answer, State: state, Now: now})
//
// The result is the status that the Service should have and the Events that tell
// of the way there. It promises that the same input gives the same result, that
// what others wrote into the status stays, that a transition is told once, and
// that an address the Service has is taken back only when the hub said so.
//
// It is pure: the time is part of the input, the input is not changed.
package project
