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
	"time"

	"github.com/kubelb/gitops/gitsync/git"
)

// afterFailure forgets what a failed attempt wrote, and all of a store that is
// damaged: it is filled again from the branch.
func (p *publisher) afterFailure(err error) {
	if !git.Damaged(err) || !p.renewal.Begin(time.Now()) {
		p.store.Retain(p.tip)
		return
	}
	p.log.Info("the copy of the intent branch is damaged and is read anew", "error", err.Error())
	storeRenewals.WithLabelValues("intent").Inc()
	p.store, p.located, p.tip, p.tree = git.NewStore(), false, git.Hash{}, git.Hash{}
}

// afterFailure is the same for the status branch. The tip stays, which says what
// the next one must come after.
func (o *observer) afterFailure(err error) {
	if !git.Damaged(err) || !o.renewal.Begin(time.Now()) {
		return
	}
	o.log.Info("the copy of the status branch is damaged and is read anew", "error", err.Error())
	storeRenewals.WithLabelValues("status").Inc()
	o.store, o.tree, o.anew = git.NewStore(), git.Hash{}, true
}
