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

package command_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	w := fleet(t)
	w.golden("diff", 0, w.ada, "diff")
	w.golden("diff-markdown", 0, w.ada, "diff", "--tenant", "acme", "-o", "markdown")
	w.golden("diff-json", 0, w.ada, "diff", "HEAD~2..HEAD~1", "-o", "json")
	w.golden("diff-range", 0, w.ada, "diff", "HEAD~3..HEAD")
	w.golden("diff-nothing", 0, w.ada, "diff", "HEAD..HEAD")
	w.golden("diff-other-tenant", 0, w.ada, "diff", "--tenant", "globex")
	w.write(w.ada, webPath, balancer("web", http+"  lbPolicy: LeastRequest\n"))
	w.golden("diff-working-tree", 0, w.ada, "diff", "HEAD")
	w.golden("diff-since-parted", 0, w.ada, "diff", "HEAD~1...HEAD")
	w.golden("diff-bad-revision", 2, w.ada, "diff", "nonsense..HEAD")
	w.golden("diff-bad-output", 2, w.ada, "diff", "-o", "xml")
	w.golden("diff-no-clone", 2, w.home, "diff")
	w.golden("diff-without-base", 2, w.ada, "diff", "--branch", "fleet")
	// A bare repository does as well.
	if code := w.run(w.remote, "diff"); code != 0 || !strings.Contains(w.lastOut, "loadBalancerSourceRanges") {
		t.Errorf("in a bare repository: exit %d\n%s%s", code, w.lastOut, w.lastErr)
	}
	// So does any folder of the clone.
	if code := w.run(filepath.Join(w.ada, "tenants"), "diff", "HEAD"); code != 0 || !strings.Contains(w.lastOut, "LeastRequest") {
		t.Errorf("in a folder: exit %d\n%s%s", code, w.lastOut, w.lastErr)
	}
}

func TestValidate(t *testing.T) {
	w := fleet(t)
	w.golden("validate-good", 0, w.ada, "validate")
	w.golden("validate-good-branch", 0, w.ada, "validate", "origin/main")
	w.write(w.ada, "tenants/acme/loadbalancers/shop/old.service.yaml", "kind: [\n")
	w.commit(w.ada, "main", "A mistake of long ago", nil)
	w.git(w.ada, "checkout", "--quiet", "-b", "change")
	w.write(w.ada, webPath, balancer("web", "  ports:\n  - {name: http, port: 80}\n  - {name: admin, port: 9000}\n  - {name: dns, port: 0, protocol: SCTP}\n  turbo: true\n"))
	w.write(w.ada, apiPath, balancer("api", "  ports:\n  - {name: admin, port: 9000}\n"))
	w.write(w.ada, "tenants/acme/notes.txt", "hello\n")
	w.write(w.ada, "tenants/Acme/x.yaml", "hello\n")
	w.write(w.ada, "tenants/acme/loadbalancers/shop/large.service.yaml", strings.Repeat("#", 300<<10))
	if err := os.Symlink("web.service.yaml", filepath.Join(w.ada, "tenants/acme/loadbalancers/shop/link.service.yaml")); err != nil {
		t.Fatal(err)
	}
	w.golden("validate", 1, w.ada, "validate")
	w.golden("validate-against", 1, w.ada, "validate", "--against", "origin/main")
	w.golden("validate-github", 1, w.ada, "validate", "--against", "origin/main", "-o", "github")
	w.golden("validate-json", 1, w.ada, "validate", "--against", "origin/main", "-o", "json")
	here := w.run(w.ada, "validate", "-o", "yaml")
	out := w.lastOut
	w.git(w.ada, "add", "--all")
	w.git(w.ada, "commit", "--quiet", "-m", "Changes")
	if code := w.run(w.ada, "validate", "HEAD", "-o", "yaml"); code != here || w.lastOut != out {
		t.Errorf("a commit is judged otherwise than the working tree:\n%s\n%s", out, w.lastOut)
	}
	w.t.Setenv("GITHUB_ACTIONS", "true")
	if w.run(w.ada, "validate"); !strings.Contains(w.lastOut, "::error file=tenants/acme/notes.txt,title=UnknownPath::") {
		t.Errorf("no annotations in a workflow of GitHub:\n%s", w.lastOut)
	}
	w.t.Setenv("GITHUB_ACTIONS", "")
	w.golden("validate-bad-revision", 2, w.ada, "validate", "nonsense")
	w.git(w.ada, "checkout", "--quiet", "-b", "unfit", "HEAD~2")
	w.write(w.ada, webPath, balancer("web", "  ports:\n  - {name: admin, port: 9000}\n"))
	w.golden("validate-warning", 0, w.ada, "validate")
	w.golden("validate-strict", 1, w.ada, "validate", "--strict")
}

