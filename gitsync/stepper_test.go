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

package gitsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/report"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// stepper drives a loop turn by turn against the real API server and the real
// Git server, with a clock that jumps to what is due next. It can let any of
// the loop's exchanges with either go wrong.
type stepper struct {
	*bench
	supervisor *supervisor
	cut        cut
	clock      time.Time
	known      map[string]repo.Object // what the loop was told of, by path
}

// manner is how an exchange goes wrong.
type manner string

const (
	killed  manner = "killed"  // the hub dies before it
	refused manner = "refused" // it fails and has no effect
	lost    manner = "lost"    // it has its effect and the answer does not arrive
)

// cut is what is to go wrong, and the count of exchanges.
type cut struct {
	mu     sync.Mutex
	calls  []string
	at     int // counts from 1; 0: nothing goes wrong
	manner manner
	kill   context.CancelFunc
}

var errCut = apierrors.NewServiceUnavailable("cut")

// next counts an exchange and says how it goes wrong, if it does.
func (c *cut) next(what string) manner {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, what)
	switch {
	case c.at == 0 || len(c.calls) < c.at || len(c.calls) > c.at && c.manner != killed:
		return ""
	case c.manner == killed:
		c.kill()
	}
	return c.manner
}

// set begins a new count.
func (c *cut) set(at int, m manner, kill context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.at, c.manner, c.kill = nil, at, m, kill
}

// happened reports whether something went wrong, and where.
func (c *cut) happened() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == 0 || len(c.calls) < c.at {
		return "", false
	}
	return c.calls[c.at-1], true
}

// write carries out a write to the API server, or lets it go wrong.
func (c *cut) write(what string, do func() error) error {
	switch c.next(what) {
	case killed, refused:
		return errCut
	case lost:
		return errors.Join(do(), errCut)
	}
	return do()
}

func newStepper(t *testing.T) *stepper {
	t.Helper()
	b := newIdleBench(t)
	b.initMain()
	s := &stepper{bench: b, clock: time.Now().Truncate(time.Second), known: map[string]repo.Object{}}
	source := b.gitSource()
	source.Spec.Interval.Duration = time.Hour // nothing is looked at without a reason
	must(t, b.client.Update(t.Context(), source))
	keys, err := loadIdentity(t.Context(), b.client, b.client, hubNamespace)
	must(t, err)
	c, err := client.NewWithWatch(plane, client.Options{Scheme: clientgoscheme.Scheme})
	must(t, err)
	s.supervisor = &supervisor{
		client: s.cuttable(c), live: c, keys: keys, log: testr.NewWithOptions(t, testr.Options{Verbosity: verbosity()}),
		options: Options{Namespace: hubNamespace, Version: v1alpha1.Version{GitVersion: "v0.0.0-test"}, Clock: func() time.Time { return s.clock }},
	}
	b.git.intercept(s.gitCall)
	return s
}

