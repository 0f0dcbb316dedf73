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
	"maps"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubelb/gitops/api/repo"
	"github.com/kubelb/gitops/api/v1alpha1"
	"github.com/kubelb/gitops/gitsync/git"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// gitServer is a real Git server over HTTP with one bare repository.
type gitServer struct {
	url, dir string
	requests atomic.Int64
	away     atomic.Bool
	cutPush  atomic.Bool            // lose the answer of the next push
	password atomic.Pointer[string] // of CCMs, if they need one
}

func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	root := t.TempDir()
	s := &gitServer{dir: filepath.Join(root, "fleet.git")}
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", s.dir},
		{"-C", s.dir, "config", "http.receivepack", "true"},
		{"-C", s.dir, "config", "receive.fsckObjects", "true"},
		{"-C", s.dir, "config", "receive.autogc", "false"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root, "GIT_CONFIG_NOSYSTEM=1"},
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		if want := s.password.Load(); want != nil && r.UserAgent() == "git/kubelb-ccm" {
			if _, password, _ := r.BasicAuth(); password != *want {
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			r.Header.Del("Authorization")
		}
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/git-receive-pack") && s.cutPush.CompareAndSwap(true, false) {
			backend.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	s.url = web.URL + "/fleet.git"
	return s
}

// fakeHub writes the status branch and reads the intent branch.
type fakeHub struct {
	signer *git.Signer
	remote *git.Remote

	mu         sync.Mutex
	store      *git.Store
	tip        git.Hash
	generation int64
}

func newFakeHub(t *testing.T, url string) *fakeHub {
	t.Helper()
	signer, err := git.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	remote, err := git.NewRemote(url, git.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.Close)
	return &fakeHub{signer: signer, remote: remote, store: git.NewStore()}
}

// intent returns the intent branch; a zero commit if there is none.
func (h *fakeHub) intent(t *testing.T) (git.Commit, repo.Tree) {
	t.Helper()
	ref := repo.IntentRef(tenant)
	refs, err := h.remote.ListRefs(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if refs[ref].IsZero() {
		return git.Commit{}, nil
	}
	store := git.NewStore()
	if err := h.remote.Fetch(t.Context(), store, git.Want{Tip: refs[ref]}); err != nil {
		t.Fatal(err)
	}
	commit, err := store.Commit(refs[ref])
	if err != nil {
		t.Fatal(err)
	}
	files, err := store.Files(commit.Tree, "")
	if err != nil {
		t.Fatal(err)
	}
	return commit, files
}

// write is one commit of the status branch.
type write struct {
	set      []repo.Object // statuses
	remove   []string      // paths without the tenant's folder
	trailers map[string]string
	signer   *git.Signer
	unsigned bool
	force    git.Hash // parent, instead of the tip
	anew     bool     // without a parent
}

// say pushes a commit of the status branch.
func (h *fakeHub) say(t *testing.T, w write) git.Hash {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.generation++
	edits := map[string][]byte{}
	for _, object := range w.set {
		object.SetNamespace(v1alpha1.TenantNamespace(tenant))
		path, err := repo.PathOf(object)
		if err != nil {
			t.Fatal(err)
		}
		if edits[path], err = repo.EncodeStatus(object); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range w.remove {
		edits[repo.TenantDir(tenant)+"/"+path] = nil
	}
	trailers := map[string]string{
		repo.TrailerRepository: repositoryID, repo.TrailerBranch: "status/" + tenant, repo.TrailerTenant: tenant,
		repo.TrailerGeneration: strconv.FormatInt(h.generation, 10),
	}
	maps.Copy(trailers, w.trailers)
	parent := h.tip
	if !w.force.IsZero() {
		parent = w.force
	}
	if w.anew {
		parent = git.Hash{}
	}
	commit := h.commit(t, h.store, parent, edits, trailers, w)
	if _, err := h.remote.Push(t.Context(), h.store, []git.RefUpdate{{Name: repo.StatusRef(tenant), Old: h.tip, New: commit}}, false); err != nil {
		t.Fatal(err)
	}
	h.tip = commit
	return commit
}

func (h *fakeHub) commit(t *testing.T, store *git.Store, parent git.Hash, edits map[string][]byte, trailers map[string]string, w write) git.Hash {
	t.Helper()
	spec := git.CommitSpec{Message: "status", Author: git.Ident{Name: "kubelb-hub", Email: "hub@kubelb.local", When: time.Now()}, Signer: h.signer}
	if w.signer != nil {
		spec.Signer = w.signer
	}
	if w.unsigned {
		spec.Signer = nil
	}
	var root git.Hash
	if !parent.IsZero() {
		c, err := store.Commit(parent)
		if err != nil {
			t.Fatal(err)
		}
		root, spec.Parents = c.Tree, []git.Hash{parent}
	}
	for key, value := range trailers {
		spec.Trailers = append(spec.Trailers, git.Trailer{Key: key, Value: value})
	}
	var err error
	if spec.Tree, err = store.Edit(root, edits); err != nil {
		t.Fatal(err)
	}
	commit, err := store.NewCommit(spec)
	if err != nil {
		t.Fatal(err)
	}
	return commit
}

// state is a TenantState that has observed an intent commit.
func state(intent git.Commit, changes ...func(*v1alpha1.TenantStateStatus)) *v1alpha1.TenantState {
	s := &v1alpha1.TenantState{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultName}}
	if !intent.Hash.IsZero() {
		s.Status.ObservedIntent = &v1alpha1.ObservedIntent{Commit: intent.Hash.String(), Generation: intent.Trailers.Number(repo.TrailerGeneration)}
	}
	for _, change := range changes {
		change(&s.Status)
	}
	return s
}

// loadBalancer is the status of a Service's load balancer.
func loadBalancer(s *corev1.Service, ips ...string) *v1alpha1.LoadBalancer {
	lb := &v1alpha1.LoadBalancer{ObjectMeta: metav1.ObjectMeta{Name: repo.ObjectName(s.Namespace, s.Name)}}
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "WaitingForProxy", Message: "waiting", LastTransitionTime: metav1.Now()}
	for _, ip := range ips {
		lb.Status.LoadBalancer.Ingress = append(lb.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		ready.Status, ready.Reason, ready.Message = metav1.ConditionTrue, "Programmed", "serving"
	}
	lb.Status.Conditions = []metav1.Condition{ready}
	return lb
}

// reset sets the status branch back to an old commit.
func (h *fakeHub) reset(t *testing.T, to git.Hash) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.remote.Push(t.Context(), h.store, []git.RefUpdate{{Name: repo.StatusRef(tenant), Old: h.tip, New: to}}, false); err != nil {
		t.Fatal(err)
	}
	h.tip = to
}

