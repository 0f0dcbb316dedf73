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

package command

import "strings"

// steps say what is to be done on a forge after the first commit.
func steps(forge, main string) string {
	text := map[string]string{"github": stepsGitHub, "gitlab": stepsGitLab, "gitea": stepsGitea}[forge]
	if text == "" {
		text = stepsAny
	}
	return strings.ReplaceAll(text+stepsHub, "MAIN", main)
}

const stepsAny = `What to do on the forge:

1. An account for the hub that may write MAIN, base/MAIN, review/*, status/* and
   archive/*, force-push status/* (these branches begin anew after 100 commits), and
   delete review/* and, if tenants are ever deleted, intent/*.
2. An account for each tenant that may write intent/<tenant> and nothing else.
3. MAIN: nobody may force-push or delete it. People push or merge; the hub pushes.
4. A webhook for pushes and pull requests to
   https://<hub>/hook/<namespace>/<gitsource> with a secret, so that the hub need
   not wait for its interval.
5. The workflow that runs 'kubelbctl validate' as a required check of pull requests.
`

const stepsGitHub = `What to do on GitHub:

1. Deploy keys (Settings > Deploy keys) can write every branch, so give the hub and
   each tenant a machine user, or a GitHub App, and tell them apart with rulesets.
2. Settings > Rules > Rulesets, each with a bypass for the one who writes:
   - MAIN: block force pushes and deletions; require a pull request and the status
     check "kubelb / validate" for people; bypass: the hub.
   - base/MAIN, status/*, archive/*: restrict updates; bypass: the hub.
   - review/*: restrict updates; bypass: the hub and those who may add to a proposal.
   - intent/<tenant>, one ruleset for each tenant: restrict creations, updates and
     deletions; bypass: that tenant's account.
3. Settings > Webhooks: pushes and pull requests, content type application/json, a
   secret, to https://<hub>/hook/<namespace>/<gitsource>. GitSource spec.webhook has
   type github and names the Secret.
4. Settings > Variables > Actions: KUBELBCTL_VERSION (a release), or KUBELBCTL_URL
   (where to download the program) with KUBELBCTL_SHA256.
5. GitHub takes about 6 pushes a minute, those of tenants included: set GitSource
   spec.minPushInterval to 30s.
`

const stepsGitLab = `What to do on GitLab:

1. Project access tokens: one for the hub (Maintainer, write_repository), one for
   each tenant (Developer, write_repository).
2. Settings > Repository > Protected branches:
   - MAIN: push and merge for Maintainers and the hub; no force push.
   - base/MAIN, archive/*: push for the hub alone.
   - status/*: push and force push for the hub alone.
   - intent/<tenant>, one for each tenant: push for that tenant's token alone.
   No rule for review/*: Git cannot delete a branch that has one.
3. Settings > Merge requests: "Pipelines must succeed".
4. Settings > Webhooks: push and merge request events, a secret token, to
   https://<hub>/hook/<namespace>/<gitsource>. GitSource spec.webhook has type gitlab
   and names the Secret.
5. Settings > CI/CD > Variables: KUBELBCTL_VERSION (a release), or KUBELBCTL_URL
   (where to download the program) with KUBELBCTL_SHA256.
`

const stepsGitea = `What to do on Gitea:

1. A user for the hub and one for each tenant, as collaborators who may write.
2. Settings > Branches, a rule for each:
   - MAIN: push for the hub and maintainers, no force push, status check
     "kubelb / validate (pull_request)".
   - base/MAIN, archive/*: push for the hub alone.
   - status/*: push and force push for the hub alone.
   - intent/<tenant>, one for each tenant: push for that tenant's user alone.
   No rule for review/*: a branch with one can be deleted by nobody.
3. Settings > Webhooks > Gitea: push and pull request events, a secret, to
   https://<hub>/hook/<namespace>/<gitsource>. GitSource spec.webhook has type gitea
   and names the Secret.
4. Settings > Actions > Variables: KUBELBCTL_VERSION (a release), or KUBELBCTL_URL
   (where to download the program) with KUBELBCTL_SHA256.
`

const stepsHub = `
In the hub: a GitSource with this URL and the hub's credentials. Then a Tenant for
each tenant. docs/operating.md has the manifests.
`
