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
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/ccm/render"
	"github.com/kubelb/gitops/gitsync/git"
	"github.com/kubelb/gitops/gitsync/webhook"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		failed, expecting bool
		sincePush         time.Duration
		want              []time.Duration
	}{
		"just pushed":             {expecting: true, sincePush: 0, want: []time.Duration{50 * ms, 50 * ms, 50 * ms}},
		"pushed, nothing to come": {sincePush: 999 * ms, want: []time.Duration{50 * ms}},
		"something is coming": {expecting: true, sincePush: time.Hour,
			want: []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5 * time.Second, 5 * time.Second}},
		"idle": {sincePush: time.Hour, want: []time.Duration{time.Minute, time.Minute}},
		"Git is away": {failed: true, expecting: true,
			want: []time.Duration{1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			for i, want := range c.want {
				if got := p.next(c.failed, c.expecting, c.sincePush); got != want {
					t.Fatalf("look %d: %v, want %v", i, got, want)
				}
			}
		})
	}
	var p pace
	p.next(true, true, time.Hour)
	p.next(false, false, time.Hour)
	if got := p.next(false, true, time.Hour); got != fastest {
		t.Errorf("after idling it starts at %v, want %v", got, fastest)
	}
}

func TestReadiness(t *testing.T) {
	node := func(name string, ready corev1.ConditionStatus) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
	}
	const yes, no, lost = corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown
	start := time.Unix(1_700_000_000, 0)
	r := newReadiness()
	for _, step := range []struct {
		reason string
		after  time.Duration
		nodes  []corev1.Node
		want   string
		again  time.Duration
	}{
		{"only what is ready or was published counts at the start", 0, []corev1.Node{node("a", yes), node("new", no), node("published", lost)}, "a published", nodeGrace},
		{"a node that stops being ready counts on", 10, []corev1.Node{node("a", no), node("new", yes), node("published", lost)}, "a new published", 20 * time.Second},
		{"but not for long", 30, []corev1.Node{node("a", no), node("new", yes), node("published", lost)}, "a new", 10 * time.Second},
		{"if it recovers it stays", 35, []corev1.Node{node("a", yes), node("new", yes)}, "a new", 0},
		{"and has its time again", 60, []corev1.Node{node("a", no), node("new", yes)}, "a new", nodeGrace},
		{"a node that is deleted goes at once", 61, []corev1.Node{node("new", yes)}, "new", 0},
		{"and is a new one when it is back", 62, []corev1.Node{node("a", no), node("new", yes)}, "new", 0},
	} {
		counting, again := r.count(step.nodes, func(n *corev1.Node) bool { return n.Name == "published" }, start.Add(step.after*time.Second))
		var names []string
		for _, n := range counting {
			names = append(names, n.Name)
		}
		if got := strings.Join(names, " "); got != step.want || again != step.again {
			t.Errorf("%s: %q, again in %v; want %q, %v", step.reason, got, again, step.want, step.again)
		}
	}
}

