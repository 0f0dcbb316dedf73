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
	"time"

	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/project"
)

// silence is how long the hub may leave what was pushed unanswered before that
// is worth a word. A Git server that shows the hub an old branch, or the tenant
// an old answer, looks like this.
const silence = 2 * time.Minute

// watchSilence notes when the hub has not seen what was pushed for long.
func (o *observer) watchSilence() {
	pushed, observed := o.publisher.pushed(), o.answers.observed()
	if o.answers.repository() == "" || pushed <= observed || o.answers.guarded() || o.notices.has(noticeTenant) {
		o.unseen = time.Time{}
		o.notices.clear(noticeSilence)
		return
	}
	now := o.options.now()
	if o.unseen.IsZero() {
		o.unseen = now
	}
	if now.Sub(o.unseen) < o.options.silence {
		return
	}
	o.notices.set(noticeSilence, v1alpha1.Problem{Reason: ReasonHubSilent,
		Message: fmt.Sprintf("the hub has not seen what this cluster pushed (generation %d, seen %d), although the Git server answers", pushed, observed),
		Remedy:  "look whether the hub runs and follows the same repository; if it does, find out why the Git server shows it or this cluster an old branch"})
}

// remind renews the Events about what concerns the whole branch or a Secret,
// while it lasts. Services have reminders of their own.
func (o *observer) remind() {
	now := o.options.now()
	if now.Sub(o.reminded) < project.RemindEvery {
		return
	}
	o.reminded = now
	o.notices.remind()
	for _, name := range o.content.of(kindSecret) {
		if record, ok := o.content.lookup(secretOrigin(name)); ok {
			o.notices.tell(secretNamed(name), record.problems)
		}
	}
	for path, told := range o.told {
		if name, ok := o.content.owner(path); ok && told.reason != v1alpha1.ReasonSynced {
			emit(o.notices.recorder, secretNamed(name.NamespacedName), told.kind, told.reason, told.text)
		}
	}
}
