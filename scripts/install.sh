#!/usr/bin/env bash
# install.sh demo | dev | bench: makes .venv and installs the project into it, with what the demo needs, with what
# developers need, or with the peers of the benchmarks. Called by `make` when pyproject.toml is newer than the last
# installation, which leaves a file of that name.
# PYTHON names the interpreter to use; otherwise the first of python3.12, python3.11, python3.13, python3.14 and python3
# that is new enough.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-dev} in
demo) extras=local ;;
dev) extras=local,dev ;;
bench) extras=local,bench ;;
*)
    echo "usage: scripts/install.sh [demo | dev | bench]" >&2
    exit 64
    ;;
esac

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

if [ -x .venv/bin/python ] && is_supported .venv/bin/python; then
    python=.venv/bin/python
else
    python=$(find_python)
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || {
        echo "This Python cannot make virtual environments (Debian: apt install python3-venv)." >&2
        exit 78
    }
fi

.venv/bin/python scripts/downloads.py ".[$extras]"
echo "Installing into .venv; this takes a few minutes ..."
.venv/bin/python -m pip install --disable-pip-version-check --quiet --editable ".[$extras]"
touch ".venv/.installed-${1:-dev}"
