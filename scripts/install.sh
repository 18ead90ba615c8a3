#!/usr/bin/env bash
# install.sh [demo | dev | bench] [locked | newest | lowest]: creates .venv and installs the project into it, with the
# packages for the demo, for developers, or for the peers in the benchmarks. `make` calls it. A file in .venv records
# the last installation.
#
#   locked   the versions in locks/; the digest of each file is checked
#   newest   the newest releases that pyproject.toml allows
#   lowest   the lowest release of each library that pyproject.toml names
#
# PYTHON is the interpreter to use. The default is the first supported one of python3.12, python3.11, python3.13,
# python3.14 and python3.
# TORCH replaces the torch of the lock file: arguments of `pip install`, for example TORCH=torch==2.15.0+cpu from
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS, or the path of a wheel. The lock file's packages for GPUs are then left out.
# Developers also give a torchvision: TORCH="torch==2.15.0+cpu torchvision==0.29.2+cpu".
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-dev}
releases=${2:-locked}
case $target/$releases in
demo/locked | demo/newest | demo/lowest | dev/locked | dev/newest | dev/lowest | bench/locked | bench/newest | bench/lowest) ;;
*)
    echo "usage: scripts/install.sh [demo | dev | bench] [locked | newest | lowest]" >&2
    exit 64
    ;;
esac
extras=local
if [ "$target" != demo ]; then extras=local,$target; fi

is_supported() {
    "$1" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 14)))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3.12 python3.11 python3.13 python3.14 python3}; do
        # A shim may exist for a version that is not installed, so each candidate is run.
        if is_supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 to 3.14 is needed, but none was found. Tried: ${PYTHON:-python3.12 python3.11 python3.13 python3.14 python3}" >&2
    echo "Install it (Debian: apt install python3-venv), or give its path: make PYTHON=/path/to/python3.13 ..." >&2
    exit 78
}

pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check --quiet "$@"
}

# Prints the lines of lock file $1 without torch and the packages that a torch for GPUs needs.
without_torch() {
    awk '/^[^ #]/ { left_out = /^(torch|torchvision|triton|nvidia-[^=]*|cuda-[^=]*)==/ } !left_out' "$1"
}

install_locked() {
    local lock=locks/$target.lock
    if [ -n "${TORCH:-}" ]; then
        without_torch "$lock" >.venv/without-torch.lock
        lock=.venv/without-torch.lock
        # shellcheck disable=SC2086 # several requirements
        pip_install --no-deps $TORCH
    fi
    pip_install --no-deps --require-hashes --requirement locks/build.lock --requirement "$lock"
    pip_install --no-deps --no-build-isolation --editable .
}

# The lowest releases need a new environment: an installed release that satisfies its range would stay.
if [ "$releases" != lowest ] && [ -x .venv/bin/python ] && is_supported .venv/bin/python; then
    python=.venv/bin/python
else
    python=$(find_python)
    echo "Creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || {
        echo "This Python cannot create virtual environments. On Debian: apt install python3-venv." >&2
        exit 78
    }
fi
if ! command -v redis-server >/dev/null && ! "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then
    echo "The service needs Redis. There is no redis-server in PATH, and no wheel has one for this Python. Install it" \
        "(Debian: apt install redis-server), or use Python 3.11 or 3.12 (rm -r .venv; make PYTHON=python3.12 ...)."
fi

case $releases/${TORCH:-} in
locked/) .venv/bin/python scripts/downloads.py "locks/$target.lock" ;;
newest/) .venv/bin/python scripts/downloads.py ".[$extras]" ;;
esac
echo "Installing into .venv; this takes a few minutes ..."
rm -f .venv/.installed-*
case $releases in
locked) install_locked ;;
newest) pip_install --upgrade --upgrade-strategy eager ${TORCH:-} --editable ".[$extras]" ;;
lowest)
    pip_install uv
    .venv/bin/uv pip install --python .venv/bin/python --quiet --resolution lowest-direct ${TORCH:-} --editable ".[$extras]"
    ;;
esac
touch ".venv/.installed-$target-$releases"
