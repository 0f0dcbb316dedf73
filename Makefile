# kubelb-gitops. `make` alone prints what there is.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

TOOLS := $(CURDIR)/.tools/bin
# Ready-made binaries are honoured: KUBEBUILDER_ASSETS (kube-apiserver, etcd, ...), ENVOY, GITEA.
export ENVOY ?= $(TOOLS)/envoy
GO ?= go
PKGS := ./...

VERSION ?= $(shell git describe --tags --match 'v*' --always --dirty 2>/dev/null)
LDFLAGS := -X github.com/kubelb/gitops/cmd/internal/version.version=$(VERSION)

BUILDFLAGS ?= -trimpath

# $(call programs,<packages>): builds into .tools/bin and says how far it is. What
# is compiled already is not compiled again, so that the share is a lower bound.
programs = echo "building: $(notdir $(1))"; $(GO) build -v -ldflags '$(LDFLAGS)' -o $(TOOLS)/ $(1) 2>&1 | \
	awk -v all="$$($(GO) list -deps $(1) | wc -l)" '!/[: ]/ { if (++n % 100 == 0) printf "building: %d of at most %d packages compiled\n", n, all; next } { print }'

.PHONY: help
help: ## Print this help
	@echo "kubelb-gitops: a load-balancer hub for Kubernetes fleets, with Git as the only link."
	@echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "First time here: make demo. Ready-made programs: KUBEBUILDER_ASSETS=<dir>, ENVOY=<file>, GITEA=<file>."

.PHONY: tools
tools: ## Install every tool into .tools (pinned and checked; instant when there)
	@test/tools/install.sh

.PHONY: tools-run
tools-run:
	@test/tools/install.sh kube-apiserver etcd kube-controller-manager kubectl envoy

.PHONY: tools-forge
tools-forge:
	@test/tools/install.sh gitea

.PHONY: demo
demo: tools-run ## Show the main job, step by step, and leave it running (ONCE=1: assert and end)
	@$(call programs,./cmd/hub ./cmd/ccm ./test/demo)
	@exec $(TOOLS)/demo $(if $(ONCE),--once)

.PHONY: test
test: tools-run tools-forge ## Run all tests (unit, envtest, end to end)
	@test/run.sh

.PHONY: bench
bench: tools-run ## Measure, print one table (docs/performance.md keeps the last)
	@$(call programs,./cmd/hub ./cmd/ccm ./test/bench)
	@$(TOOLS)/bench $(BENCH_ARGS)
	@env -u KUBEBUILDER_ASSETS $(GO) test -run '^$$' -bench 'VerifyCommits|JudgeMain|OneChangeAmongManyFiles' ./gitsync/git ./gitsync

.PHONY: chaos
chaos: tools-run ## Change Services at random under faults, then compare (SEED=1 SEEDS=1 STEPS=40)
	@$(call programs,./cmd/hub ./cmd/ccm ./test/chaos)
	@exec $(TOOLS)/chaos -seed $(or $(SEED),1) -seeds $(or $(SEEDS),1) -steps $(or $(STEPS),40)

.PHONY: build
build: ## Build the programs into bin (kubectl-kubelb is kubelbctl as a plugin)
	$(GO) build $(BUILDFLAGS) -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...
	@ln -sf kubelbctl bin/kubectl-kubelb

.PHONY: generate
generate: ## Regenerate deep copies, CRDs and RBAC
	@test/tools/install.sh controller-gen
	$(TOOLS)/controller-gen object:headerFile=test/tools/header.txt paths=./api/v1alpha1
	$(TOOLS)/controller-gen crd paths=./api/v1alpha1 output:crd:dir=deploy/crds
	$(TOOLS)/controller-gen rbac:roleName=kubelb-hub paths="{./hub/...,./gitsync/...}" output:rbac:dir=deploy/rbac/hub
	$(TOOLS)/controller-gen rbac:roleName=kubelb-ccm paths=./ccm/... output:rbac:dir=deploy/rbac/ccm

.PHONY: verify
verify: generate ## Fail if generated files or go.mod are not up to date
	@$(GO) mod tidy -diff
	@git diff --exit-code --stat -- api deploy || { echo "generated files differ: commit what 'make generate' wrote"; exit 1; }
	@test -z "$$(git status --porcelain -- api deploy)" || { git status --short -- api deploy; echo "generated files are not committed: commit what 'make generate' wrote"; exit 1; }

.PHONY: lint
lint: ## Lint, with the import rules of docs/design.md
	@test/tools/install.sh golangci-lint
	@test -z "$$(gofmt -l api ccm cmd gitsync hub xds test)" || { gofmt -l api ccm cmd gitsync hub xds test; echo "not formatted: run gofmt -w on these"; exit 1; }
	$(TOOLS)/golangci-lint run $(PKGS)

.PHONY: check
check: tools verify lint test ## What CI runs: verify, lint, test

.PHONY: clean
clean: ## Remove built programs (keeps tools; remove .tools by hand)
	rm -rf bin dist
