#!/usr/bin/env bash
# Everything behind `make`: installs what is missing, then does what was asked for.
# Each step is skipped where nothing has changed since it last ran.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NODE_MAJOR=20
venv=.venv
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command silently, and shows all it said when it fails.
quietly() {
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    die "\`$*\` failed; its output stands above"
  fi
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer is needed, and none is on PATH (set PYTHON to use one from elsewhere)"
}

check_node() {
  command -v node >/dev/null && command -v npm >/dev/null ||
    die "Node.js $NODE_MAJOR or newer (with npm) is needed to build the front end, and it is not on PATH"
  local major
  major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge "$NODE_MAJOR" ] || die "Node.js $NODE_MAJOR or newer is needed, found $(node --version)"
}

bundle() {
  check_node
  local stamp=js/node_modules/.installed-from
  if ! cmp -s js/package-lock.json "$stamp"; then
    say "Installing the front end's tools"
    quietly npm --prefix js ci
    cp js/package-lock.json "$stamp"
  fi
  quietly npm --prefix js run build
}

# install demo | install dev: dev is a superset, so it also satisfies demo.
install() {
  local extra=$1 stamp=$venv/.installed-from python key
  python=$(find_python)
  key="$PWD $(cat pyproject.toml constraints.txt hatch_build.py | cksum)"
  if "$venv/bin/python" -c '' 2>/dev/null && [ -f "$stamp" ]; then
    case "$(cat "$stamp")" in
      "dev $key" | "$extra $key") return ;;
    esac
  fi
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Creating $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" >"$log" 2>&1 || {
      cat "$log" >&2
      die "could not create a virtual environment (on Debian and Ubuntu: apt install python3-venv)"
    }
  fi
  say "Installing Python packages into $venv"
  quietly "$venv/bin/python" -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[$extra]"
  echo "$extra $key" >"$stamp"
}

chromium() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    ! command -v "$name" >/dev/null || return 0
  done
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing Chromium"
    quietly apt-get update
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium fonts-dejavu-core
  else
    die "the end-to-end tests need Chromium or Chrome, and neither is on PATH (on Debian: sudo apt install chromium)"
  fi
}

failed=()
check() {
  local name=$1
  shift
  say "$name"
  "$@" || failed+=("$name")
}

verdict() {
  [ ${#failed[@]} = 0 ] || die "failed: $(printf '%s; ' "${failed[@]}")see above"
  say "All checks passed"
}

lint() {
  check "ruff check" "$venv/bin/ruff" check .
  check "ruff format" "$venv/bin/ruff" format --check .
  check "mypy" "$venv/bin/mypy"
  check "biome" npm --prefix js run --silent lint
  check "tsc" npm --prefix js run --silent check
}

case "${1:-}" in
  bundle)
    bundle
    ;;
  demo)
    bundle
    install demo
    options=()
    # Where nobody can see a window, only the address is of use.
    if [ "$(id -u)" = 0 ]; then options+=(--allow-root --no-browser); fi
    if [ "$(uname)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then options+=(--no-browser); fi
    say "Opening notebooks/01-quickstart.ipynb in JupyterLab; Ctrl+C twice ends it"
    exec "$venv/bin/jupyter" lab ${options[@]+"${options[@]}"} --ServerApp.root_dir=notebooks \
      --LabApp.default_url=/lab/tree/01-quickstart.ipynb
    ;;
  lint)
    bundle
    install dev
    lint
    verdict
    ;;
  test)
    bundle
    install dev
    chromium
    lint
    check "vitest" npm --prefix js run --silent test
    # Side by side on two cores, one thread each: torch's threads would wait for those of the other process.
    check "pytest" env OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest --ignore tests/e2e -n 2 --dist loadfile
    check "pytest, end to end" "$venv/bin/python" -m pytest tests/e2e
    verdict
    ;;
  screenshot)
    bundle
    install dev
    chromium
    "$venv/bin/python" scripts/screenshot.py
    ;;
  *)
    die "usage: scripts/dev.sh demo|test|lint|bundle|screenshot"
    ;;
esac
