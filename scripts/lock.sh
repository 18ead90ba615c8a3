#!/usr/bin/env bash
# lock.sh [sbom]: writes requirements.lock, every library of `pip install 'lifelong[local]'` with its version and the
# digests of its files, for all Pythons and systems that are supported; or dist/sbom.cdx.json, the same as a CycloneDX
# document. Both are what a release is made of: `pip install --require-hashes -r requirements.lock`.
# Needs the network for the first one. Called by `make lock` and `make sbom`.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-lock} in
lock)
    .venv/bin/uv pip compile pyproject.toml --extra local --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-emit-index-url --custom-compile-command "make lock" --quiet --output-file requirements.lock
    ;;
sbom)
    mkdir -p dist
    .venv/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type application \
        --output-reproducible --of JSON --output-file dist/sbom.cdx.json
    ;;
*)
    echo "usage: scripts/lock.sh [lock | sbom]" >&2
    exit 64
    ;;
esac
