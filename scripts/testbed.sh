#!/usr/bin/env bash
# testbed.sh FOLDER [ARCHIVES]: installs programs that only tests and benchmarks need, and that no package manager has:
# Apache Kafka into FOLDER/kafka (set KAFKA_HOME to it), and Toxiproxy and kustomize into FOLDER/bin. A program that is
# installed already is not changed.
# ARCHIVES is a folder with kafka-*.tar.xz (contains kafka/) and programs.tar.xz (contains bin/). Without it, the
# programs are downloaded from their publishers and compared with the published checksums.
set -euo pipefail

KAFKA=4.4.0
TOXIPROXY=2.12.0
KUSTOMIZE=5.6.0
KAFKA_URL=${TESTBED_KAFKA_URL:-https://archive.apache.org/dist/kafka/$KAFKA/kafka_2.13-$KAFKA.tgz}
TOXIPROXY_URL=${TESTBED_TOXIPROXY_URL:-https://github.com/Shopify/toxiproxy/releases/download/v$TOXIPROXY}
KUSTOMIZE_URL=${TESTBED_KUSTOMIZE_URL:-https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv$KUSTOMIZE}

case $(uname -m) in
x86_64) machine=amd64 ;;
aarch64) machine=arm64 ;;
*) machine=$(uname -m) ;;
esac

folder=${1:?usage: testbed.sh FOLDER [ARCHIVES]}
archives=${2:-}
mkdir -p "$folder/bin"
draft=$(mktemp -d "$folder/.draft-XXXXXX")
trap 'rm -rf "$draft"' EXIT

fetch() {
    curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
}

# check PROGRAM FILE CHECKSUM: the checksum may have capitals, spaces and several lines.
check() {
    local wanted found
    wanted=$(tr -d '[:space:]' <<<"$3" | tr '[:upper:]' '[:lower:]')
    found=$("$1" "$2" | cut -d ' ' -f 1)
    if [ -z "$wanted" ] || [ "$found" != "$wanted" ]; then
        echo "testbed.sh: ${2##*/} has the checksum $found, but its publisher gives ${wanted:-none}: try again" >&2
        exit 65
    fi
}

unpack() {
    python3 -m tarfile -e "$1" "$2"
}

install_kafka() {
    if [ -n "$archives" ]; then
        unpack "$archives"/kafka-*.tar.xz "$draft"
    else
        fetch "$KAFKA_URL" "$draft/kafka.tgz"
        fetch "$KAFKA_URL.sha512" "$draft/kafka.sha512"
        check sha512sum "$draft/kafka.tgz" "$(sed 's/^.*://' "$draft/kafka.sha512")"
        unpack "$draft/kafka.tgz" "$draft"
        mv "$draft"/kafka_* "$draft/kafka"
    fi
    mv "$draft/kafka" "$folder/kafka"
}

install_toxiproxy() {
    if [ -n "$archives" ]; then
        unpack "$archives/programs.tar.xz" "$draft"
    else
        local name
        name=toxiproxy-server-linux-$machine
        mkdir -p "$draft/bin"
        fetch "$TOXIPROXY_URL/$name" "$draft/bin/toxiproxy-server"
        fetch "$TOXIPROXY_URL/checksums.txt" "$draft/checksums.txt"
        check sha256sum "$draft/bin/toxiproxy-server" "$(sed -n "s/ .*$name\$//p" "$draft/checksums.txt")"
        chmod +x "$draft/bin/toxiproxy-server"
    fi
    mv "$draft/bin/toxiproxy-server" "$folder/bin/toxiproxy-server"
}

install_kustomize() {
    if [ -n "$archives" ]; then
        unpack "$archives/programs.tar.xz" "$draft"
    else
        local name
        name=kustomize_v${KUSTOMIZE}_linux_$machine.tar.gz
        mkdir -p "$draft/bin"
        fetch "$KUSTOMIZE_URL/$name" "$draft/kustomize.tar.gz"
        fetch "$KUSTOMIZE_URL/checksums.txt" "$draft/kustomize.txt"
        check sha256sum "$draft/kustomize.tar.gz" "$(sed -n "s/ .*$name\$//p" "$draft/kustomize.txt")"
        unpack "$draft/kustomize.tar.gz" "$draft/bin"
    fi
    mv "$draft/bin/kustomize" "$folder/bin/kustomize"
}

[ -x "$folder/kafka/bin/kafka-server-start.sh" ] || install_kafka
[ -x "$folder/bin/toxiproxy-server" ] || install_toxiproxy
[ -x "$folder/bin/kustomize" ] || install_kustomize
