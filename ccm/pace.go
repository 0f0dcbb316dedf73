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

package ccm

import "time"

// How often the status branch is looked at.
const (
	fastest     = 50 * time.Millisecond
	fastFor     = time.Second      // after a push
	slowest     = 5 * time.Second  // while an answer is expected
	idle        = 60 * time.Second // while none is
	failFirst   = time.Second
	failSlowest = 30 * time.Second
)

// pace decides when to look at the status branch again.
type pace struct{ last time.Duration }

// next returns the time to wait after a look, sincePush after the last own push.
func (p *pace) next(failed, expecting bool, sincePush time.Duration) time.Duration {
	switch {
	case failed:
		p.last = min(max(2*p.last, failFirst), failSlowest)
	case sincePush < fastFor:
		p.last = fastest
	case expecting:
		p.last = min(max(2*p.last, fastest), slowest)
	default:
		p.last = 0
		return idle
	}
	return p.last
}
