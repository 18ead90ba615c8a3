#!/usr/bin/env bash
# install.sh [demo | dev | bench] [locked | newest | lowest]: makes .venv and installs the project into it, with what
# the demo needs, with what developers need, or with the peers of the benchmarks. Called by `make`, which leaves it to a
# file in .venv to say what was installed last.
#
#   locked   the versions of locks/, each file compared with its digest
#   newest   the newest releases that pyproject.toml allows
#   lowest   the lowest release of each library that pyproject.toml names
#
# PYTHON names the interpreter to use; otherwise the first of python3.12, python3.11, python3.13, python3.14 and python3
# that is new enough.
# TORCH names another torch than the one of the lock: what pip shall install in its place, for example
# TORCH=torch==2.15.0+cpu, which PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS offers, or the path of a wheel. What the lock
# has for GPUs is left out then. Developers name a torchvision beside it: TORCH="torch==2.15.0+cpu torchvision==0.29.2+cpu".
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
        # A shim may exist for a version that is not installed, so each is tried.
        if is_supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 to 3.14 is needed. Tried, in vain: ${PYTHON:-python3.12 python3.11 python3.13 python3.14 python3}" >&2
    echo "Install it (Debian: apt install python3-venv), or name it: make PYTHON=/path/to/python3.13 ..." >&2
    exit 78
}

pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check --quiet "$@"
}

without_torch() { # LOCK: its lines but those of torch, and of what a torch for GPUs needs
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

# The lowest releases go into a new environment: what satisfies a range already would stay.
if [ "$releases" != lowest ] && [ -x .venv/bin/python ] && is_supported .venv/bin/python; then
    python=.venv/bin/python
else
    python=$(find_python)
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || {
        echo "This Python cannot make virtual environments (Debian: apt install python3-venv)." >&2
        exit 78
    }
fi
if ! command -v redis-server >/dev/null && ! "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then
    echo "There is no Redis for this Python in a wheel, and none in PATH. The service needs one: install it (Debian:" \
        "apt install redis-server), or take Python 3.11 or 3.12 (rm -r .venv; make PYTHON=python3.12 ...)."
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
