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

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ReasonStatusContested is the reason of a Service's problem: somebody else
// writes its status.loadBalancer.
const ReasonStatusContested = "StatusContested"

const (
	// fieldOwner is the field manager of what the CCM writes into Services.
	fieldOwner = "kubelb-ccm"
	// The pauses before an address that somebody else replaced is put back again.
	contestBegin, contestMax = time.Second, 5 * time.Minute
	// contestEnd is how long nobody has replaced an address when a contest is over.
	contestEnd = 2 * contestMax
	// contestTold is the loss at which the owner of the Service is told: one lost
	// write is an accident, such as a person's edit.
	contestTold = 2
)

// contests are the Services whose addresses others replace. It bounds how often
// they are put back: two writers that each insist would write for ever.
type contests struct {
	mu sync.Mutex
	by map[types.UID]*contest
}

// contest is what is known of one Service.
type contest struct {
	agreed corev1.LoadBalancerStatus // what the Service had last that was ours
	lost   int                       // times that somebody replaced it
	last   time.Time                 // the last of them
	writer string                    // who did
}

func newContests() *contests { return &contests{by: map[types.UID]*contest{}} }

// pause returns how long to wait before wanted may be put back into a Service: 0
// where it is not contested.
func (c *contests) pause(uid types.UID, present, wanted corev1.LoadBalancerStatus, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.by[uid]
	if !ok || known.lost == 0 || same(present, wanted) || !same(known.agreed, wanted) {
		return 0
	}
	pause := contestMax
	if shift := known.lost - 1; shift < 10 {
		pause = min(contestBegin<<shift, contestMax)
	}
	return max(known.last.Add(pause).Sub(now), 0)
}

// replaced reports whether somebody replaced what the CCM wrote: to write wanted
// now is to put it back.
func (c *contests) replaced(uid types.UID, present, wanted corev1.LoadBalancerStatus) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.by[uid]
	return ok && !same(present, wanted) && same(known.agreed, wanted)
}

// lose notes that what a writer replaced was put back.
func (c *contests) lose(uid types.UID, writer string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.by[uid]
	known.lost, known.last, known.writer = known.lost+1, now, writer
}

// agree notes that a Service has what the CCM wants.
func (c *contests) agree(uid types.UID, present corev1.LoadBalancerStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.by[uid]; ok {
		known.agreed = present
		return
	}
	if len(present.Ingress) > 0 {
		c.by[uid] = &contest{agreed: present}
	}
}

// problem says who contests a Service's address and when to look again whether
// that is over; nil if nobody does.
func (c *contests) problem(uid types.UID, now time.Time) (*v1alpha1.Problem, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.by[uid]
	if !ok || known.lost == 0 {
		return nil, 0
	}
	left := known.last.Add(contestEnd).Sub(now)
	if left <= 0 {
		known.lost = 0
		return nil, 0
	}
	if known.lost < contestTold {
		return nil, left
	}
	return &v1alpha1.Problem{Field: "status.loadBalancer", Reason: ReasonStatusContested,
		Message: fmt.Sprintf("the field manager %q writes this status too; what the hub says is put back, every %s at most",
			v1alpha1.Printable(known.writer, v1alpha1.MaxName), contestMax),
		Remedy: "let one of the two leave the Service alone: give Services of the other a spec.loadBalancerClass, " +
			"or run the CCM with --use-loadbalancer-class and give its Services the class kubelb (a class is set when a Service is created)"}, left
}

// forget drops what is known of a Service that is gone or no longer ours.
func (c *contests) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, uid)
}

func same(a, b corev1.LoadBalancerStatus) bool { return apiequality.Semantic.DeepEqual(a, b) }

// writerOf returns the field manager, other than the CCM, that wrote an object's
// status last, of those that own something of status.loadBalancer if there are
// any; "unknown" if the object does not say.
func writerOf(object metav1.Object) string {
	name, owns, when := "unknown", false, time.Time{}
	for _, entry := range object.GetManagedFields() {
		if entry.Subresource != "status" || entry.Manager == fieldOwner || entry.FieldsV1 == nil {
			continue
		}
		at, it := time.Time{}, strings.Contains(entry.FieldsV1.GetRawString(), `"f:loadBalancer"`)
		if entry.Time != nil {
			at = entry.Time.Time
		}
		if it && !owns || it == owns && !at.Before(when) {
			name, owns, when = strings.TrimSpace(entry.Manager), it, at
		}
	}
	return name
}
