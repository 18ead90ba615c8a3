#!/usr/bin/env bash
# lock.sh [lock [--upgrade] | sbom]: what a release and each installation is made of.
#
#   lock   every library with its version and the digests of its files, for all Pythons and systems that are supported:
#            requirements.lock   a release: `pip install --require-hashes -r requirements.lock`
#            locks/image.lock    the image, which has each extra that its settings can ask for; without torch, since the
#                                builds for the processor alone have an index of their own: locks/torch.txt
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

without_torch() { # torch for CUDA and what only that needs
    awk '/^[a-z0-9]/ { dropped = /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/ } !dropped' "$1" > "$1.draft"
    mv "$1.draft" "$1"
}

build_requirements() {
    .venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
    echo editables # hatchling asks for it where the installation is editable
}

options=("${@:2}")
case ${1:-lock} in
lock)
    compile requirements.lock pyproject.toml --extra local
    # Those below have the release's versions. The benchmarks have not: one of their peers needs an older numpy.
    compile locks/demo.lock pyproject.toml --extra local --constraints requirements.lock
    compile locks/dev.lock pyproject.toml --extra local --extra dev --constraints requirements.lock
    image=(--extra avalanche --extra parquet --extra registry --extra s3 --extra traces)
    compile locks/image.lock pyproject.toml "${image[@]}" --constraints requirements.lock
    grep --only-matching --extended-regexp '^(torch|torchvision)==[0-9.]+' locks/image.lock > locks/torch.txt
    without_torch locks/image.lock
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
