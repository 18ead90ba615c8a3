#!/usr/bin/env bash
# lock.sh [lock [--upgrade] | sbom]: what a release and each installation is made of.
#
#   lock   every library with its version and the digests of its files, for all Pythons and systems that are supported:
#            requirements.lock   a release: the image's libraries, and `pip install --require-hashes -r requirements.lock`
#            locks/demo.lock     `make demo`; locks/dev.lock: `make test`; locks/bench.lock: `make bench`
#            locks/build.lock    what makes a wheel, or an editable installation, of this folder
#          Versions stay as they are as long as pyproject.toml allows them. --upgrade takes the newest. Needs the network.
#   sbom   requirements.lock as a CycloneDX document: dist/sbom.cdx.json
#
# Called by `make lock [ARGS=--upgrade]` and `make sbom`.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # FILE [SOURCE | OPTION]...
    .venv/bin/uv pip compile "${@:2}" "${options[@]}" --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-emit-index-url --custom-compile-command "make lock" --quiet --output-file "$1"
}

build_requirements() {
    .venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
    echo editables # hatchling asks for it where the installation is editable
}

options=("${@:2}")
case ${1:-lock} in
lock)
    compile requirements.lock pyproject.toml --extra local
    # The three below have the release's versions. The benchmarks have not: one of their peers needs an older numpy.
    compile locks/demo.lock pyproject.toml --extra local --constraints requirements.lock
    compile locks/dev.lock pyproject.toml --extra local --extra dev --constraints requirements.lock
    build_requirements | compile locks/build.lock - --constraints locks/dev.lock
    compile locks/bench.lock pyproject.toml --extra local --extra bench
    ;;
sbom)
    mkdir -p dist
    .venv/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type application \
        --output-reproducible --of JSON --output-file dist/sbom.cdx.json
    ;;
*)
    echo "usage: scripts/lock.sh [lock [--upgrade] | sbom]" >&2
    exit 64
    ;;
esac