// TestValidateBlamesAChangeForWhatItDoes: not for old mistakes, for conflicts, for
// another identity and for mass removals.
func TestValidateBlamesAChangeForWhatItDoes(t *testing.T) {
	w := fleet(t)
	many := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		many["tenants/acme/loadbalancers/shop/"+name+".service.yaml"] = balancer(name, http)
	}
	w.commit(w.ada, "main", "Many", many)
	w.git(w.ada, "checkout", "--quiet", "-b", "change")
	for path := range many {
		w.git(w.ada, "rm", "--quiet", path)
	}
	w.write(w.ada, "kubelb.yaml", "repositoryID: ANOTHER\nlayout: 1\n")
	w.golden("validate-removals", 1, w.ada, "validate", "--against", "origin/main")
	w.git(w.ada, "add", "--all")
	w.git(w.ada, "commit", "--quiet", "-m", "Changes")
	w.git(w.ada, "checkout", "--quiet", "main")
	w.commit(w.ada, "main", "Main moves on", map[string]string{"kubelb.yaml": "", "tenants/acme/README.md": "Acme.\n"})
	w.golden("validate-conflict", 1, w.ada, "validate", "--against", "origin/main", "change")
	w.golden("validate-no-config", 1, w.ada, "validate", "origin/main")
}

func TestLog(t *testing.T) {
	w := fleet(t)
	w.golden("log", 0, w.ada, "log", "acme", "shop/web")
	w.golden("log-wide", 0, w.ada, "log", "-o", "wide", "--limit", "2")
	w.golden("log-json", 0, w.ada, "log", "acme", "shop/web", "--limit", "1", "-o", "json")
	w.golden("log-facts", 0, w.ada, "log", "acme", "--facts")
	w.golden("log-nothing", 1, w.ada, "log", "acme", "shop/nothing")
	w.golden("log-no-object", 2, w.ada, "log", "acme", "web")
	if code := w.run(w.ada, "log", "globex", "-o", "json"); code != 0 || w.lastOut != "[]\n" {
		t.Errorf("exit %d, %q", code, w.lastOut)
	}
}