// intentBy pushes a commit of the intent branch that somebody else wrote, signed
// with a key, or with the hub's where it is nil.
func (h *fakeHub) intentBy(t *testing.T, signer *git.Signer, cluster string, generation, epoch int64) git.Hash {
	t.Helper()
	ref := repo.IntentRef(tenant)
	refs, err := h.remote.ListRefs(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	store := git.NewStore()
	if !refs[ref].IsZero() {
		if err := h.remote.Fetch(t.Context(), store, git.Want{Tip: refs[ref]}); err != nil {
			t.Fatal(err)
		}
	}
	commit := h.commit(t, store, refs[ref], map[string][]byte{"tenants/acme/loadbalancers/old/web.service.yaml": []byte("old\n")}, map[string]string{
		repo.TrailerCluster: cluster, repo.TrailerGeneration: strconv.FormatInt(generation, 10), repo.TrailerEpoch: strconv.FormatInt(epoch, 10),
	}, write{signer: signer})
	if _, err := h.remote.Push(t.Context(), store, []git.RefUpdate{{Name: ref, Old: refs[ref], New: commit}}, false); err != nil {
		t.Fatal(err)
	}
	return commit
}

// setIntent forces the intent branch to a commit that the server has.
func (h *fakeHub) setIntent(t *testing.T, to git.Hash) {
	t.Helper()
	ref := repo.IntentRef(tenant)
	refs, err := h.remote.ListRefs(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.remote.Fetch(t.Context(), h.store, git.Want{Tip: to}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.remote.Push(t.Context(), h.store, []git.RefUpdate{{Name: ref, Old: refs[ref], New: to}}, false); err != nil {
		t.Fatal(err)
	}
}

// dropIntent deletes the intent branch.
func (h *fakeHub) dropIntent(t *testing.T) {
	t.Helper()
	ref := repo.IntentRef(tenant)
	refs, err := h.remote.ListRefs(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.remote.Push(t.Context(), h.store, []git.RefUpdate{{Name: ref, Old: refs[ref]}}, false); err != nil {
		t.Fatal(err)
	}
}

func gaugeValue(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}