// gitCall is every request to the Git server.
func (s *stepper) gitCall(w http.ResponseWriter, r *http.Request) bool {
	if r.UserAgent() == actorAgent {
		return false // a tenant's
	}
	switch s.cut.next(r.Method + " " + strings.TrimPrefix(r.URL.Path, "/repo.git/")) {
	case killed:
		panic(http.ErrAbortHandler)
	case refused:
		http.Error(w, "cut", http.StatusServiceUnavailable)
		return true
	case lost:
		s.git.backend.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	return false
}

// cuttable counts the writes of a client.
func (s *stepper) cuttable(c client.WithWatch) client.Client {
	name := func(o runtime.Object) string { return fmt.Sprintf("%T", o) }
	return interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return s.cut.write("create "+name(o), func() error { return c.Create(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return s.cut.write("delete "+name(o), func() error { return c.Delete(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return s.cut.write("update "+name(o), func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return s.cut.write("patch "+name(o), func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return s.cut.write("apply", func() error { return c.Apply(ctx, o, opts...) })
		},
		SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			return s.cut.write("apply "+sub, func() error { return c.SubResource(sub).Apply(ctx, o, opts...) })
		},
	})
}

// run drives a new loop, as a hub that starts has it, until nothing is due any
// more, or until it is killed.
func (s *stepper) run(at int, m manner) {
	s.t.Helper()
	ctx, kill := context.WithCancel(s.t.Context())
	defer kill()
	s.cut.set(at, m, kill)
	l := s.begin()
	defer l.end()
	s.drive(ctx, l)
}

// begin makes a loop as a hub that starts has it.
func (s *stepper) begin() *loop {
	l := newLoop(client.ObjectKey{Namespace: hubNamespace, Name: s.source}, s.supervisor, newInbox())
	clear(s.known)
	l.inbox.wakeUp()
	return l
}

// drive takes turns until nothing is due any more, or until the loop is killed.
func (s *stepper) drive(ctx context.Context, l *loop) {
	s.t.Helper()
	for turns := 0; ; turns++ {
		news := s.tell(l)
		l.turn(ctx, l.inbox.take())
		if ctx.Err() != nil {
			return
		}
		more := s.tell(l)
		if !news && !more && quiet(l) {
			break
		}
		if turns > 100 {
			s.t.Fatalf("the loop does not come to rest: failed %v, apply retry %v, status.git %v, deferred %v, report %v",
				l.failed, l.applyRetry, l.gitAt, l.deferred, l.reportDue(s.clock))
		}
		if !quiet(l) {
			s.clock = s.clock.Add(l.wait())
		}
	}
}

// quiet reports whether a loop waits for nothing but its interval.
func quiet(l *loop) bool {
	return (l.failed == nil || l.failed.stalled) && l.applyRetry.at.IsZero() && l.gitAt.IsZero() && l.deferred.IsZero() && l.reportDue(l.now()).IsZero()
}

// tell tells the loop what its watches would. What is being deleted is waited
// for: its end would wake the loop again.
func (s *stepper) tell(l *loop) (news bool) {
	s.t.Helper()
	eventually(s.t, "deleted load balancers to be gone", func() (leaving string) {
		var all v1alpha1.LoadBalancerList
		must(s.t, s.client.List(s.t.Context(), &all))
		for _, lb := range all.Items {
			if lb.DeletionTimestamp != nil && strings.HasPrefix(lb.Namespace, v1alpha1.TenantNamespace(s.prefix)) {
				leaving = lb.Name
			}
		}
		return leaving
	})
	now := map[string]repo.Object{}
	for _, list := range append(lists(), &v1alpha1.TenantStateList{}) {
		must(s.t, s.client.List(s.t.Context(), list))
		for _, object := range withStates(list) {
			path, err := repo.PathOf(object)
			if err == nil && strings.HasPrefix(object.GetNamespace(), v1alpha1.TenantNamespace(s.prefix)) {
				now[path] = object
			}
		}
	}
	for path, object := range now {
		before := s.known[path]
		if before != nil && before.GetResourceVersion() == object.GetResourceVersion() {
			continue
		}
		heal := before == nil || specChanged(before, object)
		l.inbox.changed(path, client.ObjectKeyFromObject(object), heal)
		news = true
	}
	for path, before := range s.known {
		if now[path] == nil {
			l.inbox.changed(path, client.ObjectKeyFromObject(before), true)
			news = true
		}
	}
	s.known = now
	return news
}

func withStates(list client.ObjectList) (objects []repo.Object) {
	if states, ok := list.(*v1alpha1.TenantStateList); ok {
		return pointers[v1alpha1.TenantState](states.Items)
	}
	return objectsOf(list)
}

var (
	hashes      = regexp.MustCompile(`\b[0-9a-f]{40}\b`)
	deletions   = regexp.MustCompile(`\d{8}T\d{6}Z-[0-9a-f]{8}`)
	times       = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]+Z`)
	generations = regexp.MustCompile(`generation: \d+`)
	indexLines  = regexp.MustCompile(`(?m)^index .*\n`)
	shortHashes = regexp.MustCompile(`(?m)^( *kubelb\.k8c\.io/short-revision: )"?([0-9a-f]{12})"?$`)
)

// picture is all that Git and the hub have of a tenant, in words that do not
// depend on when it came about: commits are told by their subjects.
func (s *stepper) picture(a *actor) string {
	s.t.Helper()
	subjects, short := map[string]string{}, map[string]string{}
	for _, line := range strings.Split(s.git.native(s.git.bare, "log", "--all", "--format=%H %s"), "\n") {
		hash, subject, _ := strings.Cut(line, " ")
		subjects[hash], short[v1alpha1.Short(hash)] = subject, subject
	}
	var out strings.Builder
	const nothing = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
	for _, branch := range []string{"main", "base/main", "status/" + a.name} {
		tree := s.git.native(s.git.bare, "diff", "--no-color", "--full-index", nothing, branch)
		fmt.Fprintf(&out, "== %s\n%s\n", branch, indexLines.ReplaceAllString(tree, ""))
	}
	out.WriteString(s.git.native(s.git.bare, "for-each-ref", "--format=%(refname) %(objectname)"))
	objects := append(a.objects(), a.state())
	slices.SortFunc(objects, func(x, y repo.Object) int {
		return cmp.Compare(fmt.Sprintf("%T%s", x, x.GetName()), fmt.Sprintf("%T%s", y, y.GetName()))
	})
	for _, object := range objects {
		wish, err := repo.Encode(object)
		if err != nil {
			wish = []byte(err.Error())
		}
		_, status, err := report.File(object)
		must(s.t, err)
		fmt.Fprintf(&out, "== %T %s\n%s%sdeleting %v, revision %s\n", object, object.GetName(), wish, status, object.GetDeletionTimestamp() != nil, revisionOf(object))
	}
	text := hashes.ReplaceAllStringFunc(out.String(), func(hash string) string { return "<" + cmp.Or(subjects[hash], "unknown") + ">" })
	text = shortHashes.ReplaceAllStringFunc(text, func(line string) string {
		part := shortHashes.FindStringSubmatch(line)
		return part[1] + "<" + cmp.Or(short[part[2]], "unknown") + ">"
	})
	text = deletions.ReplaceAllString(text, "DELETION")
	text = times.ReplaceAllString(text, "TIME")
	return strings.ReplaceAll(generations.ReplaceAllString(text, "generation: N"), s.prefix, "T")
}

// differ shows the first lines in which two pictures differ.
func differ(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			from := max(0, i-12)
			return fmt.Sprintf("want\n  %s\ngot\n  %s", strings.Join(a[from:min(len(a), i+4)], "\n  "), strings.Join(b[from:min(len(b), i+4)], "\n  "))
		}
	}
	return fmt.Sprintf("%d lines instead of %d", len(b), len(a))
}

// since are the subjects of a branch since a commit, oldest first, and how
// many of them changed nothing.
func (s *stepper) since(branch, commit string) (subjects []string, empty int) {
	s.t.Helper()
	if commit != "" {
		branch = commit + ".." + branch
	}
	text := s.git.native(s.git.bare, "log", "--reverse", "--first-parent", "--format=%T %s", branch)
	last := ""
	if commit != "" {
		last = s.git.native(s.git.bare, "log", "-1", "--format=%T", commit)
	}
	for _, line := range strings.Split(text, "\n") {
		tree, subject, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		if tree == last {
			empty++
		}
		last = tree
		subjects = append(subjects, strings.ReplaceAll(subject, s.prefix, "T"))
	}
	return subjects, empty
}

func (s *stepper) heads() map[string]string {
	heads := map[string]string{}
	for _, line := range strings.Split(s.git.all(), "\n") {
		ref, hash, _ := strings.Cut(line, " ")
		heads[strings.TrimPrefix(ref, repo.RefPrefix)] = hash
	}
	return heads
}
