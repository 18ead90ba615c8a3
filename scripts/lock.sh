#!/usr/bin/env bash
# lock.sh [lock [--upgrade] | sbom]: writes the lock files, or the bill of materials of a release.
#
#   lock   writes each library's version and the digests of its files, for all supported Pythons and systems:
#            requirements.lock   for a release: `pip install --require-hashes -r requirements.lock`
#            locks/image.lock    for the image, with every extra that a setting can enable. It is without torch, because
#                                the CPU-only builds have their own index: locks/torch.txt
#            locks/demo.lock     for `make demo`; locks/dev.lock: for `make test`; locks/bench.lock: for `make bench`
#            locks/build.lock    the build tools for a wheel, or for an editable installation
#            locks/sbom.lock     for `make sbom`
#          Versions do not change while pyproject.toml allows them. --upgrade takes the newest. Needs the network.
#   sbom   writes requirements.lock as a CycloneDX document: dist/sbom.cdx.json
#
# `make lock [ARGS=--upgrade]` and `make sbom` call it.
set -euo pipefail
cd "$(dirname "$0")/.."

# compile FILE [SOURCE | OPTION]...: writes lock file FILE.
compile() {
    .venv/bin/uv pip compile "${@:2}" "${options[@]}" --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-emit-index-url --custom-compile-command "make lock" --quiet --output-file "$1"
}

# Removes torch for CUDA, and the packages that only it needs, from lock file $1.
without_torch() {
    awk '/^[a-z0-9]/ { dropped = /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/ } !dropped' "$1" > "$1.draft"
    mv "$1.draft" "$1"
}

build_requirements() {
    .venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
    # hatchling needs it for an editable installation.
    echo editables
}

options=("${@:2}")
case ${1:-lock} in
lock)
    compile requirements.lock pyproject.toml --extra local
    # The lock files below have the release's versions, except the benchmarks': one of their peers needs an older numpy.
    compile locks/demo.lock pyproject.toml --extra local --constraints requirements.lock
    compile locks/dev.lock pyproject.toml --extra local --extra dev --constraints requirements.lock
    image=(--extra avalanche --extra media --extra parquet --extra registry --extra s3 --extra traces)
    compile locks/image.lock pyproject.toml "${image[@]}" --constraints requirements.lock
    grep --only-matching --extended-regexp '^(torch|torchvision)==[0-9.]+' locks/image.lock > locks/torch.txt
    without_torch locks/image.lock
    build_requirements | compile locks/build.lock - --constraints locks/dev.lock
    echo cyclonedx-bom | compile locks/sbom.lock -
    compile locks/bench.lock pyproject.toml --extra local --extra bench
    ;;
sbom)
    mkdir -p dist
    # The program has an environment of its own: one of its libraries makes each import of Ray a second slower.
    if [ locks/sbom.lock -nt build/sbom/bin/cyclonedx-py ]; then
        .venv/bin/python -m venv build/sbom
        build/sbom/bin/pip install --quiet --require-hashes -r locks/sbom.lock
    fi
    build/sbom/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type application \
        --output-reproducible --of JSON --output-file dist/sbom.cdx.json
    ;;
*)
    echo "usage: scripts/lock.sh [lock [--upgrade] | sbom]" >&2
    exit 64
    ;;
esac