func TestSubject(t *testing.T) {
	paths := func(names ...string) map[string][]byte {
		out := map[string][]byte{}
		for _, name := range names {
			data := []byte("x")
			if rest, gone := strings.CutPrefix(name, "-"); gone {
				name, data = rest, nil
			}
			out["tenants/acme/"+name] = data
		}
		return out
	}
	for want, edits := range map[string]map[string][]byte{
		"Service shop/web":         paths("loadbalancers/shop/web.service.yaml", "backends/shop/web.service.yaml"),
		"Service shop/web removed": paths("-loadbalancers/shop/web.service.yaml", "-backends/shop/web.service.yaml"),
		"2 Services":               paths("loadbalancers/shop/web.service.yaml", "backends/shop/api.service.yaml"),
		"nodes":                    paths("addresses/default.yaml"),
		"Service shop/web, 2 Services removed, nodes": paths("backends/shop/web.service.yaml", "-loadbalancers/a/a.service.yaml", "-backends/b/b.service.yaml", "addresses/default.yaml"),
		"Secret shop/cert":                            paths("syncsecrets/shop/cert.secret.yaml"),
		"2 Services, 2 Secrets, Secret a/a removed": paths("loadbalancers/a/a.service.yaml", "backends/b/b.service.yaml",
			"syncsecrets/a/b.secret.yaml", "syncsecrets/b/a.secret.yaml", "-syncsecrets/a/a.secret.yaml"),
		"other files": paths("-README.md"),
		"taken over":  {},
	} {
		if got := subject(edits); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestContent(t *testing.T) {
	name := serviceOrigin(types.NamespacedName{Namespace: "shop", Name: "web"})
	wish, fact := render.ServicePaths("acme", "shop", "web")
	docs := func(data string) []render.Document {
		return []render.Document{{Path: fact.String(), Data: []byte(data)}, {Path: wish.String(), Data: []byte(data)}}
	}
	branch := repo.Tree{}
	// publish writes what differs, as the publisher does.
	publish := func(c *content, generation int64) (edited []string, deletes int) {
		edits, done, deletes, err := c.edits(func(path string) (repo.File, bool, error) {
			f, ok := branch[path]
			return f, ok, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for path, data := range edits {
			edited = append(edited, path)
			if data == nil {
				delete(branch, path)
			} else {
				branch[path] = repo.NewFile(data)
			}
		}
		c.settle(done, generation)
		slices.Sort(edited)
		return edited, deletes
	}
	both := []string{fact.String(), wish.String()}
	c := newContent("acme")

	c.put(name, rendered{uid: "1", documents: docs("a")})
	if edited, _ := publish(c, 1); edited != nil {
		t.Fatalf("edited %v before the finalizer was there", edited)
	}
	c.put(name, rendered{uid: "1", guarded: true, documents: docs("a")})
	if edited, _ := publish(c, 1); !slices.Equal(edited, both) {
		t.Fatalf("edited %v, want %v", edited, both)
	}
	c.put(name, rendered{uid: "1", guarded: true, documents: docs("a")})
	if edited, _ := publish(c, 2); edited != nil {
		t.Fatalf("edited %v where nothing changed", edited)
	}
	c.put(name, rendered{uid: "1", guarded: true, documents: docs("b")})
	publish(c, 2)
	if r, _ := c.lookup(name); !r.settled || r.generation != 1 {
		t.Errorf("%+v: a change is no new Service", r)
	}
	// Made anew under the same name.
	c.put(name, rendered{uid: "2", guarded: true, documents: docs("c")})
	if r, _ := c.lookup(name); r.settled {
		t.Error("the new Service is settled before it was pushed")
	}
	publish(c, 3)
	if r, _ := c.lookup(name); !r.settled || r.generation != 3 {
		t.Errorf("%+v, want settled at 3", r)
	}
	// Somebody else wrote the branch meanwhile.
	branch[wish.String()] = repo.NewFile([]byte("foreign"))
	branch["tenants/acme/loadbalancers/x/y.service.yaml"] = repo.NewFile([]byte("foreign"))
	branch[render.NodesPath("acme").String()] = repo.NewFile([]byte("nodes"))
	c.recheck(branch)
	if edited, deletes := publish(c, 4); len(edited) != 2 || deletes != 0 {
		t.Errorf("edited %v with %d deletes", edited, deletes)
	}
	if _, ok := branch[render.NodesPath("acme").String()]; !ok {
		t.Error("the nodes were removed, though none are known")
	}
	// A finalizer that somebody removed takes nothing away.
	c.put(name, rendered{uid: "2", documents: docs("c")})
	if edited, _ := publish(c, 5); edited != nil {
		t.Errorf("edited %v", edited)
	}
	c.put(name, rendered{uid: "2", guarded: true, deleting: true})
	if edited, deletes := publish(c, 6); !slices.Equal(edited, both) || deletes != 1 {
		t.Errorf("edited %v with %d deletes, want %v with 1", edited, deletes, both)
	}
	c.remove(name, false)
	if _, known := c.lookup(name); known {
		t.Error("a Service that is gone is remembered")
	}
}

func TestContentSaysWhenProblemsChange(t *testing.T) {
	name := serviceOrigin(types.NamespacedName{Namespace: "shop", Name: "web"})
	c := newContent("acme")
	for i, step := range []struct {
		problems []v1alpha1.Problem
		news     bool
	}{{nil, false}, {[]v1alpha1.Problem{{Reason: "A"}}, true}, {[]v1alpha1.Problem{{Reason: "A"}}, false}, {nil, true}} {
		if got := c.put(name, rendered{uid: "1", problems: step.problems}); got != step.news {
			t.Errorf("step %d: %v, want %v", i, got, step.news)
		}
	}
}

func TestAFloodOfWebhooksIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	hook, err := newHook(&Options{Tenant: "acme", WebhookTokenFile: file}, func() { t.Error("a stranger's request is news") })
	if err != nil {
		t.Fatal(err)
	}
	answers := map[int]int{}
	for range 3000 {
		answer := httptest.NewRecorder()
		hook.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader("news")))
		answers[answer.Code]++
	}
	if answers[http.StatusTooManyRequests] == 0 || answers[http.StatusUnauthorized] == 0 {
		t.Errorf("3000 requests of strangers at once got %v", answers)
	}
}

func TestWebhook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := Options{
		Tenant: "acme", GitURL: "https://git.example.com/fleet/lb.git", WebhookAddr: "127.0.0.1:0", WebhookTokenFile: file,
	}
	generic := func(key, body string) map[string]string {
		return map[string]string{webhook.Header: webhook.Sign([]byte(key), []byte(body))}
	}
	gitlab := map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "secret", "Content-Type": "application/json"}
	push := func(repository, ref string) string {
		return fmt.Sprintf(`{"ref": %q, "project": {"path_with_namespace": %q}}`, ref, repository)
	}
	for name, c := range map[string]struct {
		kind, method, path, body string
		headers                  map[string]string
		want                     int
		news                     bool
	}{
		"signed":                 {"", "POST", "/hook", "news", generic("secret", "news"), http.StatusOK, true},
		"unsigned":               {"", "POST", "/hook", "news", nil, http.StatusUnauthorized, false},
		"by another key":         {"", "POST", "/hook", "news", generic("other", "news"), http.StatusUnauthorized, false},
		"of another body":        {"", "POST", "/hook", "news", generic("secret", "other"), http.StatusUnauthorized, false},
		"GET":                    {"", "GET", "/hook", "", generic("secret", ""), http.StatusMethodNotAllowed, false},
		"another path":           {"", "POST", "/", "news", generic("secret", "news"), http.StatusNotFound, false},
		"too large":              {"", "POST", "/hook", strings.Repeat("x", webhook.MaxBody+1), nil, http.StatusRequestEntityTooLarge, false},
		"a push to its status":   {"gitlab", "POST", "/hook", push("fleet/lb", "refs/heads/status/acme"), gitlab, http.StatusOK, true},
		"another's status":       {"gitlab", "POST", "/hook", push("fleet/lb", "refs/heads/status/globex"), gitlab, http.StatusOK, false},
		"a push to main":         {"gitlab", "POST", "/hook", push("fleet/lb", "refs/heads/main"), gitlab, http.StatusOK, false},
		"another repository":     {"gitlab", "POST", "/hook", push("fleet/other", "refs/heads/status/acme"), gitlab, http.StatusForbidden, false},
		"the format of no forge": {"gitlab", "POST", "/hook", "news", generic("secret", "news"), http.StatusUnauthorized, false},
	} {
		t.Run(name, func(t *testing.T) {
			news, o := 0, options
			o.WebhookType = c.kind
			hook, err := newHook(&o, func() { news++ })
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []bool{c.news, false} { // a replay is no news
				news = 0
				request := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
				for name, value := range c.headers {
					request.Header.Set(name, value)
				}
				answer := httptest.NewRecorder()
				hook.ServeHTTP(answer, request)
				if answer.Code != c.want || (news == 1) != want {
					t.Errorf("status %d, %d news, want status %d and news %t", answer.Code, news, c.want, want)
				}
			}
		})
	}
	missing, unknown := options, options
	missing.WebhookTokenFile += "-missing"
	unknown.WebhookType = "gerrit"
	for _, o := range []Options{missing, unknown} {
		if _, err := newHook(&o, nil); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	signer, err := git.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("# hub\n\n"+signer.PublicKey().String()+" hub\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, err := parseHubKeys([]string{"@" + file}); err != nil || len(keys) != 1 || !keys[0].Equal(signer.PublicKey()) {
		t.Errorf("keys %v, %v", keys, err)
	}
	for name, values := range map[string][]string{"none": nil, "no key": {"nonsense"}, "no file": {"@" + file + "-missing"}, "empty": {""}} {
		if _, err := parseHubKeys(values); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good := Options{Tenant: "acme", GitURL: "http://git.example.com/fleet.git"}
	if err := good.complete(); err != nil || good.Namespace != "kubelb" || good.NodeAddressType != corev1.NodeExternalIP {
		t.Errorf("%+v, %v", good, err)
	}
	for name, bad := range map[string]Options{
		"no tenant":    {GitURL: good.GitURL},
		"bad tenant":   {Tenant: "Acme_1", GitURL: good.GitURL},
		"no URL":       {Tenant: "acme"},
		"no such URL":  {Tenant: "acme", GitURL: "git@git.example.com:fleet.git"},
		"address type": {Tenant: "acme", GitURL: good.GitURL, NodeAddressType: "Public"},
	} {
		if err := bad.complete(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
