#!/usr/bin/env bash
# Runs every test and says what it runs. Unit and envtest suites run with the
# race detector; the suites on the test bed run real programs and go without.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$PWD/.tools/bin"
export KUBEBUILDER_ASSETS="${KUBEBUILDER_ASSETS:-$tools}"
export ENVOY="${ENVOY:-$tools/envoy}"

step() {
	local name="$1" begin=$SECONDS
	shift
	echo "==> $name"
	"$@"
	echo "    $name: $((SECONDS - begin)) s"
}

step "import rules and wiring" go test ./test/imports ./cmd/...
step "unit and envtest suites, with the race detector" \
	go test -race -p 2 -timeout 40m ./api/... ./ccm/... ./gitsync/... ./hub/... ./xds/...
step "build hub and ccm" go build -o "$tools/" ./cmd/hub ./cmd/ccm
step "the test bed" go test -p 1 -timeout 10m ./test/testbed/...
step "end to end on the test bed" go test -p 1 -timeout 30m ./test/e2e/...
step "one short seed of chaos" go test -timeout 15m ./test/chaos
step "the demo, asserting every step" go run ./test/demo --once
echo "all tests passed"