// TestLogTellsSignatures: by whom git says that a commit is signed, and that it
// cannot say where it is not told the signers.
func TestLogTellsSignatures(t *testing.T) {
	w := fleet(t)
	public := w.signing(w.ada, "ada")
	w.date("12:10:00")
	w.write(w.ada, webPath, balancer("web", http))
	w.git(w.ada, "commit", "--quiet", "--all", "--gpg-sign", "-m", "Open to all")
	w.git(w.ada, "push", "--quiet", "origin", "main")
	column := func(args ...string) string {
		if code := w.run(w.ada, append([]string{"log", "acme", "--limit", "1"}, args...)...); code != 0 {
			t.Fatalf("exit %d: %s", code, w.lastErr)
		}
		return strings.Split(w.lastOut, "\n")[1]
	}
	if row := column(); !strings.Contains(row, "not checked") {
		t.Error(row)
	}
	signers := filepath.Join(w.home, "signers")
	if err := os.WriteFile(signers, []byte("ada@example.com "+public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if row := column("--signers", signers); !strings.Contains(row, "ada@example.com") {
		t.Error(row)
	}
	w.git(w.ada, "config", "gpg.ssh.allowedSignersFile", signers)
	if row := column(); !strings.Contains(row, "ada@example.com") {
		t.Error(row)
	}
}

// TestASubjectIsNoFieldOfTheLog: whoever writes commits cannot write into the
// log's other fields, nor whole entries.
func TestASubjectIsNoFieldOfTheLog(t *testing.T) {
	w := fleet(t)
	w.signing(w.ada, "ada")
	w.date("12:10:00")
	head := w.git(w.ada, "rev-parse", "HEAD")
	fields := strings.Join([]string{head, head, "Eve", "e@x", "kubelb-hub", "hub@kubelb.local", "1767355200", "Invented", "G"}, "\x1f")
	for _, subject := range []string{
		"Harmless\x1fG\x1e", // a signature that is none
		"Harmless\x1fN\x1e" + fields + "\x1e",
		"Tab\tseparated\x1b[31m\u0085\u2028lines",
	} {
		w.write(w.ada, webPath, balancer("web", http)+"# "+fmt.Sprintf("%q", subject)+"\n")
		w.git(w.ada, "commit", "--quiet", "--all", "--gpg-sign", "--cleanup=verbatim", "-m", subject)
	}
	w.git(w.ada, "push", "--quiet", "origin", "main")
	if code := w.run(w.ada, "log", "acme", "-o", "wide"); code != 0 {
		t.Fatalf("exit %d: %s", code, w.lastErr)
	}
	rows := strings.Split(strings.TrimSpace(w.lastOut), "\n")
	commits := strings.Fields(w.git(w.ada, "rev-list", "--first-parent", "HEAD", "--", webPath))
	if len(rows) != 1+len(commits) {
		t.Fatalf("%d rows, want a header and %d:\n%s", len(rows), len(commits), w.lastOut)
	}
	for i, row := range rows[1:] {
		signed := i < 3
		if !strings.HasPrefix(row, commits[i][:12]) || strings.Contains(row, "not checked") != signed || strings.Contains(row, " good") {
			t.Errorf("commit %s, signed by a key that is not listed: %v:\n%s", commits[i], signed, row)
		}
		if strings.ContainsAny(row, "\x1b\x1e\x1f\t\u0085\u2028") {
			t.Errorf("not printable: %q", row)
		}
	}
}

// TestTenantAddRefusesHalfCredentials: before it asks the hub for anything.
func TestTenantAddRefusesHalfCredentials(t *testing.T) {
	w := newWorld(t)
	w.write(w.home, "token", "secret\n")
	w.write(w.home, "nothing", "\n")
	w.golden("tenant-add-no-password", 2, w.home, "tenant", "add", "acme", "--username", "ccm-acme")
	w.golden("tenant-add-no-username", 2, w.home, "tenant", "add", "acme", "--password-file", filepath.Join(w.home, "token"))
	w.golden("tenant-add-no-known-hosts", 2, w.home, "tenant", "add", "acme", "--ssh-key", filepath.Join(w.home, "token"))
	w.golden("tenant-add-no-ssh-key", 2, w.home, "tenant", "add", "acme", "--known-hosts", filepath.Join(w.home, "token"))
	w.golden("tenant-add-empty-password", 2, w.home, "tenant", "add", "acme", "--username", "ccm-acme", "--password-file", filepath.Join(w.home, "nothing"))
	w.golden("tenant-add-both", 2, w.home, "tenant", "add", "acme", "--username", "ccm-acme", "--password-file", filepath.Join(w.home, "token"),
		"--ssh-key", filepath.Join(w.home, "token"), "--known-hosts", filepath.Join(w.home, "token"))
}

func TestABackupThatIsNotEncryptedSaysSo(t *testing.T) {
	w := newWorld(t)
	w.golden("backup-plain-age", 2, w.home, "keys", "backup", "hub-keys.age")
	w.golden("backup-plain-age-flag", 2, w.home, "keys", "backup", "hub-keys.AGE", "--plaintext")
	w.golden("backup-plain", 2, w.home, "keys", "backup", "hub-keys.yaml")
	w.golden("backup-both", 2, w.home, "keys", "backup", "hub-keys.age", "--plaintext", "--recipient", "age1x")
	// What is said right gets as far as the hub, which is not there.
	for _, args := range [][]string{{"hub-keys.yaml", "--plaintext"}, {"hub-keys.age", "--recipient", "age1x"}} {
		if w.run(w.home, append([]string{"keys", "backup"}, args...)...); !strings.Contains(w.lastErr, "GitSources in kubelb") {
			t.Errorf("%q: %s", args, w.lastErr)
		}
	}
}

func TestRelease(t *testing.T) {
	w := fleet(t)
	w.golden("release-not-held", 1, w.ada, "release", "acme", "shop/web", "--field", "spec.type")
	w.golden("release-no-object", 1, w.ada, "release", "acme", "shop/other")
	w.write(w.ada, webPath, balancer("web", http))
	w.golden("release-dirty", 1, w.ada, "release", "acme", "shop/web")
	w.git(w.ada, "checkout", "--quiet", "--", webPath)
	w.git(w.ada, "checkout", "--quiet", "-b", "other")
	w.golden("release-other-branch", 1, w.ada, "release", "acme", "shop/web")
	w.git(w.ada, "checkout", "--quiet", "main")

	// Other changes, staged or not, stay out of the commit.
	w.write(w.ada, "CODEOWNERS", "* @bob\n")
	w.write(w.ada, "notes.md", "mine\n")
	w.git(w.ada, "add", "CODEOWNERS")
	w.date("12:11:00")
	w.golden("release-field", 0, w.ada, "release", "acme", "shop/web", "--field", "spec.ports[https]")
	if changed := w.git(w.remote, "diff", "--name-only", "main~1", "main"); changed != webPath {
		t.Errorf("the commit changes %q", changed)
	}
	if doc := w.git(w.remote, "show", "main:"+webPath); !strings.Contains(doc, "443") || !strings.Contains(doc, "192.0.2.0/24") || strings.Contains(doc, "Random") {
		t.Errorf("released is\n%s", doc)
	}
	w.date("12:12:00")
	w.golden("release-no-push", 0, w.ada, "release", "acme", "shop/web", "--no-push")
	if w.git(w.ada, "show", "HEAD:"+webPath) == w.git(w.remote, "show", "main:"+webPath) {
		t.Error("it was pushed")
	}
	if w.git(w.ada, "show", "HEAD:"+webPath) == "" || w.git(w.ada, "rev-parse", "HEAD~1") != w.git(w.remote, "rev-parse", "main") {
		t.Error("there is no commit on top of main")
	}
	w.golden("release-again", 1, w.ada, "release", "acme", "shop/web")
	// A document that people deleted comes back, one that is new on intent comes.
	w.golden("release-created", 0, w.ada, "release", "acme", "shop/api", "--no-push")

	w.git(w.hub, "checkout", "--quiet", "main")
	w.git(w.hub, "pull", "--quiet")
	w.commit(w.hub, "main", "Main moves on", map[string]string{"CODEOWNERS": "* @eve\n"})
	w.golden("release-moved-on", 1, w.ada, "release", "acme", "shop/web", "--fetch")
}

// signing sets a clone up to sign with a new SSH key and returns its public half.
func (w *world) signing(dir, name string) string {
	w.t.Helper()
	key := filepath.Join(w.home, name+"_key")
	w.sshKeygen("-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key)
	w.git(dir, "config", "gpg.format", "ssh")
	w.git(dir, "config", "user.signingKey", key+".pub")
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(public))
}

func TestApprove(t *testing.T) {
	w := fleet(t)
	w.date("12:20:00")
	w.git(w.hub, "fetch", "--quiet")
	w.git(w.hub, "checkout", "--quiet", "-b", "review/acme", "origin/main")
	review := w.commit(w.hub, "review/acme", "acme: 2 changes", map[string]string{apiPath: balancer("api", "  ports:\n  - {name: http, port: 8080, protocol: TCP}\n")})
	w.git(w.ada, "fetch", "--quiet")
	w.golden("approve-dry-run", 0, w.ada, "approve", "acme", "--dry-run")
	w.golden("approve-unsigned", 1, w.ada, "approve", "acme")
	w.golden("approve-nothing", 2, w.ada, "approve", "globex")

	public := w.signing(w.ada, "ada")
	tree := w.git(w.ada, "rev-parse", "HEAD^{tree}")
	begin := w.git(w.ada, "rev-parse", "HEAD")
	w.run(w.ada, "approve", "acme", "--no-push")
	if w.git(w.ada, "rev-parse", "HEAD^{tree}") == tree {
		t.Fatalf("nothing was merged:\n%s%s", w.lastOut, w.lastErr)
	}
	if trailer := w.git(w.ada, "log", "-1", "--format=%(trailers:key=Kubelb-Approves,valueonly)"); trailer != review {
		t.Errorf("the merge approves %q, want %s", trailer, review)
	}
	w.verified(w.ada, "HEAD", public)
	if parents := w.git(w.ada, "log", "-1", "--format=%P"); parents != begin+" "+review {
		t.Errorf("parents %s", parents)
	}
	w.git(w.ada, "push", "--quiet", "origin", "main")
	w.golden("approve-again", 1, w.ada, "approve", "acme")

	// An unsigned change on main is approved with an empty commit.
	if code := w.run(w.ada, "approve", begin[:12]); code != 0 {
		t.Fatalf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	if w.git(w.remote, "rev-parse", "main^{tree}") != w.git(w.remote, "rev-parse", "main~1^{tree}") {
		t.Error("the approval is not empty")
	}
	if trailer := w.git(w.remote, "log", "-1", "--format=%(trailers:key=Kubelb-Approves,valueonly)", "main"); trailer != begin {
		t.Errorf("approves %q, want %s", trailer, begin)
	}
	w.verified(w.ada, "HEAD", public)
	w.golden("approve-not-on-main", 1, w.ada, "approve", w.git(w.ada, "rev-parse", "origin/intent/acme"))
	// What is told is the change of what counts, not of the commit alone.
	w.git(w.ada, "fetch", "--quiet")
	w.commit(w.ada, "main", "Not signed", map[string]string{webPath: balancer("web", "  ports:\n  - {name: http, port: 6666, protocol: TCP}\n")})
	w.commit(w.ada, "main", "Not signed either", map[string]string{webPath: balancer("web", "  lbPolicy: LeastRequest\n  ports:\n  - {name: http, port: 6666, protocol: TCP}\n")})
	w.git(w.hub, "fetch", "--quiet")
	w.commit(w.hub, "base/main", "integrate", map[string]string{
		"refused/" + webPath: "why\n", "trusted/" + webPath: balancer("web", http), "refused/" + apiPath: "why\n",
	})
	w.git(w.ada, "fetch", "--quiet")
	w.golden("approve-refused-before", 0, w.ada, "approve", "HEAD", "--dry-run")
	// A key that cannot sign leaves nothing behind.
	if err := os.Remove(filepath.Join(w.home, "ada_key")); err != nil {
		t.Fatal(err)
	}
	before := w.git(w.ada, "rev-parse", "HEAD")
	if code := w.run(w.ada, "approve", begin); code == 0 || w.git(w.ada, "rev-parse", "HEAD") != before {
		t.Errorf("exit %d without a key; HEAD moved: %t", code, w.git(w.ada, "rev-parse", "HEAD") != before)
	}
}

func (w *world) verified(dir, commit, public string) {
	w.t.Helper()
	signers := filepath.Join(w.home, "approvers")
	if err := os.WriteFile(signers, []byte("ada@example.com "+public+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.git(dir, "-c", "gpg.ssh.allowedSignersFile="+signers, "verify-commit", commit)
}

func TestInit(t *testing.T) {
	w := newWorld(t)
	w.git(w.home, "config", "--global", "user.name", "Ada")
	w.git(w.home, "config", "--global", "user.email", "ada@example.com")
	if code := w.run(w.home, "init", "here", "--forge", "gitea"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	here := filepath.Join(w.home, "here")
	for path, has := range map[string]bool{".gitea/workflows/kubelb.yaml": true, ".github": false, ".gitlab-ci.yml": false, "kubelb.yaml": true, "CODEOWNERS": true, ".gitattributes": true} {
		if _, err := os.Stat(filepath.Join(here, path)); (err == nil) != has {
			t.Errorf("%s: %v", path, err)
		}
	}
	if branch := w.git(here, "symbolic-ref", "--short", "HEAD"); branch != "main" || w.git(here, "status", "--porcelain") != "" {
		t.Errorf("branch %s, status %q", branch, w.git(here, "status", "--porcelain"))
	}
	first, err := os.ReadFile(filepath.Join(here, "kubelb.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if code := w.run(here, "validate"); code != 0 {
		t.Errorf("what init makes is not valid: %s", w.lastOut)
	}

	if code := w.run(w.home, "init", "file://"+w.remote, "--push"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	second := w.git(w.remote, "show", "main:kubelb.yaml")
	if second == strings.TrimSpace(string(first)) || !strings.Contains(second, "repositoryID: ") {
		t.Errorf("repositories have the identities %s and %s", first, second)
	}
	for _, path := range []string{".github/workflows/kubelb.yaml", ".gitlab-ci.yml", ".gitea/workflows/kubelb.yaml"} {
		w.git(w.remote, "cat-file", "-e", "main:"+path)
	}
	// The clone is one that git pull and git status know what to do with.
	fleet := filepath.Join(w.home, "fleet")
	if upstream, head := w.git(fleet, "rev-parse", "--abbrev-ref", "main@{upstream}"), w.git(fleet, "rev-parse", "--abbrev-ref", "origin/HEAD"); upstream != "origin/main" || head != "origin/main" {
		t.Errorf("upstream %s, HEAD of the remote %s", upstream, head)
	}
	w.git(fleet, "pull", "--quiet")

	// Once more changes nothing, whether the clone is there or not.
	tip := w.git(w.remote, "rev-parse", "main")
	if code := w.run(w.home, "init", "file://"+w.remote, "--push"); code != 0 || !strings.Contains(w.lastOut, "is made already") || w.git(w.remote, "rev-parse", "main") != tip {
		t.Errorf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	if err := os.Rename(fleet, filepath.Join(w.home, "moved")); err != nil {
		t.Fatal(err)
	}
	if code := w.run(w.home, "init", "file://"+w.remote, "--push"); code != 0 || w.git(w.remote, "rev-parse", "main") != tip {
		t.Errorf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	if code := w.run(w.home, "init", "here"); code != 0 || !strings.Contains(w.lastOut, "is made already") {
		t.Errorf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	if again, err := os.ReadFile(filepath.Join(here, "kubelb.yaml")); err != nil || !bytes.Equal(again, first) {
		t.Errorf("another identity: %s (%v)", again, err)
	}

	w.write(w.home, "full/notes.txt", "mine\n")
	w.golden("init-not-empty", 1, w.home, "init", "full")
	w.golden("init-bad-forge", 2, w.home, "init", "there", "--forge", "sourceforge")
	w.git(w.home, "init", "--quiet", "--initial-branch=main", "theirs")
	w.commitHere(filepath.Join(w.home, "theirs"), "readme.txt", "theirs\n")
	w.golden("init-has-commits", 1, w.home, "init", "theirs")

	// Whoever has git sign gets a signed first commit.
	public := w.signing(here, "ada")
	w.git(w.home, "config", "--global", "gpg.format", "ssh")
	w.git(w.home, "config", "--global", "user.signingKey", filepath.Join(w.home, "ada_key.pub"))
	w.git(w.home, "config", "--global", "commit.gpgSign", "true")
	if code := w.run(w.home, "init", "signed"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	w.verified(filepath.Join(w.home, "signed"), "HEAD", public)
}

// TestInitGoesOnAfterAFailure: nothing is written before git can commit, and what
// could not be committed is in a later run.
func TestInitGoesOnAfterAFailure(t *testing.T) {
	w := newWorld(t)
	w.git(w.home, "config", "--global", "user.useConfigOnly", "true") // no guess from this machine's name
	w.golden("init-nobody", 1, w.home, "init", "fleet-2")
	if _, err := os.Stat(filepath.Join(w.home, "fleet-2")); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
	w.git(w.home, "config", "--global", "user.name", "Ada")
	w.git(w.home, "config", "--global", "user.email", "ada@example.com")
	w.git(w.home, "config", "--global", "commit.gpgSign", "true")
	w.git(w.home, "config", "--global", "gpg.format", "ssh")
	w.git(w.home, "config", "--global", "user.signingKey", filepath.Join(w.home, "missing.pub"))
	if code := w.run(w.home, "init", "fleet-2"); code != 1 || !strings.Contains(w.lastErr, "run this again") {
		t.Fatalf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	w.git(w.home, "config", "--global", "commit.gpgSign", "false")
	if code := w.run(w.home, "init", "fleet-2"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, w.lastOut, w.lastErr)
	}
	if code := w.run(filepath.Join(w.home, "fleet-2"), "validate", "HEAD"); code != 0 {
		t.Error(w.lastOut, w.lastErr)
	}
}

func TestInitSaysWhatToDoOnEachForge(t *testing.T) {
	w := newWorld(t)
	w.git(w.home, "config", "--global", "user.name", "Ada")
	w.git(w.home, "config", "--global", "user.email", "ada@example.com")
	for _, forge := range []string{"github", "gitlab", "gitea"} {
		w.run(w.home, "init", forge, "--forge", forge)
		for _, needed := range []string{"intent/<tenant>", "base/main", "status/*", "review/*", "/hook/<namespace>/<gitsource>", "KUBELBCTL_VERSION", "git -C"} {
			if !strings.Contains(w.lastOut, needed) {
				t.Errorf("%s: nothing about %s", forge, needed)
			}
		}
	}
}

func TestCompletion(t *testing.T) {
	w := fleet(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"release", ""}, "acme"},
		{[]string{"release", "acme", ""}, "shop/api\nshop/web"},
		{[]string{"log", "acme", ""}, "shop/api\nshop/web"},
		{[]string{"diff", "--tenant", ""}, "acme"},
		{[]string{"diff", "-o", ""}, "text\nmarkdown\njson\nyaml"},
		{[]string{"init", "--forge", ""}, "github\ngitlab\ngitea"},
	} {
		if code := w.run(w.ada, append([]string{"__complete"}, c.args...)...); code != 0 || !strings.HasPrefix(w.lastOut, c.want+"\n:") {
			t.Errorf("%q: exit %d\n%s", c.args, code, w.lastOut)
		}
	}
	if code := w.run(w.home, "__complete", "release", ""); code != 0 {
		t.Errorf("completion outside a clone: exit %d\n%s", code, w.lastErr)
	}
}

func TestUsage(t *testing.T) {
	w := newWorld(t)
	w.golden("help", 0, w.home)
	w.golden("usage-arguments", 2, w.home, "release", "acme")
	w.golden("usage-flag", 2, w.home, "diff", "--nonsense")
	w.golden("usage-verb", 2, w.home, "nonsense")
	for _, verb := range []string{"init", "diff", "validate", "log", "release", "approve"} {
		if code := w.run(w.home, verb, "--help"); code != 0 || !strings.Contains(w.lastOut, "Examples:") {
			t.Errorf("%s --help: exit %d\n%s", verb, code, w.lastOut)
		}
	}
}
