"""Compiles `source/` into one shared object: at install if there is a compiler, otherwise at first use.

    sources + compiler -> <digest>.so, next to this file (at install) or in the user's cache (at first use)

The name is a digest of the sources and the compiler's flags, so an object from other sources is never loaded. An object
is written under another name and then renamed, which is atomic. If the processes of a service start at the same time,
one of them builds and the others wait for its object. This file imports only the standard library, because the build of
the wheel runs it before anything is installed.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"

FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-Wno-psabi"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
VNNI = (
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"),
    *("-mfma", "-mprefer-vector-width=512"),
)
X86 = {"amx": (*VNNI, "-mamx-tile", "-mamx-int8"), "vnni": VNNI, "avx2": ("-mavx2", "-mfma")}
"""The instruction sets besides `plain`, fastest first, and their compiler flags. If a compiler is too old for one of
them, the others are built."""

TIMEOUT_S = 600
"""The limit of one compilation. It takes seconds; with a sanitizer, or on a busy machine, it takes minutes."""


class BuildFailed(RuntimeError):
    """There is no compiler, or the compilation failed. The message says which."""


def digest() -> str:
    """Returns a hash of the sources, the flags (ours and CFLAGS), the machine type and the operating system."""
    content = hashlib.sha256(repr((_flags(), X86, platform.machine(), platform.system())).encode())
    for path in sorted(SOURCE.iterdir()):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:16]


def cache_folder() -> Path:
    """Returns the user's folder for objects that are built at first use."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lifelong" / "native"


def find_or_build() -> Path:
    """Returns the path of the object for these sources, and builds it if there is none yet. Raises BuildFailed."""
    name = f"{digest()}.so"
    if found := _find(name):
        return found
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            # Without locks, as on some network file systems, several processes build, which is only slower.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            return _find(name) or build(folder / name)
    except OSError as error:
        raise BuildFailed(f"cannot write {folder / name}: {error}") from error


def _find(name: str) -> Path | None:
    return next((path for folder in (HERE, cache_folder()) if (path := folder / name).is_file()), None)


def build(target: Path) -> Path:
    """Compiles the sources to `target`, and returns `target`. CC and CFLAGS are respected. Raises BuildFailed."""
    compile_ = [*_compiler(), *_flags()]
    jobs = _jobs(compile_)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder, ThreadPoolExecutor() as threads:
            objects = {name: f"{folder}/{name}.o" for name in jobs}
            commands = [[*compile_, "-c", *job, "-o", objects[name]] for name, job in jobs.items()]
            # `map` raises the error of a command only when its result is read.
            for _ in threads.map(_run, commands):
                pass
            linked = f"{folder}/linked.so"
            _run([*compile_, "-shared", *objects.values(), "-lm", "-o", linked])
            os.replace(linked, target)
    except OSError as error:
        raise BuildFailed(f"cannot write {target}: {error}") from error
    return target


def _jobs(compile_: Sequence[str]) -> dict[str, list[str]]:
    """Returns the arguments of each compilation: one for each instruction set, and one for `library.c`."""
    x86 = X86 if platform.machine() in ("x86_64", "AMD64") else {}
    isas: dict[str, tuple[str, ...]] = {isa: flags for isa, flags in x86.items() if _accepts(compile_, flags)}
    isas["plain"] = ()
    jobs = {"library": ["-DISAS=" + " ".join(f"X({isa})" for isa in isas), "library.c"]}
    for isa, flags in isas.items():
        jobs[isa] = [f"-DTABLE={isa}", *flags, "kernels.c"]
    return jobs


def _flags() -> list[str]:
    return [*FLAGS, *os.environ.get("CFLAGS", "").split()]


def _compiler() -> list[str]:
    """Returns the command of the compiler: CC, or the first of gcc, clang and cc. Raises BuildFailed."""
    named = os.environ.get("CC", "").split()
    for candidate in [named] if named else [["gcc"], ["clang"], ["cc"]]:
        if shutil.which(candidate[0]):
            return candidate
    raise BuildFailed("no C compiler (CC, gcc, clang or cc)")


def _accepts(compile_: Sequence[str], flags: Sequence[str]) -> bool:
    """Returns whether the compiler knows these flags."""
    try:
        _run([*compile_, *flags, "-fsyntax-only", "-x", "c", os.devnull])
    except BuildFailed:
        return False
    return True


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{command[0]} took more than {TIMEOUT_S} s") from error
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    print(build(HERE / f"{digest()}.so"))
